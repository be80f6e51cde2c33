//! Frames that only the journal knows, into the ledger: the process that wrote them ended before its transaction.

use crate::decode::envelope::{self, Envelope, NotEnvelope};
use crate::endpoint::Codes;
use crate::fetch::classify::may_become_page;
use crate::model::clock::Utc64;
use crate::model::page::{Charge, SegmentId};
use crate::model::sanitize::Sanitized;
use crate::state::journal::{FrameRef, JournalEntry};
use crate::state::ledger::{FailedRow, Group, Ledger, LedgerError, PageRow};

/// Adds a frame's pages and failed attempts to the ledger. Fails where the ledger does not know one of the attempts: then it is
/// older than the journal.
pub(super) fn adopt(
    segment: SegmentId,
    frame: FrameRef,
    entries: &[JournalEntry],
    codes: &Codes,
    ledger: &mut Ledger,
) -> Result<(), LedgerError> {
    let (frame, newest) = (Some((segment, frame.offset, frame.length)), ledger.last_attempt()?);
    let mut group = Group { frame, newest, ..Group::default() };
    for entry in entries {
        // No request leaves before its intent is durable: a ledger without it has lost data. A page may also be a response that
        // was reclassified, or taken over from an earlier export, which needs no request.
        let is_known = entry.is_page && entry.attempt.is_taken_over()
            || ledger.is_in_flight(entry.attempt)?
            || entry.is_page && ledger.is_failed(entry.attempt)?;
        if !is_known {
            let reason = format!("is older than the journal, which holds the answer to attempt {}", entry.attempt.0);
            return Err(ledger.unusable(reason));
        }
        if entry.is_page {
            let item = ledger.find_item(&entry.id)?.ok_or_else(|| {
                let id = Sanitized(entry.id.as_str());
                ledger.unusable(format!("is damaged: it does not know product {id}, whose page the journal holds"))
            })?;
            group.pages.push(PageRow { attempt: entry.attempt, item, page: entry.page, at: entry.at });
        } else {
            let cause = format!("HTTP {}, adopted from the journal", entry.status);
            let envelope = envelope::read(&entry.body);
            group.failed.push(FailedRow {
                attempt: entry.attempt,
                charge: adopted_charge(entry, &envelope, codes),
                cause,
                may_become_page: may_become_page(entry.status, &envelope),
            });
        }
    }
    ledger.commit(&group, Utc64(0))
}

/// A refusal in the envelope was free. Anything else may have been billed.
fn adopted_charge(entry: &JournalEntry, envelope: &Result<Envelope, NotEnvelope>, codes: &Codes) -> Charge {
    let refused =
        envelope.as_ref().is_ok_and(|envelope| envelope.code.is_some_and(|code| !codes.success.contains(&code)));
    if refused || entry.status == 429 { Charge::Free } else { Charge::InDoubt }
}
