//! The end of a run: the rate is used until the last response, however late a list turns out to be deep. In virtual time.

use std::time::Duration;

use crate::common::scripted::{Reply, Scripted, run_job};
use crate::common::{context, ids, scratch, simulator};
use pagehaul::error::ExitCode;
use serde_json::json;

/// Requests a second that are permitted.
const RATE: f64 = 50.0;

/// What a whole run used of the rate, from its first request to its last response, and the most that it could have used.
async fn used(seed: u32) -> (f64, f64, u64) {
    let simulator = simulator(&format!("seed={seed},products=200,qps=50,latency=80ms"));
    let (list, directory, api) = (ids(&simulator), scratch(), Scripted::direct(&simulator));
    let summary = run_job(&context(directory.path(), Some(RATE), &[]), &api, &list).await.unwrap();
    assert_eq!((summary.exit, summary.run.throttled), (ExitCode::Complete, 0), "{summary}");
    let sent = api.sent();
    let (latency, requests) = (0.08, f64::from(u32::try_from(sent.len()).unwrap()));
    let took = (sent.last().unwrap().at - sent.first().unwrap().at).as_secs_f64() + latency;
    // The last request is sent no earlier than the rate permits, and its response takes its time. No list bounds it: the
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

#[tokio::test(start_paused = true)]
async fn where_looking_ahead_saves_less_than_was_requested_it_costs_nothing() {
    // The deepest list, 201 pages, takes a second page by page.
    for (settings, saves) in [("products=600,latency=5ms", "2s"), ("products=200,qps=50,latency=80ms", "1h")] {
        let simulator = simulator(settings);
        let (list, directory, api) = (ids(&simulator), scratch(), Scripted::direct(&simulator));
        let qps = settings.contains("qps").then_some(RATE);
        let summary =
            run_job(&context(directory.path(), qps, &[("lookahead_saves", saves)]), &api, &list).await.unwrap();
        let fewest: u64 = list.iter().map(|id| simulator.videos(id) / 10 + 1).sum();
        let requests = u64::try_from(api.requests()).unwrap();
        assert_eq!((summary.exit, summary.run.wasted, requests), (ExitCode::Complete, 0, fewest), "{summary}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_api_that_answers_any_page_number_costs_no_more_than_the_share_set_aside_and_all_of_it_is_counted() {
    type Shown = fn(u32, u32) -> u32;
    let kinds: [(&str, Shown); 3] = [
        ("the last page again", |page, last| page.min(last)),
        ("the first page again", |page, last| if page > last { 1 } else { page }),
        ("round and round", |page, last| (page - 1) % last + 1),
    ];
    for (name, shown) in kinds {
        for (lists, last) in [(1, 40), (1, 400), (30, 60), (4, 300)] {
            let api = Scripted::new(move |sent| {
                let row = json!({
                    "video_id": format!("v{}", shown(sent.page, last)), "product_id": sent.id, "region": "ID"
                });
                Reply::page(&[row.to_string()]).after(Duration::from_millis(80))
            });
            let (directory, list) = (scratch(), (0..lists).map(|at| format!("p{at}")).collect::<Vec<_>>());
            let context = context(directory.path(), Some(RATE), &[("page_size", "1")]);
            let summary = run_job(&context, &api, &list).await.unwrap();
            let pages = u64::from(lists * last);
            let about = format!("{name}, {lists} lists of {last} pages: {summary}");
            assert_eq!(summary.totals.rows.published, pages, "{about}");
            // The page right behind the last one is what a walk page by page requests, too.
            let behind =
                |by: u32| u64::try_from(api.sent().iter().filter(|sent| sent.page > last + by).count()).unwrap();
            // And one that shows where a list ended is evidence.
            let wasted = summary.run.wasted + summary.run.evidence;
            assert!((behind(1)..=behind(0)).contains(&wasted), "{about}");
            assert!(summary.run.wasted <= (pages / 100).max(2), "{about}");
        }
    }
}
