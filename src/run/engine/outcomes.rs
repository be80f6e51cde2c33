//! What the outcome of an attempt means for its walk: from the dispatcher to `crawl::judgement`, and what follows.
//!
//! Every outcome comes in here. Pages wait for the commit (`apply`), failures go to `failures`, checks of ends to `walk_ends`.

use super::Engine;
use super::outage::OutageDetector;
use super::refusals::DeferredFailure;
use crate::crawl::frontier::PageTask;
use crate::crawl::judgement::{Facts, FailureAction, action_for, serves};
use crate::fetch::classify::{Classification, Failure, Verdict};
use crate::fetch::dispatcher::FetchOutcome;
use crate::model::event::Event;
use crate::model::page::{AttemptId, Charge, ItemIx, PageNum};
use crate::run::stop::Stop;
use crate::state::ledger::EndRow;

impl Engine<'_> {
    /// Decides what each outcome means for its walk.
    pub(super) fn take_outcomes(&mut self, outcomes: &mut [FetchOutcome]) {
        for outcome in outcomes {
            self.frontier.note_outcome(outcome.request.item, outcome.request.page);
            self.read_missing_list(outcome);
            let Classification { verdict, charge, .. } = outcome.classification;
            if let Some(result) = outcome.result() {
                self.stats.requests += 1;
                self.context.events.event(&Event::Attempted { charge, result, latency: outcome.latency });
            }
            self.spent += u64::from(charge != Charge::Free);
            let (item, page) = (outcome.request.item, outcome.request.page);
            if let Some(inquiry) = &mut self.refusals.inquiry {
                inquiry.in_flight = inquiry.in_flight.filter(|asked| *asked != (item, page));
            }
            match verdict {
                Verdict::Page => self.take_page(outcome),
                Verdict::Unsent => {
                    if let Some(task) = self.frontier.take_in_flight(item, page) {
                        self.frontier.requeue(task);
                    }
                    self.end_if_over(item);
                }
                Verdict::NoList => self.failed(Failure::Unusable, outcome),
                Verdict::Failed(failure) => self.failed(failure, outcome),
            }
        }
    }

    /// Classifies a success without a list. It is an empty page if this export never received an empty list and no page behind it
    /// has rows. For some lists whose last page was full, the page behind it is requested first, whatever the end rule: otherwise
    /// a page that is null once would cut its list, and the run would call it complete. In all other cases it is a failure that
    /// may have been billed (promise P2).
    fn read_missing_list(&mut self, outcome: &mut FetchOutcome) {
        if outcome.classification.verdict != Verdict::NoList {
            return;
        }
        let (item, page, rules) = (outcome.request.item, outcome.request.page, self.rules);
        let walk = self.frontier.walk_mut(item);
        let has_rows_behind = walk.as_ref().is_none_or(|walk| walk.has_rows_behind(page));
        let follows_full = walk.as_ref().is_some_and(|walk| walk.follows_full(page, &rules));
        let failed = |failure| Classification::failed(failure, Charge::InDoubt);
        // A list with evidence behind its end keeps that end: it ended on such a response, which is not in the journal.
        let is_again = walk.is_some_and(|walk| walk.is_in_doubt(page) || walk.is_revisit);
        outcome.classification = if self.empty_lists.had_empty_list || has_rows_behind {
            failed(Failure::Unusable)
        } else if follows_full && (is_again || self.evidence.checks_missing_list()) {
            failed(Failure::MissingList)
        } else {
            outcome.message.clear();
            Classification::PAGE
        };
    }

    /// Takes a page. It waits for the commit; what it shows about others is known at once.
    fn take_page(&mut self, outcome: &FetchOutcome) {
        self.stats.pages += 1;
        self.retry.record_page();
        let (item, page) = (outcome.request.item, outcome.request.page);
        self.throttled.forget(item, page);
        // A control request shows that the API works, not that what failed before was the API's fault.
        if self.api_health.is_down() && !self.frontier.is_check(item, page) {
            self.end_outage(outcome.request.attempt);
        }
        self.api_health.note_page();
        self.note_served(outcome);
        if let Some(walk) = self.frontier.walk_mut(item).filter(|walk| walk.proven_failures + walk.unproven_runs > 0) {
            (walk.proven_failures, walk.unproven_runs) = (0, 0);
            self.group.tries.push(walk.retry_row());
        }
    }

    /// Notes that the API served a request: it proves failures of others that arrived before this request left.
    pub(super) fn note_served(&mut self, outcome: &FetchOutcome) {
        let (item, attempt) = (outcome.request.item, outcome.request.attempt);
        let is_page = outcome.classification.verdict == Verdict::Page;
        self.last_served.record(item, attempt);
        if is_page {
            self.last_page.record(item, attempt);
        }
        self.throttled.passed(item, attempt);
        if self.frontier.is_revisit(item) {
            self.throttled.prove_all(); // a control request: nobody else is left who could pass
        }
        self.long_waits.note_served(outcome);
        let (deferred, ended) = self.refusals.note_served(item, attempt, is_page);
        self.fail_deferred(deferred);
        self.end_refused_walks(ended);
    }

    /// Gives up pages that were suspended until others were served.
    pub(super) fn fail_deferred(&mut self, deferred: Vec<DeferredFailure>) {
        for DeferredFailure { task, message, .. } in deferred {
            self.give_up(&task, &message, false);
        }
    }

    /// Ends an outage: the failures in it were not their pages' fault. A request from before the outage shows only that there was
    /// none: then the failures stay unproven.
    fn end_outage(&mut self, by: AttemptId) {
        self.context.events.event(&Event::Recovered);
        if self.draining.is_some_and(|last| by <= last) {
            return;
        }
        let served = &self.last_served;
        let is_proven =
            |task: &PageTask| task.faults.pending.is_some_and(|failed| served.others_since(failed, task.item));
        self.frontier.clear_failures(|task| !OutageDetector::is_own(task) && !is_proven(task));
    }

    fn failed(&mut self, failure: Failure, outcome: &FetchOutcome) {
        let (item, page) = (outcome.request.item, outcome.request.page);
        let Some(mut task) = self.frontier.take_in_flight(item, page) else { return };
        if self.stop.is_some() {
            self.frontier.requeue(task); // a stopping run blames nobody
            return self.end_if_over(item);
        }
        if self.api_health.ever_had_page()
            && (serves(outcome.classification.verdict) || self.is_other_answer(item, failure))
        {
            self.api_health.note_service();
            self.note_served(outcome);
        } else if !matches!(failure, Failure::Throttled(_)) {
            self.throttled.passed(item, outcome.request.attempt);
        }
        if let Some(inquiry) =
            self.refusals.inquiry.as_mut().filter(|_| task.is_check && serves(outcome.classification.verdict))
        {
            inquiry.is_inconclusive = true;
        }
        self.attribute_failure(&mut task);
        task.faults.failure = Some(failure);
        task.faults.message.clone_from(&outcome.message);
        task.faults.pending = Some(self.newest_attempt);
        let wait = self.long_waits.note(outcome, self.retry.policy().max_outage);
        self.stop_for(wait);
        if task.is_check {
            self.check_failed(task, failure, outcome);
        } else if !self.frontier.needs(&task) && !is_waited_out(failure, outcome.classification.charge) {
            // A page that may not exist is no reason to stop for pages that do.
            let is_refused = matches!(failure, Failure::NoSuchPage | Failure::EndOfList | Failure::Refused(_));
            self.drop_page(&task, is_refused, outcome.classification.charge);
        } else {
            self.act_on(task, failure, outcome);
        }
        self.end_if_over(item);
    }

    /// Whether a control request got a success without a list while nothing is deferred and no inquiry is open: then the API
    /// serves.
    fn is_other_answer(&self, item: ItemIx, failure: Failure) -> bool {
        failure == Failure::MissingList
            && self.frontier.is_revisit(item)
            && self.refusals.deferred().is_empty()
            && self.refusals.inquiry.is_none()
    }

    fn act_on(&mut self, task: PageTask, failure: Failure, outcome: &FetchOutcome) {
        let may_end = self.frontier.may_end_before(&task);
        if let (Failure::Refused(cause), None, false) = (failure, &outcome.response, self.api_health.has_served()) {
            // TLS, proxy or redirect, before anything worked: every other item would fail alike.
            self.stop_for(Stop::Cause(cause, outcome.message.clone()));
            return self.frontier.requeue(task);
        }
        let facts = Facts {
            is_own: task.faults.proven > 0,
            was_repeated: task.was_repeated,
            may_end,
            failed_before: task.retry.is_some(),
        };
        match action_for(failure, facts) {
            FailureAction::Retry => self.retry_later(task, failure, outcome),
            FailureAction::Inquire(refusal) => self.inquire(task, refusal, outcome),
            FailureAction::Defer => self.defer(task, failure, outcome),
            FailureAction::EndList => self.refuse_page(&task, failure),
        }
    }

    /// Drops a page ahead that its walk may not have.
    pub(super) fn drop_page(&mut self, task: &PageTask, is_refused: bool, charge: Charge) {
        let in_doubt = charge != Charge::Free;
        if task.probe.is_some() && in_doubt {
            self.lookahead_budget.record_lost();
        }
        let passes =
            matches!(task.faults.failure, Some(Failure::NoConnection | Failure::Unavailable | Failure::Throttled(_)));
        self.frontier.give_up(task, is_refused, in_doubt, passes);
    }

    /// Ends the walk of a page that will not come, once the pages before it are there. If the walk does not need the page, it goes
    /// on without it.
    pub(super) fn give_up(&mut self, task: &PageTask, message: &str, transient: bool) {
        self.throttled.forget(task.item, task.page);
        if task.is_check {
            self.drop_check(task.item, false);
            return self.end_if_over(task.item);
        }
        if !self.frontier.needs(task) {
            self.drop_page(task, false, Charge::Free);
            return self.end_if_over(task.item);
        }
        self.fail_walk(task.item, task.page, message.to_owned(), transient);
    }

    pub(super) fn fail_walk(&mut self, item: ItemIx, page: PageNum, message: String, transient: bool) {
        let end = EndRow { transient, ..EndRow::failed(item, message) };
        self.frontier.close(end, page);
        self.end_if_over(item);
    }
}

/// Whether a failure of an unneeded page is worth a retry: it may pass, and it was free.
fn is_waited_out(failure: Failure, charge: Charge) -> bool {
    matches!(failure, Failure::NoConnection | Failure::Unavailable | Failure::Throttled(_)) && charge == Charge::Free
}
