//! When a list has ended: evidence instead of a rule. The setting `end` is left alone unless a test is about it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pagehaul::error::ExitCode;
use pagehaul::fetch::FetchErrorKind;

use super::play::{Ended, Play, evidence};
use crate::common::scripted::Reply;
use crate::common::world::{
    Behind, Call, World, body, every_size, hash, html, inside, internal_error, later, place, refusal, success, text_of,
};

/// Lists of full pages only, of 0 to 5 pages, and one deeper than all.
fn full_pages(lists: usize) -> Vec<u64> {
    (0..lists as u64).map(|list| hash(&[list, 3]) % 6 * 10).chain([73]).collect()
}

// --- a page size below what is requested -----------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn an_api_that_caps_its_pages_is_found_out_and_all_rows_are_read() {
    let play = Play::new(World::new(every_size(200, 115)).capped(8));
    assert!(play.world.lists.rows() > 10_000);
    let most = play.most_credits();
    play.completes().await.warned(1).costs_at_most(most);
}

#[tokio::test(start_paused = true)]
async fn any_cap_is_found_out_with_and_without_looking_ahead() {
    for cap in [1, 2, 5, 8, 9] {
        for lookahead in [0, 1] {
            let play = Play::new(World::new(every_size(150, 60)).capped(cap)).with("lookahead", lookahead);
            let most = play.most_credits();
            play.completes().await.warned(1).costs_at_most(most);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_cap_below_a_page_size_that_was_requested_is_found_out() {
    for (requested, cap) in [(7, 5), (3, 2), (9, 8)] {
        let world = World::new(every_size(100, 60)).with_page_size(requested).capped(cap);
        let play = Play::new(world).with("page_size", requested);
        play.completes().await.warned(1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_cap_is_found_out_by_the_only_list() {
    for rows in [8, 9, 16, 17, 57, 400] {
        Play::new(World::new([rows]).capped(8)).completes().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_cap_is_found_out_by_two_lists() {
    for lists in [[57, 57], [3, 57], [57, 3], [8, 57], [57, 8], [0, 57]] {
        Play::new(World::new(lists).capped(8)).completes().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_cap_that_no_list_reaches_costs_the_evidence_and_no_warning() {
    let play = Play::new(World::new(every_size(200, 7)).capped(8)).with("lookahead", 0);
    let most = play.most_credits() + 3; // no page is full
    play.completes().await.warned(0).costs_at_most(most);
}

#[tokio::test(start_paused = true)]
async fn a_cap_is_found_out_also_where_the_first_lists_are_short_ones() {
    for first in [5, 20, 100] {
        let lists = [every_size(first, 7), every_size(100, 60)].concat();
        let mut play = Play::new(World::new(lists).capped(8));
        play.run_at_any_price().await.completes(&play);
    }
}

#[tokio::test(start_paused = true)]
async fn a_cap_is_found_out_also_where_few_lists_reach_it() {
    for deep in [2, 5, 20] {
        let lists: Vec<u64> = (0..400).map(|list| if hash(&[list, 9]) % 400 < deep { 57 } else { list % 8 }).collect();
        let mut play = Play::new(World::new(lists).capped(8));
        play.run_at_any_price().await.completes(&play);
    }
}

#[tokio::test(start_paused = true)]
async fn a_cap_is_found_out_whichever_answers_come_first() {
    for seed in 0..20 {
        let world = World::new(every_size(120, 60)).capped(8);
        let world = world.taking(move |call| Some(Duration::from_millis(hash(&[seed, call.number as u64]) % 900)));
        let play = Play::new(world);
        play.completes().await.warned(1);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_found_out_about_the_end_is_known_to_the_next_run_wherever_the_first_one_stops() {
    for stop_at in [1, 2, 3, 4, 5, 6, 8, 12, 20, 60, 200] {
        let play = Play::new(World::new(every_size(60, 60)).capped(8));
        play.run_until(stop_at).await;
        let most = play.most_credits();
        let ended = play.completes().await.costs_at_most(most + 3);
        assert!(ended.warnings.len() <= 1, "{ended}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_size_that_was_found_out_is_not_paid_for_again_when_the_list_grows() {
    let lists = every_size(60, 60);
    let play = Play::new(World::new(lists.clone()).capped(8));
    play.completes().await;
    let finished = play.completes().await;
    assert_eq!(finished.sent.len(), 0, "{finished}");
    let more = play.against(World::new([lists, every_size(40, 50)].concat()).capped(8));
    let most = more.most_credits();
    more.run().await.completes(&more).costs_at_most(most + 3);
}

#[tokio::test(start_paused = true)]
async fn a_looser_rule_after_the_short_page_was_disproved_is_another_export() {
    let mut play = Play::new(World::new(every_size(60, 60)).capped(8));
    play.completes().await;
    play.set("end", "short-page");
    let error = play.try_run(usize::MAX).await.err().unwrap();
    assert_eq!(error.exit_code(), ExitCode::Integrity, "{error}");
    play.set("end", "empty-page");
    play.completes().await;
}

/// Lists of 57 rows with pages of 7, but of the six whose second page is requested first, only those go on that `continues` has a
/// bit for. And the rows that are missing for that.
fn capped_where(continues: u32) -> (World, Arc<AtomicUsize>) {
    let (asked, missing) = (Mutex::new(Vec::new()), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&missing);
    let world = World::new([57; 12]).capped(7).sending(move |call| {
        let mut asked = asked.lock().unwrap();
        if call.page > 1 && !asked.contains(&call.item) {
            asked.push(call.item);
            count.fetch_add(if asked.len() > 6 || continues >> (asked.len() - 1) & 1 == 1 { 0 } else { 50 }, Relaxed);
        }
        let place = asked.iter().take(6).position(|item| *item == call.item)?;
        (call.page > 1 && continues >> place & 1 == 0).then(|| success("[]"))
    });
    (world, missing)
}

fn has_all_rows(ended: &Ended, missing: &AtomicUsize) {
    assert_eq!(ended.summary.exit, ExitCode::Complete, "{ended}");
    assert_eq!(ended.summary.totals.rows.published, 57 * 12 - missing.load(Relaxed) as u64, "{ended}");
}

#[tokio::test(start_paused = true)]
async fn a_cap_is_found_out_by_any_one_of_the_six_lists_that_are_checked() {
    for continues in 1..1 << 6 {
        let (world, missing) = capped_where(continues);
        let play = Play::new(world).with("lookahead", 0).about(format!("{continues:06b}"));
        has_all_rows(&play.run_unjudged().await, &missing); // the rows of lists that do not go on are owed to nobody
    }
}

#[tokio::test(start_paused = true)]
async fn a_cap_that_one_list_shows_is_known_to_the_next_run_wherever_the_first_one_stops() {
    for continues in [1, 2, 4, 8, 16, 32] {
        for stop_at in 10..30 {
            let (world, missing) = capped_where(continues);
            let play = Play::new(world).with("lookahead", 0).about(format!("{continues:06b}, stopped at {stop_at}"));
            play.run_unjudged_until(stop_at).await;
            has_all_rows(&play.run_unjudged().await, &missing);
        }
    }
}

// --- lists that are as the rule says --------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn many_lists_of_one_same_length_are_no_reason_to_stop() {
    let one = |few: u64| (0..200).map(move |list| if hash(&[list, few]).is_multiple_of(10) { 57 } else { 1 });
    let cases: [(&str, Vec<u64>, &str); 8] = [
        ("180 lists of one row, then 20 of 57", [vec![1; 180], vec![57; 20]].concat(), "100000"),
        ("20 lists of 57, then 180 of one row", [vec![57; 20], vec![1; 180]].concat(), "100000"),
        ("the same in no order", one(7).collect(), "100000"),
        ("20 lists of three rows", vec![3; 20], "100000"),
        ("20 lists of eight rows", vec![8; 20], "100000"),
        ("200 lists of eight rows", vec![8; 200], "100000"),
        ("one page of each", [vec![1; 180], vec![57; 20]].concat(), "1"),
        ("one page of each, all short", vec![3; 60], "1"),
    ];
    for (name, lists, max_pages) in cases {
        let has_full_page = lists.iter().any(|rows| *rows >= 10);
        let play = Play::new(World::new(lists)).with("max_pages", max_pages).with("lookahead", 0);
        let most = play.most_credits() + if has_full_page { 0 } else { 3 };
        let ended = play.run().await;
        assert_eq!(ended.summary.exit, ExitCode::Complete, "{name}: {ended}");
        let ended = ended.completes(&play).warned(0).costs_at_most(most);
        assert!(max_pages != "1" || ended.sent.iter().all(|sent| sent.page == 1), "{name}: {ended}");
    }
}

#[tokio::test(start_paused = true)]
async fn lists_of_every_size_cost_the_pages_and_the_evidence() {
    for (lists, most_rows) in [(30, 30), (300, 12), (600, 45), (2_000, 9)] {
        for lookahead in [0, 1] {
            let play = Play::new(World::new(every_size(lists, most_rows))).with("lookahead", lookahead);
            let most = play.most_credits();
            let ended = play.completes().await.warned(0).costs_at_most(most);
            let over = ended.summary.totals.credits.billed - play.world.lists.fewest(None);
            assert!(over >= 1, "no evidence at all: {ended}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn evidence_is_requested_over_the_whole_run() {
    let play = Play::new(World::new(every_size(6_000, 9))).with("lookahead", 0);
    let most = play.most_credits();
    let ended = play.completes().await.costs_at_most(most);
    let requested: Vec<usize> = ended.sent.iter().filter(|sent| sent.page == 2).map(|sent| place(&sent.id)).collect();
    assert!(requested.len() >= 9 && requested.len() as u64 <= evidence(6_000), "{requested:?}");
    assert!(requested.iter().any(|item| *item > 4_000) && requested.iter().any(|item| *item < 100), "{requested:?}");
}

#[tokio::test(start_paused = true)]
async fn an_explicit_rule_is_trusted_and_costs_no_evidence() {
    for (end, more) in [("short-page", 0), ("empty-page", 1)] {
        let lists: Vec<u64> = every_size(200, 35).into_iter().filter(|rows| rows % 10 != 0).collect();
        let count = lists.len() as u64;
        let play = Play::new(World::new(lists)).with("end", end).with("lookahead", 0);
        let ended = play.completes().await;
        assert_eq!(ended.sent.len() as u64, play.world.lists.fewest(None) + more * count, "{end}: {ended}");
    }
}

#[tokio::test(start_paused = true)]
async fn evidence_stays_within_the_allowed_credits() {
    let lists = [5, 7, 3, 12, 4, 8];
    let fewest = World::new(lists).lists.fewest(None);
    for most in 1..=fewest + 3 {
        let play = Play::new(World::new(lists)).with("max_credits", most).with("lookahead", 0);
        let ended = play.run().await.costs_at_most(most);
        assert!(most < fewest + 3 || ended.summary.exit == ExitCode::Complete, "{most} of {fewest}: {ended}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_evidence_is_requested_beyond_max_pages() {
    for max_pages in [1, 2, 3] {
        let play = Play::new(World::new(every_size(100, 45))).with("max_pages", max_pages);
        let ended = play.completes().await;
        assert!(ended.sent.iter().all(|sent| sent.page <= max_pages), "{ended}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_capped_api_with_max_pages_gives_the_rows_of_those_pages() {
    for max_pages in [1, 2, 4] {
        let play = Play::new(World::new(every_size(100, 45)).capped(8)).with("max_pages", max_pages);
        let ended = play.run().await.is(ExitCode::Complete);
        let first = play.world.ids().len();
        let owed: usize = (0..first).map(|item| play.world.lists.owed(item, Some(max_pages)).count()).sum();
        assert_eq!(ended.summary.totals.rows.published as usize, owed, "{ended}");
    }
}

// --- rows that are left out -----------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn rows_left_out_of_five_pages_in_a_hundred_are_found_out_and_all_others_are_read() {
    for seed in 0..5 {
        let mut play = Play::new(World::new(vec![95; 200]).hiding_one_in_some_pages(5, seed));
        let ended = play.run_at_any_price().await.completes(&play);
        assert!(!ended.warnings.is_empty() || play.world.requests() > ended.sent.len(), "{ended}");
    }
}

#[tokio::test(start_paused = true)]
async fn rows_left_out_of_any_share_of_the_pages_are_found_out() {
    for percent in [10, 20, 50, 100] {
        let mut play = Play::new(World::new(every_size(150, 95)).hiding_one_in_some_pages(percent, 1));
        play.run_at_any_price().await.completes(&play);
    }
}

#[tokio::test(start_paused = true)]
async fn rows_left_out_one_by_one_are_found_out() {
    for percent in [3, 10, 30] {
        let world = World::new(every_size(150, 95));
        let world = world.hiding(move |item, row| hash(&[item as u64, row, 77]) % 100 < percent);
        let mut play = Play::new(world);
        play.run_at_any_price().await.completes(&play);
    }
}

#[tokio::test(start_paused = true)]
async fn rows_left_out_of_the_only_list_are_found_out() {
    for at in [5, 25, 29, 105, 255] {
        Play::new(World::new([395]).hiding(move |_, row| row == at || row == 355)).completes().await;
    }
}

#[tokio::test(start_paused = true)]
async fn rows_left_out_of_a_deep_list_are_found_out_whatever_is_requested_ahead() {
    for lookahead in [0, 1, 20] {
        let world = World::new([vec![4_005], every_size(30, 30)].concat());
        let world = world.hiding(|item, row| item == 0 && hash(&[row, 8]).is_multiple_of(200));
        let mut play = Play::new(world).with("lookahead", lookahead);
        play.run_at_any_price().await.completes(&play);
    }
}

#[tokio::test(start_paused = true)]
async fn an_api_that_is_capped_and_leaves_rows_out_is_found_out() {
    let world =
        World::new(every_size(150, 95)).capped(8).hiding(|item, row| hash(&[item as u64, row, 4]).is_multiple_of(30));
    let mut play = Play::new(world);
    play.run_at_any_price().await.completes(&play);
}

#[tokio::test(start_paused = true)]
async fn a_rule_that_is_disproved_late_stops_the_run_first_and_names_the_price() {
    let world = World::new([vec![3; 3_000], vec![95; 600]].concat());
    let mut play = Play::new(world.hiding(|item, row| item >= 3_000 && row % 30 == 14));
    let ended = play.run().await.is(ExitCode::Limit).says(&["max-evidence"]);
    assert!(ended.summary.cause.as_ref().unwrap().contains(|c: char| c.is_ascii_digit()), "{ended}");
    let again = play.run().await.is(ExitCode::Limit);
    assert!(again.sent.len() <= 3, "it stops before it pays: {again}");
    play.set("max_evidence", "100");
    play.completes().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_found_out_about_rows_left_out_is_known_to_the_next_run_wherever_the_first_one_stops() {
    for stop_at in [2, 4, 6, 8, 10, 15, 30, 60, 150] {
        let world = World::new(every_size(40, 95));
        let mut play = Play::new(world.hiding(|item, row| hash(&[item as u64, row, 77]).is_multiple_of(10)));
        play.run_until(stop_at).await;
        play.run_at_any_price().await.completes(&play);
    }
}

/// One list of 200 has a page that lacks a row, and it is the one that is checked first.
fn one_list_lacks_a_row() -> World {
    World::new(vec![25; 200]).hiding(|item, row| item == 0 && row == 5)
}

#[tokio::test(start_paused = true)]
async fn a_single_list_that_leaves_a_row_out_stops_the_run_and_names_the_price() {
    let mut play = Play::new(one_list_lacks_a_row()).with("lookahead", 0);
    let ended = play.run().await.is(ExitCode::Limit).says(&["max-evidence"]);
    // The budget, the page behind that list's own end, and the second look.
    let most = play.world.lists.fewest(None) + 3 + 3 + 1;
    assert!(ended.sent.len() as u64 <= most, "{ended}");
    let again = play.run().await.is(ExitCode::Limit);
    assert_eq!(again.sent.len(), 0, "{again}");
    play.set("max_evidence", "100");
    play.completes().await;
}

#[tokio::test(start_paused = true)]
async fn a_single_list_that_leaves_a_row_out_is_never_called_complete_wherever_the_credits_end() {
    let fewest = one_list_lacks_a_row().lists.fewest(None);
    for most in fewest - 2..fewest + 10 {
        let play = Play::new(one_list_lacks_a_row()).with("lookahead", 0).with("max_credits", most);
        play.run().await.is(ExitCode::Limit).costs_at_most(most);
    }
}

/// What the second request for the page that lacks a row gets, in every try, and whether that shows that the list has grown.
fn second_looks() -> Vec<(&'static str, Reply)> {
    let rows = |rows: std::ops::Range<u64>| {
        let texts: Vec<String> = rows.map(|row| text_of(0, row)).collect();
        success(&format!("[{}]", texts.join(",")))
    };
    vec![
        ("400", refusal(400, "no such product")),
        ("404", refusal(404, "no such product")),
        ("empty", success("[]")),
        ("null", success("null")),
        ("html", html(200)),
        ("the page behind it", rows(10..20)),
        ("the first row only", rows(0..1)),
        ("unknown rows", rows(900..910)),
    ]
}

#[tokio::test(start_paused = true)]
async fn whatever_the_second_look_gets_it_is_one_look_and_an_export_in_doubt_is_not_complete() {
    for (name, _) in second_looks() {
        let reply = move || second_looks().into_iter().find(|(other, _)| *other == name).unwrap().1;
        let again = move |call: &Call| call.item == 0 && call.page == 1 && call.nth > 1;
        let world = one_list_lacks_a_row();
        let world = match name {
            "400" | "404" | "html" => world.but(move |call| again(call).then(reply)),
            _ => world.sending(move |call| again(call).then(reply)),
        };
        let play = Play::new(world).with("lookahead", 0).about(name.to_owned());
        for run in 0..3 {
            let ended = play.run_unjudged().await;
            assert_ne!(ended.summary.exit, ExitCode::Complete, "{name}, run {run}: {ended}");
            let looks = ended.sent.iter().filter(|sent| place(&sent.id) == 0 && sent.page == 1).count();
            assert!(looks <= if run == 0 { 12 } else { 8 }, "{name}, run {run}: {looks} requests: {ended}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_that_ended_on_a_page_of_another_is_not_read_on_behind_it_when_the_rule_changes() {
    let another = |call: &Call| {
        let rows: Vec<String> = (0..5).map(|row| text_of(8, row)).collect();
        (call.item == 6 && call.page == 3).then(|| success(&format!("[{}]", rows.join(","))))
    };
    let world = World::new([25; 10]).hiding(|item, row| item < 2 && row == 5).sending(another);
    let play = Play::new(world).with("lookahead", 0).with("max_evidence", 100);
    for _ in 0..3 {
        let ended = play.run().await.is(ExitCode::Partial);
        assert_eq!(ended.products[&6].stop, "foreign_page", "{ended}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_at_the_last_page_hides_no_other_that_may_have_been_cut() {
    let world = World::new([29; 30]).hiding(|item, row| item == 0 && row == 5 || item == 29 && row < 9);
    let play = Play::new(world).with("lookahead", 0).with("max_pages", 3);
    play.completes().await.warned(1);
}

#[tokio::test(start_paused = true)]
async fn a_check_without_an_answer_proves_no_end() {
    for lists in [3, 4, 5, 8] {
        let world = World::new(vec![25; lists]).hiding(|item, row| item == 0 && row == 5 || item == 1 && row < 5);
        let play = Play::new(world.but(|call| (call.item == 1 && call.page == 2).then(internal_error)));
        let ended = play.with("lookahead", 0).run_unjudged().await;
        assert_ne!(ended.summary.exit, ExitCode::Complete, "{lists} lists: {ended}");
    }
}

// --- a list that grows at its end -----------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn a_list_that_grows_between_its_short_page_and_the_evidence_is_read_on_and_nothing_else_changes() {
    for (rows, grown) in [(99, 3), (99, 25), (5_009, 2), (8, 5)] {
        let world = World::new([vec![rows], every_size(60, 30)].concat()).changing(move |call, list| {
            if call.item == 0 && u64::from(call.page) * 10 > rows && list.len() as u64 == rows {
                list.extend((0..grown).map(later));
            }
        });
        let play = Play::new(world).with("lookahead", 0);
        // Pages that the list grew by, one behind them, three of other lists, and a second look at the short page.
        let most = play.most_credits() + grown.div_ceil(10) + 1 + 3 + 1;
        play.completes().await.warned(0).costs_at_most(most);
    }
}

// --- an end that is not a list -----------------------------------------------------------------------------------------

const NOTHING: [&str; 4] = ["null", "{}", "\"\"", "false"];

#[tokio::test(start_paused = true)]
async fn a_success_without_a_list_where_a_list_is_empty_or_has_just_ended_is_an_empty_page_and_costs_one_request() {
    for nothing in NOTHING {
        for lookahead in [0, 1] {
            let world = World::new([full_pages(60), every_size(60, 30)].concat()).ending_with(nothing);
            let play = Play::new(world).with("lookahead", lookahead);
            let most = play.most_credits();
            let ended = play.completes().await.costs_at_most(most).warned(0);
            // Behind a full page of the first lists, the next page is checked before it is taken for an end.
            assert!(ended.summary.totals.credits.in_doubt <= 3, "{nothing}: {ended}");
            let lists: Vec<usize> = (0..60).filter(|list| full_pages(60)[*list] < 80).collect();
            ended.ended_as("empty_page", lists);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn where_the_rule_of_the_end_is_trusted_an_end_without_a_list_costs_one_request_beyond_the_first_three_lists() {
    for end in ["short-page", "empty-page"] {
        for nothing in NOTHING {
            let world = World::new([full_pages(60), every_size(60, 30)].concat()).ending_with(nothing);
            let fewest: u64 = match end {
                "short-page" => world.lists.fewest(None),
                _ => [full_pages(60), every_size(60, 30)].concat().iter().map(|rows| rows.div_ceil(10) + 1).sum(),
            };
            let play = Play::new(world).with("end", end).with("lookahead", 0);
            // For the first lists the page behind it is checked: a null that came once would cut the list.
            let ended = play.completes().await.warned(0);
            let (sent, in_doubt) = (ended.sent.len() as u64, ended.summary.totals.credits.in_doubt);
            assert!(sent <= fewest + 3 && in_doubt <= 3, "{nothing}: {fewest} are enough: {ended}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_list_may_be_empty_without_a_list() {
    for nothing in NOTHING {
        Play::new(World::new([0, 0, 0, 25, 30, 5]).ending_with(nothing)).completes().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_success_without_a_list_is_a_failure_where_empty_lists_are_sent_as_such() {
    for nothing in NOTHING {
        let world = World::new([vec![0, 0, 25], every_size(30, 30)].concat());
        let play = Play::new(world.sending(move |call| (call.item == 2 && call.page == 2).then(|| success(nothing))));
        let ended = play.run().await.completes_but(&[2], "");
        let requested = ended.sent.iter().filter(|sent| place(&sent.id) == 2 && sent.page == 2).count();
        assert!(requested <= 2, "{requested} times: {ended}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_end_without_a_list_that_came_before_the_first_empty_list_is_judged_again() {
    for nothing in NOTHING {
        // A page in the middle of the first list gets no list, once; lists that have ended get an empty one.
        let world = World::new([vec![45], every_size(60, 30)].concat());
        let once = |call: &Call| call.item == 0 && call.page == 3 && call.nth == 1;
        let play = Play::new(world.sending(move |call| once(call).then(|| success(nothing))));
        let ended = play.run().await;
        if ended.summary.exit != ExitCode::Complete {
            ended.completes_but(&[0], "");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_success_without_a_list_in_mid_list_is_no_end_where_later_pages_of_it_have_rows() {
    for nothing in NOTHING {
        for page in [30, 57, 120] {
            let world = World::new([2_005, 15, 25]).ending_with(nothing);
            let once = move |call: &Call| call.item == 0 && call.page == page && call.nth == 1;
            let play = Play::new(world.sending(move |call| once(call).then(|| success(nothing))));
            // Pages twice as far are known by then: another answer is the page, and what cannot be requested again is named.
            let ended = play.run().await;
            if ended.summary.exit != ExitCode::Complete {
                ended.completes_but(&[0], "");
            }
        }
    }
}

/// What an API says behind the end, and its name.
type Kind = (&'static str, fn() -> Reply);

// --- a refusal behind the end ---------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn a_refusal_of_the_page_behind_a_full_last_page_is_the_end() {
    let kinds: [Kind; 8] = [
        ("404", || refusal(404, "no such page")),
        ("400", || refusal(400, "page_num is out of range")),
        ("410", || refusal(410, "gone")),
        ("416", || refusal(416, "range not satisfiable")),
        ("422", || refusal(422, "page is invalid")),
        ("404 inside a 200", || inside(404, "no such page")),
        ("400 inside a 200", || inside(400, "page_num is out of range")),
        ("a bare 404", || body(404, "{\"detail\":\"Invalid page.\"}")),
    ];
    for (name, kind) in kinds {
        for lookahead in [0, 1] {
            let lists: Vec<u64> = full_pages(80).into_iter().map(|rows| rows.max(3)).collect();
            let full: Vec<usize> = (0..80).filter(|list| lists[*list].is_multiple_of(10)).collect();
            let play = Play::new(World::new(lists).behind(Behind::Says(kind))).with("lookahead", lookahead);
            let ended = play.run().await;
            assert_eq!(ended.summary.exit, ExitCode::Complete, "{name}: {ended}");
            let ended = ended.completes(&play).ended_as("end_refused", full);
            // Each list's end, the evidence for three of them and every hundredth, and what the run looks ahead for.
            let most = play.world.lists.fewest(None) as usize + 2 * 80 + 3 + 3 + 3;
            ended.sent_at_most(most);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_only_list_may_be_a_refusal() {
    for rows in [10, 50, 600] {
        let play = Play::new(World::new([rows]).behind(Behind::Says(|| refusal(404, "no such page"))));
        play.completes().await.ended_as("end_refused", [0]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_in_mid_list_is_no_end_where_the_next_page_has_rows() {
    for page in [2, 3, 5] {
        let world = World::new([vec![95], every_size(40, 30)].concat());
        let bad = move |call: &Call| call.item == 0 && call.page == page;
        let play = Play::new(world.but(move |call| bad(call).then(|| refusal(404, "no such page"))));
        play.run().await.completes_but(&[0], "no such page");
    }
}

#[tokio::test(start_paused = true)]
async fn one_page_number_from_which_on_many_lists_are_refused_is_a_cap_of_the_api() {
    for (status, message) in [(422, "Only the first 50 results are available"), (400, "from + size must be <= 50")] {
        for lookahead in [0, 1] {
            let lists = every_size(80, 120);
            let cut: Vec<usize> = (0..80).filter(|list| lists[*list] >= 50).collect();
            let world = World::new(lists).but(move |call| (call.page > 5).then(|| refusal(status, message)));
            let play = Play::new(world).with("lookahead", lookahead);
            let ended = play.run().await.is(ExitCode::Partial).ended_as("page_cap", cut.iter().copied());
            let complete = ended.products.values().filter(|product| product.complete).count();
            assert_eq!(complete, 80 - cut.len(), "{ended}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_cap_of_the_api_on_the_page_number_is_no_end_of_the_only_list() {
    let world = World::new([995]).but(|call| (call.page > 50).then(|| refusal(422, "Only the first 500 results")));
    let ended = Play::new(world).run_unjudged().await;
    // Nothing tells it from an end but the truth; it must at least say how the list ended.
    assert!(matches!(ended.products[&0].stop.as_str(), "end_refused" | "page_cap"), "{ended}");
}

#[tokio::test(start_paused = true)]
async fn a_product_behind_a_page_cap_is_read_on_once_the_cap_is_gone() {
    let lists = every_size(40, 120);
    let cap = |call: &Call| (call.page > 5).then(|| refusal(422, "Only the first 50 results are available"));
    let play = Play::new(World::new(lists.clone()).but(cap));
    play.run().await.is(ExitCode::Partial);
    play.against(World::new(lists)).with("retry_failed", "true").completes().await;
}

#[tokio::test(start_paused = true)]
async fn a_list_that_was_cut_where_a_page_came_again_is_read_on_when_that_is_requested() {
    let world = World::new([600]).changing(|call, list| {
        if call.page == 5 && list[0] == 0 {
            list.splice(0..0, (0..10).map(later));
        }
    });
    // Page 6 is page 5 once more, and no credit is left to see where unseen rows would be.
    let mut play = Play::new(world).with("lookahead", 0).with("max_credits", 6);
    play.run().await.is(ExitCode::Partial).ended_as("repeated_page", [0]);
    play.unset("max_credits");
    play.set("retry_failed", "true");
    let ended = play.completes().await;
    assert!(ended.sent.iter().all(|sent| sent.page > 6), "{ended}");
}

#[tokio::test(start_paused = true)]
async fn a_product_behind_a_page_that_was_another_s_is_read_on_once_that_is_mended() {
    let foreign = |call: &Call| {
        let rows: Vec<String> = (0..10).map(|row| text_of(7, row)).collect();
        (call.item == 3 && call.page == 2).then(|| body(200, format!("{{\"code\":0,\"data\":[{}]}}", rows.join(","))))
    };
    let lists = [vec![25, 25, 25, 95], every_size(20, 30)].concat();
    let play = Play::new(World::new(lists.clone()).sending(foreign));
    play.run().await.is(ExitCode::Partial).ended_as("foreign_page", [3]);
    let play = play.against(World::new(lists)).with("retry_failed", "true");
    let ended = play.run().await;
    // The page itself was paid for and is never requested again (P1): its ten rows stay out, and the product is not complete.
    assert_eq!(ended.summary.totals.rows.published as usize, play.world.lists.rows() - 10, "{ended}");
    ended.is(ExitCode::Partial);
}

// --- repetition behind the end --------------------------------------------------------------------------------------

/// How an API repeats itself behind the end.
fn repeating(kind: usize, lists: Vec<u64>) -> World {
    World::new(lists).behind([Behind::Last, Behind::First, Behind::Around].into_iter().nth(kind).unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_repetition_behind_the_end_is_the_end_and_costs_one_check_at_most() {
    for kind in 0..3 {
        for lookahead in [0, 1] {
            let lists: Vec<u64> = full_pages(100).into_iter().filter(|rows| *rows > 0).collect();
            let count = lists.len();
            let full: Vec<usize> = (0..count).filter(|list| lists[*list].is_multiple_of(10)).collect();
            // What is in flight when the third list wraps is checked, too.
            let checks = if kind == 0 { full.len() } else { 3 + 4 };
            let play = Play::new(repeating(kind, lists)).with("lookahead", lookahead).about(format!("way {kind}"));
            let most = play.most_credits() + checks as u64;
            let ended = play.run().await;
            assert_eq!(ended.summary.exit, ExitCode::Complete, "{kind}: {ended}");
            ended.completes(&play).ended_as("end_repeated", full).costs_at_most(most);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn lists_of_every_size_that_repeat_behind_their_ends_are_complete() {
    for kind in 0..3 {
        for (lists, most_rows) in [(200, 35), (60, 120), (1, 50), (3, 400)] {
            let lists: Vec<u64> = every_size(lists, most_rows).into_iter().map(|rows| rows.max(1)).collect();
            let play = Play::new(repeating(kind, lists));
            play.completes().await.warned(0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_only_list_that_repeats_behind_its_full_end_is_complete() {
    for kind in 0..3 {
        for rows in [10, 20, 90, 100, 1_280] {
            let play = Play::new(repeating(kind, vec![rows]));
            let ended = play.run().await;
            // One page alone that comes again may also mean that the API reads no page number.
            if rows == 10 && ended.summary.exit == ExitCode::Partial {
                assert_eq!(ended.summary.totals.rows.published, 10, "{ended}");
                continue;
            }
            ended.completes(&play).ended_as("end_repeated", [0]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn deep_lists_that_wrap_around_keep_to_the_budget_for_looking_ahead() {
    for kind in 0..3 {
        let lists: Vec<u64> = (0..20).map(|list| 300 + hash(&[list, 2]) % 1_500).collect();
        let play = Play::new(repeating(kind, lists)).about(format!("way {kind}"));
        let most = play.most_credits() + 20;
        play.completes().await.costs_at_most(most);
    }
}

#[tokio::test(start_paused = true)]
async fn an_api_that_ignores_the_page_number_is_not_called_complete() {
    // Whatever page is requested, the first one comes: no list ever had a second page.
    let first = |call: &Call| {
        let rows: Vec<String> = (0..10).map(|row| text_of(call.item, row)).collect();
        Some(body(200, format!("{{\"code\":0,\"data\":[{}]}}", rows.join(","))))
    };
    let play = Play::new(World::new(vec![95; 30]).sending(first));
    let ended = play.run().await;
    assert!(matches!(ended.summary.exit, ExitCode::Partial | ExitCode::Contract), "{ended}");
}

#[tokio::test(start_paused = true)]
async fn rows_put_in_at_the_head_between_two_pages_do_not_cut_a_list() {
    for put_in in [1, 5, 9, 10, 11, 15, 20, 30, 40] {
        for (rows, after, lookahead) in
            [(600, 5, 0), (600, 5, 1), (595, 5, 1), (600, 1, 0), (600, 1, 1), (70, 5, 1), (1_200, 60, 0)]
        {
            let world = World::new([vec![rows], every_size(20, 30)].concat()).changing(move |call, list| {
                if call.item == 0 && call.page == after && list[0] == 0 {
                    list.splice(0..0, (0..put_in).map(later));
                }
            });
            let play = Play::new(world).with("lookahead", lookahead);
            let ended = play.run().await;
            assert_eq!(ended.summary.exit, ExitCode::Complete, "{put_in} rows after page {after}: {ended}");
            ended.completes(&play);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn rows_put_in_at_the_head_while_pages_are_requested_ahead_are_read_or_the_product_is_named() {
    for put_in in [1, 5, 10, 20] {
        for after in [9, 16, 40, 60] {
            let world = World::new([vec![1_200], every_size(20, 30)].concat()).changing(move |call, list| {
                if call.item == 0 && call.page == after && list[0] == 0 {
                    list.splice(0..0, (0..put_in).map(later));
                }
            });
            let play = Play::new(world);
            let ended = play.run().await;
            if ended.summary.exit != ExitCode::Complete {
                ended.is(ExitCode::Partial).ended_as("shifted", [0]);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn rows_put_in_twice_between_pages_do_not_cut_a_list() {
    for put_in in [10, 20] {
        let world = World::new([vec![600], every_size(20, 30)].concat()).changing(move |call, list| {
            let times = list.iter().filter(|row| **row >= later(0)).count() as u64 / put_in;
            if call.item == 0 && (call.page == 5 && times == 0 || call.page == 20 && times == 1) {
                list.splice(0..0, (times * put_in..(times + 1) * put_in).map(later));
            }
        });
        Play::new(world).with("lookahead", 0).completes().await;
    }
}

#[tokio::test(start_paused = true)]
async fn rows_put_in_at_the_head_of_many_lists_do_not_cut_one() {
    let world = World::new(vec![150; 40]).changing(|call, list| {
        if call.page == 1 + call.item as u32 % 12 && list[0] == 0 {
            list.splice(0..0, (0..10).map(later));
        }
    });
    Play::new(world).with("lookahead", 0).completes().await;
}

// --- answers that are lost ------------------------------------------------------------------------------------------

type Outcome = (ExitCode, BTreeMap<usize, String>, u64);

/// How a deep list with short pages ends where the answer to one page is lost once.
async fn with_lost(page: u32, lost: fn() -> Reply, lookahead: u32, end: &'static str) -> Outcome {
    let world = World::new([2_005, 15, 25, 7]).hiding(|item, row| item == 0 && (row == 195 || row == 1_111));
    let is_lost = move |call: &Call| call.item == 0 && call.page == page && call.nth == 1;
    let play = Play::new(world.but(move |call| is_lost(call).then(lost)));
    let mut play = play.with("lookahead", lookahead).with("end", end);
    if end == "auto" {
        play.unset("end");
    }
    let ended = play.run_unjudged().await;
    let stops = ended.products.iter().map(|(item, product)| (*item, product.stop.clone())).collect();
    (ended.summary.exit, stops, ended.summary.totals.rows.published)
}

#[tokio::test(start_paused = true)]
async fn an_answer_ahead_that_is_lost_once_while_an_earlier_page_is_short_loses_no_row() {
    for lost in [|| html(502), || Reply::lost(FetchErrorKind::Disconnected), || Reply::lost(FetchErrorKind::Connect)] {
        for page in [17, 19, 20, 21, 22, 32, 33, 40, 64, 113, 128, 200] {
            let (exit, _, rows) = with_lost(page, lost, 20, "auto").await;
            assert_eq!((exit, rows), (ExitCode::Complete, 2_005 - 2 + 47), "the answer to page {page} is lost");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_pages_give_the_same_end_whichever_answer_is_lost_once() {
    for end in ["auto", "short-page", "empty-page"] {
        let whole = with_lost(100_000, || html(502), 20, end).await;
        for page in [17, 19, 20, 21, 22, 32, 40, 64, 113, 128] {
            let lost = with_lost(page, || html(502), 20, end).await;
            assert_eq!(lost, whole, "{end}: the answer to page {page} is lost");
        }
    }
}

// --- lists without a row --------------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn two_thousand_empty_lists_end_the_run_after_fifty_from_all_over_the_list() {
    for empty in ["[]", "null"] {
        let play = Play::new(World::new(vec![0; 2_000]).ending_with(empty));
        let ended = play.run().await.is(ExitCode::Contract);
        let most = 50 + ended.most_in_flight + 3;
        let ended = ended.sent_at_most(most);
        let mut places: Vec<usize> = ended.sent.iter().map(|sent| place(&sent.id)).collect();
        places.sort_unstable();
        let gaps = places.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        assert!(gaps < 400 && places[0] < 200 && places.last().unwrap() > &1_800, "{places:?}");
        let cause = ended.summary.cause.as_ref().unwrap().to_lowercase();
        assert!(cause.contains("empty") || cause.contains("no row") || cause.contains("without a row"), "{cause}");
        let again = play.run().await.is(ExitCode::Contract);
        assert_eq!(again.sent.len(), 0, "{again}");
    }
}

#[tokio::test(start_paused = true)]
async fn fewer_than_fifty_empty_lists_are_a_warning() {
    for lists in [1, 20, 49] {
        let play = Play::new(World::new(vec![0; lists]));
        let ended = play.completes().await;
        assert!(!ended.warnings.is_empty(), "{ended}");
    }
}

#[tokio::test(start_paused = true)]
async fn lists_that_turn_empty_in_mid_run_end_the_run_after_fifty_in_a_row() {
    for (lists, from) in [(500, 300), (2_000, 1_000), (200, 120)] {
        let empty = move |call: &Call| call.number > from;
        let world = World::new(every_size(lists, 25).into_iter().map(|rows| rows + 1))
            .sending(move |call| empty(call).then(|| success("[]")));
        let play = Play::new(world).with("lookahead", 0);
        // What ended while the API was degraded counts as complete and is not; the run says so by its exit code.
        let ended = play.run_unjudged().await.is(ExitCode::Contract);
        let most = from + 50 + ended.most_in_flight + 60;
        let ended = ended.sent_at_most(most);
        assert!(!play.out().join("_SUCCESS").exists(), "{ended}");
        let again = play.run_unjudged().await.is(ExitCode::Contract);
        assert_eq!(again.sent.len(), 0, "{again}");
    }
}

#[tokio::test(start_paused = true)]
async fn many_empty_lists_among_others_are_no_reason_to_stop() {
    for percent in [30, 60, 90] {
        let lists = (0..1_000).map(|list| if hash(&[list, 6]) % 100 < percent { 0 } else { 1 + list % 25 });
        Play::new(World::new(lists)).completes().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_block_of_forty_nine_empty_lists_is_no_reason_to_stop() {
    let lists = [every_size(200, 25).into_iter().map(|rows| rows + 1).collect(), vec![0; 49], vec![12; 100]].concat();
    Play::new(World::new(lists)).with("lookahead", 0).completes().await;
}
