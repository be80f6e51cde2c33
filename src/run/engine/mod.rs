//! The engine: one loop that takes outcomes, admits pages, commits the group and applies the new pages.
//!
//! A tick takes what came while the last group was written, so nothing waits for a timer. All state of a run is here, owned by
//! one thread, and needs no lock. `outcomes` is the one way in; `failures`, `ends`, `empty_lists` and `outage` say what follows;
//! `admit` chooses, `apply` takes rows, `last_failures` and `stopping` end a run.

mod admit;
mod apply;
mod empty_lists;
mod ends;
mod failures;
mod last_failures;
mod outage;
mod outcomes;
mod stopping;

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::crawl::backlog::Backlog;
use crate::crawl::end_of_list::PagingRules;
use crate::crawl::frontier::{Frontier, PageTask};
use crate::crawl::judgement::end_evidence::Evidence;
use crate::crawl::judgement::throttled_pages::ThrottledPages;
use crate::crawl::judgement::{Question, RefusalScope, Served};
use crate::crawl::lookahead::budget::LookaheadBudget;
use crate::crawl::retry::Retry;
use crate::decode::{Decoded, Decoder};
use crate::error::{Error, ExitCode};
use crate::fetch::classify::Failure;
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
use crate::state::ledger::{EmptyLists, Group};
use empty_lists::SecondLook;
pub(crate) use empty_lists::seems_empty;
use outage::OutageDetector;

/// Row keys that open walks may have in memory: 32 MiB, more than one walk of a million rows.
const KEYS: usize = 1 << 20;
/// Empty lists after which items are taken in list order, though no list has a row.
const EMPTY_SAMPLES: u64 = 50;
/// Pages with rows that end the run if no row of any page was ever usable.
const MOST_UNUSABLE_PAGES: u32 = 20;
/// The engine's ends of the channels to the dispatcher and the writer.
#[derive(Debug)]
pub(crate) struct Channels {
    /// To the dispatcher. Its bound is how many intents may wait for the rate limiter.
    pub to_dispatch: mpsc::Sender<Request>,
    /// From the dispatcher.
    pub outcomes: mpsc::Receiver<FetchOutcome>,
    /// To the writer.
    pub writer: mpsc::Sender<WriterCommand>,
    /// What the dispatcher does with requests that have not left.
    pub mode: watch::Sender<DispatchMode>,
}

/// A page that is not requested again. Its item fails as soon as others are served.
#[derive(Debug)]
struct Deferred {
    task: PageTask,
    message: String,
    /// The newest attempt when it failed.
    at: AttemptId,
    failure: Failure,
}

/// A walk that ends before a refused page, as soon as others get pages.
#[derive(Clone, Copy, Debug)]
struct RefusedEnd {
    item: ItemIx,
    /// The newest attempt when it was refused.
    at: AttemptId,
}

/// A wait that the server asked for and that is longer than `max_outage`.
#[derive(Clone, Copy, Debug)]
struct LongWait {
    item: ItemIx,
    /// Until when the run waits: the longest wait it accepts.
    until: Instant,
}

/// The state of a run.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is one fact about the run, and no two exclude each other")]
pub(crate) struct Engine<'a> {
    context: &'a RunContext,
    dir: Arc<ExportDir>,
    rules: PagingRules,
    /// None while it commits a group.
    committer: Option<GroupCommitter>,
    decoder: Decoder,
    retry: Retry,
    limiter: Arc<RateLimiter>,
    frontier: Frontier,
    lookahead_budget: LookaheadBudget,
    /// What is known about the ends of lists.
    evidence: Evidence,
    /// Whether a page was larger than the page size that was observed.
    is_size_wrong: bool,
    items: u64,
    lists: EmptyLists,
    /// Whether an empty list ever came: then a success without a list is a failure.
    had_empty_list: bool,
    second_look: SecondLook,
    /// What the next commit writes beside the outcomes.
    group: Group,
    last_attempt: i64,
    /// Credits billed or in doubt.
    spent: u64,
    backlog: Backlog,
    shown_rate: Option<f64>,
    first_request: Option<Instant>,
    outages: OutageDetector,
    /// The newest attempt before an outage or a question started, while older requests are in flight.
    draining: Option<AttemptId>,
    /// Items that were served last.
    served: Served,
    /// Items whose pages came last: a refusal in the API's own form says nothing about the account.
    paid: Served,
    throttled: ThrottledPages,
    /// A refusal that may be meant for all items.
    question: Option<Question>,
    /// The last refusal that was not meant for all, without its numbers, and the items that got it since others were served.
    answered: Option<(RefusalScope, String)>,
    refused_since: BTreeSet<ItemIx>,
    long_wait: Option<LongWait>,
    /// Items that were asked to wait for too long: their 429s delay nobody.
    long_waits: BTreeSet<ItemIx>,
    refused_ends: Vec<RefusedEnd>,
    /// Walks that a refusal is known to end.
    released: BTreeSet<ItemIx>,
    deferred: Vec<Deferred>,
    /// Control requests so far, lists with a page requested behind their end, and where the next control request is looked for.
    controls: u32,
    revisited: BTreeSet<ItemIx>,
    control_before: ItemIx,
    has_control: bool,
    /// Lists that got such a page after all lists had been read.
    seen_ends: BTreeSet<ItemIx>,
    /// Credits that evidence had cost before the last of these.
    spent_on_look: u64,
    /// Whether any row was usable, and pages with rows before the first usable one.
    has_usable_row: bool,
    unusable_pages: u32,
    stop: Option<Stop>,
    has_signal: bool,
    stats: RunStats,
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
        let full = rules.full_size().and_then(|rows| u32::try_from(rows).ok()).unwrap_or_default();
        let (credits, totals, last_attempt) = (ledger.credits()?, ledger.totals()?, ledger.last_attempt()?);
        let (short, lists) = (ledger.short_evidence(full)?, ledger.empty_lists(rules.first)?);
        let (had_empty_list, again) = (ledger.has_empty_list()?, ledger.pages_read_again(rules.first)?);
        drop(ledger);
        Ok(Self {
            context,
            dir,
            rules,
            committer: Some(committer),
            decoder,
            retry,
            limiter,
            frontier: Frontier::new(rules, context.settings.max_in_flight),
            lookahead_budget: LookaheadBudget::new(context.settings.lookahead),
            evidence: Evidence::new(totals.items, totals.pages, short.in_vain + again, short.lists),
            is_size_wrong: false,
            items: totals.items,
            lists,
            had_empty_list,
            second_look: SecondLook::default(),
            group: Group::default(),
            last_attempt: last_attempt.0,
            spent: credits.billed + credits.in_doubt,
            backlog: Backlog::default(),
            shown_rate: context.qps.per_second(),
            first_request: None,
            outages: OutageDetector::new(credits.billed > 0),
            draining: None,
            served: Served::default(),
            paid: Served::default(),
            throttled: ThrottledPages::default(),
            question: None,
            answered: None,
            refused_since: BTreeSet::new(),
            long_wait: None,
            long_waits: BTreeSet::new(),
            refused_ends: Vec::new(),
            released: BTreeSet::new(),
            deferred: Vec::new(),
            controls: 0,
            revisited: BTreeSet::new(),
            control_before: ItemIx(i64::MAX),
            has_control: true,
            seen_ends: BTreeSet::new(),
            spent_on_look: 0,
            has_usable_row: totals.kept > 0,
            unusable_pages: 0,
            stop: None,
            has_signal: false,
            stats: RunStats::default(),
        })
    }

    /// Ticks until there is nothing to do or a reason to stop, and no request is in flight.
    pub(crate) async fn run(
        mut self,
        mut channels: Channels,
        stopped: impl Future<Output = ExitCode>,
    ) -> (Result<Option<Stop>, Error>, RunStats) {
        let mut stopped = std::pin::pin!(stopped);
        self.judge_lists();
        if let Err(error) = self.price_unpaid() {
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
        self.stats.evidence = self.evidence.spent();
        self.stats.seconds =
            self.first_request.map_or(0.0, |first_request| (clock::now() - first_request).as_secs_f64());
        (ended, self.stats)
    }

    /// One tick. Returns false when the run is over.
    async fn tick(
        &mut self,
        channels: &mut Channels,
        stopped: Pin<&mut impl Future<Output = ExitCode>>,
    ) -> Result<bool, Error> {
        self.publish_full_segment(channels).await?;
        self.learn_end().await?;
        self.look_at_rows().await?;
        let mut outcomes = self.wait(channels, stopped).await;
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
                self.end(item);
            }
        }
        self.set_dispatch_mode(&channels.mode);
        self.check_free_space()?;
        self.weigh()?;
        self.admit(channels.to_dispatch.capacity());
        if self.stop.is_none() && self.is_done() {
            self.conclude_remaining()?;
            // Evidence needs ends that the ledger knows.
            if self.is_done() && self.group.is_empty() && outcomes.is_empty() {
                self.look_once_more()?;
            }
        }
        self.set_dispatch_mode(&channels.mode);
        if outcomes.is_empty() && self.group.is_empty() {
            return Ok(!self.is_over());
        }
        if let Some(rate) = self.limiter.rate().filter(|rate| Some(*rate) != self.shown_rate) {
            self.shown_rate = Some(rate);
            self.context.events.event(&Event::Rate(rate));
        }
        let intents = self.group.intents.clone();
        let decoded = self.commit(outcomes).await?;
        if let Some(decoded) = decoded {
            self.read(decoded, channels).await?;
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

    /// Waits until there is something to do, and returns what came.
    async fn wait(
        &mut self,
        channels: &mut Channels,
        stopped: Pin<&mut impl Future<Output = ExitCode>>,
    ) -> Vec<FetchOutcome> {
        let mut outcomes = Vec::new();
        let most = self.context.settings.max_in_flight;
        let now = clock::now();
        let wants = self.has_turn(now);
        let at_rest = self.at_rest() && (self.stop.is_some() || self.frontier.is_done() || wants && !self.can_afford());
        let busy = at_rest || !self.group.is_empty();
        let wants = wants && self.can_afford();
        let patience_ends = self.outages.lasts_until(self.max_outage(), self.context.settings.request_timeout);
        let next = self.next_turn(now).into_iter().chain(patience_ends).min().filter(|_| self.stop.is_none());
        if self.frontier.requests_in_flight() == 0 && !busy && !wants && next.is_none() && self.stop.is_none() {
            self.stop_waiting(); // nothing would ever wake this run
            return outcomes;
        }
        tokio::select! {
            biased;
            code = stopped, if !self.has_signal => self.signalled(code),
            received = channels.outcomes.recv_many(&mut outcomes, most), if self.frontier.requests_in_flight() > 0 => {
                if received == 0 {
                    self.frontier.abandon_requests(); // the dispatcher is gone
                    self.stop.get_or_insert(Stop::Temporary("the dispatcher ended".to_owned()));
                }
            }
            () = std::future::ready(()), if busy => {}
            _ = channels.to_dispatch.reserve(), if wants => {}
            () = tokio::time::sleep_until(next.unwrap_or(now)), if next.is_some() => {}
            else => {}
        }
        if patience_ends.is_some_and(|end| end <= clock::now()) && outcomes.is_empty() && self.stop.is_none() {
            self.stop_waiting();
        }
        outcomes
    }

    /// Whether items are taken in list order. While the request may be wrong, the key refused or every list empty, they are taken
    /// from all over the list, one at a time.
    fn may_follow_the_list(&self) -> bool {
        let is_refused = self.question.is_some() && !self.outages.is_proven();
        let has_rows =
            self.lists.with_rows > 0 || self.lists.empty >= EMPTY_SAMPLES || self.context.settings.allow_empty;
        self.outages.ever() && !is_refused && has_rows
    }

    /// Commits the outcomes and the group on a blocking thread; then decodes the pages among them.
    async fn commit(&mut self, outcomes: Vec<FetchOutcome>) -> Result<Option<Decoded>, Error> {
        let group = Group { newest: AttemptId(self.last_attempt), ..std::mem::take(&mut self.group) };
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
        self.has_control |= has_ended;
        self.frontier.unload_keys(KEYS);
        rows
    }

    /// Applies decoded pages to their walks and sends the rows to the writer.
    async fn read(&mut self, decoded: Decoded, channels: &mut Channels) -> Result<(), Error> {
        let rows = apply_pages::group(decoded, |page| self.read_page(page))?;
        // The writer ends early only by an error; `crawl` reports it.
        if channels.writer.send(WriterCommand::Rows(rows)).await.is_err() {
            self.stop.get_or_insert(Stop::Temporary("the writer ended".to_owned()));
        }
        Ok(())
    }
}
