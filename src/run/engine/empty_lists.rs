//! Lists without rows: an API that returns nothing, from the start or suddenly.
//!
//! Lists that are empty from their first page on are counted. A list that ends on an empty page behind a full one is normal. Where
//! many do so in a row, pages of two lists that had rows are requested once more. If those are empty now, the API has lost its
//! rows, and the others may be cut.

use std::collections::BTreeSet;

use super::Engine;
use crate::crawl::judgement::end_evidence::MANY;
use crate::crawl::walk::Walk;
use crate::endpoint::EndRule;
use crate::error::Error;
use crate::model::event::Event;
use crate::model::page::{ItemIx, PageNum, SegmentId};
use crate::run::stop::Stop;
use crate::state::ledger::EmptyLists;

/// Lists whose rows are gone that end the run: a single list may really have become empty.
const GONE: usize = 2;

/// A second look at a page that had rows.
#[derive(Debug)]
pub(super) struct SecondLook {
    /// Empty pages in a row at which lists ended, without a page with rows in between.
    in_a_row: u64,
    /// How many of them are worth a second look; each look doubles it.
    worth_it: u64,
    /// The page that is requested again.
    asked: Option<(ItemIx, PageNum)>,
    /// Lists of which a page that had rows came empty, without a page with rows since.
    vanished: BTreeSet<ItemIx>,
}

impl Default for SecondLook {
    fn default() -> Self {
        Self { in_a_row: 0, worth_it: MANY, asked: None, vanished: BTreeSet::new() }
    }
}

impl Engine<'_> {
    /// Counts pages at which lists end without a row. `is_end`: an empty page would end its list.
    pub(super) fn count_empty(&mut self, (item, page): (ItemIx, PageNum), received: usize, is_end: bool) {
        let look = &mut self.second_look;
        let is_asked = look.asked == Some((item, page));
        look.asked = look.asked.filter(|_| !is_asked);
        if received > 0 {
            look.in_a_row = 0;
            look.vanished.clear();
        } else if is_asked {
            look.vanished.insert(item);
        } else {
            look.in_a_row += u64::from(is_end);
        }
    }

    /// Requests the last page with rows of a list that ended on an empty one again, if many did in a row. If it is empty now,
    /// another list is looked at, and the run stops if that one has no rows either, or if there is no other.
    pub(super) async fn look_at_rows(&mut self) -> Result<(), Error> {
        let is_open = self.stop.is_none() && self.rules.end == EndRule::Auto && !self.context.settings.allow_empty;
        let look = &self.second_look;
        let (empty, vanished) = (look.in_a_row, look.vanished.len());
        if !is_open || look.asked.is_some() || vanished == 0 && empty < look.worth_it {
            return Ok(());
        }
        self.commit(Vec::new()).await?; // the ledger must know what has ended
        let may_look = vanished < GONE && self.evidence.affords(1) && self.can_afford();
        let found = if may_look { self.dir.ledger().newest_empty_end(&self.second_look.vanished)? } else { None };
        let Some(ended) = found else {
            if vanished > 0 {
                self.stop = Some(Stop::EmptyLists { empty, all: false });
            }
            self.second_look.worth_it = empty.saturating_mul(2);
            return Ok(());
        };
        self.dir.ledger().reread_page(ended.item, ended.last)?;
        let pages = self.dir.ledger().pages(ended.item, SegmentId::BEHIND_ALL)?;
        let mut walk = Walk::new(ended.item, ended.id, &self.rules, pages, None);
        walk.unload_keys(); // its rows are in the ledger
        self.frontier.add(walk);
        self.evidence.spend(1);
        let look = &mut self.second_look;
        (look.asked, look.worth_it) = (Some((ended.item, ended.last)), empty.saturating_mul(2));
        Ok(())
    }

    /// Counts lists with and without rows, and stops the run if the API seems to return nothing.
    pub(super) fn count_list(&mut self, is_first: bool, received: usize) {
        match (is_first, received) {
            (true, _) => self.lists.add(received > 0),
            (false, 0) => {}
            (false, _) => self.lists.in_a_row = 0,
        }
        self.judge_lists();
    }

    /// Stops the run if the API seems to return nothing.
    pub(super) fn judge_lists(&mut self) {
        if self.context.settings.allow_empty {
            return;
        }
        if let Some((empty, all)) = seems_empty(self.lists).filter(|(empty, _)| *empty >= MANY) {
            self.stop.get_or_insert(Stop::EmptyLists { empty, all });
        }
    }

    /// Warns if no list had a row and they were too few to stop for.
    pub(super) fn warn_of_empty_lists(&self) {
        let lists = self.lists;
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
/// or a page came empty that had rows before.
pub(crate) fn seems_empty(lists: EmptyLists) -> Option<(u64, bool)> {
    if lists.vanished > 0 {
        return Some((lists.vanished.max(MANY), false));
    }
    let all = lists.with_rows == 0 && lists.empty > 0;
    let suddenly = lists.in_a_row >= MANY && lists.with_rows > lists.empty - lists.in_a_row;
    (all || suddenly).then_some((if all { lists.empty } else { lists.in_a_row }, all))
}
