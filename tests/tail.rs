//! The end of a run: the rate is used until the last answer, however late a list turns out to be deep. In virtual time.

#![expect(clippy::unwrap_used, reason = "what helps a test fails by panicking")]

mod common;

use common::scripted::{Scripted, run_job};
use common::{ids, job, scratch, simulator};
use pagehaul::error::ExitCode;

/// Requests a second that are permitted.
const RATE: f64 = 50.0;

/// What a whole run used of the rate, from its first request to its last answer, and the most that it could have used.
async fn used(seed: u32) -> (f64, f64, u64) {
    let simulator = simulator(&format!("seed={seed},products=200,qps=50,latency=80ms"));
    let (list, folder, api) = (ids(&simulator), scratch(), Scripted::direct(&simulator));
    let summary = run_job(&job(folder.path(), Some(RATE), &[]), &api, &list).await.unwrap();
    assert_eq!((summary.exit, summary.run.throttled), (ExitCode::Complete, 0), "{summary}");
    let sent = api.sent();
    let (latency, requests) = (0.08, f64::from(u32::try_from(sent.len()).unwrap()));
    let took = (sent.last().unwrap().at - sent[0].at).as_secs_f64() + latency;
    // The last request leaves no earlier than the rate permits, and its answer takes its time. No list bounds it: the
    // deepest, 201 pages, takes 16 of the 22 seconds or more.
    let least = (requests - 1.0) / RATE + latency;
    (requests / took / RATE, requests / least / RATE, summary.run.wasted)
}

#[tokio::test(start_paused = true)]
async fn two_hundred_lists_of_which_any_may_be_deep_use_the_whole_rate_to_the_last_answer() {
    println!("| seed | used | at most | wasted |\n|---|---|---|---|");
    let mut below = Vec::new();
    for seed in 1..=20 {
        let (used, most, wasted) = used(seed).await;
        println!("| {seed} | {:.1} % | {:.1} % | {wasted} |", used * 100.0, most * 100.0);
        if used < 0.985 {
            below.push((seed, used));
        }
    }
    assert!(below.is_empty(), "{below:?}");
}
