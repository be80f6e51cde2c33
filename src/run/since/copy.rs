//! Copies pages from the earlier journal to the open segment's, as they are: the same responses with their old times.
//!
//! The pages of one frame are durable before the ledger names them, as in a group commit. A copied page has a number below 0 in
//! place of a request's: a frame that only the journal knows after a crash is adopted by it.

use super::earlier::{Earlier, refused};
use crate::error::Error;
use crate::model::clock;
use crate::model::page::{AttemptId, ItemIx, SegmentId};
use crate::model::sanitize::chain;
use crate::output::export_dir::ExportDir;
use crate::state::disk::Disk;
use crate::state::journal::{Journal, JournalEntry, JournalReader, NextFrame};
use crate::state::ledger::{Group, PageRow};

/// Bytes of bodies from which on a frame is written.
const FRAME: usize = 4 << 20;

/// How far the earlier journal is copied.
#[derive(Debug)]
pub(super) struct Copier {
    earlier: Earlier,
    /// Its segments that are not read yet, the next one last, with the bytes that its ledger names.
    segments: Vec<(SegmentId, u64)>,
    reading: Option<(JournalReader, u64)>,
    writing: Option<(SegmentId, Journal)>,
}

/// What copying came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Copied {
    /// A frame was written; there may be more.
    Frame,
    /// The same, and the open segment is full.
    Segment,
    /// The earlier journal has no more of it.
    All,
}

/// A frame's pages until it is written.
#[derive(Default)]
struct Gathered {
    entries: Vec<JournalEntry>,
    items: Vec<ItemIx>,
    bytes: usize,
}

impl Copier {
    pub(super) fn new(earlier: Earlier) -> Result<Self, Error> {
        let mut segments = Vec::new();
        for row in earlier.ledger.segments()?.iter().rev().filter(|row| !row.is_pruned) {
            segments.push((row.id, earlier.ledger.journaled(row.id)?));
        }
        Ok(Self { earlier, segments, reading: None, writing: None })
    }

    pub(super) fn into_earlier(self) -> Earlier {
        self.earlier
    }

    /// Copies pages of held lists into the open segment's journal, one frame. Blocks.
    pub(super) fn copy(&mut self, dir: &ExportDir, segment_size: u64) -> Result<Copied, Error> {
        let (segment, mut journal) = if let Some(writing) = self.writing.take() {
            writing
        } else {
            let open = dir.ledger().start_segment()?;
            (open.id, Journal::open(Disk, &dir.journal, open.id, open.journaled)?)
        };
        let gathered = self.gather(dir)?;
        if gathered.entries.is_empty() {
            return Ok(Copied::All);
        }
        gathered.write(dir, segment, &mut journal)?;
        if journal.bytes() >= segment_size {
            return Ok(Copied::Segment);
        }
        self.writing = Some((segment, journal));
        Ok(Copied::Frame)
    }

    /// The next pages to take over, enough for a frame; none if the earlier journal has no more.
    fn gather(&mut self, dir: &ExportDir) -> Result<Gathered, Error> {
        let mut number = dir.ledger().first_attempt()?.0;
        let mut gathered = Gathered::default();
        while gathered.bytes < FRAME {
            let Some(entries) = self.next_entries()? else { break };
            for entry in entries {
                let Some(item) = self.wanted(&entry, &gathered, dir)? else { continue };
                number -= 1;
                gathered.bytes += entry.body.len();
                gathered.items.push(item);
                gathered.entries.push(JournalEntry { attempt: AttemptId(number), ..entry });
            }
        }
        Ok(gathered)
    }

    /// The responses of the next frame. Fails where one that the earlier ledger names is not as it was written.
    fn next_entries(&mut self) -> Result<Option<Vec<JournalEntry>>, Error> {
        let name = self.earlier.about.name.clone();
        let damaged = |what: String| refused(&name, &format!("has a damaged journal: {what}"));
        loop {
            if let Some((journal, _)) = self.reading.as_mut().filter(|(journal, end)| journal.offset() < *end) {
                return match journal.next_frame()? {
                    NextFrame::Frame(_, entries) => Ok(Some(entries)),
                    NextFrame::Torn(reason) => Err(damaged(chain(&journal.damaged(reason)))),
                    NextFrame::End => Err(damaged(chain(&journal.damaged("the file ends too early")))),
                };
            }
            let Some((segment, end)) = self.segments.pop() else { return Ok(None) };
            let opened = JournalReader::open(&self.earlier.journal, segment)?;
            if opened.is_none() && end > 0 {
                return Err(damaged(format!("the file of segment {segment} is missing")));
            }
            self.reading = opened.map(|journal| (journal, end));
        }
    }

    /// The item that a response is a page of, if that page is to be taken over.
    fn wanted(&self, entry: &JournalEntry, gathered: &Gathered, dir: &ExportDir) -> Result<Option<ItemIx>, Error> {
        if !entry.is_page {
            return Ok(None);
        }
        let Some(item) = dir.ledger().lacks_held_page(&entry.id, entry.page)? else { return Ok(None) };
        let (_, is_outdated) = self.earlier.ledger.arrival(entry.attempt)?;
        let is_gathered =
            gathered.entries.iter().zip(&gathered.items).any(|(known, of)| *of == item && known.page == entry.page);
        Ok(Some(item).filter(|_| !is_outdated && !is_gathered))
    }
}

impl Gathered {
    fn write(self, dir: &ExportDir, segment: SegmentId, journal: &mut Journal) -> Result<(), Error> {
        if let Some(shortage) = dir.min_free_space.shortage()? {
            return Err(Error::NoFreeSpace(shortage));
        }
        let frame = journal.append(&self.entries)?;
        let row = |(entry, item): (&JournalEntry, &ItemIx)| PageRow {
            attempt: entry.attempt,
            item: *item,
            page: entry.page,
            at: entry.at,
        };
        let pages = self.entries.iter().zip(&self.items).map(row).collect();
        let group = Group { frame: Some((segment, frame.offset, frame.length)), pages, ..Group::default() };
        Ok(dir.ledger().commit(&group, clock::wall())?)
    }
}
