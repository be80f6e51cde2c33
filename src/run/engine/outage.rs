//! What the failures of all pages say together: whether the API is down, and whether for good.
//!
//! Five items that fail in a row are an outage: then one request at a time checks the API, at growing intervals, until one
//! succeeds. Twenty items in a row with the same response end the run, and so does any response other than a page before any
//! page arrived. A page that failed before while others arrived says nothing here, unless the API cannot be reached. Until something
//! has succeeded, a run requests one page at a time: a wrong key costs one request.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use crate::crawl::frontier::PageTask;
use crate::crawl::retry::{Retry, RetryState};
use crate::fetch::classify::Failure;
use crate::fetch::dispatcher::FetchOutcome;
use crate::fetch::explain;
use crate::model::clock;
use crate::model::page::ItemIx;
use crate::run::stop::Stop;

/// Items that fail in a row and make an outage.
const OUTAGE: usize = 5;
/// Items in a row with the same response that end the run.
const SAME: usize = 20;

/// The state of the API, from the outcomes so far.
#[derive(Debug)]
pub(super) struct OutageDetector {
    /// Whether a page ever came, in this run or an earlier one.
    ever_had_page: bool,
    /// Whether the API served something in this run.
    has_served: bool,
    streak: Option<FailureStreak>,
}

/// What happened since the last success.
#[derive(Debug)]
struct FailureStreak {
    since: Instant,
    message: String,
    /// When the server last requested a wait, and until when it lasts.
    requested_wait: Option<(Instant, Instant)>,
    items: BTreeSet<ItemIx>,
    /// Requests that did not reach the API, and 429s that started a cooldown.
    unreached: usize,
    /// The last response without what differs from item to item, and who got it.
    response: String,
    same: BTreeSet<ItemIx>,
    outage: Option<Outage>,
}

#[derive(Debug)]
struct Outage {
    tries: RetryState,
    check_at: Instant,
}

impl OutageDetector {
    /// The state at the start of a run. `ever_had_page`: an earlier run got a page.
    pub(super) fn new(ever_had_page: bool) -> Self {
        Self { ever_had_page, has_served: false, streak: None }
    }

    /// Whether a page ever came, in this run or an earlier one.
    pub(super) fn ever_had_page(&self) -> bool {
        self.ever_had_page
    }

    pub(super) fn has_served(&self) -> bool {
        self.has_served
    }

    pub(super) fn is_down(&self) -> bool {
        self.check_at().is_some()
    }

    /// When the next check may leave, if there is an outage.
    pub(super) fn check_at(&self) -> Option<Instant> {
        self.streak.as_ref().and_then(|streak| streak.outage.as_ref()).map(|outage| outage.check_at)
    }

    /// When nothing will have succeeded for `max_outage`, if anything failed since the last success. Where the server requested a
    /// wait in that time, a request after it has `timeout` more.
    pub(super) fn lasts_until(&self, max_outage: Duration, timeout: Duration) -> Option<Instant> {
        let streak = self.streak.as_ref()?;
        let end = streak.since + max_outage;
        let kept_waiting = streak.requested_wait.filter(|(at, _)| *at <= end);
        Some(kept_waiting.map_or(end, |(_, until)| end.max(until + timeout)))
    }

    /// The last message, if anything failed since the last success.
    pub(super) fn message(&self) -> &str {
        self.streak.as_ref().map_or("", |streak| streak.message.as_str())
    }

    /// Whether a page's failures are its own: others were served since, in this run or an earlier one.
    pub(super) fn is_own(task: &PageTask) -> bool {
        task.faults.proven > 0 || task.faults.gave_up_before
    }

    pub(super) fn note_page(&mut self) {
        self.ever_had_page = true;
        self.note_service();
    }

    /// Notes that the API works: it returned a page, or refused an item in its own form after it had returned pages.
    pub(super) fn note_service(&mut self) {
        self.has_served = true;
        self.streak = None;
    }

    /// Notes a failure. `own`: it is the page's own; `started_cooldown`: it started a cooldown. Returns a reason to stop, if it is one.
    pub(super) fn note_failure(
        &mut self,
        failure: Failure,
        outcome: &FetchOutcome,
        (own, started_cooldown): (bool, bool),
        retry: &mut Retry,
    ) -> Option<Stop> {
        let now = clock::now();
        let streak = self.streak.get_or_insert_with(|| FailureStreak::new(now));
        streak.message.clone_from(&outcome.message);
        let requested_wait = outcome.retry_after();
        if !requested_wait.is_zero() {
            streak.requested_wait =
                Some((now, streak.requested_wait.map_or(now, |(_, until)| until).max(now + requested_wait)));
        }
        if streak.outage.as_ref().is_some_and(|outage| outcome.sent < outage.check_at) {
            return None; // it left before the outage
        }
        let item = outcome.request.item;
        let is_for_item = matches!(failure, Failure::NoSuchPage | Failure::EndOfList);
        // An unusual response shows that the API is up.
        let is_there = failure == Failure::OtherRefusal && self.ever_had_page;
        if failure == Failure::NoConnection {
            streak.unreached += 1;
        } else if matches!(failure, Failure::Throttled(_)) {
            streak.unreached += usize::from(started_cooldown);
        } else if !is_there && !own && !is_for_item {
            streak.items.insert(item);
        }
        let is_code = matches!(failure, Failure::UnknownCode { .. });
        let may_follow_the_list = outcome.classification.is_permanent && !is_for_item && !is_code;
        let is_gateway = |status: u16| (502..=504).contains(&status); // these say that the failure is temporary
        let is_page_less = outcome.response.as_ref().is_some_and(|response| !is_gateway(response.status));
        let is_no_page = may_follow_the_list || is_page_less && !matches!(failure, Failure::Throttled(_));
        let is_answer = !own && if self.ever_had_page { may_follow_the_list } else { is_no_page };
        // Before any page arrived every other response says the same: the request is wrong.
        let response =
            if self.ever_had_page { without_numbers(explain::kind(&outcome.message)) } else { String::new() };
        let is_new = is_answer && streak.got_response(response, item);
        // Then the next item is requested soon, until all were.
        streak.schedule_check(is_new && !self.ever_had_page, requested_wait, retry, now);
        let items = streak.same.len();
        (is_new && items >= SAME).then(|| self.refused(items, &outcome.message))
    }

    /// The reason to stop when `items` got this message.
    pub(super) fn refused(&self, items: usize, message: &str) -> Stop {
        if self.ever_had_page { Stop::Same(message.to_owned()) } else { Stop::NoPage(items, message.to_owned()) }
    }
}

impl FailureStreak {
    fn new(since: Instant) -> Self {
        Self {
            since,
            message: String::new(),
            requested_wait: None,
            items: BTreeSet::new(),
            unreached: 0,
            response: String::new(),
            same: BTreeSet::new(),
            outage: None,
        }
    }

    /// Notes who got a response. Returns true if the item had not got it before.
    fn got_response(&mut self, response: String, item: ItemIx) -> bool {
        if response != self.response {
            (self.response, self.same) = (response, BTreeSet::new());
        }
        self.same.insert(item)
    }

    /// Starts an outage, or schedules its next check after a failed one.
    fn schedule_check(&mut self, soon: bool, requested_wait: Duration, retry: &mut Retry, now: Instant) {
        let down = self.items.len() >= OUTAGE || self.unreached >= OUTAGE;
        let outage = match &mut self.outage {
            Some(outage) => outage,
            None if down => self.outage.insert(Outage { tries: retry.new_state(), check_at: now }),
            None => return,
        };
        if soon {
            outage.tries = retry.new_state();
        }
        outage.check_at = now + retry.wait(&mut outage.tries).max(requested_wait);
    }
}

/// A message with each word that has a digit replaced: ids and numbers differ from item to item.
pub(super) fn without_numbers(response: &str) -> String {
    let (head, message) = response.split_once(": ").unwrap_or(("", response));
    let words = message.split(|c: char| !c.is_alphanumeric());
    let words = words.map(|word| if word.contains(|c: char| c.is_ascii_digit()) { "#" } else { word });
    format!("{head}: {}", words.collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::without_numbers;

    #[test]
    fn answers_differ_by_status_code_and_words_but_not_by_ids_and_numbers() {
        let one = without_numbers("HTTP 500, code 500: no shard 17 for product 1729a-b7 (trace 00ff)");
        assert_eq!(one, without_numbers("HTTP 500, code 500: no shard 4 for product 88-b9 (trace 9)"));
        for other in ["HTTP 500, code 501: no shard 17 for product 1729a-b7 (trace 00ff)", "HTTP 500, code 500: broken"]
        {
            assert_ne!(one, without_numbers(other), "{other}");
        }
    }
}
