//! The run: opens the folder, recovers, walks, publishes, and says how it ended.
//!
//! This file owns the tasks and channels; [`Rounds`] is the loop between them. From here a page can be followed to its
//! file: `rounds` (which page, under which intent) → `dispatch` (quota, fetch, judge) → `record` (journal, ledger, decode)
//! → `absorb` (walk) → `publish` (split, stage, commit).

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::api::Fetch;
use crate::clock;
use crate::decode::Decoder;
use crate::dispatch::{Dispatcher, Orders};
use crate::error::{Error, ExitCode};
use crate::event::Event;
use crate::job::Job;
use crate::ledger::OpenSegment;
use crate::plan::{Ids, PlanError};
use crate::products;
use crate::publish::{QUEUE, ToWriter, Writer};
use crate::quota::Quota;
use crate::record::Recorder;
use crate::recover::Recovery;
use crate::retry::Retry;
use crate::rounds::Rounds;
use crate::site::{SUCCESS, Site};
use crate::stop::{Counted, Stop};
use crate::summary::{self, Summary};

/// A run's tasks before its rounds begin.
struct Begun {
    site: Arc<Site>,
    decoder: Decoder,
    writer: mpsc::Sender<ToWriter>,
    writing: JoinHandle<Result<(), Error>>,
    segment: OpenSegment,
}

/// Walks every item of the list and publishes its rows; resumes where an earlier run of the same folder stopped.
pub async fn export<F: Fetch>(
    job: &Job,
    ids: Ids,
    api: Arc<F>,
    stopped: impl Future<Output = ExitCode>,
) -> Result<Summary, Error> {
    let site = Arc::new(Site::open(&job.settings).await?);
    let mut stopped = std::pin::pin!(stopped);
    let planning = {
        let (site, identity, retry_failed) = (Arc::clone(&site), job.settings.identity(), job.settings.retry_failed);
        tokio::task::spawn_blocking(move || plan(&site, ids, &identity, retry_failed))
    };
    // A list on a pipe may stall: then a signal ends the run while nothing was sent yet.
    let planned = tokio::select! {
        planned = planning => planned??,
        code = &mut stopped => return Err(Error::Killed(code)),
    };
    job.monitor.event(&planned);
    let is_complete = { site.ledger().totals() }.map(|totals| totals.complete == totals.items)?;
    if let Some(since) = site.export.completed_at.filter(|_| is_complete) {
        if site.store.get(SUCCESS).await?.is_none() {
            finish(job, &site, None, Counted::default()).await?; // an earlier run ended before it could say so
        }
        let summary = summary::of(job, &site, Some(ExitCode::Complete), Counted::default()).await?;
        return Ok(summary.complete_since(since));
    }
    // The mark goes first: what it promises may not be true from here on.
    site.store.remove(SUCCESS)?;
    site.ledger().set_completed(None)?;
    let begun = begin(job, site).await?;
    let site = Arc::clone(&begun.site);
    let (stop, counted) = walk(job, begun, api, stopped).await?;
    finish(job, &site, stop, counted).await
}

/// Publishes what is in the journal, without a request.
pub async fn replay(job: &Job) -> Result<Summary, Error> {
    let site = Arc::new(Site::open(&job.settings).await?);
    let begun = begin(job, site).await?;
    let site = Arc::clone(&begun.site);
    end_writer(begun.writer, begun.writing, has_waiting(&site)?).await?;
    finish(job, &site, None, Counted::default()).await
}

/// Adds the list's ids to the ledger and opens walks again that deserve it. Blocks for as long as the list does.
fn plan(
    site: &Site,
    ids: Ids,
    identity: &BTreeMap<String, String>,
    retry_failed: bool,
) -> Result<Event<'static>, Error> {
    let mut ledger = site.ledger();
    let (listed, new) = ledger.add_items::<PlanError>(ids)?;
    if listed == 0 {
        return Err(PlanError::Empty.into());
    }
    let mut reopened = ledger.reopen_failed(retry_failed)?;
    if site.export.identity != *identity {
        reopened += ledger.reopen_short()?;
        ledger.set_identity(identity)?;
    }
    Ok(Event::Planned { listed, new, reopened })
}

/// Finishes what earlier runs left: decided segments are published, the open one's journal is read again.
async fn begin(job: &Job, site: Arc<Site>) -> Result<Begun, Error> {
    let settings = &job.settings;
    let decoder = Decoder::new(&settings.endpoint, |column| settings.columns.contains(&column.name));
    let committer = site.committer(settings, &decoder);
    committer.recover().await?;
    site.sweep()?;
    let recovery = Recovery {
        site: Arc::clone(&site),
        decoder: decoder.clone(),
        rules: job.rules(),
        success: settings.endpoint.success_codes.clone().into(),
    };
    let mut segment = site.ledger().begin_segment()?;
    segment.journaled = recovery.adopt(segment)?;
    site.ledger().doubt_open_attempts()?;

    let (writer, orders) = mpsc::channel(QUEUE);
    let shape = site.shape(settings, &decoder);
    let work = Writer { shape, committer, monitor: Arc::clone(&job.monitor) };
    #[expect(clippy::disallowed_methods, reason = "this file owns the tasks")]
    let writing = tokio::spawn(work.run(orders));
    let to_writer = writer.clone();
    let reread = move || -> Result<(), Error> {
        if to_writer.blocking_send(ToWriter::Begin(segment)).is_ok() {
            recovery.reread(segment, &to_writer)?;
        }
        Ok(())
    };
    let reread = tokio::task::spawn_blocking(reread).await?;
    if let Err(error) = reread {
        drop(writer);
        writing.await??;
        return Err(error);
    }
    let standing = site.ledger().standing()?;
    job.monitor.event(&Event::Opened(standing));
    Ok(Begun { site, decoder, writer, writing, segment })
}

/// Runs the rounds until there is nothing left to do or a reason to stop.
async fn walk<F: Fetch>(
    job: &Job,
    begun: Begun,
    api: Arc<F>,
    stopped: impl Future<Output = ExitCode>,
) -> Result<(Option<Stop>, Counted), Error> {
    let settings = &job.settings;
    let Begun { site, decoder, writer, writing, segment } = begun;
    let recorder =
        Recorder::open(Arc::clone(&site.ledger), decoder, site.journal.clone(), segment.id, segment.journaled)?;
    let quota = Arc::new(Quota::new(job.qps));
    let (orders, ordered) = watch::channel(Orders::Send);
    let (to_dispatch, requests) = mpsc::channel(job.ahead());
    let (arrive, arrivals) = mpsc::channel(settings.max_in_flight);
    let dispatcher = Dispatcher {
        api,
        quota: Arc::clone(&quota),
        timeout: settings.request_timeout,
        grace: settings.grace,
        success: settings.endpoint.success_codes.clone().into(),
        orders: ordered,
    };
    #[expect(clippy::disallowed_methods, reason = "this file owns the tasks")]
    let dispatching = tokio::spawn(dispatcher.run(requests, arrive));

    let retry = Retry::new(settings.retry, job.seed, settings.max_in_flight);
    let rounds = Rounds::new(job, Arc::clone(&site), recorder, retry, quota)?;
    let channels = crate::rounds::Channels { to_dispatch, arrivals, writer: writer.clone(), orders };
    let (ended, counted) = rounds.run(channels, stopped).await;
    dispatching.await??;
    // The writer's own failure comes first: the rounds only saw that it was gone.
    let publish = has_waiting(&site)? && matches!(&ended, Ok(stop) if stop.as_ref().is_none_or(Stop::publishes));
    end_writer(writer, writing, publish).await?;
    Ok((ended?, counted))
}

/// Whether the open segment holds a page.
fn has_waiting(site: &Site) -> Result<bool, Error> {
    Ok(site.ledger().totals()?.pages_waiting > 0)
}

/// Publishes the open segment, or leaves it in the journal, and waits for the writer.
async fn end_writer(
    writer: mpsc::Sender<ToWriter>,
    writing: JoinHandle<Result<(), Error>>,
    publish: bool,
) -> Result<(), Error> {
    if publish {
        let (done, published) = oneshot::channel();
        // A writer that is gone says why below.
        if writer.send(ToWriter::Publish(done)).await.is_ok() {
            drop(published.await);
        }
    }
    drop(writer);
    writing.await?
}

/// Writes the reports; on success, the marker last.
async fn finish(job: &Job, site: &Site, stop: Option<Stop>, counted: Counted) -> Result<Summary, Error> {
    site.sweep()?;
    let mut summary = summary::of(job, site, None, counted).await?;
    summary.set_stop(stop.as_ref());
    products::write_products(site)?;
    if summary.exit == ExitCode::Complete {
        let ledger = site.ledger();
        let since = ledger.export()?.and_then(|export| export.completed_at);
        ledger.set_completed(Some(since.unwrap_or_else(clock::wall)))?;
    }
    summary.write(&site.store)?;
    if summary.exit == ExitCode::Complete {
        site.store.put(SUCCESS, b"")?;
    }
    Ok(summary)
}
