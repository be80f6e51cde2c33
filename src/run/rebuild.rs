//! Segments that are not as they should be, published ones and decided ones whose files are gone: found, and built again from
//! their journals without a request.
//!
//! A segment is built again as a new attempt at it: its journal goes through the decoder and the walks as if it had just
//! come, and is published over the earlier attempt (see `commit`). Segments go in order, because what a walk has seen before
//! a segment is what the ledger knows of the earlier ones. A crash anywhere leaves each segment published as one of the two
//! attempts, and the same command goes on.

use std::sync::Arc;

use tokio::task::spawn_blocking;

use crate::error::Error;
use crate::model::event::{Event, EventSink};
use crate::model::page::SegmentId;
use crate::model::sanitize::chain;
use crate::output::error::OutputError;
use crate::output::export_dir::ExportDir;
use crate::output::manifest::{Manifest, ManifestSchema};
use crate::output::names::{MANIFESTS, manifest_name, segment_of};
use crate::output::writer::WriterHandle;
use crate::run::recovery::Recovery;
use crate::state::ledger::{OpenSegment, SegmentRow, SegmentState};

/// Which published segments are built again. A decided one that recovery could not publish always is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RebuildScope {
    /// Those of other columns than the present ones: what a replay that was interrupted left.
    OtherColumns,
    /// Also those whose files are not as they were written. All files are read to find out.
    Modified,
    /// All.
    All,
}

/// What is to be done to segments.
#[derive(Debug, Default)]
pub(crate) struct RebuildPlan {
    /// Manifests that are not as the ledger has them: put back as they were.
    restore: Vec<(SegmentId, String)>,
    /// Segments to be built again, and why.
    rebuild: Vec<(SegmentId, String)>,
}

impl RebuildPlan {
    /// Finds out what is to be done, after recovery. Changes nothing, and fails where the output is not what the ledger knows
    /// of.
    pub(crate) async fn make(
        export_dir: &Arc<ExportDir>,
        imprint: &ManifestSchema,
        which: RebuildScope,
    ) -> Result<Self, Error> {
        let segments = export_dir.ledger().segments()?;
        let is_known = |id| segments.iter().any(|row| row.id == id && row.state != SegmentState::Open);
        let names = export_dir.store.list(MANIFESTS).await?;
        if let Some(name) = names.iter().find(|name| segment_of(name).is_some_and(|id| !is_known(id))) {
            return Err(newer(name));
        }
        let mut plan = Self::default();
        for row in segments {
            match row.state {
                SegmentState::Open => {}
                SegmentState::Decided => {
                    plan.rebuild.push((row.id, "its files cannot get their names any more".to_owned()));
                }
                SegmentState::Published => plan.add(export_dir, imprint, which, row).await?,
            }
        }
        Ok(plan)
    }

    async fn add(
        &mut self,
        export_dir: &Arc<ExportDir>,
        imprint: &ManifestSchema,
        which: RebuildScope,
        row: SegmentRow,
    ) -> Result<(), Error> {
        let text = row.manifest.unwrap_or_default();
        let Ok(manifest) = Manifest::parse(text.as_bytes()) else {
            return Err(
                OutputError::Damaged(format!("the ledger's manifest of segment {} is not readable", row.id)).into()
            );
        };
        let reason = reason(export_dir, imprint, &manifest, which).await?;
        if which != RebuildScope::OtherColumns {
            let name = manifest_name(row.id);
            let found = export_dir.store.get(&name).await?.unwrap_or_default();
            let is_newer = |found: Manifest| found.export != manifest.export || found.attempt > manifest.attempt;
            if Manifest::parse(&found).is_ok_and(is_newer) {
                return Err(newer(&name));
            }
            if found != text.as_bytes() {
                self.restore.push((row.id, text));
            }
        }
        self.rebuild.extend(reason.map(|reason| (row.id, reason)));
        Ok(())
    }

    /// Whether there is nothing to do.
    pub(crate) fn is_empty(&self) -> bool {
        self.restore.is_empty() && self.rebuild.is_empty()
    }

    /// How many segments are built again.
    pub(crate) fn rebuilt(&self) -> usize {
        self.rebuild.len()
    }

    /// Makes sure that the journals are there and whole, all of them, before anything is changed.
    pub(crate) async fn check(&self, export_dir: &ExportDir, recovery: &Arc<Recovery>) -> Result<(), Error> {
        for (id, reason) in &self.rebuild {
            let segment = OpenSegment { id: *id, attempt: 0, journaled: export_dir.ledger().journaled(*id)? };
            let recovery = Arc::clone(recovery);
            let checked = spawn_blocking(move || recovery.check(segment).map(drop)).await?;
            checked.map_err(|error| {
                OutputError::Damaged(format!(
                    "segment {id} must be built again ({reason}) and cannot be: {}",
                    chain(&error)
                ))
            })?;
        }
        Ok(())
    }

    /// Does it, one segment after the other.
    pub(crate) async fn carry_out(
        &self,
        export_dir: &ExportDir,
        recovery: &Arc<Recovery>,
        writing: &WriterHandle,
        events: &dyn EventSink,
    ) -> Result<(), Error> {
        for (segment, text) in &self.restore {
            export_dir.store.put(&manifest_name(*segment), text.clone().into_bytes()).await?;
        }
        for (at, (segment, reason)) in self.rebuild.iter().enumerate() {
            events.event(&Event::Rebuilding { segment: *segment, nth: at + 1, of: self.rebuild.len(), reason });
            let segment = export_dir.ledger().begin_again(*segment)?;
            recovery.fill(segment, writing).await?;
            writing.publish().await?;
        }
        export_dir.ledger().revive_rejected()?;
        Ok(())
    }
}

/// Why a published segment is to be built again; none if it is not.
async fn reason(
    export_dir: &Arc<ExportDir>,
    imprint: &ManifestSchema,
    manifest: &Manifest,
    which: RebuildScope,
) -> Result<Option<String>, Error> {
    if !imprint.fits(manifest) {
        return Ok(Some("its columns are others".to_owned()));
    }
    match which {
        RebuildScope::OtherColumns => return Ok(None),
        RebuildScope::All => return Ok(Some("all are asked for".to_owned())),
        RebuildScope::Modified => {}
    }
    for file in manifest.all_files() {
        if let Some(fault) = file.fault(&export_dir.store).await? {
            return Ok(Some(format!("{} {fault}", file.path)));
        }
    }
    Ok(None)
}

fn newer(name: &str) -> Error {
    OutputError::Mismatch(format!(
        "{name} is of another export, or newer than its ledger: the state directory is not of this output"
    ))
    .into()
}
