//! How long all requests wait after a 429.
//!
//! Two periods after a single 429, or `BASE_WAIT` if that is less. Doubling waits while the requests that follow such waits are
//! refused as well, so that a server that refuses everything gets fewer and fewer requests. Longer if the server asks for it. At
//! most `MAX_WAIT`.

use std::time::Duration;

use tokio::time::Instant;

use super::MAX_WAIT;

/// The wait after a second 429 with no other response in between. It doubles while 429s follow each other; four of them outlast a
/// window of a second.
const BASE_WAIT: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(super) struct Cooldown {
    /// When the last one began: a 429 to a request that was sent before belongs to its burst.
    began: Option<Instant>,
    /// No request is sent before.
    pub(super) until: Instant,
    /// 429s in a row, each to a request that was sent after the previous wait began.
    consecutive: u32,
}

impl Cooldown {
    pub(super) fn new(now: Instant) -> Self {
        Self { began: None, until: now, consecutive: 0 }
    }

    /// A response that is not a 429, to a request that was sent at `sent`.
    pub(super) fn record_response(&mut self, sent: Instant) {
        if self.began.is_none_or(|began| sent > began) {
            self.consecutive = 0;
        }
    }

    /// A 429 to a request that was sent at `sent`. Returns the wait from now; none if it belongs to the burst that caused the
    /// current wait.
    pub(super) fn record_throttle(
        &mut self,
        now: Instant,
        sent: Instant,
        period: Duration,
        retry_after: Option<Duration>,
    ) -> Option<Duration> {
        if self.began.is_some_and(|began| sent <= began) {
            return None;
        }
        let own = match self.consecutive {
            0 => period.saturating_mul(2).min(BASE_WAIT),
            consecutive => BASE_WAIT.saturating_mul(1 << (consecutive - 1).min(16)),
        };
        let wait = own.max(retry_after.unwrap_or_default()).min(MAX_WAIT);
        (self.consecutive, self.began) = (self.consecutive.saturating_add(1), Some(now));
        // A later response never shortens a wait.
        self.until = self.until.max(now + wait);
        Some(self.until - now)
    }
}
