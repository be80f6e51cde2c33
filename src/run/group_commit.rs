//! Group commit: one journal frame, one ledger transaction, and only then a look at the rows.
//!
//! There is no timer. A group is whatever arrived while the last one was being written, so one page waits for one fsync
//! and a hundred pages wait for the same one. Bodies are durable before the ledger names them, and named before they are
//! decoded (promise P2); the intents of the next requests become durable in the same transaction (promise P3).

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::decode::Response;
use crate::endpoint::Codes;
use crate::error::Error;
use crate::fetch::classify::Verdict;
use crate::fetch::dispatcher::FetchOutcome;
use crate::model::clock::{self, Utc64};
use crate::model::page::{Charge, SegmentId};
use crate::state::disk::Disk;
use crate::state::journal::{Journal, JournalEntry};
use crate::state::ledger::{FailedRow, Group, Ledger, LedgerError, PageRow};

/// Writes groups of one segment.
#[derive(Debug)]
pub(crate) struct GroupCommitter {
    ledger: Arc<Mutex<Ledger>>,
    disk: Disk,
    directory: PathBuf,
    segment: SegmentId,
    journal: Journal,
}

impl GroupCommitter {
    /// A recorder that goes on behind the first `journaled` bytes of a segment's journal.
    pub(crate) fn open(
        ledger: Arc<Mutex<Ledger>>,
        directory: PathBuf,
        segment: SegmentId,
        journaled: u64,
    ) -> Result<Self, Error> {
        let journal = Journal::open(Disk, &directory, segment, journaled)?;
        Ok(Self { ledger, disk: Disk, directory, segment, journal })
    }

    /// Bytes in the segment's journal.
    pub(crate) fn journaled(&self) -> u64 {
        self.journal.bytes()
    }

    /// Goes on with the next segment's journal, a new file; with the same one if it is still the open segment.
    pub(crate) fn rotate(&mut self, segment: SegmentId) -> Result<(), Error> {
        if segment == self.segment {
            return Ok(());
        }
        self.journal = Journal::begin(self.disk, &self.directory, segment)?;
        self.segment = segment;
        Ok(())
    }

    /// Makes a group durable: the arrivals, and what `group` already holds. Gives the pages among the arrivals: from here on
    /// they may be decoded.
    pub(crate) fn commit(&mut self, arrivals: &[FetchOutcome], mut group: Group) -> Result<Vec<Response>, Error> {
        let entries: Vec<JournalEntry> = arrivals.iter().filter_map(entry).collect();
        if !entries.is_empty() {
            let frame = self.journal.append(&entries)?;
            group.frame = Some((self.segment, frame.offset, frame.length));
        }
        let mut answers = Vec::new();
        for arrival in arrivals {
            let request = &arrival.request;
            match (arrival.judged.verdict, &arrival.answer) {
                (Verdict::Page, Some(answer)) => {
                    let (item, page, at) = (request.item, request.page, arrival.at);
                    group.pages.push(PageRow { attempt: request.attempt, item, page, at });
                    answers.push(Response { request: request.clone(), at, body: answer.body.clone() });
                }
                (Verdict::Unsent, _) => group.unsent.push(request.attempt),
                (_, _) => group.failed.push(FailedRow {
                    attempt: request.attempt,
                    charge: arrival.judged.charge,
                    cause: arrival.cause.clone(),
                }),
            }
        }
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner).commit(&group, clock::wall())?;
        Ok(answers)
    }
}

/// What the journal keeps of an arrival: every body, a page or not.
fn entry(arrival: &FetchOutcome) -> Option<JournalEntry> {
    let answer = arrival.answer.as_ref()?;
    Some(JournalEntry {
        attempt: arrival.request.attempt,
        id: arrival.request.id.clone(),
        page: arrival.request.page,
        at: arrival.at,
        status: answer.status,
        is_page: arrival.judged.verdict == Verdict::Page,
        body: answer.body.clone(),
    })
}

/// The ledger's part of a frame that only the journal knows: its process ended before the transaction.
pub(crate) fn adopt(
    segment: SegmentId,
    frame: crate::state::journal::FrameRef,
    entries: &[JournalEntry],
    codes: &Codes,
    ledger: &mut Ledger,
) -> Result<(), LedgerError> {
    let (frame, newest) = (Some((segment, frame.offset, frame.length)), ledger.last_attempt()?);
    let mut group = Group { frame, newest, ..Group::default() };
    for entry in entries {
        // No request leaves before its intent is durable here: a ledger that knows nothing of one has lost what it knew. A
        // page may be a response that was judged again.
        let is_known = ledger.is_in_flight(entry.attempt)? || entry.is_page && ledger.is_failed(entry.attempt)?;
        if !is_known {
            let reason = format!("is older than the journal, which holds the answer to attempt {}", entry.attempt.0);
            return Err(ledger.unusable(reason));
        }
        if entry.is_page {
            let item = ledger.item(&entry.id)?.ok_or_else(|| {
                let id = crate::model::sanitize::Sanitized(entry.id.as_str());
                ledger.unusable(format!("is damaged: it does not know product {id}, whose page the journal holds"))
            })?;
            group.pages.push(PageRow { attempt: entry.attempt, item, page: entry.page, at: entry.at });
        } else {
            let cause = format!("HTTP {}, adopted from the journal", entry.status);
            group.failed.push(FailedRow { attempt: entry.attempt, charge: adopted_charge(entry, codes), cause });
        }
    }
    ledger.commit(&group, Utc64(0))
}

/// A refusal by envelope was free; anything else may have been billed.
fn adopted_charge(entry: &JournalEntry, codes: &Codes) -> Charge {
    let envelope = crate::decode::envelope::read(&entry.body);
    let refused = envelope.is_ok_and(|envelope| envelope.code.is_some_and(|code| !codes.success.contains(&code)));
    if refused || entry.status == 429 { Charge::Free } else { Charge::InDoubt }
}
