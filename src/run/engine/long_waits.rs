//! Waits that the server asks for and that are longer than `max_outage`. The run waits once, as long as it ever waits. If then a
//! second item gets the same, the wait is meant for all. Until then, and for that item, nobody waits again.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use crate::fetch::dispatcher::FetchOutcome;
use crate::model::clock;
use crate::model::page::ItemIx;
use crate::run::stop::Stop;

#[derive(Debug, Default)]
pub(super) struct LongWaits {
    /// The item that got the first one, and until when the run waits.
    first: Option<(ItemIx, Instant)>,
    /// Their 429s delay nobody.
    items: BTreeSet<ItemIx>,
}

impl LongWaits {
    /// Notes the wait that a response asks for. Returns the reason to stop if it is meant for all.
    pub(super) fn note(&mut self, outcome: &FetchOutcome, max_outage: Duration) -> Option<Stop> {
        let wait = outcome.response.as_ref().and_then(|response| response.retry_after).unwrap_or_default();
        if wait <= max_outage {
            return None;
        }
        let item = outcome.request.item;
        self.items.insert(item);
        let (first, until) = *self.first.get_or_insert_with(|| (item, clock::now() + outcome.retry_after()));
        let is_for_all = first != item && outcome.sent >= until;
        is_for_all
            .then(|| Stop::Temporary(format!("{}; the server asks to wait {} s", outcome.message, wait.as_secs())))
    }

    /// Notes that the API served a request: if it was sent after the wait, and for another item, the wait was that item's own.
    pub(super) fn note_served(&mut self, outcome: &FetchOutcome) {
        self.first = self.first.filter(|(item, until)| *item == outcome.request.item || outcome.sent < *until);
    }

    /// Whether an item was asked to wait for too long.
    pub(super) fn has(&self, item: ItemIx) -> bool {
        self.items.contains(&item)
    }
}
