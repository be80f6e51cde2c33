//! An inquiry: whether a refusal is for one item or for all. While it is open, only pages of other items are requested, one at a
//! time. Two others that are refused alike make it one for all; one that is served ends the inquiry.

use std::collections::BTreeSet;

use super::RefusalScope;
use crate::fetch::classify::StopCause;
use crate::model::page::{AttemptId, ItemIx, PageNum};

/// Requests for other items that must be refused alike before a refusal is for all.
const MIN_ALIKE: u32 = 2;

/// A refusal that may be for all items. Until pages of other items have shown whether it is, nothing else is sent.
#[derive(Debug)]
pub(crate) struct Inquiry {
    /// What it means if it is for all.
    pub scope: RefusalScope,
    /// The last attempt when it arrived.
    pub since: AttemptId,
    pub message: String,
    refused: BTreeSet<ItemIx>,
    /// Requests for other items that were sent after it arrived and were refused alike.
    alike: u32,
    /// Such a request that is in flight.
    pub in_flight: Option<(ItemIx, PageNum)>,
    /// Whether a control request showed nothing about it: the next one would not either.
    pub is_inconclusive: bool,
}

impl Inquiry {
    pub(crate) fn new(scope: RefusalScope, item: ItemIx, since: AttemptId, message: String) -> Self {
        Self {
            scope,
            since,
            message,
            refused: BTreeSet::from([item]),
            alike: 0,
            in_flight: None,
            is_inconclusive: false,
        }
    }

    pub(crate) fn alike(&self) -> u32 {
        self.alike
    }

    pub(crate) fn refused(&self) -> &BTreeSet<ItemIx> {
        &self.refused
    }

    /// Records another refusal. True: it is for all.
    pub(crate) fn add(&mut self, item: ItemIx, attempt: AttemptId, message: &str) -> bool {
        let is_new = self.refused.insert(item);
        self.alike += u32::from(is_new && attempt > self.since);
        message.clone_into(&mut self.message);
        self.alike >= MIN_ALIKE
    }

    /// Whether a served request shows that it is not for all. `is_page`: it got a page. A refusal of a single page answers neither
    /// "is every page refused?" nor "are there credits?".
    pub(crate) fn is_refuted_by(&self, item: ItemIx, attempt: AttemptId, is_page: bool) -> bool {
        let needs_page = matches!(self.scope, RefusalScope::SamePage | RefusalScope::Cause(StopCause::Account));
        attempt > self.since && !self.refused.contains(&item) && (is_page || !needs_page)
    }

    /// Whether pages of items that were never requested may be sent for it.
    pub(crate) fn may_start_items(&self) -> bool {
        self.scope != RefusalScope::SamePage
    }
}

#[cfg(test)]
mod tests {
    use super::{Inquiry, RefusalScope};
    use crate::model::page::{AttemptId, ItemIx};

    #[test]
    fn a_refusal_is_for_all_when_two_others_were_asked_after_it_and_refused_alike() {
        let mut inquiry = Inquiry::new(RefusalScope::SamePage, ItemIx(1), AttemptId(5), String::new());
        let add = |inquiry: &mut Inquiry, item, attempt| inquiry.add(ItemIx(item), AttemptId(attempt), "");
        assert!(!add(&mut inquiry, 2, 4), "it was sent before");
        assert!(!add(&mut inquiry, 1, 6), "the same item");
        assert!(!add(&mut inquiry, 3, 7));
        let is_refuted =
            |inquiry: &Inquiry, item, attempt| inquiry.is_refuted_by(ItemIx(item), AttemptId(attempt), true);
        assert!(!is_refuted(&inquiry, 3, 9) && !is_refuted(&inquiry, 4, 5) && is_refuted(&inquiry, 4, 6));
        assert!(!inquiry.is_refuted_by(ItemIx(4), AttemptId(6), false), "a refusal of a page is not a page");
        assert!(add(&mut inquiry, 5, 8));
    }
}
