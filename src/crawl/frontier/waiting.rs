//! Pages that failed and wait for their time.

use std::cmp::Reverse;

use tokio::time::Instant;

use super::{Faults, PageTask, Scheduler};
use crate::model::page::{ItemIx, PageNum};

impl Scheduler {
    /// Whether all that is left to be asked for is like this; what was never asked for is not.
    pub fn all_tried(&self, like: impl Fn(&PageTask) -> bool) -> bool {
        let untried = !self.fresh.is_empty() || self.ready.len() > 0 || !self.again.is_empty();
        !untried && self.delayed.values().chain(self.in_flight.values()).all(like)
    }

    /// Forgets the failures of parked pages that `innocent` picks: they may be asked for at once.
    pub fn pardon(&mut self, innocent: impl Fn(&PageTask) -> bool) {
        for (key, mut wanted) in std::mem::take(&mut self.delayed) {
            if innocent(&wanted) {
                (wanted.tries, wanted.faults) = (None, Faults::default());
                self.again.insert((Reverse(wanted.page), wanted.item), wanted);
            } else {
                self.delayed.insert(key, wanted);
            }
        }
    }

    /// Whether a page that failed waits.
    pub fn has_parked(&self) -> bool {
        !self.delayed.is_empty()
    }

    /// A parked page that is due and of whose last failure it is not known whose it is.
    pub fn take_due(&mut self, now: Instant) -> Option<PageTask> {
        let is_pending = |(_, wanted): &(&(Instant, ItemIx, PageNum), &PageTask)| wanted.faults.pending.is_some();
        let key = *self.delayed.iter().take_while(|((due, ..), _)| *due <= now).find(is_pending)?.0;
        let wanted = self.delayed.remove(&key)?;
        self.wait_less(wanted.item);
        Some(wanted)
    }

    /// Takes all parked pages, with their times.
    pub fn take_all_parked(&mut self) -> Vec<(Instant, PageTask)> {
        let delayed: Vec<_> =
            std::mem::take(&mut self.delayed).into_iter().map(|((due, ..), wanted)| (due, wanted)).collect();
        for (_, wanted) in &delayed {
            self.wait_less(wanted.item);
        }
        delayed
    }

    /// Takes all parked pages.
    pub fn take_parked(&mut self) -> Vec<PageTask> {
        self.take_all_parked().into_iter().map(|(_, wanted)| wanted).collect()
    }
}
