//! Failures that are ambiguous: pages that are asked for again, refusals that raise a question about the API, and how both
//! end once it is known what others are answered.

use std::time::Duration;

use super::health::{OutageDetector, without_numbers};
use super::{Deferred, Engine, LongWait};
use crate::crawl::frontier::PageTask;
use crate::crawl::judgement::{PROOFS, Question, REFUSED_IN_A_ROW, RefusalScope, ends_list, is_transient, proofs};
use crate::error::Error;
use crate::fetch::cause;
use crate::fetch::classify::{Failure, StopCause};
use crate::fetch::dispatcher::FetchOutcome;
use crate::model::clock;
use crate::model::event::Event;
use crate::model::page::{AttemptId, ItemIx};
use crate::run::stop::Stop;
use crate::state::ledger::RetryRow;

/// Items in a row that are told what was answered before, until it is asked once more whether that is for all.
const REFUSED_SINCE: usize = 3;

impl Engine<'_> {
    /// Counts a page's last failure as its own, if a request for another item was served that left after it.
    pub(super) fn prove(&mut self, wanted: &mut PageTask) {
        let Some(failed) = wanted.faults.pending else { return };
        let is_account = wanted.faults.failure == Some(Failure::Refused(StopCause::Account));
        let served = if is_account { &self.paid } else { &self.served };
        if !served.others_since(failed, wanted.item) {
            return;
        }
        if matches!(wanted.faults.failure, Some(Failure::Throttled(_))) {
            // That one of them passes is not enough: see `judgement::throttle`.
            if !self.throttled.waits(wanted.item, wanted.page) {
                wanted.faults.pending = None;
                wanted.faults.proven = self.throttled.proofs(wanted.item, wanted.page);
            }
            return;
        }
        wanted.faults.pending = None;
        wanted.faults.proven += 1;
        if let Some(walk) = self.scheduler.walk_mut(wanted.item).filter(|walk| walk.next() == wanted.page) {
            walk.tries = wanted.faults.proven;
            let (item, tries, unproven) = (wanted.item, walk.tries, walk.unproven);
            self.group.tries.push(RetryRow { item, tries, unproven });
        }
    }

    /// Asks for a page again after a wait.
    pub(super) fn ask_again(&mut self, mut wanted: PageTask, failure: Failure, arrival: &FetchOutcome) {
        let was_down = self.health.is_down();
        let held = self.hold(&mut wanted, failure, arrival);
        // Where nothing else is left to be asked for, a control request tells more than a fifth failure.
        let may_end = ends_list(failure) && self.scheduler.may_end_before(&wanted);
        let own = OutageDetector::is_own(&wanted) || may_end || self.is_alone() && self.may_control();
        let stop = self.health.failed(failure, arrival, (own, held), &mut self.retry);
        self.stop = self.stop.take().or(stop);
        if self.health.is_down() && !was_down {
            self.draining = Some(AttemptId(self.last_attempt));
            self.context.events.event(&Event::Outage { cause: &arrival.cause });
        }
        let is_first = matches!(failure, Failure::Throttled(_)) && wanted.tries.is_none();
        if is_first && !self.scheduler.has_next() && self.backlog.is_empty() && !self.health.is_down() {
            wanted.tries = Some(self.retry.begin());
            self.counted.retries += 1;
            return self.scheduler.resume(wanted); // nobody else could pass meanwhile
        }
        wanted.asked_again |= is_perhaps_billed(failure);
        self.park(wanted, failure, arrival);
    }

    /// Parks a page for its next attempt.
    fn park(&mut self, mut wanted: PageTask, failure: Failure, arrival: &FetchOutcome) {
        let now = clock::now();
        // An account that is in question is not what an outage's probes are to find out: they would not wait for each other.
        let until = if let Some(probe_at) = self.health.probe_at().filter(|_| self.question.is_none()) {
            // Pages take turns at probing, whatever their failures, which are not counted.
            self.notify_retry(&wanted, arrival, probe_at.saturating_duration_since(now));
            wanted.tries.get_or_insert_with(|| self.retry.begin());
            now
        } else {
            let mut tries = wanted.tries.take().unwrap_or_else(|| self.retry.begin());
            tries.failed += u32::from(failure != Failure::NoRoute);
            let wait = if is_perhaps_billed(failure) { self.retry.later() } else { self.retry.wait(&mut tries) };
            // After a wait that holds everyone, others are to go first, to see whether they pass.
            let behind =
                if matches!(failure, Failure::Throttled(_)) { self.retry.policy().first } else { Duration::ZERO };
            let wait = wait.max(arrival.wish() + behind);
            wanted.tries = Some(tries);
            self.notify_retry(&wanted, arrival, wait);
            now + wait
        };
        self.counted.retries += 1;
        self.scheduler.park(wanted, until);
    }

    fn notify_retry(&self, wanted: &PageTask, arrival: &FetchOutcome, after: Duration) {
        let (page, cause) = (wanted.page, arrival.cause.as_str());
        self.context.events.event(&Event::Retrying { id: &wanted.id, page, after, cause });
    }

    /// Takes note of a 429. True: it made everyone wait, and was not one of a burst that was answered to before.
    fn hold(&mut self, wanted: &mut PageTask, failure: Failure, arrival: &FetchOutcome) -> bool {
        if !matches!(failure, Failure::Throttled(_)) {
            return false;
        }
        self.counted.throttled += 1;
        wanted.faults.proven =
            self.throttled.refused(wanted.item, wanted.page, arrival.request.attempt, AttemptId(self.last_attempt));
        if wanted.faults.proven == PROOFS - 1 {
            self.quota.pardon();
        }
        if let Some(held) = arrival.held {
            self.context.events.event(&Event::Throttled { wait: held.wait, rate: held.rate });
        }
        arrival.held.is_some()
    }

    /// The server asks for a longer wait than anyone has the patience for. Once it was waited as long as is ever waited, a second
    /// item that is told the same says that this is meant for all; until then, and for that item, nobody waits again.
    pub(super) fn wait_too_long(&mut self, item: ItemIx, arrival: &FetchOutcome) {
        let wish = arrival.answer.as_ref().and_then(|answer| answer.retry_after).unwrap_or_default();
        if wish <= self.retry.policy().max_outage {
            return;
        }
        self.long_waits.insert(item);
        match self.long_wait {
            Some(wait) if wait.item != item && arrival.sent >= wait.until => {
                let message = format!("{}; the server asks for a wait of {} s", arrival.cause, wish.as_secs());
                self.stop.get_or_insert(Stop::Temporary(message));
            }
            Some(_) => {}
            None => self.long_wait = Some(LongWait { item, until: clock::now() + arrival.wish() }),
        }
    }

    /// Sends nothing but pages of others until it is known whether a refusal is for all.
    pub(super) fn ask_others(&mut self, wanted: PageTask, refusal: RefusalScope, arrival: &FetchOutcome) {
        let (item, message) = (wanted.item, &arrival.cause);
        if self.question.is_none() && self.was_answered(refusal, item, message) {
            let failure = wanted.faults.failure.unwrap_or(Failure::Unusual);
            return self.park(wanted, failure, arrival);
        }
        let is_for_all = match &mut self.question {
            Some(question) if question.refusal == refusal => question.add(item, arrival.request.attempt, message),
            Some(_) => false,
            None => {
                self.question = Some(Question::new(refusal, item, AttemptId(self.last_attempt), message.clone()));
                self.draining = Some(AttemptId(self.last_attempt));
                false
            }
        };
        // Where nobody else can be asked, a page has its tries.
        let failed = wanted.tries.as_ref().map_or(0, |tries| tries.failed);
        if is_for_all || failed >= self.retry.policy().attempts {
            self.stop.get_or_insert(self.refused_stop(refusal, message));
        }
        let failure = wanted.faults.failure.unwrap_or(Failure::Unusual);
        let asked_again = wanted.asked_again | is_perhaps_billed(failure);
        self.park(PageTask { asked_again, ..wanted }, failure, arrival);
    }

    /// Whether the same was said before and turned out not to be for all, and not too many were told so since.
    fn was_answered(&mut self, refusal: RefusalScope, item: ItemIx, message: &str) -> bool {
        let kind = without_numbers(cause::kind(message));
        let is_known = self.answered.as_ref().is_some_and(|(known, words)| *known == refusal && *words == kind);
        if is_known {
            self.refused_since.insert(item);
        }
        is_known && self.refused_since.len() < REFUSED_SINCE
    }

    /// A control request was refused like what it was sent for.
    pub(super) fn ask_others_alike(&mut self, item: ItemIx, failure: Failure, arrival: &FetchOutcome) {
        let Some(question) = &mut self.question else { return };
        let refusal = question.refusal;
        let is_alike =
            matches!((failure, refusal), (Failure::Refused(cause), RefusalScope::Cause(asked)) if cause == asked);
        if is_alike && question.add(item, arrival.request.attempt, &arrival.cause) {
            self.stop.get_or_insert(self.refused_stop(refusal, &arrival.cause));
        }
    }

    /// The end of a run in which others are refused alike.
    pub(super) fn refused_stop(&self, refusal: RefusalScope, message: &str) -> Stop {
        match refusal {
            RefusalScope::Cause(cause) => Stop::Cause(cause, message.to_owned()),
            RefusalScope::SamePage => Stop::Same(message.to_owned()),
            RefusalScope::UnknownCode => {
                let known = &self.context.settings.endpoint.success_codes;
                let message = format!(
                    "{message}: rows came with a code that the endpoint's description does not list as a success; if it is one, add it to success_codes (now {known:?}) and run again: responses in the journal are not paid for twice"
                );
                Stop::Cause(StopCause::Contract, message)
            }
        }
    }

    /// Asks for an item no more: it fails as soon as others are served. Where many in a row are refused, others are asked.
    pub(super) fn set_aside(&mut self, wanted: PageTask, failure: Failure, arrival: &FetchOutcome) {
        if !self.health.ever() || is_perhaps_billed(failure) {
            let own = OutageDetector::is_own(&wanted);
            let stop = self.health.failed(failure, arrival, (own, false), &mut self.retry);
            self.stop = self.stop.take().or(stop);
        }
        if !self.scheduler.needs(&wanted) {
            return self.lose(&wanted, true, arrival.judged.charge);
        }
        let (item, at) = (wanted.item, AttemptId(self.last_attempt));
        if !self.scheduler.set_aside(item, wanted.page) {
            return; // its walk ends before that page, whatever becomes of others
        }
        self.deferred.push(Deferred { wanted, message: arrival.cause.clone(), at, failure });
        if let Some(question) = self.question.as_mut().filter(|question| question.refusal == RefusalScope::SamePage)
            && question.add(item, arrival.request.attempt, &arrival.cause)
        {
            self.stop.get_or_insert(self.refused_stop(RefusalScope::SamePage, &arrival.cause));
        }
        let in_a_row = self.deferred.iter().filter(|deferred| deferred.failure == Failure::NoSuchPage).count();
        if self.health.ever() && in_a_row >= REFUSED_IN_A_ROW && self.question.is_none() {
            let mut question = Question::new(RefusalScope::SamePage, item, at, arrival.cause.clone());
            for deferred in &self.deferred {
                question.add(deferred.wanted.item, at, &arrival.cause); // they left before
            }
            self.question = Some(question);
            self.draining = Some(AttemptId(self.last_attempt));
        }
    }

    /// Before pages are asked for: gives up those whose failures are proven, and sees to it that where nothing but failing pages
    /// is left, something is found out.
    pub(super) fn weigh(&mut self) -> Result<(), Error> {
        if self.stop.is_some() {
            return Ok(());
        }
        self.give_up_proven();
        let is_stuck = self.question.as_ref().is_some_and(|question| {
            let others = self.scheduler.has_others(question.refused(), question.refusal != RefusalScope::SamePage);
            question.asked.is_none() && !others && !self.scheduler.has_check()
        });
        // Two others that are refused alike end the run: the second one is a control request, if there can be one.
        let is_half = self.question.as_ref().is_some_and(|question| question.alike() == 1 && question.asked.is_none());
        if is_half && !self.scheduler.has_check() && self.control()? {
            return Ok(());
        }
        if is_stuck && self.at_rest() && (self.backlog.is_empty() || self.is_same_page()) {
            if self.control()? {
                return Ok(());
            }
            if !self.health.is_proven() && self.question.as_ref().is_some_and(|question| question.refused().len() > 1) {
                self.end_unproven(); // all there are were refused alike, and nothing ever came in this run
            }
            if self.is_same_page() {
                self.question = None; // nobody can be asked: each is as it was told
                let deferred = std::mem::take(&mut self.deferred);
                self.conclude(deferred);
            }
        }
        if self.is_alone() && self.scheduler.has_parked() && self.at_rest() && !self.scheduler.has_check() {
            self.weigh_alone()?;
        }
        Ok(())
    }

    fn is_same_page(&self) -> bool {
        self.question.as_ref().is_some_and(|question| question.refusal == RefusalScope::SamePage)
    }

    fn give_up_proven(&mut self) {
        let (now, alone, attempts) = (clock::now(), self.is_alone(), self.retry.policy().attempts);
        let mut due = Vec::new();
        while let Some(mut wanted) = self.scheduler.take_due(now) {
            self.prove(&mut wanted);
            let failure = wanted.faults.failure.unwrap_or(Failure::Unavailable);
            let is_tried = !alone || self.has_had_all(&wanted);
            if is_tried && wanted.faults.proven >= proofs(failure, attempts, alone) {
                self.give_up_as_proven(&wanted, failure);
            } else if !alone && self.throttled.waits(wanted.item, wanted.page) && self.has_other_work() {
                self.scheduler.park(wanted, now + self.retry.policy().first);
            } else {
                due.push(wanted);
            }
        }
        for wanted in due {
            self.scheduler.park(wanted, now);
        }
    }

    /// A page's failures are its own: its item fails, or its list ends before it.
    pub(super) fn give_up_as_proven(&mut self, wanted: &PageTask, failure: Failure) {
        if ends_list(failure) && !wanted.is_check && self.scheduler.may_end_before(wanted) {
            self.refuse_page(wanted, failure);
            return self.end(wanted.item);
        }
        let proven = wanted.faults.proven;
        let failed = wanted.tries.as_ref().map_or(proven, |tries| tries.failed.max(proven));
        let message = format!("page {} failed {failed} times, lastly: {}", wanted.page, wanted.faults.message);
        self.give_up(wanted, &message, is_transient(failure));
    }

    fn has_other_work(&self) -> bool {
        self.scheduler.has_next() || !self.backlog.is_empty() || self.scheduler.is_flying()
    }
}

/// Whether a response may have been billed though it is of no use: it is asked for at most twice (promise P2).
fn is_perhaps_billed(failure: Failure) -> bool {
    matches!(failure, Failure::Unusable | Failure::MissingList | Failure::UnknownCode { with_rows: true })
}
