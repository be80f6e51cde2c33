//! What an export took over from an earlier one, and what a sample shows about the rest.

use std::fmt;

use indicatif::HumanCount;
use serde::Serialize;

use crate::model::sanitize::Sanitized;
use crate::report::totals::{Count, ExportTotals};
use crate::state::ledger::{Ledger, LedgerError, SinceCounts};

/// Products that are listed one by one.
const LISTED: usize = 20;

#[derive(Clone, Debug, Serialize)]
pub struct ContinuedTotals {
    /// The earlier export, as the user named it, and its id.
    pub since: String,
    pub export: String,
    /// Products whose pages before the last one were taken over.
    pub kept: u64,
    /// Pages and rows that were taken over.
    pub pages: u64,
    pub rows: u64,
    /// The other rows of this export, which were requested.
    pub requested_rows: u64,
    /// Products that were read whole, because their last page was not as it had been.
    pub whole: u64,
    /// Products whose last page was not judged, or whose pages were not taken over yet.
    pub waiting: u64,
    /// Products that are read whole to be compared; of those compared: as they were, changed as their last page shows, changed
    /// though their last page does not show it.
    pub sampled: u64,
    pub same: u64,
    pub changed: u64,
    pub changed_unseen: u64,
    /// The first of the last ones.
    pub unseen: Vec<String>,
}

impl ContinuedTotals {
    /// None if the export continues none.
    pub(super) fn from_ledger(ledger: &Ledger, totals: &ExportTotals) -> Result<Option<Self>, LedgerError> {
        let Some(earlier) = ledger.earlier()? else { return Ok(None) };
        let counts = ledger.since_counts()?;
        let SinceCounts { waiting, whole, sampled, same, seen, unseen, pages, rows, .. } = counts;
        Ok(Some(Self {
            since: earlier.name,
            export: earlier.id,
            kept: counts.kept,
            pages,
            rows,
            requested_rows: (totals.rows.published + totals.rows.waiting).saturating_sub(rows),
            whole,
            waiting,
            sampled: sampled + same + seen + unseen,
            same,
            changed: seen,
            changed_unseen: unseen,
            unseen: if unseen > 0 { ledger.unseen_changes(LISTED)? } else { Vec::new() },
        }))
    }
}

impl fmt::Display for ContinuedTotals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kept, rows) = (Count(self.kept, "product"), Count(self.rows, "row"));
        let requested = HumanCount(self.requested_rows);
        write!(f, "{}: {kept} continued with {rows}, {requested} requested", Sanitized(&self.since))?;
        if self.whole > 0 {
            write!(f, "; {} read whole", HumanCount(self.whole))?;
        }
        if self.waiting > 0 {
            write!(f, "; {} not decided yet", HumanCount(self.waiting))?;
        }
        let compared = self.same + self.changed + self.changed_unseen;
        if compared > 0 {
            let (compared, changed) = (HumanCount(compared), HumanCount(self.changed_unseen));
            write!(f, "\n  sample    {changed} of {compared} products changed where the last page does not show it")?;
            if self.changed > 0 {
                write!(f, ", {} where it does", HumanCount(self.changed))?;
            }
        }
        if let Some(first) = self.unseen.first() {
            let first = Sanitized(first);
            write!(f, ": first {first}. Others may have, too; an export without --since reads all")?;
        }
        Ok(())
    }
}
