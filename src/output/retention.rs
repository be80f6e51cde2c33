//! Which journal files nothing but `replay` would read again, and their removal.
//!
//! A file may go if its segment is published as the ledger decided it, in the columns of the export; if all its pages are applied;
//! and if no response in it may become a page under other codes. What later runs need of it is in the ledger: counts and row keys of
//! its pages, how lists ended, how long they are. Where a condition is not met, or not known to be, the file stays.
//!
//! The ledger notes a segment before its file is removed. A crash in between leaves a file that the next removal takes.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::task::spawn_blocking;

use crate::endpoint::{EXTRA, FETCHED_AT, PAGE_NUM};
use crate::model::clock::{self, Utc64};
use crate::model::page::SegmentId;
use crate::output::differences::Identity;
use crate::output::error::OutputError;
use crate::output::manifest::Manifest;
use crate::output::names::manifest_name;
use crate::output::store::Store;
use crate::settings::{SettingInfo, table};
use crate::state::disk::Disk;
use crate::state::journal::file_name;
use crate::state::ledger::{Ledger, SegmentRow, SegmentState};

#[derive(Clone, Debug)]
pub(crate) struct Retention {
    pub ledger: Arc<Mutex<Ledger>>,
    pub store: Store,
    /// Directory of the journal files.
    pub journal: PathBuf,
    /// The export's settings: its columns are those of all its files, unless a replay is unfinished.
    pub identity: Identity,
}

/// Which segments are looked at, and how closely.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Scope {
    /// Only this segment; none: all.
    pub only: Option<SegmentId>,
    /// Only segments that were decided until then; none: whenever.
    pub decided_until: Option<Utc64>,
    /// Whether published files are read, or only their lengths are compared.
    pub reads_files: bool,
}

/// Why a journal file stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Needed {
    /// The segment takes pages, or its files have not all got their names.
    Unpublished,
    Recent,
    /// Pages in it are not applied, or a response in it may become a page.
    NotJudged,
    /// Its files have other columns than the export, or a replay of it was not finished.
    ReplayUnfinished,
    /// Manifest or files are not as they were published: nothing else has the rows.
    OutputModified,
    /// The file is not as the ledger has it.
    JournalDamaged,
}

/// A journal file that may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expendable {
    pub segment: SegmentId,
    pub bytes: u64,
    /// Whether the ledger says so already: a crash left the file.
    is_noted: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Sorted {
    pub expendable: Vec<Expendable>,
    pub needed: Vec<(SegmentId, Needed)>,
    /// Segments whose file is gone.
    pub gone: usize,
}

impl Retention {
    /// Sorts journal files into those that may go and those that are needed. Changes nothing.
    pub(crate) async fn sort(&self, scope: Scope) -> Result<Sorted, OutputError> {
        let (mut segments, unjudged) = {
            let ledger = self.ledger();
            let unjudged = &ledger.segments_with_waiting_pages()? | &ledger.segments_with_possible_pages()?;
            (ledger.segments()?, unjudged)
        };
        segments.retain(|row| scope.only.is_none_or(|only| only == row.id));
        let mut sorted = Sorted::default();
        for row in segments {
            let (segment, found) = (row.id, self.length(row.id));
            match (row.is_pruned, found) {
                // A crash left it, or somebody put it back because the output is damaged.
                (true, Some(bytes)) => {
                    match self.needed(&row, Scope { reads_files: true, ..Scope::default() }).await? {
                        Some(needed) => sorted.needed.push((segment, needed)),
                        None => sorted.expendable.push(Expendable { segment, bytes, is_noted: true }),
                    }
                }
                (true, None) => sorted.gone += 1,
                (false, None | Some(0)) if row.state == SegmentState::Open => {} // nothing is in it
                (false, _) if unjudged.contains(&segment) && row.state == SegmentState::Published => {
                    sorted.needed.push((segment, Needed::NotJudged));
                }
                (false, _) => match (self.needed(&row, scope).await?, found) {
                    (Some(needed), _) => sorted.needed.push((segment, needed)),
                    (None, Some(bytes)) if bytes == self.ledger().journaled(segment)? => {
                        sorted.expendable.push(Expendable { segment, bytes, is_noted: false });
                    }
                    (None, _) => sorted.needed.push((segment, Needed::JournalDamaged)),
                },
            }
        }
        Ok(sorted)
    }

    /// Why the file of a segment whose pages are judged is needed; none if it is not.
    async fn needed(&self, row: &SegmentRow, scope: Scope) -> Result<Option<Needed>, OutputError> {
        if row.state != SegmentState::Published {
            return Ok(Some(Needed::Unpublished));
        }
        let text = row.manifest.as_deref().unwrap_or_default();
        let manifest = Manifest::of_segment(row.id, text.as_bytes())?;
        if row.attempt != manifest.attempt || !self.has_its_columns(&manifest) {
            return Ok(Some(Needed::ReplayUnfinished));
        }
        let decided_at = Utc64::from_rfc_3339(&manifest.decided_at);
        if scope.decided_until.is_some_and(|until| decided_at.is_none_or(|decided| decided > until)) {
            return Ok(Some(Needed::Recent));
        }
        let is_published = self.is_as_published(&manifest, text, scope.reads_files).await?;
        Ok(Some(Needed::OutputModified).filter(|_| !is_published))
    }

    fn has_its_columns(&self, manifest: &Manifest) -> bool {
        let columns = manifest.columns.iter().map(|(name, _)| name.as_str());
        let columns: Vec<&str> = columns.filter(|name| ![FETCHED_AT, PAGE_NUM, EXTRA].contains(name)).collect();
        let is = |setting: SettingInfo, value: &str| self.identity.get(setting.key).is_some_and(|known| known == value);
        is(table::ENDPOINT.info, &manifest.endpoint) && is(table::COLUMNS.info, &columns.join(","))
    }

    async fn is_as_published(&self, manifest: &Manifest, text: &str, reads_files: bool) -> Result<bool, OutputError> {
        let found = self.store.get(&manifest_name(SegmentId(manifest.segment))).await?;
        if found.is_none_or(|found| found != text.as_bytes()) {
            return Ok(false);
        }
        for file in manifest.all_files() {
            let fault = if reads_files {
                let etag = self.ledger().etag(&file.path)?;
                file.fault(&self.store, etag.as_deref()).await?
            } else {
                file.visible_fault(self.store.find(&file.path).await?.as_ref())
            };
            if fault.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Removes journal files, durably.
    pub(crate) async fn remove(&self, files: &[Expendable]) -> Result<(), OutputError> {
        for file in files.iter().copied() {
            let (ledger, path) = (Arc::clone(&self.ledger), self.journal.join(file_name(file.segment)));
            let remove = move || {
                if !file.is_noted {
                    guard(&ledger).note_pruned(file.segment, clock::wall())?;
                }
                Disk.remove(&path).map_err(OutputError::from)
            };
            spawn_blocking(remove).await??;
        }
        if !files.is_empty() {
            let journal = self.journal.clone();
            spawn_blocking(move || Disk.sync_directory(&journal)).await??;
        }
        Ok(())
    }

    /// Bytes of a segment's journal file; none if there is no such file.
    fn length(&self, segment: SegmentId) -> Option<u64> {
        std::fs::symlink_metadata(self.journal.join(file_name(segment))).ok().map(|found| found.len())
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        guard(&self.ledger)
    }
}

fn guard(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Numbers of segments, ascending, for a person: `1-3, 7`.
pub(crate) fn listed(segments: impl IntoIterator<Item = SegmentId>) -> String {
    let mut ranges: Vec<(i64, i64)> = Vec::new();
    for SegmentId(id) in segments {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == id => *last = id,
            Some(_) | None => ranges.push((id, id)),
        }
    }
    let text = |(first, last): (i64, i64)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    ranges.into_iter().map(text).collect::<Vec<_>>().join(", ")
}
