//! How long a run that stops waits for the answers in flight: by itself as long as a request may take, after a signal
//! `drain_timeout`.

use std::sync::Arc;
use std::time::Duration;

use crate::common::scripted::{Reply, Scripted, run_job, run_until};
use crate::common::{assert_rows, built_in_context, evidence, expected, ids, simulator};
use pagehaul::error::ExitCode;
use pagehaul::report::summary::Summary;
use pagehaul::run::context::RunContext;
use pagehaul::simulator::Simulator;

/// The number of the first request that a broken API no longer serves; the answers to the ten before it are late.
const BREAKS_AT: usize = 400;

/// Two reasons for which a run stops by itself: the key is revoked, and list after list is empty.
const BROKEN: [(fn() -> Reply, ExitCode); 2] =
    [(|| Reply::refusal(401, "apiKey is revoked"), ExitCode::Account), (|| Reply::page(&[]), ExitCode::Contract)];

/// A run whose API breaks while ten answers are in flight.
struct Stopping {
    directory: tempfile::TempDir,
    simulator: Arc<Simulator>,
    list: Vec<String>,
}

impl Stopping {
    fn new() -> Self {
        let simulator = simulator("products=600,max_videos=9");
        Self { directory: tempfile::tempdir().unwrap(), list: ids(&simulator), simulator }
    }

    fn context(&self) -> RunContext {
        let settings = [("max_in_flight", "40"), ("drain_timeout", "10s"), ("request_timeout", "30s")];
        built_in_context(self.directory.path(), Some(50.0), &settings)
    }

    /// The run, with ten answers that take this long, and a signal so long after the first request that is not served; and how
    /// long it continued after that request.
    async fn run(&self, late: Duration, broken: fn() -> Reply, signal: Option<Duration>) -> (Summary, Duration, usize) {
        let simulator = Arc::clone(&self.simulator);
        let api = Scripted::stopping_at(BREAKS_AT, move |sent| match sent.number {
            BREAKS_AT.. => broken().after(Duration::from_millis(80)),
            number if number + 10 >= BREAKS_AT => Reply::from_simulator(&simulator, sent, 10).after(late),
            _ => Reply::from_simulator(&simulator, sent, 10).after(Duration::from_millis(80)),
        });
        let stopping = Arc::clone(&api);
        let stopped = async move {
            stopping.stops().await;
            match signal {
                Some(after) => tokio::time::sleep(after).await,
                None => std::future::pending().await,
            }
            ExitCode::Interrupted
        };
        let summary = run_until(&self.context(), &api, &self.list, stopped).await.unwrap();
        let broke = api.sent()[BREAKS_AT - 1].at;
        (summary, broke.elapsed(), api.requests())
    }
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_slower_than_the_drain_timeout_are_waited_for_and_kept_when_a_run_stops_by_itself() {
    for (broken, exit) in BROKEN {
        let stopping = Stopping::new();
        let (summary, took, requests) = stopping.run(Duration::from_secs(25), broken, None).await;
        assert_eq!((summary.exit, summary.totals.credits.in_doubt), (exit, 0), "{summary}");
        let pages = u64::try_from(if exit == ExitCode::Account { BREAKS_AT - 1 } else { requests }).unwrap();
        assert_eq!((summary.totals.credits.billed, summary.totals.pages.journaled), (pages, pages), "{summary}");
        assert!(took < Duration::from_secs(25), "no longer than the last of them: {took:?}");
        if exit == ExitCode::Account {
            let repaired = Scripted::direct(&stopping.simulator);
            let summary = run_job(&stopping.context(), &repaired, &stopping.list).await.unwrap();
            assert_eq!(summary.exit, ExitCode::Complete, "{summary}");
            // No page is full.
            assert!((600..=600 + evidence(600) + 3).contains(&summary.totals.credits.billed), "{summary}");
            assert_rows(stopping.directory.path(), &expected(&stopping.simulator, &stopping.list, 10));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn answers_that_never_come_delay_a_run_that_stops_by_itself_for_as_long_as_a_request_may_take() {
    for (broken, exit) in BROKEN {
        let (summary, took, _) = Stopping::new().run(Duration::from_secs(3_600), broken, None).await;
        assert_eq!((summary.exit, summary.totals.credits.in_doubt), (exit, 10), "{summary}");
        assert!((29..=30).contains(&took.as_secs()), "{took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_signal_leaves_a_run_that_stops_by_itself_no_longer_than_the_drain_timeout() {
    for (broken, exit) in BROKEN {
        let (summary, took, _) =
            Stopping::new().run(Duration::from_secs(25), broken, Some(Duration::from_secs(5))).await;
        assert_eq!((summary.exit, summary.totals.credits.in_doubt), (exit, 10), "{summary}");
        assert!((14..=15).contains(&took.as_secs()), "{took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_a_signal_stops_waits_no_longer_than_the_drain_timeout() {
    let served: fn() -> Reply = || Reply::page(&[]);
    let (summary, took, _) = Stopping::new().run(Duration::from_secs(25), served, Some(Duration::ZERO)).await;
    assert_eq!((summary.exit, summary.totals.credits.in_doubt), (ExitCode::Interrupted, 10), "{summary}");
    assert!((9..=10).contains(&took.as_secs()), "{took:?}");
}
