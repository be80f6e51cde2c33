//! Only pages that failed are left: what a control request finds out, and how the run ends without one.

use std::time::Duration;

use super::{Deferred, Engine};
use crate::crawl::frontier::PageTask;
use crate::crawl::judgement::{CONTROLS, PROOFS, RefusalScope, is_transient, required_failures, required_proofs};
use crate::error::Error;
use crate::fetch::classify::Failure;
use crate::model::clock;
use crate::model::page::ItemIx;
use crate::run::stop::Stop;
use crate::state::ledger::RetryRow;

impl Engine<'_> {
    /// Whether every walk has ended.
    pub(super) fn is_done(&self) -> bool {
        self.frontier.is_done() && self.backlog.is_empty()
    }

    pub(super) fn is_over(&self) -> bool {
        self.frontier.requests_in_flight() == 0 && (self.stop.is_some() || self.is_done())
    }

    /// Ends what is suspended, when everything else has been requested: the items fail, or the API does.
    pub(super) fn conclude_remaining(&mut self) -> Result<(), Error> {
        let is_unheard = !self.outages.is_proven() && self.outages.ever() && self.controls == 0;
        if self.deferred.is_empty() && self.refused_ends.is_empty() || is_unheard && self.control()? {
            return Ok(());
        }
        let unheard = self.outages.is_down() || !self.outages.ever();
        self.conclude_ends(|_| true);
        let may_be_api = |deferred: &&Deferred| unheard && deferred.failure != Failure::NoSuchPage;
        if let Some(deferred) = self.deferred.iter().find(may_be_api) {
            self.stop = Some(if matches!(deferred.failure, Failure::UnknownCode { .. }) {
                self.refused_stop(RefusalScope::UnknownCode, &deferred.message)
            } else {
                self.outages.refused(self.deferred.len(), &deferred.message)
            });
        } else {
            let deferred = std::mem::take(&mut self.deferred);
            self.conclude(deferred);
        }
        Ok(())
    }

    /// Decides what to do when only failed pages are left. When each has failed once more, a control request tells whether the API
    /// works. Where none can be sent, each page has its attempts, and then the run ends.
    pub(super) fn weigh_alone(&mut self) -> Result<(), Error> {
        for (due, mut task) in self.frontier.take_all_delayed() {
            self.prove(&mut task);
            let failure = task.faults.failure.unwrap_or(Failure::Unavailable);
            let is_tried = self.has_had_all(&task);
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
        if let Some(at) = self.outages.check_at() {
            // A page that never failed tells best whether this is an outage.
            if at <= clock::now() {
                self.control()?;
            }
            return Ok(());
        }
        // A failure that may pass has all its attempts before a control request is worth a credit.
        let has_failed = |task: &PageTask| task.retry.as_ref().is_some_and(|tries| tries.failed >= PROOFS);
        let is_worth_it = self.controls == 0 && self.frontier.all_tried(has_failed)
            || self.frontier.all_tried(|task| self.lacks_tries(task) < PROOFS);
        if is_worth_it && self.control()? {
            return Ok(());
        }
        // If all get 429, this is throttling: it ends with `max_outage`.
        let is_throttled = |task: &PageTask| matches!(task.faults.failure, Some(Failure::Throttled(_)));
        if self.frontier.all_tried(|task| self.has_had_all(task) && !is_throttled(task)) {
            self.end_unproven();
        }
        Ok(())
    }

    pub(super) fn has_had_all(&self, task: &PageTask) -> bool {
        self.lacks_tries(task) == 0
    }

    /// Attempts that a page still has.
    fn lacks_tries(&self, task: &PageTask) -> u32 {
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
            let (ever, is_tried) = (self.outages.ever(), self.has_had_all(&task));
            let walk = self.frontier.walk_mut(task.item);
            let unproven = walk.as_ref().map_or(0, |walk| walk.unproven_runs) + u32::from(is_tried);
            if ever && unproven >= 2 {
                self.give_up(&task, &message, is_transient(failure));
                continue;
            }
            if let Some(walk) = walk {
                walk.unproven_runs = unproven;
                let tries = walk.proven_failures;
                self.group.tries.push(RetryRow { item: task.item, tries, unproven });
            }
            stop = stop.or(Some(match (failure, &self.question) {
                (_, Some(question)) => self.refused_stop(question.refusal, &task.faults.message),
                (Failure::Refused(cause), None) => Stop::Cause(cause, task.faults.message.clone()),
                _ => Stop::Temporary(task.faults.message.clone()),
            }));
            self.frontier.retry_now(task);
        }
        self.stop = self.stop.take().or(stop);
    }

    /// Whether only pages that failed are left.
    pub(super) fn is_alone(&self) -> bool {
        self.backlog.is_empty() && self.frontier.all_tried(|task| task.retry.is_some())
    }

    pub(super) fn may_control(&self) -> bool {
        let is_inconclusive = self.question.as_ref().is_some_and(|question| question.is_inconclusive);
        self.controls < CONTROLS && self.can_afford() && self.has_control && !is_inconclusive
    }

    /// Requests the page behind the end of a complete list, to see whether the API serves. Returns false if there is no such list,
    /// or no more are allowed in this run.
    pub(super) fn control(&mut self) -> Result<bool, Error> {
        let mut is_over = false;
        while self.may_control() {
            let found = self.dir.ledger().ended_item(self.control_before)?;
            let Some(ended) = found else {
                // Once more from the last list: behind its end there is another page.
                self.has_control = self.control_before < ItemIx(i64::MAX) && !std::mem::replace(&mut is_over, true);
                self.control_before = ItemIx(i64::MAX);
                continue;
            };
            self.control_before = ended.item;
            if ended.last >= self.rules.limit() {
                continue;
            }
            self.controls += 1;
            self.look_behind(ended)?;
            return Ok(true);
        }
        Ok(false)
    }

    /// How long nothing may succeed at present.
    pub(super) fn max_outage(&self) -> Duration {
        let policy = self.retry.policy();
        // An outage and throttling may pass.
        let has_had_all = |task: &PageTask| {
            self.has_had_all(task)
                && !matches!(task.faults.failure, Some(Failure::Throttled(_) | Failure::NoConnection))
        };
        let is_hopeless = !self.outages.is_down() && self.is_alone() && self.frontier.all_tried(has_had_all);
        if self.outages.is_proven() && !is_hopeless { policy.max_outage } else { policy.soon() }
    }

    /// Stops the run: nothing succeeded for too long.
    pub(super) fn stop_waiting(&mut self) {
        self.stop = Some(Stop::Temporary(self.outages.message().to_owned()));
    }
}
