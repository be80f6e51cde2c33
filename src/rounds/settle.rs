//! What the outcome of an attempt means for its walk: asked again, given up, or the end of the run.

use std::time::Duration;

use super::Rounds;
use crate::clock;
use crate::dispatch::Arrival;
use crate::event::Event;
use crate::ledger::EndRow;
use crate::page::{Charge, StopReason};
use crate::stop::Stop;
use crate::verdict::{Blame, Verdict};
use crate::walk::Walk;

impl Rounds<'_> {
    /// Decides what each failed attempt means for its walk. Pages wait for the commit.
    pub(super) fn settle(&mut self, arrivals: &[Arrival]) {
        for arrival in arrivals {
            self.in_flight = self.in_flight.saturating_sub(1);
            let judged = &arrival.judged;
            let throttled = matches!(judged.verdict, Verdict::Throttled(_));
            if judged.verdict != Verdict::Unsent {
                self.counted.requests += 1;
                self.job.monitor.event(&Event::Attempted { charge: judged.charge, throttled });
            }
            self.spent += u64::from(judged.charge != Charge::Free);
            if judged.verdict == Verdict::Page {
                self.counted.pages += 1;
                self.hopeless = false;
                self.retry.earn();
                self.recover();
                self.health.page();
                continue;
            }
            let Some(walk) = self.scheduler.land(arrival.request.item) else { continue };
            match &judged.verdict {
                Verdict::Page | Verdict::Unsent => self.scheduler.resume(walk),
                Verdict::Stop(cause) => {
                    self.stop.get_or_insert_with(|| Stop::Cause(*cause, arrival.cause.clone()));
                    self.scheduler.resume(walk);
                }
                // Answers that a stopping run does not wait for are nobody's failures.
                Verdict::Retry | Verdict::RetryOnce if self.stop.is_some() => self.scheduler.resume(walk),
                Verdict::GiveUp if self.health.ever() => {
                    self.recover();
                    self.health.works();
                    self.give_up(&walk, &arrival.cause, false);
                }
                Verdict::Throttled(_) | Verdict::Retry | Verdict::RetryOnce | Verdict::GiveUp => {
                    self.fail(walk, arrival);
                }
            }
        }
    }

    /// Ends an outage, if there is one: what failed in it was not its pages' fault.
    fn recover(&mut self) {
        if self.health.is_down() {
            let health = &self.health;
            self.scheduler.pardon(|walk| !health.is_own(walk));
            self.job.monitor.event(&Event::Recovered);
        }
    }

    fn fail(&mut self, mut walk: Walk, arrival: &Arrival) {
        let (own, was_down) = (self.health.is_own(&walk), self.health.is_down());
        let stop = self.health.failed(arrival, own, &mut self.retry);
        self.stop = self.stop.take().or(stop);
        if self.health.is_down() && !was_down {
            self.job.monitor.event(&Event::Outage { cause: &arrival.cause });
        }
        match &arrival.judged.verdict {
            Verdict::Page | Verdict::Unsent | Verdict::Stop(_) => {}
            Verdict::Throttled(retry_after) => {
                (self.counted.throttled, self.counted.retries) = (self.counted.throttled + 1, self.counted.retries + 1);
                if let Some(held) = self.quota.throttled(arrival.sent, *retry_after) {
                    self.job.monitor.event(&Event::Held { wait: held.wait, rate: held.rate });
                }
                self.scheduler.resume(walk);
            }
            Verdict::Retry => self.again(walk, arrival, own),
            Verdict::RetryOnce if !walk.asked_again => {
                walk.asked_again = true;
                self.again(walk, arrival, own);
            }
            Verdict::RetryOnce => self.misfit(walk, arrival),
            // Before any page came the question may be wrong: then the next run asks again.
            Verdict::GiveUp => self.give_up(&walk, &arrival.cause, true),
        }
    }

    /// Gives up an item that was asked for twice and never answered in the API's form. While nothing else is, or before
    /// anything was, that is no fault of the item, and it may not be asked for a third time: the run ends.
    fn misfit(&mut self, walk: Walk, arrival: &Arrival) {
        let ever = self.health.ever();
        if arrival.judged.blame == Blame::Answer && (self.health.is_down() || !ever) {
            self.stop.get_or_insert_with(|| self.health.refused(&arrival.cause));
            self.scheduler.resume(walk);
        } else {
            self.give_up(&walk, &arrival.cause, !ever);
        }
    }

    /// How long nothing may succeed.
    pub(super) fn patience(&self) -> Duration {
        let policy = self.retry.policy();
        if self.health.is_proven() && !self.all_exhausted() { policy.patience } else { policy.soon() }
    }

    /// Whether nothing else is left than pages that had all their attempts, of an API that did give pages.
    fn all_exhausted(&self) -> bool {
        let exhausted = |walk: &Walk| walk.tries.as_ref().is_some_and(|tries| self.retry.is_exhausted(tries));
        let alone = self.backlog.is_empty() && self.scheduler.all_tried(exhausted);
        alone && self.health.ever() && !self.health.is_down()
    }

    /// Nothing succeeded for as long as was asked to wait. If nothing else is left than pages that had all their attempts,
    /// then it is those pages; otherwise it is the API.
    pub(super) fn lose_patience(&mut self) {
        let said = self.health.trouble().map(|(_, said)| said.to_owned()).unwrap_or_default();
        if !self.all_exhausted() {
            self.stop = Some(Stop::Temporary(said));
            return;
        }
        self.hopeless = true; // also for those under way, when they have failed once more
        for walk in self.scheduler.take_parked() {
            let said = format!("page {} failed for too long, lastly: {said}", walk.next());
            self.give_up(&walk, &said, true);
        }
        self.health.forget();
    }

    /// Parks a page for its next attempt, or gives it up. `own`: it failed by itself while others came.
    fn again(&mut self, mut walk: Walk, arrival: &Arrival, own: bool) {
        let now = clock::now();
        let until = if let Some(probe_at) = self.health.probe_at() {
            // Pages take turns at probing, whatever their failures, which are not counted.
            self.notify_retry(&walk, arrival, probe_at.saturating_duration_since(now));
            now
        } else {
            let mut tries = walk.tries.take().unwrap_or_else(|| self.retry.begin());
            tries.failed += u32::from(arrival.judged.blame != Blame::Route);
            if (own || self.hopeless) && self.retry.is_exhausted(&tries) {
                let said = format!("page {} failed {} times, lastly: {}", walk.next(), tries.failed, arrival.cause);
                return self.give_up(&walk, &said, true);
            }
            let once = arrival.judged.verdict == Verdict::RetryOnce;
            let wait = if once { self.retry.later() } else { self.retry.wait(&mut tries) };
            walk.tries = Some(tries);
            self.notify_retry(&walk, arrival, wait);
            now + wait
        };
        self.counted.retries += 1;
        self.scheduler.park(walk, until);
    }

    fn notify_retry(&self, walk: &Walk, arrival: &Arrival, after: Duration) {
        let (page, cause) = (walk.next(), arrival.cause.as_str());
        self.job.monitor.event(&Event::Retrying { id: &walk.id, page, after, cause });
    }

    fn give_up(&mut self, walk: &Walk, said: &str, transient: bool) {
        self.job.monitor.event(&Event::Ended { id: &walk.id, stop: StopReason::Failed, error: Some(said) });
        let (item, stop, error) = (walk.item, StopReason::Failed, Some(said.to_owned()));
        self.group.ended.push(EndRow { item, stop, error, transient });
    }
}
