//! Refusals and failures of which it is not known yet whether they are for one item or for all: what waits until others are served.

use std::collections::BTreeSet;

use super::outage::without_numbers;
use crate::crawl::frontier::PageTask;
use crate::crawl::judgement::inquiry::Inquiry;
use crate::crawl::judgement::{REFUSED_IN_A_ROW, RefusalScope};
use crate::fetch::classify::Failure;
use crate::fetch::explain;
use crate::model::page::{AttemptId, ItemIx};

/// Items in a row that get a refusal which was not meant for all before it is inquired into again.
const REFUTED_IN_A_ROW: usize = 3;

#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// The refusal that other items' pages are requested for.
    pub(super) inquiry: Option<Inquiry>,
    /// The last refusal that was not meant for all, without its numbers, and the items that got it since others were served.
    refuted: Option<(RefusalScope, String)>,
    refused_since: BTreeSet<ItemIx>,
    /// Pages that are not requested again. Their items fail as soon as others are served.
    deferred: Vec<DeferredFailure>,
    /// Walks that end before a refused page, as soon as others get pages.
    ends: Vec<RefusedEnd>,
    /// Walks that a refusal is known to end.
    confirmed: BTreeSet<ItemIx>,
}

#[derive(Debug)]
pub(super) struct DeferredFailure {
    pub(super) task: PageTask,
    pub(super) message: String,
    /// The newest attempt when it failed.
    pub(super) at: AttemptId,
    pub(super) failure: Failure,
}

#[derive(Clone, Copy, Debug)]
struct RefusedEnd {
    item: ItemIx,
    at: AttemptId,
}

impl Refusals {
    /// Notes that the API served a request, with a page or not. Returns the failures that are their items' own by that, and the
    /// walks that have ended.
    pub(super) fn note_served(
        &mut self,
        item: ItemIx,
        attempt: AttemptId,
        is_page: bool,
    ) -> (Vec<DeferredFailure>, Vec<ItemIx>) {
        if let Some(inquiry) = self.inquiry.take_if(|inquiry| inquiry.is_refuted_by(item, attempt, is_page)) {
            self.refuted = Some((inquiry.scope, without_numbers(explain::kind(&inquiry.message))));
        }
        self.refused_since.clear();
        let is_own = |deferred: &mut DeferredFailure| {
            deferred.at < attempt && deferred.task.item != item && (is_page || deferred.failure != Failure::NoSuchPage)
        };
        let own = self.deferred.extract_if(.., is_own).collect();
        (own, self.take_ends(|end| is_page && end.at < attempt && end.item != item))
    }

    /// Whether the same refusal was not meant for all before, and few items got it since.
    pub(super) fn was_refuted(&mut self, scope: RefusalScope, item: ItemIx, message: &str) -> bool {
        let kind = without_numbers(explain::kind(message));
        let is_known = self.refuted.as_ref().is_some_and(|(known, words)| *known == scope && *words == kind);
        if is_known {
            self.refused_since.insert(item);
        }
        is_known && self.refused_since.len() < REFUTED_IN_A_ROW
    }

    /// Records another refusal in the open inquiry, if that is about this scope. True: it is for all.
    pub(super) fn add_alike(&mut self, scope: RefusalScope, item: ItemIx, attempt: AttemptId, message: &str) -> bool {
        let inquiry = self.inquiry.as_mut().filter(|inquiry| inquiry.scope == scope);
        inquiry.is_some_and(|inquiry| inquiry.add(item, attempt, message))
    }

    pub(super) fn defer(&mut self, deferred: DeferredFailure) {
        self.deferred.push(deferred);
    }

    /// Opens an inquiry if too many items in a row were refused each in the API's envelope.
    pub(super) fn inquire_into_deferred(&mut self, item: ItemIx, at: AttemptId, message: &str) -> bool {
        let in_a_row = self.deferred.iter().filter(|deferred| deferred.failure == Failure::NoSuchPage).count();
        if in_a_row < REFUSED_IN_A_ROW || self.inquiry.is_some() {
            return false;
        }
        let mut inquiry = Inquiry::new(RefusalScope::SamePage, item, at, message.to_owned());
        for deferred in &self.deferred {
            inquiry.add(deferred.task.item, at, message);
        }
        self.inquiry = Some(inquiry);
        true
    }

    pub(super) fn deferred(&self) -> &[DeferredFailure] {
        &self.deferred
    }

    pub(super) fn take_deferred(&mut self) -> Vec<DeferredFailure> {
        std::mem::take(&mut self.deferred)
    }

    /// Keeps the end of a walk before a refused page until others get pages.
    pub(super) fn add_end(&mut self, item: ItemIx, at: AttemptId) {
        self.ends.push(RefusedEnd { item, at });
    }

    pub(super) fn has_ends(&self) -> bool {
        !self.ends.is_empty()
    }

    /// Confirms all ends that wait. Returns their walks.
    pub(super) fn take_all_ends(&mut self) -> Vec<ItemIx> {
        self.take_ends(|_| true)
    }

    fn take_ends(&mut self, is_confirmed: impl Fn(&RefusedEnd) -> bool) -> Vec<ItemIx> {
        let items: Vec<ItemIx> = self.ends.extract_if(.., |end| is_confirmed(end)).map(|end| end.item).collect();
        self.confirmed.extend(&items);
        items
    }

    /// Whether a refusal is known to end a walk, which does so now.
    pub(super) fn take_confirmed(&mut self, item: ItemIx) -> bool {
        self.confirmed.remove(&item)
    }
}
