//! Publishing, in its one order: staged files whole and durable; the ledger decides; names given and folders synced;
//! the manifest, which is the commit; the ledger notes it.
//!
//! Recovery asks the manifest first: if it is there the segment is published, whatever the ledger says; if it was decided
//! and is not there, the same files get the same names again. Nothing is deleted on an unknown outcome.

use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::clock;
use crate::ledger::{Ledger, LedgerError};
use crate::page::SegmentId;
use crate::segment::{Sealed, StagedFile};
use crate::store::{Store, StoreError};

/// Folder of the manifests in an output.
pub const MANIFESTS: &str = "_pagehaul/segments";
/// The format of a manifest.
const FORMAT: u32 = 1;

/// A segment could not be published.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The ledger failed.
    #[error("publish segment {segment}")]
    Ledger {
        /// The segment.
        segment: SegmentId,
        /// Why.
        #[source]
        source: LedgerError,
    },
    /// The store failed.
    #[error("publish segment {segment}")]
    Store {
        /// The segment.
        segment: SegmentId,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// There is a manifest of this segment that this export did not write.
    #[error("segment {segment} has a manifest already, of another hand")]
    Taken {
        /// The segment.
        segment: SegmentId,
    },
    /// A manifest could not be read or made.
    #[error("the manifest of segment {segment} is not readable")]
    Manifest {
        /// The segment.
        segment: SegmentId,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// What a segment published. Its presence is what makes the files part of the output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Format of this document.
    pub format: u32,
    /// The export.
    pub export: String,
    /// The segment.
    pub segment: i64,
    /// The attempt whose files these are.
    pub attempt: i64,
    /// When it was decided, RFC 3339.
    pub decided_at: String,
    /// The endpoint and the fingerprint of its columns.
    pub endpoint: String,
    /// Columns of the files in order: name and Arrow type.
    pub columns: Vec<(String, String)>,
    /// The journal file that holds the answers.
    pub journal: String,
    /// Files of rows.
    pub files: Vec<FileEntry>,
    /// The file of rows that could not be typed.
    pub rejects: Option<FileEntry>,
}

/// A published file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Its name, relative to the output.
    #[serde(deserialize_with = "inside")]
    pub path: String,
    /// Where it was staged, relative to the staging folder: what recovery looks for.
    #[serde(deserialize_with = "inside")]
    pub staged: String,
    /// Rows.
    pub rows: u64,
    /// Length.
    pub bytes: u64,
    /// SHA-256, hexadecimal.
    pub sha256: String,
}

/// A file name that does not lead out of its folder: manifests and ledgers may have been written by others.
fn inside<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    let mut components = Path::new(&name).components();
    let leads_out = name.is_empty() || components.any(|part| !matches!(part, Component::Normal(_)));
    if leads_out { Err(D::Error::custom("a file name leads out of the output")) } else { Ok(name) }
}

/// What all manifests of an export have in common.
#[derive(Clone, Debug)]
pub struct Imprint {
    /// The export's id.
    pub export: String,
    /// The endpoint and the fingerprint of its columns.
    pub endpoint: String,
    /// Columns of the files in order: name and Arrow type.
    pub columns: Vec<(String, String)>,
}

/// Publishes sealed segments.
#[derive(Clone, Debug)]
pub struct Committer {
    ledger: Arc<Mutex<Ledger>>,
    store: Store,
    staging: PathBuf,
    imprint: Imprint,
}

impl Committer {
    /// A committer that moves files from `staging` to the store.
    pub fn new(ledger: Arc<Mutex<Ledger>>, store: Store, staging: PathBuf, imprint: Imprint) -> Self {
        Self { ledger, store, staging, imprint }
    }

    /// Publishes a sealed segment.
    pub fn publish(&self, sealed: &Sealed) -> Result<Manifest, CommitError> {
        let segment = sealed.segment;
        let entry = |file: &StagedFile| FileEntry {
            path: file.name.clone(),
            staged: file.staged.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            rows: file.rows,
            bytes: file.bytes,
            sha256: file.sha256.clone(),
        };
        let manifest = Manifest {
            format: FORMAT,
            export: self.imprint.export.clone(),
            segment: segment.0,
            attempt: sealed.attempt,
            decided_at: clock::wall().to_string(),
            endpoint: self.imprint.endpoint.clone(),
            columns: self.imprint.columns.clone(),
            journal: crate::journal::file_name(segment),
            files: sealed.files.iter().map(entry).collect(),
            rejects: sealed.rejects.as_ref().map(entry),
        };
        let text =
            serde_json::to_string_pretty(&manifest).map_err(|source| CommitError::Manifest { segment, source })?;
        self.in_ledger(segment, |ledger| ledger.decide(segment, &text))?;
        self.carry_out(segment, &manifest, &text)?;
        Ok(manifest)
    }

    /// Finishes what an earlier run decided. Gives how many segments that were.
    pub async fn recover(&self) -> Result<usize, CommitError> {
        let nothing = SegmentId(0);
        let decided = self.in_ledger(nothing, Ledger::decided)?;
        for (segment, text) in &decided {
            let (segment, name) = (*segment, manifest_name(*segment));
            let found = self.store.get(&name).await.map_err(|source| CommitError::Store { segment, source })?;
            if found.is_some() {
                self.in_ledger(segment, |ledger| ledger.published(segment))?;
                continue;
            }
            let manifest = serde_json::from_str(text).map_err(|source| CommitError::Manifest { segment, source })?;
            self.carry_out(segment, &manifest, text)?;
        }
        Ok(decided.len())
    }

    /// Everything after the decision; the same again after a crash.
    fn carry_out(&self, segment: SegmentId, manifest: &Manifest, text: &str) -> Result<(), CommitError> {
        let moves: Vec<(PathBuf, String)> = manifest
            .files
            .iter()
            .chain(&manifest.rejects)
            .map(|file| (self.staging.join(&file.staged), file.path.clone()))
            .collect();
        let stored =
            self.store.publish(&moves).and_then(|()| self.store.put_new(&manifest_name(segment), text.as_bytes()));
        if !stored.map_err(|source| CommitError::Store { segment, source })? {
            return Err(CommitError::Taken { segment });
        }
        self.in_ledger(segment, |ledger| ledger.published(segment))
    }

    fn in_ledger<T>(
        &self,
        segment: SegmentId,
        work: impl FnOnce(&Ledger) -> Result<T, LedgerError>,
    ) -> Result<T, CommitError> {
        let ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        work(&ledger).map_err(|source| CommitError::Ledger { segment, source })
    }
}

/// All manifests of an output, in order.
pub async fn manifests(store: &Store) -> Result<Vec<Manifest>, CommitError> {
    let nothing = SegmentId(0);
    let failed = |source| CommitError::Store { segment: nothing, source };
    let mut manifests = Vec::new();
    for name in store.list(MANIFESTS).await.map_err(failed)? {
        if name.rsplit_once('.').is_none_or(|(_, kind)| kind != "json") {
            continue;
        }
        let content = store.get(&name).await.map_err(failed)?.unwrap_or_default();
        let manifest = serde_json::from_slice(&content);
        manifests.push(manifest.map_err(|source| CommitError::Manifest { segment: nothing, source })?);
    }
    Ok(manifests)
}

/// Name of a segment's manifest in the output.
pub fn manifest_name(segment: SegmentId) -> String {
    format!("{MANIFESTS}/{:06}.json", segment.0)
}

#[cfg(test)]
mod tests {
    use super::{Committer, Imprint, manifest_name};
    use crate::disk::Disk;
    use crate::ledger::Ledger;
    use crate::page::SegmentId;
    use crate::segment::{Sealed, StagedFile};
    use crate::store::Store;
    use std::io::Write;
    use std::path::Path;
    use std::sync::{Arc, Mutex};

    fn committer(root: &Path) -> (Committer, Arc<Mutex<Ledger>>) {
        let staging = root.join("_pagehaul/staging");
        Disk.make_folder(&staging).unwrap();
        let ledger = Ledger::open(&root.join("ledger.sqlite")).unwrap();
        ledger.begin_segment().unwrap();
        let ledger = Arc::new(Mutex::new(ledger));
        let imprint = Imprint { export: "x".to_owned(), endpoint: "e".to_owned(), columns: Vec::new() };
        (Committer::new(Arc::clone(&ledger), Store::open(root, Disk).unwrap(), staging, imprint), ledger)
    }

    fn sealed(root: &Path) -> Sealed {
        let files = ["ID", "TH"].map(|region| {
            let staged = root.join(format!("_pagehaul/staging/x-{region}.parquet"));
            let mut file = Disk.create(&staged).unwrap();
            file.write_all(region.as_bytes()).unwrap();
            let written = file.finish().unwrap();
            StagedFile {
                staged,
                name: format!("region={region}/x.parquet"),
                rows: 1,
                bytes: written.bytes,
                sha256: written.sha256,
            }
        });
        Sealed { segment: SegmentId(1), attempt: 1, files: files.into(), rejects: None }
    }

    #[tokio::test]
    async fn a_published_segment_has_its_files_its_manifest_and_nothing_staged() {
        let root = tempfile::tempdir().unwrap();
        let (committer, ledger) = committer(root.path());
        let manifest = committer.publish(&sealed(root.path())).unwrap();
        assert_eq!(super::manifests(&committer.store).await.unwrap(), [manifest]);
        assert_eq!(std::fs::read(root.path().join("region=TH/x.parquet")).unwrap(), b"TH");
        assert_eq!(std::fs::read_dir(root.path().join("_pagehaul/staging")).unwrap().count(), 0);
        assert!(ledger.lock().unwrap().decided().unwrap().is_empty());
    }

    #[test]
    fn a_manifest_that_names_a_file_outside_of_the_output_is_not_read() {
        let entry = |path: &str, staged: &str| {
            let text =
                serde_json::json!({"path": path, "staged": staged, "rows": 1, "bytes": 1, "sha256": ""}).to_string();
            serde_json::from_str::<super::FileEntry>(&text)
        };
        assert!(entry("region=ID/x.parquet", "x.parquet").is_ok());
        for name in ["../x", "/etc/x", "region=ID/../../x", "", "./x", ".."] {
            assert!(entry(name, "x.parquet").is_err() && entry("x.parquet", name).is_err(), "{name}");
        }
    }

    #[tokio::test]
    async fn a_crash_anywhere_after_the_decision_ends_in_the_same_output() {
        for renamed in 0..=2 {
            for manifest_there in [false, true] {
                let root = tempfile::tempdir().unwrap();
                let (committer, ledger) = committer(root.path());
                let sealed = sealed(root.path());
                let manifest = committer.publish(&sealed).unwrap();
                let name = root.path().join(manifest_name(SegmentId(1)));
                let text = std::fs::read_to_string(&name).unwrap();
                // Back to the moment between two of the steps.
                ledger.lock().unwrap().unpublish_for_test(SegmentId(1), &text);
                if manifest_there && renamed < 2 {
                    continue; // the manifest comes last
                }
                if !manifest_there {
                    Disk.rename(&name, &root.path().join("gone")).unwrap();
                }
                for file in sealed.files.iter().skip(renamed) {
                    Disk.rename(&root.path().join(&file.name), &file.staged).unwrap();
                }
                assert_eq!(committer.recover().await.unwrap(), 1);
                assert_eq!(super::manifests(&committer.store).await.unwrap(), [manifest]);
                assert_eq!(std::fs::read(root.path().join("region=ID/x.parquet")).unwrap(), b"ID");
                assert_eq!(committer.recover().await.unwrap(), 0);
            }
        }
    }
}
