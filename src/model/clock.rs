//! The only file that reads a clock.
//!
//! Waits and intervals use tokio's clock, which tests can pause; backoff gets the same clock as a type. Wall time stamps what
//! was fetched and published. No duration is the difference of two wall times.

use std::fmt;

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

/// A moment in UTC, in microseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Utc64(pub i64);

impl Utc64 {
    /// Whole seconds since 1970.
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
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

    #[test]
    fn a_moment_is_shown_as_rfc_3339_in_utc() {
        assert_eq!(Utc64(1_628_504_241_123_456).to_string(), "2021-08-09T10:17:21.123Z");
        assert_eq!(Utc64(i64::MAX).to_string(), format!("{} us", i64::MAX));
    }
}
