//! The writer: takes rows in order, stages them, and publishes a segment when it is told to.
//!
//! It runs on a blocking thread behind a bounded channel. A writer that is slower than the API fills the channel, and a
//! full channel stops new requests: backpressure needs no other code.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::commit::Committer;
use crate::disk::Disk;
use crate::error::Error;
use crate::event::{Event, Monitor};
use crate::ledger::OpenSegment;
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
    /// Works until the channel is closed. A segment that was not told to be published stays in the journal. Blocks.
    pub fn run(self, mut orders: mpsc::Receiver<ToWriter>) -> Result<(), Error> {
        let mut segment: Option<SegmentWriter> = None;
        while let Some(order) = orders.blocking_recv() {
            match order {
                ToWriter::Begin(open) => {
                    segment = Some(SegmentWriter::begin(Disk, self.shape.clone(), open.id, open.attempt));
                }
                ToWriter::Rows(rows) => {
                    if let Some(segment) = &mut segment {
                        segment.push(rows)?;
                    }
                }
                ToWriter::Publish(done) => {
                    if let Some(segment) = segment.take() {
                        self.publish(segment)?;
                    }
                    done.send(()).ok(); // nobody waits any more when the run has failed elsewhere
                }
            }
        }
        Ok(())
    }

    fn publish(&self, segment: SegmentWriter) -> Result<(), Error> {
        let sealed = segment.seal()?;
        let manifest = self.committer.publish(&sealed)?;
        self.monitor.event(&Event::Published {
            segment: sealed.segment,
            files: u64::try_from(manifest.files.len()).unwrap_or_default(),
            rows: manifest.files.iter().map(|file| file.rows).sum(),
            bytes: manifest.files.iter().map(|file| file.bytes).sum(),
        });
        Ok(())
    }
}
