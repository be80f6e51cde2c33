//! Faults of what the API says, and of what it leaves out: rows A1 to A26 and N21 of the catalogue, and the limits that keep
//! them cheap. Whole runs in virtual time against an API that a function plays; each test's name begins with its row.

#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "what helps a test fails by panicking")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::scripted::{Reply, Scripted, Sent, run_job};
use common::{
    Answer, Api, Home, Row, assert_no_page_billed_twice, assert_rows, expected, fewest_requests, ids, job, rows, run,
    scratch, simulator,
};
use pagehaul::clock;
use pagehaul::endpoint::BUILT_IN;
use pagehaul::error::ExitCode;
use pagehaul::simulator::Simulator;
use pagehaul::summary::Summary;
use pagehaul::verdict::Lost;
use rand_core::{Rng, SeedableRng};
use rand_xoshiro::SplitMix64;
use serde_json::{Value, json};

const LATENCY: Duration = Duration::from_millis(50);
const HOUR: Duration = Duration::from_secs(3_600);

/// A run of 50 requests a second, with settings as flags.
async fn export(out: &Path, api: &Arc<Scripted>, list: &[String], more: &[(&str, &str)]) -> Summary {
    run_job(&job(out, Some(50.0), more), api, list).await.unwrap()
}

/// The embedded API, but for the requests of which a function says something else.
fn but(simulator: &Arc<Simulator>, other: impl Fn(&Sent) -> Option<Reply> + Send + Sync + 'static) -> Arc<Scripted> {
    let simulator = Arc::clone(simulator);
    Scripted::new(move |sent| other(sent).unwrap_or_else(|| Reply::of(&simulator, sent, 10)).after(LATENCY))
}

/// Products by these names.
fn named(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("p{number}")).collect()
}

/// A row as JSON text.
fn row(product: &str, video: &str, region: &str, views: u64) -> String {
    json!({ "video_id": video, "product_id": product, "region": region, "total_views_cnt": views }).to_string()
}

/// A page of a product whose videos are numbered from 0 to `videos`.
fn page_of(sent: &Sent, videos: usize, page_size: usize) -> Reply {
    let first = (sent.page as usize - 1) * page_size;
    let page = first.min(videos)..(first + page_size).min(videos);
    Reply::page(&page.map(|video| row(&sent.id, &format!("v{video}"), "ID", 7)).collect::<Vec<_>>())
}

/// Why a product did not end well: the stop reason, and what was said.
fn failure<'a>(summary: &'a Summary, product: &str) -> (&'a str, &'a str) {
    let failure = summary.failures.iter().find(|failure| failure.product == product);
    let failure = failure.unwrap_or_else(|| panic!("{product} did not fail: {summary}"));
    (failure.stop_reason, failure.error.as_deref().unwrap_or_default())
}

/// Fails unless a run ended like this and what it read adds up.
fn assert_ended(summary: &Summary, exit: ExitCode) {
    assert_eq!(summary.exit, exit, "{summary}");
    let rows = &summary.rows;
    assert_eq!(rows.received, rows.published + rows.waiting + rows.folded + rows.rejected, "{summary}");
    assert_eq!(rows.waiting, 0, "what was paid for is published: {summary}");
}

// --- the key and the account ----------------------------------------------------------------------------------------

#[test]
fn a1_a_key_that_is_refused_at_the_start_costs_one_request_and_no_product() {
    let api = Api::start(|_| Answer::refusal(401, "apiKey is null"));
    let home = Home::new(&named(300));
    let summary = run(home.export(&api.base_url(), &["--qps", "500"])).ended(7);
    assert_eq!((api.requests(), &summary["products"]["failed"]), (1, &0.into()), "{summary}");
    assert_eq!((&summary["credits"]["billed"], &summary["credits"]["in_doubt"]), (&0.into(), &0.into()));
}

/// From the so manyth request on, everything is refused like this: for every number, all that was paid for is kept and
/// published, at most what was under way is asked in vain, and a run that is accepted again ends with the same rows.
async fn assert_kept_whenever_it_begins(status: u16, said: &'static str) {
    const IN_FLIGHT: usize = 4;
    let lists = || simulator("products=12,max_videos=70");
    let list = ids(&lists());
    assert!(fewest_requests(&lists(), &list) >= 30);
    for from in 1..=30 {
        let simulator = lists();
        let folder = scratch();
        let api = but(&simulator, move |sent| (sent.number >= from).then(|| Reply::refusal(status, said)));
        let summary = export(folder.path(), &api, &list, &[("max_in_flight", "4")]).await;
        assert_ended(&summary, ExitCode::Account);
        assert!(summary.cause.as_ref().unwrap().contains(said), "{summary}");
        assert!(api.requests() < from + IN_FLIGHT, "{} requests, refused from {from} on", api.requests());
        assert!(api.asked().values().all(|times| *times == 1), "a refusal of the account is never tried again");
        assert_eq!((summary.credits.billed, summary.products.failed), (from as u64 - 1, 0), "{summary}");
        assert_eq!(summary.credits.in_doubt, 0, "{summary}");
        let again = export(folder.path(), &Scripted::direct(&simulator), &list, &[]).await;
        assert_ended(&again, ExitCode::Complete);
        assert_rows(folder.path(), &expected(&simulator, &list, 10));
        assert_no_page_billed_twice(&[&simulator]);
    }
}

#[tokio::test(start_paused = true)]
async fn a2_a_key_that_is_revoked_at_any_request_loses_nothing_that_was_paid_for() {
    assert_kept_whenever_it_begins(401, "apiKey is revoked").await;
}

#[tokio::test(start_paused = true)]
async fn a2_an_account_that_is_blocked_at_any_request_loses_nothing_that_was_paid_for() {
    assert_kept_whenever_it_begins(403, "account is blocked").await;
}

#[tokio::test(start_paused = true)]
async fn a3_credits_that_are_used_up_at_any_request_lose_nothing_that_was_paid_for() {
    assert_kept_whenever_it_begins(402, "apiKey quota is not enough").await;
}

#[tokio::test(start_paused = true)]
async fn a3_a_500_that_speaks_of_a_usage_limit_at_any_request_means_the_same() {
    assert_kept_whenever_it_begins(500, "Usage limit exceeded for this key").await;
}

#[tokio::test(start_paused = true)]
async fn a3_what_is_under_way_when_the_credits_end_is_still_committed() {
    let simulator = simulator("products=40,max_videos=9");
    let list = ids(&simulator);
    let folder = scratch();
    // The refusal comes first, when eight pages are still under way.
    let api = Scripted::new({
        let simulator = Arc::clone(&simulator);
        move |sent| match sent.number {
            1 => Reply::of(&simulator, sent, 10),
            10 => Reply::refusal(402, "apiKey quota is not enough"),
            _ => Reply::of(&simulator, sent, 10).after(Duration::from_secs(5)),
        }
    });
    let summary = export(folder.path(), &api, &list, &[]).await;
    assert_ended(&summary, ExitCode::Account);
    assert_eq!((api.requests(), summary.credits.billed, summary.credits.in_doubt), (10, 9, 0), "{summary}");
}

// --- refusals of one product, and of every product ------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn a4_a_refusal_of_one_product_is_its_end_and_a_bare_one_is_asked_for_once_more() {
    let list = named(20);
    let refused = [404, 405, 410, 413, 414, 418, 451];
    let api = Scripted::new(move |sent| {
        let number: usize = sent.id[1..].parse().unwrap();
        match (number % 2, refused.get(number / 2)) {
            (0, Some(status)) => Reply::refusal(*status, "not for you"),
            (1, Some(status)) => Answer::new(*status, "<html>not for you</html>").into(),
            _ => page_of(sent, 3, 10),
        }
    });
    let folder = scratch();
    let summary = export(folder.path(), &api, &list, &[("max_in_flight", "1"), ("retry_first", "10s")]).await;
    assert_ended(&summary, ExitCode::Partial);
    let asked = api.asked();
    for (number, id) in list.iter().enumerate() {
        let (bare, failed) = (number % 2 == 1, number < 2 * refused.len());
        assert_eq!(asked[&(id.clone(), 1)], 1 + u32::from(bare && failed), "{id}");
        if failed {
            let (stop, said) = failure(&summary, id);
            assert!(stop == "failed" && said.contains(&format!("HTTP {}", refused[number / 2])), "{id}: {said}");
        }
    }
    assert_eq!((summary.products.complete, summary.products.failed), (6, 14));
    assert_eq!((summary.credits.billed, summary.credits.free, summary.credits.in_doubt), (6, 7, 14), "{summary}");
}

#[tokio::test(start_paused = true)]
async fn a4_an_endpoint_that_gives_no_product_a_page_ends_the_run_after_twenty() {
    for (status, body) in [
        (400, json!({"code": 400, "message": "Invalid parameter: page_size", "data": null}).to_string()),
        (404, json!({"code": 404, "message": "no such product", "data": null}).to_string()),
        (404, "<html>nothing here</html>".to_owned()),
        (200, json!({"code": 1001, "message": "unknown version", "data": null}).to_string()),
        (200, json!({"code": 0, "message": "success", "data": {"list": []}}).to_string()),
    ] {
        let folder = scratch();
        let answered = body.clone();
        let api = Scripted::new(move |_| Reply::from(Answer::new(status, answered.clone())).after(LATENCY));
        let summary = export(folder.path(), &api, &named(500), &[]).await;
        assert_ended(&summary, ExitCode::Contract);
        assert_eq!((api.requests(), summary.products.failed, summary.products.open), (20, 0, 500), "{body}: {summary}");
    }
}

#[tokio::test(start_paused = true)]
async fn a4_once_the_api_gave_a_page_refusals_are_their_products_own_however_many_there_are() {
    let folder = scratch();
    let api = Scripted::new(|sent| match sent.id.as_str() {
        "p0" | "p59" => page_of(sent, 3, 10),
        _ => Reply::refusal(404, "no such product"),
    });
    let summary = export(folder.path(), &api, &named(60), &[]).await;
    assert_ended(&summary, ExitCode::Partial);
    assert_eq!((api.requests(), summary.products.complete, summary.products.failed), (60, 2, 58), "{summary}");
}

#[tokio::test(start_paused = true)]
async fn a5_a_400_for_one_product_is_not_asked_again_and_is_named() {
    let simulator = simulator("products=30,max_videos=40");
    let list = ids(&simulator);
    for refused in [0, 17, 29] {
        let folder = scratch();
        let id = list[refused].clone();
        let bad = id.clone();
        let api = but(&simulator, move |sent| (sent.id == bad).then(|| Reply::refusal(400, "product_id is invalid")));
        let summary = export(folder.path(), &api, &list, &[]).await;
        assert_ended(&summary, ExitCode::Partial);
        assert_eq!(failure(&summary, &id), ("failed", "HTTP 400, code 400: product_id is invalid"));
        assert_eq!((summary.products.complete, api.asked()[&(id.clone(), 1)]), (29, 1));
        let others: Vec<String> = list.iter().filter(|other| **other != id).cloned().collect();
        assert_rows(folder.path(), &expected(&simulator, &others, 10));
    }
}

// --- storms ---------------------------------------------------------------------------------------------------------

/// What an API does wrong: at a time since the first request, to a request.
type Weather = fn(Duration, &Sent) -> Option<Reply>;

/// Requests in flight in the scenarios: also the retries that a run begins with.
const IN_FLIGHT: u32 = 32;

/// A run of 120 products in some weather: it must be complete, with few more requests than pages, in about this time.
/// The name, the embedded API, the asked rate, the weather, seconds.
type Scenario = (&'static str, &'static str, f64, Weather, std::ops::Range<f64>);

fn internal_error() -> Option<Reply> {
    Some(Reply::refusal(500, "Internal server error"))
}

/// Whether this request is one of so many in a hundred.
fn one_of(sent: &Sent, percent: u64) -> bool {
    SplitMix64::seed_from_u64(sent.number as u64).next_u64() % 100 < percent
}

const SCENARIOS: [Scenario; 14] = [
    ("calm", "", 50.0, |_, _| None, 11.0..13.0),
    ("slow answers", "latency=2s", 50.0, |_, _| None, 14.0..80.0),
    ("jitter", "latency=20ms,jitter=900ms", 50.0, |_, _| None, 11.0..40.0),
    ("5 times the limit", "qps=20,latency=60ms", 100.0, |_, _| None, 25.0..60.0),
    ("5 times the limit, by windows", "qps=20,limit=window,latency=60ms", 100.0, |_, _| None, 25.0..90.0),
    ("10 times a low limit", "qps=5,latency=60ms", 50.0, |_, _| None, 110.0..300.0),
    ("twice a high limit", "qps=100,latency=60ms", 200.0, |_, _| None, 5.0..10.0),
    ("no rate named", "qps=40,latency=60ms", 0.0, |_, _| None, 13.0..60.0),
    ("500s, 10 %", "latency=80ms", 50.0, |_, sent| one_of(sent, 10).then(internal_error).flatten(), 12.0..30.0),
    ("500s, 15 %", "latency=80ms", 50.0, |_, sent| one_of(sent, 15).then(internal_error).flatten(), 12.0..40.0),
    (
        "bursts of 500s: two seconds in ten",
        "latency=80ms",
        50.0,
        |at, _| (at.as_secs() % 10 >= 8).then(internal_error).flatten(),
        13.0..40.0,
    ),
    (
        "broken connections, 8 %, and a burst of them",
        "latency=80ms",
        50.0,
        |at, sent| (at.as_secs() == 5 || one_of(sent, 8)).then(|| Reply::lost(Lost::Transport)),
        12.0..40.0,
    ),
    (
        "429s with a wish: 20 seconds",
        "latency=60ms",
        50.0,
        |at, _| {
            let pause = Duration::from_secs(20);
            (at.as_secs() == 4).then(|| Reply::refusal(429, "qps limit exceeded").with_retry_after(pause))
        },
        30.0..50.0,
    ),
    (
        "ten minutes of 502",
        "latency=60ms",
        50.0,
        |at, _| (5..605).contains(&at.as_secs()).then(|| Answer::new(502, "<html>Bad Gateway</html>").into()),
        605.0..700.0,
    ),
];

#[tokio::test(start_paused = true)]
async fn a6_no_storm_makes_many_more_requests_than_pages_or_costs_a_row() {
    for (name, spec, qps, weather, seconds) in SCENARIOS {
        let simulator = simulator(&format!("products=120,max_videos=200,{spec}"));
        let list = ids(&simulator);
        let folder = scratch();
        let began = Mutex::new(None);
        let api = Scripted::new({
            let simulator = Arc::clone(&simulator);
            move |sent| {
                let since = sent.at - *began.lock().unwrap().get_or_insert(sent.at);
                weather(since, sent).map_or_else(|| Reply::of(&simulator, sent, 10), |reply| reply.after(LATENCY))
            }
        });
        let most = IN_FLIGHT.to_string();
        let job = job(folder.path(), (qps > 0.0).then_some(qps), &[("max_in_flight", &most)]);
        let summary = run_job(&job, &api, &list).await.unwrap();
        assert_ended(&summary, ExitCode::Complete);
        assert_rows(folder.path(), &expected(&simulator, &list, 10));
        let (pages, requests) = (summary.pages.journaled, api.requests() as u64);
        assert!(pages > 500, "{pages} pages show little");
        assert!(requests * 10 <= pages * 12 + u64::from(IN_FLIGHT) * 10, "{name}: {requests} requests, {pages} pages");
        assert!(seconds.contains(&summary.run.seconds), "{name}: {} s", summary.run.seconds);
    }
}

#[tokio::test(start_paused = true)]
async fn a6_pages_that_keep_failing_do_not_keep_others_waiting() {
    let list = named(400);
    let is_dead = |id: &str| id.ends_with('3') || id.ends_with('7') || id.ends_with('9');
    let api = Scripted::new(move |sent| {
        let reply = if is_dead(&sent.id) { internal_error().unwrap() } else { page_of(sent, 25, 10) };
        reply.after(LATENCY)
    });
    let folder = scratch();
    let summary = export(folder.path(), &api, &list, &[("max_in_flight", "16")]).await;
    assert_ended(&summary, ExitCode::Partial);
    assert_eq!((summary.products.complete, summary.products.failed), (280, 120), "{summary}");
    let asked = api.asked();
    let sent = api.sent();
    let last = sent.iter().rposition(|sent| !is_dead(&sent.id)).unwrap();
    let pages = asked.keys().filter(|(id, _)| !is_dead(id)).count();
    let firsts: BTreeSet<&str> = sent[..last].iter().map(|sent| sent.id.as_str()).filter(|id| is_dead(id)).collect();
    let retries = last + 1 - pages - firsts.len();
    assert!(retries <= pages / 5 + 16, "{retries} retries beside {pages} pages");
    assert!(asked.iter().all(|((id, _), times)| *times == if is_dead(id) { 8 } else { 1 }), "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn a7_a_429_for_ever_ends_as_a_temporary_failure_and_keeps_everything() {
    for (after, patience) in [(0, Duration::from_secs(300)), (25, 2 * HOUR)] {
        let simulator = simulator("products=30,max_videos=40");
        let list = ids(&simulator);
        let folder = scratch();
        let api = but(&simulator, move |sent| (sent.number > after).then(|| Reply::refusal(429, "qps limit exceeded")));
        let summary = export(folder.path(), &api, &list, &[]).await;
        assert_ended(&summary, ExitCode::Temporary);
        assert_eq!((summary.credits.billed, summary.products.failed), (after as u64, 0), "{summary}");
        assert_eq!(summary.credits.in_doubt, 0);
        let took = Duration::from_secs_f64(summary.run.seconds);
        assert!((patience..patience + Duration::from_secs(60)).contains(&took), "{took:?}");
        println!("{}", api.requests());
        assert_ended(&export(folder.path(), &Scripted::direct(&simulator), &list, &[]).await, ExitCode::Complete);
        assert_rows(folder.path(), &expected(&simulator, &list, 10));
        assert_no_page_billed_twice(&[&simulator]);
    }
}

#[tokio::test(start_paused = true)]
async fn a8_a_wish_for_a_pause_holds_every_request_for_as_long_but_never_longer_than_five_minutes() {
    for (wish, least, most) in [(120, 120.0, 121.0), (1_000_000_000, 300.0, 301.0), (u64::MAX, 300.0, 301.0)] {
        let simulator = simulator("products=30,max_videos=40");
        let list = ids(&simulator);
        let folder = scratch();
        let api = but(&simulator, move |sent| {
            let pause = Duration::from_secs(wish);
            (sent.number == 10).then(|| Reply::refusal(429, "qps limit exceeded").with_retry_after(pause))
        });
        let summary = export(folder.path(), &api, &list, &[]).await;
        assert_ended(&summary, ExitCode::Complete);
        let sent = api.sent();
        let told = sent[9].at + LATENCY;
        let next = sent.iter().find(|sent| sent.at > told).unwrap().at;
        let pause = (next - told).as_secs_f64();
        assert!((least..most).contains(&pause), "{pause} s after a wish for {wish}");
    }
}

#[tokio::test(start_paused = true)]
async fn a10_a_page_that_fails_for_ever_is_named_costs_its_attempts_and_stops_nobody() {
    let simulator = simulator("products=120,max_videos=200");
    let list = ids(&simulator);
    let deep = list.iter().position(|id| simulator.videos(id) > 25).unwrap();
    let (poison, folder) = (list[deep].clone(), scratch());
    let bad = poison.clone();
    let api = but(&simulator, move |sent| (sent.id == bad && sent.page == 3).then(internal_error).flatten());
    let summary = export(folder.path(), &api, &list, &[("max_in_flight", "4")]).await;
    assert_ended(&summary, ExitCode::Partial);
    let (stop, said) = failure(&summary, &poison);
    assert_eq!((stop, api.asked()[&(poison.clone(), 3)]), ("failed", 8));
    assert!(said.starts_with("page 3 failed 8 times, lastly: HTTP 500"), "{said}");
    assert_eq!((summary.products.complete, summary.rows.published), (119, rows(folder.path()).len() as u64));
    let healed = Scripted::direct(&simulator);
    assert_ended(&export(folder.path(), &healed, &list, &[]).await, ExitCode::Complete);
    assert!(healed.sent().iter().all(|sent| sent.id == poison && sent.page >= 3), "only what is missing is asked for");
    assert_rows(folder.path(), &expected(&simulator, &list, 10));
}

#[tokio::test(start_paused = true)]
async fn a10_a_page_that_fails_for_ever_ends_within_minutes_also_when_nothing_else_is_left() {
    for (name, reply) in [
        ("500", (|| internal_error().unwrap()) as fn() -> Reply),
        ("broken connection", || Reply::lost(Lost::Transport)),
        ("502", || Answer::new(502, "<html>Bad Gateway</html>").into()),
    ] {
        let folder = scratch();
        let api =
            Scripted::new(
                move |sent| {
                    if sent.id == "p9" { reply().after(Duration::from_secs(1)) } else { page_of(sent, 25, 10) }
                },
            );
        for _ in 0..2 {
            let before = api.requests();
            let summary = export(folder.path(), &api, &named(10), &[]).await;
            assert_ended(&summary, ExitCode::Partial);
            assert_eq!((summary.products.complete, failure(&summary, "p9").0), (9, "failed"), "{name}");
            assert!(summary.run.seconds < 420.0, "{name}: {} s", summary.run.seconds);
            let tries = api.requests() - before - if before == 0 { 27 } else { 0 };
            assert!((8..=14).contains(&tries), "{name}: {tries} attempts");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a11_answers_of_gateways_and_servers_in_trouble_pass() {
    let statuses = [500, 502, 503, 504, 507, 520, 521, 522, 523, 524, 525, 526, 408, 425];
    let simulator = simulator("products=60,max_videos=40");
    let list = ids(&simulator);
    let folder = scratch();
    let api = but(&simulator, move |sent| {
        let status = statuses.get(sent.number.checked_sub(2)? / 3).filter(|_| sent.number.is_multiple_of(3))?;
        Some(Answer::new(*status, "<html>\u{1b}[31mtrouble</html>").into())
    });
    let summary = export(folder.path(), &api, &list, &[]).await;
    assert_ended(&summary, ExitCode::Complete);
    assert_eq!(
        (summary.run.retries, summary.credits.in_doubt),
        (14, 14),
        "a bare answer does not say that it was free"
    );
    assert_rows(folder.path(), &expected(&simulator, &list, 10));
}

#[tokio::test(start_paused = true)]
async fn a12_a_code_inside_a_200_means_what_the_status_would() {
    for (code, message, exit) in [
        (401, "apiKey is null", ExitCode::Account),
        (402, "apiKey quota is not enough", ExitCode::Account),
        (403, "forbidden", ExitCode::Account),
        (429, "qps limit exceeded", ExitCode::Complete),
        (500, "Internal server error", ExitCode::Complete),
        (500, "usage limit reached", ExitCode::Account),
        (400, "product_id is invalid", ExitCode::Partial),
    ] {
        let simulator = simulator("products=20,max_videos=40");
        let list = ids(&simulator);
        let folder = scratch();
        let api = but(&simulator, move |sent| {
            let body = json!({"code": code, "message": message, "data": null}).to_string();
            (sent.number == 7).then(|| Answer::new(200, body).into())
        });
        let summary = export(folder.path(), &api, &list, &[]).await;
        assert_ended(&summary, exit);
        assert_eq!((summary.credits.free, summary.credits.in_doubt), (1, 0), "{code}: {summary}");
        assert_eq!(summary.run.throttled, u64::from(code == 429));
    }
}
