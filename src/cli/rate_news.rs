//! Which changes of the rate are logged: a server that refuses some requests changes it several times a second.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::report::totals::Rate;

/// Smallest change since the last logged rate, as a factor.
const MIN_CHANGE: f64 = 1.25;
/// Waits from here on are always logged: nothing else would explain why nothing moves.
const LONG_WAIT: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(crate) struct RateNews {
    /// The rate that the user set, requests per second.
    requested: Option<f64>,
    /// The last logged rate; none before the first 429.
    logged: Mutex<Option<f64>>,
}

impl RateNews {
    pub(crate) fn new(requested: Option<f64>) -> Self {
        Self { requested, logged: Mutex::default() }
    }

    /// The line about a 429 that makes all requests wait, if it is to be logged.
    pub(crate) fn throttled(&self, wait: Duration, rate: f64) -> Option<String> {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = logged.is_none();
        if !is_first && wait < LONG_WAIT {
            return self.change(&mut logged, rate);
        }
        *logged = Some(rate);
        let more = if is_first { "; from now on only large changes are logged" } else { "" };
        Some(format!("HTTP 429: all requests wait {wait:.1?}, then {:.1} requests per second{more}", Rate(rate)))
    }

    /// The line about a rate that rose, if it is to be logged.
    pub(crate) fn changed(&self, rate: f64) -> Option<String> {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        self.change(&mut logged, rate)
    }

    fn change(&self, logged: &mut Option<f64>, rate: f64) -> Option<String> {
        let before = (*logged)?;
        let is_restored = self.requested.is_some_and(|requested| rate >= requested && before < requested);
        if !is_restored && rate < before * MIN_CHANGE && before < rate * MIN_CHANGE {
            return None;
        }
        *logged = Some(rate);
        let rate_now = Rate(rate);
        Some(match (rate < before, is_restored) {
            (true, _) => format!("HTTP 429: rate lowered to {rate_now:.1} requests per second"),
            (false, true) => format!("rate back at {rate_now:.1} requests per second, as requested"),
            (false, false) => format!("rate raised to {rate_now:.1} requests per second"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::RateNews;
    use std::time::Duration;

    const SHORT: Duration = Duration::from_millis(40);

    #[test]
    fn the_first_429_is_said_and_then_only_what_moves_the_rate_by_a_quarter() {
        let news = RateNews::new(Some(50.0));
        assert_eq!(news.changed(40.0), None, "there was no 429");
        assert!(
            news.throttled(SHORT, 48.0).unwrap().starts_with("HTTP 429: all requests wait 40.0ms, then 48.0 requests")
        );
        let quiet = [47.0, 46.0, 41.0, 40.0, 39.0, 45.0, 46.5].map(|rate| news.throttled(SHORT, rate));
        assert_eq!(quiet, [const { None }; 7]);
        assert_eq!(news.throttled(SHORT, 38.0).unwrap(), "HTTP 429: rate lowered to 38.0 requests per second");
        assert_eq!(news.changed(42.0), None);
        assert_eq!(news.changed(47.5).unwrap(), "rate raised to 47.5 requests per second");
    }

    #[test]
    fn the_way_back_to_the_asked_rate_is_said_however_short_it_is_and_a_long_wait_always() {
        let news = RateNews::new(Some(50.0));
        news.throttled(SHORT, 49.0).unwrap();
        assert_eq!(news.changed(50.0).unwrap(), "rate back at 50.0 requests per second, as requested");
        assert_eq!((news.changed(50.0), news.throttled(SHORT, 49.0)), (None, None));
        assert_eq!(news.changed(50.0), None, "it was logged last");
        assert!(
            news.throttled(Duration::from_secs(30), 49.0).unwrap().starts_with("HTTP 429: all requests wait 30.0s")
        );
    }
}
