//! Only pages that failed are left: what a control request finds out, and how the run ends without one.

use std::time::Duration;

use super::Engine;
use super::refusals::DeferredFailure;
use crate::crawl::frontier::PageTask;
use crate::crawl::judgement::{PROOFS, RefusalScope, is_transient, required_failures, required_proofs};
use crate::error::Error;
use crate::fetch::classify::Failure;
use crate::model::clock;
use crate::run::stop::Stop;

impl Engine<'_> {
    /// Whether every walk has ended.
    pub(super) fn is_done(&self) -> bool {
        self.frontier.is_done() && self.backlog.is_empty()
    }

    pub(super) fn is_over(&self) -> bool {
        self.frontier.requests_in_flight() == 0 && (self.stop.is_some() || self.is_done())
    }

    /// Ends what is suspended, when everything else has been requested: the items fail, or the API does.
    pub(super) fn resolve_deferred(&mut self) -> Result<(), Error> {
        let is_unheard = !self.api_health.has_served() && self.api_health.ever_had_page() && self.controls.is_unused();
        if self.refusals.deferred().is_empty() && !self.refusals.has_ends() || is_unheard && self.send_control()? {
            return Ok(());
        }
        let unheard = self.api_health.is_down() || !self.api_health.ever_had_page();
        let ended = self.refusals.take_all_ends();
        self.end_refused_walks(ended);
        let may_be_api = |deferred: &&DeferredFailure| unheard && deferred.failure != Failure::NoSuchPage;
        if let Some(deferred) = self.refusals.deferred().iter().find(may_be_api) {
            let stop = if matches!(deferred.failure, Failure::UnknownCode { .. }) {
                self.refused_stop(RefusalScope::UnknownCode, &deferred.message)
            } else {
                self.api_health.refused(self.refusals.deferred().len(), &deferred.message)
            };
            self.stop_for(stop);
        } else {
            let deferred = self.refusals.take_deferred();
            self.fail_deferred(deferred);
        }
        Ok(())
    }

    /// Decides what to do when only failed pages are left. When each has failed once more, a control request tells whether the API
    /// works. Where none can be sent, each page has its attempts, and then the run ends.
    pub(super) fn resolve_last_failures(&mut self) -> Result<(), Error> {
        for (due, mut task) in self.frontier.take_all_delayed() {
            self.attribute_failure(&mut task);
            let failure = task.faults.failure.unwrap_or(Failure::Unavailable);
            let is_tried = self.has_had_all_attempts(&task);
            let is_own = task.faults.proven >= required_proofs(failure, self.retry.policy().attempts, true);
            if is_tried && (is_own || !self.frontier.needs(&task)) {
                self.give_up_as_proven(&task, failure);
            } else {
                self.frontier.delay(task, due);
            }
        }
        let pending = |task: &PageTask| task.faults.pending.is_some();
        if !self.frontier.has_delayed() || !self.frontier.all_tried(pending) {
            return Ok(());
        }
        if let Some(at) = self.api_health.check_at() {
            // A page that never failed tells best whether this is an outage.
            if at <= clock::now() {
                self.send_control()?;
            }
            return Ok(());
        }
        // A failure that may pass has all its attempts before a control request is worth a credit.
        let has_failed = |task: &PageTask| task.retry.as_ref().is_some_and(|tries| tries.failed >= PROOFS);
        let is_worth_it = self.controls.is_unused() && self.frontier.all_tried(has_failed)
            || self.frontier.all_tried(|task| self.attempts_left(task) < PROOFS);
        if is_worth_it && self.send_control()? {
            return Ok(());
        }
        // If all get 429, this is throttling: it ends with `max_outage`.
        let is_throttled = |task: &PageTask| matches!(task.faults.failure, Some(Failure::Throttled(_)));
        if self.frontier.all_tried(|task| self.has_had_all_attempts(task) && !is_throttled(task)) {
            self.end_unproven();
        }
        Ok(())
    }

    pub(super) fn has_had_all_attempts(&self, task: &PageTask) -> bool {
        self.attempts_left(task) == 0
    }

    /// Attempts that a page still has.
    fn attempts_left(&self, task: &PageTask) -> u32 {
        let failure = task.faults.failure.unwrap_or(Failure::Unavailable);
        let most = required_failures(failure, self.retry.policy().attempts, task.faults.gave_up_before);
        let failed = task.retry.as_ref().map_or(0, |tries| tries.failed);
        most.saturating_sub(failed.max(task.faults.proven))
    }

    /// Ends a run whose last pages had all their attempts without a proof whose fault it is. Pages that ended a second run like
    /// this fail; the rest is left to the next run.
    pub(super) fn end_unproven(&mut self) {
        let mut stop = None;
        for (_, task) in self.frontier.take_all_delayed() {
            let failure = task.faults.failure.unwrap_or(Failure::Unavailable);
            let message = format!("page {} failed for too long, lastly: {}", task.page, task.faults.message);
            let (ever_had_page, is_tried) = (self.api_health.ever_had_page(), self.has_had_all_attempts(&task));
            let walk = self.frontier.walk_mut(task.item);
            let unproven = walk.as_ref().map_or(0, |walk| walk.unproven_runs) + u32::from(is_tried);
            if ever_had_page && unproven >= 2 {
                self.give_up(&task, &message, is_transient(failure));
                continue;
            }
            if let Some(walk) = walk {
                walk.unproven_runs = unproven;
                self.group.tries.push(walk.retry_row());
            }
            stop = stop.or(Some(match (failure, &self.refusals.inquiry) {
                (_, Some(inquiry)) => self.refused_stop(inquiry.scope, &task.faults.message),
                (Failure::Refused(cause), None) => Stop::Cause(cause, task.faults.message.clone()),
                _ => Stop::Temporary(task.faults.message.clone()),
            }));
            self.frontier.requeue(task);
        }
        self.stop_for(stop);
    }

    /// Whether only pages that failed are left.
    pub(super) fn has_only_failed(&self) -> bool {
        self.backlog.is_empty() && self.frontier.all_tried(|task| task.retry.is_some())
    }

    /// How long nothing may succeed at present.
    pub(super) fn max_outage(&self) -> Duration {
        let policy = self.retry.policy();
        // An outage and throttling may pass.
        let has_had_all_attempts = |task: &PageTask| {
            self.has_had_all_attempts(task)
                && !matches!(task.faults.failure, Some(Failure::Throttled(_) | Failure::NoConnection))
        };
        let is_hopeless =
            !self.api_health.is_down() && self.has_only_failed() && self.frontier.all_tried(has_had_all_attempts);
        if self.api_health.has_served() && !is_hopeless { policy.max_outage } else { policy.soon() }
    }

    /// Stops the run: nothing succeeded for too long.
    pub(super) fn stop_waiting(&mut self) {
        self.stop_for(Stop::Temporary(self.api_health.message().to_owned()));
    }
}
