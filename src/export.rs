//! The run: opens the folder, recovers, walks, publishes, and says how it ended.
//!
//! This file owns the tasks and channels; [`Rounds`] is the loop between them. From here a page can be followed to its
//! file: `rounds` (which page, under which intent) → `dispatch` (quota, fetch, judge) → `record` (journal, ledger, decode)
//! → `absorb` (walk) → `publish` (split, stage, commit).

use std::future::Future;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::api::Fetch;
use crate::clock;
use crate::decode::Decoder;
use crate::dispatch::Dispatcher;
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
    let new = plan(job, &site, ids)?;
    if let Some(since) = site.export.completed_at.filter(|_| !new) {
        return summary::of(job, &site, Some(ExitCode::Complete), Counted::default())
            .await
            .map(|it| it.complete_since(since));
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
    end_writer(begun.writer, begun.writing, begun.segment.journaled > 0).await?;
    finish(job, &site, None, Counted::default()).await
}

/// Adds the list's ids to the ledger and opens walks again that deserve it. Says whether there is anything to do that was
/// not there when the export was last complete.
fn plan(job: &Job, site: &Site, ids: Ids) -> Result<bool, Error> {
    let mut ledger = site.ledger();
    let (came, new) = ledger.add_items::<PlanError>(ids)?;
    if came == 0 {
        return Err(PlanError::Empty.into());
    }
    let identity = job.settings.identity();
    let mut reopened = ledger.reopen_failed(job.settings.retry_failed)?;
    if site.export.identity != identity {
        reopened += ledger.reopen_short()?;
        ledger.set_identity(&identity)?;
    }
    job.monitor.event(&Event::Planned { listed: came, new, reopened });
    Ok(new > 0 || reopened > 0)
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
    let (halt, halted) = watch::channel(false);
    let (to_dispatch, requests) = mpsc::channel(job.ahead());
    let (arrive, arrivals) = mpsc::channel(settings.max_in_flight);
    let dispatcher = Dispatcher {
        api,
        quota: Arc::clone(&quota),
        timeout: settings.request_timeout,
        grace: settings.grace,
        success: settings.endpoint.success_codes.clone().into(),
        halt: halted,
    };
    #[expect(clippy::disallowed_methods, reason = "this file owns the tasks")]
    let dispatching = tokio::spawn(dispatcher.run(requests, arrive));

    let retry = Retry::new(settings.retry, job.seed);
    let rounds = Rounds::new(job, site, recorder, retry, quota)?;
    let channels = crate::rounds::Channels { to_dispatch, arrivals, writer: writer.clone(), halt };
    let (ended, counted) = rounds.run(channels, stopped).await;
    dispatching.await??;
    // The writer's own failure comes first: the rounds only saw that it was gone.
    let publish = counted.journaled > 0 && matches!(&ended, Ok(stop) if stop.as_ref().is_none_or(Stop::publishes));
    end_writer(writer, writing, publish).await?;
    Ok((ended?, counted))
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
