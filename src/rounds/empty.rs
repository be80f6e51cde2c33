//! Lists without rows: an API that answers with nothing, from the beginning or all of a sudden.
//!
//! Lists that are empty from their first page on are counted. Lists that end on an empty page behind a full one are nothing odd,
//! each for itself; where many do so in a row, one of the pages that had rows is asked for once more: if it is empty now, so may
//! the others be that came meanwhile.

use super::Rounds;
use crate::endpoint::EndRule;
use crate::error::Error;
use crate::event::Event;
use crate::ledger::EmptyLists;
use crate::page::{ItemIx, PageNum, SegmentId};
use crate::stop::Stop;
use crate::walk::Walk;

/// Lists without a row that end the run, where no list has one or most had.
const EMPTY_LISTS: u64 = 50;

/// A second look at a page that had rows.
#[derive(Debug)]
pub(super) struct SecondLook {
    /// Empty pages at which lists ended in a row, with no page with rows between.
    in_a_row: u64,
    /// How many of them are worth a look; doubled by each.
    worth_it: u64,
    /// The page that is looked at.
    asked: Option<(ItemIx, PageNum)>,
}

impl Default for SecondLook {
    fn default() -> Self {
        Self { in_a_row: 0, worth_it: EMPTY_LISTS, asked: None }
    }
}

impl Rounds<'_> {
    /// Counts pages at which lists end without a row. `is_end`: an empty page would end its list.
    pub(super) fn count_empty(&mut self, (item, page): (ItemIx, PageNum), received: usize, is_end: bool) {
        let look = &mut self.second_look;
        let is_asked = look.asked == Some((item, page));
        if is_asked {
            look.asked = None;
        }
        if received > 0 {
            look.in_a_row = 0;
        } else if is_asked {
            self.lists.vanished += 1;
            self.judge_lists();
        } else {
            look.in_a_row += u64::from(is_end);
        }
    }

    /// Asks once more for the last page with rows of a list that ended on an empty one, if so many did in a row.
    pub(super) async fn look_at_rows(&mut self) -> Result<(), Error> {
        let is_open = self.stop.is_none() && self.rules.end == EndRule::Auto && !self.job.settings.allow_empty;
        let look = &self.second_look;
        let is_worth_it = look.asked.is_none() && look.in_a_row >= look.worth_it;
        if !is_open || !is_worth_it || !self.evidence.affords(1) || !self.can_afford() {
            return Ok(());
        }
        self.commit(Vec::new()).await?; // what has ended must be known
        self.second_look.worth_it *= 2;
        let Some(ended) = self.site.ledger().last_emptied()? else { return Ok(()) };
        self.site.ledger().ask_again(ended.item, ended.last)?;
        let pages = self.site.ledger().pages(ended.item, SegmentId::BEHIND_ALL)?;
        let mut walk = Walk::new(ended.item, ended.id, &self.rules, pages, None);
        walk.unload(); // its rows are known, also if it begins anew
        self.scheduler.add(walk);
        self.evidence.spend(1);
        self.second_look.asked = Some((ended.item, ended.last));
        Ok(())
    }

    /// Counts lists that have rows and lists that have none, and stops the run if the API seems to answer with nothing.
    pub(super) fn count_list(&mut self, is_first: bool, received: usize) {
        match (is_first, received) {
            (true, _) => self.lists.add(received > 0),
            (false, 0) => {}
            (false, _) => self.lists.in_a_row = 0,
        }
        self.judge_lists();
    }

    /// Stops the run if the API seems to answer with nothing.
    pub(super) fn judge_lists(&mut self) {
        if self.job.settings.allow_empty {
            return;
        }
        if let Some((empty, all)) = seems_empty(self.lists).filter(|(empty, _)| *empty >= EMPTY_LISTS) {
            self.stop.get_or_insert(Stop::EmptyLists { empty, all });
        }
    }

    /// Says so if no list had a row, and there were too few of them to stop for.
    pub(super) fn warn_of_empty_lists(&self) {
        let lists = self.lists;
        if self.stop.is_none() && lists.with_rows == 0 && lists.empty > 0 && !self.job.settings.allow_empty {
            let said = format!(
                "no list has a row ({} empty): is it the right endpoint, account or market, and is the list of products of this API? --repair asks once more",
                lists.empty
            );
            self.job.monitor.event(&Event::Warning(&said));
        }
    }
}

/// Whether there is doubt about lists without a row: no list has one (true), or where most had, so many in a row have none, or a
/// page came empty that had rows before.
pub fn seems_empty(lists: EmptyLists) -> Option<(u64, bool)> {
    if lists.vanished > 0 {
        return Some((lists.vanished.max(EMPTY_LISTS), false));
    }
    let all = lists.with_rows == 0 && lists.empty > 0;
    let suddenly = lists.in_a_row >= EMPTY_LISTS && lists.with_rows > lists.empty - lists.in_a_row;
    (all || suddenly).then_some((if all { lists.empty } else { lists.in_a_row }, all))
}
