//! What the outcome of an attempt means for its walk: asked again, given up, or the end of the run.

use super::Rounds;
use crate::clock;
use crate::dispatch::Arrival;
use crate::event::Event;
use crate::ledger::EndRow;
use crate::page::{Charge, StopReason};
use crate::stop::Stop;
use crate::verdict::{StopCause, Verdict};
use crate::walk::Walk;

/// Answers in a row that are no envelopes, with never a page, that end the run.
const CONTRACT_FAILURES: u32 = 20;

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
            Verdict::RetryOnce => {
                self.contract_failures += 1;
                if self.contract_failures >= CONTRACT_FAILURES && self.last_success.is_none() {
                    self.stop = Some(Stop::Cause(StopCause::Contract, arrival.cause.clone()));
                }
                self.give_up(&walk, &arrival.cause, false);
            }
            Verdict::GiveUp => {
                self.trouble = None; // the API works: it refuses this item
                self.give_up(&walk, &arrival.cause, false);
            }
            Verdict::Stop(cause) => {
                self.stop.get_or_insert_with(|| Stop::Cause(*cause, arrival.cause.clone()));
                self.scheduler.resume(walk);
            }
        }
    }

    /// Parks a page for its next attempt, or gives it up.
    fn again(&mut self, mut walk: Walk, arrival: &Arrival) {
        let mut tries = walk.tries.take().unwrap_or_else(|| self.retry.begin());
        let wait = self.retry.wait(&mut tries);
        if self.retry.is_exhausted(&tries, self.last_success) {
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
