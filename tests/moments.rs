//! Defects that a review found whose moment decides: production code in virtual time, so that no machine is slow or quick
//! enough to change the result; and two that look where the plain tests do not.

#![cfg(unix)]
#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "what helps a test fails by panicking")]

mod common;

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::task::Poll;
use std::time::Duration;

use common::scripted::{Reply, Scripted, Sent, run_job, run_until};
use common::{
    Answer, Api, DEADLINE, Home, Run, assert_rows, context, evidence, expected, files, files_that_hold, ids, manifests,
    rows, run, simulator,
};
use pagehaul::error::ExitCode;
use pagehaul::report::summary::Summary;
use pagehaul::run::context::RunContext;
use pagehaul::simulator::Simulator;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

/// A page of an API that gives at most 10 rows a page.
fn page_of(simulator: &Simulator, id: &str, page: u32) -> Vec<String> {
    let first = u64::from(page - 1) * 10;
    (first..first + 10).filter_map(|position| simulator.row(id, None, position)).collect()
}

#[test]
fn a_list_that_stalls_on_a_pipe_can_be_interrupted_and_no_request_was_sent() {
    let api = Api::start(|_| Answer::page(&[]));
    let home = Home::new(&[]);
    let mut command = home.bare_export(&api.base_url(), &["--products", "-"]);
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    let (id, mut stdin) = (child.id().to_string(), child.stdin.take().unwrap());
    // More than a pipe and a buffer hold: when all of it is written, the program is in the middle of reading its list.
    let list = (0..40_000).fold(String::new(), |mut list, id| {
        writeln!(list, "{}", 1_000_000 + id).unwrap();
        list
    });
    stdin.write_all(list.as_bytes()).unwrap();
    let (sender, ended) = channel();
    std::thread::spawn(move || sender.send(child.wait_with_output().unwrap()));
    assert!(Command::new("sh").args(["-c", "kill -s INT \"$0\"", &id]).status().unwrap().success());
    let Ok(output) = ended.recv_timeout(DEADLINE) else {
        drop(stdin); // lets it end
        panic!("a signal does not end a program that waits for its list");
    };
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Run { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }.ended(130);
    assert_eq!(api.requests(), 0);
    drop(stdin); // it was open all the time
}

#[test]
fn a_key_that_a_page_repeats_is_in_no_file_and_no_line_also_unpacked() {
    let simulator = simulator("products=200,max_videos=25");
    let ids: Vec<String> = ids(&simulator).into_iter().filter(|id| (2..10).contains(&simulator.videos(id))).collect();
    let ids = &ids[..3];
    let api = Api::start({
        let simulator = Arc::clone(&simulator);
        move |asked| {
            let rows = page_of(&simulator, &asked.product, asked.page);
            let mut rows: Vec<Value> = rows.iter().map(|row| serde_json::from_str(row).unwrap()).collect();
            // A known column, an unknown one, the partition, and a row that becomes a reject.
            rows[0]["video_desc"] = asked.authorization.clone().into();
            rows[0]["request"] = serde_json::json!({ "authorization": asked.authorization });
            rows[0]["region"] = asked.authorization.clone().into();
            rows[1]["video_id"] = Value::Null;
            rows[1]["video_desc"] = asked.authorization.clone().into();
            Answer::page(&rows.iter().map(Value::to_string).collect::<Vec<_>>())
        }
    });
    let home = Home::new(ids);
    let state = home.argument("state");
    let mut command = home.export(&api.base_url(), &["--state-dir", &state]);
    command.env("RUST_LOG", "trace");
    let done = run(command);
    let summary = done.ended(0);
    assert_eq!(summary["rows"]["rejected"], 3, "{summary}");
    assert!(!format!("{}{}", done.stdout, done.stderr).contains("CANARY"), "{done}");
    let described = |path: PathBuf| {
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap().build().unwrap();
        reader.map(|batch| format!("{:?}", batch.unwrap())).collect::<Vec<_>>()
    };
    let is_parquet = |path: &PathBuf| path.extension().is_some_and(|kind| kind == "parquet");
    let unpacked: Vec<String> = files(&home.out()).into_iter().filter(is_parquet).flat_map(described).collect();
    let unpacked = unpacked.concat();
    assert!(unpacked.contains("sk_live_***") && !unpacked.contains("CANARY"), "the rows hold what hides the key");
    assert!(rows(&home.out()).values().any(|row| row["video_desc"] == "Bearer sk_live_***"));
    for directory in [home.out(), home.path("state")] {
        assert_eq!(files_that_hold(&directory, "CANARY"), Vec::<PathBuf>::new());
        let names = format!("{:?}", files(&directory));
        assert!(!names.contains("CANARY"), "{names}");
    }
}

// --- in virtual time -----------------------------------------------------------------------------------------------

fn page(simulator: &Simulator, sent: &Sent) -> Reply {
    Reply::page(&page_of(simulator, &sent.id, sent.page))
}

fn failure() -> Reply {
    Reply::refusal(500, "Internal server error")
}

/// A product that fails for good, the others being fine, is a failure of that product: in the first run, and in every
/// later one that has nothing else to do.
async fn assert_one_failing_product_is_partial(delay: Duration) {
    let simulator = simulator("products=9,max_videos=25");
    let list = ids(&simulator);
    let failing = list[4].clone();
    let directory = tempfile::tempdir().unwrap();
    let context = context(
        directory.path(),
        Some(100.0),
        &[("retry_base_delay", "1s"), ("retry_max_delay", "5s"), ("retry_attempts", "4"), ("max_outage", "2m")],
    );
    let api = || {
        let (simulator, failing) = (Arc::clone(&simulator), failing.clone());
        Scripted::new(move |sent| {
            let fails = sent.id == failing;
            if fails { failure().after(delay) } else { page(&simulator, sent).after(Duration::from_millis(50)) }
        })
    };
    let first = run_job(&context, &api(), &list).await.unwrap();
    assert!(matches!(first.exit, ExitCode::Partial | ExitCode::Temporary), "{first}");
    assert_eq!(first.products.complete, 8);
    for _ in 0..2 {
        let api = api();
        let later = run_job(&context, &api, &list).await.unwrap();
        let others = api.sent().iter().filter(|sent| sent.id != failing).count();
        assert!(others <= 3, "a passing failure is tried again; pages behind ends show that the API serves: {others}");
        assert_eq!((later.exit, later.products.complete, later.products.failed), (ExitCode::Partial, 8, 1), "{later}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_product_that_always_fails_is_its_own_failure_also_when_nothing_else_is_left() {
    assert_one_failing_product_is_partial(Duration::ZERO).await;
}

#[tokio::test(start_paused = true)]
async fn a_product_that_fails_slowly_is_its_own_failure_also_when_patience_ends_while_it_is_asked_for() {
    assert_one_failing_product_is_partial(Duration::from_secs(25)).await;
}

#[tokio::test(start_paused = true)]
async fn a_segment_is_published_when_no_answer_is_under_way_also_one_that_was_large_enough_before_the_run() {
    let simulator = simulator("products=60,max_videos=45");
    let list = ids(&simulator);
    let directory = tempfile::tempdir().unwrap();
    let mut context = context(directory.path(), Some(200.0), &[("max_in_flight", "16")]);
    let api = |stop_at| {
        let simulator = Arc::clone(&simulator);
        Scripted::stopping_at(stop_at, move |sent| page(&simulator, sent).after(Duration::from_millis(300)))
    };
    let first = run_job(&context, &api(60), &list).await.unwrap();
    assert_eq!((first.exit, manifests(directory.path()).len()), (ExitCode::Interrupted, 0), "{first}");
    context.settings.segment_size = 2_000;
    let api = api(usize::MAX);
    let busy = Arc::new(AtomicUsize::new(0));
    let _watch = pagehaul::model::failpoint::watch(directory.path(), {
        let (api, busy) = (Arc::clone(&api), Arc::clone(&busy));
        move |step| {
            if step.path.to_string_lossy().contains("/segments/") {
                busy.fetch_max(api.in_flight(), Ordering::SeqCst);
            }
            Ok(())
        }
    });
    let summary = run_job(&context, &api, &list).await.unwrap();
    assert_eq!((summary.exit, busy.load(Ordering::SeqCst)), (ExitCode::Complete, 0), "{summary}");
    assert!(manifests(directory.path()).len() > 3 && api.most_in_flight() > 4, "{summary}");
    assert_rows(directory.path(), &expected(&simulator, &list, 10));
}

#[tokio::test(start_paused = true)]
async fn a_page_that_is_due_while_the_quota_holds_everyone_does_not_spin() {
    const MANY: usize = 5_000;
    let simulator = simulator("products=60,max_videos=25");
    let list = ids(&simulator);
    let directory = tempfile::tempdir().unwrap();
    let context = context(directory.path(), Some(30.0), &[]);
    let api = Scripted::new({
        let simulator = Arc::clone(&simulator);
        move |sent| {
            let reply = match sent.number {
                1 => failure(),
                2 => Reply::refusal(429, "Too Many Requests").with_retry_after(Duration::from_secs(2)),
                _ => page(&simulator, sent),
            };
            reply.after(Duration::from_millis(20))
        }
    });
    // The signal is looked at in every round. A spin would never end by itself: virtual time stands still while it lasts.
    let rounds = AtomicUsize::new(0);
    let stopped = std::future::poll_fn(|_| {
        let spins = rounds.fetch_add(1, Ordering::SeqCst) > MANY;
        if spins { Poll::Ready(ExitCode::Interrupted) } else { Poll::Pending }
    });
    let summary = run_until(&context, &api, &list, stopped).await.unwrap();
    let (rounds, sent) = (rounds.load(Ordering::SeqCst), api.requests());
    assert_eq!((summary.exit, summary.run.throttled), (ExitCode::Complete, 1), "{rounds} rounds, {sent} requests");
    assert!(rounds <= 10 * sent, "{rounds} rounds for {sent} requests");
    assert_rows(directory.path(), &expected(&simulator, &list, 10));
}

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
        context(self.directory.path(), Some(50.0), &settings)
    }

    /// The run, with ten answers that take this long, and a signal so long after the first request that is not served; and how
    /// long it went on after that request.
    async fn run(&self, late: Duration, broken: fn() -> Reply, signal: Option<Duration>) -> (Summary, Duration, usize) {
        let simulator = Arc::clone(&self.simulator);
        let api = Scripted::stopping_at(BREAKS_AT, move |sent| match sent.number {
            BREAKS_AT.. => broken().after(Duration::from_millis(80)),
            number if number + 10 >= BREAKS_AT => page(&simulator, sent).after(late),
            _ => page(&simulator, sent).after(Duration::from_millis(80)),
        });
        let told = Arc::clone(&api);
        let stopped = async move {
            told.stops().await;
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
async fn answers_that_are_slower_than_grace_are_waited_for_and_kept_when_a_run_stops_by_itself() {
    for (broken, exit) in BROKEN {
        let stopping = Stopping::new();
        let (summary, took, requests) = stopping.run(Duration::from_secs(25), broken, None).await;
        assert_eq!((summary.exit, summary.credits.in_doubt), (exit, 0), "{summary}");
        let pages = u64::try_from(if exit == ExitCode::Account { BREAKS_AT - 1 } else { requests }).unwrap();
        assert_eq!((summary.credits.billed, summary.pages.journaled), (pages, pages), "{summary}");
        assert!(took < Duration::from_secs(25), "no longer than the last of them: {took:?}");
        if exit == ExitCode::Account {
            let repaired = Scripted::direct(&stopping.simulator);
            let summary = run_job(&stopping.context(), &repaired, &stopping.list).await.unwrap();
            assert_eq!(summary.exit, ExitCode::Complete, "{summary}");
            assert!((600..=600 + evidence(600)).contains(&summary.credits.billed), "{summary}");
            assert_rows(stopping.directory.path(), &expected(&stopping.simulator, &stopping.list, 10));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn answers_that_never_come_hold_a_run_that_stops_by_itself_for_as_long_as_a_request_may_take() {
    for (broken, exit) in BROKEN {
        let (summary, took, _) = Stopping::new().run(Duration::from_secs(3_600), broken, None).await;
        assert_eq!((summary.exit, summary.credits.in_doubt), (exit, 10), "{summary}");
        assert!((29..=30).contains(&took.as_secs()), "{took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_signal_leaves_a_run_that_stops_by_itself_no_longer_than_grace() {
    for (broken, exit) in BROKEN {
        let (summary, took, _) =
            Stopping::new().run(Duration::from_secs(25), broken, Some(Duration::from_secs(5))).await;
        assert_eq!((summary.exit, summary.credits.in_doubt), (exit, 10), "{summary}");
        assert!((14..=15).contains(&took.as_secs()), "{took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_a_signal_stops_waits_no_longer_than_grace() {
    let served: fn() -> Reply = || Reply::page(&[]);
    let (summary, took, _) = Stopping::new().run(Duration::from_secs(25), served, Some(Duration::ZERO)).await;
    assert_eq!((summary.exit, summary.credits.in_doubt), (ExitCode::Interrupted, 10), "{summary}");
    assert!((9..=10).contains(&took.as_secs()), "{took:?}");
}
