//! How long a 429 makes everyone wait.
//!
//! What the server asks for, clamped. Where it asks for nothing: two periods of the pace after a 429 that stands alone, and
//! doubling waits when the request that follows such a wait is refused as well, so that a server that refuses everything is
//! asked less and less often.

use std::time::Duration;

use tokio::time::Instant;

use super::LONGEST_WAIT;

/// The wait after a second 429 with no answer between; doubled while they follow each other. Four of them outlast a window
/// of a second.
const FIRST: Duration = Duration::from_millis(250);
/// What holds everyone at present.
#[derive(Debug)]
pub(super) struct Cooldown {
    /// When the last one began: requests that left before have nothing to add.
    began: Option<Instant>,
    /// Nothing leaves before.
    pub(super) until: Instant,
    /// 429s in a row, each to a request that left after the one before had its say.
    strikes: u32,
}

impl Cooldown {
    pub(super) fn new(now: Instant) -> Self {
        Self { began: None, until: now, strikes: 0 }
    }

    /// An answer that was no 429 to a request that left at `sent`.
    pub(super) fn passed(&mut self, sent: Instant) {
        if self.began.is_none_or(|began| sent > began) {
            self.strikes = 0;
        }
    }

    /// A 429 to a request that left at `sent`. Gives the wait from now; none if it belongs to a burst that everyone waits
    /// for already.
    pub(super) fn refused(
        &mut self,
        now: Instant,
        sent: Instant,
        period: Duration,
        wish: Option<Duration>,
    ) -> Option<Duration> {
        if self.began.is_some_and(|began| sent <= began) {
            return None;
        }
        let own = match self.strikes {
            0 => period.saturating_mul(2).min(FIRST),
            strikes => FIRST.saturating_mul(1 << (strikes - 1).min(16)),
        };
        let wait = own.max(wish.unwrap_or_default()).min(LONGEST_WAIT);
        (self.strikes, self.began) = (self.strikes.saturating_add(1), Some(now));
        // What was asked for before holds still, whatever a later answer asks for.
        self.until = self.until.max(now + wait);
        Some(self.until - now)
    }
}
