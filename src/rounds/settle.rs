//! What the outcome of an attempt means for its walk: asked again, given up, or the end of the run.

use super::{CONTRACT_FAILURES, Rounds};
use crate::clock;
use crate::dispatch::Arrival;
use crate::event::Event;
use crate::ledger::EndRow;
use crate::page::{Charge, StopReason};
use crate::stop::Stop;
use crate::verdict::{StopCause, Verdict};
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
                (self.last_success, self.trouble, self.contract_failures) = (Some(clock::now()), None, 0);
                self.hopeless = false;
                continue;
            }
            let Some(walk) = self.scheduler.land(arrival.request.item) else { continue };
            if judged.verdict == Verdict::Unsent {
                self.scheduler.resume(walk);
                continue;
            }
            self.trouble.get_or_insert_with(|| (clock::now(), String::new())).1.clone_from(&arrival.cause);
            self.fail(walk, arrival);
        }
    }

    fn fail(&mut self, mut walk: Walk, arrival: &Arrival) {
        match &arrival.judged.verdict {
            Verdict::Page | Verdict::Unsent => {}
            Verdict::Throttled(retry_after) => {
                (self.counted.throttled, self.counted.retries) = (self.counted.throttled + 1, self.counted.retries + 1);
                if let Some(held) = self.quota.throttled(arrival.sent, *retry_after) {
                    self.job.monitor.event(&Event::Held { wait: held.wait, rate: held.rate });
                }
                self.scheduler.resume(walk);
            }
            Verdict::Retry => self.again(walk, arrival),
            Verdict::RetryOnce if !walk.asked_again => {
                walk.asked_again = true;
                self.again(walk, arrival);
            }
            Verdict::RetryOnce => self.misfit(&walk, &arrival.cause),
            // A refusal in an envelope shows that the API works. A bare one may be another server's: a wrong path, a proxy.
            Verdict::GiveUp if arrival.judged.charge != Charge::Free => self.misfit(&walk, &arrival.cause),
            Verdict::GiveUp => {
                self.trouble = None;
                self.give_up(&walk, &arrival.cause, false);
            }
            Verdict::Stop(cause) => {
                self.stop.get_or_insert_with(|| Stop::Cause(*cause, arrival.cause.clone()));
                self.scheduler.resume(walk);
            }
        }
    }

    /// Gives up an item whose answer does not fit the endpoint; the run, if none ever did.
    fn misfit(&mut self, walk: &Walk, said: &str) {
        self.contract_failures += 1;
        if self.contract_failures >= CONTRACT_FAILURES && self.last_success.is_none() {
            self.stop.get_or_insert_with(|| Stop::Cause(StopCause::Contract, said.to_owned()));
        }
        self.give_up(walk, said, false);
    }

    /// Nothing succeeded for as long as was asked to wait. If nothing else is left than pages that had all their attempts,
    /// and the API worked before, then it is those pages; otherwise it is the API.
    pub(super) fn lose_patience(&mut self) {
        let attempts = self.retry.policy().attempts;
        let exhausted = |walk: &Walk| walk.tries.as_ref().is_some_and(|tries| tries.failed >= attempts);
        if self.short_pages.saw_a_page() && self.backlog.is_empty() && self.scheduler.all_tried(exhausted) {
            self.hopeless = true; // also for those under way, when they have failed once more
            for walk in self.scheduler.take_parked() {
                let said = self.trouble.as_ref().map(|(_, said)| said.clone()).unwrap_or_default();
                let said = format!("page {} failed for too long, lastly: {said}", walk.next());
                self.give_up(&walk, &said, true);
            }
            self.trouble = None;
        } else if let Some((_, said)) = &self.trouble {
            self.stop = Some(Stop::Temporary(said.clone()));
        }
    }

    /// Parks a page for its next attempt, or gives it up.
    fn again(&mut self, mut walk: Walk, arrival: &Arrival) {
        let mut tries = walk.tries.take().unwrap_or_else(|| self.retry.begin());
        let wait = self.retry.wait(&mut tries);
        let hopeless = self.hopeless && tries.failed >= self.retry.policy().attempts;
        if hopeless || self.retry.is_exhausted(&tries, self.last_success) {
            let said = format!("page {} failed {} times, lastly: {}", walk.next(), tries.failed, arrival.cause);
            return self.give_up(&walk, &said, true);
        }
        walk.tries = Some(tries);
        self.counted.retries += 1;
        self.job.monitor.event(&Event::Retrying {
            id: &walk.id,
            page: walk.next(),
            after: wait,
            cause: &arrival.cause,
        });
        self.scheduler.park(walk, clock::now() + wait);
    }

    fn give_up(&mut self, walk: &Walk, said: &str, transient: bool) {
        self.job.monitor.event(&Event::Ended { id: &walk.id, stop: StopReason::Failed, error: Some(said) });
        let (item, stop, error) = (walk.item, StopReason::Failed, Some(said.to_owned()));
        self.group.ended.push(EndRow { item, stop, error, transient });
    }
}
