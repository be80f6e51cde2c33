//! Reclassifies bodies in the journal that were not pages when they came and are pages by the endpoint's present codes: they are
//! paid for, so they are not requested again.
//!
//! Each such body is appended to the open segment's journal as a page, under its attempt, and added to the ledger in one
//! transaction. A crash in between leaves an intact frame that recovery adopts.

use std::collections::BTreeSet;

use crate::decode::envelope;
use crate::endpoint::Codes;
use crate::error::Error;
use crate::fetch::classify::{Verdict, classify};
use crate::model::clock;
use crate::model::page::{ItemIx, PageNum};
use crate::output::export_dir::ExportDir;
use crate::state::disk::Disk;
use crate::state::journal::{Journal, JournalEntry, JournalReader, NextFrame};
use crate::state::ledger::{Group, Ledger, LedgerError, OpenSegment, PageRow};

/// Appends what has become a page to the open segment's journal. Returns the bytes of intact frames in it. Blocks.
pub(crate) fn reclassify(dir: &ExportDir, open: OpenSegment, codes: &Codes) -> Result<u64, Error> {
    let mut journal = None;
    let segments = dir.ledger().segments()?;
    for segment in segments {
        let named = if segment.id == open.id { open.journaled } else { dir.ledger().journaled(segment.id)? };
        let Some(mut reader) = JournalReader::open(&dir.journal, segment.id)? else { continue };
        while reader.offset() < named {
            let NextFrame::Frame(_, entries) = reader.next_frame()? else {
                return Err(reader.damaged("a frame is not readable any more").into());
            };
            let pages = pages_among(entries, codes, &dir.ledger())?;
            if pages.is_empty() {
                continue;
            }
            let journal = match &mut journal {
                Some(journal) => journal,
                None => journal.insert(Journal::open(Disk, &dir.journal, open.id, open.journaled)?),
            };
            append(journal, open, pages, &mut dir.ledger())?;
        }
    }
    Ok(journal.map_or(open.journaled, |journal| journal.bytes()))
}

/// The entries that have become pages, of items that lack them.
fn pages_among(
    entries: Vec<JournalEntry>,
    codes: &Codes,
    ledger: &Ledger,
) -> Result<Vec<(JournalEntry, ItemIx, PageNum)>, LedgerError> {
    let (mut pages, mut known) = (Vec::new(), BTreeSet::new());
    for mut entry in entries.into_iter().filter(|entry| !entry.is_page) {
        let envelope = envelope::read(&entry.body);
        if classify(entry.status, &envelope, None, codes).verdict != Verdict::Page
            || !ledger.is_failed(entry.attempt)?
        {
            continue;
        }
        let (Some(item), page) = (ledger.find_item(&entry.id)?, entry.page) else { continue };
        if known.insert((item, page)) && !ledger.has_page(item, page)? {
            entry.is_page = true;
            pages.push((entry, item, page));
        }
    }
    Ok(pages)
}

fn append(
    journal: &mut Journal,
    open: OpenSegment,
    pages: Vec<(JournalEntry, ItemIx, PageNum)>,
    ledger: &mut Ledger,
) -> Result<(), Error> {
    let row = |(entry, item, page): &(JournalEntry, ItemIx, PageNum)| PageRow {
        attempt: entry.attempt,
        item: *item,
        page: *page,
        at: entry.at,
    };
    let rows = pages.iter().map(row).collect();
    let entries: Vec<JournalEntry> = pages.into_iter().map(|(entry, ..)| entry).collect();
    let frame = journal.append(&entries)?;
    let frame = Some((open.id, frame.offset, frame.length));
    let newest = ledger.last_attempt()?;
    Ok(ledger.commit(&Group { frame, pages: rows, newest, ..Group::default() }, clock::wall())?)
}
