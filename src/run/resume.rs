//! What earlier runs left, finished: decided segments are published, published ones that are not as they should be are rebuilt,
//! the open one's journal is read again.
//!
//! Whatever cannot be done is found before anything is changed.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use crate::error::Error;
use crate::model::event::Event;
use crate::output::names::SUCCESS;
use crate::output::writer::{QUEUE, SegmentWriterTask, WriterHandle};
use crate::run::open::OpenExport;
use crate::run::recovery::Recovery;
use crate::run::recovery::rebuild::{RebuildPlan, RebuildScope};
use crate::run::recovery::reclassify::reclassify;
use crate::settings::CODES;
use crate::state::ledger::OpenSegment;

/// The writer at work, and the segment that continues.
pub(super) struct Resumed {
    pub(super) writer: WriterHandle,
    pub(super) segment: OpenSegment,
    pub(super) rebuilt: usize,
}

impl OpenExport<'_> {
    /// Finishes what earlier runs left, and starts the writer. `scope`: which published segments are rebuilt.
    pub(super) async fn resume(&self, scope: RebuildScope) -> Result<Resumed, Error> {
        let (settings, dir) = (&self.context.settings, &self.dir);
        self.publisher.recover().await?;
        self.remove_leftovers().await?;
        let recovery = Arc::new(Recovery {
            dir: Arc::clone(dir),
            decoder: self.decoder.clone(),
            rules: self.context.rules(dir.ledger().end_rule()?.as_deref()),
            codes: Arc::new(settings.endpoint.codes()),
            events: Arc::clone(&self.context.events),
        });
        let plan = RebuildPlan::make(dir, &dir.manifest_schema(settings, &self.decoder), scope).await?;
        plan.check(dir, &recovery).await?;
        let segment = self.adopt_open_segment(&recovery).await?;
        let identity = settings.identity();
        if !plan.is_empty() || dir.export.identity != identity || self.has_waiting()? {
            dir.store.remove(vec![SUCCESS.to_owned()]).await?;
        }
        // The identity first: from here on only a run with these columns may continue.
        dir.ledger().set_identity(&identity)?;

        let writer = self.start_writer();
        let read = async {
            plan.carry_out(dir, &recovery, &writer, &*self.context.events).await?;
            recovery.fill(segment, &writer).await
        };
        if let Err(error) = read.await {
            return writer.end(Err(error)).await;
        }
        let snapshot = dir.ledger().progress()?;
        self.context.events.event(&Event::Opened(snapshot));
        Ok(Resumed { writer, segment, rebuilt: plan.rebuilt() })
    }

    /// The open segment, with every whole frame of its journal known to the ledger. Attempts without an outcome are in doubt
    /// from here on.
    async fn adopt_open_segment(&self, recovery: &Arc<Recovery>) -> Result<OpenSegment, Error> {
        let mut segment = self.dir.ledger().start_segment()?;
        let adopting = Arc::clone(recovery);
        segment.journaled = spawn_blocking(move || adopting.adopt(segment)).await??;
        self.dir.ledger().mark_in_doubt()?;
        let (before, identity) = (&self.dir.export.identity, self.context.settings.identity());
        if before.get(CODES).is_some_and(|codes| identity.get(CODES) != Some(codes)) {
            let (dir, codes) = (Arc::clone(&self.dir), self.context.settings.endpoint.codes());
            segment.journaled = spawn_blocking(move || reclassify(&dir, segment, &codes)).await??;
        }
        Ok(segment)
    }

    fn start_writer(&self) -> WriterHandle {
        let (orders, ordered) = mpsc::channel(QUEUE);
        let config = self.dir.segment_config(&self.context.settings, &self.decoder);
        let events = Arc::clone(&self.context.events);
        let task = SegmentWriterTask { config, publisher: self.publisher.clone(), retention: self.retention(), events };
        #[expect(clippy::disallowed_methods, reason = "run/ owns the tasks")]
        let task = tokio::spawn(task.run(ordered));
        WriterHandle { orders, task }
    }
}
