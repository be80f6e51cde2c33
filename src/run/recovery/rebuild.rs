//! Rebuilds segments from their journals, without a request: published ones with other columns or modified files, and decided ones
//! whose files are gone.
//!
//! A segment is rebuilt as a new attempt: its journal goes through the decoder and the walks as the first time, and is published
//! over the earlier attempt (`output::publisher`). Segments go in order, because a walk's earlier rows are what the ledger knows of
//! earlier segments. A crash anywhere leaves each segment published as one of the two attempts, and the same command continues.

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
use crate::output::retention::listed;
use crate::output::stored::Put;
use crate::output::writer::WriterHandle;
use crate::run::recovery::Recovery;
use crate::state::ledger::{OpenSegment, SegmentRow, SegmentState};

/// Which published segments are rebuilt. A decided one that recovery could not publish always is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RebuildScope {
    /// Those with other columns than the present ones: an interrupted replay leaves them.
    OtherColumns,
    /// Also those whose files were modified. All files are read to find out.
    Modified,
    All,
}

#[derive(Debug, Default)]
pub(crate) struct RebuildPlan {
    /// Manifests that differ from the ledger: restored as they were.
    restore: Vec<(SegmentId, String)>,
    /// Segments to rebuild, and why.
    rebuild: Vec<(SegmentId, String)>,
}

impl RebuildPlan {
    /// Finds out what has to be done, after recovery. Changes nothing. Fails where the output is not of this ledger.
    pub(crate) async fn make(
        dir: &Arc<ExportDir>,
        schema: &ManifestSchema,
        which: RebuildScope,
    ) -> Result<Self, Error> {
        let segments = dir.ledger().segments()?;
        let is_known = |id| segments.iter().any(|row| row.id == id && row.state != SegmentState::Open);
        let names = dir.store.list(MANIFESTS).await?;
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
                SegmentState::Published => plan.add(dir, schema, which, row).await?,
            }
        }
        Ok(plan)
    }

    async fn add(
        &mut self,
        dir: &Arc<ExportDir>,
        schema: &ManifestSchema,
        which: RebuildScope,
        row: SegmentRow,
    ) -> Result<(), Error> {
        let text = row.manifest.unwrap_or_default();
        let Ok(manifest) = Manifest::parse(text.as_bytes()) else {
            return Err(
                OutputError::Damaged(format!("the ledger's manifest of segment {} is not readable", row.id)).into()
            );
        };
        let reason = reason(dir, schema, &manifest, which).await?;
        if which != RebuildScope::OtherColumns {
            let name = manifest_name(row.id);
            let found = dir.store.get(&name).await?;
            let parsed = found.as_deref().and_then(|text| Manifest::parse(text).ok());
            if parsed.is_some_and(|found| is_newer(&found, &manifest)) {
                return Err(newer(&name));
            }
            // Where there is none, a segment that is rebuilt gets its own: the old one would name files that are gone.
            if found.as_deref() != Some(text.as_bytes()) && (reason.is_none() || found.is_some()) {
                self.restore.push((row.id, text));
            }
        }
        self.rebuild.extend(reason.map(|reason| (row.id, reason)));
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.restore.is_empty() && self.rebuild.is_empty()
    }

    pub(crate) fn rebuilt(&self) -> usize {
        self.rebuild.len()
    }

    /// Checks that all journals are there and intact, before anything is changed.
    pub(crate) async fn check(&self, dir: &ExportDir, recovery: &Arc<Recovery>) -> Result<(), Error> {
        self.refuse_pruned(dir)?;
        for (id, reason) in &self.rebuild {
            let segment = OpenSegment { id: *id, attempt: 0, journaled: dir.ledger().journaled(*id)? };
            let recovery = Arc::clone(recovery);
            let checked = spawn_blocking(move || recovery.check(segment).map(drop)).await?;
            checked.map_err(|error| {
                OutputError::Damaged(format!(
                    "segment {id} must be rebuilt ({reason}) and cannot be: {}",
                    chain(&error)
                ))
            })?;
        }
        Ok(())
    }

    /// Fails if a segment to rebuild does without its journal file: also if a crash left the file.
    fn refuse_pruned(&self, dir: &ExportDir) -> Result<(), Error> {
        let segments = dir.ledger().segments()?;
        let is_pruned = |id: SegmentId| segments.iter().any(|row| row.id == id && row.is_pruned);
        let pruned: Vec<&(SegmentId, String)> = self.rebuild.iter().filter(|(id, _)| is_pruned(*id)).collect();
        let Some((first, reason)) = pruned.first() else { return Ok(()) };
        let all = listed(pruned.iter().map(|(id, _)| *id));
        Err(OutputError::Pruned(format!(
            "segment {first} must be rebuilt ({reason}) and cannot be: \
             the journal files of these segments were removed (prune, --journal): {all}"
        ))
        .into())
    }

    pub(crate) async fn carry_out(
        &self,
        dir: &ExportDir,
        recovery: &Arc<Recovery>,
        writing: &WriterHandle,
        events: &dyn EventSink,
    ) -> Result<(), Error> {
        for (segment, text) in &self.restore {
            let name = manifest_name(*segment);
            let manifest = Manifest::of_segment(*segment, text.as_bytes())?;
            let may_replace =
                move |found: &[u8]| !Manifest::parse(found).is_ok_and(|found| is_newer(&found, &manifest));
            if dir.store.put_over(name.clone(), text.clone().into_bytes(), may_replace).await? == Put::Refused {
                return Err(newer(&name));
            }
        }
        for (at, (segment, reason)) in self.rebuild.iter().enumerate() {
            events.event(&Event::Rebuilding { segment: *segment, nth: at + 1, of: self.rebuild.len(), reason });
            let segment = dir.ledger().restart_segment(*segment)?;
            recovery.fill(segment, writing).await?;
            writing.publish().await?;
        }
        dir.ledger().reopen_rejected()?;
        Ok(())
    }
}

/// Why a published segment has to be rebuilt; none if it has not.
async fn reason(
    dir: &Arc<ExportDir>,
    schema: &ManifestSchema,
    manifest: &Manifest,
    which: RebuildScope,
) -> Result<Option<String>, Error> {
    if !schema.fits(manifest) {
        return Ok(Some("its columns are others".to_owned()));
    }
    match which {
        RebuildScope::OtherColumns => return Ok(None),
        RebuildScope::All => return Ok(Some("all files are to be rebuilt".to_owned())),
        RebuildScope::Modified => {}
    }
    for file in manifest.all_files() {
        let etag = dir.ledger().etag(&file.path)?;
        if let Some(fault) = file.fault(&dir.store, etag.as_deref()).await? {
            return Ok(Some(format!("{} {fault}", file.path)));
        }
    }
    Ok(None)
}

fn is_newer(found: &Manifest, decided: &Manifest) -> bool {
    found.export != decided.export || found.attempt > decided.attempt
}

fn newer(name: &str) -> Error {
    OutputError::Mismatch(format!(
        "{name} is of another export, or newer than its ledger: the state directory is not of this output"
    ))
    .into()
}
