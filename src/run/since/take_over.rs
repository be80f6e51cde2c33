//! Decides which lists are as they were, and takes their pages over from the earlier journal.

use std::sync::Arc;

use indicatif::HumanCount;
use tokio::task::spawn_blocking;

use super::copy::{Copied, Copier};
use super::earlier::Earlier;
use crate::error::Error;
use crate::model::event::Event;
use crate::model::sanitize::Sanitized;
use crate::run::open::OpenExport;
use crate::run::recovery::rebuild::RebuildScope;

impl OpenExport<'_> {
    /// After a run of the engine that nothing stopped: decides the lists whose last pages have come, and takes the pages of those
    /// that are as they were over and publishes them. Returns whether that changed anything: then some lists continue.
    pub(in crate::run) async fn take_over(&self, earlier: Earlier) -> Result<(Earlier, bool), Error> {
        let whole = self.dir.ledger().decide_assumed()?;
        let held = self.dir.ledger().count_held()?;
        if held + whole > 0 {
            let (held, whole) = (HumanCount(held), HumanCount(whole));
            let lists = format!("{held} products begin as they did there and are taken over, {whole} are read whole");
            let since = Sanitized(&earlier.about.name).to_string();
            self.context.events.event(&Event::Continued { since: &since, lists: &lists });
        }
        if held == 0 {
            return Ok((earlier, whole > 0));
        }
        let mut copier = Copier::new(earlier)?;
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
        self.publish_taken_over().await?;
        self.dir.ledger().settle_held()?;
        Ok((copier.into_earlier(), true))
    }

    /// Has the lists read whole whose last page failed while the API served others. Returns whether there are any.
    pub(in crate::run) fn give_up_last_pages(&self) -> Result<bool, Error> {
        Ok(self.dir.ledger().give_up_last_pages()? > 0)
    }

    /// Publishes the open segment as recovery does.
    async fn publish_taken_over(&self) -> Result<(), Error> {
        let resumed = self.resume(RebuildScope::OtherColumns).await?;
        let published = if self.has_waiting()? { resumed.writer.publish().await } else { Ok(()) };
        Ok(resumed.writer.end(published).await?)
    }
}
