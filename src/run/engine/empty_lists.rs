//! Lists without rows: an API that returns nothing, from the start or suddenly.
//!
//! Lists that are empty from their first page on are counted. A list that ends on an empty page behind a full one is normal. Where
//! many do so in a row, pages of two lists that had rows are requested once more. If those are empty now, the API has lost its
//! rows, and the others may be cut.

use std::collections::BTreeSet;

use super::Engine;
use crate::crawl::judgement::end_evidence::MANY;
use crate::endpoint::EndRule;
use crate::error::Error;
use crate::model::event::Event;
use crate::model::page::{ItemIx, PageNum};
use crate::run::stop::Stop;
use crate::state::ledger::EmptyLists;

/// Lists whose rows are gone that end the run: a single list may really have become empty.
const GONE: usize = 2;
/// Empty lists after which items are taken in list order, though no list has a row.
const EMPTY_SAMPLES: u64 = 50;

#[derive(Debug)]
pub(super) struct EmptyListDetector {
    /// Lists by whether their first page had a row.
    lists: EmptyLists,
    /// Whether an empty list ever came: then a success without a list is a failure.
    pub(super) had_empty_list: bool,
    /// Empty pages in a row at which lists ended, without a page with rows in between.
    empty_ends: u64,
    /// How many of them are worth a second request for a page that had rows; each such request doubles it.
    threshold: u64,
    /// The page that is requested again.
    reread: Option<(ItemIx, PageNum)>,
    /// Lists of which a page that had rows arrived empty, without a page with rows since.
    vanished: BTreeSet<ItemIx>,
}

impl EmptyListDetector {
    pub(super) fn new(lists: EmptyLists, had_empty_list: bool) -> Self {
        Self { lists, had_empty_list, empty_ends: 0, threshold: MANY, reread: None, vanished: BTreeSet::new() }
    }

    /// Whether it is known that lists have rows, or that many have none.
    pub(super) fn knows_lists(&self) -> bool {
        self.lists.with_rows > 0 || self.lists.empty >= EMPTY_SAMPLES
    }

    /// Whether a page that had rows is worth a second request.
    fn is_reread_due(&self) -> bool {
        self.reread.is_none() && (!self.vanished.is_empty() || self.empty_ends >= self.threshold)
    }

    /// Notes how many rows a page has. `is_first`: it is the first of its list; `is_end`: an empty page would end its list.
    fn note_page(&mut self, (item, page): (ItemIx, PageNum), received: usize, (is_first, is_end): (bool, bool)) {
        if is_first {
            self.lists.add(received > 0);
        }
        let is_reread = self.reread.take_if(|reread| *reread == (item, page)).is_some();
        if received > 0 {
            // Of a list that continues an earlier export, the first page is not requested.
            self.lists.with_rows = self.lists.with_rows.max(1);
            (self.lists.in_a_row, self.empty_ends) = (0, 0);
            self.vanished.clear();
        } else if is_reread {
            self.vanished.insert(item);
        } else {
            self.empty_ends += u64::from(is_end);
        }
    }
}

impl Engine<'_> {
    /// Notes how many rows a page has (see [`EmptyListDetector::note_page`]), and stops the run if the API seems to return nothing.
    pub(super) fn note_rows(&mut self, key: (ItemIx, PageNum), received: usize, place: (bool, bool)) {
        self.empty_lists.note_page(key, received, place);
        self.stop_if_lists_are_empty();
    }

    /// Stops the run if the API seems to return nothing.
    pub(super) fn stop_if_lists_are_empty(&mut self) {
        if self.context.settings.allow_empty {
            return;
        }
        if let Some((empty, all)) = seems_empty(self.empty_lists.lists).filter(|(empty, _)| *empty >= MANY) {
            self.stop_for(Stop::EmptyLists { empty, all });
        }
    }

    /// Requests the last page with rows of a list that ended on an empty one again, if many did in a row. If it is empty now,
    /// another list is tried, and the run stops if that one has no rows either, or if there is no other.
    pub(super) async fn recheck_rows(&mut self) -> Result<(), Error> {
        let is_open = self.stop.is_none() && self.rules.end == EndRule::Auto && !self.context.settings.allow_empty;
        if !is_open || !self.empty_lists.is_reread_due() {
            return Ok(());
        }
        self.commit(Vec::new()).await?; // the ledger must know what has ended
        let empty = self.empty_lists.empty_ends;
        self.empty_lists.threshold = empty.saturating_mul(2);
        let vanished = &self.empty_lists.vanished;
        let may_reread = vanished.len() < GONE && self.evidence.affords(1) && self.can_afford();
        // A list with a control request in flight is open in the frontier.
        let except = vanished.iter().copied().chain(self.frontier.items()).collect();
        let found = if may_reread { self.dir.ledger().newest_empty_end(&except)? } else { None };
        let Some(ended) = found else {
            let stop = (!vanished.is_empty()).then_some(Stop::EmptyLists { empty, all: false });
            self.stop_for(stop);
            return Ok(());
        };
        self.empty_lists.reread = Some((ended.item, ended.last));
        self.request_again(ended.item, ended.id, ended.last)
    }

    /// Warns if no list had a row and they were too few to stop for.
    pub(super) fn warn_of_empty_lists(&self) {
        let lists = self.empty_lists.lists;
        if self.stop.is_none() && lists.with_rows == 0 && lists.empty > 0 && !self.context.settings.allow_empty {
            let message = format!(
                "no list has a row ({} lists): check the endpoint, the account, the market and the list of products; --repair requests them again",
                lists.empty
            );
            self.context.events.event(&Event::Warning(&message));
        }
    }
}

/// Whether lists without rows are in doubt, and how many. True: no list has a row. False: many in a row have none where most had,
/// or a page arrived empty that had rows before.
pub(crate) fn seems_empty(lists: EmptyLists) -> Option<(u64, bool)> {
    if lists.vanished > 0 {
        return Some((lists.vanished.max(MANY), false));
    }
    let all = lists.with_rows == 0 && lists.empty > 0;
    let suddenly = lists.in_a_row >= MANY && lists.with_rows > lists.empty - lists.in_a_row;
    (all || suddenly).then_some((if all { lists.empty } else { lists.in_a_row }, all))
}
