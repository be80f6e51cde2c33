//! Which page is asked for next, and whether any may be: slots, credits, room on the disk, the retry budget, outages.

use tokio::time::Instant;

use super::Engine;
use crate::crawl::frontier::Worth;
use crate::crawl::judgement::{Question, RefusalScope};
use crate::crawl::lookahead::Stage;
use crate::crawl::walk::Ahead;
use crate::error::Error;
use crate::model::clock;
use crate::model::page::{AttemptId, Request};
use crate::run::stop::Stop;

/// Whose turn it is.
enum Turn {
    /// A page that did not fail.
    Next,
    /// One that failed and is due.
    Retry,
    /// One ahead, to find out how deep a list is.
    Scout,
    /// Whichever, to see whether an outage is over.
    Probe,
    /// One that shows whether a list goes on behind its end, or whether the API serves.
    Check,
    /// One of an item that was not refused, to see whether others are.
    Others,
}

impl Engine<'_> {
    /// Whose turn it is, if a page may be asked for now. Once a page has come, pages that failed go first while the budget has
    /// retries for them, and otherwise wait for the moment when there is nothing else to do: then one passes, so that a run
    /// always ends.
    fn turn(&self, now: Instant) -> Option<Turn> {
        if !self.has_slot() {
            return None;
        }
        let (next, due) = (self.scheduler.has_next(), self.scheduler.due());
        let check = self.scheduler.has_check().then_some(Turn::Check);
        if let Some(question) = &self.question {
            return check.filter(|_| question.asked.is_none()).or_else(|| self.turn_of_question(question, now));
        }
        if let Some(at) = self.health.probe_at() {
            let is_time = self.in_flight == 0 && at <= now;
            return check.or((next || due.is_some()).then_some(Turn::Probe)).filter(|_| is_time);
        }
        let due = due.is_some_and(|due| due <= now);
        if check.is_some() {
            return check;
        }
        let has_scout = self.scheduler.probe(&self.worth()).is_some_and(|stage| self.affords(stage));
        match (next, due) {
            // Before any page came, no item is asked for twice before all others were asked for.
            (true, _) if !self.health.ever() => Some(Turn::Next),
            (_, true) if self.retry.has_one() => Some(Turn::Retry),
            _ if has_scout => Some(Turn::Scout),
            (true, _) => Some(Turn::Next),
            (false, true) if self.at_rest() => Some(Turn::Retry),
            (false, _) => None,
        }
    }

    /// While it is not known whether a refusal is for all, others are asked, one at a time; where there are none, those that were
    /// refused once more.
    fn turn_of_question(&self, question: &Question, now: Instant) -> Option<Turn> {
        if question.asked.is_some() {
            return None;
        }
        if self.scheduler.has_others(question.refused(), question.refusal != RefusalScope::SamePage) {
            return Some(Turn::Others);
        }
        let is_due = self.scheduler.due().is_some_and(|due| due <= now);
        (is_due && self.at_rest() && self.backlog.is_empty()).then_some(Turn::Retry)
    }

    /// Whether a page could be asked for now, if there is a credit for it.
    pub(super) fn has_turn(&self, now: Instant) -> bool {
        self.stop.is_none() && self.turn(now).is_some()
    }

    /// When a page may be asked for that may not now; none if that waits for something else than time.
    pub(super) fn next_turn(&self, now: Instant) -> Option<Instant> {
        let at = match self.health.probe_at().filter(|_| self.question.is_none()) {
            Some(at) => Some(at).filter(|_| self.in_flight == 0),
            None => self.scheduler.due(),
        };
        at.filter(|at| *at > now && self.has_slot())
    }

    /// Stops the run while its disks still have room for the answers under way.
    pub(super) fn keep_room(&mut self) -> Result<(), Error> {
        if self.stop.is_none() {
            self.stop = self.export_dir.min_free_space.shortage()?.map(Stop::Room);
        }
        Ok(())
    }

    /// Makes intents for the most urgent pages: as many as there are slots, places before the quota, and credits.
    pub(super) fn admit(&mut self, places: usize) {
        let now = clock::now();
        for _ in 0..places {
            if self.stop.is_some() || !self.has_slot() {
                return;
            }
            if !self.can_afford() {
                self.drop_checks();
                if self.at_rest() && !self.is_done() {
                    self.stop = Some(Stop::Credits);
                }
                return;
            }
            let wanted = match self.turn(now) {
                None => return,
                Some(Turn::Next) => self.scheduler.next_page(),
                Some(Turn::Check) => self.scheduler.next_check(),
                Some(Turn::Others) => {
                    let Some(question) = &self.question else { return };
                    self.scheduler.next_of_others(question.refused(), question.refusal != RefusalScope::SamePage)
                }
                Some(Turn::Probe) => self.scheduler.next_probe(),
                Some(Turn::Scout) => {
                    self.waste.risk();
                    let worth = self.worth();
                    self.scheduler.next_scout(&worth)
                }
                Some(Turn::Retry) => {
                    self.retry.spend();
                    self.scheduler.next_retry(now)
                }
            };
            let Some(wanted) = wanted else { return };
            self.last_attempt += 1;
            self.in_flight += 1;
            let attempt = AttemptId(self.last_attempt);
            if let Some(question) = &mut self.question {
                question.asked = Some((wanted.item, wanted.page));
            }
            if self.throttled.is_excused(wanted.item, wanted.page) || self.long_waits.contains(&wanted.item) {
                self.quota.excuse(attempt);
            }
            self.group.intents.push(Request { attempt, item: wanted.item, id: wanted.id.clone(), page: wanted.page });
        }
    }

    /// What time costs at present.
    fn worth(&self) -> Worth {
        let latency = self.quota.latency();
        let slots = u32::try_from(self.context.settings.max_in_flight).map_or(f64::INFINITY, f64::from);
        let most = slots / latency.as_secs_f64();
        let rate = self.quota.rate().map_or(most, |rate| rate.min(most));
        Worth { latency, rate, saves: self.context.settings.lookahead_saves }
    }

    /// Whether a page ahead may be asked for at the risk that it is wasted.
    fn affords(&self, stage: Stage) -> bool {
        let Ahead { in_vain, in_doubt } = self.scheduler.ahead();
        self.waste.affords_one(in_vain.saturating_add(in_doubt), stage == Stage::Confirm)
    }

    /// Whether one more request stays within the asked limit, if everything under way is billed.
    pub(super) fn can_afford(&self) -> bool {
        let reserved = self.spent.saturating_add(u64::try_from(self.in_flight).unwrap_or(u64::MAX));
        self.context.settings.max_credits.is_none_or(|most| reserved < most)
    }

    /// Whether nothing is under way: no request, and no page that is still to be read.
    pub(super) fn at_rest(&self) -> bool {
        self.in_flight == 0 && !self.scheduler.is_flying()
    }

    fn has_slot(&self) -> bool {
        let most = if self.health.is_proven() { self.context.settings.max_in_flight } else { 1 };
        self.in_flight < most && !self.is_segment_full()
    }
}
