//! Group commit: one journal frame and one ledger transaction for everything that arrived while the last group was written.
//!
//! There is no timer: one page waits for one fsync, and a hundred pages wait for the same one. Bodies are durable before the
//! ledger names them, and named before they are decoded (promise P2). The intents of the next requests become durable in the
//! same transaction (promise P3).

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::decode::{Response, envelope};
use crate::error::Error;
use crate::fetch::classify::{Verdict, may_become_page};
use crate::fetch::dispatcher::FetchOutcome;
use crate::model::clock;
use crate::model::page::SegmentId;
use crate::run::timeline::TimelineSink;
use crate::state::disk::Disk;
use crate::state::journal::{Journal, JournalEntry};
use crate::state::ledger::{FailedRow, Group, Ledger, PageRow};

#[derive(Debug)]
pub(crate) struct GroupCommitter {
    ledger: Arc<Mutex<Ledger>>,
    disk: Disk,
    directory: PathBuf,
    segment: SegmentId,
    journal: Journal,
    timeline: Arc<TimelineSink>,
}

impl GroupCommitter {
    /// Opens a segment's journal to append behind its first `journaled` bytes.
    pub(crate) fn open(
        ledger: Arc<Mutex<Ledger>>,
        directory: PathBuf,
        segment: SegmentId,
        journaled: u64,
        timeline: Arc<TimelineSink>,
    ) -> Result<Self, Error> {
        let journal = Journal::open(Disk, &directory, segment, journaled)?;
        Ok(Self { ledger, disk: Disk, directory, segment, journal, timeline })
    }

    pub(crate) fn journaled(&self) -> u64 {
        self.journal.bytes()
    }

    /// Switches to the journal of the next segment, a new file. Does nothing if `segment` is still the open one.
    pub(crate) fn rotate(&mut self, segment: SegmentId) -> Result<(), Error> {
        if segment == self.segment {
            return Ok(());
        }
        self.journal = Journal::create(self.disk, &self.directory, segment)?;
        self.segment = segment;
        Ok(())
    }

    /// Makes the outcomes and what `group` already has durable. Returns the pages among them: from here on they may be decoded.
    pub(crate) fn commit(&mut self, outcomes: &[FetchOutcome], mut group: Group) -> Result<Vec<Response>, Error> {
        let entries: Vec<JournalEntry> = outcomes.iter().filter_map(entry).collect();
        if !entries.is_empty() {
            let frame = self.journal.append(&entries)?;
            group.frame = Some((self.segment, frame.offset, frame.length));
        }
        let mut responses = Vec::new();
        for outcome in outcomes {
            let request = &outcome.request;
            match (outcome.classification.verdict, &outcome.response) {
                (Verdict::Page, Some(response)) => {
                    let (item, page, at) = (request.item, request.page, outcome.at);
                    group.pages.push(PageRow { attempt: request.attempt, item, page, at });
                    responses.push(Response { request: request.clone(), at, body: response.body.clone() });
                }
                (Verdict::Unsent, _) => group.unsent.push(request.attempt),
                (_, _) => group.failed.push(FailedRow {
                    attempt: request.attempt,
                    charge: outcome.classification.charge,
                    cause: outcome.message.clone(),
                    may_become_page: outcome
                        .response
                        .as_ref()
                        .is_some_and(|response| may_become_page(response.status, &envelope::read(&response.body))),
                }),
            }
        }
        group.timeline = self.timeline.take_due();
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner).commit(&group, clock::wall())?;
        Ok(responses)
    }
}

/// What the journal keeps of an outcome: every body, whether it is a page or not.
fn entry(outcome: &FetchOutcome) -> Option<JournalEntry> {
    let response = outcome.response.as_ref()?;
    Some(JournalEntry {
        attempt: outcome.request.attempt,
        id: outcome.request.id.clone(),
        page: outcome.request.page,
        at: outcome.at,
        status: response.status,
        is_page: outcome.classification.verdict == Verdict::Page,
        body: response.body.clone(),
    })
}
