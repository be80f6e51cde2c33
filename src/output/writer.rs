//! The writer: takes rows in order, stages them, and publishes a segment on command.
//!
//! It works on blocking threads behind a bounded channel. A writer that is slower than the API fills the channel, and a
//! full channel stops new requests: backpressure needs no other code.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::model::event::{Event, EventSink};
use crate::model::page::SegmentId;
use crate::output::error::OutputError;
use crate::output::manifest::Manifest;
use crate::output::publisher::Publisher;
use crate::output::retention::{Retention, Scope};
use crate::output::segment::{Rows, SegmentConfig, SegmentWriter};
use crate::output::worker::Worker;
use crate::state::ledger::OpenSegment;

/// Groups that may wait for the writer: each is up to `max_in_flight` decoded pages.
pub(crate) const QUEUE: usize = 2;

#[derive(Debug)]
pub(crate) enum WriterCommand {
    Begin(OpenSegment),
    Rows(Rows),
    /// Finish and publish it. The sender hears when that is done.
    Publish(oneshot::Sender<()>),
}

/// A writer at work, as those who give the orders know it.
#[derive(Debug)]
pub(crate) struct WriterHandle {
    pub orders: mpsc::Sender<WriterCommand>,
    pub task: JoinHandle<Result<(), OutputError>>,
}

impl WriterHandle {
    /// Publishes the open segment, and waits until that is done.
    pub(crate) async fn publish(&self) -> Result<(), OutputError> {
        let (done, published) = oneshot::channel();
        let sent = self.orders.send(WriterCommand::Publish(done)).await.is_ok();
        if sent && published.await.is_ok() { Ok(()) } else { Err(OutputError::WriterEnded) }
    }

    /// Lets the writer go and waits for its end. Its own failure comes before one that only followed from it.
    pub(crate) async fn end<T, E: From<OutputError>>(self, result: Result<T, E>) -> Result<T, E> {
        drop(self.orders);
        self.task.await.map_err(OutputError::from)??;
        result
    }
}

#[derive(Debug)]
pub(crate) struct SegmentWriterTask {
    pub config: SegmentConfig,
    pub publisher: Publisher,
    /// Removes the journal file of a segment that was published; none: it stays.
    pub retention: Option<Retention>,
    pub events: Arc<dyn EventSink>,
}

impl SegmentWriterTask {
    /// Works until the channel is closed. A segment that got no publish command stays in the journal.
    ///
    /// Each order is carried out on the writer's own thread, and waited for by a blocking task that ends with it: one that
    /// stayed would keep tokio's paused clock, and so every test in virtual time, from moving.
    pub(crate) async fn run(self, mut orders: mpsc::Receiver<WriterCommand>) -> Result<(), OutputError> {
        let worker = Worker::start("writer").map_err(no_thread)?;
        let mut segment: Option<SegmentWriter> = None;
        while let Some(order) = orders.recv().await {
            match (order, segment.take()) {
                (WriterCommand::Begin(open), _) => {
                    segment = Some(SegmentWriter::new(self.config.clone(), open.id, open.attempt));
                }
                (WriterCommand::Rows(rows), Some(mut writer)) => {
                    let pushed = on(&worker, move || writer.push(rows).map(|()| writer));
                    segment = Some(pushed.await?);
                }
                (WriterCommand::Publish(done), Some(writer)) => {
                    self.events.event(&Event::Publishing(writer.segment()));
                    let staged = on(&worker, move || writer.seal()).await?;
                    let manifest = self.publisher.publish(&staged).await?;
                    self.published(&manifest);
                    self.prune(&manifest).await?;
                    done.send(()).ok(); // nobody waits any more when the run has failed elsewhere
                }
                (WriterCommand::Rows(_) | WriterCommand::Publish(_), None) => {} // no segment is open
            }
        }
        Ok(())
    }

    async fn prune(&self, manifest: &Manifest) -> Result<(), OutputError> {
        let Some(retention) = &self.retention else { return Ok(()) };
        let scope = Scope { only: Some(SegmentId(manifest.segment)), ..Scope::default() };
        retention.remove(&retention.sort(scope).await?.expendable).await
    }

    fn published(&self, manifest: &Manifest) {
        self.events.event(&Event::Published {
            segment: SegmentId(manifest.segment),
            files: u64::try_from(manifest.files.len()).unwrap_or_default(),
            rows: manifest.rows(),
            bytes: manifest.files.iter().map(|file| file.bytes).sum(),
        });
    }
}

async fn on<T: Send + 'static>(
    worker: &Worker,
    work: impl FnOnce() -> Result<T, OutputError> + Send + 'static,
) -> Result<T, OutputError> {
    let worker = worker.clone();
    tokio::task::spawn_blocking(move || worker.run(work)).await?.map_err(no_thread)?
}

fn no_thread(source: std::io::Error) -> OutputError {
    OutputError::Thread(source)
}
