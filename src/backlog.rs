//! The walks that the ledger still holds: a few at a time go to the scheduler, however many there are.

use crate::ledger::{Ledger, LedgerError, OpenItem};
use crate::page::{ItemIx, SegmentId};
use crate::rules::Rules;
use crate::scheduler::Scheduler;
use crate::walk::Walk;

/// How far the ledger's open items have been taken: walks under way first, then new ones.
#[derive(Debug)]
pub struct Backlog {
    walking: Option<ItemIx>,
    fresh: Option<ItemIx>,
}

impl Default for Backlog {
    fn default() -> Self {
        Self { walking: Some(ItemIx(0)), fresh: Some(ItemIx(0)) }
    }
}

impl Backlog {
    /// Whether every open item was taken.
    pub fn is_empty(&self) -> bool {
        self.walking.is_none() && self.fresh.is_none()
    }

    /// Fills the scheduler up when it has become half empty. Gives those whose pages say that they are over: a crash came
    /// before their end was written down.
    pub fn refill(
        &mut self,
        scheduler: &mut Scheduler,
        ledger: &Ledger,
        rules: &Rules,
    ) -> Result<Vec<ItemIx>, LedgerError> {
        let room = scheduler.room();
        let mut over = Vec::new();
        if !scheduler.is_half_empty() {
            return Ok(over);
        }
        let (source, items) = match (self.walking, self.fresh) {
            (Some(after), _) => (&mut self.walking, ledger.walking(after, room)?),
            (None, Some(after)) => (&mut self.fresh, ledger.fresh(after, room)?),
            (None, None) => return Ok(over),
        };
        *source = items.last().map(|last| last.item).filter(|_| items.len() == room);
        for OpenItem { item, id, failed_before, has_pages, size } in items {
            let pages = if has_pages { ledger.pages(item, SegmentId::BEHIND_ALL)? } else { Vec::new() };
            let mut walk = Walk::new(item, id, rules, pages);
            walk.is_suspect = failed_before;
            walk.hint(size.and_then(|rows| rules.last_of(rows)));
            over.extend(walk.end().map(|_| item));
            scheduler.add(walk);
        }
        Ok(over)
    }
}
