//! What the outcome of an attempt means for its walk: from the dispatcher to `crawl::judgement`, and what follows.
//!
//! Every outcome comes in here. Pages wait for the commit (`apply`), failures go to `failures`, checks of ends to `ends`.

use super::outage::OutageDetector;
use super::outage::without_numbers;
use super::{Deferred, Engine};
use crate::crawl::frontier::PageTask;
use crate::crawl::judgement::{Facts, FailureAction, Question, RefusalScope, action_for, serves};
use crate::fetch::classify::{Classification, Failure, StopCause, Verdict};
use crate::fetch::dispatcher::FetchOutcome;
use crate::fetch::explain;
use crate::model::event::Event;
use crate::model::page::{AttemptId, Charge, ItemIx, PageNum};
use crate::run::stop::Stop;
use crate::state::ledger::{EndRow, RetryRow};

impl Engine<'_> {
    /// Decides what each outcome means for its walk.
    pub(super) fn take_outcomes(&mut self, outcomes: &mut [FetchOutcome]) {
        for outcome in outcomes {
            self.frontier.note_outcome(outcome.request.item, outcome.request.page);
            self.read_missing_list(outcome);
            let Classification { verdict, charge, .. } = outcome.classification;
            if verdict != Verdict::Unsent {
                self.stats.requests += 1;
                let throttled = matches!(verdict, Verdict::Failed(Failure::Throttled(_)));
                self.context.events.event(&Event::Attempted { charge, throttled });
            }
            self.spent += u64::from(charge != Charge::Free);
            let (item, page) = (outcome.request.item, outcome.request.page);
            if let Some(question) = &mut self.question {
                question.asked = question.asked.filter(|asked| *asked != (item, page));
            }
            match verdict {
                Verdict::Page => self.page_came(outcome),
                Verdict::Unsent => {
                    if let Some(task) = self.frontier.complete(item, page) {
                        self.frontier.retry_now(task);
                    }
                    self.end(item);
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
        let is_again = walk.is_some_and(|walk| walk.is_in_doubt(page)) || self.revisited.contains(&item);
        outcome.classification = if self.had_empty_list || has_rows_behind {
            failed(Failure::Unusable)
        } else if follows_full && (is_again || self.evidence.checks_missing_list()) {
            failed(Failure::MissingList)
        } else {
            outcome.message.clear();
            Classification::PAGE
        };
    }

    /// Takes a page. It waits for the commit; what it shows about others is known at once.
    fn page_came(&mut self, outcome: &FetchOutcome) {
        self.stats.pages += 1;
        self.retry.credit();
        let (item, page) = (outcome.request.item, outcome.request.page);
        self.throttled.forget(item, page);
        // A control request shows that the API works, not that what failed before was the API's fault.
        if self.outages.is_down() && !self.frontier.is_check(item, page) {
            self.recover(outcome.request.attempt);
        }
        self.outages.page();
        self.served(outcome);
        if let Some(walk) = self.frontier.walk_mut(item).filter(|walk| walk.proven_failures + walk.unproven_runs > 0) {
            (walk.proven_failures, walk.unproven_runs) = (0, 0);
            self.group.tries.push(RetryRow { item, tries: 0, unproven: 0 });
        }
    }

    /// Notes that the API served a request: it proves failures of others that came before this request left.
    pub(super) fn served(&mut self, outcome: &FetchOutcome) {
        let (item, attempt) = (outcome.request.item, outcome.request.attempt);
        self.served.record(item, attempt);
        self.throttled.passed(item, attempt);
        if self.revisited.contains(&item) {
            self.throttled.prove_all(); // a control request: nobody else is left who could pass
        }
        // A refusal of a single page answers neither "is every page refused?" nor "are there credits?".
        let is_page = outcome.classification.verdict == Verdict::Page;
        if is_page {
            self.paid.record(item, attempt);
        }
        let is_answer = |question: &Question| {
            question.is_answered_by(item, attempt)
                && (is_page
                    || !matches!(question.refusal, RefusalScope::SamePage | RefusalScope::Cause(StopCause::Account)))
        };
        if self.question.as_ref().is_some_and(is_answer)
            && let Some(question) = self.question.take()
        {
            self.answered = Some((question.refusal, without_numbers(explain::kind(&question.message))));
        }
        self.refused_since.clear();
        self.long_wait = self.long_wait.filter(|wait| wait.item == item || outcome.sent < wait.until);
        let is_proven = |deferred: &Deferred| {
            deferred.at < attempt && deferred.task.item != item && (is_page || deferred.failure != Failure::NoSuchPage)
        };
        let (proven, rest) = std::mem::take(&mut self.deferred).into_iter().partition(is_proven);
        self.deferred = rest;
        self.conclude(proven);
        if is_page {
            self.conclude_ends(|end| end.at < attempt && end.item != item);
        }
    }

    /// Gives up pages that were suspended until others were served.
    pub(super) fn conclude(&mut self, deferred: Vec<Deferred>) {
        for Deferred { task, message, .. } in deferred {
            self.give_up(&task, &message, false);
        }
    }

    /// Ends an outage: the failures in it were not their pages' fault. A request from before the outage shows only that there was
    /// none: then the failures stay unproven.
    fn recover(&mut self, by: AttemptId) {
        self.context.events.event(&Event::Recovered);
        if self.draining.is_some_and(|last| by <= last) {
            return;
        }
        let served = &self.served;
        let is_proven =
            |task: &PageTask| task.faults.pending.is_some_and(|failed| served.others_since(failed, task.item));
        self.frontier.clear_failures(|task| !OutageDetector::is_own(task) && !is_proven(task));
    }

    fn failed(&mut self, failure: Failure, outcome: &FetchOutcome) {
        let (item, page) = (outcome.request.item, outcome.request.page);
        let Some(mut task) = self.frontier.complete(item, page) else { return };
        if self.stop.is_some() {
            self.frontier.retry_now(task); // a stopping run blames nobody
            return self.end(item);
        }
        if self.outages.ever() && (serves(outcome.classification.verdict) || self.is_other_answer(item, failure)) {
            self.outages.works();
            self.served(outcome);
        } else if !matches!(failure, Failure::Throttled(_)) {
            self.throttled.passed(item, outcome.request.attempt);
        }
        if let Some(question) =
            self.question.as_mut().filter(|_| task.is_check && serves(outcome.classification.verdict))
        {
            question.is_inconclusive = true;
        }
        self.prove(&mut task);
        task.faults.failure = Some(failure);
        task.faults.message.clone_from(&outcome.message);
        task.faults.pending = Some(AttemptId(self.last_attempt));
        self.note_long_wait(item, outcome);
        if task.is_check {
            self.check_failed(task, failure, outcome);
        } else if !self.frontier.needs(&task) && !is_waited_out(failure, outcome.classification.charge) {
            // A page that may not exist is no reason to stop for pages that do.
            let is_refused = matches!(failure, Failure::NoSuchPage | Failure::EndOfList | Failure::Refused(_));
            self.lose(&task, is_refused, outcome.classification.charge);
        } else {
            self.follow(task, failure, outcome);
        }
        self.end(item);
    }

    /// Whether a control request got a success without a list while nothing is deferred and no question is open: then the API
    /// serves.
    fn is_other_answer(&self, item: ItemIx, failure: Failure) -> bool {
        failure == Failure::MissingList
            && self.revisited.contains(&item)
            && self.deferred.is_empty()
            && self.question.is_none()
    }

    fn follow(&mut self, task: PageTask, failure: Failure, outcome: &FetchOutcome) {
        let may_end = self.frontier.may_end_before(&task);
        if let (Failure::Refused(cause), None, false) = (failure, &outcome.response, self.outages.is_proven()) {
            // TLS, proxy or redirect, before anything worked: every other item would fail alike.
            self.stop.get_or_insert(Stop::Cause(cause, outcome.message.clone()));
            return self.frontier.retry_now(task);
        }
        let facts = Facts {
            is_own: task.faults.proven > 0,
            asked_again: task.asked_again,
            may_end,
            failed_before: task.retry.is_some(),
        };
        match action_for(failure, facts) {
            FailureAction::AskAgain => self.ask_again(task, failure, outcome),
            FailureAction::AskOthers(refusal) => self.ask_others(task, refusal, outcome),
            FailureAction::SetAside => self.set_aside(task, failure, outcome),
            FailureAction::EndList => self.refuse_page(&task, failure),
        }
    }

    /// Drops a page ahead that its walk may not have.
    pub(super) fn lose(&mut self, task: &PageTask, is_refused: bool, charge: Charge) {
        let in_doubt = charge != Charge::Free;
        if task.is_probe {
            self.lookahead_budget.release(in_doubt);
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
            return self.end(task.item);
        }
        if !self.frontier.needs(task) {
            self.lose(task, false, Charge::Free);
            return self.end(task.item);
        }
        if task.is_probe {
            self.lookahead_budget.release(false); // it is needed by now
        }
        self.fail_walk(task.item, task.page, message.to_owned(), transient);
    }

    /// Ends a walk before a page as failed.
    pub(super) fn fail_walk(&mut self, item: ItemIx, page: PageNum, message: String, transient: bool) {
        let end = EndRow { transient, ..EndRow::failed(item, message) };
        self.frontier.close(end, page);
        self.end(item);
    }
}

/// Whether a failure of an unneeded page is worth a retry: it may pass, and it was free.
fn is_waited_out(failure: Failure, charge: Charge) -> bool {
    matches!(failure, Failure::NoConnection | Failure::Unavailable | Failure::Throttled(_)) && charge == Charge::Free
}
