//! The loop at the heart of a run: what arrived, what to ask next, one group commit, what the new pages mean.
//!
//! A round takes whatever arrived while the last one was being written, so groups grow with the load and nothing waits
//! for a timer. All state of a run that changes with pages lives here, in one place, and no lock guards it. A request holds
//! its slot from the commit of its intent to the reading of its outcome.

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
use crate::crawl::frontier::{PageTask, Scheduler};
use crate::crawl::judgement::ending::Evidence;
use crate::crawl::judgement::throttle::Throttled;
use crate::crawl::judgement::{Question, RefusalScope, Served};
use crate::crawl::lookahead_budget::LookaheadBudget;
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

/// Keys of rows that open walks may hold in memory: 32 MiB, more than one walk of a million rows.
const KEYS: usize = 1 << 20;
/// Empty lists after which items are taken in the order of the list, though no list has a row.
const EMPTY_SAMPLES: u64 = 50;
/// Pages with rows of which none was ever usable that end the run.
const MOST_UNUSABLE_PAGES: u32 = 20;
/// The ends of the channels to the tasks around.
#[derive(Debug)]
pub(crate) struct Channels {
    /// To the dispatcher; its bound is how far intents run ahead of the quota.
    pub to_dispatch: mpsc::Sender<Request>,
    /// From it.
    pub outcomes: mpsc::Receiver<FetchOutcome>,
    /// To the writer.
    pub writer: mpsc::Sender<WriterCommand>,
    /// Tells the dispatcher what to do.
    pub mode: watch::Sender<DispatchMode>,
}

/// A page that is not asked for again, and whose item fails as soon as others are served.
#[derive(Debug)]
struct Deferred {
    task: PageTask,
    message: String,
    /// The last request by then.
    at: AttemptId,
    failure: Failure,
}

/// A walk that ends before a page that was refused, as soon as others get pages.
#[derive(Clone, Copy, Debug)]
struct RefusedEnd {
    item: ItemIx,
    /// The last request by then.
    at: AttemptId,
}

/// A wait that the server asked for and that is longer than the run's patience.
#[derive(Clone, Copy, Debug)]
struct LongWait {
    item: ItemIx,
    /// Until when everyone waits, which is as long as is ever waited.
    until: Instant,
}

/// The state of a run.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is one fact about the run, and no two exclude each other")]
pub(crate) struct Engine<'a> {
    context: &'a RunContext,
    dir: Arc<ExportDir>,
    rules: PagingRules,
    /// Away while it commits a group.
    committer: Option<GroupCommitter>,
    decoder: Decoder,
    retry: Retry,
    limiter: Arc<RateLimiter>,
    scheduler: Scheduler,
    /// What looking ahead has cost, and may.
    lookahead_budget: LookaheadBudget,
    /// What is known of how lists end.
    evidence: Evidence,
    /// Whether a page was larger than the largest that the rules know of.
    is_size_wrong: bool,
    /// Items of the export.
    items: u64,
    /// Lists with rows and without.
    lists: EmptyLists,
    /// Whether an empty list of rows ever came: then a success without a list is not one.
    had_empty_list: bool,
    second_look: SecondLook,
    /// What the next commit makes true beside the arrivals.
    group: Group,
    in_flight: usize,
    last_attempt: i64,
    /// Credits billed or in doubt.
    spent: u64,
    backlog: Backlog,
    shown_rate: Option<f64>,
    first_request: Option<Instant>,
    outages: OutageDetector,
    /// The last attempt before an outage or a question began, while requests from before it are still under way.
    draining: Option<AttemptId>,
    /// Who was served last.
    served: Served,
    /// Whose pages came last: that an API refuses a page in its own form says nothing about an account.
    paid: Served,
    /// Pages that are refused with a 429.
    throttled: Throttled,
    /// A refusal that may be meant for all.
    question: Option<Question>,
    /// The last one that turned out not to be, in its words without numbers; and who was told the same since others were served.
    answered: Option<(RefusalScope, String)>,
    refused_since: BTreeSet<ItemIx>,
    long_wait: Option<LongWait>,
    /// Items that were told to wait for longer than anyone will: their refusals hold nobody.
    long_waits: BTreeSet<ItemIx>,
    refused_ends: Vec<RefusedEnd>,
    /// Walks of which it is known by now that a refusal ends them.
    released: BTreeSet<ItemIx>,
    /// Items that fail as soon as others are served.
    deferred: Vec<Deferred>,
    /// Control requests so far, lists whose end was asked behind, and where the next one is looked for.
    controls: u32,
    revisited: BTreeSet<ItemIx>,
    control_before: ItemIx,
    has_control: bool,
    /// Lists whose ends were looked behind once all had been read.
    seen_ends: BTreeSet<ItemIx>,
    /// Credits that evidence had cost before the last of them.
    spent_on_look: u64,
    /// Whether any row was usable, and pages with rows before the first one that was.
    has_usable_row: bool,
    unusable_pages: u32,
    stop: Option<Stop>,
    /// Whether a signal came.
    has_signal: bool,
    stats: RunStats,
}

impl<'a> Engine<'a> {
    /// The state at the beginning of a run, from the ledger.
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
            scheduler: Scheduler::new(rules, context.settings.max_in_flight),
            lookahead_budget: LookaheadBudget::new(context.settings.lookahead),
            evidence: Evidence::new(totals.items, totals.pages, short.in_vain + again, short.lists),
            is_size_wrong: false,
            items: totals.items,
            lists,
            had_empty_list,
            second_look: SecondLook::default(),
            group: Group::default(),
            in_flight: 0,
            last_attempt: last_attempt.0,
            spent: credits.billed + credits.in_doubt,
            backlog: Backlog::default(),
            shown_rate: context.qps.per_second(),
            first_request: None,
            outages: OutageDetector::new(credits.billed > 0),
            draining: None,
            served: Served::default(),
            paid: Served::default(),
            throttled: Throttled::default(),
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

    /// Goes round until there is nothing to do or a reason to stop, and every request under way has arrived.
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

    /// One round. False: the run is over.
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
                &mut self.scheduler,
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
            // Only what the ledger knows of can be looked behind.
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
            // The dispatcher ends early only by a panic, which is reported where it is waited for.
            if channels.to_dispatch.send(request).await.is_err() {
                self.in_flight -= 1;
            }
        }
        Ok(true)
    }

    /// Waits until there is something to do, and gives what has arrived.
    async fn wait(
        &mut self,
        channels: &mut Channels,
        stopped: Pin<&mut impl Future<Output = ExitCode>>,
    ) -> Vec<FetchOutcome> {
        let mut outcomes = Vec::new();
        let most = self.context.settings.max_in_flight;
        let now = clock::now();
        let wants = self.has_turn(now);
        let at_rest =
            self.at_rest() && (self.stop.is_some() || self.scheduler.is_done() || wants && !self.can_afford());
        let busy = at_rest || !self.group.is_empty();
        let wants = wants && self.can_afford();
        let patience_ends = self.outages.lasts_until(self.max_outage(), self.context.settings.request_timeout);
        let next = self.next_turn(now).into_iter().chain(patience_ends).min().filter(|_| self.stop.is_none());
        if self.in_flight == 0 && !busy && !wants && next.is_none() && self.stop.is_none() {
            self.stop_waiting(); // nothing would ever wake this run
            return outcomes;
        }
        tokio::select! {
            biased;
            code = stopped, if !self.has_signal => self.signalled(code),
            received = channels.outcomes.recv_many(&mut outcomes, most), if self.in_flight > 0 => {
                if received == 0 {
                    self.in_flight = 0; // the dispatcher is gone
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

    /// Whether items may be taken in the order of the list. As long as nobody knows whether the question is wrong, the key is
    /// not accepted or every list is empty, they are taken from all over it, one at a time.
    fn may_follow_the_list(&self) -> bool {
        let is_refused = self.question.is_some() && !self.outages.is_proven();
        let has_rows =
            self.lists.with_rows > 0 || self.lists.empty >= EMPTY_SAMPLES || self.context.settings.allow_empty;
        self.outages.ever() && !is_refused && has_rows
    }

    /// Commits the arrivals and the group, away from this thread, and gives the pages decoded.
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
        self.scheduler.unload_keys(KEYS);
        rows
    }

    /// Reads decoded pages into their walks and hands the rows to the writer.
    async fn read(&mut self, decoded: Decoded, channels: &mut Channels) -> Result<(), Error> {
        let rows = apply_pages::group(decoded, |page| self.read_page(page))?;
        // A writer that is gone ends the run; why is said where it is waited for.
        if channels.writer.send(WriterCommand::Rows(rows)).await.is_err() {
            self.stop.get_or_insert(Stop::Temporary("the writer ended".to_owned()));
        }
        Ok(())
    }
}
