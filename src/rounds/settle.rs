//! What the outcome of an attempt means for its walk: asked again, given up, or the end of the run.

use std::time::Duration;

use super::{Refused, Rounds};
use crate::clock;
use crate::dispatch::Arrival;
use crate::event::Event;
use crate::ledger::EndRow;
use crate::page::{Charge, ItemIx, StopReason};
use crate::scheduler::Wanted;
use crate::stop::Stop;
use crate::verdict::{Blame, Verdict};

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
                self.give_up_refused();
                continue;
            }
            let item = arrival.request.item;
            let Some(wanted) = self.scheduler.land(item, arrival.request.page) else { continue };
            match &judged.verdict {
                Verdict::Page | Verdict::Unsent => self.scheduler.resume(wanted),
                // What is said of a page that may not even exist is no reason to stop for those that do.
                Verdict::Stop(_) if self.health.is_proven() && !self.scheduler.needs(&wanted) => {
                    self.lose(&wanted, true, judged.charge);
                }
                Verdict::Stop(cause) => {
                    self.stop.get_or_insert_with(|| Stop::Cause(*cause, arrival.cause.clone()));
                    self.scheduler.resume(wanted);
                }
                // Answers that a stopping run does not wait for are nobody's failures.
                Verdict::Retry | Verdict::RetryOnce if self.stop.is_some() => self.scheduler.resume(wanted),
                Verdict::GiveUp if self.health.ever() => {
                    self.recover();
                    self.health.works();
                    self.give_up_refused();
                    self.refuse(wanted, arrival, false);
                }
                Verdict::Throttled(_) | Verdict::Retry | Verdict::RetryOnce | Verdict::GiveUp => {
                    self.fail(wanted, arrival);
                }
            }
            self.end(item);
        }
    }

    /// Gives up the items that may not be asked for again: others come, so it was they.
    fn give_up_refused(&mut self) {
        for Refused { wanted, said, transient } in std::mem::take(&mut self.refused) {
            self.give_up(&wanted, &said, transient);
        }
    }

    /// Everything that may still be asked for was. What is left was refused: item by item, or by an API that answers
    /// nobody in its own form.
    pub(super) fn settle_refused(&mut self) {
        let unheard = self.health.is_down() || !self.health.ever();
        match self.refused.iter().find(|refused| unheard && refused.transient) {
            Some(refused) => self.stop = Some(self.health.refused(self.refused.len(), &refused.said)),
            None => self.give_up_refused(),
        }
    }

    /// Ends an outage, if there is one: what failed in it was not its pages' fault.
    fn recover(&mut self) {
        if self.health.is_down() {
            let health = &self.health;
            self.scheduler.pardon(|wanted| !health.is_own(wanted));
            self.job.monitor.event(&Event::Recovered);
        }
    }

    fn fail(&mut self, mut wanted: Wanted, arrival: &Arrival) {
        let (own, was_down) = (self.health.is_own(&wanted), self.health.is_down());
        let held = self.hold(arrival);
        let stop = self.health.failed(arrival, own, held, &mut self.retry);
        self.stop = self.stop.take().or(stop);
        if self.health.is_down() && !was_down {
            self.recall = true;
            self.job.monitor.event(&Event::Outage { cause: &arrival.cause });
        }
        // What may have been billed is not paid for again only to find out how deep a list is.
        let in_doubt = arrival.judged.charge != Charge::Free;
        match &arrival.judged.verdict {
            Verdict::Page | Verdict::Unsent | Verdict::Stop(_) => {}
            Verdict::Throttled(_) => self.scheduler.resume(wanted),
            Verdict::Retry | Verdict::RetryOnce if in_doubt && !self.scheduler.needs(&wanted) => {
                self.lose(&wanted, false, arrival.judged.charge);
            }
            Verdict::Retry => self.again(wanted, arrival, own),
            Verdict::RetryOnce if !wanted.asked_again => {
                wanted.asked_again = true;
                self.again(wanted, arrival, own);
            }
            // A third request is out of the question. While nothing else is answered either, it may not be the item.
            Verdict::RetryOnce => self.refuse(wanted, arrival, arrival.judged.blame == Blame::Answer),
            Verdict::GiveUp => self.refuse(wanted, arrival, false),
        }
    }

    /// Takes note of a 429. True: it made everyone wait, and was not one of a burst that was answered to before.
    fn hold(&mut self, arrival: &Arrival) -> bool {
        if !matches!(arrival.judged.verdict, Verdict::Throttled(_)) {
            return false;
        }
        (self.counted.throttled, self.counted.retries) = (self.counted.throttled + 1, self.counted.retries + 1);
        if let Some(held) = arrival.held {
            self.job.monitor.event(&Event::Held { wait: held.wait, rate: held.rate });
        }
        arrival.held.is_some()
    }

    /// Gives up an item for good. Before any page came the question may be wrong instead, and in an outage it may be the
    /// API, if it may answer so to anyone: then the item waits for what others get, and stays open if the run ends.
    fn refuse(&mut self, wanted: Wanted, arrival: &Arrival, to_anyone: bool) {
        if !self.scheduler.needs(&wanted) {
            self.lose(&wanted, true, arrival.judged.charge);
        } else if (to_anyone && self.health.is_down() || !self.health.ever())
            && self.scheduler.set_aside(wanted.item, wanted.page)
        {
            self.refused.push(Refused { wanted, said: arrival.cause.clone(), transient: to_anyone });
        } else {
            self.give_up(&wanted, &arrival.cause, false);
        }
    }

    /// Does without a page ahead that its walk may not even have.
    fn lose(&mut self, wanted: &Wanted, is_refused: bool, charge: Charge) {
        let in_doubt = charge != Charge::Free;
        if wanted.is_scout {
            self.waste.settle(in_doubt);
        }
        self.scheduler.lose(wanted, is_refused, in_doubt);
    }

    /// How long nothing may succeed.
    pub(super) fn patience(&self) -> Duration {
        let policy = self.retry.policy();
        if self.health.is_proven() && !self.all_exhausted() { policy.patience } else { policy.soon() }
    }

    /// Whether nothing else is left than pages that had all their attempts, of an API that did give pages.
    fn all_exhausted(&self) -> bool {
        let exhausted = |wanted: &Wanted| wanted.tries.as_ref().is_some_and(|tries| self.retry.is_exhausted(tries));
        let alone = self.backlog.is_empty() && self.scheduler.all_tried(exhausted);
        alone && self.health.ever() && !self.health.is_down()
    }

    /// Nothing succeeded for as long as was asked to wait. If nothing else is left than pages that had all their attempts,
    /// then it is those pages; otherwise it is the API.
    pub(super) fn lose_patience(&mut self) {
        let said = self.health.said().to_owned();
        if !self.all_exhausted() {
            self.stop = Some(Stop::Temporary(said));
            return;
        }
        self.hopeless = true; // also for those under way, when they have failed once more
        for wanted in self.scheduler.take_parked() {
            let said = format!("page {} failed for too long, lastly: {said}", wanted.page);
            self.give_up(&wanted, &said, true);
        }
        self.health.forget();
    }

    /// Parks a page for its next attempt, or gives it up. `own`: it failed by itself while others came.
    fn again(&mut self, mut wanted: Wanted, arrival: &Arrival, own: bool) {
        let now = clock::now();
        let until = if let Some(probe_at) = self.health.probe_at() {
            // Pages take turns at probing, whatever their failures, which are not counted.
            self.notify_retry(&wanted, arrival, probe_at.saturating_duration_since(now));
            now
        } else {
            let mut tries = wanted.tries.take().unwrap_or_else(|| self.retry.begin());
            tries.failed += u32::from(arrival.judged.blame != Blame::Route);
            if (own || self.hopeless) && self.retry.is_exhausted(&tries) {
                let said = format!("page {} failed {} times, lastly: {}", wanted.page, tries.failed, arrival.cause);
                return self.give_up(&wanted, &said, true);
            }
            let once = arrival.judged.verdict == Verdict::RetryOnce;
            let wait = if once { self.retry.later() } else { self.retry.wait(&mut tries) }.max(arrival.wish());
            wanted.tries = Some(tries);
            self.notify_retry(&wanted, arrival, wait);
            now + wait
        };
        self.counted.retries += 1;
        self.scheduler.park(wanted, until);
    }

    fn notify_retry(&self, wanted: &Wanted, arrival: &Arrival, after: Duration) {
        let (page, cause) = (wanted.page, arrival.cause.as_str());
        self.job.monitor.event(&Event::Retrying { id: &wanted.id, page, after, cause });
    }

    /// Ends the walk of a page that will not come, behind the pages before it; if it is not needed, the walk goes on without.
    fn give_up(&mut self, wanted: &Wanted, said: &str, transient: bool) {
        if !self.scheduler.needs(wanted) {
            return self.lose(wanted, false, Charge::Free);
        }
        if wanted.is_scout {
            self.waste.settle(false); // it had come to be needed
        }
        let (item, stop, error) = (wanted.item, StopReason::Failed, Some(said.to_owned()));
        self.scheduler.close(EndRow { item, stop, error, transient }, wanted.page);
        self.end(item);
    }

    /// Writes down the end of a walk, if it has come to one and nothing of it is under way.
    pub(super) fn end(&mut self, item: ItemIx) {
        let ended = self.scheduler.settle(item);
        (0..self.scheduler.take_dropped()).for_each(|_| self.waste.settle(false));
        self.counted.wasted = u64::from(self.waste.lost()) + u64::from(self.scheduler.ahead().in_vain);
        let Some((walk, end)) = ended else { return };
        self.job.monitor.event(&Event::Ended { id: &walk.id, stop: end.stop, error: end.error.as_deref() });
        self.group.ended.push(end);
        if let Some(rows) = walk.end().and_then(|end| self.short_pages.ended(end, &self.rules)) {
            self.stop.get_or_insert(Stop::ShortPages(rows));
        }
    }
}
