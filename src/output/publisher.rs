//! Publishing, in its one order: staged files whole and durable; the ledger decides; names given and directories synced;
//! the manifest, which is the commit; the ledger notes it.
//!
//! Recovery asks the manifest first: if the decided one is there the segment is published, whatever the ledger says; if it
//! is not there, or still the one of an earlier attempt, the same files get the same names again. Nothing is deleted on an
//! unknown outcome. Where the files are gone, nothing was visible yet: the segment stays decided, and is built again.
//!
//! A segment may be published again, from a new attempt at it: the new manifest takes the place of the old one in one
//! rename, and only when the ledger has noted it are the files of the earlier attempt removed. Readers of the manifests
//! see each key once at any moment.

use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::model::clock;
use crate::model::page::SegmentId;
use crate::output::error::OutputError;
use crate::output::segment::{Sealed, StagedFile, of_name};
use crate::output::store::{Put, Store, StoreError};
use crate::state::ledger::{Ledger, SegmentState};

/// Directory of the manifests in an output.
pub const MANIFESTS: &str = "_pagehaul/segments";
/// The format of a manifest.
const FORMAT: u32 = 1;

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
    /// The columns that make a row's key: the item first.
    #[serde(default)]
    pub key: Vec<String>,
    /// The column whose value is the directory's name, as it stands there; in no file.
    #[serde(default)]
    pub partition: String,
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
    /// Where it was staged, relative to the staging directory: what recovery looks for.
    #[serde(deserialize_with = "inside")]
    pub staged: String,
    /// Rows.
    pub rows: u64,
    /// Length.
    pub bytes: u64,
    /// SHA-256, hexadecimal.
    pub sha256: String,
}

/// A file name that does not lead out of its directory: manifests and ledgers may have been written by others.
fn inside<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    let mut components = Path::new(&name).components();
    let leads_out = name.is_empty() || components.any(|part| !matches!(part, Component::Normal(_)));
    if leads_out { Err(D::Error::custom("a file name leads out of the output")) } else { Ok(name) }
}

impl Manifest {
    /// Reads a manifest.
    pub fn parse(text: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(text)
    }

    /// The files of rows, then the one of rejects.
    pub fn all_files(&self) -> impl Iterator<Item = &FileEntry> {
        self.files.iter().chain(&self.rejects)
    }

    /// Rows in the files of rows.
    pub fn rows(&self) -> u64 {
        self.files.iter().map(|file| file.rows).sum()
    }
}

impl FileEntry {
    /// What is wrong with the file in the output, by its length and its content; none if it is as it was written.
    pub fn fault(&self, store: &Store) -> Result<Option<&'static str>, StoreError> {
        Ok(match store.length(&self.path)? {
            None => Some("is missing"),
            Some(bytes) if bytes != self.bytes => Some("has another length than it was written with"),
            Some(_) if store.sha256(&self.path)? != self.sha256 => Some("has another content than it was written with"),
            Some(_) => None,
        })
    }
}

/// What all manifests of an export have in common.
#[derive(Clone, Debug)]
pub struct ManifestSchema {
    /// The export's id.
    pub export: String,
    /// The endpoint and the fingerprint of its columns.
    pub endpoint: String,
    /// Columns of the files in order: name and Arrow type.
    pub columns: Vec<(String, String)>,
    /// The columns that make a row's key: the item first.
    pub key: Vec<String>,
    /// The partition column, as it stands in directory names.
    pub partition: String,
}

impl ManifestSchema {
    /// Whether a manifest's files are as they would be made now.
    pub fn fits(&self, manifest: &Manifest) -> bool {
        let (endpoint, columns) = (&manifest.endpoint, &manifest.columns);
        self.endpoint == *endpoint && self.columns == *columns
    }
}

/// Publishes sealed segments.
#[derive(Clone, Debug)]
pub struct Publisher {
    ledger: Arc<Mutex<Ledger>>,
    store: Store,
    staging: PathBuf,
    imprint: ManifestSchema,
}

impl Publisher {
    /// A committer that moves files from `staging` to the store.
    pub fn new(ledger: Arc<Mutex<Ledger>>, store: Store, staging: PathBuf, imprint: ManifestSchema) -> Self {
        Self { ledger, store, staging, imprint }
    }

    /// Publishes a sealed segment.
    pub fn publish(&self, sealed: &Sealed) -> Result<Manifest, OutputError> {
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
            key: self.imprint.key.clone(),
            partition: self.imprint.partition.clone(),
            journal: crate::state::journal::file_name(segment),
            files: sealed.files.iter().map(entry).collect(),
            rejects: sealed.rejects.as_ref().map(entry),
        };
        let text =
            serde_json::to_string_pretty(&manifest).map_err(|source| OutputError::Manifest { segment, source })?;
        self.ledger().decide_segment(segment, &text)?;
        self.carry_out(segment, &manifest, &text)?;
        Ok(manifest)
    }

    /// Finishes what an earlier run decided. A segment whose files cannot get their names any more stays decided: it must be
    /// built again.
    pub async fn recover(&self) -> Result<(), OutputError> {
        let decided = self.ledger().decided_segments()?;
        for (segment, text) in decided {
            let name = manifest_name(segment);
            let found = self.store.get(&name).await?;
            if found.is_some_and(|found| found == text.as_bytes()) {
                self.ledger().mark_published(segment)?;
                continue;
            }
            let manifest = parsed(segment, text.as_bytes())?;
            match self.carry_out(segment, &manifest, &text) {
                Err(OutputError::Store(error)) if error.is_final() => {}
                carried_out => carried_out?,
            }
        }
        Ok(())
    }

    /// Everything after the decision; the same again after a crash.
    fn carry_out(&self, segment: SegmentId, manifest: &Manifest, text: &str) -> Result<(), OutputError> {
        let moves: Vec<(PathBuf, String)> =
            manifest.all_files().map(|file| (self.staging.join(&file.staged), file.path.clone())).collect();
        self.store.publish(&moves)?;
        let is_earlier = |found: &[u8]| {
            Manifest::parse(found).is_ok_and(|found| {
                found.export == manifest.export && found.segment == segment.0 && found.attempt < manifest.attempt
            })
        };
        let put = self.store.put_over(&manifest_name(segment), text.as_bytes(), is_earlier)?;
        if put == Put::Refused {
            return Err(OutputError::Taken { segment });
        }
        self.ledger().mark_published(segment)?;
        if put == Put::Replaced { self.remove_superseded() } else { Ok(()) }
    }

    /// Removes the files of earlier attempts at segments that are published now. Files of anybody else are left alone.
    pub fn remove_superseded(&self) -> Result<(), OutputError> {
        let published = self.published()?;
        let is_superseded = |name: &String| {
            let of = name.split_once('/').and_then(|(_, file)| of_name(&self.imprint.export, file));
            of.is_some_and(|(segment, attempt)| {
                published.iter().any(|now| now.segment == segment.0 && now.attempt > attempt)
            })
        };
        let mut superseded = self.store.data_files()?;
        superseded.retain(is_superseded);
        Ok(self.store.remove_all(&superseded)?)
    }

    /// The first published manifest that is not there as it was decided, or file that is not there with its length, if there
    /// is one: what a mark of success would deny.
    pub async fn lacking(&self) -> Result<Option<String>, OutputError> {
        let segments = self.ledger().segments()?;
        for row in segments.into_iter().filter(|row| row.state == SegmentState::Published) {
            let (segment, name, text) = (row.id, manifest_name(row.id), row.manifest.unwrap_or_default());
            if self.store.get(&name).await?.is_none_or(|found| found != text.as_bytes()) {
                return Ok(Some(name));
            }
            let manifest = parsed(segment, text.as_bytes())?;
            for file in manifest.all_files() {
                if self.store.length(&file.path)? != Some(file.bytes) {
                    return Ok(Some(file.path.clone()));
                }
            }
        }
        Ok(None)
    }

    fn published(&self) -> Result<Vec<Manifest>, OutputError> {
        published(&self.ledger())
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The manifests of all published segments in order, as the ledger decided them.
pub fn published(ledger: &Ledger) -> Result<Vec<Manifest>, OutputError> {
    let published = ledger.segments()?.into_iter().filter(|segment| segment.state == SegmentState::Published);
    published.map(|row| parsed(row.id, row.manifest.unwrap_or_default().as_bytes())).collect()
}

fn parsed(segment: SegmentId, text: &[u8]) -> Result<Manifest, OutputError> {
    Manifest::parse(text).map_err(|source| OutputError::Manifest { segment, source })
}

/// All manifests of an output, in order.
pub async fn manifests(store: &Store) -> Result<Vec<Manifest>, OutputError> {
    let mut manifests = Vec::new();
    for name in store.list(MANIFESTS).await? {
        let Some(segment) = segment_of(&name) else { continue };
        manifests.push(parsed(segment, &store.get(&name).await?.unwrap_or_default())?);
    }
    Ok(manifests)
}

/// The segment whose manifest has this name.
pub fn segment_of(name: &str) -> Option<SegmentId> {
    let number = name.rsplit_once('/').map_or(name, |(_, file)| file).strip_suffix(".json")?;
    number.parse().ok().map(SegmentId).filter(|segment| manifest_name(*segment).ends_with(name))
}

/// Name of a segment's manifest in the output.
pub fn manifest_name(segment: SegmentId) -> String {
    format!("{MANIFESTS}/{:06}.json", segment.0)
}

#[cfg(test)]
mod tests {
    use super::{ManifestSchema, Publisher, manifest_name};
    use crate::model::page::SegmentId;
    use crate::output::segment::{Sealed, StagedFile};
    use crate::output::store::Store;
    use crate::state::disk::{Access, Disk};
    use crate::state::ledger::Ledger;
    use std::io::Write;
    use std::path::Path;
    use std::sync::{Arc, Mutex};

    fn committer(root: &Path) -> (Publisher, Arc<Mutex<Ledger>>) {
        let staging = root.join("_pagehaul/staging");
        Disk.make_directory(&staging, Access::Private).unwrap();
        let ledger = Ledger::open(&root.join("ledger.sqlite")).unwrap();
        ledger.start_segment().unwrap();
        let ledger = Arc::new(Mutex::new(ledger));
        let imprint = ManifestSchema {
            export: "x".to_owned(),
            endpoint: "e".to_owned(),
            columns: Vec::new(),
            key: Vec::new(),
            partition: "region".to_owned(),
        };
        (Publisher::new(Arc::clone(&ledger), Store::open(root, Disk).unwrap(), staging, imprint), ledger)
    }

    fn sealed(root: &Path) -> Sealed {
        let files = ["ID", "TH"].map(|region| {
            let staged = root.join(format!("_pagehaul/staging/x-{region}.parquet"));
            let mut file = Disk.create(&staged, Access::Shared).unwrap();
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
        assert!(ledger.lock().unwrap().decided_segments().unwrap().is_empty());
    }

    /// What readers of the output parse, and what an earlier version's output is compared with.
    #[test]
    fn a_manifest_is_written_with_these_keys_in_this_order_and_read_back() {
        let root = tempfile::tempdir().unwrap();
        let (mut committer, _ledger) = committer(root.path());
        committer.imprint.columns = vec![("a".to_owned(), "Utf8".to_owned())];
        committer.imprint.key = vec!["a".to_owned()];
        let mut sealed = sealed(root.path());
        sealed.rejects = sealed.files.pop();
        let manifest = committer.publish(&sealed).unwrap();
        let text = std::fs::read_to_string(root.path().join("_pagehaul/segments/000001.json")).unwrap();
        assert_eq!(super::Manifest::parse(text.as_bytes()).unwrap(), manifest);
        let expected = r#"{
  "format": 1,
  "export": "x",
  "segment": 1,
  "attempt": 1,
  "decided_at": "NOW",
  "endpoint": "e",
  "columns": [
    [
      "a",
      "Utf8"
    ]
  ],
  "key": [
    "a"
  ],
  "partition": "region",
  "journal": "000001.zst",
  "files": [
    {
      "path": "region=ID/x.parquet",
      "staged": "x-ID.parquet",
      "rows": 1,
      "bytes": 2,
      "sha256": "3843971dcfdee5083e6289e1bbdbb003e538b5a8a668fc43ae4f19d415ac18a2"
    }
  ],
  "rejects": {
    "path": "region=TH/x.parquet",
    "staged": "x-TH.parquet",
    "rows": 1,
    "bytes": 2,
    "sha256": "3d8bd58431d1061507921b3228b6f71f3fcd35d0d7913f87d8d7d648d048112c"
  }
}"#;
        assert_eq!(text.replace(&manifest.decided_at, "NOW"), expected);
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
                committer.recover().await.unwrap();
                assert_eq!(super::manifests(&committer.store).await.unwrap(), [manifest]);
                assert_eq!(std::fs::read(root.path().join("region=ID/x.parquet")).unwrap(), b"ID");
                committer.recover().await.unwrap();
                assert!(ledger.lock().unwrap().decided_segments().unwrap().is_empty());
            }
        }
    }

    #[tokio::test]
    async fn a_decided_segment_whose_files_are_gone_stays_decided_and_shows_nothing() {
        let root = tempfile::tempdir().unwrap();
        let (committer, ledger) = committer(root.path());
        let sealed = sealed(root.path());
        committer.publish(&sealed).unwrap();
        let name = root.path().join(manifest_name(SegmentId(1)));
        let text = std::fs::read_to_string(&name).unwrap();
        ledger.lock().unwrap().unpublish_for_test(SegmentId(1), &text);
        Disk.remove(&name).unwrap();
        Disk.remove(&root.path().join(&sealed.files[1].name)).unwrap();
        committer.recover().await.unwrap();
        assert!(super::manifests(&committer.store).await.unwrap().is_empty());
        assert_eq!(ledger.lock().unwrap().decided_segments().unwrap(), [(SegmentId(1), text)]);
    }
}
