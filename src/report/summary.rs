//! The result of a run: a text for a person, and the same as one JSON object for a program.
//!
//! Counts are of the whole export, over all its runs, and come from the ledger and the manifests, never from what a run
//! remembers; only `run` is about this run.

use std::fmt;

use serde::Serialize;

use crate::model::clock::Utc64;
use crate::model::exit_code::ExitCode;
use crate::model::sanitize::{LONGEST_ERROR, Sanitized, beginning};
use crate::output::export_dir::ExportDir;
use crate::output::store::Store;
use crate::report::drift::ExportDrift;
use crate::report::error::ReportError;
use crate::report::run_stats::RunStats;
use crate::report::totals::{
    Count, CreditCounts, ExportTotals, Grouped, ListedFailure, Pages, Products, Published, Rate, RowCounts, as_u64,
};
use crate::settings::Settings;

/// The summary's name in the output.
pub const SUMMARY: &str = "_pagehaul/summary.json";

/// The result of a run.
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
    /// Published segments that a replay built again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rebuilt: Option<usize>,
    /// Since when the export is complete, RFC 3339; none if it is not.
    pub complete_since: Option<String>,
    /// Whether it was complete before this run.
    #[serde(skip)]
    pub found_complete: bool,
    /// The export's id.
    pub export: String,
    /// The output directory.
    pub out: String,
    /// Products by outcome.
    pub products: Products,
    /// Pages.
    pub pages: Pages,
    /// received = published + waiting + duplicates + rejected.
    pub rows: RowCounts,
    /// Where the responses differ from the endpoint's description.
    pub drift: ExportDrift,
    /// Credits, by whether they were billed.
    pub credits: CreditCounts,
    /// Directories of the partition.
    pub regions: usize,
    /// Published files.
    pub files: usize,
    /// Bytes in them.
    pub bytes: u64,
    /// Columns in the files.
    pub columns: usize,
    /// This run.
    pub run: Run,
    /// The first products that failed or are incomplete.
    pub failures: Vec<ListedFailure>,
}

/// This run.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Run {
    /// Requests sent.
    pub requests: u64,
    /// Responses that are pages.
    pub pages: u64,
    /// Attempts that were followed by another one.
    pub retries: u64,
    /// Responses 429.
    pub throttled: u64,
    /// Pages requested ahead that are behind the end of a list.
    pub wasted: u64,
    /// Credits spent on pages behind the ends of lists, to see whether they are ends.
    pub evidence: u64,
    /// From the first request to the last response.
    pub seconds: f64,
    /// Requests a second.
    pub rate: f64,
    /// The rate limit that the user set; none without a number.
    pub allowed: Option<f64>,
    /// The rate limit that 429s have shown; none without one.
    pub found: Option<f64>,
}

/// Sums an export up. Without an exit code the products decide: all complete or not. `allowed`: the rate limit that the user
/// set.
pub(crate) async fn of(
    settings: &Settings,
    allowed: Option<f64>,
    export_dir: &ExportDir,
    exit: Option<ExitCode>,
    stats: RunStats,
) -> Result<Summary, ReportError> {
    let manifests = crate::output::manifest::manifests(&export_dir.store).await?;
    let figures = ExportTotals::from_ledger(&export_dir.ledger(), &manifests, settings.max_credits)?;
    let ExportTotals { products, pages, rows, credits, regions, files, bytes, failures } = figures;
    let drift = ExportDrift::from_ledger(&export_dir.ledger(), &settings.endpoint)?;
    let all = if products.complete == products.total { ExitCode::Complete } else { ExitCode::Partial };
    let exit = exit.unwrap_or(all);
    Ok(Summary {
        status: exit.as_str(),
        exit_code: exit.number(),
        exit,
        cause: None,
        next: exit.next_step(),
        rebuilt: None,
        complete_since: None,
        found_complete: false,
        export: export_dir.export.id.clone(),
        out: settings.out.display().to_string(),
        products,
        pages,
        rows,
        drift,
        credits,
        regions,
        files,
        bytes,
        columns: settings.columns.len() + 3,
        run: run(stats, allowed),
        failures,
    })
}

fn run(stats: RunStats, allowed: Option<f64>) -> Run {
    let requests = u32::try_from(stats.requests).map_or(f64::INFINITY, f64::from);
    let rate = if stats.seconds > 0.0 { requests / stats.seconds } else { 0.0 };
    let round = |number: f64| (number * 1_000.0).round() / 1_000.0;
    Run {
        requests: stats.requests,
        pages: stats.pages,
        retries: stats.retries,
        throttled: stats.throttled,
        wasted: stats.wasted,
        evidence: stats.evidence,
        seconds: round(stats.seconds),
        rate: round(rate),
        allowed,
        found: stats.found.map(round),
    }
}

impl Summary {
    /// The run stopped early.
    pub fn set_stop(&mut self, exit: ExitCode, cause: String) {
        self.exit = exit;
        self.cause = Some(cause);
        self.status = self.exit.as_str();
        self.exit_code = self.exit.number();
        self.next = self.exit.next_step();
    }

    /// The export was complete before this run.
    #[must_use]
    pub fn found_complete(mut self, since: Utc64) -> Self {
        self.complete_since = Some(since.to_string());
        self.found_complete = true;
        self.next = Some("nothing to do; for fresh data name a new directory with --out");
        self
    }

    /// The run was a replay, which sends no request.
    pub fn set_replayed(&mut self, rebuilt: usize) {
        self.rebuilt = Some(rebuilt);
        if self.products.open > 0 {
            self.cause = Some("the export is not finished".to_owned());
            self.next = Some("run `pagehaul export` with the same settings to go on: a replay sends no request");
        }
    }

    /// The responses differ so much that the run fails. Its output is valid.
    pub fn set_drifted(&mut self, drift: &ExportDrift) {
        self.exit = ExitCode::Contract;
        self.cause = Some(format!("the responses differ from the endpoint's description (--fail-on-drift): {drift}"));
        self.status = self.exit.as_str();
        self.exit_code = self.exit.number();
        self.next = Some(
            "the output is valid: values that fit no column are in _extra. Correct the description (--endpoint) and run `pagehaul replay`, or run again without --fail-on-drift",
        );
    }

    /// The JSON object, on one line.
    pub fn json(&self) -> String {
        crate::model::sanitize::json(self)
    }

    /// Writes the JSON object beside the output.
    pub async fn write(&self, store: &Store) -> Result<(), ReportError> {
        Ok(store.put(SUMMARY, format!("{}\n", self.json()).into_bytes()).await?)
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.requests == 0 {
            return Ok(());
        }
        write!(f, "\n  this run  {} in {:.1} s", Count(self.requests, "request"), Rate(self.seconds))?;
        // In less than two seconds most of the time is the first burst and the last response.
        if self.seconds >= 2.0 {
            write!(f, ", {:.1} a second", Rate(self.rate))?;
            if let Some(allowed) = self.allowed {
                write!(f, " of {:.*} allowed", usize::from(allowed.fract() > 0.0), Rate(allowed))?;
            }
            if let Some(found) = self.found {
                write!(f, "; the server allows about {:.1}", Rate(found))?;
            }
        }
        if self.retries > 0 {
            write!(f, "\n  retries   {}", Grouped(self.retries))?;
        }
        if self.throttled > 0 {
            write!(f, ", {} of them after a 429", Grouped(self.throttled))?;
        }
        if self.wasted > 0 {
            write!(f, "\n  ahead     {} on pages behind the end of a list", Count(self.wasted, "credit"))?;
        }
        if self.evidence > 0 {
            write!(f, "\n  evidence  {} to see whether lists had ended or moved", Count(self.evidence, "credit"))?;
        }
        Ok(())
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (products, rows, credits, run) = (&self.products, &self.rows, &self.credits, &self.run);
        write!(f, "{}", self.status)?;
        if let Some(since) = self.complete_since.as_ref().filter(|_| self.found_complete) {
            write!(f, " since {since}; no request was sent")?;
        }
        if let Some(cause) = &self.cause {
            write!(f, ": {}", beginning(cause.as_bytes(), LONGEST_ERROR))?;
        }
        writeln!(f)?;
        write!(f, "  products  {products}")?;
        write!(f, "\n  rows      {rows}")?;
        if !self.drift.is_empty() {
            write!(f, "\n  drift     {}", self.drift)?;
        }
        let Self { files, regions, bytes, .. } = *self;
        write!(f, "\n  files     {}", Published { files, regions, bytes })?;
        if let Some(rebuilt) = self.rebuilt.filter(|rebuilt| *rebuilt > 0) {
            write!(f, ", segments built again: {rebuilt}")?;
        }
        write!(f, "\n  credits   {} billed", Grouped(credits.billed))?;
        if credits.in_doubt > 0 {
            write!(f, ", up to {} more in doubt", Grouped(credits.in_doubt))?;
        }
        if credits.free > 0 {
            write!(f, ", {} free", Count(credits.free, "attempt"))?;
        }
        if let Some(max) = credits.max {
            write!(f, ", of {} allowed", Grouped(max))?;
        }
        write!(f, "{run}")?;
        write!(f, "\n  output    {}", Sanitized(&self.out))?;
        for failure in &self.failures {
            let message = beginning(failure.error.as_deref().unwrap_or_default().as_bytes(), LONGEST_ERROR);
            write!(f, "\n  {} {}: {message}", failure.stop_reason, Sanitized(&failure.product))?;
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
