//! The end of a run: what the whole export shows about single lists, the reports, and the mark of success last.

use indicatif::HumanCount;

use crate::error::{Error, ExitCode};
use crate::model::clock::{self, Utc64};
use crate::model::event::Event;
use crate::model::page::PageNum;
use crate::model::sanitize::{Sanitized, chain};
use crate::output::error::OutputError;
use crate::output::manifest::{self, Manifest};
use crate::output::names::SUCCESS;
use crate::report::error::ReportError;
use crate::report::page::{self, ItemsOverview, PAGE, PageData};
use crate::report::products;
use crate::report::run_stats::RunStats;
use crate::report::summary::{self, Summary};
use crate::run::open::OpenExport;
use crate::run::recovery::rebuild::{RebuildPlan, RebuildScope};
use crate::run::stop::Stop;

/// Lists that are refused at one same page before that page is taken for the API's last one.
const CAPPED_LISTS: u32 = 3;

impl OpenExport<'_> {
    /// Since when the export is complete, if there is nothing to do: every item is complete and published in these columns.
    pub(super) async fn complete_since(&self) -> Result<Option<Utc64>, Error> {
        let totals = self.dir.ledger().totals()?;
        let is_complete = totals.complete == totals.items && totals.pages_waiting == 0;
        let Some(since) = self.dir.export.completed_at.filter(|_| is_complete) else { return Ok(None) };
        let schema = self.dir.manifest_schema(&self.context.settings, &self.decoder);
        let plan = RebuildPlan::make(&self.dir, &schema, RebuildScope::OtherColumns).await?;
        Ok(plan.is_empty().then_some(since))
    }

    /// Sums up an export that was complete before this run. Reports and mark are written again where a crash prevented them or
    /// somebody removed them.
    pub(super) async fn still_complete(&self, since: Utc64) -> Result<Summary, Error> {
        self.remove_leftovers().await?;
        self.refuse_modified().await?;
        self.publisher.catch_up().await?;
        for report in [products::PRODUCTS, summary::SUMMARY, PAGE, SUCCESS] {
            if self.dir.store.find(report).await?.is_none() {
                self.finish(None, RunStats::default(), None).await?;
                break;
            }
        }
        let summary = self.sum_up(Some(ExitCode::Complete), RunStats::default()).await?;
        let settings = &self.context.settings;
        if settings.fail_on_drift && summary.drift.serious(summary.totals.rows.received, &settings.endpoint).is_some() {
            return self.finish(None, RunStats::default(), None).await;
        }
        Ok(summary.found_complete(since))
    }

    /// Writes the reports, and on success the mark. `rebuilt`: how many segments a replay rebuilt.
    pub(super) async fn finish(
        &self,
        stop: Option<Stop>,
        stats: RunStats,
        rebuilt: Option<usize>,
    ) -> Result<Summary, Error> {
        self.remove_leftovers().await?;
        self.publisher.remove_superseded().await?;
        self.correct_ends().await?;
        let mut summary = self.sum_up(None, stats).await?;
        if let Some(stop) = &stop {
            summary.set_stop(stop.exit_code(), stop.to_string());
            summary.next = stop.next_step();
        }
        if let Some(rebuilt) = rebuilt {
            summary.set_replayed(rebuilt);
        }
        self.judge_drift(&mut summary).await?;
        let outcome = (summary.status, summary.cause.as_deref().unwrap_or_default());
        self.dir.ledger().write_timeline(&self.timeline.take_rest(Some(outcome)))?;
        let items = products::write_products(&self.dir).await?;
        if summary.exit == ExitCode::Complete {
            self.refuse_modified().await?;
            let ledger = self.dir.ledger();
            let since = ledger.export()?.and_then(|export| export.completed_at).unwrap_or_else(clock::wall);
            ledger.set_completed(Some(since))?;
            summary.complete_since = Some(since.to_string());
        }
        summary.write(&self.dir.store).await?;
        self.write_page(&summary, items).await;
        if summary.exit == ExitCode::Complete {
            self.publisher.check_claim().await?;
            self.dir.store.put(SUCCESS, Vec::new()).await?;
        }
        Ok(summary)
    }

    /// Writes the page about the export. If that fails, a warning is enough: the export is as complete without it.
    async fn write_page(&self, summary: &Summary, items: ItemsOverview) {
        let data = PageData::from_summary(summary, &self.dir.ledger(), items);
        let written = match data {
            Ok(data) => self.dir.store.put(PAGE, page::render(&data).into_bytes()).await.map_err(ReportError::from),
            Err(error) => Err(error),
        };
        if let Err(error) = written {
            self.warn(&format!("{PAGE} is not written, `pagehaul report` tries again: {}", chain(&error)));
        }
    }

    async fn sum_up(&self, exit: Option<ExitCode>, stats: RunStats) -> Result<Summary, Error> {
        let (settings, allowed) = (&self.context.settings, self.context.qps.per_second());
        Ok(summary::of(settings, allowed, &self.dir, exit, stats).await?)
    }

    /// Corrects single lists by what all of them show: lists cut at the API's last page, lists that an API without page numbers
    /// repeats, lists that never came.
    async fn correct_ends(&self) -> Result<(), Error> {
        let first = PageNum(self.context.settings.endpoint.page.first);
        let changed = {
            let ledger = self.dir.ledger();
            ledger.cut_at_page_cap(CAPPED_LISTS)? + ledger.cut_unnumbered(first)? + ledger.fail_without_list(first)?
        };
        if changed == 0 {
            return Ok(());
        }
        let counts = self.dir.ledger().progress()?;
        self.context.events.event(&Event::Recounted(counts));
        self.unmark().await
    }

    /// Warns where responses differ much from the endpoint's description. With `fail_on_drift` the run fails for it.
    async fn judge_drift(&self, summary: &mut Summary) -> Result<(), Error> {
        let settings = &self.context.settings;
        let Some(drift) = summary.drift.serious(summary.totals.rows.received, &settings.endpoint) else {
            return Ok(());
        };
        if settings.fail_on_drift && matches!(summary.exit, ExitCode::Complete | ExitCode::Partial) {
            summary.set_drifted(&drift);
            return self.unmark().await;
        }
        let rows = HumanCount(summary.totals.rows.received);
        let message = format!("the responses differ from the endpoint's description (of {rows} rows): {drift}");
        self.context.events.event(&Event::Warning(&message));
        Ok(())
    }

    /// Fails, and removes the mark of success, where the output is not as it was published or lacks a row that was received.
    async fn refuse_modified(&self) -> Result<(), Error> {
        let reason = match self.publisher.find_modified().await? {
            Some(path) => format!("{} is missing or was changed", Sanitized(&path)),
            None => match self.wrong_sum()? {
                Some(reason) => reason,
                None => return Ok(()),
            },
        };
        self.dir.store.remove(vec![SUCCESS.to_owned()]).await?;
        Err(OutputError::Modified(format!("the output is not as it was published: {reason}")).into())
    }

    /// Each received row is kept, rejected or a duplicate. The first two are in files.
    fn wrong_sum(&self) -> Result<Option<String>, Error> {
        let ledger = self.dir.ledger();
        let totals = ledger.totals()?;
        let in_files = |manifest: &Manifest| manifest.all_files().map(|file| file.rows).sum::<u64>();
        let published: u64 = manifest::published(&ledger)?.iter().map(in_files).sum();
        let expected = totals.kept + totals.rejected;
        Ok((published != expected).then(|| format!("its files have {published} rows and should have {expected}")))
    }
}
