//! Ambiguous failures: pages that are retried, refusals that raise an inquiry about the API, and how both end once it is known
//! what other items get.

use std::time::Duration;

use super::Engine;
use super::outage::OutageDetector;
use super::refusals::DeferredFailure;
use crate::crawl::frontier::PageTask;
use crate::crawl::judgement::inquiry::Inquiry;
use crate::crawl::judgement::{PROOFS, RefusalScope, ends_list, is_transient, required_proofs};
use crate::error::Error;
use crate::fetch::classify::{Failure, StopCause};
use crate::fetch::dispatcher::FetchOutcome;
use crate::model::clock;
use crate::model::event::Event;
use crate::model::page::ItemIx;
use crate::run::stop::Stop;

impl Engine<'_> {
    /// Counts a page's last failure as its own if a request of another item that left after it was served.
    pub(super) fn attribute_failure(&mut self, task: &mut PageTask) {
        let Some(failed) = task.faults.pending else { return };
        let is_account = task.faults.failure == Some(Failure::Refused(StopCause::Account));
        let served = if is_account { &self.last_page } else { &self.last_served };
        if !served.others_since(failed, task.item) {
            return;
        }
        if matches!(task.faults.failure, Some(Failure::Throttled(_))) {
            // One that passes is not enough: see `judgement::throttled_pages`.
            if !self.throttled.waits(task.item, task.page) {
                task.faults.pending = None;
                task.faults.proven = self.throttled.proofs(task.item, task.page);
            }
            return;
        }
        task.faults.pending = None;
        task.faults.proven += 1;
        if let Some(walk) = self.frontier.walk_mut(task.item).filter(|walk| walk.next() == task.page) {
            walk.proven_failures = task.faults.proven;
            self.group.tries.push(walk.retry_row());
        }
    }

    pub(super) fn retry_later(&mut self, mut task: PageTask, failure: Failure, outcome: &FetchOutcome) {
        let was_down = self.api_health.is_down();
        let started_cooldown = self.note_throttle(&mut task, failure, outcome);
        // Where nothing else is left, a control request tells more than a fifth failure.
        let may_end = ends_list(failure) && self.frontier.may_end_before(&task);
        let own = OutageDetector::is_own(&task) || may_end || self.has_only_failed() && self.may_send_control();
        let stop = self.api_health.note_failure(failure, outcome, (own, started_cooldown), &mut self.retry);
        self.stop_for(stop);
        if self.api_health.is_down() && !was_down {
            self.start_draining();
            self.context.events.event(&Event::Outage { cause: &outcome.message });
        }
        let is_first = matches!(failure, Failure::Throttled(_)) && task.retry.is_none();
        if is_first && !self.frontier.has_next() && self.backlog.is_empty() && !self.api_health.is_down() {
            task.retry = Some(self.retry.new_state());
            self.notify_retry(&task, outcome, Duration::ZERO);
            self.stats.retries += 1;
            return self.frontier.requeue(task); // nobody else could pass meanwhile
        }
        task.was_repeated |= is_perhaps_billed(failure);
        self.delay(task, failure, outcome);
    }

    fn delay(&mut self, mut task: PageTask, failure: Failure, outcome: &FetchOutcome) {
        let now = clock::now();
        // During an inquiry into the account an outage's checks do not apply: both would wait for each other.
        let until = if let Some(check_at) = self.api_health.check_at().filter(|_| self.refusals.inquiry.is_none()) {
            // Pages take turns at checking the API; these failures are not counted.
            self.notify_retry(&task, outcome, check_at.saturating_duration_since(now));
            task.retry.get_or_insert_with(|| self.retry.new_state());
            now
        } else {
            let mut tries = task.retry.take().unwrap_or_else(|| self.retry.new_state());
            tries.failed += u32::from(failure != Failure::NoConnection);
            let wait = if is_perhaps_billed(failure) { self.retry.long_wait() } else { self.retry.wait(&mut tries) };
            // After a cooldown others go first, to see whether they pass.
            let behind =
                if matches!(failure, Failure::Throttled(_)) { self.retry.policy().first } else { Duration::ZERO };
            let wait = wait.max(outcome.retry_after() + behind);
            task.retry = Some(tries);
            self.notify_retry(&task, outcome, wait);
            now + wait
        };
        self.stats.retries += 1;
        self.frontier.delay(task, until);
    }

    fn notify_retry(&self, task: &PageTask, outcome: &FetchOutcome, after: Duration) {
        let (page, cause) = (task.page, outcome.message.as_str());
        self.context.events.event(&Event::Retrying { id: &task.id, page, after, cause });
    }

    /// Notes a 429. Returns true if it started a cooldown and was not part of a burst that already did.
    fn note_throttle(&mut self, task: &mut PageTask, failure: Failure, outcome: &FetchOutcome) -> bool {
        if !matches!(failure, Failure::Throttled(_)) {
            return false;
        }
        self.stats.throttled += 1;
        task.faults.proven = self.throttled.refused(task.item, task.page, outcome.request.attempt, self.newest_attempt);
        if task.faults.proven == PROOFS - 1 {
            self.limiter.restore();
        }
        if let Some(started_cooldown) = outcome.throttle {
            self.context.events.event(&Event::Throttled { wait: started_cooldown.wait, rate: started_cooldown.rate });
        }
        outcome.throttle.is_some()
    }

    /// Sends only pages of other items until it is known whether a refusal is meant for all.
    pub(super) fn inquire(&mut self, task: PageTask, scope: RefusalScope, outcome: &FetchOutcome) {
        let (item, message, is_open) = (task.item, &outcome.message, self.refusals.inquiry.is_some());
        let failure = task.faults.failure.unwrap_or(Failure::OtherRefusal);
        if !is_open && self.refusals.was_refuted(scope, item, message) {
            return self.delay(task, failure, outcome);
        }
        let is_for_all = self.refusals.add_alike(scope, item, outcome.request.attempt, message);
        if !is_open {
            self.refusals.inquiry = Some(Inquiry::new(scope, item, self.newest_attempt, message.clone()));
            self.start_draining();
        }
        // Where no other item is left, a page has its attempts.
        let failed = task.retry.as_ref().map_or(0, |tries| tries.failed);
        if is_for_all || failed >= self.retry.policy().attempts {
            self.stop_for(self.refused_stop(scope, message));
        }
        let was_repeated = task.was_repeated | is_perhaps_billed(failure);
        self.delay(PageTask { was_repeated, ..task }, failure, outcome);
    }

    /// Notes that a control request was refused like the page that it was sent for.
    pub(super) fn note_like_refusal(&mut self, item: ItemIx, failure: Failure, outcome: &FetchOutcome) {
        let Failure::Refused(cause) = failure else { return };
        let (scope, attempt) = (RefusalScope::Cause(cause), outcome.request.attempt);
        if self.refusals.add_alike(scope, item, attempt, &outcome.message) {
            self.stop_for(self.refused_stop(scope, &outcome.message));
        }
    }

    /// The reason to stop when others are refused alike.
    pub(super) fn refused_stop(&self, scope: RefusalScope, message: &str) -> Stop {
        match scope {
            RefusalScope::Cause(cause) => Stop::Cause(cause, message.to_owned()),
            RefusalScope::SamePage => Stop::Same(message.to_owned()),
            RefusalScope::UnknownCode => {
                let known = &self.context.settings.endpoint.success_codes;
                let message = format!(
                    "{message}: rows came with a code that the endpoint's description does not list as a success; if it is one, add it to success_codes (now {known:?}) and run again; responses in the journal are not paid for twice"
                );
                Stop::Cause(StopCause::Contract, message)
            }
        }
    }

    /// Suspends an item: it fails as soon as others are served. After many in a row it asks whether all are refused.
    pub(super) fn defer(&mut self, task: PageTask, failure: Failure, outcome: &FetchOutcome) {
        if !self.api_health.ever_had_page() || is_perhaps_billed(failure) {
            let own = OutageDetector::is_own(&task);
            let stop = self.api_health.note_failure(failure, outcome, (own, false), &mut self.retry);
            self.stop_for(stop);
        }
        if !self.frontier.needs(&task) {
            return self.drop_page(&task, true, outcome.classification.charge);
        }
        let (item, at, message) = (task.item, self.newest_attempt, &outcome.message);
        if !self.frontier.suspend(item, task.page) {
            return; // its walk ends before that page in any case
        }
        self.refusals.defer(DeferredFailure { task, message: message.clone(), at, failure });
        if self.refusals.add_alike(RefusalScope::SamePage, item, outcome.request.attempt, message) {
            self.stop_for(self.refused_stop(RefusalScope::SamePage, message));
        }
        if self.api_health.ever_had_page() && self.refusals.inquire_into_deferred(item, at, message) {
            self.start_draining();
        }
    }

    /// Before admission: gives up pages whose failures are proven. Where only failing pages are left, it finds out whose fault
    /// that is.
    pub(super) fn resolve_failures(&mut self) -> Result<(), Error> {
        if self.stop.is_some() {
            return Ok(());
        }
        self.give_up_proven();
        let is_stuck = self.refusals.inquiry.as_ref().is_some_and(|inquiry| {
            let others = self.frontier.has_other_items(inquiry.refused(), inquiry.may_start_items());
            inquiry.in_flight.is_none() && !others && !self.frontier.has_check()
        });
        // Two others that are refused alike end the run. The second is a control request, if one can be sent.
        let is_half =
            self.refusals.inquiry.as_ref().is_some_and(|inquiry| inquiry.alike() == 1 && inquiry.in_flight.is_none());
        if is_half && !self.frontier.has_check() && self.send_control()? {
            return Ok(());
        }
        if is_stuck && self.is_idle() && (self.backlog.is_empty() || self.is_same_page()) {
            if self.send_control()? {
                return Ok(());
            }
            if !self.api_health.has_served()
                && self.refusals.inquiry.as_ref().is_some_and(|inquiry| inquiry.refused().len() > 1)
            {
                self.end_unproven(); // all items were refused alike, and nothing came in this run
            }
            if self.is_same_page() {
                self.refusals.inquiry = None; // no other item is left: each refusal counts
                let deferred = self.refusals.take_deferred();
                self.fail_deferred(deferred);
            }
        }
        if self.has_only_failed() && self.frontier.has_delayed() && self.is_idle() && !self.frontier.has_check() {
            self.resolve_last_failures()?;
        }
        Ok(())
    }

    fn is_same_page(&self) -> bool {
        self.refusals.inquiry.as_ref().is_some_and(|inquiry| inquiry.scope == RefusalScope::SamePage)
    }

    fn give_up_proven(&mut self) {
        let (now, alone, attempts) = (clock::now(), self.has_only_failed(), self.retry.policy().attempts);
        let mut due = Vec::new();
        while let Some(mut task) = self.frontier.take_due(now) {
            self.attribute_failure(&mut task);
            let failure = task.faults.failure.unwrap_or(Failure::Unavailable);
            let is_tried = !alone || self.has_had_all_attempts(&task);
            if is_tried && task.faults.proven >= required_proofs(failure, attempts, alone) {
                self.give_up_as_proven(&task, failure);
            } else if !alone && self.throttled.waits(task.item, task.page) && self.has_other_work() {
                self.frontier.delay(task, now + self.retry.policy().first);
            } else {
                due.push(task);
            }
        }
        for task in due {
            self.frontier.delay(task, now);
        }
    }

    /// Gives up a page whose failures are its own: its item fails, or its list ends before it.
    pub(super) fn give_up_as_proven(&mut self, task: &PageTask, failure: Failure) {
        if ends_list(failure) && !task.is_check && self.frontier.may_end_before(task) {
            self.refuse_page(task, failure);
            return self.end_if_over(task.item);
        }
        let proven = task.faults.proven;
        let failed = task.retry.as_ref().map_or(proven, |tries| tries.failed.max(proven));
        let message = format!("page {} failed {failed} times, lastly: {}", task.page, task.faults.message);
        self.give_up(task, &message, is_transient(failure));
    }

    fn has_other_work(&self) -> bool {
        self.frontier.has_next() || !self.backlog.is_empty() || self.frontier.has_in_flight()
    }
}

/// Whether an unusable response may have been billed: such a page is requested at most twice (promise P2).
fn is_perhaps_billed(failure: Failure) -> bool {
    matches!(failure, Failure::Unusable | Failure::MissingList | Failure::UnknownCode { with_rows: true })
}
