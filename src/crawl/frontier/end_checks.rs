//! Walks that seem to have ended: the pages that check whether they have, and the walks that wait for others.

use super::open_walk::OpenWalk;
use super::{Faults, Frontier, PageTask};
use crate::crawl::end_of_list::{End, PagingRules};
use crate::crawl::walk::Walk;
use crate::model::page::{ItemIx, PageNum};

impl Frontier {
    /// Gives up a page that is not needed. `in_doubt`: it may have been billed all the same. `passes`: its failure may pass.
    pub(crate) fn give_up(&mut self, task: &PageTask, is_refused: bool, in_doubt: bool, passes: bool) {
        if let Some(open) = self.walks.get_mut(&task.item) {
            open.walk.record_lost(task.page, is_refused, in_doubt, passes && task.retry.is_none());
        }
        self.reschedule(task.item);
    }

    /// Suspends a walk at a page until it is known what becomes of other walks. False: it ends there in any case.
    pub(crate) fn suspend(&mut self, item: ItemIx, page: PageNum) -> bool {
        let Some(open) = self.walks.get_mut(&item).filter(|open| !open.ends_by(page)) else { return false };
        self.suspended += usize::from(!std::mem::replace(&mut open.is_suspended, true));
        self.reschedule(item);
        true
    }

    /// Suspends a walk at its end until it is known what becomes of other walks. False: it is suspended already.
    pub(crate) fn suspend_at_end(&mut self, item: ItemIx) -> bool {
        let Some(open) = self.walks.get_mut(&item).filter(|open| !open.is_suspended) else { return false };
        open.is_suspended = true;
        self.suspended += 1;
        true
    }

    /// Lets a suspended walk continue, or end.
    pub(crate) fn end_suspension(&mut self, item: ItemIx) {
        if let Some(open) = self.walks.get_mut(&item) {
            self.suspended -= usize::from(std::mem::take(&mut open.is_suspended));
        }
        self.reschedule(item);
    }

    /// The page that checks whether a walk continues behind its end, of the walk whose check was added first.
    pub(crate) fn next_check(&mut self) -> Option<&PageTask> {
        let (item, page) = self.checks.pop_front()?;
        let walk = &mut self.walks.get_mut(&item)?.walk;
        walk.request_check(page);
        let (id, was_repeated, faults) = (walk.id.clone(), walk.is_in_doubt(page), Faults::default());
        let task = PageTask { item, id, page, retry: None, faults, was_repeated, probe: None, is_check: true };
        self.reschedule(item); // its probe may be this page
        Some(self.send(task))
    }

    /// The page that would show whether a walk has ended, if the walk seems to have, is quiet, and waits for no check yet.
    pub(crate) fn next_end_check(&self, item: ItemIx) -> Option<PageNum> {
        let open = self.walks.get(&item).filter(|open| open.is_quiet() && open.check.is_none())?;
        open.walk.end()?.check
    }

    /// The outdated pages of a walk that waits until they are settled. None while the walk is not quiet: its pages would be asked
    /// for twice.
    pub(crate) fn outdated(&self, item: ItemIx) -> Vec<PageNum> {
        let open = self.walks.get(&item).filter(|open| open.is_quiet() && !open.ends_by(open.walk.next()));
        open.map(|open| open.walk.outdated()).unwrap_or_default()
    }

    /// Keeps a walk open until this page has shown whether it continues.
    pub(crate) fn add_check(&mut self, item: ItemIx, page: PageNum) {
        if let Some(open) = self.walks.get_mut(&item) {
            open.check = Some(page);
            self.checks.push_back((item, page));
        }
    }

    /// Records that a check is over. `is_lost`: its page did not come.
    pub(crate) fn check_done(&mut self, item: ItemIx, is_lost: bool) {
        let Some(open) = self.walks.get_mut(&item) else { return };
        if let Some(page) = open.check.take().filter(|_| is_lost) {
            open.walk.request_again(page);
        }
    }

    /// Whether a walk is at such an end, and nothing of it is in flight.
    pub(crate) fn is_idle_at_end(&self, item: ItemIx, is_such: impl Fn(&End) -> bool) -> bool {
        let is_idle = |open: &&OpenWalk| open.is_idle() && open.closing.is_none();
        self.walks.get(&item).filter(is_idle).and_then(|open| open.walk.end()).is_some_and(is_such)
    }

    /// Whether a walk had ended, and only a page behind its end is requested.
    pub(crate) fn is_revisit(&self, item: ItemIx) -> bool {
        self.walks.get(&item).is_some_and(|open| open.walk.is_revisit)
    }

    /// Makes such a walk an open one like any other. Returns false if it is one.
    pub(crate) fn take_revisit(&mut self, item: ItemIx) -> bool {
        self.walks.get_mut(&item).is_some_and(|open| std::mem::take(&mut open.walk.is_revisit))
    }

    pub(crate) fn has_check(&self) -> bool {
        !self.checks.is_empty()
    }

    /// Removes the checks that wait to be requested. Returns their walks.
    pub(crate) fn take_checks(&mut self) -> Vec<ItemIx> {
        std::mem::take(&mut self.checks).into_iter().map(|(item, _)| item).collect()
    }

    pub(crate) fn is_check(&self, item: ItemIx, page: PageNum) -> bool {
        self.in_flight.get((item, page)).is_some_and(|task| task.is_check)
    }

    /// Whether a refusal of a page may be the end of its list.
    pub(crate) fn may_end_before(&self, task: &PageTask) -> bool {
        self.walks.contains_key(&task.item) && Walk::may_end_before(task.page, &self.rules)
    }

    /// Judges every open walk by other rules. Returns the walks that had ended by the old ones.
    pub(crate) fn set_rules(&mut self, rules: PagingRules) -> Vec<ItemIx> {
        self.rules = rules;
        let items: Vec<ItemIx> = self.walks.keys().copied().collect();
        let mut had_ended = Vec::new();
        for item in items {
            let Some(open) = self.walks.get_mut(&item) else { continue };
            had_ended.extend(open.walk.end().map(|_| item));
            open.walk.reevaluate_end(&rules);
            if open.walk.end().is_none() && self.checks.iter().any(|(checked, _)| *checked == item) {
                open.check = None; // it is a page like any other now
                self.checks.retain(|(checked, _)| *checked != item);
            }
            self.reschedule(item);
        }
        had_ended
    }

    /// The items whose walks are here.
    pub(crate) fn items(&self) -> impl Iterator<Item = ItemIx> {
        self.walks.keys().copied().chain(self.unstarted.iter().map(|walk| walk.item))
    }
}
