//! Ends of lists: which ends are checked, what a check shows, and what follows for the export when lists continue behind pages
//! that were taken for their last ones.

use super::Engine;
use crate::crawl::end_of_list::{End, ObservedEnd, PagingRules};
use crate::crawl::frontier::PageTask;
use crate::crawl::judgement::end_evidence;
use crate::crawl::judgement::ends_list;
use crate::crawl::walk::Walk;
use crate::endpoint::EndRule;
use crate::error::Error;
use crate::fetch::classify::Failure;
use crate::fetch::dispatcher::FetchOutcome;
use crate::model::event::Event;
use crate::model::page::{Charge, ItemIx, SegmentId, StopReason};
use crate::run::stop::Stop;
use crate::state::ledger::{EndRow, EndedItem};

/// Short ends that may be opened again whatever `max_evidence` says, credits.
const LEAST_PRICE: f64 = 3.0;

impl Engine<'_> {
    /// Records the end of a walk, if it has one, none of its pages is in flight, and no page behind it is worth a request. The
    /// one place where walks end.
    pub(super) fn end(&mut self, item: ItemIx) {
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
            self.end(item);
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
        if matches!(failure, Failure::Refused(_)) && self.refusals.inquiry.is_some() {
            self.note_like_refusal(item, failure, outcome);
        }
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
            self.end(item);
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
        }
    }

    /// Changes the end rule if pages behind short ones have disproved it, and opens the walks whose ends are in doubt then. Where
    /// reading on costs more than `max_evidence`, the run stops first.
    pub(super) async fn update_end_rule(&mut self) -> Result<(), Error> {
        let is_open = self.rules.full_size().is_some() && self.rules.end == EndRule::Auto;
        if self.stop.is_some() || !is_open || !self.evidence.is_disproved() {
            return Ok(());
        }
        self.commit(Vec::new()).await?; // the ledger must know what was applied
        let learned = end_evidence::observed_end(&self.rules, self.dir.ledger().largest_page()?);
        let (ends, pages) = self.short_ends()?;
        let in_vain = (as_f64(ends) * self.evidence.wasted_share()).ceil();
        let is_paid = learned != ObservedEnd::EmptyPage || in_vain <= self.most_evidence(pages);
        let learned = if is_paid { learned } else { ObservedEnd::Unpaid };
        let only = match learned {
            ObservedEnd::PageSize(rows) => Some(rows),
            ObservedEnd::EmptyPage | ObservedEnd::Unpaid => None,
        };
        let opened = self.dir.ledger().set_end_rule(&learned.word(), only)?;
        self.rules = PagingRules { observed: Some(learned), ..self.rules };
        self.evidence.restart();
        if is_paid {
            self.backlog.reopen();
            self.context.events.event(&Event::Warning(&message(learned, opened, self.rules.page_size)));
        } else {
            self.stop = Some(Stop::Evidence { ends, pages });
        }
        for item in self.frontier.set_rules(self.rules) {
            self.reopen_revisit(item); // it may continue, or end elsewhere
            self.end(item);
        }
        Ok(())
    }

    /// Checks whether `max_evidence` allows by now what an earlier run stopped for: reading on behind short pages.
    pub(super) fn check_unpaid(&mut self) -> Result<(), Error> {
        if self.rules.observed != Some(ObservedEnd::Unpaid) || self.rules.end != EndRule::Auto {
            return Ok(());
        }
        let (ends, pages) = {
            let ledger = self.dir.ledger();
            (ledger.walks_behind_short_pages(self.rules.page_size)?, ledger.totals()?.pages)
        };
        if as_f64(ends) > self.most_evidence(pages) {
            self.stop.get_or_insert(Stop::Evidence { ends, pages });
            return Ok(());
        }
        let learned = ObservedEnd::EmptyPage;
        self.dir.ledger().set_end_rule(&learned.word(), None)?;
        self.rules.observed = Some(learned);
        Ok(())
    }

    /// Requests the page behind the end of a list.
    pub(super) fn request_behind_end(&mut self, ended: EndedItem) -> Result<(), Error> {
        let pages = self.dir.ledger().pages(ended.item, SegmentId::BEHIND_ALL)?;
        let mut walk = Walk::new(ended.item, ended.id, &self.rules, pages, None);
        if walk.end().is_none() {
            // It ended on a success without a list, which is not in the journal.
            walk.refuse_without_list(walk.next(), String::new(), &self.rules);
            walk.drop_check(true);
        }
        walk.is_revisit = true;
        self.frontier.add(walk);
        self.frontier.add_check(ended.item, ended.last.next());
        self.evidence.spend(1);
        Ok(())
    }

    /// Spends what is left of the evidence budget behind the lists that are the likeliest to continue, once all have ended.
    pub(super) fn check_likeliest_ends(&mut self) -> Result<(), Error> {
        let is_open = self.rules.end == EndRule::Auto && self.rules.full_size().is_some();
        if self.stop.is_some() || !is_open || !self.evidence.affords(1) || !self.can_afford() {
            return Ok(());
        }
        let found = {
            let (is_deepest, except) = self.evidence.next_last_check();
            self.dir.ledger().longest_short_end(is_deepest, except)?
        };
        let Some(ended) = found.filter(|ended| ended.last < self.rules.limit()) else { return Ok(()) };
        self.evidence.record_last_check(ended.item);
        self.request_behind_end(ended)
    }

    fn short_ends(&self) -> Result<(u64, u64), Error> {
        let ledger = self.dir.ledger();
        Ok((ledger.count_short_ends(None)?, ledger.totals()?.pages))
    }

    /// Credits that reading on behind short pages may cost.
    fn most_evidence(&self, pages: u64) -> f64 {
        (as_f64(pages) * self.context.settings.max_evidence / 100.0).max(LEAST_PRICE)
    }
}

fn as_f64(number: u64) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

fn message(learned: ObservedEnd, opened: usize, asked: u32) -> String {
    match learned {
        ObservedEnd::PageSize(rows) => format!(
            "the API returns at most {rows} rows a page ({asked} were requested): a page of {rows} rows counts as full from now on, and {opened} lists that ended on one are read on"
        ),
        ObservedEnd::EmptyPage | ObservedEnd::Unpaid => format!(
            "lists continue behind pages with fewer rows than requested: only an empty page ends a list from now on, and {opened} lists that ended on a short page are read on"
        ),
    }
}
