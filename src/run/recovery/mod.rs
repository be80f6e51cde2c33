//! A segment's journal, read again: the open one's after a crash or a signal, a published one's when its files are rebuilt.
//!
//! Frames that the ledger names must be intact; anything else is damage. Intact frames behind them, in the open segment, were
//! written just before the process ended and are adopted. A torn end is cut off. Every page goes through the same decoder and the
//! same walk as the first time, so the rows are the same.

mod adopt;
pub(crate) mod rebuild;
pub(super) mod reclassify;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::crawl::end_of_list::{End, PagingRules};
use crate::crawl::walk::Walk;
use crate::decode::{DecodedPage, Decoder, Response};
use crate::endpoint::Codes;
use crate::error::Error;
use crate::model::clock;
use crate::model::event::{Event, EventSink, NullSink};
use crate::model::page::{ItemIx, Request};
use crate::output::error::OutputError;
use crate::output::export_dir::ExportDir;
use crate::output::writer::{WriterCommand, WriterHandle};
use crate::run::apply_pages;
use crate::state::journal::{self, JournalReader, NextFrame};
use crate::state::ledger::{EndRow, Group, OpenSegment};
use adopt::adopt;

/// Pages that are applied between two commits.
const PAGES_A_COMMIT: usize = 4_096;

#[derive(Debug)]
pub(crate) struct Recovery {
    pub dir: Arc<ExportDir>,
    pub decoder: Decoder,
    pub rules: PagingRules,
    pub codes: Arc<Codes>,
    pub events: Arc<dyn EventSink>,
}

impl Recovery {
    /// Adds frames to the ledger that only the journal has. Returns the bytes of intact frames.
    pub(crate) fn adopt(&self, segment: OpenSegment) -> Result<u64, Error> {
        let Some(mut journal) = self.check(segment)? else { return Ok(0) };
        loop {
            match journal.next_frame()? {
                NextFrame::Frame(frame, entries) => {
                    adopt(segment.id, frame, &entries, &self.codes, &mut self.dir.ledger())?;
                }
                NextFrame::Torn(_) | NextFrame::End => return Ok(journal.offset()),
            }
        }
    }

    /// Checks that every frame that the ledger names is intact. Returns the reader behind them, or none where there is no file and
    /// none is needed. Changes nothing.
    pub(crate) fn check(&self, segment: OpenSegment) -> Result<Option<JournalReader>, Error> {
        let Some(mut journal) = JournalReader::open(&self.dir.journal, segment.id)? else {
            return if segment.journaled == 0 { Ok(None) } else { Err(self.missing(segment)) };
        };
        while journal.offset() < segment.journaled {
            match journal.next_frame()? {
                NextFrame::Frame(..) => {}
                NextFrame::Torn(reason) => return Err(journal.damaged(reason).into()),
                NextFrame::End => return Err(journal.damaged("the file ends too early").into()),
            }
        }
        Ok(Some(journal))
    }

    /// Starts a segment's files and fills them from its journal.
    pub(crate) async fn fill(self: &Arc<Self>, segment: OpenSegment, writing: &WriterHandle) -> Result<(), Error> {
        let (recovery, writer) = (Arc::clone(self), writing.orders.clone());
        let filling = move || match writer.blocking_send(WriterCommand::Begin(segment)) {
            Ok(()) => recovery.reread(segment, &writer),
            Err(_) => Ok(()), // the writer's own error is reported by its task
        };
        tokio::task::spawn_blocking(filling).await?
    }

    /// Decodes every page of a segment's journal and sends the rows to the writer. Blocks.
    fn reread(&self, segment: OpenSegment, writer: &mpsc::Sender<WriterCommand>) -> Result<(), Error> {
        let Some(mut journal) = JournalReader::open(&self.dir.journal, segment.id)? else { return Ok(()) };
        let mut walks = HashMap::new();
        let mut group = Group::default();
        while journal.offset() < segment.journaled {
            let NextFrame::Frame(_, entries) = journal.next_frame()? else {
                return Err(journal.damaged("a frame is not readable any more").into());
            };
            let responses = self.responses(entries)?;
            let decoded = self.decoder.decode(&responses).map_err(Error::Decode)?;
            self.events.event(&Event::Reread(decoded.pages.len()));
            let rows = apply_pages::group(decoded, |page| self.read(page, segment, &mut walks, &mut group).map(Some))?;
            // If this commit is lost, the same pages are read again, so many pages share an fsync. The drift counts stay for the
            // last commit, which has every page.
            if group.applied.len() >= PAGES_A_COMMIT {
                let drift = std::mem::take(&mut group.drift);
                self.dir.ledger().commit(&std::mem::take(&mut group), clock::wall())?;
                group.drift = drift;
            }
            if writer.blocking_send(WriterCommand::Rows(rows)).is_err() {
                return Ok(()); // the writer's own error is reported by its task
            }
        }
        group.reapplied = Some(segment.id);
        Ok(self.dir.ledger().commit(&group, clock::wall())?)
    }

    fn missing(&self, segment: OpenSegment) -> Error {
        let file = self.dir.journal.join(journal::file_name(segment.id));
        OutputError::Damaged(format!(
            "journal {} is missing: {} bytes of paid responses",
            file.display(),
            segment.journaled
        ))
        .into()
    }

    fn responses(&self, entries: Vec<journal::JournalEntry>) -> Result<Vec<Response>, Error> {
        let ledger = self.dir.ledger();
        let mut responses = Vec::with_capacity(entries.len());
        for entry in entries.into_iter().filter(|entry| entry.is_page) {
            let unknown = || {
                OutputError::Mismatch(format!(
                    "the ledger does not know product {}",
                    crate::model::sanitize::Sanitized(entry.id.as_str())
                ))
            };
            let item = ledger.find_item(&entry.id)?.ok_or_else(unknown)?;
            let request = Request { attempt: entry.attempt, item, id: entry.id, page: entry.page };
            responses.push(Response { request, at: entry.at, body: entry.body });
        }
        Ok(responses)
    }

    /// Applies a page to its walk. A walk is dropped after its last page, so that only open ones are in memory.
    fn read(
        &self,
        page: &DecodedPage,
        segment: OpenSegment,
        walks: &mut HashMap<ItemIx, RereadWalk>,
        group: &mut Group,
    ) -> Result<Vec<bool>, Error> {
        let item = page.request.item;
        let reread_walk = match walks.entry(item) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(free) => free.insert(self.open_walk(&page.request, segment)?),
        };
        let (came, is_outdated) = self.dir.ledger().arrival(page.request.attempt)?;
        let walk = &mut reread_walk.walk;
        let new = if is_outdated { walk.accept_outdated(page) } else { walk.accept(page, came, &self.rules) };
        apply_pages::note(page, &new, page.request.page == self.rules.first, group, &NullSink);
        reread_walk.left = reread_walk.left.saturating_sub(1);
        if reread_walk.left == 0 {
            // With pages in later segments the walk was opened again. An end that a page has to confirm is for the run to decide.
            let is_settled =
                |end: &&End| !reread_walk.continues && end.check.is_none() && !reread_walk.walk.is_blocked();
            match reread_walk.walk.end().filter(is_settled) {
                Some(end) => {
                    let end = EndRow { error: end.message.clone(), ..EndRow::new(item, end.stop) };
                    group.ended.push(reread_walk.walk.resolve_end(end));
                }
                // A page behind its end came just before the process ended: the list continues.
                None if reread_walk.walk.end().is_none() && !reread_walk.continues => group.reopened.push(item),
                None => {}
            }
            walks.remove(&item);
        }
        Ok(new)
    }

    /// An item's walk as it was before a segment.
    fn open_walk(&self, request: &Request, segment: OpenSegment) -> Result<RereadWalk, Error> {
        let (item, ledger) = (request.item, self.dir.ledger());
        let (left, continues) = ledger.pages_from(item, segment.id)?;
        let pages = ledger.pages(item, segment.id)?;
        let mut walk = Walk::new(item, request.id.clone(), &self.rules, pages, ledger.skip(item)?);
        walk.load_keys(ledger.row_keys(item, segment.id)?);
        Ok(RereadWalk { walk, left, continues })
    }
}

#[derive(Debug)]
struct RereadWalk {
    walk: Walk,
    /// Its pages that are still to come in this segment.
    left: usize,
    /// Whether later segments have more pages of it.
    continues: bool,
}
