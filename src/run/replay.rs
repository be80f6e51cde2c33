//! `replay`: the output from the journal, without a request.

use std::sync::Arc;

use crate::error::Error;
use crate::output::export_dir::ExportDir;
use crate::report::run_stats::RunStats;
use crate::report::summary::Summary;
use crate::run::context::RunContext;
use crate::run::open::OpenExport;
use crate::run::recovery::rebuild::RebuildScope;
use crate::run::resume::Resumed;

/// Publishes what the journal holds and no file has yet, and rebuilds the published segments in `scope`.
pub(crate) async fn replay(context: &RunContext, scope: RebuildScope) -> Result<Summary, Error> {
    let (context, timeline) = &context.with_timeline();
    let dir = ExportDir::open_to_replay(&context.settings).await?;
    let export = OpenExport::new(context, dir, Arc::clone(timeline))?;
    let Resumed { writer, rebuilt, .. } = export.resume(scope).await?;
    let published = if export.has_waiting()? { writer.publish().await } else { Ok(()) };
    writer.end(published).await?;
    let summary = export.finish(None, RunStats::default(), Some(rebuilt)).await?;
    if export.dir.export.removal.is_some() {
        export.dir.ledger().note_removal(None)?; // its files are there again
    }
    Ok(summary)
}
