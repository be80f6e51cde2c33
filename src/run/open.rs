//! An export that is open: its directory, and the parts of a run that are made from the settings once.

use std::sync::Arc;

use crate::decode::Decoder;
use crate::error::Error;
use crate::model::event::Event;
use crate::model::sanitize::chain;
use crate::output::export_dir::ExportDir;
use crate::output::names::SUCCESS;
use crate::output::publisher::Publisher;
use crate::run::context::RunContext;
use crate::run::timeline::TimelineSink;

/// An open export, locked by this process.
#[derive(Debug)]
pub(super) struct OpenExport<'a> {
    pub(super) context: &'a RunContext,
    pub(super) dir: Arc<ExportDir>,
    pub(super) decoder: Decoder,
    pub(super) publisher: Publisher,
    pub(super) timeline: Arc<TimelineSink>,
}

impl<'a> OpenExport<'a> {
    /// `timeline`: the sink of the context's events.
    pub(super) fn new(context: &'a RunContext, dir: ExportDir, timeline: Arc<TimelineSink>) -> Result<Self, Error> {
        timeline.set_run(dir.ledger().next_run()?);
        let settings = &context.settings;
        let decoder = Decoder::for_columns(&settings.endpoint, &settings.columns);
        let publisher = dir.publisher(settings, &decoder, &context.events);
        Ok(Self { context, dir: Arc::new(dir), decoder, publisher, timeline })
    }

    /// Removes `_SUCCESS` and the time of completion: what they promise may not be true from here on.
    pub(super) async fn unmark(&self) -> Result<(), Error> {
        self.dir.store.remove(vec![SUCCESS.to_owned()]).await?;
        Ok(self.dir.ledger().set_completed(None)?)
    }

    /// Removes what a crash left. What a bucket does not let go is a warning.
    pub(super) async fn remove_leftovers(&self) -> Result<(), Error> {
        for error in self.dir.remove_leftovers().await? {
            let message = format!("what an earlier run left is still there: {}", chain(&error));
            self.context.events.event(&Event::Warning(&message));
        }
        Ok(())
    }

    pub(super) fn warn(&self, message: &str) {
        self.context.events.event(&Event::Warning(message));
    }

    pub(super) fn has_waiting(&self) -> Result<bool, Error> {
        Ok(self.dir.ledger().has_unpublished_pages()?)
    }
}
