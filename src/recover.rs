//! The open segment's journal, read again: what a crash or a signal left there becomes rows.
//!
//! One pass over the file. Frames that the ledger names must be whole, anything else is damage; whole frames behind them
//! were written just before the process ended and are adopted; a torn end is cut off. Every page goes through the same
//! decoder and the same walk as when it was fresh, so the rows are the same.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::absorb::absorb;
use crate::clock;
use crate::decode::{Answer, Decoded, Decoder};
use crate::error::Error;
use crate::event::VoidMonitor;
use crate::journal::{Entry, JournalReader, Next};
use crate::ledger::{Group, OpenSegment};
use crate::page::{ItemIx, PageNum};
use crate::publish::ToWriter;
use crate::record::{RecordError, adopt};
use crate::segment::Rows;
use crate::site::Site;
use crate::walk::{Rules, Walk};

/// Reads a segment's journal again.
#[derive(Debug)]
pub struct Recovery {
    /// The export.
    pub site: Arc<Site>,
    /// Its decoder.
    pub decoder: Decoder,
    /// Its walks' rules.
    pub rules: Rules,
    /// Envelope codes that mean success.
    pub success: Arc<[i64]>,
}

impl Recovery {
    /// Brings the ledger up to what the journal holds. Gives the bytes of whole frames.
    pub fn adopt(&self, segment: OpenSegment) -> Result<u64, Error> {
        let Some(mut journal) = JournalReader::open(&self.site.journal, segment.id)? else {
            return if segment.journaled == 0 { Ok(0) } else { Err(self.missing(segment)) };
        };
        loop {
            let known = journal.offset() < segment.journaled;
            match journal.next_frame()? {
                Next::Frame(..) if known => {}
                Next::Frame(frame, entries) => {
                    adopt(segment.id, frame, &entries, &self.success, &mut self.site.ledger())?;
                }
                Next::Torn(why) if known => return Err(journal.damaged(why).into()),
                Next::End if known => return Err(journal.damaged("the file ends too early").into()),
                Next::Torn(_) | Next::End => return Ok(journal.offset()),
            }
        }
    }

    /// Decodes every page of a segment's journal again and hands the rows to the writer. Blocks.
    pub fn reread(&self, segment: OpenSegment, writer: &mpsc::Sender<ToWriter>) -> Result<(), Error> {
        let Some(mut journal) = JournalReader::open(&self.site.journal, segment.id)? else { return Ok(()) };
        let mut walks: HashMap<ItemIx, (Walk, PageNum)> = HashMap::new();
        while journal.offset() < segment.journaled {
            let Next::Frame(_, entries) = journal.next_frame()? else {
                return Err(journal.damaged("a frame is not readable any more").into());
            };
            let answers = self.answers(entries)?;
            let decoded = self.decoder.decode(&answers).map_err(RecordError::Decode)?;
            let rows = self.read(decoded, segment, &mut walks)?;
            if writer.blocking_send(ToWriter::Rows(rows)).is_err() {
                return Ok(()); // the writer failed, and says why where it is waited for
            }
        }
        Ok(())
    }

    fn missing(&self, segment: OpenSegment) -> Error {
        let file = self.site.journal.join(crate::journal::file_name(segment.id));
        Error::Mismatch(format!("journal {} is missing: {} bytes of paid answers", file.display(), segment.journaled))
    }

    fn answers(&self, entries: Vec<Entry>) -> Result<Vec<Answer>, Error> {
        let ledger = self.site.ledger();
        let mut answers = Vec::with_capacity(entries.len());
        for entry in entries.into_iter().filter(|entry| entry.is_page) {
            let unknown = || {
                Error::Mismatch(format!(
                    "the ledger does not know product {}",
                    crate::sanitize::Sanitized(entry.id.as_str())
                ))
            };
            let item = ledger.item(&entry.id)?.ok_or_else(unknown)?;
            answers.push(Answer {
                attempt: entry.attempt,
                item,
                page: entry.page,
                at: entry.at,
                id: entry.id,
                body: entry.body,
            });
        }
        Ok(answers)
    }

    /// Reads a group into its walks. A walk is forgotten behind its last page, so that only those under way are held.
    fn read(
        &self,
        decoded: Decoded,
        segment: OpenSegment,
        walks: &mut HashMap<ItemIx, (Walk, PageNum)>,
    ) -> Result<Rows, Error> {
        let mut group = Group::default();
        let mut keep = Vec::with_capacity(decoded.rows.num_rows());
        let mut rejects = Vec::new();
        let mut ledger = self.site.ledger();
        for page in decoded.pages {
            let (walk, last) = match walks.entry(page.item) {
                std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
                std::collections::hash_map::Entry::Vacant(free) => {
                    let last = ledger.pages(page.item)?.last().copied().unwrap_or(page.page);
                    let mut walk =
                        Walk::new(page.item, page.id.clone(), &self.rules, ledger.pages_before(page.item, segment.id)?);
                    walk.load(ledger.keys(page.item, segment.id)?);
                    walk.set_barren(ledger.barren_pages(page.item, segment.id)?);
                    free.insert((walk, last))
                }
            };
            let is_last = page.page == *last;
            let (mut kept, stop) = absorb(&page, walk, &self.rules, &mut group, &VoidMonitor);
            keep.append(&mut kept);
            rejects.extend(page.rejects);
            if is_last || stop.is_some() {
                walks.remove(&page.item);
            }
        }
        ledger.commit(&group, clock::wall())?;
        Ok(Rows { batch: decoded.rows, partitions: decoded.partitions, keep, rejects })
    }
}
