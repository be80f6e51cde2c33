//! A run whose time is over: it sends nothing more, takes what was sent, and the next run pays for no page again.

use std::sync::Arc;
use std::time::Duration;

use crate::common::scripted::{Reply, Scripted, run_job};
use crate::common::{
    assert_no_page_billed_twice, assert_rows, built_in_context, evidence, expected, fewest_requests, ids, scratch,
    simulator,
};
use pagehaul::error::{Error, ExitCode};
use pagehaul::fetch::FetchErrorKind;
use pagehaul::model::clock;

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_after_max_duration_and_each_run_continues_where_the_last_one_ended() {
    let simulator = simulator("products=40,max_videos=60,latency=300ms,record=true");
    let (list, directory) = (ids(&simulator), scratch());
    let all = fewest_requests(&simulator, &list);
    let mut runs = 0;
    loop {
        let start = clock::now();
        let api = Scripted::direct(&simulator);
        let context = built_in_context(directory.path(), Some(20.0), &[("max_duration", "2s")]);
        let summary = run_job(&context, &api, &list).await.unwrap();
        runs += 1;
        assert!(api.sent().iter().all(|sent| sent.at <= start + Duration::from_secs(2)));
        assert!(start.elapsed() <= Duration::from_millis(2_301), "responses in flight are waited for: {summary}");
        assert_eq!((summary.totals.credits.in_doubt, summary.totals.rows.waiting), (0, 0), "{summary}");
        if summary.exit == ExitCode::Complete {
            break;
        }
        assert_eq!(summary.exit, ExitCode::Limit, "{summary}");
        assert!(summary.cause.as_ref().unwrap().starts_with("max_duration is reached: it was 20"), "{summary}");
        assert!(summary.next.unwrap().starts_with("run the same command again"), "{summary}");
        assert!(api.requests() > 20, "{summary}");
    }
    assert!(runs > 3, "{runs}");
    assert!((all..=all + evidence(all)).contains(&simulator.account().pages));
    assert_no_page_billed_twice(&[&simulator]);
    assert_rows(directory.path(), &expected(&simulator, &list, 10));
}

/// What an API does from some request on, for a run that then only waits.
type Waiting = (&'static str, fn() -> Reply);

const WAITING: [Waiting; 4] = [
    ("a pause that the API asks for", || Reply::refusal(429, "slow down").with_retry_after(Duration::from_secs(3_000))),
    ("an outage", || Reply::refusal(503, "maintenance").after(Duration::from_millis(20))),
    ("no connection", || Reply::lost(FetchErrorKind::Connect)),
    ("an outage with its end", || Reply::refusal(503, "maintenance").with_retry_after(Duration::from_secs(1_800))),
];

#[tokio::test(start_paused = true)]
async fn a_run_that_only_waits_ends_when_its_time_is_over() {
    for (name, broken) in WAITING {
        let (simulator, directory) = (simulator("products=200,max_videos=9"), scratch());
        let list = ids(&simulator);
        let sound = Arc::clone(&simulator);
        let api = Scripted::new(move |sent| match sent.number {
            40.. => broken(),
            _ => Reply::from_simulator(&sound, sent, 10).after(Duration::from_millis(80)),
        });
        let settings = [("max_duration", "10m"), ("max_outage", "2h"), ("max_in_flight", "8")];
        let start = clock::now();
        let summary = run_job(&built_in_context(directory.path(), Some(50.0), &settings), &api, &list).await.unwrap();
        assert_eq!(summary.exit, ExitCode::Limit, "{name}: {summary}");
        assert_eq!(start.elapsed().as_secs(), 600, "{name}");
        let summary =
            run_job(&built_in_context(directory.path(), Some(50.0), &[]), &Scripted::direct(&simulator), &list)
                .await
                .unwrap();
        assert_eq!(summary.exit, ExitCode::Complete, "{name}: {summary}");
        assert_rows(directory.path(), &expected(&simulator, &list, 10));
    }
}

#[tokio::test(start_paused = true)]
async fn responses_that_never_come_delay_the_end_for_as_long_as_a_request_may_take() {
    let (simulator, directory) = (simulator("products=50,max_videos=9"), scratch());
    let (list, sound) = (ids(&simulator), Arc::clone(&simulator));
    let api = Scripted::new(move |sent| match sent.number {
        10.. => Reply::never(),
        _ => Reply::from_simulator(&sound, sent, 10),
    });
    let settings = [("max_duration", "20s"), ("request_timeout", "30s"), ("max_in_flight", "4")];
    let start = clock::now();
    let summary = run_job(&built_in_context(directory.path(), Some(50.0), &settings), &api, &list).await.unwrap();
    assert_eq!(summary.exit, ExitCode::Limit, "{summary}");
    assert!((29..=50).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn the_earlier_of_both_ends_the_run_and_one_that_has_passed_sends_nothing() {
    let simulator = simulator("products=9,max_videos=900");
    let list = ids(&simulator);
    let (far, past) = ("9999-12-31T23:59:59Z", "2020-01-01T00:00:00Z");
    for (duration, deadline, cause) in
        [("2s", far, "max_duration"), ("1h", past, "deadline"), ("none", past, "deadline")]
    {
        let (api, directory) = (Scripted::direct(&simulator), scratch());
        let settings = [("max_duration", duration), ("deadline", deadline)];
        let result = run_job(&built_in_context(directory.path(), Some(10.0), &settings), &api, &list).await;
        let (exit, found) = match result {
            Ok(summary) => (summary.exit, summary.cause.unwrap()),
            Err(error @ Error::Late(_)) => (error.exit_code(), error.to_string()),
            Err(error) => panic!("{error}"),
        };
        assert_eq!(exit, ExitCode::Limit);
        assert!(found.starts_with(&format!("{cause} is reached: it was 20")), "{found}");
        assert_eq!(api.requests() == 0, deadline == past);
    }
}
