//! Journal files against their own checksums, and frame by frame and page by page against the ledger. A segment whose file was
//! removed on purpose has the pages and rows that the ledger says.

use std::collections::BTreeSet;

use super::Audit;
use super::report::Remedy;
use crate::decode;
use crate::model::page::SegmentId;
use crate::report::error::ReportError;
use crate::report::totals::as_u64;
use crate::state::journal::{FrameRef, JournalEntry, JournalReader, NextFrame, file_name};
use crate::state::ledger::SegmentState;

pub(super) fn compare(audit: &mut Audit<'_>) -> Result<(), ReportError> {
    let known: BTreeSet<String> = audit.segments.iter().map(|segment| file_name(segment.id)).collect();
    for entry in std::fs::read_dir(&audit.journal).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !known.contains(&name) {
            audit.differs(Remedy::State, format!("journal {name} is of a segment that the ledger does not know"));
        }
    }
    for segment in audit.segments {
        let sums = audit.opened.ledger.segment_sums(segment.id)?;
        if segment.is_pruned {
            audit.read.pruned += 1;
            audit.read.pages += sums.pages;
            audit.read.rows += sums.received;
            continue;
        }
        let mut compared = Compared { audit, segment: segment.id, pages: 0, received: 0 };
        compared.journal(segment.state == SegmentState::Open, sums.pages)?;
        // What was not read, or could not be, is as the ledger says.
        let (pages, received) = (compared.pages, compared.received);
        audit.read.pages += sums.pages.saturating_sub(pages);
        audit.read.rows += sums.received.saturating_sub(received);
    }
    Ok(())
}

/// One journal while it is compared.
struct Compared<'a, 'b> {
    audit: &'a mut Audit<'b>,
    segment: SegmentId,
    /// Pages found in it that the ledger may have.
    pages: u64,
    /// Rows in them, as the ledger has it.
    received: u64,
}

impl Compared<'_, '_> {
    fn differs(&mut self, what: &str) {
        self.audit.differs(Remedy::State, format!("journal {}: {what}", file_name(self.segment)));
    }

    fn journal(&mut self, is_open: bool, pages: u64) -> Result<(), ReportError> {
        let frames = self.audit.opened.ledger.frames(self.segment)?;
        self.audit.read.frames += as_u64(frames.len());
        let Some(mut journal) = JournalReader::open(&self.audit.journal, self.segment)? else {
            if !frames.is_empty() {
                self.differs("it is missing, and nothing can be built again without it");
            }
            return Ok(());
        };
        let mut skipped = false;
        for (offset, length) in frames {
            let frame = FrameRef { offset, length };
            if offset != journal.offset() {
                self.differs(&format!("the ledger names a frame at byte {offset}, where none starts"));
                return Ok(());
            }
            let is_read = self.audit.share.takes(&format!("{} {offset}", file_name(self.segment)));
            skipped |= !is_read;
            let goes_on = if is_read { self.frame(&mut journal, frame)? } else { journal.skip(frame)? };
            if !goes_on {
                return Ok(());
            }
        }
        if !skipped && self.pages != pages {
            self.differs(&format!("it has {} pages, and the ledger names {pages} of them", self.pages));
        }
        self.tail(&mut journal, is_open)
    }

    /// Reads the next frame, which must be this one. False: nothing behind it can be read.
    fn frame(&mut self, journal: &mut JournalReader, frame: FrameRef) -> Result<bool, ReportError> {
        let problem = match journal.next_frame()? {
            NextFrame::Frame(found, entries) if found == frame => {
                self.audit.read.frames_read += 1;
                entries.iter().try_for_each(|entry| self.entry(entry))?;
                return Ok(true);
            }
            NextFrame::Frame(..) => {
                format!("the frame at byte {} has another length than the ledger says", frame.offset)
            }
            NextFrame::Torn(reason) => format!("damaged at byte {}: {reason}", frame.offset),
            NextFrame::End => "it is shorter than the ledger says".to_owned(),
        };
        self.differs(&problem);
        Ok(false)
    }

    /// Counts a page, and returns its number of rows.
    fn count(&mut self, page: &JournalEntry) -> u64 {
        let received = as_u64(decode::received(&page.body));
        self.audit.read.pages += 1;
        self.audit.read.rows += received;
        received
    }

    fn entry(&mut self, entry: &JournalEntry) -> Result<(), ReportError> {
        let attempt = entry.attempt.0;
        if !entry.is_page {
            if !self.audit.opened.ledger.is_failed(entry.attempt)? {
                self.differs(&format!("attempt {attempt} failed, which the ledger does not know"));
            }
            return Ok(());
        }
        self.pages += 1;
        let received = self.count(entry);
        let Some(page) = self.audit.opened.ledger.page_of_attempt(entry.attempt)? else {
            self.differs(&format!("the page of attempt {attempt} is not in the ledger"));
            return Ok(());
        };
        if page.id != entry.id.as_str() || page.page != entry.page || page.segment != self.segment {
            self.differs(&format!("the page of attempt {attempt} is another one in the ledger"));
        }
        self.received += page.received.unwrap_or_default();
        match page.received {
            None => self.audit.read.rows_unread += received,
            Some(known) if known != received => {
                let (page, id) = (entry.page, crate::model::sanitize::sanitize(entry.id.as_str()));
                self.differs(&format!("page {page} of product {id} has {received} rows, {known} in the ledger"));
            }
            Some(_) => {}
        }
        Ok(())
    }

    /// What is behind the last frame that the ledger names: in the open segment, what a crash left.
    fn tail(&mut self, journal: &mut JournalReader, is_open: bool) -> Result<(), ReportError> {
        loop {
            match journal.next_frame()? {
                NextFrame::End => return Ok(()),
                NextFrame::Frame(_, entries) if is_open => {
                    for entry in entries.iter().filter(|entry| entry.is_page) {
                        self.audit.read.rows_unread += self.count(entry);
                    }
                }
                NextFrame::Torn(_) if is_open => return Ok(()),
                NextFrame::Frame(..) | NextFrame::Torn(_) => {
                    self.differs("it continues after the last frame that the ledger names");
                    return Ok(());
                }
            }
        }
    }
}
