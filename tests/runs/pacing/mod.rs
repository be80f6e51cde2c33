//! How much of a limit is used, and what it costs in 429s, in virtual time.

mod client;

use std::num::NonZeroU32;
use std::time::Duration;

use self::client::{LimitedClient, Way, qps};
use pagehaul::settings::RateLimit;
use pagehaul::simulator::{LimitSpec, Window};

const MINUTE: Duration = Duration::from_secs(60);

/// Requests that pass, as a share of the limit.
fn used(passed: u32, limit: u32, time: Duration) -> f64 {
    f64::from(passed) / (f64::from(limit) * time.as_secs_f64())
}

/// An hour's work at a number that is the limit: what is used of it, and the share of 429s.
async fn an_hour(limit: LimitSpec, way: Way) -> (f64, f64) {
    let number = limit.per_second.get();
    let mut client = LimitedClient::new(RateLimit::PerSecond(f64::from(number)), limit, way);
    let responses = client.work(60 * MINUTE).await;
    (used(responses.passed, number, 60 * MINUTE), responses.refused_share())
}

#[tokio::test(start_paused = true)]
async fn of_a_number_that_is_the_limit_all_is_used_and_next_to_nothing_is_refused() {
    for limit in [5, 10, 50] {
        for window in [Window::Bucket, Window::Fixed, Window::Sliding] {
            for way in [Way::NONE, Way::FAR] {
                // Under jitter a sliding window cannot have more: see the next test.
                if window == Window::Sliding && way == Way::FAR {
                    continue;
                }
                let (used, refused) = an_hour(qps(limit, window), way).await;
                assert!(used >= 0.99 && refused <= 0.001, "{limit} {window:?} {way:?}: {used:.4} {refused:.5}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn where_there_are_no_windows_nothing_is_worse_than_an_even_pace() {
    for (limit, least) in [(5, 0.91), (10, 0.91), (50, 0.92)] {
        let (used, refused) = an_hour(qps(limit, Window::Sliding), Way::FAR).await;
        assert!(used >= least && refused <= 0.002, "{limit}: {used:.4} {refused:.5}");
    }
    for (limit, least) in [(5, 0.7), (10, 0.5), (50, 0.2)] {
        let strict = LimitSpec { burst: NonZeroU32::new(1), ..qps(limit, Window::Bucket) };
        let (used, refused) = an_hour(strict, Way::NONE).await;
        assert!(used >= 0.97 && refused <= 0.001, "{limit}, a bucket of one: {used:.4} {refused:.5}");
        let (used, refused) = an_hour(strict, Way::FAR).await;
        assert!(used >= least && refused <= 0.01, "{limit}, a bucket of one, far: {used:.4} {refused:.5}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_window_s_end_is_found_whatever_its_phase_and_then_nothing_is_refused_any_more() {
    for phase in [0, 250, 480, 770] {
        for limit in [5, 50] {
            let limit = LimitSpec { phase: Duration::from_millis(phase), ..qps(limit, Window::Fixed) };
            let number = limit.per_second.get();
            let mut client = LimitedClient::new(RateLimit::PerSecond(f64::from(number)), limit, Way::FAR);
            client.work(20 * MINUTE).await;
            let responses = client.work(20 * MINUTE).await;
            let used = used(responses.passed, number, 20 * MINUTE);
            assert!(
                used >= 0.995 && responses.refused_share() <= 0.0003,
                "{number} at {phase} ms: {used:.4} {responses:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn auto_finds_any_limit_within_a_minute_and_refusals_stay_rare() {
    for window in [Window::Bucket, Window::Fixed] {
        for limit in [5, 10, 50, 500] {
            for way in [Way::NONE, Way::FAR] {
                let mut client = LimitedClient::new(RateLimit::Auto(None), qps(limit, window), way);
                client.work(MINUTE).await;
                let responses = client.work(10 * MINUTE).await;
                let used = used(responses.passed, limit, 10 * MINUTE);
                assert!(used >= 0.95, "{window:?} {limit} {way:?}: {used:.3} used");
                assert!(responses.refused_share() <= 0.01, "{window:?} {limit} {way:?}: {responses:?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_run_found_is_used_from_the_first_second_and_corrected_where_it_is_wrong() {
    for (known, limit, least) in [(50.0, 50, 0.96), (100.0, 50, 0.9), (25.0, 50, 0.6)] {
        let mut client = LimitedClient::new(RateLimit::Auto(Some(known)), qps(limit, Window::Bucket), Way::FAR);
        let responses = client.work(MINUTE).await;
        let first = used(responses.passed, limit, MINUTE);
        assert!(
            first >= least && responses.refused_share() <= 0.05,
            "{known} for {limit}: {first:.3} used, {responses:?}"
        );
        let responses = client.work(5 * MINUTE).await;
        assert!(used(responses.passed, limit, 5 * MINUTE) >= 0.95, "{known} for {limit}: {responses:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_rate_that_nobody_uses_does_not_grow_beyond_all_bounds() {
    let mut client = LimitedClient::new(RateLimit::Auto(None), qps(1_000_000, Window::Bucket), Way::FAR);
    client.work(Duration::from_secs(5)).await;
    let before = client.limiter.rate().unwrap();
    for _ in 0..600 {
        tokio::time::advance(Duration::from_secs(1)).await;
        client.limiter.acquire().await;
    }
    assert!(client.limiter.rate().unwrap() <= before * 2.0, "{before} grew to {:?}", client.limiter.rate());
}

#[tokio::test(start_paused = true)]
async fn auto_follows_a_limit_that_is_halved_or_doubled() {
    for window in [Window::Bucket, Window::Fixed] {
        for (limit, later) in [(50, 25), (50, 100), (500, 250), (500, 1_000)] {
            let mut client = LimitedClient::new(RateLimit::Auto(None), qps(limit, window), Way::FAR);
            client.work(3 * MINUTE).await;
            client.limit.set(later.try_into().unwrap());
            client.work(3 * MINUTE).await;
            let responses = client.work(5 * MINUTE).await;
            let used = used(responses.passed, later, 5 * MINUTE);
            assert!(used >= 0.95, "{window:?} {limit} to {later}: {used:.3} used");
            assert!(responses.refused_share() <= 0.01, "{window:?} {limit} to {later}: {responses:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_requests_pauses_is_probed_the_more_rarely_the_longer_they_are() {
    let bucket = qps(50, Window::Bucket);
    let mut client =
        LimitedClient::new(RateLimit::Auto(None), bucket, Way::FAR).with_retry_after(Duration::from_secs(10));
    client.work(2 * MINUTE).await;
    let responses = client.work(30 * MINUTE).await;
    let used = used(responses.passed, 50, 30 * MINUTE);
    assert!(used >= 0.9 && responses.refused_share() <= 0.001, "{used:.3} used, {responses:?}");
}
