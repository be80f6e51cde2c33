//! Deep lists: how long an export of few very long lists takes, what looking for their ends costs, and what an API is not
//! paid for that answers any page number. In virtual time. `PAGEHAUL_CASES=10` plays the lists ten times as large.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use crate::common::scripted::{Reply, Scripted, Sent, run_job};
use crate::common::{Answer, context, rows, scratch};
use pagehaul::error::ExitCode;
use pagehaul::input::size_hints::SizeHints;
use pagehaul::report::summary::Summary;
use serde_json::json;

const LATENCY: Duration = Duration::from_millis(80);
/// Where page numbers end, in the endpoint of the test data.
const LAST: u32 = 1_000;

/// Pages ahead at any price.
const AHEAD: [(&str, &str); 2] = [("lookahead", "100"), ("lookahead_saves", "0s")];

/// A page of one row.
fn full(sent: &Sent, number: u32) -> Reply {
    let row = json!({ "video_id": format!("v{number}"), "product_id": sent.id, "region": "ID" });
    Reply::page(&[row.to_string()]).after(LATENCY)
}

/// The pages of a product, which its name ends with.
fn depth(id: &str) -> u32 {
    id.rsplit('-').next().unwrap().parse().unwrap()
}

/// Products with so many pages, of a row each.
fn lists(depths: impl IntoIterator<Item = u32>) -> Vec<String> {
    depths.into_iter().enumerate().map(|(at, depth)| format!("p{at}-{depth}")).collect()
}

/// An API whose lists are as deep as their names say.
fn honest() -> Arc<Scripted> {
    Scripted::new(
        |sent| if sent.page <= depth(&sent.id) { full(sent, sent.page) } else { Reply::page(&[]).after(LATENCY) },
    )
}

async fn walk(
    api: &Arc<Scripted>,
    list: &[String],
    qps: Option<f64>,
    more: &[(&str, &str)],
) -> (tempfile::TempDir, Summary) {
    let directory = scratch();
    let more = [&[("page_size", "1")], more].concat();
    let summary = run_job(&context(directory.path(), qps, &more), api, list).await.unwrap();
    (directory, summary)
}

/// How many pages of its deepest list an export requested one after the other before it looked ahead.
fn walked(api: &Scripted, id: &str) -> u32 {
    let mut next = 1;
    for sent in api.sent().iter().filter(|sent| sent.id == id) {
        if sent.page > next {
            return next;
        }
        next = sent.page + 1;
    }
    next
}

/// How much larger than usual the lists are.
fn scale() -> u32 {
    std::env::var("PAGEHAUL_CASES").map_or(1, |times| times.parse().unwrap())
}

#[tokio::test(start_paused = true)]
async fn an_export_takes_no_longer_than_its_rate_its_slots_or_its_deepest_list_demand_and_wastes_no_more_than_a_hundredth()
 {
    let large = 2_000 * scale();
    let small = large / 10;
    // The n-th list is an n-th of the first as long (Zipf), down to a page.
    let zipf: Vec<u32> = (1..=small).map(|rank| large / 4 / rank).collect();
    let qps = 50.0 * f64::from(scale());
    let cases: [(&str, Vec<u32>, f64, u32); 8] = [
        ("one deep list alone", vec![large], qps, 256),
        ("one that reaches the API's last page", vec![LAST], 20.0, 256),
        ("one deep among many small", std::iter::once(large).chain((0..small).map(|at| at % 7)).collect(), qps, 256),
        ("the deep one comes last", (0..small).map(|at| at % 7).chain([large]).collect(), qps, 256),
        ("Zipf", zipf.clone(), qps, 256),
        ("Zipf, few slots", zipf, 5_000.0, 4 * scale()),
        ("all equal", vec![20; small as usize], qps, 256),
        ("all empty", vec![0; small as usize], qps, 256),
    ];
    println!("| lists | requests | fewest | wasted | seconds | bound | ratio |\n|---|---|---|---|---|---|---|");
    for (name, depths, qps, slots) in cases {
        let api = honest();
        let list = lists(depths.iter().copied());
        let (slots_text, endpoint) =
            (slots.to_string(), concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/endpoint.toml"));
        let mut more = vec![("max_in_flight", &*slots_text), ("allow_empty", "true")];
        if depths.contains(&LAST) {
            more.push(("endpoint", endpoint));
        }
        let (_directory, summary) = walk(&api, &list, Some(qps), &more).await;
        let deepest = list.iter().max_by_key(|id| depth(id)).unwrap();
        let requests = u64::try_from(api.requests()).unwrap();
        let capped = u64::try_from(depths.iter().filter(|depth| **depth == LAST).count()).unwrap();
        let full: u64 = depths.iter().map(|depth| u64::from(*depth)).sum();
        let fewest = full + u64::try_from(list.len()).unwrap() - capped; // and the page that shows each end
        let latency = LATENCY.as_secs_f64();
        let chain = f64::from(walked(&api, deepest)) + 2.0 * f64::from(depth(deepest).max(1)).log2();
        let all = requests as f64;
        let bound = (all / qps).max(all * latency / f64::from(slots)).max(chain * latency);
        let (took, wasted) = (summary.run.seconds, requests - fewest);
        println!("| {name} | {requests} | {fewest} | {wasted} | {took:.1} | {bound:.1} | {:.3} |", took / bound);
        assert_eq!(
            (summary.totals.products.complete + capped, summary.totals.rows.published),
            (summary.totals.products.total, full)
        );
        assert!(took <= 1.1 * bound, "{name}: {took} s where {bound} s are the bound");
        assert!(wasted <= (fewest / 100).max(1), "{name}: {requests} requests where {fewest} are enough");
        assert_eq!(summary.run.wasted, wasted, "{name}: {summary}");
    }
}

#[tokio::test(start_paused = true)]
async fn on_a_list_that_does_not_move_the_rows_are_the_same_however_far_it_is_looked_ahead() {
    let list = lists([1, 2, 7, 8, 9, 15, 16, 17, 31, 64, 100, 333, 0]);
    let mut found = BTreeMap::new();
    for percent in ["0", "1", "5", "100"] {
        for end in ["short-page", "empty-page"] {
            let api = honest();
            let (directory, summary) =
                walk(&api, &list, None, &[("lookahead", percent), ("lookahead_saves", "0s"), ("end", end)]).await;
            assert_eq!(summary.exit, ExitCode::Complete);
            assert!(api.requested().values().all(|times| *times == 1), "nothing is requested twice");
            let pages: BTreeMap<_, _> =
                rows(directory.path()).into_iter().map(|(key, row)| (key, row["_page_num"].clone())).collect();
            assert_eq!(&pages, found.entry(end).or_insert_with(|| pages.clone()), "{percent} %");
            assert_eq!(summary.run.wasted == 0, percent == "0" || api.requests() == 13 + 603, "{percent} %: {summary}");
        }
    }
    assert_eq!(found["short-page"], found["empty-page"]);
}

/// Runs an export with what a source says of sizes.
async fn with_sizes(list: &[String], sizes: SizeHints, lookahead: &str) -> (tempfile::TempDir, Summary) {
    let directory = scratch();
    let mut context = context(directory.path(), Some(50.0), &[("page_size", "1"), ("lookahead", lookahead)]);
    context.sizes.push(sizes);
    let summary = run_job(&context, &honest(), list).await.unwrap();
    (directory, summary)
}

#[tokio::test(start_paused = true)]
async fn sizes_from_an_earlier_export_spare_the_search_and_those_that_are_wrong_cost_no_row() {
    let list = lists([900, 400, 3]);
    let (earlier, first) = walk(&honest(), &list, Some(50.0), &[]).await;
    let (directory, with_hints) = with_sizes(&list, SizeHints::Export(earlier.path().to_owned()), "1").await;
    assert_eq!(rows(directory.path()).len(), 1_303);
    assert!(
        with_hints.run.wasted <= first.run.wasted && with_hints.run.seconds <= first.run.seconds,
        "{first}\n{with_hints}"
    );

    for message in ["1", "8", "9", "450", "899", "901", "5000", "99999999999999999999", "many", "-1", ""] {
        let table = earlier.path().join("sizes.csv");
        let lines: Vec<String> = list.iter().map(|id| format!("{id},{message}")).collect();
        let mut file = std::fs::File::create(&table).unwrap();
        writeln!(file, "id,rows\n{}", lines.join("\n")).unwrap();
        let column = SizeHints::Column { table, ids: "id".to_owned(), rows: "rows".to_owned() };
        let (directory, summary) = with_sizes(&list, column, "1").await;
        assert_eq!(summary.exit, ExitCode::Complete, "{message}: {summary}");
        assert_eq!(rows(directory.path()).len(), 1_303, "{message}: {summary}");
        assert!(summary.run.wasted <= 13 + 3, "{message}: {summary}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_api_that_answers_any_page_number_costs_a_handful_of_credits_and_no_row() {
    type Shown = fn(u32, u32) -> u32;
    let kinds: [(&str, Shown); 2] = [
        ("the last page again", |page, last| page.min(last)),
        ("the first page again", |page, last| if page > last { 1 } else { page }),
    ];
    for (name, shown) in kinds {
        for last in [1, 2, 8, 9, 30, 64, 100, 999] {
            let api = Scripted::new(move |sent| full(sent, shown(sent.page, last)));
            let (directory, summary) = walk(&api, &lists([last]), None, &AHEAD).await;
            let about = format!("{name}, {last} pages: {summary}");
            // Where every page is the first one, the API may as well ignore the number of the page.
            assert_eq!(summary.exit, if last == 1 { ExitCode::Partial } else { ExitCode::Complete }, "{about}");
            assert_eq!(rows(directory.path()).len(), last as usize, "{about}");
            assert!(api.requests() <= last as usize + 2 + 16, "{about}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_that_grows_by_a_page_while_it_is_walked_is_walked_to_its_end() {
    // From the hundredth request on there is a page of new rows in front: what was page 99 is page 100 now.
    let api = Scripted::new(|sent| {
        let shift = u32::from(sent.number > 100);
        let last = depth(&sent.id) + shift;
        if sent.page <= last {
            full(sent, (sent.page + 1_000).saturating_sub(shift))
        } else {
            Reply::page(&[]).after(LATENCY)
        }
    });
    let (directory, summary) = walk(
        &api,
        &lists([500]),
        Some(50.0),
        &[("lookahead", "100"), ("lookahead_saves", "0s"), ("max_in_flight", "8")],
    )
    .await;
    // Pages that were read before repeat rows in the middle, which is no end.
    assert!(api.sent().iter().any(|sent| sent.page == 501), "{summary}");
    assert!(summary.totals.rows.duplicates > 0 && rows(directory.path()).len() >= 490, "{summary}");
}

#[tokio::test(start_paused = true)]
async fn an_api_that_ignores_the_page_number_is_requested_three_times() {
    let api = Scripted::new(|sent| full(sent, 1));
    let (_directory, summary) = walk(&api, &lists([1]), None, &AHEAD).await;
    assert_eq!((api.requests(), summary.totals.failures[0].stop_reason), (3, "repeated_page"));
}

#[tokio::test(start_paused = true)]
async fn where_the_api_refuses_pages_from_some_number_on_the_walk_ends_there_and_keeps_all_before() {
    for last in [5, 40, 333] {
        let api = Scripted::new(move |sent| {
            let reply =
                if sent.page <= last { full(sent, sent.page) } else { Reply::refusal(400, "page_num is too large") };
            reply.after(LATENCY)
        });
        let (directory, summary) = walk(&api, &lists([999]), None, &AHEAD).await;
        // Of a single list nobody can know whether it ends there or whether the API goes no further.
        assert_eq!((summary.exit, summary.totals.products.complete), (ExitCode::Complete, 1), "{summary}");
        assert_eq!(rows(directory.path()).len(), last as usize, "{summary}");
        assert_eq!(summary.totals.credits.billed, u64::from(last), "a refusal is free: {summary}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_behind_the_end_that_is_refused_early_costs_none_of_the_pages_before_it() {
    // The page behind the last full one is known to be needed while others before it are still to be requested.
    for late in 9..=20 {
        for (stop_at, slots) in [(usize::MAX, "2"), (14, "2"), (20, "3"), (24, "2")] {
            let answer = move |sent: &Sent| {
                let reply = if sent.page <= 20 { full(sent, sent.page) } else { Reply::refusal(400, "no such page") };
                reply.after(if sent.page == late { LATENCY * 9 } else { LATENCY })
            };
            let (directory, list) = (scratch(), lists([20]));
            let settings =
                [("page_size", "1"), ("lookahead", "100"), ("lookahead_saves", "0s"), ("max_in_flight", slots)];
            let context = context(directory.path(), None, &settings);
            run_job(&context, &Scripted::stopping_at(stop_at, answer), &list).await.unwrap();
            let summary = run_job(&context, &Scripted::new(answer), &list).await.unwrap();
            let found = (summary.exit, rows(directory.path()).len());
            assert_eq!(found, (ExitCode::Complete, 20), "{late} late, stopped at {stop_at}: {summary}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_api_says_of_a_page_behind_the_end_stops_no_run_and_is_requested_once() {
    for (status, message) in [(402, "not enough credits"), (403, "page beyond your plan"), (302, "moved")] {
        let api = Scripted::new(move |sent| match sent.page {
            page if page <= 12 => full(sent, page),
            13 => Reply::page(&[]).after(LATENCY),
            _ => Reply::refusal(status, message).after(LATENCY),
        });
        let (directory, summary) = walk(&api, &lists([12]), None, &AHEAD).await;
        assert_eq!((summary.exit, rows(directory.path()).len()), (ExitCode::Complete, 12), "{status}: {summary}");
    }
    // A success without a page may have been billed: a probe that gets one is not requested again.
    let api = Scripted::new(|sent| match sent.page {
        page if page <= 12 => full(sent, page),
        13 => Reply::page(&[]).after(LATENCY),
        _ => Reply::from(Answer::new(200, "<html></html>")).after(LATENCY),
    });
    let (_directory, summary) = walk(&api, &lists([12]), None, &AHEAD).await;
    assert_eq!(summary.exit, ExitCode::Complete, "{summary}");
    assert!(api.requested().values().all(|times| *times == 1) && summary.run.wasted >= 1, "{summary}");
}

#[tokio::test(start_paused = true)]
async fn a_page_that_is_short_among_full_ones_is_no_end_while_new_rows_are_known_to_lie_behind_it() {
    // Every order in which the pages around a short one may come, and a run that is stopped in between.
    for late in 9..=17_u32 {
        for stop_at in [usize::MAX, 14, 20] {
            let two = |sent: &Sent| {
                let rows = [2 * sent.page, 2 * sent.page + 1];
                rows.map(|video| {
                    json!({ "video_id": format!("v{video}"), "product_id": sent.id, "region": "ID" }).to_string()
                })
            };
            let answer = move |sent: &Sent| {
                let rows = if sent.page <= 40 { two(sent).to_vec() } else { Vec::new() };
                let rows = if sent.page == 10 { &rows[..1] } else { &rows[..] };
                Reply::page(rows).after(if sent.page == late { LATENCY * 9 } else { LATENCY })
            };
            let directory = scratch();
            let settings =
                [("page_size", "2"), ("lookahead", "100"), ("lookahead_saves", "0s"), ("max_in_flight", "32")];
            let context = context(directory.path(), None, &settings);
            run_job(&context, &Scripted::stopping_at(stop_at, answer), &lists([40])).await.unwrap();
            let summary = run_job(&context, &Scripted::new(answer), &lists([40])).await.unwrap();
            let found = rows(directory.path()).len();
            // A run that is stopped before any page behind it came knows of none.
            assert!(
                found == 79 || found == 19 && stop_at < 20,
                "{found} rows, {late} late, stopped at {stop_at}: {summary}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_ahead_that_fails_for_ever_ends_no_walk_that_can_do_without_it() {
    let api = Scripted::new(|sent| match sent.page {
        18 | 200 => Reply::refusal(500, "Internal server error").after(LATENCY),
        page if page <= 12 => full(sent, page),
        _ => Reply::page(&[]).after(LATENCY),
    });
    let more = [("lookahead", "100"), ("lookahead_saves", "0s"), ("retry_attempts", "2"), ("max_outage", "30s")];
    let (directory, summary) = walk(&api, &lists([12]), None, &more).await;
    assert_eq!((summary.exit, rows(directory.path()).len()), (ExitCode::Complete, 12), "{summary}");
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_stopped_while_it_looks_ahead_continues_where_it_was_and_requests_no_page_twice() {
    let list = lists([700, 3, 50]);
    let directory = scratch();
    let mut requested: BTreeMap<(String, u32), u32> = BTreeMap::new();
    for stop_at in [5, 20, 40, 60, 200, usize::MAX] {
        let api = Scripted::stopping_at(stop_at, |sent| {
            if sent.page <= depth(&sent.id) { full(sent, sent.page) } else { Reply::page(&[]).after(LATENCY) }
        });
        let settings = [("page_size", "1"), ("lookahead", "100"), ("lookahead_saves", "0s"), ("max_in_flight", "32")];
        let summary = run_job(&context(directory.path(), None, &settings), &api, &list).await.unwrap();
        let wanted = if stop_at == usize::MAX { ExitCode::Complete } else { ExitCode::Interrupted };
        assert_eq!(summary.exit, wanted, "{summary}");
        for (page, times) in api.requested() {
            *requested.entry(page).or_default() += times;
        }
    }
    assert_eq!(rows(directory.path()).len(), 753);
    let twice: Vec<_> = requested.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
}

#[tokio::test(start_paused = true)]
async fn a_walk_whose_end_a_crash_kept_from_the_ledger_is_ended_by_the_next_run_and_blocks_nobody() {
    let (directory, list) = (scratch(), lists([12]));
    let settings = [("page_size", "1"), ("lookahead", "100"), ("lookahead_saves", "0s")];
    // The probe at page 18 never comes back.
    let hanging = Scripted::new(|sent| match sent.page {
        18 => Reply::never(),
        page if page <= 12 => full(sent, page),
        _ => Reply::page(&[]).after(LATENCY),
    });
    let (context, api) = (context(directory.path(), None, &settings), honest());
    let crashed = tokio::time::timeout(Duration::from_secs(20), run_job(&context, &hanging, &list)).await;
    assert!(crashed.is_err() && hanging.requests() == 14, "{} requests", hanging.requests());
    // The first run after it reads the walk again. By the second one its pages are published, and not read again; versions
    // that published a segment while responses were in flight left it open then.
    for is_read_again in [true, false] {
        if !is_read_again {
            let ledger = rusqlite::Connection::open(directory.path().join("_pagehaul/ledger.sqlite")).unwrap();
            let ledger = pagehaul::state::ledger::configure(ledger).unwrap();
            assert_eq!(ledger.execute("UPDATE items SET state = 1, stop = NULL WHERE state = 2", []).unwrap(), 1);
        }
        let again = tokio::time::timeout(Duration::from_secs(600), run_job(&context, &api, &list));
        let summary = again.await.unwrap().unwrap();
        let came = (summary.exit, summary.run.requests, rows(directory.path()).len());
        assert_eq!(came, (ExitCode::Complete, 0, 12), "read again: {is_read_again}: {summary}");
    }
}
