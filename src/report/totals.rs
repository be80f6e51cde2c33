//! The totals of a whole export, over all its runs, from the ledger and the manifests. A run's summary and `status` show them
//! in the same words.

use std::fmt;

use bytesize::ByteSize;
use indicatif::HumanCount;
use serde::Serialize;

use crate::model::page::StopReason;
use crate::output::manifest::Manifest;
use crate::state::ledger::{Credits, Ledger, LedgerError, Totals};

/// Products that are listed one by one.
const LISTED: usize = 20;

#[derive(Clone, Debug, Serialize)]
pub struct ExportTotals {
    pub products: Products,
    pub pages: Pages,
    /// received = published + waiting + duplicates + rejected.
    pub rows: RowCounts,
    pub credits: CreditCounts,
    /// Directories of the partition that have a file.
    pub regions: u64,
    pub files: u64,
    pub bytes: u64,
    pub failures: Vec<ListedFailure>,
}

/// Products by outcome.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Products {
    pub total: u64,
    /// Read to the end.
    pub complete: u64,
    /// Failed for good.
    pub failed: u64,
    /// Incomplete for another reason.
    pub cut: u64,
    pub open: u64,
    /// Lists that moved while they were read, whatever their outcome.
    pub moved: u64,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct Pages {
    pub journaled: u64,
    /// Of those, not published yet.
    pub waiting: u64,
    /// Of those, requested once more since, because their list had moved or was empty.
    pub outdated: u64,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct RowCounts {
    pub received: u64,
    pub published: u64,
    /// To be published, still in the journal.
    pub waiting: u64,
    /// Seen before in the same walk.
    pub duplicates: u64,
    /// Could not be typed; kept in `_rejects`.
    pub rejected: u64,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct CreditCounts {
    pub billed: u64,
    /// Attempts known to be free.
    pub free: u64,
    /// Attempts that may have been billed, an upper bound.
    pub in_doubt: u64,
    /// The limit that the user set.
    pub max: Option<u64>,
}

/// A product that failed or is incomplete.
#[derive(Clone, Debug, Serialize)]
pub struct ListedFailure {
    pub product: String,
    pub stop_reason: &'static str,
    pub error: Option<String>,
}

impl ExportTotals {
    pub(crate) fn from_ledger(
        ledger: &Ledger,
        manifests: &[Manifest],
        max_credits: Option<u64>,
    ) -> Result<Self, LedgerError> {
        let (totals, credits, failures) = (ledger.totals()?, ledger.credits()?, ledger.failed_items(LISTED)?);
        let files: Vec<_> = manifests.iter().flat_map(|manifest| &manifest.files).collect();
        let regions: std::collections::BTreeSet<_> =
            files.iter().filter_map(|file| file.path.split('/').next()).collect();
        let Totals { items: total, complete, failed, cut, moved, .. } = totals;
        let failure = |(product, stop, error)| {
            let stop_reason = StopReason::as_str(stop);
            ListedFailure { product, stop_reason, error }
        };
        let Credits { billed, free, in_doubt } = credits;
        Ok(Self {
            products: Products { total, complete, failed, cut, open: total - complete - failed - cut, moved },
            pages: Pages { journaled: totals.pages, waiting: totals.pages_waiting, outdated: totals.pages_outdated },
            rows: RowCounts {
                received: totals.received,
                published: files.iter().map(|file| file.rows).sum(),
                waiting: totals.rows_waiting,
                duplicates: totals.received.saturating_sub(totals.kept + totals.rejected),
                rejected: totals.rejected,
            },
            credits: CreditCounts { billed, free, in_doubt, max: max_credits },
            regions: as_u64(regions.len()),
            files: as_u64(files.len()),
            bytes: files.iter().map(|file| file.bytes).sum(),
            failures: failures.into_iter().map(failure).collect(),
        })
    }

    /// The files, in words.
    pub(crate) fn published(&self) -> String {
        let s = if self.regions == 1 { "" } else { "s" };
        format!("{} in {} region{s}, {}", HumanCount(self.files), HumanCount(self.regions), ByteSize(self.bytes))
    }
}

impl fmt::Display for Products {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} complete", HumanCount(self.complete), HumanCount(self.total))?;
        also(
            f,
            &[
                (self.failed, "failed"),
                (self.cut, "cut short"),
                (self.open, "not finished"),
                (self.moved, "moved while read"),
            ],
        )
    }
}

impl fmt::Display for RowCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} published", HumanCount(self.published))?;
        let (waiting, duplicates) = ((self.waiting, "waiting in the journal"), (self.duplicates, "duplicates"));
        also(f, &[waiting, duplicates, (self.rejected, "rejected")])
    }
}

/// Adds the counts that are not zero.
fn also(f: &mut fmt::Formatter<'_>, counts: &[(u64, &str)]) -> fmt::Result {
    counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .try_for_each(|(count, word)| write!(f, ", {} {word}", HumanCount(*count)))
}

/// A number of things: `1 file`, `2 files`.
#[derive(Debug)]
pub(crate) struct Count<'a>(pub u64, pub &'a str);

impl fmt::Display for Count<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}{}", HumanCount(self.0), self.1, if self.0 == 1 { "" } else { "s" })
    }
}

/// A length as a number of things.
pub(crate) fn as_u64(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// What `--repair` reads once more, and what that costs.
pub(crate) fn repair_price(moved: u64, empty: u64, pages: u64) -> String {
    if moved + empty == 0 {
        return "--repair: no list ended as shifted, and no empty one is in doubt: nothing is read once more"
            .to_owned();
    }
    let lists = match (moved, empty) {
        (moved, 0) => format!("{} that moved", Count(moved, "list")),
        (0, empty) => Count(empty, "empty list").to_string(),
        (moved, empty) => format!("{} that moved and {}", Count(moved, "list"), Count(empty, "empty list")),
    };
    let (are, their) = if moved + empty == 1 { ("is", "its") } else { ("are", "their") };
    let credits = Count(pages, "credit");
    format!("--repair: {lists} {are} read once more, in order, for about {credits}: as many as {their} pages")
}

#[cfg(test)]
mod tests {
    use super::{Count, repair_price};

    #[test]
    fn a_number_of_things_has_its_plural_and_its_thousands_apart() {
        assert_eq!(
            [0, 1, 2, 1_000].map(|n| Count(n, "file").to_string()),
            ["0 files", "1 file", "2 files", "1,000 files"]
        );
    }

    #[test]
    fn the_price_of_a_repair_is_said_for_one_kind_of_list_or_both_or_none() {
        assert_eq!(
            repair_price(1, 0, 240),
            "--repair: 1 list that moved is read once more, in order, for about 240 credits: as many as its pages"
        );
        assert_eq!(
            repair_price(2, 50, 1_050),
            "--repair: 2 lists that moved and 50 empty lists are read once more, in order, for about 1,050 credits: as many as their pages"
        );
        assert!(repair_price(0, 0, 0).contains("nothing is read once more"));
    }
}
