//! The only file that reads a clock.
//!
//! Waits and intervals use tokio's clock, which tests can pause; backoff gets the same clock as a type. Wall time stamps what
//! was fetched and published. No duration is the difference of two wall times, except the time until a deadline.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use tokio::time::Instant;

/// Tokio's monotonic clock, for the crate that takes a clock as a parameter.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokioClock;

impl backoff::Clock for TokioClock {
    fn now(&self) -> std::time::Instant {
        now().into_std()
    }
}

/// The monotonic time.
#[expect(clippy::disallowed_methods, reason = "this file is the seam that the rule points to")]
pub fn now() -> Instant {
    Instant::now()
}

/// When the wall clock will show this time: now if it has shown it. None: never, as far as this clock can count.
pub fn at(wall_time: Utc64) -> Option<Instant> {
    let until = wall_time.0.saturating_sub(wall().0);
    now().checked_add(Duration::from_micros(u64::try_from(until).unwrap_or(0)))
}

/// A moment in UTC, in microseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Utc64(pub i64);

impl Utc64 {
    /// Whole seconds since 1970.
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// A moment as it is shown, RFC 3339.
    pub fn from_rfc_3339(text: &str) -> Option<Self> {
        DateTime::parse_from_rfc3339(text).ok().map(|time| Self(time.timestamp_micros()))
    }

    /// The moment so long before this one; the first of all if there is none.
    #[must_use]
    pub fn minus(self, time: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(time.as_micros()).unwrap_or(i64::MAX)))
    }
}

impl fmt::Display for Utc64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match DateTime::<Utc>::from_timestamp_micros(self.0) {
            Some(time) => f.write_str(&time.to_rfc3339_opts(SecondsFormat::Millis, true)),
            None => write!(f, "{} us", self.0),
        }
    }
}

/// The wall clock's time. A clock before 1970 or past the year 290,000 counts as 1970.
#[expect(clippy::disallowed_methods, reason = "this file is the seam that the rule points to")]
pub fn wall() -> Utc64 {
    #[cfg(debug_assertions)]
    if let Some(fixed) = crate::model::failpoint::fixed_wall() {
        return Utc64(fixed);
    }
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Utc64(i64::try_from(since_epoch.as_micros()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::Utc64;
    use std::time::Duration;

    #[test]
    fn a_moment_is_shown_as_rfc_3339_in_utc() {
        assert_eq!(Utc64(1_628_504_241_123_456).to_string(), "2021-08-09T10:17:21.123Z");
        assert_eq!(Utc64(i64::MAX).to_string(), format!("{} us", i64::MAX));
    }

    #[test]
    fn a_moment_is_read_as_it_was_shown_and_compared_with_an_age() {
        let at = Utc64(1_628_504_241_123_000);
        assert_eq!(Utc64::from_rfc_3339(&at.to_string()), Some(at));
        for wrong in ["", "yesterday", "2021-08-09", "1628504241"] {
            assert_eq!(Utc64::from_rfc_3339(wrong), None, "{wrong}");
        }
        assert_eq!(at.minus(Duration::from_secs(1)), Utc64(1_628_504_240_123_000));
        assert!(at.minus(Duration::MAX) < Utc64(0));
    }
}
