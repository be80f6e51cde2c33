//! `status`: the progress of an export, also while a process works on it. Changes nothing and makes nobody wait.

use bytesize::ByteSize;
use indicatif::HumanCount;
use serde::Serialize;

use crate::model::sanitize::{Sanitized, sanitize};
use crate::output::manifest::published;
use crate::output::read_only::{ExportPath, ReadOnlyExport};
use crate::report::continued::ContinuedTotals;
use crate::report::error::ReportError;
use crate::report::totals::{Count, ExportTotals};
use crate::state::ledger::{Ledger, LedgerError, SegmentState, has_log};

/// Reasons that the text lists.
const REASONS: usize = 8;
const COLUMNS: usize = 80;
/// How often the ledger is read, if a process starts to write meanwhile.
const TRIES: u32 = 3;

#[derive(Clone, Debug, Serialize)]
pub(crate) struct ExportStatus {
    /// `running`: a process works on it. `complete`: every product is read to the end and published. `partial`: the same, but
    /// some products failed or were cut short. `unfinished`: the next run continues with it. `removed`: of a snapshot, because
    /// newer ones are kept; its journal may be there.
    pub status: &'static str,
    /// The exit code: 0, the export could be read.
    pub exit_code: u8,
    pub export: String,
    pub out: String,
    /// When it was started, RFC 3339.
    pub begun_at: String,
    /// Since when it is complete; none if it is not.
    pub complete_since: Option<String>,
    /// What the process that works on it wrote about itself; none if there is none.
    pub holder: Option<String>,
    /// Requests without a response, while a process works on it. Without a process they are in doubt.
    pub in_flight: u64,
    /// Products whose walk is open.
    pub walking: u64,
    #[serde(flatten)]
    pub totals: ExportTotals,
    /// What was taken over from an earlier export; none if none was to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub continued: Option<ContinuedTotals>,
    pub segments: Segments,
    /// Why products failed or are incomplete, the most frequent reasons first.
    pub reasons: Vec<EndCause>,
    pub next: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Segments {
    pub published: usize,
    /// Their files are being published, or were when the process ended.
    pub decided: usize,
    /// Of the published ones, those whose journal file was removed.
    pub pruned: usize,
    /// Bytes in the journal of the one that takes pages.
    pub open_bytes: u64,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct EndCause {
    pub stop_reason: &'static str,
    pub error: Option<String>,
    pub products: u64,
    /// The first of these products.
    pub first: String,
}

pub(crate) async fn status(export: &ExportPath) -> Result<ExportStatus, ReportError> {
    read_steady(export, |opened, holder| ExportStatus::from_open(export, opened, holder)).await
}

/// Reads an export at one moment, without a lock. `read` gets it, and what the process that works on it wrote about itself; it may be
/// called several times.
pub(crate) async fn read_steady<T>(
    export: &ExportPath,
    read: impl Fn(&ReadOnlyExport, Option<String>) -> Result<T, ReportError>,
) -> Result<T, ReportError> {
    let (ledger, mut tries) = (export.ledger(), 1);
    loop {
        // A ledger that no process works on is read without a lock. If one starts meanwhile, what was read may be a mixture.
        let before = has_log(&ledger);
        let holder = export.lock()?.err();
        let opened = export.open().await?;
        opened.ledger.start_snapshot()?;
        let found = read(&opened, holder);
        if before || !has_log(&ledger) || tries == TRIES {
            return found;
        }
        tries += 1;
    }
}

impl ExportStatus {
    pub(crate) fn from_open(
        export: &ExportPath,
        opened: &ReadOnlyExport,
        holder: Option<String>,
    ) -> Result<Self, ReportError> {
        let ledger = &opened.ledger;
        let manifests = if opened.export.removal.is_none() { published(ledger)? } else { Vec::new() };
        let mut totals = ExportTotals::from_ledger(ledger, &manifests, ledger.max_credits()?)?;
        let mut in_flight = ledger.attempts_in_flight()?;
        if holder.is_some() {
            totals.credits.in_doubt -= in_flight;
        } else {
            in_flight = 0;
        }
        let segments = ledger.segments()?;
        let count = |state| segments.iter().filter(|segment| segment.state == state).count();
        let products = totals.products;
        let status = match holder {
            Some(_) => "running",
            None if opened.export.removal.is_some() => "removed",
            None if products.open > 0 || totals.pages.waiting > 0 || products.total == 0 => "unfinished",
            None if products.complete == products.total && opened.export.completed_at.is_some() => "complete",
            None if products.complete == products.total => "unfinished",
            None => "partial",
        };
        Ok(Self {
            status,
            exit_code: 0,
            export: opened.export.id.clone(),
            out: export.out.to_string(),
            begun_at: opened.export.created_at.to_string(),
            complete_since: opened.export.completed_at.filter(|_| status == "complete").map(|at| at.to_string()),
            holder,
            in_flight,
            walking: ledger.count_walks()?,
            segments: Segments {
                published: count(SegmentState::Published),
                decided: count(SegmentState::Decided),
                pruned: segments.iter().filter(|segment| segment.is_pruned).count(),
                open_bytes: ledger.open_segment()?.map_or(0, |open| open.journaled),
            },
            continued: ContinuedTotals::from_ledger(ledger, &totals)?,
            reasons: EndCause::from_ledger(ledger)?,
            next: next(status),
            totals,
        })
    }
}

impl EndCause {
    /// Why products failed or are incomplete, the most frequent reasons first.
    pub(crate) fn from_ledger(ledger: &Ledger) -> Result<Vec<Self>, LedgerError> {
        let reasons = ledger.failure_reasons(REASONS)?.into_iter().map(|reason| Self {
            stop_reason: reason.stop.as_str(),
            error: reason.error,
            products: reason.items,
            first: reason.first,
        });
        Ok(reasons.collect())
    }
}

fn next(status: &str) -> Option<&'static str> {
    match status {
        "unfinished" => Some("`pagehaul export` resumes; `replay` publishes what is in the journal"),
        "removed" => Some("`pagehaul replay` brings the files back, if the journal is there"),
        "partial" => Some("run the same `pagehaul export` again to retry temporary failures"),
        _ => None,
    }
}

impl ExportStatus {
    /// On a terminal the reasons, which are a server's messages, are cut to one line.
    pub(crate) fn text(&self, for_terminal: bool) -> String {
        let totals = &self.totals;
        let (products, credits) = (&totals.products, &totals.credits);
        let mut head = self.status.to_owned();
        for (word, what) in [(", ", &self.holder), (" since ", &self.complete_since)] {
            head += &what.as_ref().map(|what| format!("{word}{what}")).unwrap_or_default();
        }
        let mut lines = vec![
            head,
            format!("  output    {}", sanitize(&self.out)),
            format!("  export    {}, started {}", sanitize(&self.export), self.begun_at),
            format!("  products  {products}"),
        ];
        if products.open > 0 {
            let unstarted = HumanCount(products.open.saturating_sub(self.walking));
            lines.push(format!("            of those {} started, {unstarted} not started", HumanCount(self.walking)));
        }
        let pages = totals.pages;
        lines.push(format!(
            "  pages     {} journaled, {} not published",
            HumanCount(pages.journaled),
            HumanCount(pages.waiting)
        ));
        lines.push(format!("  rows      {}", totals.rows));
        lines.extend(self.continued.as_ref().map(|continued| format!("  since     {continued}")));
        lines.push(format!("  files     {}", totals.published()));
        let Segments { published, decided, pruned, open_bytes } = self.segments;
        let pruned = if pruned > 0 { format!(" ({pruned} without journal)") } else { String::new() };
        let decided = if decided > 0 { format!(", {decided} being published") } else { String::new() };
        lines.push(format!(
            "  segments  {published} published{pruned}{decided}, {} of journal in the open one",
            ByteSize(open_bytes)
        ));
        let open = [(credits.in_doubt, "in doubt"), (self.in_flight, "in flight")];
        let open = open.into_iter().filter(|(count, _)| *count > 0);
        let open: Vec<String> = open.map(|(count, word)| format!(", up to {} {word}", HumanCount(count))).collect();
        let (billed, free) = (HumanCount(credits.billed), Count(credits.free, "attempt"));
        let max = credits.max.map(|max| format!("; the limit is {}", HumanCount(max))).unwrap_or_default();
        lines.push(format!("  credits   {billed} billed, {free} free{}{max}", open.concat()));
        for reason in &self.reasons {
            let (first, message) = (Sanitized(&reason.first), Sanitized(reason.error.as_deref().unwrap_or_default()));
            let line = format!("  {} × {} (first {first}): {message}", HumanCount(reason.products), reason.stop_reason);
            lines.push(if for_terminal { fitted(&line) } else { line });
        }
        lines.extend(self.next.map(|next| format!("  next      {next}")));
        lines.into_iter().map(|line| line + "\n").collect()
    }
}

/// The line, cut to a terminal's width. A character that is not ASCII may take two columns.
fn fitted(line: &str) -> String {
    let width = |c: char| if c.is_ascii() { 1 } else { 2 };
    if line.chars().map(width).sum::<usize>() <= COLUMNS {
        return line.to_owned();
    }
    let mut left = COLUMNS - 2;
    let mut cut: String = line
        .chars()
        .take_while(|c| {
            left = left.saturating_sub(width(*c));
            left > 0
        })
        .collect();
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests {
    use super::{COLUMNS, fitted};

    #[test]
    fn a_line_never_takes_more_columns_than_a_terminal_has() {
        for line in ["x".repeat(80), "x".repeat(81), "字".repeat(60), "字".repeat(40), String::new()] {
            let fitted = fitted(&line);
            let columns: usize = fitted.chars().map(|c| if c.is_ascii() { 1 } else { 2 }).sum();
            assert!(columns <= COLUMNS, "{columns}");
            assert_eq!(
                fitted == line,
                line.chars().map(|c| if c.is_ascii() { 1 } else { 2 }).sum::<usize>() <= COLUMNS
            );
        }
    }
}
