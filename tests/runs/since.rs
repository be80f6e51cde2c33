//! Exports that continue an earlier one: lists that gain rows at their end, lose some, or change in ways that nobody can see
//! without reading them. In virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand_core::{Rng, SeedableRng};
use rand_xoshiro::SplitMix64;

use crate::common::scripted::{Reply, Scripted, Sent, run_job};
use crate::common::{Key, built_in_context, rows, scratch};
use pagehaul::error::{Error, ExitCode};
use pagehaul::report::summary::Summary;
use serde_json::{Value, json};

/// Rows of each list, in the order of the API: numbers of videos.
type Lists = BTreeMap<String, Vec<u32>>;

const PAGE: usize = 10;

struct Random(SplitMix64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        (self.0.next_u64() % limit.max(1) as u64) as usize
    }
}

fn random(seed: u64) -> Random {
    Random(SplitMix64::seed_from_u64(seed))
}

/// Lists of 0 to 99 rows, many of them shorter than two pages or full to the row.
fn lists(random: &mut Random, count: usize) -> Lists {
    let length = |random: &mut Random| match random.below(4) {
        0 => random.below(12),
        1 => PAGE * random.below(6),
        _ => random.below(100),
    };
    (0..count).map(|at| (format!("{}", 1_000 + at), (0..length(random) as u32).collect())).collect()
}

/// An API that has these rows. `day`: what each row says, so that a row shows when it was read.
fn api(lists: &Lists, day: u32) -> Arc<Scripted> {
    let lists = lists.clone();
    Scripted::new(move |sent| respond(&lists, day, sent))
}

fn respond(lists: &Lists, day: u32, sent: &Sent) -> Reply {
    let from = (sent.page as usize - 1) * PAGE;
    let row = |video: &u32| {
        let region = if video.is_multiple_of(3) { "ID" } else { "TH" };
        let text = json!({ "video_id": video.to_string(), "product_id": sent.id, "region": region, "video_desc": format!("day {day}") });
        text.to_string()
    };
    Reply::page(&lists[&sent.id].iter().skip(from).take(PAGE).map(row).collect::<Vec<_>>())
}

async fn export(
    out: &Path,
    (snapshot, since): (&str, Option<&str>),
    api: &Arc<Scripted>,
    more: &[(&str, &str)],
) -> Result<Summary, Error> {
    let own =
        [("snapshot", snapshot), ("since", since.unwrap_or("none")), ("sort", "create_time:asc"), ("lookahead", "0")];
    let list: Vec<String> = (1_000..1_060).map(|id| id.to_string()).collect();
    run_job(&built_in_context(out, None, &[&own[..], more].concat()), api, &list).await
}

fn keys(out: &Path, snapshot: &str) -> BTreeMap<Key, String> {
    let text = |row: &serde_json::Map<String, Value>| row["video_desc"].as_str().unwrap().to_owned();
    rows(&out.join(format!("snapshot={snapshot}"))).into_iter().map(|(key, row)| (key, text(&row))).collect()
}

fn expected(lists: &Lists) -> BTreeSet<Key> {
    let of =
        |(id, rows): (&String, &Vec<u32>)| rows.iter().map(|row| (id.clone(), row.to_string())).collect::<Vec<_>>();
    lists.iter().flat_map(of).collect()
}

/// The credits of this export, and what it says about the earlier one.
fn continued(summary: &Summary) -> (u64, Value) {
    let summary = serde_json::to_value(summary).unwrap();
    (summary["credits"]["billed"].as_u64().unwrap(), summary["continued"].clone())
}

/// Some lists gain rows at their end, some lose rows anywhere, some do both.
fn grow_and_lose(lists: &mut Lists, random: &mut Random, next: &mut u32) {
    for rows in lists.values_mut() {
        let (gained, lost) = match random.below(6) {
            0 | 1 => (0, 0),
            2 | 3 => (random.below(4), 0),
            4 => (random.below(25), random.below(12)),
            _ => (0, random.below(3)),
        };
        for _ in 0..lost.min(rows.len()) {
            let at = random.below(rows.len());
            rows.remove(at);
        }
        for _ in 0..gained {
            rows.push(*next);
            *next += 1;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_lists_gain_at_their_end_or_lose_anywhere_a_continued_export_has_the_keys_of_a_full_one() {
    let (mut kept, mut whole) = (0, 0);
    for seed in 0..40 {
        let (out, mut random, mut next) = (scratch(), random(seed), 10_000);
        let mut lists = lists(&mut random, 60);
        let end = ["auto", "short-page", "empty-page"][random.below(3)];
        let more = [("end", end), ("segment_size", ["2GiB", "20KiB"][random.below(2)]), ("since_check", "0")];
        export(out.path(), ("a", None), &api(&lists, 1), &more).await.unwrap();
        for (day, snapshot) in (2..).zip(["b", "c", "d"]) {
            grow_and_lose(&mut lists, &mut random, &mut next);
            let summary = export(out.path(), (snapshot, Some("latest")), &api(&lists, day), &more).await.unwrap();
            assert_eq!(summary.exit, ExitCode::Complete, "seed {seed}, {snapshot}: {summary}");
            let found = keys(out.path(), snapshot).into_keys().collect::<BTreeSet<_>>();
            assert_eq!(found, expected(&lists), "seed {seed}, {snapshot}");
            let (_, continued) = continued(&summary);
            kept += continued["kept"].as_u64().unwrap();
            whole += continued["whole"].as_u64().unwrap();
        }
    }
    assert!(kept > 1_000 && whole > 300, "{kept} continued, {whole} read whole");
}

/// The last page is requested first of all, and the others later: what is inserted in between must not be lost.
#[tokio::test(start_paused = true)]
async fn a_row_that_is_inserted_while_a_changed_list_is_read_whole_is_not_lost() {
    let out = scratch();
    let mut lists: Lists = (1_000..1_060).map(|id| (id.to_string(), (0..25).collect())).collect();
    let settings = [("since_check", "0"), ("end", "short-page"), ("max_in_flight", "1")];
    export(out.path(), ("a", None), &api(&lists, 1), &settings).await.unwrap();
    lists.get_mut("1007").unwrap().remove(3);
    let mut later = lists.clone();
    later.get_mut("1007").unwrap().insert(2, 900);
    let moving = {
        let (lists, later, has_moved) = (lists, later.clone(), AtomicBool::new(false));
        Scripted::new(move |sent| {
            if sent.id == "1007" && sent.page == 1 {
                has_moved.store(true, Ordering::SeqCst);
            }
            respond(if has_moved.load(Ordering::SeqCst) { &later } else { &lists }, 2, sent)
        })
    };
    let summary = export(out.path(), ("b", Some("a")), &moving, &settings).await.unwrap();
    assert_eq!(summary.exit, ExitCode::Complete, "{summary}");
    let missing: Vec<Key> =
        expected(&later).into_iter().filter(|key| !keys(out.path(), "b").contains_key(key)).collect();
    assert_eq!(missing, []);
}

/// Not one after the other, as long as nothing is known of a list but its last page.
#[tokio::test(start_paused = true)]
async fn last_pages_are_requested_at_once_and_an_error_behind_a_shorter_list_is_not_its_failure() {
    let out = scratch();
    let mut lists: Lists = (1_000..1_060).map(|id| (id.to_string(), (0..25).collect())).collect();
    let settings = [("since_check", "0"), ("end", "short-page")];
    export(out.path(), ("a", None), &api(&lists, 1), &settings).await.unwrap();
    lists.get_mut("1007").unwrap().truncate(12);
    let strict = {
        let lists = lists.clone();
        Scripted::new(move |sent| {
            let is_behind = sent.id == "1007" && sent.page > 2;
            let reply = if is_behind { Reply::refusal(500, "no such page") } else { respond(&lists, 2, sent) };
            reply.after(Duration::from_millis(200))
        })
    };
    let begun = tokio::time::Instant::now();
    let summary = export(out.path(), ("b", Some("a")), &strict, &settings).await.unwrap();
    assert_eq!(summary.exit, ExitCode::Complete, "{summary}");
    assert_eq!(keys(out.path(), "b").into_keys().collect::<BTreeSet<_>>(), expected(&lists));
    let most = strict.most_in_flight();
    assert!(most > 30, "{most} in flight after {:?}", begun.elapsed());
}

/// Nothing else is left that could show that the API serves: its other lists wait for nothing.
#[tokio::test(start_paused = true)]
async fn lists_that_became_shorter_stop_no_others_where_the_api_answers_pages_behind_an_end_as_in_an_outage() {
    let out = scratch();
    let mut lists: Lists = (1_000..1_060).map(|id| (id.to_string(), (0..25).collect())).collect();
    let settings = [("since_check", "0"), ("end", "short-page")];
    export(out.path(), ("a", None), &api(&lists, 1), &settings).await.unwrap();
    for id in ["1003", "1007", "1059"] {
        lists.get_mut(id).unwrap().truncate(12);
    }
    let strict = {
        let lists = lists.clone();
        Scripted::new(move |sent| {
            let is_behind = (sent.page as usize - 1) * PAGE >= lists[&sent.id].len();
            if is_behind { Reply::refusal(500, "no such page") } else { respond(&lists, 2, sent) }
        })
    };
    let summary = export(out.path(), ("b", Some("a")), &strict, &settings).await.unwrap();
    let about = continued(&summary).1;
    assert_eq!(
        (summary.exit, &about["kept"], &about["whole"]),
        (ExitCode::Complete, &json!(57), &json!(3)),
        "{summary}"
    );
    assert_eq!(keys(out.path(), "b").into_keys().collect::<BTreeSet<_>>(), expected(&lists));
}

/// A stop says nothing of lists whose earlier pages are not there yet, whatever ended them.
#[tokio::test(start_paused = true)]
async fn a_run_that_is_stopped_leaves_no_list_failed_that_the_next_one_completes() {
    let (out, mut random, mut next) = (scratch(), random(3), 10_000);
    let mut lists: Lists = (1_000..1_060).map(|id| (id.to_string(), (0..30).collect())).collect();
    lists.insert("1000".to_owned(), Vec::new());
    export(out.path(), ("a", None), &api(&lists, 1), &[("since_check", "0")]).await.unwrap();
    grow_and_lose(&mut lists, &mut random, &mut next);
    for credits in ["10", "40", "70", "90"] {
        let more = [("since_check", "0"), ("max_credits", credits)];
        let summary = export(out.path(), ("b", Some("a")), &api(&lists, 2), &more).await.unwrap();
        assert_eq!(summary.totals.products.failed, 0, "{credits} credits: {summary}");
    }
    let summary = export(out.path(), ("b", None), &api(&lists, 2), &[]).await.unwrap();
    assert_eq!(summary.exit, ExitCode::Complete, "{summary}");
    assert_eq!(keys(out.path(), "b").into_keys().collect::<BTreeSet<_>>(), expected(&lists));
}

/// An API that shows its last page for any number behind the end would show the old last page of a list that became shorter.
#[tokio::test(start_paused = true)]
async fn an_api_that_repeats_pages_behind_the_end_is_not_continued() {
    let out = scratch();
    let lists: Lists = (1_000..1_060).map(|id| (id.to_string(), (0..25).collect())).collect();
    let clamping = |lists: &Lists| {
        let lists = lists.clone();
        Scripted::new(move |sent| {
            let last = lists[&sent.id].len().div_ceil(PAGE).max(1) as u32;
            respond(&lists, 1, &Sent { page: sent.page.min(last), ..sent.clone() })
        })
    };
    export(out.path(), ("a", None), &clamping(&lists), &[]).await.unwrap();
    let second = clamping(&lists);
    let error = export(out.path(), ("b", Some("a")), &second, &[]).await.unwrap_err();
    assert_eq!((error.exit_code(), second.requests()), (ExitCode::Integrity, 0), "{error}");
    assert!(error.to_string().contains("shows rows again behind the end"), "{error}");
}

/// Ten days of lists that grow by 3 % a day, each day as a continued export and as a full one.
#[tokio::test(start_paused = true)]
async fn ten_daily_exports_of_lists_that_grow_by_three_percent_a_day_cost_less_than_a_seventh_of_full_ones() {
    let (daily, whole, mut random, mut next) = (scratch(), scratch(), random(1), 100_000);
    let mut lists: Lists =
        (1_000..1_060).map(|id| (id.to_string(), (0..random.below(1_200) as u32).collect())).collect();
    println!("| day | rows | full | continued | share |\n|---|---|---|---|---|");
    let (mut all, mut paid) = (0, 0);
    for day in 1..=10 {
        let label = format!("2026-12-{day:02}");
        let of = |api: &Arc<Scripted>| api.requests();
        let (full, continued) = (api(&lists, day), api(&lists, day));
        let settings = [("lookahead", "1")];
        export(whole.path(), (&label, None), &full, &settings).await.unwrap();
        let since = (day > 1).then_some("latest");
        let summary = export(daily.path(), (&label, since), &continued, &settings).await.unwrap();
        assert_eq!(summary.exit, ExitCode::Complete, "{summary}");
        let found: BTreeSet<Key> = keys(daily.path(), &label).into_keys().collect();
        assert_eq!(found, keys(whole.path(), &label).into_keys().collect());
        let share = of(&continued) as f64 / of(&full) as f64;
        println!("| {day} | {} | {} | {} | {:.1} % |", found.len(), of(&full), of(&continued), share * 100.0);
        if day > 1 {
            (all, paid) = (all + of(&full), paid + of(&continued));
            assert!(share < 0.15, "day {day}: {share}");
        }
        for rows in lists.values_mut() {
            let grown = rows.len() * 3;
            let gained = grown / 100 + usize::from(random.below(100) < grown % 100);
            rows.extend(next..next + gained as u32);
            next += gained as u32;
        }
    }
    println!("{paid} of {all} credits in nine days: {:.1} %", paid as f64 / all as f64 * 100.0);
}

#[tokio::test(start_paused = true)]
async fn an_unchanged_list_costs_one_credit_and_its_rows_are_those_of_the_day_on_which_they_were_read() {
    let out = scratch();
    let lists: Lists = (1_000..1_060).map(|id| (id.to_string(), (0..25).collect())).collect();
    let none = [("since_check", "0"), ("end", "short-page")];
    export(out.path(), ("a", None), &api(&lists, 1), &none).await.unwrap();
    let second = api(&lists, 2);
    let summary = export(out.path(), ("b", Some("a")), &second, &none).await.unwrap();
    let (billed, about) = continued(&summary);
    assert_eq!((billed, second.requests(), summary.exit), (60, 60, ExitCode::Complete), "{summary}");
    assert!(second.sent().iter().all(|sent| sent.page == 3));
    let counts =
        ["kept", "pages", "rows", "requested_rows", "whole", "waiting"].map(|key| about[key].as_u64().unwrap());
    assert_eq!(counts, [60, 120, 1_200, 300, 0, 0], "{about}");
    let days = keys(out.path(), "b").into_values().fold(BTreeMap::new(), |mut days: BTreeMap<_, u32>, day| {
        *days.entry(day).or_default() += 1;
        days
    });
    assert_eq!(days, [("day 1".to_owned(), 1_200), ("day 2".to_owned(), 300)].into());
    // Complete, it costs nothing, and stays as it was.
    let third = api(&lists, 3);
    let summary = export(out.path(), ("b", Some("a")), &third, &none).await.unwrap();
    assert_eq!((third.requests(), summary.exit), (0, ExitCode::Complete));
}

#[tokio::test(start_paused = true)]
async fn a_change_that_balances_before_the_last_page_is_found_where_that_list_is_in_the_sample_and_named() {
    let out = scratch();
    let mut lists: Lists = (1_000..1_060).map(|id| (id.to_string(), (0..25).collect())).collect();
    export(out.path(), ("a", None), &api(&lists, 1), &[]).await.unwrap();
    let changed = lists.get_mut("1007").unwrap();
    changed[4] = 900; // one row removed, another one put in its place
    let summary = export(out.path(), ("b", Some("a")), &api(&lists, 2), &[("since_check", "100")]).await.unwrap();
    let (_, about) = continued(&summary);
    let counts = ["kept", "sampled", "same", "changed", "changed_unseen"].map(|key| about[key].as_u64().unwrap());
    assert_eq!((counts, &about["unseen"]), ([0, 60, 59, 0, 1], &json!(["1007"])));
    assert_eq!(keys(out.path(), "b").into_keys().collect::<BTreeSet<_>>(), expected(&lists));
    assert!(summary.to_string().contains("1 of 60 products changed"), "{summary}");
    // Nobody can see it in a list that is not read: then that product alone has the earlier row.
    let summary = export(out.path(), ("c", Some("a")), &api(&lists, 2), &[("since_check", "0")]).await.unwrap();
    let found: BTreeSet<Key> = keys(out.path(), "c").into_keys().collect();
    let key = |row: &str| ("1007".to_owned(), row.to_owned());
    let differing: Vec<Key> = found.symmetric_difference(&expected(&lists)).cloned().collect();
    assert_eq!((summary.exit, differing), (ExitCode::Complete, vec![key("4"), key("900")]));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_stopped_at_any_request_goes_on_and_pays_for_no_page_twice() {
    for stop_at in [1, 2, 30, 59, 60, 61, 62, 75, 90] {
        let (out, mut random, mut next) = (scratch(), random(7), 10_000);
        let mut lists = lists(&mut random, 60);
        export(out.path(), ("a", None), &api(&lists, 1), &[]).await.unwrap();
        grow_and_lose(&mut lists, &mut random, &mut next);
        let full = {
            let api = api(&lists, 2);
            export(out.path(), ("full", Some("a")), &api, &[("since_check", "0")]).await.unwrap();
            api.requests()
        };
        let stopping = {
            let lists = lists.clone();
            Scripted::stopping_at(stop_at, move |sent| respond(&lists, 2, sent))
        };
        let summary = export(out.path(), ("b", Some("a")), &stopping, &[("since_check", "0")]).await;
        let is_whole = summary.as_ref().is_ok_and(|summary| summary.exit == ExitCode::Complete);
        let second = api(&lists, 2);
        let summary = export(out.path(), ("b", Some("a")), &second, &[("since_check", "0")]).await.unwrap();
        assert_eq!(summary.exit, ExitCode::Complete, "stopped at {stop_at}: {summary}");
        assert_eq!(
            keys(out.path(), "b").into_keys().collect::<BTreeSet<_>>(),
            expected(&lists),
            "stopped at {stop_at}"
        );
        let mut requested = stopping.requested();
        for (page, count) in second.requested() {
            *requested.entry(page).or_default() += count;
        }
        // A list that has changed is read whole: what was requested of it first is requested again.
        let twice = requested.iter().filter(|(_, count)| **count > 1);
        let twice: BTreeSet<&str> = twice.map(|((id, _), _)| id.as_str()).collect();
        let changed = continued(&summary).1["whole"].as_u64().unwrap() as usize;
        assert!(requested.values().all(|count| *count <= 2), "stopped at {stop_at}: {requested:?}");
        assert!(twice.len() <= changed, "stopped at {stop_at}: {changed} changed; {twice:?}");
        let requests = stopping.requests() + second.requests();
        assert!(is_whole || requests <= full + 4, "stopped at {stop_at}: {requests} requests, {full} in one run");
    }
}

#[tokio::test(start_paused = true)]
async fn an_export_with_other_lists_in_other_pages_is_not_continued_and_nothing_is_requested() {
    let out = scratch();
    let lists: Lists = (1_000..1_060).map(|id| (id.to_string(), (0..25).collect())).collect();
    export(out.path(), ("a", None), &api(&lists, 1), &[]).await.unwrap();
    let table = [
        (("b", "a"), ("page_size", "5"), "page_size was 10, now 5"),
        (("c", "a"), ("base_url", "http://127.0.0.2:1"), "base_url was"),
        (("d", "x"), ("page_size", "10"), "names no export"),
    ];
    for ((snapshot, since), other, words) in table {
        let api = api(&lists, 2);
        let error = export(out.path(), (snapshot, Some(since)), &api, &[other]).await.unwrap_err();
        assert_eq!((error.exit_code(), api.requests()), (ExitCode::Integrity, 0), "{error}");
        assert!(error.to_string().contains(words) && error.to_string().contains("--since"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_the_earlier_export_a_run_that_needs_it_says_so_and_one_without_since_reads_the_rest_whole() {
    let out = scratch();
    let lists: Lists = (1_000..1_060).map(|id| (id.to_string(), (0..25).collect())).collect();
    export(out.path(), ("a", None), &api(&lists, 1), &[]).await.unwrap();
    let stopping = {
        let lists = lists.clone();
        Scripted::stopping_at(20, move |sent| respond(&lists, 2, sent))
    };
    export(out.path(), ("b", Some("a")), &stopping, &[]).await.unwrap();
    std::fs::rename(out.path().join("snapshot=a"), out.path().join("elsewhere")).unwrap();
    let error = export(out.path(), ("b", Some("a")), &api(&lists, 2), &[]).await.unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Integrity, "{error}");
    assert!(error.next_step().unwrap().contains("leave it out"), "{error}");
    let summary = export(out.path(), ("b", None), &api(&lists, 3), &[]).await.unwrap();
    assert_eq!(summary.exit, ExitCode::Complete, "{summary}");
    assert_eq!(keys(out.path(), "b").into_keys().collect::<BTreeSet<_>>(), expected(&lists));
}
