//! The writer: takes rows in order, stages them, and publishes a segment when it is told to.
//!
//! It works on blocking threads behind a bounded channel. A writer that is slower than the API fills the channel, and a
//! full channel stops new requests: backpressure needs no other code.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::commit::{Committer, Manifest};
use crate::disk::Disk;
use crate::error::Error;
use crate::event::{Event, Monitor};
use crate::ledger::OpenSegment;
use crate::page::SegmentId;
use crate::segment::{Rows, SegmentWriter, Shape};

/// Groups that may wait for the writer: each is up to `max_in_flight` decoded pages.
pub const QUEUE: usize = 2;

/// What the writer is told.
#[derive(Debug)]
pub enum ToWriter {
    /// Begin the files of a segment.
    Begin(OpenSegment),
    /// Add rows to it.
    Rows(Rows),
    /// Seal it and publish it; answered when it is published.
    Publish(oneshot::Sender<()>),
}

/// Stages and publishes segments.
#[derive(Debug)]
pub struct Writer {
    /// What shapes the files.
    pub shape: Shape,
    /// Who publishes them.
    pub committer: Committer,
    /// Who wants to know.
    pub monitor: Arc<dyn Monitor>,
}

impl Writer {
    /// Works until the channel is closed. A segment that was not told to be published stays in the journal.
    ///
    /// Each order is carried out on a blocking thread that ends with it: one that stayed would keep tokio's paused clock, and
    /// so every test in virtual time, from moving.
    pub async fn run(self, mut orders: mpsc::Receiver<ToWriter>) -> Result<(), Error> {
        let mut segment: Option<SegmentWriter> = None;
        while let Some(order) = orders.recv().await {
            match (order, segment.take()) {
                (ToWriter::Begin(open), _) => {
                    segment = Some(SegmentWriter::begin(Disk, self.shape.clone(), open.id, open.attempt));
                }
                (ToWriter::Rows(rows), Some(mut writer)) => {
                    let pushed = move || writer.push(rows).map(|()| writer);
                    segment = Some(tokio::task::spawn_blocking(pushed).await??);
                }
                (ToWriter::Publish(done), Some(writer)) => {
                    let committer = self.committer.clone();
                    let manifest = tokio::task::spawn_blocking(move || publish(writer, &committer)).await??;
                    self.published(&manifest);
                    done.send(()).ok(); // nobody waits any more when the run has failed elsewhere
                }
                (ToWriter::Rows(_) | ToWriter::Publish(_), None) => {} // no segment was begun: nothing to add to
            }
        }
        Ok(())
    }

    fn published(&self, manifest: &Manifest) {
        self.monitor.event(&Event::Published {
            segment: SegmentId(manifest.segment),
            files: u64::try_from(manifest.files.len()).unwrap_or_default(),
            rows: manifest.files.iter().map(|file| file.rows).sum(),
            bytes: manifest.files.iter().map(|file| file.bytes).sum(),
        });
    }
}

fn publish(segment: SegmentWriter, committer: &Committer) -> Result<Manifest, Error> {
    Ok(committer.publish(&segment.seal()?)?)
}
