//! Decoded pages into their walks, and the segment to the publisher when it is full.

use tokio::sync::oneshot;

use super::{Channels, Engine};
use crate::decode::DecodedPage;
use crate::error::Error;
use crate::fetch::classify::StopCause;
use crate::model::page::{ItemIx, SegmentId};
use crate::model::sanitize::Sanitized;
use crate::output::writer::WriterCommand;
use crate::run::apply_pages;
use crate::run::stop::Stop;

/// Pages with rows that end the run if no row of any page was ever usable.
const MAX_UNUSABLE_PAGES: u32 = 20;

#[derive(Debug)]
pub(super) struct UsableRows {
    has_one: bool,
    /// Pages with rows before the first usable one.
    pages_without: u32,
}

impl UsableRows {
    /// `has_one`: an earlier run kept a row.
    pub(super) fn new(has_one: bool) -> Self {
        Self { has_one, pages_without: 0 }
    }

    /// Notes a page. Returns the reason to stop when many pages had rows and none was ever usable.
    fn note_page(&mut self, page: &DecodedPage) -> Option<Stop> {
        self.has_one |= !page.keys.is_empty();
        self.pages_without += u32::from(page.received > 0 && page.foreign == 0 && !self.has_one);
        if self.has_one || self.pages_without < MAX_UNUSABLE_PAGES {
            return None;
        }
        let message = page.rejects.first().map_or("no usable row", |reject| &*reject.reason);
        let message = format!("no row of {} pages could be used, lastly: {}", self.pages_without, Sanitized(message));
        Some(Stop::Cause(StopCause::Contract, message))
    }
}

impl Engine<'_> {
    /// Applies a page to its walk and returns which rows are new. None if the walk is over.
    pub(super) fn apply_page(&mut self, page: &DecodedPage) -> Result<Option<Vec<bool>>, Error> {
        let item = page.request.item;
        let Some(task) = self.frontier.take_in_flight(item, page.request.page) else { return Ok(None) };
        let Some(walk) = self.frontier.walk_mut(item) else { return Ok(None) };
        if walk.keys().is_none() {
            walk.load_keys(self.dir.ledger().row_keys(item, SegmentId::BEHIND_ALL)?);
        }
        let is_first = page.request.page == self.rules.first;
        let is_end = is_first || walk.follows_full(page.request.page, &self.rules);
        let new = walk.accept(page, self.newest_attempt, &self.rules);
        apply_pages::note(page, &new, is_first, &mut self.group, &*self.context.events);
        let is_fresh = new.contains(&true);
        if is_fresh || task.probe.is_none() {
            self.lookahead_budget.record_page();
        }
        self.record_evidence(&task, (page.received, is_fresh));
        if page.received == 0 && page.is_list {
            self.empty_lists.had_empty_list = true;
            self.doubt_missing_list(item);
        }
        self.note_rows((item, page.request.page), page.received, (is_first, is_end));
        let unusable = self.usable_rows.note_page(page);
        self.stop_for(unusable);
        self.end_if_over(item);
        Ok(Some(new))
    }

    /// Requests a page again that was a success without a list, after an empty list arrived.
    fn doubt_missing_list(&mut self, item: ItemIx) {
        let rules = self.rules;
        if self.frontier.walk_mut(item).is_some_and(|walk| walk.doubt_missing_list(&rules)) {
            self.reopen_revisit(item);
            self.frontier.reschedule(item);
        }
    }

    /// Publishes the segment when its journal is full and nothing is in flight, and starts the next one. Responses that arrived
    /// meanwhile would hold their shares of the body budget, and others would wait for theirs.
    pub(super) async fn publish_full_segment(&mut self, channels: &mut Channels) -> Result<(), Error> {
        if !self.is_segment_full() || self.frontier.requests_in_flight() > 0 || self.stop.is_some() {
            return Ok(());
        }
        self.commit(Vec::new()).await?; // the ledger must know what was applied before it is published
        let (done, published) = oneshot::channel();
        if channels.writer.send(WriterCommand::Publish(done)).await.is_err() || published.await.is_err() {
            self.stop_for(Stop::Temporary("the writer ended".to_owned()));
            return Ok(());
        }
        let segment = self.dir.ledger().start_segment()?;
        if let Some(committer) = &mut self.committer {
            committer.rotate(segment.id)?;
        }
        drop(channels.writer.send(WriterCommand::Begin(segment)).await);
        Ok(())
    }

    /// Whether the journal is so large that the segment is published before more pages are requested.
    pub(super) fn is_segment_full(&self) -> bool {
        let most = self.context.settings.segment_size.max(1);
        self.committer.as_ref().is_some_and(|committer| committer.journaled() >= most)
    }
}
