//! Which changes of the rate are worth a line: a server that refuses some requests moves it several times a second.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::report::totals::Rate;

/// The rate changed by this factor since it was last said.
const MATTERS: f64 = 1.25;
/// A wait for every request that is said, however often one is asked for: nothing else would say why nothing moves.
const LONG: Duration = Duration::from_secs(30);

/// What was said of the rate.
#[derive(Debug)]
pub(crate) struct RateNews {
    /// Requests a second that were asked for; none: no number was.
    asked: Option<f64>,
    /// The rate that was said last; none before the first 429.
    message: Mutex<Option<f64>>,
}

impl RateNews {
    /// Nothing said yet.
    pub(crate) fn new(asked: Option<f64>) -> Self {
        Self { asked, message: Mutex::default() }
    }

    /// The line about a 429 that made every request wait, if it is worth one.
    pub(crate) fn held(&self, wait: Duration, rate: f64) -> Option<String> {
        let mut message = self.message.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = message.is_none();
        if !is_first && wait < LONG {
            return self.changed(&mut message, rate);
        }
        *message = Some(rate);
        let more = if is_first {
            "; after this only large changes of the rate are shown, the summary counts them all"
        } else {
            ""
        };
        Some(format!("429: every request waits {wait:.1?}, then {:.1} a second{more}", Rate(rate)))
    }

    /// The line about a rate that climbed, if it is worth one.
    pub(crate) fn moved(&self, rate: f64) -> Option<String> {
        let mut message = self.message.lock().unwrap_or_else(PoisonError::into_inner);
        self.changed(&mut message, rate)
    }

    fn changed(&self, message: &mut Option<f64>, rate: f64) -> Option<String> {
        let before = (*message)?;
        let is_back = self.asked.is_some_and(|asked| rate >= asked && before < asked);
        if !is_back && rate < before * MATTERS && before < rate * MATTERS {
            return None;
        }
        *message = Some(rate);
        let reason = if rate < before { "429s: " } else { "" };
        let back = if is_back { ", as asked for" } else { "" };
        Some(format!("{reason}{:.1} requests a second from now on{back}", Rate(rate)))
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
        assert_eq!(news.moved(40.0), None, "without a 429 nobody asked");
        assert!(news.held(SHORT, 48.0).unwrap().starts_with("429: every request waits 40.0ms, then 48.0 a second"));
        let quiet = [47.0, 46.0, 41.0, 40.0, 39.0, 45.0, 46.5].map(|rate| news.held(SHORT, rate));
        assert_eq!(quiet, [const { None }; 7]);
        assert_eq!(news.held(SHORT, 38.0).unwrap(), "429s: 38.0 requests a second from now on");
        assert_eq!(news.moved(42.0), None);
        assert_eq!(news.moved(47.5).unwrap(), "47.5 requests a second from now on");
    }

    #[test]
    fn the_way_back_to_the_asked_rate_is_said_however_short_it_is_and_a_long_wait_always() {
        let news = RateNews::new(Some(50.0));
        news.held(SHORT, 49.0).unwrap();
        assert_eq!(news.moved(50.0).unwrap(), "50.0 requests a second from now on, as asked for");
        assert_eq!((news.moved(50.0), news.held(SHORT, 49.0)), (None, None));
        assert_eq!(news.moved(50.0), None, "it was said last");
        assert!(news.held(Duration::from_secs(30), 49.0).unwrap().starts_with("429: every request waits 30.0s"));
    }
}
