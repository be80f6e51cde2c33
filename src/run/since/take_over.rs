//! Decides which lists are as they were, and takes their pages over from the earlier journal.

use std::path::Path;
use std::sync::Arc;

use indicatif::HumanCount;
use tokio::task::spawn_blocking;

use super::copy::{Copied, Copier};
use super::earlier::Earlier;
use crate::error::Error;
use crate::model::event::Event;
use crate::model::sanitize::{Sanitized, chain};
use crate::output::error::OutputError;
use crate::run::open::OpenExport;
use crate::run::recovery::rebuild::RebuildScope;
use crate::state::ledger::EarlierExport;

impl OpenExport<'_> {
    /// After a run of the engine that nothing stopped: decides the lists whose last pages have come, and takes the pages of those
    /// that are as they were over. Returns whether that changed anything: then some lists continue, and pages may wait to be
    /// published.
    pub(in crate::run) async fn take_over(&self) -> Result<bool, Error> {
        let Some(about) = self.dir.ledger().earlier()? else { return Ok(false) };
        let whole = self.dir.ledger().decide_assumed()?;
        let held = self.dir.ledger().count_held()?;
        if held + whole > 0 {
            let (held, whole) = (HumanCount(held), HumanCount(whole));
            let lists = format!(
                "{held} products begin as they did there and are taken over, {whole} have changed and are read whole"
            );
            self.context.events.event(&Event::Continued { since: &Sanitized(&about.name).to_string(), lists: &lists });
        }
        if held == 0 {
            return Ok(whole > 0);
        }
        let mut copier = self.copier(about).await?;
        loop {
            // A frame at a time, so that a signal ends it soon.
            let (dir, segment_size) = (Arc::clone(&self.dir), self.context.settings.segment_size.max(1));
            let (back, progress) = spawn_blocking(move || {
                let progress = copier.copy(&dir, segment_size)?;
                Ok::<_, Error>((copier, progress))
            })
            .await??;
            copier = back;
            match progress {
                Copied::Frame => {}
                Copied::Segment => self.publish_taken_over().await?,
                Copied::All => break,
            }
        }
        self.dir.ledger().settle_held()?;
        Ok(true)
    }

    async fn copier(&self, about: EarlierExport) -> Result<Copier, Error> {
        let identity = self.context.settings.identity();
        spawn_blocking(move || {
            let earlier =
                Earlier::open(Path::new(&about.state), &about.name, &identity).map_err(|error| gone(&error))?;
            if earlier.about.id != about.id {
                return Err(gone(&OutputError::Mismatch("it is another export now".to_owned())));
            }
            Copier::new(earlier)
        })
        .await?
    }

    /// Publishes the open segment as recovery does.
    async fn publish_taken_over(&self) -> Result<(), Error> {
        let resumed = self.resume(RebuildScope::OtherColumns).await?;
        let published = resumed.writer.publish().await;
        Ok(resumed.writer.end(published).await?)
    }
}

fn gone(error: &dyn std::error::Error) -> Error {
    OutputError::Mismatch(format!(
        "the export that this one continues cannot be read: {}. Bring it back, or run without --since to read the rest whole",
        chain(error)
    ))
    .into()
}
