//! Faults of what the API says, and of what it leaves out: rows A1 to A26 and N21 of the catalogue, and the limits that keep
//! them cheap. Whole runs in virtual time against an API that a function plays; each test's name starts with its row.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::scripted::{Reply, Scripted, Sent, run_job};
use crate::common::{
    Answer, Row, assert_no_page_billed_twice, assert_rows, context, expected, fewest_requests, ids, rows, scratch,
    simulator,
};
use pagehaul::endpoint::BUILT_IN;
use pagehaul::error::ExitCode;
use pagehaul::fetch::FetchErrorKind;
use pagehaul::report::summary::Summary;
use pagehaul::simulator::Simulator;
use rand_core::{Rng, SeedableRng};
use rand_xoshiro::SplitMix64;
use serde_json::{Value, json};

const LATENCY: Duration = Duration::from_millis(50);
/// What an API says to a request.
type Says = fn(&Sent) -> Reply;

const HOUR: Duration = Duration::from_secs(3_600);

/// A run of 50 requests a second, with settings as flags.
async fn export(out: &Path, api: &Arc<Scripted>, list: &[String], more: &[(&str, &str)]) -> Summary {
    run_job(&context(out, Some(50.0), more), api, list).await.unwrap()
}

/// The same, which must end like this.
async fn run_to(exit: ExitCode, out: &Path, api: &Arc<Scripted>, list: &[String], more: &[(&str, &str)]) -> Summary {
    let summary = export(out, api, list, more).await;
    assert_ended(&summary, exit);
    summary
}

/// The same in a directory of its own.
async fn run_once(exit: ExitCode, api: &Arc<Scripted>, list: &[String], more: &[(&str, &str)]) -> Summary {
    run_to(exit, scratch().path(), api, list, more).await
}

/// The embedded API, but for the requests of which a function says something else.
fn but(simulator: &Arc<Simulator>, other: impl Fn(&Sent) -> Option<Reply> + Send + Sync + 'static) -> Arc<Scripted> {
    let simulator = Arc::clone(simulator);
    Scripted::new(move |sent| other(sent).unwrap_or_else(|| Reply::from_simulator(&simulator, sent, 10)).after(LATENCY))
}

/// Products by these names.
fn named(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("p{number}")).collect()
}

/// A row as JSON text.
fn row(product: &str, video: &str, region: &str, views: u64) -> String {
    json!({ "video_id": video, "product_id": product, "region": region, "total_views_cnt": views }).to_string()
}

/// A success without a list of rows.
fn without_list() -> Reply {
    Answer::new(200, json!({"code": 0, "message": "success", "data": null}).to_string()).into()
}

/// A page of a product whose videos are numbered from 0 to `videos`.
fn page_of(sent: &Sent, videos: usize, page_size: usize) -> Reply {
    let first = (sent.page as usize - 1) * page_size;
    let page = first.min(videos)..(first + page_size).min(videos);
    Reply::page(&page.map(|video| row(&sent.id, &format!("v{video}"), "ID", 7)).collect::<Vec<_>>())
}

/// Why a product did not end well: the stop reason, and the message.
fn failure<'a>(summary: &'a Summary, product: &str) -> (&'a str, &'a str) {
    let failure = summary.totals.failures.iter().find(|failure| failure.product == product);
    let failure = failure.unwrap_or_else(|| panic!("{product} did not fail: {summary}"));
    (failure.stop_reason, failure.error.as_deref().unwrap_or_default())
}

/// Fails unless a run ended like this and what it read adds up.
fn assert_ended(summary: &Summary, exit: ExitCode) {
    assert_eq!(summary.exit, exit, "{summary}");
    let rows = &summary.totals.rows;
    assert_eq!(rows.received, rows.published + rows.waiting + rows.duplicates + rows.rejected, "{summary}");
    assert_eq!(rows.waiting, 0, "what was paid for is published: {summary}");
}

// --- the key and the account ----------------------------------------------------------------------------------------

/// From one request on, everything is refused like this: whichever it is, all that was paid for is kept and
/// published, at most what was in flight and two requests more are in vain, and a run that is accepted again ends with the same rows.
async fn assert_kept_whenever_it_starts(status: u16, message: &'static str) {
    const IN_FLIGHT: usize = 4;
    let lists = || simulator("products=12,max_videos=70");
    let list = ids(&lists());
    assert!(fewest_requests(&lists(), &list) >= 30);
    for from in 1..=30 {
        let simulator = lists();
        let directory = scratch();
        let api = but(&simulator, move |sent| (sent.number >= from).then(|| Reply::refusal(status, message)));
        let summary = run_to(ExitCode::Account, directory.path(), &api, &list, &[("max_in_flight", "4")]).await;
        assert!(summary.cause.as_ref().unwrap().contains(message), "{summary}");
        assert!(api.requests() < from + IN_FLIGHT + 2, "{} requests, refused from {from} on", api.requests());
        assert_eq!((summary.totals.credits.billed, summary.totals.products.failed), (from as u64 - 1, 0), "{summary}");
        assert_eq!(summary.totals.credits.in_doubt, 0, "{summary}");
        run_to(ExitCode::Complete, directory.path(), &Scripted::direct(&simulator), &list, &[]).await;
        assert_rows(directory.path(), &expected(&simulator, &list, 10));
        assert_no_page_billed_twice(&[&simulator]);
    }
}

#[tokio::test(start_paused = true)]
async fn a2_a_key_that_is_revoked_at_any_request_loses_nothing_that_was_paid_for() {
    assert_kept_whenever_it_starts(401, "apiKey is revoked").await;
}

#[tokio::test(start_paused = true)]
async fn a2_an_account_that_is_blocked_at_any_request_loses_nothing_that_was_paid_for() {
    assert_kept_whenever_it_starts(403, "account is blocked").await;
}

#[tokio::test(start_paused = true)]
async fn a3_credits_that_are_used_up_at_any_request_lose_nothing_that_was_paid_for() {
    assert_kept_whenever_it_starts(402, "apiKey quota is not enough").await;
}

#[tokio::test(start_paused = true)]
async fn a3_a_500_that_speaks_of_a_usage_limit_at_any_request_means_the_same() {
    assert_kept_whenever_it_starts(500, "Usage limit exceeded for this key").await;
}

#[tokio::test(start_paused = true)]
async fn a3_what_is_in_flight_when_the_credits_end_is_still_committed() {
    let simulator = simulator("products=40,max_videos=9");
    let list = ids(&simulator);
    // The refusal comes first, when eight pages are still in flight.
    let api = Scripted::new({
        let simulator = Arc::clone(&simulator);
        move |sent| match sent.number {
            1 => Reply::from_simulator(&simulator, sent, 10),
            10.. => Reply::refusal(402, "apiKey quota is not enough"),
            _ => Reply::from_simulator(&simulator, sent, 10).after(Duration::from_secs(5)),
        }
    });
    let summary = run_once(ExitCode::Account, &api, &list, &[]).await;
    assert_eq!(
        (api.requests(), summary.totals.credits.billed, summary.totals.credits.in_doubt),
        (12, 9, 0),
        "{summary}"
    );
}

// --- refusals of one product, and of every product ------------------------------------------------------------------

/// An API may check the page before it checks the credits: what it says of a page behind an end tells nothing about them.
#[tokio::test(start_paused = true)]
async fn a3_credits_that_end_before_the_last_product_are_not_its_fault_where_pages_behind_ends_are_refused() {
    let directory = scratch();
    let is_topped_up = Arc::new(AtomicBool::new(false));
    let has_credits = Arc::clone(&is_topped_up);
    let api = Scripted::new(move |sent| match (&*sent.id, sent.page) {
        ("p0", 3..) => Reply::refusal(400, "page_num is out of range"),
        ("p1", 2..) if !has_credits.load(Ordering::Relaxed) => Reply::refusal(402, "apiKey quota is not enough"),
        _ => page_of(sent, 15, 10),
    });
    let list = [("max_in_flight", "1")];
    let summary = run_to(ExitCode::Account, directory.path(), &api, &named(2), &list).await;
    assert_eq!(summary.totals.products.failed, 0, "{summary}");
    let in_vain = api.sent().iter().filter(|sent| sent.page > 1 && (sent.id == "p1" || sent.page > 2)).count();
    assert_eq!(
        in_vain, 4,
        "the page itself has three tries, and one page behind an end shows that others tell nothing"
    );
    is_topped_up.store(true, Ordering::Relaxed);
    run_to(ExitCode::Complete, directory.path(), &api, &named(2), &list).await;
}

/// In an outage pages take turns at probing; once the account is in question, they wait for their own turns again.
#[tokio::test(start_paused = true)]
async fn a3_an_outage_that_ends_with_a_refused_account_is_not_hammered() {
    let tried = AtomicUsize::new(0);
    let api = Scripted::new(move |sent| match sent.page {
        3 if tried.fetch_add(1, Ordering::Relaxed) < 8 => Reply::lost(FetchErrorKind::Connect),
        3 => Reply::refusal(402, "apiKey quota is not enough").after(LATENCY),
        _ => page_of(sent, 25, 10),
    });
    run_once(ExitCode::Account, &api, &named(1), &[]).await;
    assert!(api.requests() < 30, "{} requests", api.requests());
}

#[tokio::test(start_paused = true)]
async fn a4_a_refusal_of_one_product_is_its_end_and_an_unusual_or_bare_one_is_requested_twice_more() {
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
    let directory = scratch();
    let summary = run_to(
        ExitCode::Partial,
        directory.path(),
        &api,
        &list,
        &[("max_in_flight", "1"), ("retry_base_delay", "10s")],
    )
    .await;
    let requested = api.requested();
    for (number, id) in list.iter().enumerate() {
        let (bare, failed) = (number % 2 == 1, number < 2 * refused.len());
        let is_plain = !bare && failed && matches!(refused[number / 2], 404 | 410);
        assert_eq!(requested[&(id.clone(), 1)], if failed && !is_plain { 3 } else { 1 }, "{id}");
        if failed {
            let (stop, message) = failure(&summary, id);
            assert!(stop == "failed" && message.contains(&format!("HTTP {}", refused[number / 2])), "{id}: {message}");
        }
    }
    assert_eq!((summary.totals.products.complete, summary.totals.products.failed), (6, 14));
    // Two pages behind ends show that the API serves, though these are all that is left.
    assert_eq!(
        (summary.totals.credits.billed, summary.totals.credits.free, summary.totals.credits.in_doubt),
        (8, 17, 21),
        "{summary}"
    );
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
        let answered = body.clone();
        let api = Scripted::new(move |_| Reply::from(Answer::new(status, answered.clone())).after(LATENCY));
        let summary = run_once(ExitCode::Contract, &api, &named(500), &[]).await;
        assert_eq!(
            (api.requests(), summary.totals.products.failed, summary.totals.products.open),
            (20, 0, 500),
            "{body}: {summary}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a4_dead_products_at_the_head_of_a_list_however_many_do_not_hide_the_others() {
    for (dead, alive) in [(22, 5), (1_000, 400), (60, 60)] {
        let api = Scripted::new(move |sent| {
            let number = sent.id[1..].parse::<usize>().unwrap();
            if number < dead { Reply::refusal(400, "no such product") } else { page_of(sent, 1 + number % 7, 10) }
        });
        let summary = run_once(ExitCode::Partial, &api, &named(dead + alive), &[]).await;
        assert_eq!(
            (summary.totals.products.complete, summary.totals.products.failed),
            (alive as u64, dead as u64),
            "{summary}"
        );
        let more = api.requests() - dead - alive;
        assert!(more <= 3, "each once, and {more} to see whether others are refused, too");
    }
}

#[tokio::test(start_paused = true)]
async fn a4_a_rerun_of_a_list_of_dead_products_requests_others_first_until_one_is_found() {
    let directory = scratch();
    let list = named(60);
    let api = Scripted::new(|sent| match sent.id.as_str() {
        "p59" => page_of(sent, 3, 10),
        _ => Reply::refusal(400, "no such product"),
    });
    for requests in [20, 40] {
        let summary = run_to(ExitCode::Contract, directory.path(), &api, &list, &[]).await;
        let message = summary.cause.as_deref().unwrap();
        assert!(
            message.contains("20 products from all over the list") && message.contains("known to exist"),
            "{message}"
        );
        assert_eq!((api.requests(), api.requested().len()), (requests, requests), "each time others");
    }
    let summary = run_to(ExitCode::Partial, directory.path(), &api, &list, &[]).await;
    assert_eq!((summary.totals.products.complete, summary.totals.products.failed), (1, 59), "{summary}");
}

#[tokio::test(start_paused = true)]
async fn a4_once_the_api_gave_a_page_refusals_are_their_products_own_however_many_there_are() {
    let api = Scripted::new(|sent| match sent.id.as_str() {
        "p0" | "p59" => page_of(sent, 3, 10),
        _ => Reply::refusal(404, "no such product"),
    });
    let summary = run_once(ExitCode::Partial, &api, &named(60), &[]).await;
    assert_eq!((summary.totals.products.complete, summary.totals.products.failed), (2, 58), "{summary}");
    assert!(
        (60..=63).contains(&api.requests()),
        "each once, and some to see whether others are refused, too: {summary}"
    );
}

#[tokio::test(start_paused = true)]
async fn a5_a_400_for_one_product_is_not_requested_again_and_is_named() {
    let simulator = simulator("products=30,max_videos=40");
    let list = ids(&simulator);
    for refused in [0, 17, 29] {
        let directory = scratch();
        let id = list[refused].clone();
        let bad = id.clone();
        let api = but(&simulator, move |sent| (sent.id == bad).then(|| Reply::refusal(400, "product_id is invalid")));
        let summary = run_to(ExitCode::Partial, directory.path(), &api, &list, &[]).await;
        assert_eq!(failure(&summary, &id), ("failed", "HTTP 400, code 400: product_id is invalid"));
        assert_eq!((summary.totals.products.complete, api.requested()[&(id.clone(), 1)]), (29, 1));
        let others: Vec<String> = list.iter().filter(|other| **other != id).cloned().collect();
        assert_rows(directory.path(), &expected(&simulator, &others, 10));
    }
}

// --- storms ---------------------------------------------------------------------------------------------------------

/// What an API does wrong: at a time since the first request, to a request.
type Weather = fn(Duration, &Sent) -> Option<Reply>;

/// Requests in flight in the scenarios: also the retries that a run starts with.
const IN_FLIGHT: u32 = 32;

/// A run of 120 products in some weather: it must be complete, with few more requests than pages, in about this time.
/// The name, the embedded API, the asked rate, the weather, seconds.
type Scenario = (&'static str, &'static str, f64, Weather, std::ops::Range<f64>);

fn internal_error() -> Reply {
    Reply::refusal(500, "Internal server error")
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
    ("500s, 10 %", "latency=80ms", 50.0, |_, sent| one_of(sent, 10).then(internal_error), 12.0..30.0),
    ("500s, 15 %", "latency=80ms", 50.0, |_, sent| one_of(sent, 15).then(internal_error), 12.0..40.0),
    (
        "bursts of 500s: two seconds in ten",
        "latency=80ms",
        50.0,
        |at, _| (at.as_secs() % 10 >= 8).then(internal_error),
        13.0..40.0,
    ),
    (
        "broken connections, 8 %, and a burst of them",
        "latency=80ms",
        50.0,
        |at, sent| (at.as_secs() == 5 || one_of(sent, 8)).then(|| Reply::lost(FetchErrorKind::Disconnected)),
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
        let directory = scratch();
        let started = Mutex::new(None);
        let api = Scripted::new({
            let simulator = Arc::clone(&simulator);
            move |sent| {
                let since = sent.at - *started.lock().unwrap().get_or_insert(sent.at);
                weather(since, sent)
                    .map_or_else(|| Reply::from_simulator(&simulator, sent, 10), |reply| reply.after(LATENCY))
            }
        });
        let most = IN_FLIGHT.to_string();
        let context = context(directory.path(), (qps > 0.0).then_some(qps), &[("max_in_flight", &most)]);
        let summary = run_job(&context, &api, &list).await.unwrap();
        assert_ended(&summary, ExitCode::Complete);
        assert_rows(directory.path(), &expected(&simulator, &list, 10));
        let (pages, requests) = (summary.totals.pages.journaled, api.requests() as u64);
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
        let reply = if is_dead(&sent.id) { internal_error() } else { page_of(sent, 25, 10) };
        reply.after(LATENCY)
    });
    let summary = run_once(ExitCode::Partial, &api, &list, &[("max_in_flight", "16")]).await;
    assert_eq!((summary.totals.products.complete, summary.totals.products.failed), (280, 120), "{summary}");
    let requested = api.requested();
    let sent = api.sent();
    // Pages behind ends are requested last, to see whether the API serves.
    let is_sound = |id: &str, page: u32| !is_dead(id) && page <= 3;
    let last_sound = sent.iter().rposition(|sent| is_sound(&sent.id, sent.page)).unwrap();
    let pages = requested.keys().filter(|(id, page)| is_sound(id, *page)).count();
    let firsts: BTreeSet<&str> =
        sent[..last_sound].iter().map(|sent| sent.id.as_str()).filter(|id| is_dead(id)).collect();
    let retries = last_sound + 1 - pages - firsts.len();
    assert!(retries <= pages / 5 + 16, "{retries} retries beside {pages} pages");
    assert!(requested.iter().all(|((id, _), times)| *times == if is_dead(id) { 8 } else { 1 }), "{requested:?}");
}

#[tokio::test(start_paused = true)]
async fn a7_a_429_for_ever_ends_as_a_temporary_failure_and_keeps_everything() {
    for (after, max_outage) in [(0, Duration::from_secs(300)), (25, 2 * HOUR)] {
        let simulator = simulator("products=30,max_videos=40");
        let list = ids(&simulator);
        let directory = scratch();
        let api = but(&simulator, move |sent| (sent.number > after).then(|| Reply::refusal(429, "qps limit exceeded")));
        let summary = run_to(ExitCode::Temporary, directory.path(), &api, &list, &[]).await;
        assert_eq!((summary.totals.credits.billed, summary.totals.products.failed), (after as u64, 0), "{summary}");
        assert_eq!(summary.totals.credits.in_doubt, 0);
        let took = Duration::from_secs_f64(summary.run.seconds);
        assert!((max_outage..max_outage + Duration::from_secs(60)).contains(&took), "{took:?}");
        let in_vain = api.requests() - after;
        assert!(in_vain <= 200, "{in_vain} requests in {took:?}");
        run_to(ExitCode::Complete, directory.path(), &Scripted::direct(&simulator), &list, &[]).await;
        assert_rows(directory.path(), &expected(&simulator, &list, 10));
        assert_no_page_billed_twice(&[&simulator]);
    }
}

#[tokio::test(start_paused = true)]
async fn a8_a_requested_pause_delays_every_request_for_as_long_but_never_longer_than_five_minutes() {
    for (wish, least, most) in [(120, 120.0, 121.0), (1_000_000_000, 300.0, 301.0), (u64::MAX, 300.0, 301.0)] {
        let simulator = simulator("products=30,max_videos=40");
        let list = ids(&simulator);
        let api = but(&simulator, move |sent| {
            let pause = Duration::from_secs(wish);
            (sent.number == 10).then(|| Reply::refusal(429, "qps limit exceeded").with_retry_after(pause))
        });
        run_once(ExitCode::Complete, &api, &list, &[]).await;
        let sent = api.sent();
        let answered = sent[9].at + LATENCY;
        let next = sent.iter().find(|sent| sent.at > answered).unwrap().at;
        let pause = (next - answered).as_secs_f64();
        assert!((least..most).contains(&pause), "{pause} s after a wish for {wish}");
    }
}

#[tokio::test(start_paused = true)]
async fn a10_a_page_that_fails_for_ever_is_named_costs_its_attempts_and_stops_nobody() {
    let simulator = simulator("products=120,max_videos=200");
    let list = ids(&simulator);
    let deep = list.iter().position(|id| simulator.videos(id) > 25).unwrap();
    let (poison, directory) = (list[deep].clone(), scratch());
    let bad = poison.clone();
    let api = but(&simulator, move |sent| (sent.id == bad && sent.page == 3).then(internal_error));
    let summary = run_to(ExitCode::Partial, directory.path(), &api, &list, &[("max_in_flight", "4")]).await;
    let (stop, message) = failure(&summary, &poison);
    assert_eq!((stop, api.requested()[&(poison.clone(), 3)]), ("failed", 8));
    assert!(message.starts_with("page 3 failed 8 times, lastly: HTTP 500"), "{message}");
    assert_eq!(
        (summary.totals.products.complete, summary.totals.rows.published),
        (119, rows(directory.path()).len() as u64)
    );
    let healed = Scripted::direct(&simulator);
    run_to(ExitCode::Complete, directory.path(), &healed, &list, &[]).await;
    assert!(healed.sent().iter().all(|sent| sent.id == poison && sent.page >= 3), "only what is missing is requested");
    assert_rows(directory.path(), &expected(&simulator, &list, 10));
}

#[tokio::test(start_paused = true)]
async fn a10_a_page_that_fails_for_ever_ends_within_minutes_also_when_nothing_else_is_left() {
    for (name, reply) in [
        ("500", internal_error as fn() -> Reply),
        ("broken connection", || Reply::lost(FetchErrorKind::Disconnected)),
        ("502", || Answer::new(502, "<html>Bad Gateway</html>").into()),
    ] {
        let api =
            Scripted::new(
                move |sent| {
                    if sent.id == "p9" { reply().after(Duration::from_secs(1)) } else { page_of(sent, 25, 10) }
                },
            );
        let directory = scratch();
        for _ in 0..2 {
            let before = api.requests();
            let summary = run_to(ExitCode::Partial, directory.path(), &api, &named(10), &[]).await;
            assert_eq!((summary.totals.products.complete, failure(&summary, "p9").0), (9, "failed"), "{name}");
            assert!(summary.run.seconds < 420.0, "{name}: {} s", summary.run.seconds);
            let tries = api.requests() - before - if before == 0 { 27 } else { 0 };
            let expected = if before == 0 { 8..=14 } else { 3..=6 };
            assert!(expected.contains(&tries), "{name}: {tries} attempts, control requests among them");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a11_answers_of_gateways_and_servers_in_trouble_pass() {
    let statuses = [500, 502, 503, 504, 507, 520, 521, 522, 523, 524, 525, 526, 408, 425];
    let simulator = simulator("products=60,max_videos=40");
    let list = ids(&simulator);
    let directory = scratch();
    let api = but(&simulator, move |sent| {
        let status = statuses.get(sent.number.checked_sub(2)? / 3).filter(|_| sent.number.is_multiple_of(3))?;
        Some(Answer::new(*status, "<html>\u{1b}[31mtrouble</html>").into())
    });
    let summary = run_to(ExitCode::Complete, directory.path(), &api, &list, &[]).await;
    assert_eq!(
        (summary.run.retries, summary.totals.credits.in_doubt),
        (14, 14),
        "a bare answer does not say that it was free"
    );
    assert_rows(directory.path(), &expected(&simulator, &list, 10));
}

#[tokio::test(start_paused = true)]
async fn a12_a_code_inside_a_200_means_what_the_status_would() {
    for (code, message, exit) in [
        // Said once, while others are served, it is asked again.
        (401, "apiKey is null", ExitCode::Complete),
        (402, "apiKey quota is not enough", ExitCode::Complete),
        (403, "forbidden", ExitCode::Complete),
        (429, "qps limit exceeded", ExitCode::Complete),
        (500, "Internal server error", ExitCode::Complete),
        (500, "usage limit reached", ExitCode::Complete),
        (400, "product_id is invalid", ExitCode::Partial),
    ] {
        let simulator = simulator("products=20,max_videos=40");
        let list = ids(&simulator);
        let api = but(&simulator, move |sent| {
            let body = json!({"code": code, "message": message, "data": null}).to_string();
            (sent.number == 7).then(|| Answer::new(200, body).into())
        });
        let summary = run_once(exit, &api, &list, &[]).await;
        assert_eq!((summary.totals.credits.free, summary.totals.credits.in_doubt), (1, 0), "{code}: {summary}");
        assert_eq!(summary.run.throttled, u64::from(code == 429));
    }
}

// --- lists that do not behave ---------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn a13_a_success_without_a_list_is_requested_once_more_and_is_never_an_empty_list() {
    let is_first = AtomicBool::new(true);
    let api = Scripted::new(move |sent| match (sent.id.as_str(), sent.page) {
        ("p1", 2) => without_list(), // for ever
        ("p2", 2) if is_first.swap(false, Ordering::Relaxed) => without_list(),
        _ => page_of(sent, 25, 10),
    });
    let summary = run_once(ExitCode::Partial, &api, &named(4), &[("max_in_flight", "1")]).await;
    assert_eq!(failure(&summary, "p1"), ("failed", "HTTP 200, code 0: data is null, not a list of rows; page 2"));
    assert_eq!(
        (summary.totals.products.complete, summary.totals.rows.published),
        (3, 90),
        "what came before and behind it is kept"
    );
    let requested = api.requested();
    assert_eq!((requested[&("p1".to_owned(), 2)], requested[&("p2".to_owned(), 2)]), (2, 2), "{requested:?}");
    assert_eq!((summary.totals.credits.billed, summary.totals.credits.in_doubt), (11, 3), "each may have been billed");
}

/// A control request goes behind a list that ended on a success without a list, which is not in the journal: no page of that
/// list is requested beside it.
#[tokio::test(start_paused = true)]
async fn a13_what_is_left_is_found_to_fail_by_itself_also_where_lists_end_without_a_list() {
    let lost = |_: &Sent| Reply::lost(FetchErrorKind::Disconnected);
    let rows = |sent: &Sent| page_of(sent, 25, 10);
    let null = |_: &Sent| without_list();
    let table: [(_, Says, Says, _, _, _); 4] = [
        ("the page behind is empty", null, null, ExitCode::Partial, 20, 5),
        ("the page behind is lost", lost, null, ExitCode::Partial, 20, 6),
        ("both are lost", lost, lost, ExitCode::Temporary, 20, 9),
        ("it goes on after all", lost, rows, ExitCode::Temporary, 25, 8),
    ];
    for (case, behind, control, exit, published, requested) in table {
        let (directory, ended) = (scratch(), AtomicBool::new(false));
        let message = move |sent: &Sent| match (&*sent.id, sent.page) {
            ("p1", _) => internal_error(),
            ("p0", 3) if ended.swap(true, Ordering::Relaxed) => control(sent),
            ("p0", 3) => without_list(),
            ("p0", 4..) => behind(sent),
            _ => page_of(sent, 20, 10),
        };
        let api = Scripted::new(move |sent| message(sent).after(LATENCY));
        let summary = run_to(exit, directory.path(), &api, &named(2), &[]).await;
        assert_eq!(
            (summary.totals.products.complete, summary.totals.rows.published),
            (1, published),
            "{case}: {summary}"
        );
        let behind = api.sent().iter().filter(|sent| sent.id == "p0" && sent.page > 2).count();
        assert_eq!(behind, requested, "{case}");
    }
}

/// The page behind a success without a list is an empty list: then the API says what is empty, and that was no end.
#[tokio::test(start_paused = true)]
async fn a13_a_success_without_a_list_is_no_end_where_an_empty_list_comes_behind_it_or_ends_another_list() {
    for (case, times, exit, published) in
        [("once", 1, ExitCode::Complete, 30), ("for ever", usize::MAX, ExitCode::Partial, 20)]
    {
        let (directory, requested) = (scratch(), AtomicUsize::new(0));
        let api = Scripted::new(move |sent| match sent.page {
            3 if requested.fetch_add(1, Ordering::Relaxed) < times => without_list(),
            _ => page_of(sent, 30, 10),
        });
        let summary = run_to(exit, directory.path(), &api, &named(1), &[("lookahead", "0")]).await;
        assert_eq!(
            (summary.totals.rows.published, api.requested()[&("p0".to_owned(), 3)]),
            (published, 2),
            "{case}: {summary}"
        );
    }
    let directory = scratch();
    let api = Scripted::new(move |sent| match (&*sent.id, sent.page) {
        ("p0", 3..) => without_list(),
        _ => page_of(sent, 20, 10),
    });
    let summary = run_to(ExitCode::Partial, directory.path(), &api, &named(2), &[("max_in_flight", "1")]).await;
    assert_eq!((summary.totals.products.complete, failure(&summary, "p0").0), (1, "failed"), "{summary}");
}

#[tokio::test(start_paused = true)]
async fn a14_an_envelope_may_spell_its_fields_otherwise_and_bring_more_of_them() {
    let list = named(7);
    let api = Scripted::new(|sent| {
        let rows: Value = serde_json::from_str(&format!("[{}]", row(&sent.id, "v", "ID", 7))).unwrap();
        let mut body = json!({"code": 0, "message": "success", "data": rows, "requestId": "x"});
        match sent.id.as_str() {
            "p1" => body["code"] = "0".into(),
            "p2" => body["message"] = Value::Null,
            "p3" => body["message"] = json!({"text": ["success"]}),
            "p4" => body["cost"] = json!({"credits": 1.5, "data": []}),
            "p5" => drop(body.as_object_mut().unwrap().remove("requestId")),
            "p6" => body["data"][0]["score"] = json!([1, {"a": null}]),
            _ => {}
        }
        Answer::new(200, body.to_string()).into()
    });
    let directory = scratch();
    run_to(ExitCode::Complete, directory.path(), &api, &list, &[]).await;
    let rows = rows(directory.path());
    assert_eq!((rows.len(), api.requests()), (7, 7));
    for ((id, _), row) in rows {
        let extra = if id == "p6" { r#"{"score":[1,{"a":null}]}"#.into() } else { Value::Null };
        assert_eq!((&row["_extra"], &row["total_views_cnt"]), (&extra, &7.into()), "{id}");
    }
}

#[tokio::test(start_paused = true)]
async fn a15_every_list_from_0_to_41_rows_costs_exactly_its_pages_and_one_probe_behind_a_full_last_one() {
    let list = named(42);
    let videos = |id: &str| id[1..].parse::<usize>().unwrap();
    for size in 1..=10 {
        for end in ["short-page", "empty-page"] {
            let api = Scripted::new(move |sent| page_of(sent, videos(&sent.id), size));
            let directory = scratch();
            let more = [("page_size", size.to_string()), ("end", end.to_owned()), ("lookahead", "0".to_owned())];
            let summary =
                export(directory.path(), &api, &list, &more.each_ref().map(|(key, value)| (*key, &**value))).await;
            assert_ended(&summary, ExitCode::Complete);
            assert_eq!(rows(directory.path()).len(), (0..42).sum::<usize>());
            let requested = api.requested();
            for (videos, id) in list.iter().enumerate() {
                let pages = if end == "short-page" { videos / size + 1 } else { videos.div_ceil(size) + 1 };
                let found: Vec<u32> =
                    requested.iter().filter(|((requested, _), _)| requested == id).map(|(_, n)| *n).collect();
                assert_eq!(found, vec![1; pages], "{videos} rows in pages of {size}, {end}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a16_an_api_that_ignores_page_num_costs_two_requests_more_and_says_so() {
    let api = Scripted::new(|sent| page_of(&Sent { page: 1, ..sent.clone() }, 10, 10));
    let directory = scratch();
    let summary = run_to(ExitCode::Partial, directory.path(), &api, &named(3), &[]).await;
    assert_eq!(
        (api.requests(), summary.totals.products.cut, summary.totals.rows.published, summary.totals.rows.duplicates),
        (9, 3, 30, 60)
    );
    assert_eq!(failure(&summary, "p1").0, "repeated_page");
    assert!(failure(&summary, "p1").1.contains("ignore the number of the page"), "{summary}");
    assert!(!directory.path().join("_SUCCESS").exists());
}

#[tokio::test(start_paused = true)]
async fn a17_an_api_that_goes_round_in_circles_costs_two_requests_more_than_the_circle() {
    for circle in 1..=5 {
        let api =
            Scripted::new(move |sent| page_of(&Sent { page: (sent.page - 1) % circle + 1, ..sent.clone() }, 99, 10));
        let directory = scratch();
        let summary = export(directory.path(), &api, &named(1), &[]).await;
        // A circle of one page is an API that ignores the number of the page.
        assert_ended(&summary, if circle == 1 { ExitCode::Partial } else { ExitCode::Complete });
        assert_eq!((api.requests(), summary.totals.rows.published), (circle as usize + 2, u64::from(circle) * 10));
    }
}

#[tokio::test(start_paused = true)]
async fn a18_pages_longer_than_requested_are_kept_and_shorter_ones_are_found_out_to_be_no_ends() {
    let longer = Scripted::new(|sent| page_of(sent, 120, 50));
    let directory = scratch();
    run_to(ExitCode::Complete, directory.path(), &longer, &named(2), &[]).await;
    assert_eq!((longer.requests(), rows(directory.path()).len()), (8, 240), "pages of 50, 50, 20 and none");

    let shorter = Scripted::new(|sent| page_of(sent, 7, 3));
    let directory = scratch();
    let summary =
        run_to(ExitCode::Complete, directory.path(), &shorter, &named(30), &[("max_in_flight", "1"), ("end", "auto")])
            .await;
    assert_eq!((summary.totals.rows.published, summary.totals.rows.duplicates), (210, 0), "{summary}");
}

/// A list that changes whenever it is requested.
#[derive(Debug)]
struct Shifting {
    random: SplitMix64,
    /// The videos of each product at present.
    lists: BTreeMap<String, Vec<u64>>,
    /// Every video that ever was, and those that were gone at some time.
    ever: BTreeSet<(String, String)>,
    gone: BTreeSet<(String, String)>,
    next: u64,
}

impl Shifting {
    fn new(seed: u64, products: &[String]) -> Self {
        let mut random = SplitMix64::seed_from_u64(seed);
        let mut next = 0;
        let mut lists = BTreeMap::new();
        for id in products {
            let count = random.next_u64() % 30;
            lists.insert(id.clone(), (next..next + count).collect::<Vec<_>>());
            next += count;
        }
        let all = lists.iter().flat_map(|(id, list)| list.iter().map(|video| (id.clone(), video.to_string())));
        let ever = all.collect();
        Self { random, lists, ever, gone: BTreeSet::new(), next }
    }

    /// Puts up to so many videos at a list's front, and takes up to so many from anywhere.
    fn change(&mut self, id: &str, inserts: u64, deletes: u64) {
        for _ in 0..self.random.next_u64() % (inserts + 1) {
            self.lists.get_mut(id).unwrap().insert(0, self.next);
            self.ever.insert((id.to_owned(), self.next.to_string()));
            self.next += 1;
        }
        for _ in 0..self.random.next_u64() % (deletes + 1) {
            let list = self.lists.get_mut(id).unwrap();
            if !list.is_empty() {
                let video = list.remove((self.random.next_u64() % list.len() as u64) as usize);
                self.gone.insert((id.to_owned(), video.to_string()));
            }
        }
    }

    fn page(&self, sent: &Sent, size: usize) -> Reply {
        let videos = self.lists[&sent.id].chunks(size).nth(sent.page as usize - 1).unwrap_or_default();
        Reply::page(&videos.iter().map(|video| row(&sent.id, &video.to_string(), "ID", 7)).collect::<Vec<_>>())
    }
}

/// What an export of lists that change makes of them: the model, the summary, and the keys that are published. That no
/// key is published twice is what reading the output checks.
async fn of_shifting(seed: u64, inserts: u64, deletes: u64) -> (Shifting, Summary, BTreeSet<(String, String)>) {
    let list = named(3);
    let model = Arc::new(Mutex::new(Shifting::new(seed, &list)));
    let api = Scripted::new({
        let model = Arc::clone(&model);
        move |sent| {
            let mut model = model.lock().unwrap();
            let reply = model.page(sent, 5);
            model.change(&sent.id, inserts, deletes);
            reply.after(LATENCY)
        }
    });
    let directory = scratch();
    let summary = export(directory.path(), &api, &list, &[("page_size", "5")]).await;
    drop(api);
    let published = rows(directory.path()).into_keys().collect();
    let model = Arc::into_inner(model).unwrap().into_inner().unwrap();
    (model, summary, published)
}

#[tokio::test(start_paused = true)]
async fn a19_rows_that_are_put_in_front_meanwhile_cost_no_other_row_and_come_out_once() {
    let mut duplicates = 0;
    for seed in 0..100 {
        let (model, summary, published) = of_shifting(seed, 2, 0).await;
        assert_ended(&summary, ExitCode::Complete);
        assert!(published.is_subset(&model.ever), "seed {seed}");
        let first: BTreeSet<_> = Shifting::new(seed, &named(3)).ever;
        assert!(first.is_subset(&published), "seed {seed}: a row that was there from the beginning is missing");
        duplicates += summary.totals.rows.duplicates;
    }
    assert!(duplicates > 100, "{duplicates} rows came twice");
}

#[tokio::test(start_paused = true)]
async fn a20_rows_that_go_meanwhile_may_hide_as_many_others_and_none_comes_out_twice() {
    let mut hidden = 0;
    for seed in 0..100 {
        let (model, summary, published) = of_shifting(seed, 1, 2).await;
        assert!(matches!(summary.exit, ExitCode::Complete | ExitCode::Partial), "{summary}");
        assert_ended(&summary, summary.exit);
        assert!(published.is_subset(&model.ever), "seed {seed}");
        let stayed: BTreeSet<_> = Shifting::new(seed, &named(3)).ever.difference(&model.gone).cloned().collect();
        let missing = stayed.difference(&published).count();
        if summary.exit == ExitCode::Complete {
            assert!(missing <= model.gone.len(), "seed {seed}: {missing} missing, {} gone", model.gone.len());
        }
        hidden += missing;
    }
    assert!(hidden > 0, "no deletion hid a row: this shows nothing");
}

#[tokio::test(start_paused = true)]
async fn a21_behind_the_last_page_number_nothing_is_requested_and_the_product_is_cut() {
    let directory = scratch();
    let path = directory.path().join("endpoint.toml");
    let capped = BUILT_IN.replace("last = 100_000", "last = 7");
    assert_ne!(capped, BUILT_IN);
    pagehaul::state::disk::Disk.replace(&path, capped.as_bytes(), pagehaul::state::disk::Access::Shared).unwrap();
    let videos = |id: &str| match id {
        "p0" => 69, // the last page is short
        "p1" => 70, // nobody can know that it is the last
        _ => 200,
    };
    let api = Scripted::new(move |sent| page_of(sent, videos(&sent.id), 10));
    let out = directory.path().join("out");
    let summary = run_to(ExitCode::Partial, &out, &api, &named(3), &[("endpoint", path.to_str().unwrap())]).await;
    assert_eq!(
        (api.requests(), summary.totals.products.complete, summary.totals.products.cut),
        (21, 1, 2),
        "{summary}"
    );
    assert_eq!((summary.totals.rows.published, api.sent().iter().map(|sent| sent.page).max()), (209, Some(7)));
    for id in ["p1", "p2"] {
        assert_eq!(failure(&summary, id).0, "page_cap");
        assert!(failure(&summary, id).1.contains("no page after 7: rows behind it cannot be reached"), "{summary}");
    }
}

#[tokio::test(start_paused = true)]
async fn a22_a_video_on_two_pages_is_one_row_and_one_of_two_products_is_two() {
    let api = Scripted::new(|sent| {
        let videos = if sent.page == 1 { ["same", "x"] } else { ["y", "same"] };
        let full = (sent.page < 3).then(|| videos.map(|video| row(&sent.id, video, "ID", 7)).to_vec());
        Reply::page(&full.unwrap_or_default())
    });
    let directory = scratch();
    let summary = run_to(ExitCode::Complete, directory.path(), &api, &named(2), &[("page_size", "2")]).await;
    let keys: BTreeSet<_> = rows(directory.path()).into_keys().collect();
    let of = |id: &str| ["same", "x", "y"].map(|video| (id.to_owned(), video.to_owned()));
    assert_eq!(keys, [of("p0"), of("p1")].concat().into_iter().collect());
    assert_eq!((summary.totals.rows.received, summary.totals.rows.duplicates), (8, 2));
}

/// The one row of a video that is seen twice, the second time with this region and this count.
async fn seen_twice(region: &'static str, views: u64) -> (Summary, Row) {
    let api = Scripted::new(move |sent| match sent.page {
        1 => Reply::page(&[row(&sent.id, "twice", "ID", 100), row(&sent.id, "x", "ID", 1)]),
        2 => Reply::page(&[row(&sent.id, "twice", region, views), row(&sent.id, "y", "TH", 1)]),
        _ => Reply::page(&[]),
    });
    let directory = scratch();
    let summary = run_to(ExitCode::Complete, directory.path(), &api, &named(1), &[("page_size", "2")]).await;
    (summary, rows(directory.path()).remove(&("p0".to_owned(), "twice".to_owned())).unwrap())
}

#[tokio::test(start_paused = true)]
async fn a23_of_two_sightings_with_other_numbers_the_first_wins_and_the_second_is_counted() {
    let (summary, row) = seen_twice("ID", 999).await;
    assert_eq!(
        (&row["total_views_cnt"], &row["_page_num"], summary.totals.rows.duplicates),
        (&100.into(), &1.into(), 1)
    );
}

#[tokio::test(start_paused = true)]
async fn a24_a_row_whose_region_changes_meanwhile_stays_where_it_was_seen_first() {
    let (summary, row) = seen_twice("TH", 100).await;
    assert_eq!((&row["region"], summary.totals.rows.published, summary.totals.rows.duplicates), (&"ID".into(), 3, 1));
}

#[tokio::test(start_paused = true)]
async fn a25_the_account_is_kept_in_requests_whatever_price_an_answer_names() {
    for price in [json!(0), json!(2.5), json!("free"), Value::Null] {
        let named_price = price.clone();
        let api = Scripted::new(move |sent| {
            let rows: Value = serde_json::from_str(&format!("[{}]", row(&sent.id, "v", "ID", 7))).unwrap();
            let body =
                json!({"code": 0, "message": "success", "data": rows, "credits": named_price, "cost": named_price});
            Answer::new(200, body.to_string()).into()
        });
        let summary = run_once(ExitCode::Limit, &api, &named(9), &[("max_credits", "5")]).await;
        assert_eq!((summary.totals.credits.billed, api.requests()), (5, 5), "{price}");
    }
}

#[tokio::test(start_paused = true)]
async fn a26_answers_that_share_a_request_id_are_different_answers() {
    let api = Scripted::new(|sent| {
        let videos = 1 + sent.number % 3;
        let rows: Vec<_> = (0..videos).map(|video| row(&sent.id, &format!("v{video}"), "ID", 7)).collect();
        let (rows, id) = (rows.join(","), "the-same-for-all");
        let body = format!("{{\"code\":0,\"message\":\"success\",\"data\":[{rows}],\"requestId\":\"{id}\"}}");
        Reply::from(Answer::new(200, body)).after(LATENCY)
    });
    let summary = run_once(ExitCode::Complete, &api, &named(50), &[]).await;
    assert_eq!((summary.totals.rows.published, summary.totals.rows.duplicates, api.requests()), (101, 0, 50));
}

#[tokio::test(start_paused = true)]
async fn pages_without_a_usable_row_end_their_walk_at_the_same_page_however_often_the_run_is_interrupted() {
    let useless = |sent: &Sent| {
        Reply::page(&(0..10).map(|_| row(&sent.id, "", "ID", 7).replace("\"\"", "null")).collect::<Vec<_>>())
    };
    for stop_at in 2..=5 {
        let directory = scratch();
        let answer =
            move |sent: &Sent| if sent.page == 1 { page_of(sent, 10, 10) } else { useless(sent).after(LATENCY) };
        let first = Scripted::stopping_at(stop_at, answer);
        let second = Scripted::new(answer);
        export(directory.path(), &first, &named(1), &[]).await;
        let summary = run_to(ExitCode::Partial, directory.path(), &second, &named(1), &[]).await;
        assert_eq!((first.requests() + second.requests(), failure(&summary, "p0").0), (4, "rejected"), "{stop_at}");
        assert_eq!((summary.totals.rows.published, summary.totals.rows.rejected), (10, 30), "{summary}");
    }
}

// --- outages, and answers that are the same for all -----------------------------------------------------------------

/// Pages of 90 rows for each product, but from `from` to `until` after the first request an outage of this kind.
fn outage(from: Duration, until: Duration, kind: fn(&Sent) -> Reply) -> Arc<Scripted> {
    let started = Mutex::new(None);
    Scripted::new(move |sent| {
        let since = sent.at - *started.lock().unwrap().get_or_insert(sent.at);
        let out = (from..until).contains(&since);
        if out { kind(sent) } else { page_of(sent, 90, 10).after(LATENCY) }
    })
}

/// Requests that left while there was an outage.
fn within(api: &Scripted, from: Duration, until: Duration) -> usize {
    let sent = api.sent();
    let first = sent[0].at;
    sent.iter().filter(|sent| (from..until).contains(&(sent.at - first))).count()
}

type Kind = (&'static str, fn(&Sent) -> Reply);

/// How an API can be gone.
const GONE: [Kind; 5] = [
    ("no connection", |_| Reply::lost(FetchErrorKind::Connect).after(LATENCY)),
    ("broken connections", |_| Reply::lost(FetchErrorKind::Disconnected).after(LATENCY)),
    ("no answer", |_| Reply::never()),
    ("502 of a gateway", |_| Reply::from(Answer::new(502, "<html>Bad Gateway</html>")).after(LATENCY)),
    ("503 of the API", |_| Reply::refusal(503, "Service unavailable").after(LATENCY)),
];

#[tokio::test(start_paused = true)]
async fn n21_an_hour_without_the_api_costs_some_seventy_requests_and_the_run_continues() {
    let (from, until) = (Duration::from_secs(3), HOUR + Duration::from_secs(3));
    for (name, kind) in GONE {
        let rates: &[f64] = if name == "broken connections" { &[5.0, 50.0, 500.0] } else { &[20.0] };
        for qps in rates.iter().copied() {
            let directory = scratch();
            let api = outage(from, until, kind);
            let products = if qps > 50.0 { 200 } else { 40 };
            let context = context(directory.path(), Some(qps), &[("max_in_flight", "32")]);
            let summary = run_job(&context, &api, &named(products)).await.unwrap();
            assert_ended(&summary, ExitCode::Complete);
            assert_eq!(rows(directory.path()).len(), products * 90, "{name}");
            let in_vain = within(&api, from, until);
            // What was in flight when it started, at most 32, and one a minute.
            assert!((40..=72 + 32).contains(&in_vain), "{name} at {qps} a second: {in_vain} requests");
            let took = summary.run.seconds;
            let alone = products as f64 * 10.0 / qps;
            assert!((3_600.0..3_700.0 + 3.0 * alone).contains(&took), "{name} at {qps} a second: {took} s");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn n21_an_hour_without_a_connection_is_waited_for_also_by_the_last_product() {
    let (from, until) = (Duration::from_millis(300), HOUR);
    let api = outage(from, until, GONE[0].1);
    let summary = run_once(ExitCode::Complete, &api, &named(1), &[]).await;
    assert_eq!((summary.totals.rows.published, summary.totals.credits.in_doubt), (90, 0), "{summary}");
    assert!(within(&api, from, until) <= 72, "{summary}");
}

#[tokio::test(start_paused = true)]
async fn n21_an_outage_that_outlasts_max_outage_is_no_product_s_fault_and_the_next_run_continues() {
    for (name, kind) in GONE {
        let directory = scratch();
        let from = Duration::from_secs(3);
        let api = outage(from, 9 * HOUR, kind);
        let summary = run_to(ExitCode::Temporary, directory.path(), &api, &named(40), &[]).await;
        assert_eq!((summary.totals.products.failed, summary.totals.products.cut), (0, 0), "{name}: {summary}");
        let took = summary.run.seconds;
        assert!((7_200.0..7_300.0).contains(&took), "{name}: {took} s");
        let healed = Scripted::new(|sent| page_of(sent, 90, 10));
        run_to(ExitCode::Complete, directory.path(), &healed, &named(40), &[]).await;
        assert_eq!(rows(directory.path()).len(), 3_600);
        assert!(healed.requested().keys().all(|page| !is_page(&api, page, from)), "a page is paid for twice");
    }
}

/// Whether an API gave this page before its outage.
fn is_page(api: &Scripted, page: &(String, u32), from: Duration) -> bool {
    let sent = api.sent();
    let first = sent[0].at;
    sent.iter().any(|sent| (&sent.id, sent.page) == (&page.0, page.1) && sent.at - first < from)
}

#[tokio::test(start_paused = true)]
async fn n21_an_api_that_is_gone_from_the_start_is_given_up_after_five_minutes() {
    for (name, kind) in GONE {
        let api = Scripted::new(kind);
        let summary = run_once(ExitCode::Temporary, &api, &named(40), &[]).await;
        assert_eq!((summary.totals.products.failed, summary.totals.products.open), (0, 40), "{name}: {summary}");
        assert!((295.0..400.0).contains(&summary.run.seconds), "{name}: {summary}");
        assert!(api.requests() <= 20, "{name}: {} requests", api.requests());
    }
}

#[tokio::test(start_paused = true)]
async fn n21_one_page_that_fails_is_not_the_only_probe() {
    let poison = "p0";
    let (from, until) = (Duration::from_secs(3), Duration::from_secs(200));
    let started = Mutex::new(None);
    let api = Scripted::new(move |sent| {
        let since = sent.at - *started.lock().unwrap().get_or_insert(sent.at);
        let out = (from..until).contains(&since) || sent.id == poison && sent.page == 2;
        if out { GONE[3].1(sent) } else { page_of(sent, 90, 10).after(LATENCY) }
    });
    let summary = run_once(ExitCode::Partial, &api, &named(40), &[("max_in_flight", "5")]).await;
    assert_eq!((summary.totals.products.complete, failure(&summary, poison).0), (39, "failed"), "{summary}");
    assert!(summary.run.seconds < 500.0, "{summary}");
}

#[tokio::test(start_paused = true)]
async fn the_same_500_to_every_product_from_the_start_is_a_wrong_question_and_costs_twenty_requests() {
    let api = Scripted::new(|sent| {
        let message = format!("no shard for product {}, trace 7f{:x}-{}", sent.id, sent.number, sent.number);
        Reply::refusal(500, &message).after(LATENCY)
    });
    let summary = run_once(ExitCode::Contract, &api, &named(500), &[]).await;
    assert_eq!(
        (api.requests(), summary.totals.products.failed, summary.totals.products.open),
        (20, 0, 500),
        "{summary}"
    );
    assert!(
        summary.cause.as_ref().unwrap().contains("no product got a page; the last response: HTTP 500"),
        "{summary}"
    );
    assert!(summary.run.seconds < 30.0, "{summary}");
}

#[tokio::test(start_paused = true)]
async fn a_500_to_every_one_of_few_products_from_the_start_is_not_requested_again_and_again() {
    let api = Scripted::new(|_| internal_error().after(LATENCY));
    let summary = run_once(ExitCode::Temporary, &api, &named(12), &[]).await;
    assert_eq!((summary.totals.products.failed, summary.totals.products.open), (0, 12), "{summary}");
    assert!((12..=30).contains(&api.requests()), "{summary}");
    assert!((295.0..330.0).contains(&summary.run.seconds), "{summary}");
}

#[tokio::test(start_paused = true)]
async fn the_same_500_to_every_product_from_some_page_on_ends_the_run_within_some_twenty_requests_and_fails_no_product()
{
    for (from, qps, most) in [(60, 50.0, "32"), (60, 500.0, "256"), (400, 5.0, "4")] {
        let directory = scratch();
        let api = Scripted::new(move |sent| {
            let reply = if sent.number < from {
                page_of(sent, 25, 10)
            } else {
                Reply::refusal(500, &format!("cannot read {}", sent.id.replace('p', "0x")))
            };
            reply.after(LATENCY)
        });
        let context = context(directory.path(), Some(qps), &[("max_in_flight", most)]);
        let summary = run_job(&context, &api, &named(500)).await.unwrap();
        assert_ended(&summary, ExitCode::Temporary);
        let in_vain = api.requests() + 1 - from;
        // Twenty products, and what was in flight when the first of them had failed: 25 at 500 a second.
        assert!((20..=20 + 30).contains(&in_vain), "{in_vain} requests in vain");
        assert_eq!((summary.totals.products.failed, summary.totals.products.cut), (0, 0), "{summary}");
        assert!(summary.cause.as_ref().unwrap().contains("the same response"), "{summary}");
        let healed = Scripted::new(|sent| page_of(sent, 25, 10));
        run_to(ExitCode::Complete, directory.path(), &healed, &named(500), &[]).await;
        assert_eq!(healed.requests() + from - 1, 1_500, "no page is requested again");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_somebody_else_half_way_is_waited_for_and_no_page_is_requested_more_than_twice() {
    for (seconds, exit) in [(60, ExitCode::Complete), (40_000, ExitCode::Temporary)] {
        let from = Duration::from_secs(3);
        let portal = |_: &Sent| Reply::from(Answer::new(200, "<html>Please log in.</html>")).after(LATENCY);
        let api = outage(from, Duration::from_secs(seconds), portal);
        let summary = run_once(exit, &api, &named(40), &[]).await;
        assert_eq!(summary.totals.products.failed, 0, "{summary}");
        assert!(api.requested().values().all(|times| *times <= 2), "it may have been billed");
        assert!(within(&api, from, Duration::from_secs(seconds)) <= 40, "{summary}");
    }
}

#[tokio::test(start_paused = true)]
async fn max_outage_does_not_end_before_an_answer_could_come_to_what_was_sent_after_a_wait_that_the_server_requested() {
    for (status, wish) in [(429, 300), (429, 3_600), (503, 300)] {
        for refused in [1, usize::MAX] {
            let directory = scratch();
            let api = Scripted::new(move |sent| {
                let refusal = Reply::refusal(status, "later").with_retry_after(Duration::from_secs(wish));
                if sent.number <= refused { refusal.after(LATENCY) } else { page_of(sent, 3, 10).after(LATENCY) }
            });
            let summary = export(directory.path(), &api, &named(1), &[]).await;
            assert_eq!(api.requests(), 2, "{status}: {summary}");
            assert!((300.0..302.0).contains(&summary.run.seconds), "{status}: {summary}");
            assert_ended(&summary, if refused == 1 { ExitCode::Complete } else { ExitCode::Temporary });
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_that_a_503_asks_to_wait_is_requested_no_sooner_and_delays_no_other() {
    let api = Scripted::new(|sent| {
        let refusal = Reply::refusal(503, "busy").with_retry_after(Duration::from_secs(20));
        let videos = 1 + sent.number % 7;
        if sent.id == "p3" && sent.number < 20 { refusal } else { page_of(sent, videos, 10) }.after(LATENCY)
    });
    let summary = run_once(ExitCode::Complete, &api, &named(40), &[]).await;
    let sent = api.sent();
    let requested: Vec<&Sent> = sent.iter().filter(|sent| sent.id == "p3").collect();
    assert_eq!(requested.len(), 2, "{summary}");
    assert!((20.0..21.0).contains(&(requested[1].at - requested[0].at).as_secs_f64()), "{summary}");
    assert!(sent.iter().filter(|sent| sent.at < requested[1].at).count() == 40, "the others continued");
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_probed_no_sooner_than_the_server_permits() {
    let down = |_: &Sent| {
        let refusal = Reply::refusal(503, "down").with_retry_after(Duration::from_secs(50));
        refusal.after(LATENCY)
    };
    let (from, until) = (Duration::from_secs(3), Duration::from_secs(400));
    let api = outage(from, until, down);
    run_once(ExitCode::Complete, &api, &named(40), &[]).await;
    let probes = within(&api, from + Duration::from_secs(1), until);
    assert!((6..=8).contains(&probes), "{probes} probes in 400 s");
}

#[tokio::test(start_paused = true)]
async fn many_products_that_always_fail_are_their_own_failures_in_every_run() {
    let is_dead = |id: &str| id[1..].parse::<u32>().unwrap() % 4 == 1;
    let directory = scratch();
    for round in 0..3 {
        let api = Scripted::new(move |sent| {
            let reply = if is_dead(&sent.id) { internal_error() } else { page_of(sent, 25, 10) };
            reply.after(LATENCY)
        });
        let summary = run_to(ExitCode::Partial, directory.path(), &api, &named(160), &[]).await;
        assert_eq!((summary.totals.products.complete, summary.totals.products.failed), (120, 40), "{summary}");
        let others = api.sent().iter().filter(|sent| !is_dead(&sent.id)).count();
        assert!(round == 0 || others <= 3, "pages behind ends, to see whether the API serves: {others}");
        // What was given up before is given up sooner, once pages behind ends showed that the API serves.
        let tries = |id: &str| {
            if !is_dead(id) {
                1..=1
            } else if round == 0 {
                8..=8
            } else {
                3..=6
            }
        };
        assert!(api.requested().iter().all(|((id, _), times)| tries(id).contains(times)), "{:?}", api.requested());
    }
}

#[tokio::test(start_paused = true)]
async fn max_credits_apply_also_where_answers_are_lost_and_the_summary_counts_each_attempt_once() {
    let simulator = simulator("products=40,max_videos=100,errors=0.1");
    let list = ids(&simulator);
    let directory = scratch();
    let mut most = 20;
    let in_doubt = loop {
        let api = Scripted::new({
            let simulator = Arc::clone(&simulator);
            move |sent| {
                let reply = Reply::from_simulator(&simulator, sent, 10).after(LATENCY);
                if sent.number % 9 == 4 { Reply::lost(FetchErrorKind::Disconnected).after(LATENCY) } else { reply }
            }
        });
        let summary = export(directory.path(), &api, &list, &[("max_credits", &most.to_string())]).await;
        let (account, credits) = (simulator.account(), summary.totals.credits);
        assert!(account.pages <= most && credits.billed + credits.in_doubt <= most, "{summary}");
        assert_eq!(account.requests, credits.billed + credits.free + credits.in_doubt, "{summary}");
        assert!(credits.billed <= account.pages && account.pages <= credits.billed + credits.in_doubt);
        if summary.exit == ExitCode::Complete {
            break credits.in_doubt;
        }
        assert_ended(&summary, ExitCode::Limit);
        most += 30;
    };
    assert!(in_doubt > 5, "{in_doubt} answers were lost");
    assert_rows(directory.path(), &expected(&simulator, &list, 10));
}
