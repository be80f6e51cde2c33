//! What needs settings that were introduced together with these decisions.

use pagehaul::endpoint::BUILT_IN;
use pagehaul::error::ExitCode;

use super::play::Play;
use crate::common::scripted::Reply;
use crate::common::world::{Behind, Call, World, every_size, inside, success};

/// The built-in endpoint with more lists of codes.
fn endpoint_with(codes: &str) -> String {
    let key = codes.split(' ').next().unwrap();
    let (start, rest) = BUILT_IN.split_once(&format!("\n{key} = []")).unwrap();
    format!("{start}\n{codes}{rest}")
}

/// An export by an endpoint file with these lists of codes.
fn play(world: World, codes: &str) -> Play {
    let play = Play::new(world);
    let path = play.file("endpoint.toml", &endpoint_with(codes));
    play.with("endpoint", path)
}

fn busy() -> Reply {
    inside(10_005, "system busy")
}

#[tokio::test(start_paused = true)]
async fn auto_is_the_built_in_rule_for_the_end_of_a_list() {
    for rule in [None, Some("auto")] {
        let mut play = Play::new(World::new(every_size(80, 60)).capped(8));
        if let Some(rule) = rule {
            play.set("end", rule);
        }
        play.completes().await.warned(1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_code_listed_as_retry_is_requested_again() {
    let world = World::new(every_size(100, 30)).but(|call| (call.item == 50 && call.nth <= 2).then(busy));
    let play = play(world, "retry_codes = [10005]");
    let ended = play.completes().await;
    assert_eq!(ended.summary.run.throttled, 0, "{ended}");
}

#[tokio::test(start_paused = true)]
async fn a_product_that_always_gets_a_code_listed_as_retry_fails_alone_and_the_same_command_tries_again() {
    let play = play(World::new(every_size(100, 30)).but(|call| (call.item == 50).then(busy)), "retry_codes = [10005]");
    play.run().await.completes_but(&[50], "system busy");
    let healed = play.against(World::new(every_size(100, 30)));
    healed.completes().await;
}

#[tokio::test(start_paused = true)]
async fn a_code_listed_as_throttle_slows_the_run_down_like_a_429() {
    let world = World::new(every_size(300, 30)).but(|call| (2..5).contains(&call.since.as_secs()).then(busy));
    let play = play(world, "throttle_codes = [10005, 10006]");
    let ended = play.completes().await;
    assert!(ended.summary.run.throttled > 0 && ended.summary.totals.credits.in_doubt == 0, "{ended}");
    let in_vain = ended.sent.len() - ended.summary.totals.credits.billed as usize;
    assert!(in_vain <= 30 + ended.most_in_flight, "{in_vain} requests in vain: {ended}");
}

#[tokio::test(start_paused = true)]
async fn a_code_listed_as_stop_ends_the_run_like_a_refused_key() {
    let expired = || inside(10_020, "subscription expired");
    for from in [1, 2, 90] {
        let world = World::new(every_size(100, 30)).but(move |call| (call.number >= from).then(expired));
        let play = play(world, "stop_codes = [10020]").with("max_in_flight", 4);
        let ended = play.run().await.is(ExitCode::Account).says(&["subscription expired"]);
        assert_eq!((ended.summary.totals.products.failed, ended.summary.totals.credits.in_doubt), (0, 0), "{ended}");
        ended.sent_at_most(from - 1 + 4 + 2);
        let again = play.against(World::new(every_size(100, 30)));
        again.completes().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_code_listed_as_the_end_of_a_list_ends_it() {
    let no_more = || inside(10_030, "no more data");
    let lists: Vec<u64> = (0..90).map(|list| list % 5 * 10).collect();
    let empty = lists.clone();
    let world = World::new(lists).behind(Behind::Says(no_more)).but(move |call| (empty[call.item] == 0).then(no_more));
    let play = play(world, "end_of_list_codes = [10030]").with("lookahead", 0);
    let ended = play.completes().await.warned(0);
    assert_eq!(ended.summary.totals.credits.in_doubt, 0, "{ended}");
    let most = ended.summary.totals.credits.billed as usize + 90 + 3;
    ended.sent_at_most(most);
}

#[tokio::test(start_paused = true)]
async fn a_code_listed_as_the_end_of_a_list_is_believed_in_mid_list_only_where_nothing_is_behind() {
    let no_more = |call: &Call| (call.item == 3 && call.page == 2).then(|| inside(10_030, "no more data"));
    let world = World::new(every_size(60, 30).into_iter().map(|rows| rows % 10 + 10)).but(no_more);
    let play = play(world, "end_of_list_codes = [10030]");
    // Nothing but the file says that this is an end: it is trusted, and the rest of that list is what the file cost.
    let ended = play.run_unjudged().await.is(ExitCode::Complete);
    assert!(ended.products[&3].complete, "{ended}");
}

#[tokio::test(start_paused = true)]
async fn evidence_above_the_allowed_share_stops_the_run_before_it_is_paid_and_a_higher_share_continues() {
    // A thousand lists that end as they should were read before the first one that does not.
    let world = World::new([vec![45; 1_000], vec![95; 600]].concat());
    let mut play = Play::new(world.hiding(|item, row| item >= 1_000 && row % 30 == 14)).with("max_evidence", 1);
    let ended = play.run().await.is(ExitCode::Limit).says(&["max-evidence"]);
    assert!(ended.summary.totals.credits.billed < play.world.lists.fewest(None), "{ended}");
    play.set("max_evidence", "30");
    play.completes().await;
}

#[tokio::test(start_paused = true)]
async fn an_export_of_empty_lists_is_complete_where_that_is_allowed() {
    let play = Play::new(World::new(vec![0; 2_000])).with("allow_empty", "true");
    let ended = play.completes().await;
    assert_eq!(ended.requests_where(|_| true), ended.products.len(), "{ended}");
}

#[tokio::test(start_paused = true)]
async fn an_export_that_stopped_for_empty_lists_continues_where_that_is_allowed() {
    let mut play = Play::new(World::new(vec![0; 500]));
    let first = play.run().await.is(ExitCode::Contract);
    play.set("allow_empty", "true");
    let ended = play.completes().await;
    assert_eq!(first.sent.len() + ended.sent.len(), 500, "none is requested twice: {ended}");
}

#[tokio::test(start_paused = true)]
async fn lists_that_turned_empty_are_taken_as_they_are_where_that_is_allowed() {
    let empty = |call: &Call| (call.number > 300).then(|| success("[]"));
    let lists = every_size(500, 25).into_iter().map(|rows| rows + 1);
    let play = Play::new(World::new(lists).sending(empty)).with("allow_empty", "true");
    play.run_unjudged().await.is(ExitCode::Complete);
}
