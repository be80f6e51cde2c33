//! How walks end: which ends are checked, what a check shows, and where the engine records them.

use super::Engine;
use crate::crawl::end_of_list::End;
use crate::crawl::frontier::PageTask;
use crate::crawl::judgement::{end_evidence, ends_list};
use crate::fetch::classify::Failure;
use crate::fetch::dispatcher::FetchOutcome;
use crate::model::event::Event;
use crate::model::page::{Charge, ItemIx, StopReason};
use crate::state::ledger::EndRow;

impl Engine<'_> {
    /// Records the end of a walk, if it has one, none of its pages is in flight, and no page behind it is worth a request. No
    /// other code of the engine ends a walk.
    pub(super) fn end_if_over(&mut self, item: ItemIx) {
        self.fail_at_hole(item);
        self.read_again(item);
        if !self.frontier.outdated(item).is_empty() {
            return self.frontier.reschedule(item); // the next run decides
        }
        if let Some(page) = self.frontier.next_end_check(item) {
            let is_worth_check = self.is_worth_check(item);
            if is_worth_check && self.can_afford() {
                self.evidence.spend(1);
                return self.frontier.add_check(item, page);
            }
            if let Some(walk) = self.frontier.walk_mut(item) {
                walk.drop_check(!is_worth_check);
            }
        }
        if self.waits_for_others(item) {
            return;
        }
        let ended = self.frontier.take_ended(item);
        self.stats.wasted = u64::from(self.lookahead_budget.lost()) + u64::from(self.frontier.lookahead_cost().in_vain);
        let Some((walk, end)) = ended else { return };
        if walk.is_revisit {
            return; // it had ended before, and nothing has changed
        }
        let end = walk.resolve_end(end);
        self.context.events.event(&Event::Ended { id: &walk.id, stop: end.stop, error: end.error.as_deref() });
        self.group.ended.push(end);
    }

    /// Ends a list before a refused page once others get pages: until then the API may be refusing everyone.
    fn waits_for_others(&mut self, item: ItemIx) -> bool {
        let is_end = |end: &End| end.stop == StopReason::EndRefused && end.check.is_none() && end.message.is_some();
        if !self.frontier.is_idle_at_end(item, is_end) || self.refusals.take_confirmed(item) {
            return false;
        }
        if self.frontier.suspend_at_end(item) {
            self.refusals.add_end(item, self.newest_attempt);
        }
        true
    }

    /// Ends the walks whose refused page is known by now to be behind their end.
    pub(super) fn end_refused_walks(&mut self, items: Vec<ItemIx>) {
        for item in items {
            self.frontier.end_suspension(item);
            self.end_if_over(item);
        }
    }

    /// Requests a refused page again that has rows behind it. In the end its walk fails there.
    fn fail_at_hole(&mut self, item: ItemIx) {
        let rules = self.rules;
        let Some(walk) = self.frontier.walk_mut(item) else { return };
        let Some((page, message)) = walk.missing_page().filter(|(page, _)| *page == walk.next()) else { return };
        if walk.retry_refused(&rules) {
            return self.frontier.reschedule(item);
        }
        self.frontier.close(EndRow::failed(item, message), page);
    }

    /// Requests the outdated pages of a list that has moved again, in order, if the evidence budget has that many credits.
    /// Otherwise the walk continues and ends as `shifted`.
    fn read_again(&mut self, item: ItemIx) {
        let (rules, pages) = (self.rules, self.frontier.outdated(item));
        if pages.is_empty() || self.stop.is_some() {
            return;
        }
        let Some(walk) = self.frontier.walk_mut(item) else { return };
        // The page that shows whether it has ended is paid for as a check.
        let check = walk.end().and_then(|end| end.check).filter(|check| pages.contains(check));
        let credits = u32::try_from(pages.len()).unwrap_or(u32::MAX) - u32::from(check.is_some());
        // Where `max_credits` has fewer left, the run stops among them, and another run continues.
        if self.evidence.affords(credits) {
            self.evidence.spend(credits);
            walk.discard_outdated();
            self.group.outdated.extend(pages.into_iter().map(|page| (item, page)));
        } else {
            walk.take_outdated(&rules);
        }
        self.frontier.reschedule(item);
    }

    fn is_worth_check(&mut self, item: ItemIx) -> bool {
        let rules = self.rules;
        let Some(walk) = self.frontier.walk_mut(item) else { return false };
        let (depth, continues) = (end_evidence::depth(walk.next(), &rules), walk.continues_behind_short());
        walk.end().is_some_and(|end| self.evidence.is_worth_check(end, depth, continues))
    }

    /// Takes a refusal of a page that may be behind the end of its list.
    pub(super) fn refuse_page(&mut self, task: &PageTask, failure: Failure) {
        let rules = self.rules;
        self.throttled.forget(task.item, task.page);
        let Some(walk) = self.frontier.walk_mut(task.item) else { return };
        // A code that the endpoint's description names needs no message.
        let message = if failure == Failure::EndOfList { String::new() } else { task.faults.message.clone() };
        if failure == Failure::MissingList {
            walk.refuse_without_list(task.page, message, &rules);
        } else {
            walk.refuse(task.page, message, &rules);
        }
    }

    /// Takes a failure of the page that would show whether a walk continues.
    pub(super) fn check_failed(&mut self, mut task: PageTask, failure: Failure, outcome: &FetchOutcome) {
        let (item, rules) = (task.item, self.rules);
        if ends_list(failure) || failure == Failure::MissingList {
            if outcome.classification.charge == Charge::Free {
                self.evidence.refund();
            }
            self.frontier.check_done(item, true);
            if let Some(walk) = self.frontier.walk_mut(item) {
                walk.refuse(task.page, outcome.message.clone(), &rules);
            }
            return;
        }
        self.note_like_refusal(item, failure, outcome);
        let is_needed = self.frontier.walk_mut(item).and_then(|walk| walk.end().map(|end| end.stop))
            == Some(StopReason::RepeatedPage);
        // A lost response proves nothing: the page is requested once more.
        let passes = matches!(failure, Failure::NoConnection | Failure::Unavailable | Failure::Throttled(_));
        let is_first = passes && !std::mem::replace(&mut task.was_repeated, true);
        if (is_needed || is_first) && !matches!(failure, Failure::Unusable) && self.refusals.inquiry.is_none() {
            return self.retry_later(task, failure, outcome);
        }
        self.drop_check(item, !is_needed);
    }

    /// Drops the check of a walk's end.
    pub(super) fn drop_check(&mut self, item: ItemIx, is_trusted: bool) {
        self.frontier.check_done(item, true);
        if let Some(walk) = self.frontier.walk_mut(item) {
            walk.drop_check(is_trusted);
        }
    }

    /// Drops the checks that wait: no credit is left for them.
    pub(super) fn drop_checks(&mut self) {
        for item in self.frontier.take_checks() {
            self.drop_check(item, false);
            self.end_if_over(item);
        }
    }

    /// Learns from a page how lists end.
    pub(super) fn record_evidence(&mut self, task: &PageTask, rows: (usize, bool)) {
        let (item, (received, is_fresh)) = (task.item, rows);
        if task.is_check {
            self.frontier.check_done(item, false);
            if is_fresh {
                self.evidence.refund(); // it is a page of the list
                self.reopen_revisit(item);
            }
        }
        self.evidence.record_page(received, self.rules.observed);
        let Some(walk) = self.frontier.walk_mut(item) else { return };
        if walk.continues_behind_short() {
            self.evidence.record_contradiction(item);
        }
        let is_wrap = walk.end().is_some_and(|end| end.is_wrap && end.stop == StopReason::EndRepeated);
        if task.is_check && is_wrap {
            self.evidence.record_wrap();
        }
    }

    /// Reopens a walk that had ended, if only a page behind its end was requested so far.
    pub(super) fn reopen_revisit(&mut self, item: ItemIx) {
        if self.frontier.take_revisit(item) {
            self.group.reopened.push(item);
            self.context.events.event(&Event::Reopened(1));
        }
    }
}
