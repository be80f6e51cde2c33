//! The totals of a whole export, over all its runs, from the ledger and the manifests. A run's summary and `status` show them
//! in the same words.

use std::fmt;

use serde::Serialize;

use crate::model::page::StopReason;
use crate::output::manifest::Manifest;
use crate::state::ledger::{Credits, Ledger, LedgerError, Totals};

/// Products that are listed one by one.
const LISTED: usize = 20;

/// The totals of an export.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ExportTotals {
    /// Products by outcome.
    pub products: Products,
    pub pages: Pages,
    /// received = published + waiting + duplicates + rejected.
    pub rows: RowCounts,
    pub credits: CreditCounts,
    /// Directories of the partition.
    pub regions: usize,
    /// Published files.
    pub files: usize,
    /// Bytes in them.
    pub bytes: u64,
    /// The first products that failed or are incomplete.
    pub failures: Vec<ListedFailure>,
}

/// Products by outcome.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Products {
    /// All of them.
    pub total: u64,
    /// Read to the end.
    pub complete: u64,
    /// Failed for good.
    pub failed: u64,
    /// Incomplete for another reason.
    pub cut: u64,
    /// Not finished.
    pub open: u64,
    /// Lists that moved while they were read, whatever their outcome.
    pub moved: u64,
}

/// Pages.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Pages {
    /// In the journal.
    pub journaled: u64,
    /// Of those, not published yet.
    pub waiting: u64,
    /// Of those, requested once more since, because their list had moved or was empty.
    pub outdated: u64,
}

/// Rows.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct RowCounts {
    /// In responses.
    pub received: u64,
    /// In published files.
    pub published: u64,
    /// To be published, still in the journal.
    pub waiting: u64,
    /// Seen before in the same walk.
    pub duplicates: u64,
    /// Could not be typed; kept in `_rejects`.
    pub rejected: u64,
}

/// What it cost.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct CreditCounts {
    /// Pages.
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
    /// Its id.
    pub product: String,
    /// Why its walk ended.
    pub stop_reason: &'static str,
    /// The message.
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
        let failure = |(product, stop, error): (String, StopReason, Option<String>)| ListedFailure {
            product,
            stop_reason: stop.as_str(),
            error,
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
            regions: regions.len(),
            files: files.len(),
            bytes: files.iter().map(|file| file.bytes).sum(),
            failures: failures.into_iter().map(failure).collect(),
        })
    }
}

impl fmt::Display for Products {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} complete", Grouped(self.complete), Grouped(self.total))?;
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
        write!(f, "{} published", Grouped(self.published))?;
        let (waiting, duplicates) = ((self.waiting, "waiting in the journal"), (self.duplicates, "duplicates"));
        also(f, &[waiting, duplicates, (self.rejected, "rejected")])
    }
}

/// What is published, in words.
#[derive(Debug)]
pub(crate) struct Published {
    /// Files.
    pub files: usize,
    /// Directories of the partition that hold one.
    pub regions: usize,
    /// Bytes in the files.
    pub bytes: u64,
}

impl fmt::Display for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (regions, s) = (Grouped(as_u64(self.regions)), if self.regions == 1 { "" } else { "s" });
        write!(f, "{} in {regions} region{s}, {}", Grouped(as_u64(self.files)), Bytes(self.bytes))
    }
}

/// Adds the counts that are not zero.
fn also(f: &mut fmt::Formatter<'_>, counts: &[(u64, &str)]) -> fmt::Result {
    counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .try_for_each(|(count, word)| write!(f, ", {} {word}", Grouped(*count)))
}

/// A number with its thousands apart.
pub(crate) struct Grouped(pub u64);

impl fmt::Display for Grouped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        grouped(f, &self.0.to_string())
    }
}

/// A rate with its thousands apart and as many decimals as the format asks for, or none.
#[derive(Debug)]
pub(crate) struct Rate(pub f64);

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{:.*}", f.precision().unwrap_or(0), self.0);
        let (whole, decimals) = text.split_once('.').unwrap_or((&text, ""));
        grouped(f, whole)?;
        if decimals.is_empty() { Ok(()) } else { write!(f, ".{decimals}") }
    }
}

fn grouped(f: &mut fmt::Formatter<'_>, digits: &str) -> fmt::Result {
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            f.write_str(",")?;
        }
        write!(f, "{digit}")?;
    }
    Ok(())
}

/// A number of things: `1 file`, `2 files`.
#[derive(Debug)]
pub(crate) struct Count<'a>(pub u64, pub &'a str);

impl fmt::Display for Count<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}{}", Grouped(self.0), self.1, if self.0 == 1 { "" } else { "s" })
    }
}

/// A length as a number of things.
pub(crate) fn as_u64(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

impl fmt::Debug for Grouped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A size in the unit that suits it.
#[derive(Debug)]
pub(crate) struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
        match units.into_iter().find(|(shift, _)| self.0 >> shift > 0) {
            None => write!(f, "{} B", self.0),
            Some((shift, unit)) => {
                let tenths = (self.0 >> (shift - 10)) * 10 / 1_024;
                write!(f, "{}.{} {unit}", tenths / 10, tenths % 10)
            }
        }
    }
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
    use super::{Bytes, Count, Grouped, Rate, repair_price};

    #[test]
    fn numbers_and_sizes_are_shown_for_people() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(|n| Grouped(n).to_string()), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [17, 1_536, 5 << 20, (3 << 30) + (1 << 29)].map(|n| Bytes(n).to_string()),
            ["17 B", "1.5 KiB", "5.0 MiB", "3.5 GiB"]
        );
        assert_eq!(
            [0, 1, 2, 1_000].map(|n| Count(n, "file").to_string()),
            ["0 files", "1 file", "2 files", "1,000 files"]
        );
        assert_eq!([Rate(9.96).to_string(), Rate(12_345.6).to_string()], ["10", "12,346"]);
        assert_eq!([format!("{:.1}", Rate(9.96)), format!("{:.1}", Rate(1_234.56))], ["10.0", "1,234.6"]);
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
