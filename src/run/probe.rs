//! A probe: pages of a random sample of the lists, so that a plan has something to go by. It is an export that only reads those:
//! its pages are in the export's own journal and ledger, and the export pays for none of them again.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use futures_util::FutureExt;

use crate::error::{Error, ExitCode};
use crate::fetch::Fetch;
use crate::input::item_list::Ids;
use crate::output::export_dir::ExportDir;
use crate::plan::Probed;
use crate::report::summary::Summary;
use crate::run::context::RunContext;
use crate::run::export::{unless, warn_of_network_disk};
use crate::run::open::OpenExport;
use crate::run::recovery::rebuild::RebuildScope;
use crate::run::stop::Stop;
use crate::run::time_limit::TimeLimit;

/// How a probe ended.
#[derive(Debug)]
pub enum ProbeOutcome {
    /// With what it cost, seconds of a response if there was one, and the rate limit if it was discovered.
    Done { probed: Probed, latency: Option<f64>, rate: Option<f64> },
    /// As an export would that stops for this reason.
    Stopped(Box<Summary>),
}

/// Reads pages until the export has spent `max_credits` in all its runs, or the sample is read. Pages that are there count, so
/// that the same probe again costs nothing, and a larger one continues it.
pub async fn probe<F: Fetch>(
    context: &RunContext,
    ids: Ids,
    api: Arc<F>,
    stopped: impl Future<Output = ExitCode>,
) -> Result<ProbeOutcome, Error> {
    let mut stopped = pin!(stopped.fuse());
    let (context, timeline) = &context.with_timeline();
    let opening = async { Ok(ExportDir::open(&context.settings).await?) };
    let export = OpenExport::new(context, unless(context, stopped.as_mut(), opening).await?, Arc::clone(timeline))?;
    warn_of_network_disk(context);
    unless(context, stopped.as_mut(), export.register(ids)).await?;
    // Its lists cost little, and are no sample of what others cost. The lock goes with it.
    drop(unless(context, stopped.as_mut(), export.continue_earlier()).await?);
    let credits = || export.dir.ledger().credits().map(|credits| credits.billed + credits.in_doubt);
    let (before, allowed) = (credits()?, context.settings.max_credits.unwrap_or(u64::MAX));
    let totals = export.dir.ledger().totals()?;
    let is_complete = export.dir.export.completed_at.is_some() && totals.complete == totals.items;
    if before >= allowed || is_complete {
        return Ok(ProbeOutcome::Done { probed: Probed { allowed, credits: 0 }, latency: None, rate: None });
    }
    TimeLimit::refuse_late(context.time_limit.as_ref())?;
    export.unmark().await?;
    if let Some(shortage) = export.dir.min_free_space.shortage()? {
        return Err(Error::NoFreeSpace(shortage));
    }
    let resumed = unless(context, stopped.as_mut(), export.resume(RebuildScope::OtherColumns)).await?;
    let (stop, stats) = export.crawl(resumed, api, stopped.as_mut()).await?;
    let latency = stats.latency.as_secs_f64();
    match stop {
        None | Some(Stop::Surveyed | Stop::Credits) => {
            let credits = credits()?.saturating_sub(before);
            let latency = Some(latency).filter(|latency| *latency > 0.0);
            Ok(ProbeOutcome::Done { probed: Probed { allowed, credits }, latency, rate: stats.found })
        }
        Some(stop) => Ok(ProbeOutcome::Stopped(Box::new(export.finish(Some(stop), stats, None).await?))),
    }
}
