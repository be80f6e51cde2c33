//! What a run came to: a text for a person, and the same as one JSON object for a program.
//!
//! Counts are of the whole export, over all its runs, and come from the ledger and the manifests, never from what a run
//! remembers; only `run` is about this run.

use std::fmt;

use serde::Serialize;

use crate::clock::Utc64;
use crate::error::{Error, ExitCode};
use crate::job::Job;
use crate::ledger::{Credits, Totals};
use crate::sanitize::Sanitized;
use crate::site::Site;
use crate::stop::{Counted, Stop};
use crate::store::Store;

/// Its name in the output.
pub const SUMMARY: &str = "_pagehaul/summary.json";
/// Failures that are listed one by one.
const LISTED: usize = 20;

/// What a run came to.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The exit code's word.
    pub status: &'static str,
    /// The exit code.
    pub exit_code: u8,
    /// The same, as a value.
    #[serde(skip)]
    pub exit: ExitCode,
    /// Why the run stopped early.
    pub cause: Option<String>,
    /// What to do next.
    pub next: Option<&'static str>,
    /// Since when the export was complete, if this run found it so.
    pub complete_since: Option<String>,
    /// The export.
    pub export: String,
    /// Its folder.
    pub out: String,
    /// Items by what became of them.
    pub products: Products,
    /// Pages.
    pub pages: Pages,
    /// Rows. received = published + waiting + folded + rejected.
    pub rows: RowCounts,
    /// What it cost.
    pub credits: CreditCounts,
    /// Folders of the partition.
    pub regions: usize,
    /// Published files.
    pub files: usize,
    /// Bytes in them.
    pub bytes: u64,
    /// Columns in the files.
    pub columns: usize,
    /// This run.
    pub run: Run,
    /// The first items that did not end well.
    pub failures: Vec<Failure>,
}

/// Items by what became of them.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Products {
    /// All of them.
    pub total: u64,
    /// Read to the end.
    pub complete: u64,
    /// Refused, or failed for good.
    pub failed: u64,
    /// Cut short otherwise.
    pub cut: u64,
    /// Not ended.
    pub open: u64,
}

/// Pages.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Pages {
    /// In the journal.
    pub journaled: u64,
    /// Of those, not published yet.
    pub waiting: u64,
}

/// Rows.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct RowCounts {
    /// In answers.
    pub received: u64,
    /// In published files.
    pub published: u64,
    /// To be published, still in the journal.
    pub waiting: u64,
    /// Seen before in the same walk.
    pub folded: u64,
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
    /// The limit that was asked for.
    pub max: Option<u64>,
}

/// This run.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Run {
    /// Requests sent.
    pub requests: u64,
    /// Pages among the answers.
    pub pages: u64,
    /// Attempts that were followed by another one.
    pub retries: u64,
    /// Answers 429.
    pub throttled: u64,
    /// From the first request to the last answer.
    pub seconds: f64,
    /// Requests a second.
    pub rate: f64,
    /// Requests a second that were allowed; none: unlimited.
    pub allowed: Option<f64>,
}

/// An item that did not end well.
#[derive(Clone, Debug, Serialize)]
pub struct Failure {
    /// The item.
    pub product: String,
    /// Why its walk ended.
    pub stop_reason: &'static str,
    /// What was said.
    pub error: Option<String>,
}

/// Sums an export up. Without a code the items decide: all complete or not.
pub async fn of(job: &Job, site: &Site, exit: Option<ExitCode>, counted: Counted) -> Result<Summary, Error> {
    let (totals, credits, failures) = {
        let ledger = site.ledger();
        (ledger.totals()?, ledger.credits()?, ledger.failures(LISTED)?)
    };
    let decoder_columns = job.settings.columns.len() + 3;
    let manifests = crate::commit::manifests(&site.store).await?;
    let files: Vec<_> = manifests.iter().flat_map(|manifest| &manifest.files).collect();
    let regions: std::collections::BTreeSet<_> = files.iter().filter_map(|file| file.path.split('/').next()).collect();
    let open = totals.items - totals.complete - totals.failed - totals.cut;
    let exit = exit.unwrap_or(if totals.complete == totals.items { ExitCode::Complete } else { ExitCode::Partial });
    let failure = |(product, stop, error): (String, crate::page::StopReason, Option<String>)| Failure {
        product,
        stop_reason: stop.as_str(),
        error,
    };
    Ok(Summary {
        status: exit.as_str(),
        exit_code: exit.number(),
        exit,
        cause: None,
        next: exit.next_step(),
        complete_since: None,
        export: site.export.id.clone(),
        out: job.settings.out.display().to_string(),
        products: Products {
            total: totals.items,
            complete: totals.complete,
            failed: totals.failed,
            cut: totals.cut,
            open,
        },
        pages: Pages { journaled: totals.pages, waiting: totals.pages_waiting },
        rows: row_counts(&totals, files.iter().map(|file| file.rows).sum()),
        credits: credit_counts(credits, job.settings.max_credits),
        regions: regions.len(),
        files: files.len(),
        bytes: files.iter().map(|file| file.bytes).sum(),
        columns: decoder_columns,
        run: run(counted, job.qps),
        failures: failures.into_iter().map(failure).collect(),
    })
}

fn row_counts(totals: &Totals, published: u64) -> RowCounts {
    RowCounts {
        received: totals.received,
        published,
        waiting: totals.rows_waiting,
        folded: totals.received.saturating_sub(totals.kept + totals.rejected),
        rejected: totals.rejected,
    }
}

fn credit_counts(credits: Credits, max: Option<u64>) -> CreditCounts {
    CreditCounts { billed: credits.billed, free: credits.free, in_doubt: credits.in_doubt, max }
}

fn run(counted: Counted, allowed: Option<f64>) -> Run {
    let requests = u32::try_from(counted.requests).map_or(f64::INFINITY, f64::from);
    let rate = if counted.seconds > 0.0 { requests / counted.seconds } else { 0.0 };
    let round = |number: f64| (number * 1_000.0).round() / 1_000.0;
    Run {
        requests: counted.requests,
        pages: counted.pages,
        retries: counted.retries,
        throttled: counted.throttled,
        seconds: round(counted.seconds),
        rate: round(rate),
        allowed,
    }
}

impl Summary {
    /// Notes why the run stopped early: that decides the exit code.
    pub fn set_stop(&mut self, stop: Option<&Stop>) {
        if let Some(stop) = stop {
            self.exit = stop.exit_code();
            self.cause = Some(stop.to_string());
            self.status = self.exit.as_str();
            self.exit_code = self.exit.number();
            self.next = self.exit.next_step();
        }
    }

    /// Notes that the run found the export complete.
    #[must_use]
    pub fn complete_since(mut self, since: Utc64) -> Self {
        self.complete_since = Some(since.to_string());
        self.next = Some("nothing to do; for fresh data name a new folder with --out");
        self
    }

    /// The JSON object, on one line.
    pub fn json(&self) -> String {
        crate::sanitize::json(self)
    }

    /// Writes the JSON object beside the output.
    pub fn write(&self, store: &Store) -> Result<(), Error> {
        Ok(store.put(SUMMARY, format!("{}\n", self.json()).as_bytes())?)
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.requests == 0 {
            return Ok(());
        }
        write!(f, "\n  this run  {} requests in {:.1} s", Grouped(self.requests), self.seconds)?;
        // Over less than some seconds the first burst and the last answer are most of the time.
        if self.seconds >= 2.0 {
            write!(f, ", {:.1} a second", self.rate)?;
            if let Some(allowed) = self.allowed {
                write!(f, " of {allowed} allowed")?;
            }
        }
        if self.retries > 0 {
            write!(f, "\n  retries   {}", Grouped(self.retries))?;
        }
        if self.throttled > 0 {
            write!(f, ", {} of them after a 429", Grouped(self.throttled))?;
        }
        Ok(())
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (products, rows, credits, run) = (&self.products, &self.rows, &self.credits, &self.run);
        write!(f, "{}", self.status)?;
        if let Some(since) = &self.complete_since {
            write!(f, " since {since}; no request was sent")?;
        }
        if let Some(cause) = &self.cause {
            write!(f, ": {}", Sanitized(cause))?;
        }
        writeln!(f)?;
        write!(f, "  products  {} of {} complete", Grouped(products.complete), Grouped(products.total))?;
        for (count, word) in [(products.failed, "failed"), (products.cut, "cut short"), (products.open, "not finished")]
        {
            if count > 0 {
                write!(f, ", {} {word}", Grouped(count))?;
            }
        }
        write!(f, "\n  rows      {} published", Grouped(rows.published))?;
        for (count, word) in
            [(rows.waiting, "waiting in the journal"), (rows.folded, "duplicates folded"), (rows.rejected, "rejected")]
        {
            if count > 0 {
                write!(f, ", {} {word}", Grouped(count))?;
            }
        }
        write!(f, "\n  files     {} in {} regions, {}", Grouped(as_u64(self.files)), self.regions, Bytes(self.bytes))?;
        write!(f, "\n  credits   {} billed", Grouped(credits.billed))?;
        if credits.in_doubt > 0 {
            write!(f, ", up to {} more in doubt", Grouped(credits.in_doubt))?;
        }
        if let Some(max) = credits.max {
            write!(f, ", of {} allowed", Grouped(max))?;
        }
        write!(f, "{run}")?;
        write!(f, "\n  output    {}", Sanitized(&self.out))?;
        for failure in &self.failures {
            let said = failure.error.as_deref().unwrap_or_default();
            write!(f, "\n  {} {}: {}", failure.stop_reason, Sanitized(&failure.product), Sanitized(said))?;
        }
        let unlisted = (products.failed + products.cut).saturating_sub(as_u64(self.failures.len()));
        if unlisted > 0 {
            write!(f, "\n  and {} more", Grouped(unlisted))?;
        }
        if let Some(next) = self.next {
            write!(f, "\n  next      {next}")?;
        }
        Ok(())
    }
}

fn as_u64(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// A number with its thousands apart.
pub struct Grouped(pub u64);

impl fmt::Display for Grouped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (at, digit) in digits.chars().enumerate() {
            if at > 0 && (digits.len() - at).is_multiple_of(3) {
                f.write_str(",")?;
            }
            write!(f, "{digit}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Grouped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A size in the unit that suits it.
struct Bytes(u64);

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

#[cfg(test)]
mod tests {
    use super::{Bytes, Grouped};

    #[test]
    fn numbers_and_sizes_are_shown_for_people() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(|n| Grouped(n).to_string()), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [17, 1_536, 5 << 20, (3 << 30) + (1 << 29)].map(|n| Bytes(n).to_string()),
            ["17 B", "1.5 KiB", "5.0 MiB", "3.5 GiB"]
        );
    }
}
