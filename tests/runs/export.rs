//! The whole run in virtual time: production code from the plan to the published files, the simulator behind the port that
//! sends requests, tokio's clock paused. Hours take milliseconds, and a run can be stopped or dropped at any request.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use crate::common::scripted::{Reply, Scripted, run_job, run_until};
use crate::common::{
    assert_no_page_billed_twice, assert_rows, billed, built_in_context, evidence, expected, fewest_requests, ids,
    manifests, scratch, simulator,
};
use pagehaul::error::ExitCode;
use pagehaul::fetch::FetchErrorKind;
use pagehaul::simulator::Simulator;

/// The embedded API; request number `stop_at` stops the run.
fn stopping_at(stop_at: usize, simulator: &Arc<Simulator>) -> Arc<Scripted> {
    let simulator = Arc::clone(simulator);
    Scripted::stopping_at(stop_at, move |sent| Reply::from_simulator(&simulator, sent, 10))
}

#[tokio::test(start_paused = true)]
async fn without_looking_ahead_every_row_is_exported_once_with_the_fewest_possible_requests_whatever_the_page_size() {
    for page_size in [1_u32, 3, 10] {
        let simulator = simulator("products=12,max_videos=60,record=true");
        let list = ids(&simulator);
        let directory = scratch();
        let api = Scripted::new({
            let simulator = Arc::clone(&simulator);
            move |sent| Reply::from_simulator(&simulator, sent, page_size)
        });
        let settings = [("page_size", &*page_size.to_string()), ("lookahead", "0"), ("end", "short-page")];
        let summary = run_job(&built_in_context(directory.path(), None, &settings), &api, &list).await.unwrap();
        let fewest: u64 = list.iter().map(|id| simulator.videos(id) / u64::from(page_size) + 1).sum();
        assert_eq!((summary.exit, u64::try_from(api.requests()).unwrap()), (ExitCode::Complete, fewest));
        assert_rows(directory.path(), &expected(&simulator, &list, u64::from(page_size)));
        assert_no_page_billed_twice(&[&simulator]);
    }
}

#[tokio::test(start_paused = true)]
async fn at_50_a_second_and_80_ms_of_latency_the_limit_is_used_and_never_exceeded() {
    let simulator = simulator("products=400,max_videos=200,qps=50,latency=80ms,record=true");
    let list = ids(&simulator);
    let directory = scratch();
    let api = Scripted::direct(&simulator);
    let summary = run_job(&built_in_context(directory.path(), Some(50.0), &[]), &api, &list).await.unwrap();
    assert_eq!((summary.exit, summary.run.throttled), (ExitCode::Complete, 0));
    let sent = api.sent();
    // The end of a list of lists is a few walks by themselves: the first nine tenths show the pace.
    let most = sent.len() * 9 / 10;
    let rate = f64::from(u32::try_from(most).unwrap()) / (sent[most].at - sent[0].at).as_secs_f64();
    assert!((48.5..=50.5).contains(&rate), "{rate} a second over {most} requests");
    let in_flight = api.most_in_flight();
    assert!(in_flight <= 8, "{in_flight} in flight where 4 or 5 are enough");
}

#[tokio::test(start_paused = true)]
async fn l22_slow_answers_do_not_slow_the_pace_and_wait_for_nobody() {
    let simulator = simulator("products=400,max_videos=60,qps=50,latency=2s,record=true");
    let list = ids(&simulator);
    let directory = scratch();
    let api = Scripted::direct(&simulator);
    run_job(&built_in_context(directory.path(), Some(50.0), &[]), &api, &list).await.unwrap();
    let sent = api.sent();
    let (from, to) = (sent.len() / 4, sent.len() / 2);
    let rate = f64::from(u32::try_from(to - from).unwrap()) / (sent[to].at - sent[from].at).as_secs_f64();
    assert!(rate >= 48.5, "{rate} a second");
}

#[tokio::test(start_paused = true)]
async fn errors_and_lost_answers_cost_no_row_and_only_lost_answers_cost_a_credit() {
    let simulator = simulator("products=60,max_videos=100,errors=0.2,latency=50ms,record=true");
    let list = ids(&simulator);
    let directory = scratch();
    let api = Scripted::new({
        let simulator = Arc::clone(&simulator);
        move |sent| {
            let reply = Reply::from_simulator(&simulator, sent, 10); // lost on its way back it is billed all the same
            if sent.number.is_multiple_of(17) { Reply::lost(FetchErrorKind::Disconnected) } else { reply }
        }
    });
    let summary =
        run_job(&built_in_context(directory.path(), Some(200.0), &[("lookahead", "0")]), &api, &list).await.unwrap();
    assert_eq!(summary.exit, ExitCode::Complete);
    assert_rows(directory.path(), &expected(&simulator, &list, 10));
    let account = simulator.account();
    let fewest = fewest_requests(&simulator, &list);
    assert!((fewest..=fewest + evidence(fewest)).contains(&summary.totals.credits.billed), "{summary}");
    assert_eq!(
        account.requests,
        summary.totals.credits.billed + summary.totals.credits.in_doubt + summary.totals.credits.free
    );
    assert!(account.pages <= summary.totals.credits.billed + summary.totals.credits.in_doubt);
    assert!(account.errors > 50 && summary.totals.credits.in_doubt > 5);
}

#[tokio::test(start_paused = true)]
async fn a_limit_below_the_requested_rate_is_found_by_its_429s() {
    for kind in ["bucket", "window"] {
        let simulator = simulator(&format!("products=150,max_videos=100,qps=20,limit={kind},latency=60ms,record=true"));
        let list = ids(&simulator);
        let directory = scratch();
        let api = Scripted::direct(&simulator);
        let summary = run_job(&built_in_context(directory.path(), Some(60.0), &[]), &api, &list).await.unwrap();
        assert_eq!(summary.exit, ExitCode::Complete);
        assert_rows(directory.path(), &expected(&simulator, &list, 10));
        assert_no_page_billed_twice(&[&simulator]);
        let account = simulator.account();
        assert!(account.throttled * 3 < account.pages, "{kind}: {account:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn max_credits_are_never_passed_and_each_raise_continues_where_the_last_run_stopped() {
    let simulator = simulator("products=20,max_videos=60,latency=30ms,record=true");
    let list = ids(&simulator);
    let directory = scratch();
    let all = fewest_requests(&simulator, &list);
    for most in (7..all).step_by(13) {
        let api = Scripted::direct(&simulator);
        let context = built_in_context(directory.path(), Some(100.0), &[("max_credits", &most.to_string())]);
        let summary = run_job(&context, &api, &list).await.unwrap();
        assert_eq!((summary.exit, simulator.account().pages), (ExitCode::Limit, most));
        assert_eq!(summary.totals.rows.waiting, 0, "what was paid for is published");
    }
    let api = Scripted::direct(&simulator);
    let most = all + evidence(all);
    let summary =
        run_job(&built_in_context(directory.path(), None, &[("max_credits", &most.to_string())]), &api, &list)
            .await
            .unwrap();
    assert_eq!(summary.exit, ExitCode::Complete);
    assert!((all..=most).contains(&simulator.account().pages));
    assert_rows(directory.path(), &expected(&simulator, &list, 10));
}

#[tokio::test(start_paused = true)]
async fn a_signal_at_any_request_costs_nothing_and_the_next_run_ends_with_the_same_rows() {
    let simulator_of = || simulator("products=8,max_videos=60,latency=20ms,record=true");
    let list = ids(&simulator_of());
    let all = usize::try_from(fewest_requests(&simulator_of(), &list)).unwrap();
    assert!(all > 10);
    for stop_at in 1..all {
        let simulator = simulator_of();
        let directory = scratch();
        let api = stopping_at(stop_at, &simulator);
        let context = built_in_context(directory.path(), Some(80.0), &[]);
        let stopped = run_job(&context, &api, &list).await.unwrap();
        assert!(matches!(stopped.exit, ExitCode::Interrupted | ExitCode::Complete));
        assert_eq!(stopped.totals.credits.in_doubt, 0);
        let summary = run_job(&context, &Scripted::direct(&simulator), &list).await.unwrap();
        assert_eq!(summary.exit, ExitCode::Complete);
        let all = u64::try_from(all).unwrap();
        assert!((all..=all + evidence(all)).contains(&simulator.account().pages));
        assert_no_page_billed_twice(&[&simulator]);
        assert_rows(directory.path(), &expected(&simulator, &list, 10));
    }
}

#[test]
fn a_run_dropped_at_any_request_costs_at_most_what_was_in_flight_and_no_row() {
    let simulator_of = || simulator("products=8,max_videos=60,latency=20ms,record=true");
    let list = ids(&simulator_of());
    let all = usize::try_from(fewest_requests(&simulator_of(), &list)).unwrap();
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    for stop_at in 1..all {
        let simulator = simulator_of();
        let directory = scratch();
        let context = built_in_context(directory.path(), Some(80.0), &[("max_in_flight", "3")]);
        let api = stopping_at(stop_at, &simulator);
        let crashed = runtime();
        crashed.block_on(async {
            // Nothing stops the run: it is dropped with every response in flight.
            let running = run_until(&context, &api, &list, std::future::pending());
            tokio::select! {
                biased;
                () = api.stops() => {}
                ended = running => panic!("it ended: {ended:?}"),
            }
        });
        drop(crashed);
        let api = Scripted::direct(&simulator);
        let summary = runtime().block_on(run_job(&context, &api, &list)).unwrap();
        assert_eq!(summary.exit, ExitCode::Complete, "dropped at {stop_at}");
        assert_rows(directory.path(), &expected(&simulator, &list, 10));
        let twice: u32 = billed(&[&simulator]).values().map(|times| times - 1).sum();
        assert!(
            u64::from(twice) <= summary.totals.credits.in_doubt && summary.totals.credits.in_doubt <= 3,
            "dropped at {stop_at}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_grows_past_a_segment_is_published_in_several_and_every_row_is_there_once() {
    let simulator = simulator("products=120,max_videos=400,record=true");
    let list = ids(&simulator);
    let directory = scratch();
    let api = Scripted::direct(&simulator);
    let context = built_in_context(directory.path(), None, &[("segment_size", "256KiB"), ("max_in_flight", "16")]);
    let summary = run_job(&context, &api, &list).await.unwrap();
    assert_eq!(summary.exit, ExitCode::Complete);
    assert!(manifests(directory.path()).len() > 1, "one segment shows nothing");
    assert_rows(directory.path(), &expected(&simulator, &list, 10));
}

#[tokio::test(start_paused = true)]
async fn max_pages_is_what_was_requested_and_counts_as_complete() {
    let simulator = simulator("products=30,max_videos=100,record=true");
    let list = ids(&simulator);
    let directory = scratch();
    let api = Scripted::direct(&simulator);
    let summary = run_job(&built_in_context(directory.path(), None, &[("max_pages", "2")]), &api, &list).await.unwrap();
    assert_eq!(summary.exit, ExitCode::Complete);
    assert_eq!(summary.totals.rows.published, list.iter().map(|id| simulator.videos(id).min(20)).sum::<u64>());
    let again = run_job(&built_in_context(directory.path(), None, &[("max_pages", "2")]), &api, &list).await.unwrap();
    assert!(again.complete_since.is_some() && again.run.requests == 0);
}

#[cfg(debug_assertions)]
#[tokio::test(start_paused = true)]
async fn answers_that_arrive_after_a_segment_was_decided_and_failed_are_published_by_the_next_run() {
    let simulator = simulator("products=20,max_videos=60,latency=40ms");
    let list = ids(&simulator);
    let directory = scratch();
    let context = built_in_context(directory.path(), None, &[("segment_size", "20KiB"), ("max_in_flight", "8")]);
    let broken = pagehaul::model::failpoint::watch(directory.path(), |step| {
        let names_a_file = step.action == "rename to" && step.path.extension().is_some_and(|kind| kind == "parquet");
        if names_a_file { Err(std::io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    });
    let failed = run_job(&context, &Scripted::direct(&simulator), &list).await.unwrap_err();
    assert_eq!(failed.exit_code(), ExitCode::Storage);
    drop(broken);
    let summary = run_job(&context, &Scripted::direct(&simulator), &list).await.unwrap();
    assert_eq!(summary.exit, ExitCode::Complete);
    assert_rows(directory.path(), &expected(&simulator, &list, 10));
    assert_no_page_billed_twice(&[&simulator]);
}

/// A product that fails for good, the others being fine, is a failure of that product: in the first run, and in every
/// later one that has nothing else to do.
async fn assert_one_failing_product_is_partial(delay: Duration) {
    let simulator = simulator("products=9,max_videos=25");
    let list = ids(&simulator);
    let failing = list[4].clone();
    let directory = tempfile::tempdir().unwrap();
    let context = built_in_context(
        directory.path(),
        Some(100.0),
        &[("retry_base_delay", "1s"), ("retry_max_delay", "5s"), ("retry_attempts", "4"), ("max_outage", "2m")],
    );
    let api = || {
        let (simulator, failing) = (Arc::clone(&simulator), failing.clone());
        Scripted::new(move |sent| {
            let fails = sent.id == failing;
            if fails {
                Reply::refusal(500, "Internal server error").after(delay)
            } else {
                Reply::from_simulator(&simulator, sent, 10).after(Duration::from_millis(50))
            }
        })
    };
    let first = run_job(&context, &api(), &list).await.unwrap();
    assert!(matches!(first.exit, ExitCode::Partial | ExitCode::Temporary), "{first}");
    assert_eq!(first.totals.products.complete, 8);
    for _ in 0..2 {
        let api = api();
        let later = run_job(&context, &api, &list).await.unwrap();
        let others = api.sent().iter().filter(|sent| sent.id != failing).count();
        assert!(others <= 3, "a passing failure is tried again; pages behind ends show that the API serves: {others}");
        assert_eq!(
            (later.exit, later.totals.products.complete, later.totals.products.failed),
            (ExitCode::Partial, 8, 1),
            "{later}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_product_that_always_fails_is_its_own_failure_also_when_nothing_else_is_left() {
    assert_one_failing_product_is_partial(Duration::ZERO).await;
}

#[tokio::test(start_paused = true)]
async fn a_product_that_fails_slowly_is_its_own_failure_also_when_max_outage_ends_while_it_is_requested() {
    assert_one_failing_product_is_partial(Duration::from_secs(25)).await;
}

#[tokio::test(start_paused = true)]
async fn a_segment_is_published_when_no_answer_is_in_flight_also_one_that_was_large_enough_before_the_run() {
    let simulator = simulator("products=60,max_videos=45");
    let list = ids(&simulator);
    let directory = tempfile::tempdir().unwrap();
    let mut context = built_in_context(directory.path(), Some(200.0), &[("max_in_flight", "16")]);
    let api = |stop_at| {
        let simulator = Arc::clone(&simulator);
        Scripted::stopping_at(stop_at, move |sent| {
            Reply::from_simulator(&simulator, sent, 10).after(Duration::from_millis(300))
        })
    };
    let first = run_job(&context, &api(60), &list).await.unwrap();
    assert_eq!((first.exit, manifests(directory.path()).len()), (ExitCode::Interrupted, 0), "{first}");
    context.settings.segment_size = 2_000;
    let api = api(usize::MAX);
    let busy = Arc::new(AtomicUsize::new(0));
    let _watch = pagehaul::model::failpoint::watch(directory.path(), {
        let (api, busy) = (Arc::clone(&api), Arc::clone(&busy));
        move |step| {
            if step.path.to_string_lossy().contains("/segments/") {
                busy.fetch_max(api.in_flight(), Ordering::SeqCst);
            }
            Ok(())
        }
    });
    let summary = run_job(&context, &api, &list).await.unwrap();
    assert_eq!((summary.exit, busy.load(Ordering::SeqCst)), (ExitCode::Complete, 0), "{summary}");
    assert!(manifests(directory.path()).len() > 3 && api.most_in_flight() > 4, "{summary}");
    assert_rows(directory.path(), &expected(&simulator, &list, 10));
}

#[tokio::test(start_paused = true)]
async fn a_page_that_is_due_while_the_quota_delays_everyone_does_not_spin() {
    const MANY: usize = 5_000;
    let simulator = simulator("products=60,max_videos=25");
    let list = ids(&simulator);
    let directory = tempfile::tempdir().unwrap();
    let context = built_in_context(directory.path(), Some(30.0), &[]);
    let api = Scripted::new({
        let simulator = Arc::clone(&simulator);
        move |sent| {
            let reply = match sent.number {
                1 => Reply::refusal(500, "Internal server error"),
                2 => Reply::refusal(429, "Too Many Requests").with_retry_after(Duration::from_secs(2)),
                _ => Reply::from_simulator(&simulator, sent, 10),
            };
            reply.after(Duration::from_millis(20))
        }
    });
    // The signal is checked in every round. A spin would never end by itself: virtual time does not move while it lasts.
    let rounds = AtomicUsize::new(0);
    let stopped = std::future::poll_fn(|_| {
        let spins = rounds.fetch_add(1, Ordering::SeqCst) > MANY;
        if spins { Poll::Ready(ExitCode::Interrupted) } else { Poll::Pending }
    });
    let summary = run_until(&context, &api, &list, stopped).await.unwrap();
    let (rounds, sent) = (rounds.load(Ordering::SeqCst), api.requests());
    assert_eq!((summary.exit, summary.run.throttled), (ExitCode::Complete, 1), "{rounds} rounds, {sent} requests");
    assert!(rounds <= 10 * sent, "{rounds} rounds for {sent} requests");
    assert_rows(directory.path(), &expected(&simulator, &list, 10));
}

/// A task on a blocking thread that waits for another one needs two of them: adding items waits until the mark of completeness
/// is removed. Nothing else waits like that, and the program has three.
#[test]
fn two_blocking_threads_are_enough_for_a_run_that_removes_the_mark_while_it_adds_items() {
    let (ended, waits) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().max_blocking_threads(2).build().unwrap();
        let simulator = simulator("products=6,max_videos=30,record=true");
        let list = ids(&simulator);
        let directory = scratch();
        for (items, repair) in [(3, "false"), (6, "false"), (6, "true")] {
            let context = built_in_context(directory.path(), None, &[("repair", repair)]);
            let api = Scripted::direct(&simulator);
            let summary = runtime.block_on(run_job(&context, &api, &list[..items])).unwrap();
            assert_eq!(summary.exit, ExitCode::Complete);
        }
        assert_rows(directory.path(), &expected(&simulator, &list, 10));
        ended.send(()).unwrap();
    });
    waits.recv_timeout(Duration::from_secs(60)).expect("a run waits for a thread that never comes");
}
