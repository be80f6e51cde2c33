//! Walks that seem to have ended: which of them wait for a page that would show otherwise, or for others, and what changes when
//! the rules do; and pages that are done without.

use super::open::Open;
use super::{Faults, PageTask, Scheduler};
use crate::crawl::end_of_list::{End, PagingRules};
use crate::crawl::walk::Walk;
use crate::model::page::{ItemIx, PageNum};

impl Scheduler {
    /// Gives up a page that is not needed. `in_doubt`: it may have been billed all the same; `passes`: another request may fare
    /// better.
    pub fn lose(&mut self, wanted: &PageTask, is_refused: bool, in_doubt: bool, passes: bool) {
        if let Some(open) = self.walks.get_mut(&wanted.item) {
            open.walk.lost(wanted.page, is_refused, in_doubt, passes && wanted.tries.is_none());
        }
        self.queue(wanted.item);
    }

    /// Holds a walk at a page until it is known what becomes of others. False: it ends there, whatever becomes of them.
    pub fn set_aside(&mut self, item: ItemIx, page: PageNum) -> bool {
        let Some(open) = self.walks.get_mut(&item).filter(|open| !open.ends_by(page)) else { return false };
        self.suspended += usize::from(!std::mem::replace(&mut open.is_aside, true));
        self.queue(item);
        true
    }

    /// The page that shows whether a walk goes on behind its end, of the walk that ended first.
    pub fn next_check(&mut self) -> Option<&PageTask> {
        let (item, page) = self.checks.pop_front()?;
        let walk = &mut self.walks.get_mut(&item)?.walk;
        walk.ask_check(page);
        let (id, asked_again, faults) = (walk.id.clone(), walk.is_in_doubt(page), Faults::default());
        let wanted = PageTask { item, id, page, tries: None, faults, asked_again, is_probe: false, is_check: true };
        self.queue(item); // a page that is in flight is not asked for
        Some(self.fly(wanted))
    }

    /// The page whose check would show whether a walk has ended, if it seems to have, nothing of it is in flight, and that was
    /// not asked yet.
    pub fn unchecked(&self, item: ItemIx) -> Option<PageNum> {
        let is_quiet = |open: &&Open| open.in_flight == 0 && open.check.is_none() && open.waiting == 0;
        self.walks.get(&item).filter(is_quiet)?.walk.end()?.check
    }

    /// The pages of a walk that are outdated, if it waits for that to be settled and nothing of it is in flight or waits to be
    /// asked for once more: that would be asked for twice.
    pub fn outdated(&self, item: ItemIx) -> Vec<PageNum> {
        let is_quiet = |open: &&Open| open.in_flight == 0 && open.waiting == 0 && !open.ends_by(open.walk.next());
        let open = self.walks.get(&item).filter(is_quiet);
        open.map(|open| open.walk.outdated()).unwrap_or_default()
    }

    /// Keeps a walk open until this page has shown whether it goes on.
    pub fn check(&mut self, item: ItemIx, page: PageNum) {
        if let Some(open) = self.walks.get_mut(&item) {
            open.check = Some(page);
            self.checks.push_back((item, page));
        }
    }

    /// Takes note that a check is over. `is_lost`: it did not come.
    pub fn checked(&mut self, item: ItemIx, is_lost: bool) {
        let Some(open) = self.walks.get_mut(&item) else { return };
        if let Some(page) = open.check.take().filter(|_| is_lost) {
            open.walk.ask_again(page);
        }
    }

    /// Whether a walk is at such an end, and nothing of it is in flight.
    pub fn is_idle_at_end(&self, item: ItemIx, is_such: impl Fn(&End) -> bool) -> bool {
        let open =
            self.walks.get(&item).filter(|open| open.in_flight == 0 && open.check.is_none() && open.closing.is_none());
        open.and_then(|open| open.walk.end()).is_some_and(is_such)
    }

    /// Holds a walk at its end until it is known what becomes of others. False: it is held already.
    pub fn set_aside_ended(&mut self, item: ItemIx) -> bool {
        let Some(open) = self.walks.get_mut(&item).filter(|open| !open.is_aside) else { return false };
        open.is_aside = true;
        self.suspended += 1;
        true
    }

    /// Lets a walk end that was set aside.
    pub fn set_free(&mut self, item: ItemIx) {
        if let Some(open) = self.walks.get_mut(&item) {
            self.suspended -= usize::from(std::mem::take(&mut open.is_aside));
        }
        self.queue(item);
    }

    /// Whether a check waits to be asked for.
    pub fn has_check(&self) -> bool {
        !self.checks.is_empty()
    }

    /// The walks whose checks wait to be asked for; none of them is asked for any more.
    pub fn take_checks(&mut self) -> Vec<ItemIx> {
        std::mem::take(&mut self.checks).into_iter().map(|(item, _)| item).collect()
    }

    /// Whether a page that is in flight was asked for as a check.
    pub fn is_check(&self, item: ItemIx, page: PageNum) -> bool {
        self.in_flight.get(&(item, page)).is_some_and(|wanted| wanted.is_check)
    }

    /// Whether a refusal of a page may be the end of its list.
    pub fn may_end_before(&self, wanted: &PageTask) -> bool {
        let open = self.walks.get(&wanted.item);
        open.is_some() && Walk::may_end_before(wanted.page, &self.rules)
    }

    /// Judges every open walk by other rules. Gives the walks that had ended by the old ones.
    pub fn set_rules(&mut self, rules: PagingRules) -> Vec<ItemIx> {
        self.rules = rules;
        let items: Vec<ItemIx> = self.walks.keys().copied().collect();
        let mut had_ended = Vec::new();
        for item in items {
            let Some(open) = self.walks.get_mut(&item) else { continue };
            had_ended.extend(open.walk.end().map(|_| item));
            open.walk.rejudge(&rules);
            if open.walk.end().is_none() && self.checks.iter().any(|(checked, _)| *checked == item) {
                open.check = None; // it is a page like any other now
                self.checks.retain(|(checked, _)| *checked != item);
            }
            self.queue(item);
        }
        had_ended
    }

    /// Puts a walk where it belongs after its pages have changed.
    pub fn requeue(&mut self, item: ItemIx) {
        self.queue(item);
    }

    /// The items whose walks are here.
    pub fn items(&self) -> impl Iterator<Item = ItemIx> {
        self.walks.keys().copied().chain(self.fresh.iter().map(|walk| walk.item))
    }
}
