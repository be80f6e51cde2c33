//! The result of a run: a text for a person, and the same as one JSON object for a program.
//!
//! Counts are of the whole export, over all its runs, and come from the ledger and the manifests, never from what a run
//! remembers; only `run` is about this run.

use std::fmt;

use indicatif::HumanCount;
use serde::Serialize;

use crate::model::clock::Utc64;
use crate::model::exit_code::ExitCode;
use crate::model::sanitize::{LONGEST_ERROR, Sanitized, beginning, json};
use crate::output::export_dir::ExportDir;
use crate::output::store::Store;
use crate::report::continued::ContinuedTotals;
use crate::report::drift::ExportDrift;
use crate::report::error::ReportError;
use crate::report::planned::PlanOutcome;
use crate::report::run_stats::RunStats;
use crate::report::schema::{read_files, read_table};
use crate::report::totals::{Count, ExportTotals, as_u64};
use crate::settings::{Settings, TableFormat};

/// The summary's name in the output.
pub const SUMMARY: &str = "_pagehaul/summary.json";

/// The result of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    pub status: &'static str,
    pub exit_code: u8,
    #[serde(skip)]
    pub exit: ExitCode,
    pub cause: Option<String>,
    pub next: Option<&'static str>,
    /// Published segments that a replay built again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rebuilt: Option<usize>,
    /// Since when the export is complete, RFC 3339; none if it is not.
    pub complete_since: Option<String>,
    /// Whether it was complete before this run.
    #[serde(skip)]
    pub found_complete: bool,
    pub export: String,
    pub out: String,
    #[serde(flatten)]
    pub totals: ExportTotals,
    /// What was taken over from an earlier export; none if none was to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub continued: Option<ContinuedTotals>,
    /// What it was expected to cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanOutcome>,
    /// Where the responses differ from the endpoint's description.
    pub drift: ExportDrift,
    pub columns: usize,
    /// The command that shows some rows in DuckDB, for a person; none without files.
    #[serde(skip)]
    pub read: Option<String>,
    pub run: RunStats,
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
    let totals = ExportTotals::from_ledger(&export_dir.ledger(), &manifests, settings.max_credits)?;
    let all = if totals.products.complete == totals.products.total { ExitCode::Complete } else { ExitCode::Partial };
    let exit = exit.unwrap_or(all);
    let plan = PlanOutcome::from_ledger(&export_dir.ledger(), totals.credits.billed)?;
    let continued = ContinuedTotals::from_ledger(&export_dir.ledger(), &totals)?;
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
        out: settings.out.to_string(),
        continued,
        plan,
        read: read_command(settings).filter(|_| totals.files > 0),
        totals,
        drift: ExportDrift::from_ledger(&export_dir.ledger(), &settings.endpoint)?,
        columns: settings.columns.len() + 3,
        run: stats.completed(allowed),
    })
}

fn read_command(settings: &Settings) -> Option<String> {
    if settings.table == TableFormat::Delta {
        return read_table(&settings.out);
    }
    let partition = &settings.endpoint.partition().name;
    read_files(&settings.out, partition, settings.columns.contains(partition))
}

impl Summary {
    /// The run stopped early.
    pub fn set_stop(&mut self, exit: ExitCode, cause: String) {
        (self.exit, self.status, self.exit_code) = (exit, exit.as_str(), exit.number());
        (self.cause, self.next) = (Some(cause), exit.next_step());
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
        if self.totals.products.open > 0 {
            self.cause = Some("the export is not finished".to_owned());
            self.next = Some("run `pagehaul export` with the same settings to continue: a replay sends no request");
        }
    }

    /// The responses differ so much that the run fails. Its output is valid.
    pub fn set_drifted(&mut self, drift: &ExportDrift) {
        let cause = format!("the responses differ from the endpoint's description (--fail-on-drift): {drift}");
        self.set_stop(ExitCode::Contract, cause);
        self.next = Some(
            "the output is valid: values that fit no column are in _extra. Correct the description (--endpoint) and run `pagehaul replay`, or run again without --fail-on-drift",
        );
    }

    /// Writes the JSON object beside the output.
    pub async fn write(&self, store: &Store) -> Result<(), ReportError> {
        Ok(store.put(SUMMARY, (json(self) + "\n").into_bytes()).await?)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ExportTotals { products, rows, credits, failures, .. } = &self.totals;
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
        if let Some(continued) = &self.continued {
            write!(f, "\n  since     {continued}")?;
        }
        if !self.drift.is_empty() {
            write!(f, "\n  drift     {}", self.drift)?;
        }
        write!(f, "\n  files     {}", self.totals.published())?;
        if let Some(rebuilt) = self.rebuilt.filter(|rebuilt| *rebuilt > 0) {
            write!(f, ", segments built again: {rebuilt}")?;
        }
        write!(f, "\n  credits   {} billed", HumanCount(credits.billed))?;
        if credits.in_doubt > 0 {
            write!(f, ", up to {} more in doubt", HumanCount(credits.in_doubt))?;
        }
        if credits.free > 0 {
            write!(f, ", {} free", Count(credits.free, "attempt"))?;
        }
        if let Some(max) = credits.max {
            write!(f, ", of {} allowed", HumanCount(max))?;
        }
        if let Some(plan) = self.plan.filter(PlanOutcome::is_founded) {
            write!(f, "\n  plan      {plan}")?;
        }
        write!(f, "{}", self.run)?;
        write!(f, "\n  output    {}", Sanitized(&self.out))?;
        for failure in failures {
            let message = beginning(failure.error.as_deref().unwrap_or_default().as_bytes(), LONGEST_ERROR);
            write!(f, "\n  {} {}: {message}", failure.stop_reason, Sanitized(&failure.product))?;
        }
        let unlisted = (products.failed + products.cut).saturating_sub(as_u64(failures.len()));
        if unlisted > 0 {
            write!(f, "\n  and {} more", HumanCount(unlisted))?;
        }
        if let Some(command) = &self.read {
            write!(f, "\n  read      {command}")?;
        }
        if let Some(next) = self.next {
            write!(f, "\n  next      {next}")?;
        }
        Ok(())
    }
}
