//! Pages that failed and wait until they may be requested again.

use std::cmp::Reverse;

use tokio::time::Instant;

use super::{Faults, Frontier, PageTask};
use crate::model::page::{ItemIx, PageNum};

impl Frontier {
    /// Whether `is_such` is true of every page that is left; false while there are pages that were never requested.
    pub(crate) fn all_tried(&self, is_such: impl Fn(&PageTask) -> bool) -> bool {
        let untried = !self.unstarted.is_empty() || self.ready.len() > 0 || !self.requeue.is_empty();
        !untried && self.delayed.values().chain(self.in_flight.tasks()).all(is_such)
    }

    /// Forgets the failures of the delayed pages that `is_innocent` selects: they may be requested at once.
    pub(crate) fn clear_failures(&mut self, is_innocent: impl Fn(&PageTask) -> bool) {
        for (key, mut task) in std::mem::take(&mut self.delayed) {
            if is_innocent(&task) {
                (task.retry, task.faults) = (None, Faults::default());
                self.requeue.insert((Reverse(task.page), task.item), task);
            } else {
                self.delayed.insert(key, task);
            }
        }
    }

    pub(crate) fn has_delayed(&self) -> bool {
        !self.delayed.is_empty()
    }

    /// A delayed page that is due and whose last failure is not yet known to be its own or not.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<PageTask> {
        let is_pending = |(_, task): &(&(Instant, ItemIx, PageNum), &PageTask)| task.faults.pending.is_some();
        let key = *self.delayed.iter().take_while(|((due, ..), _)| *due <= now).find(is_pending)?.0;
        let task = self.delayed.remove(&key)?;
        self.stop_waiting(task.item);
        Some(task)
    }

    pub(crate) fn take_all_delayed(&mut self) -> Vec<(Instant, PageTask)> {
        let delayed: Vec<_> =
            std::mem::take(&mut self.delayed).into_iter().map(|((due, ..), task)| (due, task)).collect();
        for (_, task) in &delayed {
            self.stop_waiting(task.item);
        }
        delayed
    }
}
