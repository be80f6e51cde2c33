//! The engine: one loop that takes outcomes, admits pages, commits the group and applies the new pages.
//!
//! A tick takes what arrived while the last group was written, so nothing waits for a timer. All state of a run is here, owned by
//! one thread, and needs no lock. `outcomes` is the one way in; `failures`, `walk_ends`, `end_rule` and `empty_lists` say what follows;
//! `admit` chooses, `apply` takes rows, `last_failures` and `stopping` end a run.

mod admit;
mod apply;
mod controls;
mod empty_lists;
mod end_rule;
mod failures;
mod last_failures;
mod long_waits;
mod outage;
mod outcomes;
mod refusals;
mod stopping;
mod walk_ends;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::crawl::backlog::Backlog;
use crate::crawl::end_of_list::PagingRules;
use crate::crawl::frontier::Frontier;
use crate::crawl::judgement::end_evidence::Evidence;
use crate::crawl::judgement::last_served::LastServed;
use crate::crawl::judgement::throttled_pages::ThrottledPages;
use crate::crawl::lookahead::budget::LookaheadBudget;
use crate::crawl::retry::Retry;
use crate::decode::{Decoded, Decoder};
use crate::error::{Error, ExitCode};
use crate::fetch::dispatcher::{DispatchMode, FetchOutcome};
use crate::fetch::rate_limit::RateLimiter;
use crate::model::clock;
use crate::model::event::Event;
use crate::model::page::{AttemptId, ItemIx, Request};
use crate::output::export_dir::ExportDir;
use crate::output::writer::WriterCommand;
use crate::report::run_stats::RunStats;
use crate::run::apply_pages;
use crate::run::context::RunContext;
use crate::run::group_commit::GroupCommitter;
use crate::run::stop::Stop;
use crate::run::time_limit::TimeLimit;
use crate::state::ledger::Group;
use apply::UsableRows;
use controls::Controls;
use empty_lists::EmptyListDetector;
pub(crate) use empty_lists::seems_empty;
use long_waits::LongWaits;
use outage::OutageDetector;
use refusals::Refusals;

/// Row keys that open walks may have in memory: 32 MiB, more than one walk of a million rows.
const KEYS: usize = 1 << 20;

/// The engine's ends of the channels to the dispatcher and the writer.
#[derive(Debug)]
pub(crate) struct Channels {
    /// To the dispatcher. Its bound is how many intents may wait for the rate limiter.
    pub to_dispatch: mpsc::Sender<Request>,
    pub outcomes: mpsc::Receiver<FetchOutcome>,
    pub writer: mpsc::Sender<WriterCommand>,
    /// What the dispatcher does with requests that have not left.
    pub mode: watch::Sender<DispatchMode>,
}

#[derive(Debug)]
pub(crate) struct Engine<'a> {
    context: &'a RunContext,
    dir: Arc<ExportDir>,
    rules: PagingRules,
    /// None while it commits a group.
    committer: Option<GroupCommitter>,
    decoder: Decoder,
    /// What the next commit writes beside the outcomes.
    group: Group,
    newest_attempt: AttemptId,
    /// Credits billed or in doubt.
    spent: u64,

    // Which page next.
    backlog: Backlog,
    frontier: Frontier,
    lookahead_budget: LookaheadBudget,
    retry: Retry,
    limiter: Arc<RateLimiter>,

    // What the responses show about the API.
    evidence: Evidence,
    empty_lists: EmptyListDetector,
    usable_rows: UsableRows,
    api_health: OutageDetector,
    refusals: Refusals,
    throttled: ThrottledPages,
    long_waits: LongWaits,
    controls: Controls,
    /// Items that were served last.
    last_served: LastServed,
    /// Items whose pages arrived last: a refusal in the API's own form says nothing about the account.
    last_page: LastServed,

    // How the run ends.
    stop: Option<Stop>,
    has_signal: bool,
    /// The newest attempt before an outage or an inquiry started, while older requests are in flight.
    draining: Option<AttemptId>,
    stats: RunStats,
    first_request: Option<Instant>,
    shown_rate: Option<f64>,
    /// Credits spent on evidence and ahead, as they were last shown.
    shown_overhead: (u64, u64),
}

impl<'a> Engine<'a> {
    /// The state at the start of a run, from the ledger.
    pub(crate) fn new(
        context: &'a RunContext,
        dir: Arc<ExportDir>,
        (committer, decoder): (GroupCommitter, Decoder),
        retry: Retry,
        limiter: Arc<RateLimiter>,
    ) -> Result<Self, Error> {
        let ledger = dir.ledger();
        let rules = context.rules(ledger.end_rule()?.as_deref());
        let full = end_rule::full_rows(&rules);
        let (credits, totals, newest_attempt) = (ledger.credits()?, ledger.totals()?, ledger.last_attempt()?);
        let (short, reread) = (ledger.short_evidence(full)?, ledger.pages_read_again(rules.first)?);
        // Its short page may be on the way for the second time.
        let continued = short.lists.max(ledger.continued_item(full)?.is_some().into());
        let empty_lists = EmptyListDetector::new(ledger.empty_lists(rules.first)?, ledger.has_empty_list()?);
        let backlog = match context.survey {
            Some(pages) => Backlog::new_survey(ledger.survey_order(&dir.export.id, pages)?),
            None => Backlog::default(),
        };
        drop(ledger);
        Ok(Self {
            context,
            dir,
            rules,
            committer: Some(committer),
            decoder,
            group: Group::default(),
            newest_attempt,
            spent: credits.billed + credits.in_doubt,
            backlog,
            frontier: Frontier::new(rules, context.settings.max_in_flight),
            lookahead_budget: LookaheadBudget::new(context.settings.lookahead),
            retry,
            limiter,
            evidence: Evidence::new(totals.items, credits.billed, short.in_vain + reread, continued),
            empty_lists,
            usable_rows: UsableRows::new(totals.kept > 0),
            api_health: OutageDetector::new(credits.billed > 0),
            refusals: Refusals::default(),
            throttled: ThrottledPages::default(),
            long_waits: LongWaits::default(),
            controls: Controls::default(),
            last_served: LastServed::default(),
            last_page: LastServed::default(),
            stop: None,
            has_signal: false,
            draining: None,
            stats: RunStats::default(),
            first_request: None,
            shown_rate: context.qps.per_second(),
            shown_overhead: (0, 0),
        })
    }

    /// Ticks until there is nothing to do or a reason to stop, and no request is in flight.
    pub(crate) async fn run(
        mut self,
        mut channels: Channels,
        stopped: impl Future<Output = ExitCode>,
    ) -> (Result<Option<Stop>, Error>, RunStats) {
        let mut stopped = std::pin::pin!(stopped);
        self.stop_if_lists_are_empty();
        if let Err(error) = self.check_unpaid() {
            channels.mode.send_replace(DispatchMode::Halt);
            return (Err(error), self.stats);
        }
        let ended = loop {
            match self.tick(&mut channels, stopped.as_mut()).await {
                Ok(true) => {}
                Ok(false) => {
                    self.warn_of_empty_lists();
                    break Ok(self.stop.take());
                }
                Err(error) => {
                    channels.mode.send_replace(DispatchMode::Halt);
                    break Err(error);
                }
            }
        };
        self.show_load();
        self.stats.evidence = self.evidence.spent();
        self.stats.seconds =
            self.first_request.map_or(0.0, |first_request| (clock::now() - first_request).as_secs_f64());
        (ended, self.stats)
    }

    /// Returns false when the run is over.
    async fn tick(
        &mut self,
        channels: &mut Channels,
        stopped: Pin<&mut impl Future<Output = ExitCode>>,
    ) -> Result<bool, Error> {
        self.publish_full_segment(channels).await?;
        self.update_end_rule().await?;
        self.recheck_rows().await?;
        let mut outcomes = self.wait(channels, stopped).await;
        self.stop_if_time_is_over();
        self.take_outcomes(&mut outcomes);
        if self.stop.is_none() {
            let may_follow_the_list = self.may_follow_the_list();
            let ended: Vec<ItemIx> = self.group.ended.iter().map(|end| end.item).collect();
            let over = self.backlog.refill(
                &mut self.frontier,
                &self.dir.ledger(),
                &self.rules,
                (may_follow_the_list, &ended),
            )?;
            for item in over {
                self.end_if_over(item);
            }
        }
        self.set_dispatch_mode(&channels.mode);
        self.check_free_space()?;
        self.resolve_failures()?;
        self.admit(channels.to_dispatch.capacity());
        if self.stop.is_none() && self.is_done() {
            self.resolve_deferred()?;
            // Evidence needs ends that the ledger knows.
            if self.is_done() && self.group.is_empty() && outcomes.is_empty() {
                self.check_likeliest_ends().await?;
            }
        }
        self.stop_if_surveyed(outcomes.is_empty());
        self.set_dispatch_mode(&channels.mode);
        if outcomes.is_empty() && self.group.is_empty() {
            return Ok(!self.is_over());
        }
        self.show_load();
        let intents = self.group.intents.clone();
        let decoded = self.commit(outcomes).await?;
        if let Some(decoded) = decoded {
            self.apply(decoded, channels).await?;
        }
        for request in intents {
            self.first_request.get_or_insert_with(clock::now);
            // The dispatcher ends early only by a panic; `crawl` reports it.
            let (item, page) = (request.item, request.page);
            if channels.to_dispatch.send(request).await.is_err() {
                self.frontier.note_outcome(item, page);
            }
        }
        Ok(true)
    }

    /// The rate, what was spent on other things than rows, and what is in flight.
    fn show_load(&mut self) {
        if let Some(rate) = self.limiter.rate().filter(|rate| Some(*rate) != self.shown_rate) {
            self.shown_rate = Some(rate);
            self.context.events.event(&Event::Rate(rate));
        }
        let (evidence, ahead) = (self.evidence.spent(), self.stats.wasted);
        if (evidence, ahead) != self.shown_overhead {
            self.shown_overhead = (evidence, ahead);
            self.context.events.event(&Event::Overhead { evidence, ahead });
        }
        let journal = self.committer.as_ref().map_or(0, GroupCommitter::journaled);
        self.context.events.event(&Event::Ticked { in_flight: self.frontier.requests_in_flight(), journal });
    }

    /// Waits until there is something to do, and returns what arrived.
    async fn wait(
        &mut self,
        channels: &mut Channels,
        stopped: Pin<&mut impl Future<Output = ExitCode>>,
    ) -> Vec<FetchOutcome> {
        let mut outcomes = Vec::new();
        let most = self.context.settings.max_in_flight;
        let now = clock::now();
        let can_request = self.has_turn(now);
        let is_idle =
            self.is_idle() && (self.stop.is_some() || self.frontier.is_done() || can_request && !self.can_afford());
        let is_busy = is_idle || !self.group.is_empty();
        let can_request = can_request && self.can_afford();
        let outage_limit = self.api_health.lasts_until(self.max_outage(), self.context.settings.request_timeout);
        let next = self.next_turn(now).into_iter().chain(outage_limit).min().filter(|_| self.stop.is_none());
        if self.frontier.requests_in_flight() == 0 && !is_busy && !can_request && next.is_none() && self.stop.is_none()
        {
            self.stop_if_surveyed(true);
            self.stop_waiting(); // nothing would ever wake this run
            return outcomes;
        }
        tokio::select! {
            biased;
            code = stopped, if !self.has_signal => self.signalled(code),
            received = channels.outcomes.recv_many(&mut outcomes, most), if self.frontier.requests_in_flight() > 0 => {
                if received == 0 {
                    self.frontier.abandon_requests(); // the dispatcher is gone
                    self.stop_for(Stop::Temporary("the dispatcher ended".to_owned()));
                }
            }
            () = std::future::ready(()), if is_busy => {}
            _ = channels.to_dispatch.reserve(), if can_request => {}
            () = tokio::time::sleep_until(next.unwrap_or(now)), if next.is_some() => {}
            _ = TimeLimit::reached(self.context.time_limit.as_ref()), if self.stop.is_none() => {}
            else => {}
        }
        if outage_limit.is_some_and(|end| end <= clock::now()) && outcomes.is_empty() && self.stop.is_none() {
            self.stop_waiting();
        }
        outcomes
    }

    /// Whether items are taken in list order. While the request may be wrong, the key refused or every list empty, they are taken
    /// from all over the list, one at a time.
    fn may_follow_the_list(&self) -> bool {
        let is_refused = self.refusals.inquiry.is_some() && !self.api_health.has_served();
        let has_rows = self.empty_lists.knows_lists() || self.context.settings.allow_empty;
        self.api_health.ever_had_page() && !is_refused && has_rows
    }

    /// Commits the outcomes and the group on a blocking thread; then decodes the pages among them.
    async fn commit(&mut self, outcomes: Vec<FetchOutcome>) -> Result<Option<Decoded>, Error> {
        let group = Group { newest: self.newest_attempt, ..std::mem::take(&mut self.group) };
        let Some(mut committer) = self.committer.take() else { return Ok(None) };
        let has_ended = group.ended.iter().any(|end| end.stop.is_complete());
        let decoder = self.decoder.clone();
        let (committer, rows) = tokio::task::spawn_blocking(move || {
            let durable = committer.commit(&outcomes, group);
            let rows = durable.and_then(|pages| {
                if pages.is_empty() { Ok(None) } else { decoder.decode(&pages).map(Some).map_err(Error::Decode) }
            });
            (committer, rows)
        })
        .await?;
        self.committer = Some(committer);
        if has_ended {
            self.controls.add_list();
        }
        self.frontier.unload_keys(KEYS);
        rows
    }

    /// Applies decoded pages to their walks and sends the rows to the writer.
    async fn apply(&mut self, decoded: Decoded, channels: &mut Channels) -> Result<(), Error> {
        let rows = apply_pages::group(decoded, |page| self.apply_page(page))?;
        // The writer ends early only by an error; `crawl` reports it.
        if channels.writer.send(WriterCommand::Rows(rows)).await.is_err() {
            self.stop_for(Stop::Temporary("the writer ended".to_owned()));
        }
        Ok(())
    }
}
