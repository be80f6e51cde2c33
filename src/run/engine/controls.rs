//! Control requests: the page behind the end of a complete list, to see whether the API serves when only failed pages are left.

use super::Engine;
use crate::crawl::judgement::CONTROLS;
use crate::error::Error;
use crate::model::page::{ItemIx, PageNum};
use crate::state::ledger::{EndedItem, Ledger, LedgerError};

#[derive(Debug)]
pub(super) struct Controls {
    sent: u32,
    /// The search for the next list continues before this item.
    before: ItemIx,
    /// Whether there may be a list to request from.
    has_list: bool,
}

impl Default for Controls {
    fn default() -> Self {
        Self { sent: 0, before: ItemIx(i64::MAX), has_list: true }
    }
}

impl Controls {
    pub(super) fn is_unused(&self) -> bool {
        self.sent == 0
    }

    pub(super) fn add_list(&mut self) {
        self.has_list = true;
    }

    /// The next list with a page behind its end that the API accepts, the last ones first. After the first one the search starts
    /// again from the last: behind its end there is another page.
    fn next(&mut self, ledger: &Ledger, limit: PageNum) -> Result<Option<EndedItem>, LedgerError> {
        let mut is_second_time = false;
        while self.has_list {
            let Some(ended) = ledger.ended_item(self.before)? else {
                self.has_list = self.before < ItemIx(i64::MAX) && !std::mem::replace(&mut is_second_time, true);
                self.before = ItemIx(i64::MAX);
                continue;
            };
            self.before = ended.item;
            if ended.last < limit {
                self.sent += 1;
                return Ok(Some(ended));
            }
        }
        Ok(None)
    }
}

impl Engine<'_> {
    pub(super) fn may_send_control(&self) -> bool {
        let is_inconclusive = self.refusals.inquiry.as_ref().is_some_and(|inquiry| inquiry.is_inconclusive);
        self.controls.sent < CONTROLS && self.controls.has_list && self.can_afford() && !is_inconclusive
    }

    /// Sends a control request. Returns false if there is no list for it, or no more are allowed in this run.
    pub(super) fn send_control(&mut self) -> Result<bool, Error> {
        if !self.may_send_control() {
            return Ok(false);
        }
        let found = self.controls.next(&self.dir.ledger(), self.rules.limit())?;
        let Some(ended) = found else { return Ok(false) };
        self.request_behind_end(ended)?;
        Ok(true)
    }
}
