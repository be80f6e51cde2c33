//! `export`: open, register, resume, crawl, finish. A page's way through these is in the crate's documentation.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::Fuse;

use crate::error::{Error, ExitCode};
use crate::fetch::Fetch;
use crate::input::item_list::Ids;
use crate::model::event::Event;
use crate::output::export_dir::ExportDir;
use crate::report::summary::Summary;
use crate::run::context::RunContext;
use crate::run::open::OpenExport;
use crate::run::recovery::rebuild::RebuildScope;
use crate::run::stop::Stop;
use crate::run::time_limit::TimeLimit;
use crate::state::free_space;

/// Walks every item of the list and publishes its rows. Resumes where an earlier run with the same directory stopped.
///
/// `stopped` resolves when a signal asks the run to stop. Until the first request that ends the run at once, as a crash would.
pub async fn export<F: Fetch>(
    context: &RunContext,
    ids: Ids,
    api: Arc<F>,
    stopped: impl Future<Output = ExitCode>,
) -> Result<Summary, Error> {
    let mut stopped = pin!(stopped.fuse());
    let (context, timeline) = &context.with_timeline();
    let dir = unless(context, stopped.as_mut(), async { Ok(ExportDir::open(&context.settings).await?) }).await?;
    let export = OpenExport::new(context, dir, Arc::clone(timeline))?;
    warn_of_network_disk(context);
    unless(context, stopped.as_mut(), export.register(ids)).await?;
    let mut earlier = unless(context, stopped.as_mut(), export.continue_earlier()).await?;
    if let Some(since) = export.complete_since().await? {
        let summary = export.still_complete(since).await?;
        return export.tidy_up(summary, stopped).await;
    }
    TimeLimit::refuse_late(context.time_limit.as_ref())?;
    export.keep_plan()?;
    export.unmark().await?;
    if let Some(shortage) = export.dir.min_free_space.shortage()? {
        return Err(Error::NoFreeSpace(shortage));
    }
    let resumed = unless(context, stopped.as_mut(), export.resume(RebuildScope::OtherColumns)).await?;
    let (mut stop, mut stats) = export.crawl(resumed, Arc::clone(&api), stopped.as_mut()).await?;
    while stop.as_ref().is_none_or(Stop::may_be_of_last_pages)
        && let Some(open) = earlier.take()
    {
        if stop.is_some() && !export.give_up_last_pages()? {
            break;
        }
        let (open, continues) = unless(context, stopped.as_mut(), export.take_over(open)).await?;
        earlier = Some(open);
        if !continues && stop.is_none() {
            break;
        }
        let resumed = unless(context, stopped.as_mut(), export.resume(RebuildScope::OtherColumns)).await?;
        let (next, more) = export.crawl(resumed, Arc::clone(&api), stopped.as_mut()).await?;
        (stop, stats) = (next, stats.and(more));
    }
    if let Some(earlier) = earlier.filter(|_| stop.is_none()) {
        export.compare_sampled(earlier).await?;
    }
    let summary = export.finish(stop, stats, None).await?;
    export.tidy_up(summary, stopped).await
}

impl OpenExport<'_> {
    /// Removes what is not wanted any more: journal files, and on success older snapshots, until a signal comes.
    async fn tidy_up(
        &self,
        summary: Summary,
        mut stopped: Pin<&mut Fuse<impl Future<Output = ExitCode>>>,
    ) -> Result<Summary, Error> {
        self.prune().await?;
        if summary.exit == ExitCode::Complete {
            let mut has_signal = false; // it shows once only
            let is_stopped = || {
                has_signal |= stopped.as_mut().now_or_never().is_some();
                has_signal
            };
            self.remove_older_snapshots(is_stopped).await;
        }
        Ok(summary)
    }
}

/// Does the work, unless a signal comes or the run's time is over first.
pub(super) async fn unless<T>(
    context: &RunContext,
    stopped: Pin<&mut impl Future<Output = ExitCode>>,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::select! {
        biased;
        code = stopped => Err(Error::Interrupted(code)),
        cause = TimeLimit::reached(context.time_limit.as_ref()) => Err(Error::TimeLimit(cause)),
        done = work => done,
    }
}

pub(super) fn warn_of_network_disk(context: &RunContext) {
    let state = &context.settings.state_dir;
    if let Some(kind) = free_space::network_file_system(state) {
        let message = format!(
            "{} is on a network file system ({kind}), where locks and the ledger may not be reliable: name a local directory with --state-dir",
            state.display()
        );
        context.events.event(&Event::Warning(&message));
    }
}
