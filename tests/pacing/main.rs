//! How much of a limit is used, and what it costs in 429s, in virtual time.

#![expect(clippy::unwrap_used, reason = "what helps a test fails by panicking")]

mod world;

use std::time::Duration;

use pagehaul::quota::Asked;
use pagehaul::simulator::Window;
use world::{Way, World, qps};

const MINUTE: Duration = Duration::from_secs(60);

/// Requests that pass, as a share of the limit.
fn used(passed: u32, limit: u32, time: Duration) -> f64 {
    f64::from(passed) / (f64::from(limit) * time.as_secs_f64())
}

#[tokio::test(start_paused = true)]
async fn auto_finds_any_limit_within_a_minute_and_refusals_stay_rare() {
    for window in [Window::Bucket, Window::Fixed] {
        for limit in [5, 10, 50, 500] {
            for way in [Way::NONE, Way::FAR] {
                let mut world = World::new(Asked::Auto(None), qps(limit, window), way);
                world.work(MINUTE).await;
                let answers = world.work(10 * MINUTE).await;
                let used = used(answers.passed, limit, 10 * MINUTE);
                assert!(used >= 0.95, "{window:?} {limit} {way:?}: {used:.3} used");
                assert!(answers.refused_share() <= 0.01, "{window:?} {limit} {way:?}: {answers:?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn auto_follows_a_limit_that_is_halved_or_doubled() {
    for window in [Window::Bucket, Window::Fixed] {
        for (limit, later) in [(50, 25), (50, 100), (500, 250), (500, 1_000)] {
            let mut world = World::new(Asked::Auto(None), qps(limit, window), Way::FAR);
            world.work(3 * MINUTE).await;
            world.limit.set(later.try_into().unwrap());
            world.work(3 * MINUTE).await;
            let answers = world.work(5 * MINUTE).await;
            let used = used(answers.passed, later, 5 * MINUTE);
            assert!(used >= 0.95, "{window:?} {limit} to {later}: {used:.3} used");
            assert!(answers.refused_share() <= 0.01, "{window:?} {limit} to {later}: {answers:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_asks_for_pauses_is_probed_the_more_rarely_the_longer_they_are() {
    let bucket = qps(50, Window::Bucket);
    let mut world = World::new(Asked::Auto(None), bucket, Way::FAR).with_retry_after(Duration::from_secs(10));
    world.work(2 * MINUTE).await;
    let answers = world.work(30 * MINUTE).await;
    let used = used(answers.passed, 50, 30 * MINUTE);
    assert!(used >= 0.9 && answers.refused_share() <= 0.001, "{used:.3} used, {answers:?}");
}
