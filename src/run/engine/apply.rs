//! Decoded pages into their walks, and the segment to the publisher when it is full.

use tokio::sync::oneshot;

use super::{Channels, Engine, MOST_UNUSABLE_PAGES};
use crate::decode::DecodedPage;
use crate::error::Error;
use crate::fetch::classify::StopCause;
use crate::model::page::{AttemptId, ItemIx, SegmentId};
use crate::model::sanitize::Sanitized;
use crate::output::writer::WriterCommand;
use crate::run::apply_pages;
use crate::run::stop::Stop;

impl Engine<'_> {
    /// Applies a page to its walk and returns which rows are new. None if the walk is over.
    pub(super) fn read_page(&mut self, page: &DecodedPage) -> Result<Option<Vec<bool>>, Error> {
        let item = page.request.item;
        let Some(task) = self.frontier.complete(item, page.request.page) else { return Ok(None) };
        let Some(walk) = self.frontier.walk_mut(item) else { return Ok(None) };
        if walk.keys().is_none() {
            walk.load_keys(self.dir.ledger().row_keys(item, SegmentId::BEHIND_ALL)?);
        }
        let is_first = page.request.page == self.rules.first;
        let is_end = is_first || walk.follows_full(page.request.page, &self.rules);
        let new = walk.accept(page, AttemptId(self.last_attempt), &self.rules);
        apply_pages::note(page, &new, is_first, &mut self.group, &*self.context.events);
        let is_fresh = new.contains(&true);
        if task.is_probe {
            self.lookahead_budget.release(false);
        }
        if is_fresh || !task.is_probe {
            self.lookahead_budget.credit();
        }
        self.learn_from(&task, (page.received, is_fresh));
        if page.received == 0 && page.is_list {
            self.had_empty_list = true;
            self.doubt_missing_list(item);
        }
        self.count_list(is_first, page.received);
        self.count_empty((item, page.request.page), page.received, is_end);
        self.judge_rows(page);
        self.end(item);
        Ok(Some(new))
    }

    /// Requests a page again that was a success without a list, after an empty list came.
    fn doubt_missing_list(&mut self, item: ItemIx) {
        let rules = self.rules;
        if self.frontier.walk_mut(item).is_some_and(|walk| walk.doubt_missing_list(&rules)) {
            if self.revisited.remove(&item) {
                self.group.reopened.push(item);
            }
            self.frontier.reschedule(item);
        }
    }

    /// Stops the run when many pages had rows and none was ever usable.
    fn judge_rows(&mut self, page: &DecodedPage) {
        self.has_usable_row |= !page.keys.is_empty();
        self.unusable_pages += u32::from(page.received > 0 && page.foreign == 0 && !self.has_usable_row);
        if self.unusable_pages >= MOST_UNUSABLE_PAGES && !self.has_usable_row {
            let message = page.rejects.first().map_or("no usable row", |reject| &*reject.reason);
            let message =
                format!("no row of {} pages could be used, lastly: {}", self.unusable_pages, Sanitized(message));
            self.stop.get_or_insert(Stop::Cause(StopCause::Contract, message));
        }
    }

    /// Publishes the segment when its journal is full and nothing is in flight, and starts the next one. Responses that came
    /// meanwhile would hold their shares of the body budget, and others would wait for theirs.
    pub(super) async fn publish_full_segment(&mut self, channels: &mut Channels) -> Result<(), Error> {
        if !self.is_segment_full() || self.frontier.requests_in_flight() > 0 || self.stop.is_some() {
            return Ok(());
        }
        self.commit(Vec::new()).await?; // the ledger must know what was applied before it is published
        let (done, published) = oneshot::channel();
        if channels.writer.send(WriterCommand::Publish(done)).await.is_err() || published.await.is_err() {
            self.stop.get_or_insert(Stop::Temporary("the writer ended".to_owned()));
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
