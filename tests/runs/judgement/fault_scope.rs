//! This item, or the API? A failure is judged by what other items are answered to requests that were sent after it.

use std::sync::Arc;
use std::time::Duration;

use pagehaul::endpoint::BUILT_IN;
use pagehaul::error::ExitCode;

use super::play::{Ended, Play};
use crate::common::scripted::{Reply, run_until};
use crate::common::world::{
    Call, World, every_size, hash, html, id, inside, internal_error, place, refusal, success, throttled,
};
use crate::common::{context, scratch};

/// Requests that one item's failures may cost beside its pages: its tries, and three control requests.
const OWN: usize = 8 + 3;
/// Control requests of a run at most.
const CONTROL: usize = 3;

type Kind = (&'static str, fn() -> Reply);

/// Refusals that speak of the key, the account or its credits.
const ACCOUNT: [Kind; 6] = [
    ("apiKey is invalid", || refusal(401, "apiKey is invalid")),
    ("apiKey quota is not enough", || refusal(402, "apiKey quota is not enough")),
    ("forbidden", || refusal(403, "forbidden")),
    ("apiKey is invalid", || inside(401, "apiKey is invalid")),
    ("apiKey quota is not enough", || inside(402, "apiKey quota is not enough")),
    ("forbidden", || inside(403, "forbidden")),
];

/// An export of 200 lists of 0 to 30 rows of which some items always get another answer.
fn with_dead(dead: &'static [usize], kind: fn() -> Reply) -> World {
    World::new(every_size(200, 30)).but(move |call| dead.contains(&call.item).then(kind))
}

/// Fails unless a run fails these items alone, and the same command afterwards no others.
async fn assert_own(dead: &'static [usize], (words, kind): Kind) {
    let play = Play::new(with_dead(dead, kind));
    let most = play.most_credits() as usize + dead.len() * OWN;
    play.run().await.completes_but(dead, words).sent_at_most(most);
    play.run().await.completes_but(dead, words).sent_at_most(dead.len() * OWN);
    // A refusal in the API's own words may be for good: that such a product is requested again takes --retry-failed.
    let healed = play.against(World::new(every_size(200, 30))).with("retry_failed", true);
    healed.completes().await;
}

#[tokio::test(start_paused = true)]
async fn a_product_in_mid_list_that_is_refused_like_an_account_fails_alone_in_one_run() {
    for kind in ACCOUNT {
        assert_own(&[99], kind).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_product_that_is_refused_like_an_account_fails_alone_in_one_run() {
    for kind in ACCOUNT {
        assert_own(&[0], kind).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_product_that_is_refused_like_an_account_fails_alone_in_one_run() {
    for kind in ACCOUNT {
        assert_own(&[199], kind).await;
    }
}

#[tokio::test(start_paused = true)]
async fn six_products_all_over_the_list_that_are_refused_like_an_account_fail_alone_in_one_run() {
    for kind in ACCOUNT {
        assert_own(&[3, 40, 77, 120, 160, 199], kind).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_third_page_of_a_product_that_is_refused_like_an_account_fails_that_product_alone_and_keeps_its_first_two()
{
    for (words, kind) in ACCOUNT {
        let world = World::new([vec![45], every_size(60, 30)].concat());
        let play = Play::new(world.but(move |call| (call.item == 0 && call.page == 3).then(kind)));
        let most = play.most_credits() as usize + OWN;
        let ended = play.run().await.completes_but(&[0], words).sent_at_most(most);
        let whole: usize = every_size(60, 30).iter().sum::<u64>() as usize;
        assert_eq!(ended.summary.totals.rows.published as usize, whole + 20, "{ended}");
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_products_the_one_that_is_refused_like_an_account_fails_alone_whichever_it_is() {
    for dead in [0, 1] {
        for (words, kind) in ACCOUNT {
            let play = Play::new(World::new([25, 25]).but(move |call| (call.item == dead).then(kind)));
            play.run().await.completes_but(&[dead], words).sent_at_most(3 + 3 + OWN);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn with_one_request_in_flight_a_product_that_is_refused_like_an_account_fails_alone_too() {
    for dead in [&[0][..], &[99], &[199]] {
        let play = Play::new(with_dead(dead, ACCOUNT[2].1)).with("max_in_flight", 1);
        play.run().await.completes_but(dead, "forbidden");
    }
}

#[tokio::test(start_paused = true)]
async fn thirty_neighbours_that_are_refused_like_an_account_fail_alone_within_three_runs() {
    let kind = ACCOUNT[2].1;
    let play = Play::new(World::new(every_size(200, 30)).but(move |call| (100..130).contains(&call.item).then(kind)));
    let ended = play.run_while(ExitCode::Account, 3).await;
    ended.completes_but(&(100..130).collect::<Vec<_>>(), "forbidden");
}

#[tokio::test(start_paused = true)]
async fn one_answer_of_a_gateway_in_mid_run_is_requested_again() {
    for status in [301, 302, 307, 308, 401, 403, 407, 500, 502, 503, 504, 520] {
        for at in [1, 2, 40, 150] {
            let world = World::new(every_size(100, 30)).but(move |call| (call.number == at).then(|| html(status)));
            let play = Play::new(world);
            let ended = play.completes().await;
            assert!(
                ended.summary.totals.credits.free + ended.summary.totals.credits.in_doubt >= 1,
                "{status} at {at}: {ended}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_answer_of_a_gateway_to_the_last_page_of_all_is_requested_again() {
    for status in [301, 403, 503] {
        let world = World::new([25, 25, 85]).but(move |call| (call.page == 9 && call.nth == 1).then(|| html(status)));
        Play::new(world).completes().await;
    }
}

#[tokio::test(start_paused = true)]
async fn two_answers_of_a_gateway_to_two_products_at_once_are_requested_again() {
    for status in [301, 403, 503] {
        let hit = |call: &Call| (call.number == 40 || call.number == 41) && call.nth == 1;
        Play::new(World::new(every_size(100, 30)).but(move |call| hit(call).then(|| html(status)))).completes().await;
    }
}

/// From the nth request on everything is refused like this; then the account is in order again.
async fn assert_stops(from: usize, (words, kind): Kind, most_in_flight: usize) {
    let world = World::new(every_size(100, 30)).but(move |call| (call.number >= from).then(kind));
    let play = Play::new(world).with("max_in_flight", most_in_flight);
    let ended = play.run().await.is(ExitCode::Account).says(&[words]);
    assert_eq!((ended.summary.totals.products.failed, ended.summary.totals.credits.in_doubt), (0, 0), "{ended}");
    let ended = ended.sent_at_most(from - 1 + most_in_flight + 2);
    assert_eq!(ended.summary.totals.credits.billed as usize, from - 1, "what was paid for is kept: {ended}");
    let again = play.against(World::new(every_size(100, 30)));
    again.completes().await;
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_revoked_in_mid_run_costs_what_is_in_flight_and_two_requests_more() {
    for kind in [ACCOUNT[0], ACCOUNT[2], ACCOUNT[3], ACCOUNT[5]] {
        for from in [2, 3, 17, 90, 160] {
            assert_stops(from, kind, 4).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn credits_that_are_spent_in_mid_run_cost_what_is_in_flight_and_two_requests_more() {
    const WORDS: &str = "Usage limit exceeded for this key";
    for kind in [ACCOUNT[1], ACCOUNT[4], (WORDS, || refusal(500, WORDS)), (WORDS, || inside(500, WORDS))] {
        for from in [2, 3, 17, 90, 160] {
            assert_stops(from, kind, 4).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_revoked_while_many_requests_are_in_flight_costs_them_and_two_more() {
    let world = World::new(every_size(900, 30)).but(|call| (call.number >= 700).then(ACCOUNT[0].1));
    let ended = Play::new(world).at(Some(500.0)).run().await.is(ExitCode::Account);
    // One more may leave at the very moment at which the first refusal arrives.
    let most = 699 + ended.most_in_flight + 1 + 2;
    ended.sent_at_most(most);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_refused_from_the_first_request_on_costs_three_requests() {
    for kind in ACCOUNT {
        for lists in [1, 2, 3, 300] {
            let play = Play::new(World::new(every_size(lists, 30)).but(move |_| Some(kind.1())));
            let ended = play.run().await.is(ExitCode::Account).says(&[kind.0]);
            let ended = ended.sent_at_most(if lists == 2 { 6 } else { 3 });
            assert_eq!(ended.summary.totals.products.failed, 0, "{ended}");
            let places: Vec<usize> = ended.sent.iter().map(|sent| place(&sent.id)).collect();
            let apart = places.iter().max().unwrap() - places.iter().min().unwrap();
            assert!(lists < 300 || apart >= 100, "from different parts of the list: {places:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_success_that_was_sent_before_the_key_was_revoked_proves_nothing() {
    let slow = Duration::from_secs(5);
    let world = World::new(every_size(100, 30))
        .but(|call| (call.number >= 60).then(ACCOUNT[0].1))
        .taking(move |call| (50..60).contains(&call.number).then_some(slow));
    let ended = Play::new(world).run().await.is(ExitCode::Account);
    let most = 59 + ended.most_in_flight + 2;
    let ended = ended.sent_at_most(most);
    assert_eq!((ended.summary.totals.credits.billed, ended.summary.totals.products.failed), (59, 0), "{ended}");
}

#[tokio::test(start_paused = true)]
async fn slow_answers_that_are_in_flight_when_a_run_stops_by_itself_are_waited_for_and_kept() {
    let slow = Duration::from_secs(25);
    let world = || {
        World::new(every_size(100, 30))
            .but(|call| (call.number >= 60).then(ACCOUNT[0].1))
            .taking(move |call| (50..60).contains(&call.number).then_some(slow))
    };
    let play = Play::new(world()).with("drain_timeout", "10s");
    let ended = play.run().await.is(ExitCode::Account);
    assert_eq!((ended.summary.totals.credits.billed, ended.summary.totals.credits.in_doubt), (59, 0), "{ended}");
    // Where none of them ever comes, the run ends anyway.
    let never = World::new(every_size(100, 30)).but(|call| match call.number {
        50..60 => Some(Reply::never()),
        60.. => Some(ACCOUNT[0].1()),
        _ => None,
    });
    let play = Play::new(never).with("drain_timeout", "10s").with("request_timeout", "40s");
    play.run().await.is(ExitCode::Account).took_at_most(Duration::from_secs(45));
}

#[tokio::test(start_paused = true)]
async fn a_signal_ends_the_wait_for_slow_answers_of_a_run_that_stops_by_itself() {
    let world = World::new(every_size(100, 30)).but(|call| match call.number {
        50..60 => Some(Reply::never()),
        60.. => Some(ACCOUNT[0].1()),
        _ => None,
    });
    let (directory, list) = (scratch(), world.ids());
    let settings = [("drain_timeout", "1s"), ("request_timeout", "1h")];
    let context = context(&directory.path().join("out"), Some(50.0), &settings);
    let api = Arc::new(world).serve(usize::MAX);
    let signal = async {
        tokio::time::sleep(Duration::from_secs(20)).await;
        ExitCode::Interrupted
    };
    let summary = run_until(&context, &api, &list, signal).await.unwrap();
    let sent = api.sent();
    let sent_for = sent.last().unwrap().at - sent[0].at;
    assert!(sent_for < Duration::from_secs(5), "it had stopped by itself: {summary}");
    assert!((19.0..22.0).contains(&summary.run.seconds), "{summary}");
    assert_eq!(summary.exit, ExitCode::Account, "what stopped it first: {summary}");
}

#[tokio::test(start_paused = true)]
async fn slow_answers_that_are_in_flight_when_a_signal_comes_are_waited_for_as_long_as_the_drain_timeout_says() {
    let world = World::new(every_size(100, 30))
        .taking(|call| (50..60).contains(&call.number).then_some(Duration::from_secs(25)));
    let play = Play::new(world).with("drain_timeout", "10s");
    let ended = play.run_until(60).await.is(ExitCode::Interrupted).took_at_most(Duration::from_secs(13));
    assert_eq!(ended.summary.totals.credits.in_doubt, 10, "{ended}");
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_revoked_when_one_deep_list_is_all_that_is_left_stops_the_run_and_blames_no_product() {
    for kind in ACCOUNT {
        let world = World::new([5, 15, 400]).but(move |call| (call.number >= 30).then(kind.1));
        let play = Play::new(world);
        let ended = play.run().await.is(ExitCode::Account).says(&[kind.0]);
        assert_eq!(ended.summary.totals.products.failed, 0, "{ended}");
        let again = play.against(World::new([5, 15, 400]));
        again.completes().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_page_of_the_last_list_that_is_refused_like_an_account_fails_its_product_after_control_requests() {
    for (words, kind) in ACCOUNT {
        let world = World::new([5, 15, 85]).but(move |call| (call.item == 2 && call.page == 9).then(kind));
        let play = Play::new(world);
        let ended = play.run().await.completes_but(&[2], words);
        assert!(ended.requests_where(|item| item != 2) <= 3 + 3 + CONTROL, "{ended}");
    }
}

#[tokio::test(start_paused = true)]
async fn control_requests_stay_within_the_allowed_credits() {
    for most in 13..=18 {
        let world = World::new([5, 15, 85]).but(|call| (call.item == 2 && call.page == 9).then(internal_error));
        let play = Play::new(world).with("max_credits", most);
        let ended = play.run().await.costs_at_most(most);
        assert!(matches!(ended.summary.exit, ExitCode::Partial | ExitCode::Limit | ExitCode::Temporary), "{ended}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_single_list_whose_page_always_fails_is_temporary_first_and_fails_in_the_second_run() {
    let play = Play::new(World::new([95]).but(|call| (call.page == 5).then(internal_error)));
    let first = play.run().await.is(ExitCode::Temporary);
    assert_eq!(first.summary.totals.products.failed, 0, "{first}");
    play.run().await.completes_but(&[0], "Internal server error").sent_at_most(OWN);
}

#[tokio::test(start_paused = true)]
async fn a_single_list_whose_page_is_always_refused_like_an_account_fails_in_the_second_run() {
    for (words, kind) in ACCOUNT {
        let play = Play::new(World::new([95]).but(move |call| (call.page == 5).then(kind)));
        let first = play.run().await;
        assert!(matches!(first.summary.exit, ExitCode::Temporary | ExitCode::Account), "{first}");
        assert_eq!(first.summary.totals.products.failed, 0, "{first}");
        play.run().await.completes_but(&[0], words).sent_at_most(OWN);
    }
}

#[tokio::test(start_paused = true)]
async fn a_single_list_of_which_no_page_ever_came_is_never_blamed() {
    let play = Play::new(World::new([95]).but(|_| Some(internal_error())));
    for _ in 0..3 {
        let ended = play.run().await;
        assert!(matches!(ended.summary.exit, ExitCode::Temporary | ExitCode::Contract), "{ended}");
        assert_eq!(ended.summary.totals.products.failed, 0, "{ended}");
    }
}

#[tokio::test(start_paused = true)]
async fn before_any_page_came_no_product_is_requested_twice_while_others_were_never_requested() {
    for reply in [|| html(404), || html(503), || success("7")] {
        let play =
            Play::new(World::new(every_size(300, 30)).but(move |_| Some(reply()))).with("retry_base_delay", "5ms");
        let ended = play.run().await;
        assert!(matches!(ended.summary.exit, ExitCode::Temporary | ExitCode::Contract), "{ended}");
        let mut first: Vec<usize> = ended.sent.iter().take(20).map(|sent| place(&sent.id)).collect();
        first.sort_unstable();
        first.dedup();
        assert_eq!(first.len(), 20, "of the first 20 requests some were for the same product: {ended}");
    }
}

/// For some time everything gets a code of the API's own, whatever the HTTP status says.
async fn assert_waited_out(lists: usize, qps: Option<f64>, busy: std::ops::Range<u64>, kind: fn() -> Reply) {
    let during = move |call: &Call| busy.contains(&(call.since.as_millis() as u64));
    let world = World::new(every_size(lists, 30)).but(move |call| during(call).then(kind));
    let play = Play::new(world).at(qps);
    let most = play.most_credits();
    let ended = play.completes().await;
    let in_vain = ended.sent.len() - ended.summary.totals.credits.billed as usize;
    assert!(in_vain <= 20 + ended.most_in_flight, "{in_vain} requests in vain: {ended}");
    ended.costs_at_most(most);
}

#[tokio::test(start_paused = true)]
async fn a_code_of_the_api_s_own_for_one_second_is_waited_out() {
    let busy = || inside(10_005, "system busy, please try again later");
    assert_waited_out(500, Some(50.0), 3_000..4_000, busy).await;
    assert_waited_out(500, Some(300.0), 1_000..2_000, busy).await;
    assert_waited_out(3_000, None, 100..1_100, busy).await;
}

#[tokio::test(start_paused = true)]
async fn a_code_of_the_api_s_own_for_a_minute_is_waited_out() {
    assert_waited_out(500, Some(50.0), 3_000..63_000, || inside(10_005, "system busy")).await;
}

#[tokio::test(start_paused = true)]
async fn a_negative_code_for_one_second_is_waited_out() {
    assert_waited_out(500, Some(50.0), 3_000..4_000, || inside(-1, "system error")).await;
}

#[tokio::test(start_paused = true)]
async fn a_code_of_the_api_s_own_for_the_first_second_of_a_run_is_waited_out() {
    assert_waited_out(500, Some(50.0), 0..1_000, || inside(10_005, "system busy")).await;
}

#[tokio::test(start_paused = true)]
async fn a_code_of_the_api_s_own_to_every_twentieth_request_is_requested_again() {
    let busy = |call: &Call| call.number.is_multiple_of(20);
    let world = World::new(every_size(200, 30)).but(move |call| busy(call).then(|| inside(10_005, "system busy")));
    Play::new(world).completes().await;
}

#[tokio::test(start_paused = true)]
async fn a_product_that_always_gets_a_code_of_the_api_s_own_fails_alone_and_the_same_command_tries_again() {
    for dead in [&[57][..], &[0], &[199]] {
        let play = Play::new(with_dead(dead, || inside(10_404, "not for sale")));
        play.run().await.completes_but(dead, "not for sale");
        let again = play.run().await.completes_but(dead, "not for sale");
        assert!(again.requests_for(dead[0]) > 0, "{again}");
        let healed = play.against(World::new(every_size(200, 30)));
        healed.completes().await;
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_success_a_400_404_410_or_422_in_the_envelope_concludes_at_once() {
    for status in [400, 404, 410, 422] {
        let world = World::new(every_size(100, 30));
        let play = Play::new(world.but(move |call| (call.item == 57).then(|| refusal(status, "no such product"))));
        let ended = play.run().await.completes_but(&[57], "no such product");
        assert_eq!(ended.requests_for(57), 1, "{status}: {ended}");
        let again = play.run().await.completes_but(&[57], "no such product");
        assert_eq!(again.sent.len(), 0, "a lasting cause: {again}");
    }
}

/// The rate at which others are requested from an item's third refusal on.
fn rate_after_third(ended: &Ended, item: usize) -> f64 {
    let refused: Vec<_> = ended.sent.iter().filter(|sent| place(&sent.id) == item).collect();
    assert!(refused.len() >= 3, "{} tries: {ended}", refused.len());
    let from = refused[2].at;
    let others = ended.sent.iter().filter(|sent| sent.at > from && place(&sent.id) != item);
    let mut times: Vec<_> = others.map(|sent| sent.at).collect();
    times.truncate(times.len() - 20); // when nothing else is left: evidence, and control requests
    assert!(times.len() > 500, "{} requests after the third refusal show little: {ended}", times.len());
    times.len() as f64 / (*times.last().unwrap() - from).as_secs_f64()
}

/// One item of many always gets a 429: all others are read at the rate that was requested.
async fn assert_429_delays_nobody(item: usize, retry_after: u64) {
    let world = World::new(every_size(2_000, 30)).but(move |call| (call.item == item).then(|| throttled(retry_after)));
    let play = Play::new(world);
    let ended = play.run().await.completes_but(&[item], "qps limit exceeded");
    assert!((4..=7).contains(&ended.requests_for(item)), "{} tries: {ended}", ended.requests_for(item));
    let rate = rate_after_third(&ended, item);
    assert!(rate >= 0.95 * 50.0, "{rate:.1} requests a second from the third refusal on: {ended}");
}

#[tokio::test(start_paused = true)]
async fn a_page_that_is_always_throttled_delays_nobody_from_its_third_refusal_on() {
    for item in [0, 100, 300] {
        assert_429_delays_nobody(item, 0).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_that_is_always_throttled_and_asked_to_wait_delays_nobody_from_its_third_refusal_on() {
    for (item, retry_after) in [(0, 1), (100, 5), (300, 30)] {
        assert_429_delays_nobody(item, retry_after).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_deep_page_that_is_always_throttled_keeps_the_pages_before_it() {
    let world = World::new([vec![300], every_size(1_000, 30)].concat());
    let play = Play::new(world.but(|call| (call.item == 0 && call.page == 4).then(|| throttled(0))));
    let ended = play.run().await.completes_but(&[0], "qps limit exceeded");
    assert_eq!(ended.summary.totals.rows.published as usize, play.world.lists.rows() - 270, "{ended}");
}

#[tokio::test(start_paused = true)]
async fn a_page_that_is_always_throttled_and_all_that_is_left_fails_within_three_runs() {
    let play = Play::new(World::new(every_size(60, 30)).but(|call| (call.item == 59).then(|| throttled(0))));
    let ended = play.run_while(ExitCode::Temporary, 3).await;
    ended.completes_but(&[59], "qps limit exceeded");
}

#[tokio::test(start_paused = true)]
async fn throttling_that_serves_somebody_now_and_then_is_nobody_s_own() {
    // One request in three passes, whichever it is; some pages are refused many times running.
    let world = World::new(every_size(150, 30)).but(|call| (!call.number.is_multiple_of(3)).then(|| throttled(0)));
    Play::new(world).completes().await;
}

#[tokio::test(start_paused = true)]
async fn a_minute_of_429s_for_everyone_is_nobody_s_own() {
    for retry_after in [0, 20] {
        let during = |call: &Call| (2..62).contains(&call.since.as_secs());
        let world = World::new(every_size(300, 30)).but(move |call| during(call).then(|| throttled(retry_after)));
        Play::new(world).completes().await;
    }
}

/// The last six of 200 always fail.
fn six_dead(kind: fn() -> Reply) -> World {
    World::new(every_size(200, 30)).but(move |call| (call.item >= 194).then(kind))
}

const SIX: [usize; 6] = [194, 195, 196, 197, 198, 199];

#[tokio::test(start_paused = true)]
async fn six_products_that_always_answer_500_and_are_all_that_is_left_are_named_in_the_first_or_second_run() {
    for kind in [internal_error as fn() -> Reply, || html(502), || Reply::never()] {
        let play = Play::new(six_dead(kind));
        let ended = play.run_while(ExitCode::Temporary, 2).await;
        ended.completes_but(&SIX, "").took_at_most(Duration::from_secs(1_200));
    }
}

#[tokio::test(start_paused = true)]
async fn six_products_that_always_answer_500_are_named_in_the_run_after_a_signal() {
    for stop_at in [380, 410, 430] {
        let play = Play::new(six_dead(internal_error));
        let before = play.run_until(stop_at).await.summary.totals.credits.billed;
        let ended = play.run_while(ExitCode::Temporary, 2).await;
        let ended = ended.completes_but(&SIX, "Internal server error");
        let most = (play.most_credits() - before) as usize + CONTROL;
        assert!(ended.requests_where(|item| item < 194) <= most, "{most} at most: {ended}");
    }
}

#[tokio::test(start_paused = true)]
async fn tries_survive_runs_that_end_by_a_signal() {
    let play = Play::new(six_dead(internal_error));
    let mut ended = play.run_until(420).await;
    for _ in 0..25 {
        if ended.summary.exit == ExitCode::Interrupted {
            // Enough for all of them at once: the same command opens those again that failed for a passing cause.
            ended = play.run_until(20).await;
        }
    }
    let ended = ended.completes_but(&SIX, "Internal server error");
    let requested = play.world.requests();
    assert!(requested <= play.most_credits() as usize + 6 * 8 + 26 * CONTROL, "{requested} requests in all: {ended}");
}

#[tokio::test(start_paused = true)]
async fn a_product_that_failed_gets_three_fresh_tries_when_it_is_opened_again() {
    let play = Play::new(World::new(every_size(60, 30)).but(|call| (call.item == 30).then(internal_error)));
    play.run().await.completes_but(&[30], "Internal server error");
    for _ in 0..3 {
        let again = play.run().await.completes_but(&[30], "Internal server error");
        assert_eq!(again.requests_for(30), 3, "{again}");
        assert!(again.sent.len() <= 3 + CONTROL, "{again}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_success_without_a_list_is_paid_for_twice_at_most_and_fails_its_product_alone() {
    for kind in [|| html(200), || inside(0, "success"), || success("{\"list\":[]}"), || success("7")] {
        let world = World::new(every_size(60, 30)).but(move |call| (call.item == 30).then(kind));
        let play = Play::new(world);
        let ended = play.run().await;
        // A null where nothing else was ever sent for an empty list may be one; here `[]` came before.
        let ended = ended.completes_but(&[30], "");
        let requested = ended.sent.iter().filter(|sent| place(&sent.id) == 30 && sent.page == 1).count();
        // A null that came before the first empty list was taken for one, and is not requested again.
        assert!((1..=2).contains(&requested), "{requested} times: {ended}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_longer_than_max_outage_that_is_requested_of_everyone_ends_the_run_and_says_how_long() {
    for (status, max_outage) in [(429, "2h"), (429, "10m"), (503, "2h")] {
        let reply = move || refusal(status, "come back later").with_retry_after(Duration::from_secs(86_400));
        let world = World::new(every_size(200, 30)).but(move |call| (call.number > 100).then(reply));
        let play = Play::new(world).with("max_outage", max_outage);
        let ended = play.run().await.is(ExitCode::Temporary).says(&["86400", "86,400", "24h", "24 h", "day", "1d"]);
        assert_eq!((ended.summary.totals.products.failed, ended.summary.totals.credits.billed), (0, 100), "{ended}");
        // Five items in a row make an outage of what is not a 429.
        let most = 100 + ended.most_in_flight + if status == 429 { 3 } else { 5 };
        let ended = ended.sent_at_most(most).took_at_most(Duration::from_secs(400));
        drop(ended);
        let again = play.against(World::new(every_size(200, 30)));
        again.completes().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_longer_than_max_outage_that_is_requested_of_one_product_delays_the_others_once_at_most() {
    for status in [429, 503] {
        let reply = move || refusal(status, "come back later").with_retry_after(Duration::from_secs(86_400));
        let world = World::new(every_size(200, 30)).but(move |call| (call.item == 57).then(reply));
        let play = Play::new(world);
        let ended = play.run().await.completes_but(&[57], "come back later");
        let first = ended.sent[0].at;
        let mut others: Vec<_> =
            ended.sent.iter().filter(|sent| place(&sent.id) != 57).map(|sent| sent.at - first).collect();
        others.truncate(others.len() - CONTROL); // what shows at the end that the API serves
        let last = *others.last().unwrap();
        assert!(last < Duration::from_secs(330), "{status}: the others were read after {last:?}: {ended}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_hour_s_wait_that_is_requested_of_everyone_is_waited_for_within_max_outage() {
    let hour = Duration::from_secs(3_600);
    let during = move |call: &Call| (Duration::from_secs(2)..hour).contains(&call.since);
    let world = World::new(every_size(200, 30)).but(move |call| {
        let left = hour.checked_sub(call.since).unwrap_or_default();
        during(call).then(|| refusal(429, "later").with_retry_after(left))
    });
    let play = Play::new(world);
    let ended = play.completes().await;
    assert!(ended.sent.len() <= play.most_credits() as usize + ended.most_in_flight + 15, "{ended}");
}

/// The built-in endpoint with these success codes.
fn endpoint_with(codes: &str) -> String {
    let text = BUILT_IN.replace("success_codes = [0]", &format!("success_codes = {codes}"));
    assert_ne!(text, BUILT_IN);
    text
}

#[tokio::test(start_paused = true)]
async fn an_unknown_code_with_rows_beside_it_stops_the_run_after_three_requests_and_names_the_setting() {
    for code in [200, 1, 10_000] {
        for lists in [1, 2, 200] {
            let play = Play::new(World::new(every_size(lists, 30)).succeeding_with(code));
            let ended = play.run().await.is(ExitCode::Contract).says(&["success_codes"]).sent_at_most(3);
            assert_eq!(ended.summary.totals.products.failed, 0, "{ended}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn bodies_under_an_unknown_code_are_judged_again_and_not_paid_for_twice_once_the_code_is_known() {
    let mut play = Play::new(World::new(every_size(60, 30)).succeeding_with(200));
    play.run().await.is(ExitCode::Contract);
    let path = play.file("endpoint.toml", &endpoint_with("[0, 200]"));
    play.set("endpoint", path);
    play.completes().await;
    let served = play.world.served();
    let twice: Vec<_> = served.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "paid for twice: {twice:?}");
}

#[tokio::test(start_paused = true)]
async fn an_unknown_code_with_rows_beside_it_in_mid_run_blames_no_product_and_pays_for_no_page_three_times() {
    let world = World::new(every_size(300, 30)).sending(|call| {
        let rows = format!("{{\"code\":200,\"data\":[{}]}}", crate::common::world::text_of(call.item, 0));
        (call.number > 100).then(|| crate::common::world::body(200, rows))
    });
    let play = Play::new(world);
    let ended = play.run().await;
    assert!(matches!(ended.summary.exit, ExitCode::Temporary | ExitCode::Contract), "{ended}");
    assert_eq!(ended.summary.totals.products.failed, 0, "{ended}");
    let mut requested = std::collections::BTreeMap::new();
    ended.sent.iter().for_each(|sent| *requested.entry((sent.id.clone(), sent.page)).or_insert(0) += 1);
    assert!(requested.values().all(|times| *times <= 2), "{requested:?}: {ended}");
    let most = 100 + ended.most_in_flight + 20;
    ended.sent_at_most(most);
}

#[tokio::test(start_paused = true)]
async fn eleven_products_that_fail_in_different_ways_at_once_fail_alone() {
    let dead = |call: &Call| match call.item % 20 {
        3 => Some(internal_error()),
        9 => Some(ACCOUNT[call.item % 6].1()),
        15 => Some(html([403, 404, 502][call.item % 3])),
        _ => None,
    };
    let play = Play::new(World::new(every_size(80, 30)).but(dead));
    let failing: Vec<usize> = (0..80).filter(|item| [3, 9, 15].contains(&(item % 20))).collect();
    play.run().await.completes_but(&failing, "");
}

#[tokio::test(start_paused = true)]
async fn failures_at_random_of_every_kind_cost_no_product() {
    let world = World::new(every_size(400, 30)).but(|call| {
        let dice = hash(&[call.number as u64, 5]) % 200;
        match dice {
            0 => Some(internal_error()),
            1 => Some(html(403)),
            2 => Some(html(503)),
            3 => Some(inside(10_005, "busy")),
            4 => Some(throttled(0)),
            5 => Some(html(301)),
            _ => None,
        }
    });
    let play = Play::new(world);
    let ended = play.completes().await;
    assert!(ended.sent.len() > 700 && ended.sent.iter().any(|sent| sent.id == id(399)), "{ended}");
}
