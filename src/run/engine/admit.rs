//! Which page is requested next, and whether one may be: slots, credits, disk space, the retry budget, outages.

use tokio::time::Instant;

use super::Engine;
use crate::crawl::frontier::ProbePolicy;
use crate::crawl::judgement::inquiry::Inquiry;
use crate::crawl::lookahead::Stage;
use crate::crawl::walk::LookaheadCost;
use crate::error::Error;
use crate::model::clock;
use crate::model::page::{AttemptId, Request};
use crate::run::stop::Stop;

/// Pages of a survey for each request in flight.
const SURVEY_SLOTS: usize = 32;

enum Turn {
    /// A page that has not failed.
    Next,
    /// A page that failed and is due.
    Retry,
    /// A page ahead that shows how deep a list is.
    Probe,
    /// Any page, to see whether an outage is over.
    HealthCheck,
    /// A page behind an end: evidence, or a control request.
    Check,
    /// A page of an item that was not refused, to see whether others are.
    Others,
}

impl Engine<'_> {
    /// Which kind of page is next, if one may be requested now. Once a page has come, retries go first while the budget allows
    /// them. Otherwise they wait until there is nothing else to do; then one passes, so that a run always ends.
    fn turn(&self, now: Instant) -> Option<Turn> {
        if !self.has_slot() {
            return None;
        }
        let is_survey = self.context.survey.is_some();
        let next = if is_survey { self.frontier.has_survey_page() } else { self.frontier.has_next() };
        let due = self.frontier.due();
        let check = self.frontier.has_check().then_some(Turn::Check);
        if let Some(inquiry) = &self.refusals.inquiry {
            return check.filter(|_| inquiry.in_flight.is_none()).or_else(|| self.turn_of_inquiry(inquiry, now));
        }
        if let Some(at) = self.api_health.check_at() {
            let is_time = self.frontier.requests_in_flight() == 0 && at <= now;
            return check.or((next || due.is_some()).then_some(Turn::HealthCheck)).filter(|_| is_time);
        }
        let due = due.is_some_and(|due| due <= now);
        if check.is_some() {
            return check;
        }
        let has_probe =
            !is_survey && self.frontier.lookahead_stage(&self.probe_policy()).is_some_and(|stage| self.affords(stage));
        match (next, due) {
            // Until a page ever came, no item is requested twice before all others were requested.
            (true, _) if !self.api_health.ever_had_page() => Some(Turn::Next),
            (_, true) if self.retry.has_one() => Some(Turn::Retry),
            _ if has_probe => Some(Turn::Probe),
            (true, _) => Some(Turn::Next),
            (false, true) if self.is_idle() => Some(Turn::Retry),
            (false, _) => None,
        }
    }

    /// While it is open whether a refusal is meant for all, others are requested one at a time; where there are none, the refused
    /// ones again.
    fn turn_of_inquiry(&self, inquiry: &Inquiry, now: Instant) -> Option<Turn> {
        if inquiry.in_flight.is_some() {
            return None;
        }
        if self.frontier.has_other_items(inquiry.refused(), inquiry.may_start_items()) {
            return Some(Turn::Others);
        }
        let is_due = self.frontier.due().is_some_and(|due| due <= now);
        (is_due && self.is_idle() && self.backlog.is_empty()).then_some(Turn::Retry)
    }

    /// Whether a page could be requested now, if there is a credit for it.
    pub(super) fn has_turn(&self, now: Instant) -> bool {
        self.stop.is_none() && self.turn(now).is_some()
    }

    /// When a page is due that may not be requested now. None if nothing waits for time alone.
    pub(super) fn next_turn(&self, now: Instant) -> Option<Instant> {
        let at = match self.api_health.check_at().filter(|_| self.refusals.inquiry.is_none()) {
            Some(at) => Some(at).filter(|_| self.frontier.requests_in_flight() == 0),
            None => self.frontier.due(),
        };
        at.filter(|at| *at > now && self.has_slot())
    }

    /// Stops the run while its disks have space for the responses in flight.
    pub(super) fn check_free_space(&mut self) -> Result<(), Error> {
        if self.stop.is_none() {
            self.stop = self.dir.min_free_space.shortage()?.map(Stop::Room);
        }
        Ok(())
    }

    /// Makes intents for the most urgent pages: as many as there are slots, `places` in the dispatcher's channel, and credits.
    pub(super) fn admit(&mut self, places: usize) {
        let now = clock::now();
        for _ in 0..places {
            if self.stop.is_some() || !self.has_slot() {
                return;
            }
            if !self.can_afford() {
                self.drop_checks();
                if self.is_idle() && !self.is_done() {
                    self.stop_for(Stop::Credits);
                }
                return;
            }
            let task = match self.turn(now) {
                None => return,
                Some(Turn::Next) if self.context.survey.is_some() => self.frontier.next_survey_page(),
                Some(Turn::Next) => self.frontier.next_page(),
                Some(Turn::Check) => self.frontier.next_check(),
                Some(Turn::Others) => {
                    let Some(inquiry) = &self.refusals.inquiry else { return };
                    self.frontier.next_of_other_items(inquiry.refused(), inquiry.may_start_items())
                }
                Some(Turn::HealthCheck) => self.frontier.next_health_check(),
                Some(Turn::Probe) => {
                    let (policy, credit) = (self.probe_policy(), self.lookahead_budget.reserve());
                    self.frontier.next_lookahead(&policy, credit)
                }
                Some(Turn::Retry) => {
                    self.retry.spend();
                    self.frontier.next_retry(now)
                }
            };
            let Some(task) = task else { return };
            let attempt = AttemptId(self.newest_attempt.0 + 1);
            self.newest_attempt = attempt;
            if let Some(inquiry) = &mut self.refusals.inquiry {
                inquiry.in_flight = Some((task.item, task.page));
            }
            if self.throttled.is_exempt(task.item, task.page) || self.long_waits.has(task.item) {
                self.limiter.exempt(attempt);
            }
            self.group.intents.push(Request { attempt, item: task.item, id: task.id.clone(), page: task.page });
        }
    }

    /// What latency and rate are at present: whether look-ahead pays.
    fn probe_policy(&self) -> ProbePolicy {
        let latency = self.limiter.latency();
        let slots = u32::try_from(self.context.settings.max_in_flight).map_or(f64::INFINITY, f64::from);
        let most = slots / latency.as_secs_f64();
        let rate = self.limiter.rate().map_or(most, |rate| rate.min(most));
        ProbePolicy { latency, rate, min_saving: self.context.settings.lookahead_saves }
    }

    /// Whether the budget allows a page ahead that may be wasted.
    fn affords(&self, stage: Stage) -> bool {
        let LookaheadCost { in_vain, in_doubt } = self.frontier.lookahead_cost();
        self.lookahead_budget.can_reserve(in_vain.saturating_add(in_doubt), stage == Stage::Confirm)
    }

    /// Whether one more request stays within `max_credits`, if everything in flight is billed.
    pub(super) fn can_afford(&self) -> bool {
        let in_flight = u64::try_from(self.frontier.requests_in_flight()).unwrap_or(u64::MAX);
        let reserved = self.spent.saturating_add(in_flight);
        self.context.settings.max_credits.is_none_or(|most| reserved < most)
    }

    /// Credits that `max_credits` leaves.
    pub(super) fn credits_left(&self) -> u64 {
        self.context.settings.max_credits.map_or(u64::MAX, |most| most.saturating_sub(self.spent))
    }

    /// Whether no request is in flight and no page waits to be applied.
    pub(super) fn is_idle(&self) -> bool {
        !self.frontier.has_in_flight()
    }

    fn has_slot(&self) -> bool {
        let most = match self.context.survey {
            _ if !self.api_health.has_served() => 1,
            // Lists that are begun when its credits are spent show little: a few at a time.
            Some(pages) => self.context.settings.max_in_flight.min(1 + pages / SURVEY_SLOTS),
            None => self.context.settings.max_in_flight,
        };
        self.frontier.requests_in_flight() < most && !self.is_segment_full()
    }
}
