//! Cases from bug reports about real APIs: what they do where their documentation says nothing. Each starts with the kind of
//! service that was seen to do so.

use std::time::Duration;

use pagehaul::error::ExitCode;
use pagehaul::fetch::FetchErrorKind;

use super::play::{Ended, Play};
use crate::common::scripted::Reply;
use crate::common::world::{
    Behind, Call, World, body, every_size, hash, html, inside, internal_error, later, place, refusal, success, text_of,
    throttled,
};

/// Lists of 0 to 30 rows.
fn shop() -> World {
    World::new(every_size(300, 30))
}

/// Answers like this for this many seconds from a time on.
fn during(seconds: std::ops::Range<u64>, kind: fn() -> Reply) -> impl Fn(&Call) -> Option<Reply> {
    move |call| seconds.contains(&call.since.as_secs()).then(kind)
}

/// Runs until it is complete, as a scheduler would: again after each temporary end, at most this many times.
async fn until_complete(play: &Play, times: usize) -> Ended {
    let mut ended = play.run().await;
    for _ in 1..times {
        if ended.summary.exit == ExitCode::Complete {
            break;
        }
        assert_eq!(ended.summary.totals.products.failed, 0, "no product is to blame: {ended}");
        ended = play.run().await;
    }
    ended.completes(play)
}

// --- throttling -----------------------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn a_shop_whose_bucket_leaks_two_requests_a_second_and_asks_everyone_to_wait_two_seconds_is_read_to_the_end() {
    let tokens = std::sync::Mutex::new((0.0, 40.0));
    let world = World::new(every_size(60, 20)).but(move |call| {
        let mut tokens = tokens.lock().unwrap();
        let now = call.since.as_secs_f64();
        *tokens = (now, f64::min(tokens.1 + (now - tokens.0) * 2.0, 40.0));
        let is_empty = tokens.1 < 1.0;
        tokens.1 -= if is_empty { 0.0 } else { 1.0 };
        is_empty.then(|| throttled(2))
    });
    Play::new(world).completes().await;
}

#[tokio::test(start_paused = true)]
async fn a_ticket_system_that_asks_everyone_for_a_minute_once_is_read_to_the_end() {
    let play = Play::new(shop().but(during(2..62, || throttled(60))));
    let ended = play.completes().await;
    assert!(ended.sent.len() <= play.most_credits() as usize + 2 * ended.most_in_flight + 4, "{ended}");
}

#[tokio::test(start_paused = true)]
async fn a_crm_that_refuses_for_ten_seconds_without_a_wish_is_read_to_the_end() {
    Play::new(shop().but(during(2..12, || throttled(0)))).completes().await;
}

#[tokio::test(start_paused = true)]
async fn a_crm_whose_daily_quota_is_spent_until_midnight_ends_as_temporary_and_is_read_the_next_day() {
    for kind in [|| throttled(0), || refusal(429, "daily limit reached"), || html(429)] {
        let play = Play::new(shop().but(move |call| (call.number > 150).then(kind)));
        let ended = play.run().await.is(ExitCode::Temporary);
        assert_eq!((ended.summary.totals.products.failed, ended.summary.totals.credits.billed), (0, 150), "{ended}");
        let tomorrow = play.against(shop());
        tomorrow.run().await.completes(&tomorrow);
    }
}

#[tokio::test(start_paused = true)]
async fn a_payment_api_that_locks_one_object_for_some_tries_is_read_to_the_end() {
    Play::new(shop().but(|call| (call.item == 80 && call.nth <= 4).then(|| throttled(0)))).completes().await;
}

#[tokio::test(start_paused = true)]
async fn a_marketplace_whose_429_belongs_to_two_hot_items_reads_all_others() {
    let hot = |call: &Call| (call.item == 20 || call.item == 1_200).then(|| throttled(0));
    let play = Play::new(World::new(every_size(1_500, 20)).but(hot));
    play.run().await.completes_but(&[20, 1_200], "qps limit exceeded");
}

#[tokio::test(start_paused = true)]
async fn a_marketplace_that_sends_429_for_the_second_page_of_every_list_once_is_read_to_the_end() {
    Play::new(shop().but(|call| (call.page == 2 && call.nth == 1).then(|| throttled(0)))).completes().await;
}

#[tokio::test(start_paused = true)]
async fn a_cdn_that_sends_its_1015_page_for_twenty_seconds_is_waited_out() {
    Play::new(shop().but(during(2..22, || html(429)))).completes().await;
}

#[tokio::test(start_paused = true)]
async fn a_code_host_whose_rate_limit_is_a_403_with_a_wish_loses_and_blames_nothing() {
    let limited = || refusal(403, "You have exceeded a secondary rate limit").with_retry_after(Duration::from_secs(60));
    let play = Play::new(shop().but(during(2..62, limited)));
    let mut ended = play.run().await;
    assert!(matches!(ended.summary.exit, ExitCode::Complete | ExitCode::Account | ExitCode::Temporary), "{ended}");
    assert_eq!(ended.summary.totals.products.failed, 0, "{ended}");
    tokio::time::advance(Duration::from_secs(100)).await;
    if ended.summary.exit != ExitCode::Complete {
        ended = play.run().await;
    }
    ended.completes(&play);
}

// --- gateways, blocks and maintenance -------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn a_load_balancer_that_sends_502_for_half_a_minute_is_waited_out() {
    for status in [500, 502, 503, 504, 520, 521, 522, 525, 526, 530] {
        Play::new(shop().but(move |call| (2..32).contains(&call.since.as_secs()).then(|| html(status))))
            .completes()
            .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_load_balancer_that_times_out_on_one_deep_page_fails_that_product_alone_and_names_the_page() {
    let world = World::new([vec![150], every_size(100, 30)].concat());
    let play = Play::new(world.but(|call| (call.item == 0 && call.page == 12).then(|| html(504))));
    play.run().await.completes_but(&[0], "page 12");
}

#[tokio::test(start_paused = true)]
async fn a_cdn_that_blocks_one_product_by_its_text_fails_that_product_alone() {
    for kind in [|| html(403), || body(403, "{\"message\":\"Forbidden\"}"), || body(403, "")] {
        let play = Play::new(shop().but(move |call| (call.item == 111).then(kind)));
        play.run().await.completes_but(&[111], "403");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cdn_that_challenges_everyone_from_some_request_on_blames_no_product() {
    for status in [403, 503] {
        let play = Play::new(shop().but(move |call| (call.number > 150).then(|| html(status))));
        let ended = play.run().await;
        assert!(matches!(ended.summary.exit, ExitCode::Account | ExitCode::Temporary), "{ended}");
        assert_eq!((ended.summary.totals.products.failed, ended.summary.totals.credits.billed), (0, 150), "{ended}");
        let again = play.against(shop());
        again.completes().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_firewall_that_blocks_everyone_for_five_seconds_loses_and_blames_nothing() {
    let play = Play::new(shop().but(during(2..7, || body(403, "{\"message\":\"Forbidden\"}"))));
    let ended = play.run().await;
    assert!(matches!(ended.summary.exit, ExitCode::Complete | ExitCode::Account | ExitCode::Temporary), "{ended}");
    tokio::time::advance(Duration::from_secs(10)).await;
    until_complete(&play, 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_firewall_that_blocks_one_request_in_thirty_is_read_to_the_end() {
    let blocked = |call: &Call| hash(&[call.number as u64, 31]).is_multiple_of(30);
    Play::new(shop().but(move |call| blocked(call).then(|| html(403)))).completes().await;
}

#[tokio::test(start_paused = true)]
async fn a_portal_that_redirects_one_request_in_fifty_to_its_login_is_read_to_the_end() {
    let hit = |call: &Call| hash(&[call.number as u64, 53]).is_multiple_of(50);
    Play::new(shop().but(move |call| hit(call).then(|| html(302)))).completes().await;
}

#[tokio::test(start_paused = true)]
async fn a_portal_that_redirects_everyone_from_some_request_on_blames_no_product() {
    let play = Play::new(shop().but(|call| (call.number > 150).then(|| html(302))));
    let ended = play.run().await;
    assert!(matches!(ended.summary.exit, ExitCode::Contract | ExitCode::Temporary), "{ended}");
    assert_eq!(ended.summary.totals.products.failed, 0, "{ended}");
    let again = play.against(shop());
    again.completes().await;
}

#[tokio::test(start_paused = true)]
async fn an_api_that_moved_for_good_is_reported_after_few_requests() {
    let play = Play::new(shop().but(|_| Some(html(301))));
    let ended = play.run().await.is(ExitCode::Contract).sent_at_most(20);
    assert_eq!(ended.summary.totals.products.failed, 0, "{ended}");
}

#[tokio::test(start_paused = true)]
async fn maintenance_of_a_minute_as_a_page_under_200_is_waited_out_and_no_page_is_paid_for_three_times() {
    let play = Play::new(shop().but(during(2..62, || html(200))));
    let ended = play.completes().await;
    let mut requested = std::collections::BTreeMap::new();
    ended.sent.iter().for_each(|sent| *requested.entry((sent.id.clone(), sent.page)).or_insert(0) += 1);
    assert!(requested.values().all(|times| *times <= 2), "{requested:?}");
}

#[tokio::test(start_paused = true)]
async fn maintenance_of_ten_minutes_in_the_envelope_is_waited_out() {
    for kind in [|| inside(503, "under maintenance"), || inside(99_999, "under maintenance")] {
        let play = Play::new(shop().but(during(2..602, kind)));
        let ended = play.completes().await;
        assert!(ended.sent.len() <= play.most_credits() as usize + 60, "{ended}");
    }
}

#[tokio::test(start_paused = true)]
async fn maintenance_in_the_envelope_with_the_time_in_its_words_is_one_answer_and_is_waited_out() {
    let kind = |call: &Call| {
        let text = format!("busy, request {} at {:?}", call.number, call.since);
        (2..62).contains(&call.since.as_secs()).then(|| inside(20_001, &text))
    };
    Play::new(shop().but(kind)).completes().await;
}

#[tokio::test(start_paused = true)]
async fn maintenance_under_codes_that_change_is_waited_out() {
    let kind = |call: &Call| {
        (2..62).contains(&call.since.as_secs()).then(|| inside(20_000 + call.number as i64 % 7, "system error"))
    };
    Play::new(shop().but(kind)).completes().await;
}

#[tokio::test(start_paused = true)]
async fn a_host_that_is_restarted_and_refuses_connections_for_ten_minutes_is_waited_out() {
    for lost in [|| Reply::lost(FetchErrorKind::Connect), || Reply::lost(FetchErrorKind::Disconnected)] {
        Play::new(shop().but(during(2..602, lost))).completes().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_api_that_answers_nobody_from_some_request_on_blames_no_product() {
    let play = Play::new(shop().but(|call| (call.number > 150).then(Reply::never)));
    let ended = play.run().await.is(ExitCode::Temporary);
    assert_eq!(ended.summary.totals.products.failed, 0, "{ended}");
    let again = play.against(shop());
    again.completes().await;
}

// --- keys and accounts ----------------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn a_token_that_expires_in_mid_run_stops_it_and_a_new_one_continues() {
    let play = Play::new(shop().but(|call| (call.number > 200).then(|| refusal(401, "token expired"))));
    let ended = play.run().await.is(ExitCode::Account).says(&["token expired"]);
    assert_eq!((ended.summary.totals.products.failed, ended.summary.totals.credits.billed), (0, 200), "{ended}");
    let most = 200 + ended.most_in_flight + 2;
    ended.sent_at_most(most);
    let again = play.against(shop());
    again.completes().await;
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_does_not_know_the_key_yet_and_answers_one_request_in_twenty_is_read_to_the_end() {
    let stale = |call: &Call| hash(&[call.number as u64, 23]).is_multiple_of(20);
    Play::new(shop().but(move |call| stale(call).then(|| refusal(401, "unknown key")))).completes().await;
}

#[tokio::test(start_paused = true)]
async fn a_payment_api_whose_402_is_one_customer_s_fails_that_one_alone() {
    let play = Play::new(shop().but(|call| (call.item == 200).then(|| refusal(402, "card was declined"))));
    play.run().await.completes_but(&[200], "card was declined");
}

#[tokio::test(start_paused = true)]
async fn a_shop_that_forbids_every_tenth_product_fails_those_alone_within_three_runs() {
    let play = Play::new(shop().but(|call| (call.item % 10 == 7).then(|| refusal(403, "not your region"))));
    let ended = play.run_while(ExitCode::Account, 3).await;
    let forbidden: Vec<usize> = (0..300).filter(|item| item % 10 == 7).collect();
    ended.completes_but(&forbidden, "not your region");
}

#[tokio::test(start_paused = true)]
async fn a_shop_that_forbids_deep_pages_fails_the_deep_products_alone() {
    let forbid = |call: &Call| (call.page > 5).then(|| refusal(403, "deep pages need another plan"));
    let lists: Vec<u64> = (0..120).map(|list| if list % 12 == 5 { 95 } else { hash(&[list]) % 40 }).collect();
    let play = Play::new(World::new(lists).but(forbid));
    let ended = play.run_while(ExitCode::Account, 3).await;
    let ended = ended.is(ExitCode::Partial);
    let lacking = ended.products.values().filter(|product| !product.complete).count();
    assert_eq!((lacking, ended.summary.totals.rows.published as usize), (10, play.world.lists.rows() - 450), "{ended}");
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_revoked_beside_a_forbidden_product_still_stops_the_run() {
    let world = shop().but(|call| {
        let is_revoked = call.number > 250;
        (is_revoked || call.item == 40).then(|| refusal(403, "forbidden"))
    });
    let ended = Play::new(world).run().await.is(ExitCode::Account);
    // What turned out to be one product's own is requested again when three in a row get the same.
    let most = 250 + ended.most_in_flight + 2 + 2;
    ended.sent_at_most(most);
}

// --- one product's own faults ---------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn a_deleted_account_s_404_fails_at_once_and_half_of_the_list_may_be_deleted() {
    let play = Play::new(shop().but(|call| (call.item % 2 == 1).then(|| refusal(404, "user not found"))));
    let deleted: Vec<usize> = (0..300).filter(|item| item % 2 == 1).collect();
    let ended = play.run().await.completes_but(&deleted, "user not found");
    assert!(deleted.iter().all(|item| ended.requests_for(*item) == 1), "{ended}");
}

#[tokio::test(start_paused = true)]
async fn a_corrupt_record_s_500_fails_its_product_alone_and_keeps_the_pages_before() {
    let world = World::new([every_size(50, 30), vec![95], every_size(50, 30)].concat());
    let play = Play::new(world.but(|call| (call.item == 50 && call.page == 7).then(internal_error)));
    let ended = play.run().await.completes_but(&[50], "page 7");
    assert_eq!(ended.summary.totals.rows.published as usize, play.world.lists.rows() - 35, "{ended}");
}

#[tokio::test(start_paused = true)]
async fn a_database_that_cannot_read_beyond_a_page_number_fails_the_deep_products_and_is_no_outage() {
    let lists: Vec<u64> = (0..150).map(|list| if list % 5 == 2 { 150 } else { hash(&[list, 1]) % 40 }).collect();
    for kind in [internal_error as fn() -> Reply, || html(504)] {
        let play = Play::new(World::new(lists.clone()).but(move |call| (call.page > 8).then(kind)));
        let ended = play.run_while(ExitCode::Temporary, 3).await;
        let deep: Vec<usize> = (0..150).filter(|list| list % 5 == 2).collect();
        let ended = ended.is(ExitCode::Partial);
        assert!(deep.iter().all(|item| !ended.products[item].complete), "{ended}");
        assert_eq!(ended.summary.totals.rows.published as usize, play.world.lists.rows() - 30 * 70, "{ended}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_search_index_that_refuses_beyond_its_window_with_500_fails_the_deep_products_and_is_no_outage() {
    let message = || refusal(500, "Result window is too large, from + size must be less than or equal to: 80");
    let lists: Vec<u64> = (0..150).map(|list| if list % 5 == 2 { 150 } else { hash(&[list, 1]) % 40 }).collect();
    let play = Play::new(World::new(lists).but(move |call| (call.page > 8).then(message)));
    let ended = play.run_while(ExitCode::Temporary, 3).await;
    let ended = ended.is(ExitCode::Partial);
    let complete = ended.products.values().filter(|product| product.complete).count();
    assert_eq!(complete, 120, "{ended}");
}

#[tokio::test(start_paused = true)]
async fn a_product_that_answers_nobody_in_time_fails_alone_and_keeps_nobody_waiting() {
    let play = Play::new(shop().but(|call| (call.item == 10).then(Reply::never)));
    let ended = play.run().await;
    if ended.summary.exit == ExitCode::Temporary {
        play.run().await.completes_but(&[10], "");
    }
    let until = ended.sent[0].at + Duration::from_secs_f64(1.1 * play.most_credits() as f64 / 50.0 + 2.0);
    let others = ended.sent.iter().filter(|sent| place(&sent.id) != 10 && sent.at <= until).count();
    assert!(others as u64 + 4 >= play.world.lists.fewest(None), "only {others} requests by then: {ended}");
}

#[tokio::test(start_paused = true)]
async fn a_page_that_fails_twice_and_then_comes_costs_its_product_nothing() {
    for kind in [
        internal_error as fn() -> Reply,
        || html(403),
        || html(502),
        || inside(10_005, "busy"),
        || Reply::lost(FetchErrorKind::Disconnected),
    ] {
        Play::new(shop().but(move |call| (call.item % 9 == 4 && call.nth <= 2).then(kind))).completes().await;
    }
}

// --- ends of lists --------------------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn an_issue_tracker_that_clamps_the_start_to_the_last_page_is_read_to_the_end() {
    for lists in [every_size(120, 60), vec![50; 40], vec![55; 40]] {
        let lists = lists.into_iter().map(|rows| rows.max(1));
        let play = Play::new(World::new(lists).behind(Behind::Last));
        play.completes().await.warned(0);
    }
}

#[tokio::test(start_paused = true)]
async fn an_issue_tracker_that_clamps_and_silently_caps_its_pages_is_read_to_the_end() {
    for behind in [Behind::Last, Behind::First, Behind::Around] {
        let lists = every_size(120, 60).into_iter().map(|rows| rows.max(1));
        Play::new(World::new(lists).capped(5).behind(behind)).completes().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_code_host_that_shows_the_first_thousand_results_says_so_for_each_product_that_has_more() {
    let lists: Vec<u64> = (0..12).map(|list| if list % 3 == 0 { 1_500 } else { 40 + list }).collect();
    let message = || refusal(422, "Only the first 1000 search results are available");
    let play = Play::new(World::new(lists).but(move |call| (call.page > 100).then(message)));
    let ended = play.run().await.is(ExitCode::Partial);
    assert!([0, 3, 6, 9].iter().all(|item| !ended.products[item].complete), "{ended}");
    assert_eq!(ended.summary.totals.products.complete, 8, "{ended}");
}

#[tokio::test(start_paused = true)]
async fn a_search_index_that_refuses_beyond_its_window_with_400_says_so_for_each_product_that_has_more() {
    let lists: Vec<u64> = (0..60).map(|list| if list % 4 == 0 { 150 } else { hash(&[list, 1]) % 80 }).collect();
    let window = || refusal(400, "Result window is too large, from + size must be less than or equal to: 100");
    let play = Play::new(World::new(lists).but(move |call| (call.page > 10).then(window)));
    let deep = (0..60).filter(|list| list % 4 == 0);
    play.run().await.is(ExitCode::Partial).ended_as("page_cap", deep);
}

#[tokio::test(start_paused = true)]
async fn a_blog_that_answers_400_with_a_word_for_a_code_behind_the_last_page_is_read_to_the_end() {
    let behind = || {
        let text =
            "{\"code\":\"rest_post_invalid_page_number\",\"message\":\"The page number is larger.\",\"data\":null}";
        body(400, text)
    };
    let lists: Vec<u64> = (0..80).map(|list| 10 * (1 + hash(&[list, 12]) % 5)).chain([55]).collect();
    Play::new(World::new(lists).behind(Behind::Says(behind))).completes().await;
}

#[tokio::test(start_paused = true)]
async fn a_framework_that_answers_a_bare_404_behind_the_last_page_is_read_to_the_end() {
    for kind in [|| body(404, "{\"detail\":\"Invalid page.\"}"), || html(404)] {
        let lists: Vec<u64> = (0..80).map(|list| 10 * (1 + hash(&[list, 12]) % 5)).chain([55]).collect();
        Play::new(World::new(lists).behind(Behind::Says(kind))).completes().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_framework_whose_empty_list_is_a_404_on_the_first_page_fails_those_and_reads_all_others() {
    let world =
        World::new((0..61).map(|list| list % 3 * 10).chain([45])).behind(Behind::Says(|| refusal(404, "no data")));
    let play = Play::new(world.but(|call| (call.item % 3 == 0).then(|| refusal(404, "no data"))));
    let ended = play.run().await;
    assert!(matches!(ended.summary.exit, ExitCode::Partial | ExitCode::Complete), "{ended}");
    assert_eq!(ended.summary.totals.rows.published as usize, play.world.lists.rows(), "{ended}");
    assert!((0..62).filter(|item| item % 3 > 0).all(|item| ended.products[&item].complete), "{ended}");
}

#[tokio::test(start_paused = true)]
async fn a_social_network_that_leaves_out_private_posts_is_read_to_the_end() {
    for percent in [2, 15, 40] {
        let world = World::new((0..100).map(|list| 40 + hash(&[list, 2]) % 60));
        let mut play = Play::new(world.hiding(move |item, row| hash(&[item as u64, row, 90]) % 100 < percent));
        play.run_at_any_price().await.completes(&play);
    }
}

#[tokio::test(start_paused = true)]
async fn a_video_list_whose_first_page_lacks_deleted_videos_is_read_to_the_end() {
    let world = World::new([vec![45; 30], every_size(60, 30)].concat());
    let mut play = Play::new(world.hiding(|item, row| item < 30 && row == 3));
    play.run_at_any_price().await.completes(&play);
}

#[tokio::test(start_paused = true)]
async fn a_feed_that_has_an_empty_page_in_the_middle_of_a_deep_list_is_no_lie_where_more_is_known() {
    for page in [30, 57, 120] {
        let world = World::new([vec![2_005], every_size(20, 30)].concat());
        let play =
            Play::new(world.hiding(move |item, row| item == 0 && row / 10 + 1 == page)).with("lookahead_saves", "0s");
        play.completes().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_partner_s_export_that_sends_null_for_one_page_of_some_lists_once_is_no_lie() {
    for seed in 0..10 {
        let world = World::new(every_size(100, 60)).sending(move |call| {
            let dice = hash(&[seed, call.item as u64, u64::from(call.page)]) % 40;
            (dice == 0 && call.nth == 1).then(|| success("null"))
        });
        let play = Play::new(world);
        // Which of them is an end shows later; what cannot be requested again is named.
        let ended = play.run().await;
        assert!(matches!(ended.summary.exit, ExitCode::Complete | ExitCode::Partial), "{ended}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_shop_whose_lists_all_have_exactly_one_full_page_is_read_to_the_end_whatever_it_does_behind() {
    for behind in [Behind::Empty, Behind::Last, Behind::First, Behind::Says(|| refusal(404, "no such page"))] {
        let play = Play::new(World::new(vec![10; 60]).behind(behind));
        let ended = play.run().await;
        // That every list ends behind its first page may also mean that the API reads no page number.
        assert!(matches!(ended.summary.exit, ExitCode::Complete | ExitCode::Partial), "{ended}");
        assert_eq!(ended.summary.totals.rows.published, 600, "{ended}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_forum_whose_lists_grow_at_the_head_while_they_are_read_in_order_is_read_to_the_end() {
    let world = World::new((0..30).map(|list| 60 + list)).changing(|call, list| {
        if hash(&[call.number as u64, 3]).is_multiple_of(6) {
            list.insert(0, later(call.number as u64));
        }
    });
    Play::new(world).with("lookahead", 0).completes().await;
}

#[tokio::test(start_paused = true)]
async fn a_forum_whose_lists_grow_at_the_head_and_that_wraps_behind_the_end_is_read_to_the_end() {
    for behind in [Behind::Last, Behind::First, Behind::Around] {
        let world = World::new((0..30).map(|list| 60 + list)).behind(behind).changing(|call, list| {
            if hash(&[call.number as u64, 3]).is_multiple_of(6) {
                list.insert(0, later(call.number as u64));
            }
        });
        Play::new(world).with("lookahead", 0).completes().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_api_whose_degraded_replica_sends_a_few_empty_first_pages_costs_those_lists_and_no_other() {
    // Nothing tells such an answer from an empty list; what is checked is that it spreads no further.
    let world = World::new(every_size(200, 30).into_iter().map(|rows| rows + 1));
    let hit = |call: &Call| call.item % 50 == 9 && call.page == 1;
    let play = Play::new(world.sending(move |call| hit(call).then(|| success("[]"))));
    let ended = play.run_unjudged().await.is(ExitCode::Complete);
    let lost: usize =
        (0..200).filter(|item| item % 50 == 9).map(|item| play.world.lists.owed(item, None).count()).sum();
    assert_eq!(ended.summary.totals.rows.published as usize, play.world.lists.rows() - lost, "{ended}");
}

#[tokio::test(start_paused = true)]
async fn an_api_that_sends_the_rows_of_another_page_once_loses_no_other_page() {
    // A cache that answers page 3 with page 2, once: its own rows are lost, as the page was paid for, and the walk continues.
    let world = World::new([vec![95], every_size(40, 30)].concat()).sending(|call| {
        let rows: Vec<String> = (10..20).map(|row| text_of(call.item, row)).collect();
        let hit = call.item == 0 && call.page == 3 && call.nth == 1;
        hit.then(|| body(200, format!("{{\"code\":0,\"data\":[{}]}}", rows.join(","))))
    });
    let play = Play::new(world).with("lookahead", 0);
    let ended = play.run_unjudged().await;
    assert_eq!(ended.summary.totals.rows.published as usize, play.world.lists.rows() - 10, "{ended}");
}
