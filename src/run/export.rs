//! The run: opens the directory, recovers, walks, publishes, and says how it ended.
//!
//! This file owns the tasks and channels; [`Engine`] is the loop between them. From here a page can be followed to its
//! file: `rounds` (which page, under which intent) → `dispatch` (quota, fetch, judge) → `record` (journal, ledger, decode)
//! → `read` (walk) → `publish` (split, stage, commit).

use std::future::Future;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use crate::crawl::lookahead::DEEP;
use crate::crawl::retry::Retry;
use crate::decode::Decoder;
use crate::endpoint::EndRule;
use crate::error::{Error, ExitCode};
use crate::fetch::Fetch;
use crate::fetch::dispatcher::{DispatchMode, Dispatcher};
use crate::fetch::rate_limit::RateLimiter;
use crate::input::error::InputError;
use crate::input::item_list::Ids;
use crate::model::clock::{self, Utc64};
use crate::model::event::Event;
use crate::model::page::PageNum;
use crate::model::sanitize::Sanitized;
use crate::output::error::OutputError;
use crate::output::export_dir::ExportDir;
use crate::output::manifest::{self, Manifest};
use crate::output::names::SUCCESS;
use crate::output::publisher::Publisher;
use crate::output::store::Store;
use crate::output::writer::{QUEUE, SegmentWriterTask, WriterHandle};
use crate::report::products;
use crate::report::run_stats::RunStats;
use crate::report::summary::{self, Summary};
use crate::report::totals::Grouped;
use crate::run::context::RunContext;
use crate::run::engine::{Engine, seems_empty};
use crate::run::group_commit::GroupCommitter;
use crate::run::rebuild::{RebuildPlan, RebuildScope};
use crate::run::recovery::Recovery;
use crate::run::rejudge::rejudge;
use crate::run::stop::Stop;
use crate::settings::{CODES, Settings};
use crate::state::free_space;
use crate::state::ledger::{Added, OpenSegment, Repair};

/// A run's tasks before its rounds begin.
struct OpenedRun {
    export_dir: Arc<ExportDir>,
    decoder: Decoder,
    writing: WriterHandle,
    segment: OpenSegment,
    /// Published segments that were built again.
    rebuilt: usize,
}

/// Walks every item of the list and publishes its rows; resumes where an earlier run of the same directory stopped.
pub async fn export<F: Fetch>(
    context: &RunContext,
    ids: Ids,
    api: Arc<F>,
    stopped: impl Future<Output = ExitCode>,
) -> Result<Summary, Error> {
    let export_dir = Arc::new(ExportDir::open(&context.settings).await?);
    warn(context);
    let mut stopped = std::pin::pin!(stopped);
    let planning = {
        let (export_dir, settings) = (Arc::clone(&export_dir), context.settings.clone());
        let (sizes, deep) = (context.sizes.clone(), u64::from(context.settings.page_size) * u64::from(DEEP));
        tokio::task::spawn_blocking(move || {
            let planned = plan(&export_dir, ids, &settings)?;
            for sizes in sizes {
                sizes.read(deep, |sizes| Ok(export_dir.ledger().hint(&sizes)?))?;
            }
            Ok::<_, Error>(planned)
        })
    };
    // A list on a pipe may stall: then a signal ends the run while nothing was sent yet.
    let planned = tokio::select! {
        planned = planning => planned??,
        code = &mut stopped => return Err(Error::Interrupted(code)),
    };
    let totals = { export_dir.ledger().totals() }?;
    let Registered { added: Added { listed, new, repeated }, reopened, repair } = planned;
    let others = totals.items.saturating_sub(listed - repeated);
    context.events.event(&Event::Registered { listed, new, repeated, reopened, others });
    if context.settings.repair {
        let Repair { moved, empty, pages } = repair;
        context.events.event(&Event::Repair { moved, empty, pages });
    }
    let is_complete = totals.complete == totals.items && totals.pages_waiting == 0;
    if let Some(since) = export_dir.export.completed_at.filter(|_| is_complete) {
        let imprint = export_dir.manifest_schema(&context.settings, &decoder(context));
        if RebuildPlan::make(&export_dir, &imprint, RebuildScope::OtherColumns).await?.is_empty() {
            return still_complete(context, &export_dir, since).await;
        }
    }
    // The mark goes first: what it promises may not be true from here on.
    unmark(&export_dir).await?;
    if let Some(message) = export_dir.min_free_space.shortage()? {
        return Err(Error::NoRoom(message));
    }
    // Until the first request there is nothing to wait for: a signal ends it between two steps, as a crash would.
    let begun = tokio::select! {
        begun = begin(context, export_dir, RebuildScope::OtherColumns) => begun?,
        code = &mut stopped => return Err(Error::Interrupted(code)),
    };
    let export_dir = Arc::clone(&begun.export_dir);
    let (stop, counted) = walk(context, begun, api, stopped).await?;
    finish(context, &export_dir, stop, counted, None).await
}

/// Lists that are refused at one same page before that is taken for the API's last page.
const CAPPED_LISTS: u32 = 3;

/// Says what may go wrong with the place where the state lies.
fn warn(context: &RunContext) {
    let state = &context.settings.state_dir;
    if let Some(kind) = free_space::network_file_system(state) {
        let message = format!(
            "{} lies on a network file system ({kind}), where locks and the ledger may not hold: name a local directory with --state-dir",
            state.display()
        );
        context.events.event(&Event::Warning(&message));
    }
}

/// Builds the output from the journal, without a request: what waits, what is of other columns, and what is not as it was
/// written; everything with [`RebuildScope::All`].
pub async fn replay(context: &RunContext, which: RebuildScope) -> Result<Summary, Error> {
    let export_dir = Arc::new(ExportDir::open_to_replay(&context.settings).await?);
    let begun = begin(context, export_dir, which).await?;
    let OpenedRun { export_dir, writing, rebuilt, .. } = begun;
    let published = if has_waiting(&export_dir)? { writing.publish().await } else { Ok(()) };
    writing.end(published).await?;
    finish(context, &export_dir, None, RunStats::default(), Some(rebuilt)).await
}

/// An export that was complete before this run: its reports and its mark are written, should a crash have prevented it or
/// somebody have removed them.
async fn still_complete(context: &RunContext, export_dir: &Arc<ExportDir>, since: Utc64) -> Result<Summary, Error> {
    refuse_spoilt(export_dir, &export_dir.publisher(&context.settings, &decoder(context))).await?;
    for report in [products::PRODUCTS, summary::SUMMARY, SUCCESS] {
        if export_dir.store.length(report).await?.is_none() {
            finish(context, export_dir, None, RunStats::default(), None).await?;
            break;
        }
    }
    let summary = summary::of(
        &context.settings,
        context.qps.per_second(),
        export_dir,
        Some(ExitCode::Complete),
        RunStats::default(),
    )
    .await?;
    if context.settings.fail_on_drift
        && summary.drift.serious(summary.rows.received, &context.settings.endpoint).is_some()
    {
        return finish(context, export_dir, None, RunStats::default(), None).await;
    }
    Ok(summary.found_complete(since))
}

fn decoder(context: &RunContext) -> Decoder {
    let settings = &context.settings;
    Decoder::new(&settings.endpoint, |column| settings.columns.contains(&column.name))
}

/// What is to be done that was not before.
struct Registered {
    added: Added,
    /// Failed walks that are opened again.
    reopened: usize,
    repair: Repair,
}

/// Adds the list's ids to the ledger and opens walks again that deserve it. Blocks for as long as the list does.
fn plan(export_dir: &ExportDir, ids: Ids, settings: &Settings) -> Result<Registered, Error> {
    let mut ledger = export_dir.ledger();
    let ids = ids.map(|id| id.map_err(Error::from));
    let added = ledger.add_items_after(ids, || remove_mark(&export_dir.store))?;
    if added.listed == 0 {
        return Err(InputError::Empty.into());
    }
    let mut reopened = ledger.reopen_failed(settings.retry_failed)?;
    let (was, identity) = (&export_dir.export.identity, settings.identity());
    if was.get("end") != identity.get("end") {
        remove_mark(&export_dir.store)?;
        ledger.set_completed(None)?;
        reopened += if settings.end == EndRule::EmptyPage { ledger.reopen_short()? } else { 0 };
    }
    if *was != identity {
        ledger.set_identity(&identity)?;
    }
    let mut repair = Repair::default();
    if settings.repair {
        let (first, doubt) = (PageNum(settings.endpoint.page.first), |lists| seems_empty(lists).is_some());
        repair = ledger.repair(first, doubt, || remove_mark(&export_dir.store))?;
    }
    Ok(Registered { added, reopened, repair })
}

/// Takes the mark of success away, and when it was made.
async fn unmark(export_dir: &ExportDir) -> Result<(), Error> {
    export_dir.store.remove(vec![SUCCESS.to_owned()]).await?;
    Ok(export_dir.ledger().set_completed(None)?)
}

/// Takes the mark of success away, on a thread that may block.
fn remove_mark(store: &Store) -> Result<(), Error> {
    Ok(tokio::runtime::Handle::current().block_on(store.remove(vec![SUCCESS.to_owned()]))?)
}

/// Finishes what earlier runs left: decided segments are published, published ones that are not as they should be are built
/// again, the open one's journal is read again. Whatever cannot be done is found before anything is changed.
async fn begin(context: &RunContext, export_dir: Arc<ExportDir>, which: RebuildScope) -> Result<OpenedRun, Error> {
    let settings = &context.settings;
    let decoder = decoder(context);
    let committer = export_dir.publisher(settings, &decoder);
    committer.recover().await?;
    export_dir.remove_leftovers().await?;
    let recovery = Arc::new(Recovery {
        export_dir: Arc::clone(&export_dir),
        decoder: decoder.clone(),
        rules: context.rules(export_dir.ledger().end_rule()?.as_deref()),
        codes: Arc::new(settings.endpoint.codes()),
        events: Arc::clone(&context.events),
    });
    let plan = RebuildPlan::make(&export_dir, &export_dir.manifest_schema(settings, &decoder), which).await?;
    plan.check(&export_dir, &recovery).await?;
    let mut segment = export_dir.ledger().begin_segment()?;
    let adopting = Arc::clone(&recovery);
    segment.journaled = tokio::task::spawn_blocking(move || adopting.adopt(segment)).await??;
    export_dir.ledger().doubt_open_attempts()?;
    let identity = settings.identity();
    if export_dir.export.identity.get(CODES).is_some_and(|codes| identity.get(CODES) != Some(codes)) {
        let (export_dir, codes) = (Arc::clone(&export_dir), settings.endpoint.codes());
        segment.journaled = tokio::task::spawn_blocking(move || rejudge(&export_dir, segment, &codes)).await??;
    }
    if !plan.is_empty() || export_dir.export.identity != identity || has_waiting(&export_dir)? {
        export_dir.store.remove(vec![SUCCESS.to_owned()]).await?;
    }
    // First the identity: from here on only who knows the new columns may go on, with what is still of the old ones.
    export_dir.ledger().set_identity(&identity)?;

    let (orders, ordered) = mpsc::channel(QUEUE);
    let config = export_dir.segment_config(settings, &decoder);
    let work = SegmentWriterTask { config, publisher: committer, events: Arc::clone(&context.events) };
    #[expect(clippy::disallowed_methods, reason = "this file owns the tasks")]
    let writing = WriterHandle { orders, task: tokio::spawn(work.run(ordered)) };
    let read = async {
        plan.carry_out(&export_dir, &recovery, &writing, &*context.events).await?;
        recovery.fill(segment, &writing).await
    };
    if let Err(error) = read.await {
        return writing.end(Err(error)).await;
    }
    let standing = export_dir.ledger().standing()?;
    context.events.event(&Event::Opened(standing));
    Ok(OpenedRun { export_dir, decoder, writing, segment, rebuilt: plan.rebuilt() })
}

/// Runs the rounds until there is nothing left to do or a reason to stop.
async fn walk<F: Fetch>(
    context: &RunContext,
    begun: OpenedRun,
    api: Arc<F>,
    stopped: impl Future<Output = ExitCode>,
) -> Result<(Option<Stop>, RunStats), Error> {
    let settings = &context.settings;
    let OpenedRun { export_dir, decoder, writing, segment, .. } = begun;
    let recorder = GroupCommitter::open(
        Arc::clone(&export_dir.ledger),
        decoder,
        export_dir.journal.clone(),
        segment.id,
        segment.journaled,
    )?;
    let quota = Arc::new(RateLimiter::new(context.qps));
    let (orders, ordered) = watch::channel(DispatchMode::Send);
    let (to_dispatch, requests) = mpsc::channel(context.ahead());
    let (arrive, arrivals) = mpsc::channel(settings.max_in_flight);
    let dispatcher = Dispatcher {
        api,
        quota: Arc::clone(&quota),
        timeout: settings.request_timeout,
        drain_timeout: settings.drain_timeout,
        codes: Arc::new(settings.endpoint.codes()),
        orders: ordered,
    };
    #[expect(clippy::disallowed_methods, reason = "this file owns the tasks")]
    let dispatching = tokio::spawn(dispatcher.run(requests, arrive));

    let retry = Retry::new(settings.retry, context.seed, settings.max_in_flight);
    let rounds = Engine::new(context, Arc::clone(&export_dir), recorder, retry, Arc::clone(&quota))?;
    let channels = crate::run::engine::Channels { to_dispatch, arrivals, writer: writing.orders.clone(), orders };
    let (ended, mut counted) = rounds.run(channels, stopped).await;
    counted.found = quota.found();
    if let Err(panic) = dispatching.await.flatten() {
        return writing.end(Err(panic.into())).await; // a failure of the writer's own comes first
    }
    let publish = has_waiting(&export_dir)? && matches!(&ended, Ok(stop) if stop.as_ref().is_none_or(Stop::publishes));
    let published = if publish { writing.publish().await } else { Ok(()) };
    writing.end(published).await?;
    Ok((ended?, counted))
}

/// Whether the open segment holds a page.
fn has_waiting(export_dir: &ExportDir) -> Result<bool, Error> {
    Ok(export_dir.ledger().has_waiting()?)
}

/// Refuses to call an output complete that is not as it was published, or that does not hold every row that was received; its
/// mark goes.
async fn refuse_spoilt(export_dir: &ExportDir, committer: &Publisher) -> Result<(), Error> {
    let reason = if let Some(path) = committer.find_modified().await? {
        format!("{} is missing or not as it was written", Sanitized(&path))
    } else {
        let ledger = export_dir.ledger();
        let totals = ledger.totals()?;
        let in_files = |manifest: &Manifest| manifest.all_files().map(|file| file.rows).sum::<u64>();
        let published: u64 = manifest::published(&ledger)?.iter().map(in_files).sum();
        // What was received is kept, rejected or a duplicate; the first two are in files.
        if published == totals.kept + totals.rejected {
            return Ok(());
        }
        format!("{published} rows are in its files, {} should be", totals.kept + totals.rejected)
    };
    export_dir.store.remove(vec![SUCCESS.to_owned()]).await?;
    Err(OutputError::Modified(format!("the output is not as it was published: {reason}")).into())
}

/// Warns where the answers differ much from the description; with `fail_on_drift` that is how the run ends.
async fn judge_drift(context: &RunContext, export_dir: &ExportDir, summary: &mut Summary) -> Result<(), Error> {
    let Some(drift) = summary.drift.serious(summary.rows.received, &context.settings.endpoint) else { return Ok(()) };
    if context.settings.fail_on_drift && matches!(summary.exit, ExitCode::Complete | ExitCode::Partial) {
        summary.set_drifted(&drift);
        return unmark(export_dir).await;
    }
    let rows = Grouped(summary.rows.received);
    let message = format!("the answers differ from the endpoint's description (of {rows} rows): {drift}");
    context.events.event(&Event::Warning(&message));
    Ok(())
}

/// Writes the reports; on success, the marker last. A replay says how many segments it built again.
async fn finish(
    context: &RunContext,
    export_dir: &Arc<ExportDir>,
    stop: Option<Stop>,
    counted: RunStats,
    replayed: Option<usize>,
) -> Result<Summary, Error> {
    export_dir.remove_leftovers().await?;
    let committer = export_dir.publisher(&context.settings, &decoder(context));
    committer.remove_superseded().await?;
    let cut = {
        let ledger = export_dir.ledger();
        let first = PageNum(context.settings.endpoint.page.first);
        ledger.cap_refused(CAPPED_LISTS)? + ledger.cut_unnumbered(first)? + ledger.fail_without_list(first)?
    };
    if cut > 0 {
        unmark(export_dir).await?;
    }
    let mut summary = summary::of(&context.settings, context.qps.per_second(), export_dir, None, counted).await?;
    if let Some(stop) = &stop {
        summary.set_stop(stop.exit_code(), stop.to_string());
    }
    if let Some(rebuilt) = replayed {
        summary.set_replayed(rebuilt);
    }
    judge_drift(context, export_dir, &mut summary).await?;
    products::write_products(export_dir).await?;
    if summary.exit == ExitCode::Complete {
        refuse_spoilt(export_dir, &committer).await?;
        let ledger = export_dir.ledger();
        let since = ledger.export()?.and_then(|export| export.completed_at).unwrap_or_else(clock::wall);
        ledger.set_completed(Some(since))?;
        summary.complete_since = Some(since.to_string());
    }
    summary.write(&export_dir.store).await?;
    if summary.exit == ExitCode::Complete {
        export_dir.store.put(SUCCESS, Vec::new()).await?;
    }
    Ok(summary)
}
