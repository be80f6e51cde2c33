//! Which changes of the rate are logged: a server that refuses some requests changes it several times a second.

use std::time::Duration;

use indicatif::HumanFloatCount;

/// Smallest change since the last logged rate, as a factor.
const MIN_CHANGE: f64 = 1.25;
/// Waits from here on are always logged: nothing else would explain why nothing moves.
const LONG_WAIT: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(crate) struct RateNews {
    /// The rate that the user set, requests per second.
    requested: Option<f64>,
    /// The last logged rate; none before the first 429.
    logged: Option<f64>,
}

impl RateNews {
    pub(crate) fn new(requested: Option<f64>) -> Self {
        Self { requested, logged: None }
    }

    /// The line about a new rate, if it is to be logged. `wait`: a 429 makes all requests wait.
    pub(crate) fn line(&mut self, rate: f64, wait: Option<Duration>) -> Option<String> {
        let (shown, before) = (HumanFloatCount(rate), self.logged);
        if let Some(wait) = wait.filter(|wait| before.is_none() || *wait >= LONG_WAIT) {
            self.logged = Some(rate);
            let more = if before.is_none() { "; from now on only large changes are logged" } else { "" };
            return Some(format!("HTTP 429: all requests wait {wait:.1?}, then {shown:.1} requests per second{more}"));
        }
        let before = before?;
        let is_restored = self.requested.is_some_and(|requested| rate >= requested && before < requested);
        if !is_restored && rate < before * MIN_CHANGE && before < rate * MIN_CHANGE {
            return None;
        }
        self.logged = Some(rate);
        Some(match (rate < before, is_restored) {
            (true, _) => format!("HTTP 429: rate lowered to {shown:.1} requests per second"),
            (false, true) => format!("rate back at {shown:.1} requests per second, as requested"),
            (false, false) => format!("rate raised to {shown:.1} requests per second"),
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
        let mut news = RateNews::new(Some(50.0));
        assert_eq!(news.line(40.0, None), None, "there was no 429");
        assert!(
            news.line(48.0, Some(SHORT)).unwrap().starts_with("HTTP 429: all requests wait 40.0ms, then 48 requests")
        );
        let quiet = [47.0, 46.0, 41.0, 40.0, 39.0, 45.0, 46.5].map(|rate| news.line(rate, Some(SHORT)));
        assert_eq!(quiet, [const { None }; 7]);
        assert_eq!(news.line(38.0, Some(SHORT)).unwrap(), "HTTP 429: rate lowered to 38 requests per second");
        assert_eq!(news.line(42.0, None), None);
        assert_eq!(news.line(47.5, None).unwrap(), "rate raised to 47.5 requests per second");
    }

    #[test]
    fn the_way_back_to_the_asked_rate_is_said_however_short_it_is_and_a_long_wait_always() {
        let mut news = RateNews::new(Some(50.0));
        news.line(49.0, Some(SHORT)).unwrap();
        assert_eq!(news.line(50.0, None).unwrap(), "rate back at 50 requests per second, as requested");
        assert_eq!((news.line(50.0, None), news.line(49.0, Some(SHORT))), (None, None));
        assert_eq!(news.line(50.0, None), None, "it was logged last");
        assert!(
            news.line(49.0, Some(Duration::from_secs(30))).unwrap().starts_with("HTTP 429: all requests wait 30.0s")
        );
    }
}
