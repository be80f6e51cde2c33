//! What the page says, as data: read from a ledger at one moment, also while a process works on the export.

use std::collections::BTreeMap;

use crate::model::clock::{self, Utc64};
use crate::model::exit_code::ExitCode;
use crate::model::sanitize::sanitize;
use crate::output::manifest::{Manifest, published};
use crate::output::read_only::{ExportPath, ReadOnlyExport};
use crate::report::error::ReportError;
use crate::report::page::course::Course;
use crate::report::page::files::FilesOverview;
use crate::report::page::items::ItemsOverview;
use crate::report::planned::PlanOutcome;
use crate::report::status::{EndCause, ExportStatus, read_steady};
use crate::report::summary::Summary;
use crate::report::totals::ExportTotals;
use crate::settings::table;
use crate::state::ledger::{DecisionRow, DriftCounts, Ledger, MAX_CREDITS};

/// Which export the page is about, and how it is.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) status: String,
    pub(crate) cause: Option<String>,
    pub(crate) next: Option<String>,
    pub(crate) export: String,
    pub(crate) out: String,
    pub(crate) complete_since: Option<String>,
    /// Which process works on it, if one does.
    pub(crate) holder: Option<String>,
    /// Requests without a response, while a process works on it.
    pub(crate) in_flight: u64,
    /// What was taken over from an earlier export, in words.
    pub(crate) continued: Option<String>,
}

impl Head {
    /// An unfinished export whose last run met a limit has that run's status and next step, as in its summary.
    fn name_limit(&mut self) {
        let limit = ExitCode::Limit.as_str();
        let cause = self.cause.as_ref().filter(|_| self.status == "unfinished");
        let Some(cause) = cause.and_then(|cause| cause.strip_prefix(limit)?.strip_prefix(": ")) else { return };
        if cause.contains(MAX_CREDITS) {
            self.next = ExitCode::Limit.next_step().map(str::to_owned);
        }
        (self.status, self.cause) = (limit.to_owned(), Some(cause.to_owned()));
    }
}

/// All that the page says. Text from outside is sanitised.
#[derive(Clone, Debug)]
pub(crate) struct PageData {
    pub(crate) head: Head,
    /// The moment that it is of.
    pub(crate) as_of: Utc64,
    pub(crate) created_at: Utc64,
    pub(crate) totals: ExportTotals,
    /// What it was expected to cost, in words, where that was more than an assumption.
    pub(crate) plan: Option<String>,
    pub(crate) reasons: Vec<EndCause>,
    pub(crate) items: ItemsOverview,
    pub(crate) files: FilesOverview,
    pub(crate) drift: DriftCounts,
    /// Columns whose field never came.
    pub(crate) never_came: Vec<String>,
    pub(crate) course: Course,
    pub(crate) decisions: Vec<DecisionRow>,
    pub(crate) decisions_dropped: u64,
    /// The settings that shape requests and rows.
    pub(crate) identity: BTreeMap<String, String>,
}

impl PageData {
    /// Reads an export, whatever its state, and changes nothing.
    pub(crate) async fn read(export: &ExportPath) -> Result<Self, ReportError> {
        read_steady(export, |opened, holder| Self::from_open(export, opened, holder)).await
    }

    fn from_open(export: &ExportPath, opened: &ReadOnlyExport, holder: Option<String>) -> Result<Self, ReportError> {
        let ledger = &opened.ledger;
        let mut items = ItemsOverview::default();
        ledger.for_each_item(|item| {
            items.add(&item);
            Ok::<_, ReportError>(())
        })?;
        let manifests = if opened.export.removal.is_none() { published(ledger)? } else { Vec::new() };
        let status = ExportStatus::from_open(export, opened, holder)?;
        let head = Head {
            status: status.status.to_owned(),
            cause: None,
            next: status.next.map(str::to_owned),
            export: status.export,
            out: sanitize(&status.out),
            complete_since: status.complete_since,
            holder: status.holder,
            in_flight: status.in_flight,
            continued: status.continued.map(|continued| continued.to_string()),
        };
        let mut data = Self::from_ledger(ledger, (head, status.totals), (items, &manifests))?;
        if !matches!(data.head.status.as_str(), "running" | "complete") {
            data.head.cause = data.course.runs.last().and_then(|run| run.outcome.clone());
        }
        data.head.name_limit();
        Ok(data)
    }

    /// The page of a run that has just been summed up.
    pub(crate) fn from_summary(summary: &Summary, ledger: &Ledger, items: ItemsOverview) -> Result<Self, ReportError> {
        let head = Head {
            status: summary.status.to_owned(),
            cause: summary.cause.as_deref().map(sanitize_long),
            next: summary.next.map(str::to_owned),
            export: summary.export.clone(),
            out: sanitize(&summary.out),
            complete_since: summary.complete_since.clone(),
            holder: None,
            in_flight: 0,
            continued: summary.continued.as_ref().map(ToString::to_string),
        };
        Self::from_ledger(ledger, (head, summary.totals.clone()), (items, &published(ledger)?))
    }

    fn from_ledger(
        ledger: &Ledger,
        (head, totals): (Head, ExportTotals),
        (items, manifests): (ItemsOverview, &[Manifest]),
    ) -> Result<Self, ReportError> {
        let export = ledger.export()?;
        let (mut decisions, decisions_dropped) = ledger.decisions()?;
        for decision in &mut decisions {
            (decision.kind, decision.text) = (sanitize(&decision.kind), sanitize_long(&decision.text));
        }
        let (created_at, identity) =
            export.map_or_else(Default::default, |export| (export.created_at, export.identity));
        let drift = ledger.drift()?;
        let plan = PlanOutcome::from_ledger(ledger, totals.credits.billed)?;
        let columns = identity.get(table::COLUMNS.info.key).map(String::as_str).unwrap_or_default();
        let never = columns.split(',').filter(|name| !name.is_empty() && !drift.seen.contains(*name));
        Ok(Self {
            head,
            as_of: clock::wall(),
            created_at,
            plan: plan.filter(PlanOutcome::is_founded).map(|plan| plan.to_string()),
            reasons: EndCause::from_ledger(ledger)?,
            items,
            files: FilesOverview::from_manifests(manifests),
            never_came: if totals.rows.received > 0 { never.map(sanitize).collect() } else { Vec::new() },
            drift,
            course: Course::new(&ledger.series()?, &decisions),
            decisions,
            decisions_dropped,
            identity,
            totals,
        })
    }
}

/// A cause may be longer than other texts: it may list columns.
fn sanitize_long(text: &str) -> String {
    crate::model::sanitize::beginning(text.as_bytes(), crate::model::sanitize::LONGEST_ERROR)
}
