//! Lists that move while they are read: nothing is missing from one that is called complete, and what may be missing is read once
//! more when somebody requests it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use pagehaul::error::ExitCode;

use super::play::{Ended, Play};
use crate::common::evidence;
use crate::common::world::{Behind, Call, World, every_size, internal_error, later, success};

/// A list that gains a row at its head with every nth answer of its own, and some that do not move.
fn growing(rows: u64, one_in: usize) -> World {
    World::new([vec![rows], every_size(20, 30)].concat()).changing(move |call, list| {
        if call.item == 0 && call.number.is_multiple_of(one_in) {
            let put_in = list.iter().filter(|row| **row >= later(0)).count();
            list.insert(0, later(put_in as u64));
        }
    })
}

/// Puts rows in at the head of a list when one of its pages was answered, once.
fn putting_in(rows: u64, page: u32, is_meant: impl Fn(usize) -> bool) -> impl Fn(&Call, &mut Vec<u64>) {
    move |call, list| {
        if is_meant(call.item) && call.page == page && list[0] == 0 {
            list.splice(0..0, (0..rows).map(later));
        }
    }
}

/// Pages of the first list that were paid for twice.
fn paid_twice(play: &Play) -> u64 {
    play.world.served().iter().filter(|((item, _), _)| *item == 0).map(|(_, times)| u64::from(times - 1)).sum()
}

#[tokio::test(start_paused = true)]
async fn a_list_that_grows_while_pages_of_it_are_requested_ahead_loses_no_row_or_is_named() {
    let mut complete = 0;
    for (rows, one_in) in [(2_000, 10), (2_000, 3), (2_000, 50), (600, 7), (1_200, 90), (5_000, 400)] {
        let play = Play::new(growing(rows, one_in)).about(format!("{rows} rows, one new in {one_in} answers"));
        let ended = play.run().await; // the oracle looks for rows that are missing
        let again = ended.summary.totals.pages.outdated;
        assert!(again <= evidence(ended.summary.totals.pages.journaled), "within the evidence budget: {ended}");
        assert_eq!(paid_twice(&play), again, "{ended}");
        assert_eq!(ended.summary.totals.products.moved, 1, "{ended}");
        let first = &ended.products[&0];
        assert!(first.moved && first.duplicates > 0 && !ended.products[&1].moved, "{first:?}");
        if ended.summary.exit == ExitCode::Complete {
            complete += 1;
        } else {
            let ended = ended.is(ExitCode::Partial).ended_as("shifted", [0]);
            assert!(ended.products[&0].error.contains("--repair"), "{ended}");
        }
    }
    assert_eq!(complete, 4, "a list that moves is read in order, and few outdated pages are read again");
}

#[tokio::test(start_paused = true)]
async fn pages_that_are_read_again_stay_within_the_budget_however_often_the_run_is_interrupted() {
    for steps in [7, 13, 29] {
        let play = Play::new(growing(1_200, 90)).about(format!("a signal every {steps} requests"));
        let mut ended = play.run_until(steps).await;
        for _ in 0..60 {
            if matches!(ended.summary.exit, ExitCode::Complete | ExitCode::Partial) {
                break;
            }
            ended = play.run_until(steps).await;
        }
        assert!(matches!(ended.summary.exit, ExitCode::Complete | ExitCode::Partial), "{ended}");
        assert!(ended.summary.totals.pages.outdated <= evidence(ended.summary.totals.pages.journaled), "{ended}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_empty_page_that_came_before_the_list_moved_does_not_show_that_a_repeated_page_is_its_end() {
    for (pages, put_in) in [(14, 10), (14, 25), (15, 10), (15, 25), (16, 20), (24, 30)] {
        let served = AtomicU64::new(0);
        let world = World::new([vec![10 * pages], every_size(20, 30)].concat()).changing(move |call, list| {
            if call.item == 0 {
                let served = served.fetch_or(1 << call.page, Ordering::SeqCst) | 1 << call.page;
                // All pages have come but the last one, and perhaps some behind it.
                if served & ((1 << (pages + 1)) - 1) == (1 << pages) - 2 && list[0] == 0 {
                    list.splice(0..0, (0..put_in).map(later));
                }
            }
        });
        let play =
            Play::new(world).at(None).with("lookahead_saves", "0s").about(format!("{pages} pages, {put_in} new"));
        let ended = play.run().await; // the oracle looks for rows that are missing
        assert!(ended.products[&0].moved, "{ended}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_that_waits_for_another_try_behind_outdated_ones_is_not_requested_twice_at_a_time() {
    let world = World::new([vec![600; 60], vec![185]].concat())
        .taking(|call| (call.item == 60 && call.page == 1).then_some(Duration::from_secs(20)))
        .but(|call| (call.item == 60 && call.page == 16 && call.nth <= 3).then(internal_error))
        .changing(putting_in(1, 13, |item| item == 60));
    let play = Play::new(world).at(None).with("lookahead_saves", "0s").with("max_in_flight", 16);
    let ended = play.completes().await;
    assert!(ended.summary.totals.pages.outdated > 0, "{ended}");
}

#[tokio::test(start_paused = true)]
async fn where_two_pages_of_rows_were_put_in_the_page_that_shows_the_rest_is_not_outdated_by_those_before_it() {
    let world = World::new(vec![60; 20]).changing(putting_in(20, 5, |_| true));
    Play::new(world).completes().await;
}

#[tokio::test(start_paused = true)]
async fn a_page_that_showed_another_one_before_the_list_moved_does_not_show_where_it_ends() {
    for behind in [|| Behind::First, || Behind::Last, || Behind::Around] {
        for (at, rows) in [(10, 2), (9, 2), (10, 1), (10, 7)] {
            let world = World::new([vec![110], every_size(20, 30)].concat()).behind(behind());
            let world = world.changing(putting_in(rows, at, |item| item == 0));
            let play =
                Play::new(world).at(None).with("lookahead_saves", "0s").about(format!("{rows} new at page {at}"));
            let ended = play.run().await; // the oracle looks for rows that are missing
            assert!(ended.products[&0].moved, "{ended}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn outdated_pages_for_which_too_few_credits_are_left_are_read_again_by_a_run_that_has_them() {
    let world = World::new([160]).changing(putting_in(1, 12, |_| true));
    let mut play = Play::new(world).at(None).with("lookahead_saves", "0s").with("lookahead", 100);
    for most in 10..22 {
        play.set("max_credits", most.to_string());
        let ended = play.run().await;
        assert!(matches!(ended.summary.exit, ExitCode::Limit | ExitCode::Complete), "{most}: {ended}");
    }
    play.completes().await;
}

/// A run that leaves the first list as `shifted`: too many of its pages are outdated.
async fn shifted() -> (Play, Ended) {
    let play = Play::new(World::new(vec![1_205, 31]).changing(putting_in(7, 60, |item| item == 0)))
        .at(None)
        .with("lookahead_saves", "0s");
    let ended = play.run().await.is(ExitCode::Partial).ended_as("shifted", [0]);
    (play, ended)
}

#[tokio::test(start_paused = true)]
async fn a_repair_reads_a_list_that_moved_once_more_in_order_and_says_the_price_first() {
    let (mut play, before) = shifted().await;
    let pages = before.requests_for(0) as u64;
    play.set("repair", "true");
    let ended = play.completes().await;
    assert_eq!(ended.warnings, [format!("repair 1 0 {pages}")]);
    let places: Vec<u32> = ended.sent.iter().filter(|sent| sent.id == "1000000").map(|sent| sent.page).collect();
    assert!(places.is_sorted() && places.len() as u64 <= pages, "in order, at most its pages: {places:?}");
    assert_eq!(ended.requests_for(1), 0, "others are left alone");
    assert_eq!(ended.summary.totals.pages.outdated, pages);
    let rows = &ended.summary.totals.rows;
    assert_eq!((rows.published, rows.duplicates), (1_205 + 7 + 31, rows.received - rows.published), "each row once");
    // The next one finds nothing to repair.
    let again = play.completes().await;
    assert_eq!((again.sent.len(), &again.warnings), (0, &vec!["repair 0 0 0".to_owned()]));
    assert!(ended.summary.complete_since.is_some(), "{ended}");
    assert_eq!(again.summary.complete_since, ended.summary.complete_since, "it is complete since then");
}

#[tokio::test(start_paused = true)]
async fn a_list_that_moved_is_repaired_by_what_the_ledger_knows_when_its_journal_is_removed() {
    let (mut play, before) = shifted().await;
    let directory = play.out().join("_pagehaul/journal");
    let journal = || {
        let files = crate::common::files(&directory).into_iter();
        files.map(|file| std::fs::metadata(file).unwrap().len()).sum::<u64>()
    };
    assert!(journal() > 0);
    play.set("journal", "until-published");
    play.run().await.is(ExitCode::Partial).ended_as("shifted", [0]).sent_at_most(0);
    assert_eq!(journal(), 0, "a list that may be repaired needs none of it");
    play.set("repair", "true");
    play.set("segment_size", "4KiB");
    play.run_until(40).await.is(ExitCode::Interrupted);
    let ended = play.completes().await;
    assert_eq!(journal(), 0);
    let rows = &ended.summary.totals.rows;
    assert_eq!((rows.published, rows.duplicates), (1_205 + 7 + 31, rows.received - rows.published), "each row once");
    assert!(play.world.served().values().all(|times| *times <= 2), "{} pages before", before.sent.len());
}

#[tokio::test(start_paused = true)]
async fn without_repair_a_list_that_moved_is_left_as_it_is_and_nothing_is_sent() {
    let (mut play, _) = shifted().await;
    for retry in ["false", "true"] {
        play.set("retry_failed", retry);
        let ended = play.run().await.is(ExitCode::Partial).ended_as("shifted", [0]);
        assert_eq!(ended.sent.len(), 0, "{ended}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_repair_that_is_interrupted_anywhere_continues_in_order_and_pays_for_no_page_a_third_time() {
    for stop_at in [1, 2, 9, 40, 90] {
        let (mut play, _) = shifted().await;
        play.set("repair", "true");
        play.run_until(stop_at).await.is(ExitCode::Interrupted);
        // The same command, as an unattended job gives it.
        let ended = play.completes().await;
        assert!(play.world.served().values().all(|times| *times <= 2), "{stop_at}: {:?}", play.world.served());
        assert!(ended.warnings.contains(&"repair 0 0 0".to_owned()), "the repair had begun: {:?}", ended.warnings);
    }
}

#[tokio::test(start_paused = true)]
async fn a_repair_costs_no_more_than_was_allowed_and_continues_later() {
    let (mut play, before) = shifted().await;
    play.set("repair", "true");
    play.set("max_credits", (before.summary.totals.credits.billed + 20).to_string());
    let ended = play.run().await.is(ExitCode::Limit);
    assert_eq!(ended.sent.len(), 20, "{ended}");
    play.unset("max_credits");
    play.unset("repair");
    play.completes().await;
}

#[tokio::test(start_paused = true)]
async fn lists_that_came_empty_are_requested_again_by_a_repair_once_the_api_is_mended() {
    for empty in ["[]", "null"] {
        let play = Play::new(World::new(vec![0; 300]).ending_with(empty));
        let requested = play.run().await.is(ExitCode::Contract).summary.totals.pages.journaled;
        let mut play = play.against(World::new(every_size(300, 25)));
        play.run_unjudged().await.is(ExitCode::Contract).sent_at_most(0);
        play.set("repair", "true");
        let ended = play.completes().await;
        assert_eq!(ended.warnings, [format!("repair 0 {requested} {requested}")], "{empty}");
        assert!(ended.requests_for(0) >= 1 && ended.requests_for(150) >= 1, "{ended}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_repair_while_lists_still_come_empty_stops_after_fifty_again() {
    let mut play = Play::new(World::new(vec![0; 300]));
    play.run().await.is(ExitCode::Contract);
    play.set("repair", "true");
    let ended = play.run().await.is(ExitCode::Contract);
    assert!((50..60).contains(&ended.sent.len()), "{ended}");
}

#[tokio::test(start_paused = true)]
async fn lists_that_turned_empty_in_mid_run_are_read_on_by_a_repair_where_they_seemed_to_end() {
    let lists: Vec<u64> = every_size(500, 45).into_iter().map(|rows| rows + 1).collect();
    let world = World::new(lists.clone()).sending(|call| (call.number > 300).then(|| success("[]")));
    let play = Play::new(world).with("lookahead", 0);
    play.run_unjudged().await.is(ExitCode::Contract);
    let mut play = play.against(World::new(lists));
    play.set("repair", "true");
    let ended = play.completes().await;
    let rows = &ended.summary.totals.rows;
    assert!(
        rows.duplicates <= 10,
        "no page with rows was paid for twice but the one that was looked at again: {ended}"
    );
}

#[tokio::test(start_paused = true)]
async fn empty_lists_among_lists_with_rows_are_not_repaired() {
    let mut play = Play::new(World::new((0..60).map(|list| list % 3 * 7)));
    play.completes().await;
    play.set("repair", "true");
    let ended = play.completes().await;
    assert_eq!((ended.sent.len(), ended.warnings), (0, vec!["repair 0 0 0".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn lists_that_all_turned_empty_behind_full_pages_are_not_called_complete_and_a_repair_reads_them_on() {
    for empty in ["[]", "null"] {
        let world = World::new(vec![95; 200])
            .ending_with(empty)
            .sending(move |call| (call.number > 700).then(|| success(empty)));
        let play = Play::new(world).at(None).with("lookahead", 0);
        play.run().await.is(ExitCode::Contract); // the oracle looks for rows that are missing
        play.run().await.is(ExitCode::Contract).sent_at_most(0);
        let mut play = play.against(World::new(vec![95; 200]).ending_with(empty));
        play.set("repair", "true");
        play.completes().await;
    }
}

#[tokio::test(start_paused = true)]
async fn lists_that_end_behind_full_pages_all_at_once_cost_a_second_look_within_the_evidence_and_are_complete() {
    for (lists, rows) in [(200, 10), (200, 40), (1_000, 20), (60, 30)] {
        let play = Play::new(World::new(vec![rows; lists])).at(None).with("lookahead", 0);
        let ended = play.completes().await.costs_at_most(play.most_credits());
        assert!(ended.summary.totals.pages.outdated <= 3 && ended.summary.totals.products.moved == 0, "{ended}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_list_whose_rows_are_gone_is_not_taken_for_an_api_without_rows() {
    let is_first = AtomicBool::new(true);
    let gone = move |call: &Call| (call.nth == 2 && is_first.swap(false, Ordering::SeqCst)).then(|| success("[]"));
    let play = Play::new(World::new(vec![40; 200]).sending(gone)).at(None).with("lookahead", 0);
    let ended = play.completes().await.costs_at_most(play.most_credits());
    assert!((2..=3).contains(&ended.summary.totals.pages.outdated), "another list was looked at: {ended}");
    let again = play.completes().await;
    assert_eq!(again.sent.len(), 0, "{again}");
}
