//! Publishing, in its one order: staged files whole and durable; the ledger decides; names given and directories synced;
//! the manifest, which is the commit; the ledger notes it.
//!
//! Recovery asks the manifest first: if the decided one is there the segment is published, whatever the ledger says; if it
//! is not there, or still the one of an earlier attempt, the same files get the same names again. Nothing is deleted on an
//! unknown outcome. Where the files are gone, nothing was visible yet: the segment stays decided, and is built again.
//!
//! A segment may be published again, from a new attempt: the new manifest takes the place of the old one in one rename, and
//! only when the ledger has noted it are the files of the earlier attempt removed. Readers of the manifests see each key
//! once at any moment.
//!
//! Where the output is a Delta table ([`DeltaTable`]), a segment is committed to it after its manifest and before the files of
//! earlier attempts go. Those that were in the table stay for as long as the table keeps removed files. A run that another one
//! overtakes between its manifest and its commit does no harm: the commit's transaction is in the table once, whoever makes it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::model::clock::{self, Utc64};
use crate::model::page::SegmentId;
use crate::output::bucket::LeftoverLog;
use crate::output::delta::DeltaTable;
use crate::output::error::OutputError;
use crate::output::manifest::{self, FORMAT, Manifest, ManifestSchema};
use crate::output::names::{REJECTS, manifest_name, of_file};
use crate::output::owner::Claim;
use crate::output::segment::StagedSegment;
use crate::output::store::Store;
use crate::output::stored::{Put, Stored};
use crate::state::ledger::{Ledger, LedgerError, SegmentState};

#[derive(Clone, Debug)]
pub(crate) struct Publisher {
    pub(super) ledger: Arc<Mutex<Ledger>>,
    pub(super) store: Store,
    /// None where nobody else can work on the output.
    pub(super) claim: Option<Claim>,
    pub(super) schema: ManifestSchema,
    /// The table that the output is, if it is one.
    pub(super) table: Option<DeltaTable>,
}

impl Publisher {
    pub(crate) async fn publish(&self, staged: &StagedSegment) -> Result<Manifest, OutputError> {
        let segment = staged.segment;
        let manifest = Manifest { replaces: self.replaced(staged).await?, ..self.manifest(staged) };
        if let Some(table) = self.table.as_ref().filter(|_| !manifest.replaces.is_empty()) {
            table.check(manifest.clone()).await?;
        }
        let text =
            serde_json::to_string_pretty(&manifest).map_err(|source| OutputError::Manifest { segment, source })?;
        self.ledger().decide_segment(segment, &text)?;
        self.carry_out(segment, &manifest, text).await?;
        Ok(manifest)
    }

    fn manifest(&self, staged: &StagedSegment) -> Manifest {
        let ManifestSchema { export, endpoint, columns, key, partition } = self.schema.clone();
        Manifest {
            format: FORMAT,
            export,
            segment: staged.segment.0,
            attempt: staged.attempt,
            decided_at: clock::wall().to_string(),
            endpoint,
            columns,
            key,
            partition,
            journal: crate::state::journal::file_name(staged.segment),
            files: staged.files.clone(),
            rejects: staged.rejects.clone(),
            replaces: Vec::new(),
        }
    }

    /// The files of rows that readers of a table have of this segment until now.
    async fn replaced(&self, staged: &StagedSegment) -> Result<Vec<String>, OutputError> {
        if self.table.is_none() || staged.attempt == 1 {
            return Ok(Vec::new());
        }
        let Some(text) = self.store.get(&manifest_name(staged.segment)).await? else { return Ok(Vec::new()) };
        let published = Manifest::of_segment(staged.segment, &text)?;
        Ok(published.files.into_iter().map(|file| file.path).collect())
    }

    /// Finishes what an earlier run decided, then what is published and not yet in the table. A segment whose files cannot get
    /// their names any more stays decided: it must be built again.
    pub(crate) async fn recover(&self) -> Result<(), OutputError> {
        if let Some(table) = &self.table {
            table.open().await?;
        }
        let decided = self.ledger().decided_segments()?;
        for (segment, text) in decided {
            let found = self.store.get(&manifest_name(segment)).await?;
            if found.is_some_and(|found| found == text.as_bytes()) {
                self.ledger().mark_published(segment)?;
                continue;
            }
            let manifest = Manifest::of_segment(segment, text.as_bytes())?;
            match self.carry_out(segment, &manifest, text).await {
                Err(error) if error.needs_rebuild() => {}
                carried_out => carried_out?,
            }
        }
        self.catch_up().await
    }

    /// Commits the published segments that the table lacks.
    pub(crate) async fn catch_up(&self) -> Result<(), OutputError> {
        let Some(table) = &self.table else { return Ok(()) };
        let published = manifest::published(&self.ledger())?;
        for manifest in table.missing(published).await? {
            self.check_claim().await?;
            table.commit(manifest).await?;
        }
        Ok(())
    }

    /// Everything after the decision. Repeated after a crash.
    async fn carry_out(&self, segment: SegmentId, manifest: &Manifest, text: String) -> Result<(), OutputError> {
        let log: Arc<dyn LeftoverLog> = Arc::<Mutex<Ledger>>::clone(&self.ledger);
        self.check_claim().await?;
        self.store.publish(manifest.all_files().cloned().collect(), &log).await?;
        self.check_claim().await?;
        let (export, attempt) = (manifest.export.clone(), manifest.attempt);
        let is_earlier = move |found: &[u8]| {
            Manifest::parse(found)
                .is_ok_and(|found| found.export == export && found.segment == segment.0 && found.attempt < attempt)
        };
        let put = self.store.put_over(manifest_name(segment), text.into_bytes(), is_earlier).await?;
        if put == Put::Refused {
            return Err(OutputError::SegmentTaken { segment });
        }
        self.ledger().mark_published(segment)?;
        if let Some(table) = &self.table {
            table.commit(manifest.clone()).await?;
        }
        if put == Put::Replaced { self.remove_superseded().await } else { Ok(()) }
    }

    /// Removes the files of earlier attempts at segments that are published now. Other files are left alone, and those that
    /// readers of a table's older versions may still read.
    pub(crate) async fn remove_superseded(&self) -> Result<(), OutputError> {
        let published = manifest::published(&self.ledger())?;
        let now: BTreeMap<i64, Manifest> = published.into_iter().map(|now| (now.segment, now)).collect();
        let newer = |name: &str| {
            let (segment, attempt) = of_file(&self.schema.export, name.split_once('/')?.1)?;
            now.get(&segment.0).filter(|now| now.attempt > attempt)
        };
        // A listing may lack some of them. What was uploaded is known.
        let mut names: BTreeSet<String> = self.store.data_files().await?.into_keys().collect();
        names.extend(self.ledger().uploaded_objects()?);
        names.retain(|name| newer(name).is_some());
        if let Some(table) = self.table.as_ref().filter(|_| !names.is_empty()) {
            let kept = table.retention().await?;
            let is_old = |now: &Manifest| is_older(&now.decided_at, kept);
            names.retain(|name| name.starts_with(REJECTS) || newer(name).is_some_and(is_old));
        }
        self.store.remove(names.iter().cloned().collect()).await?;
        Ok(self.ledger().forget_objects(&names)?)
    }

    /// Fails where another run has taken the output meanwhile.
    pub(crate) async fn check_claim(&self) -> Result<(), OutputError> {
        match &self.claim {
            Some(claim) => claim.check(&self.store).await,
            None => Ok(()),
        }
    }

    /// The name of the first manifest that is not as it was decided, or file that is not there with its length; none if the
    /// output may be marked as complete.
    pub(crate) async fn find_modified(&self) -> Result<Option<String>, OutputError> {
        let segments = self.ledger().segments()?;
        let listed = self.store.data_files().await?;
        for row in segments.into_iter().filter(|row| row.state == SegmentState::Published) {
            let (name, text) = (manifest_name(row.id), row.manifest.unwrap_or_default());
            if self.store.get(&name).await?.is_none_or(|found| found != text.as_bytes()) {
                return Ok(Some(name));
            }
            for file in Manifest::of_segment(row.id, text.as_bytes())?.all_files() {
                let is_fine = |found: Option<&Stored>| file.visible_fault(found).is_none();
                if !is_fine(listed.get(&file.path)) && !is_fine(self.store.find(&file.path).await?.as_ref()) {
                    return Ok(Some(file.path.clone()));
                }
            }
        }
        Ok(None)
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a moment was longer ago than this. The clock of another machine may have written it: what cannot be read is recent.
fn is_older(moment: &str, than: Duration) -> bool {
    Utc64::from_rfc_3339(moment).is_some_and(|moment| moment < clock::wall().minus(than))
}

impl LeftoverLog for Mutex<Ledger> {
    fn may_be_left(&self, name: &str, upload: Option<&str>) -> Result<(), LedgerError> {
        self.lock().unwrap_or_else(PoisonError::into_inner).add_leftover(name, upload)
    }

    fn is_gone(&self, name: &str, upload: Option<&str>) -> Result<(), LedgerError> {
        self.lock().unwrap_or_else(PoisonError::into_inner).forget_leftover(name, upload)
    }

    fn uploaded(&self, name: &str, etag: Option<&str>) -> Result<(), LedgerError> {
        self.lock().unwrap_or_else(PoisonError::into_inner).note_object(name, etag)
    }
}

#[cfg(test)]
mod tests {
    use super::Publisher;
    use crate::model::page::SegmentId;
    use crate::output::file_entry::FileEntry;
    use crate::output::manifest::{Manifest, ManifestSchema, manifests};
    use crate::output::names::{STAGING, manifest_name};
    use crate::output::segment::StagedSegment;
    use crate::output::store::Store;
    use crate::state::disk::{Access, Disk, Written};
    use crate::state::ledger::Ledger;
    use std::io::Write;
    use std::path::Path;
    use std::sync::{Arc, Mutex};

    fn publisher(root: &Path) -> (Publisher, Arc<Mutex<Ledger>>) {
        let staging = root.join("_pagehaul/staging");
        Disk.make_directory(&staging, Access::Private).unwrap();
        let ledger = Ledger::open(&root.join("ledger.sqlite")).unwrap();
        ledger.start_segment().unwrap();
        let ledger = Arc::new(Mutex::new(ledger));
        let schema = ManifestSchema {
            export: "x".to_owned(),
            endpoint: "e".to_owned(),
            columns: Vec::new(),
            key: Vec::new(),
            partition: "region".to_owned(),
        };
        (Publisher { ledger: Arc::clone(&ledger), store: Store::new(root), claim: None, schema, table: None }, ledger)
    }

    fn staged(root: &Path) -> StagedSegment {
        let files = ["ID", "TH"].map(|region| {
            let staged = format!("x-{region}.parquet");
            let mut file = Disk.create(&root.join(STAGING).join(&staged), Access::Shared).unwrap();
            file.write_all(region.as_bytes()).unwrap();
            let Written { bytes, sha256 } = file.finish().unwrap();
            FileEntry { path: format!("region={region}/x.parquet"), staged, rows: 1, bytes, sha256 }
        });
        StagedSegment { segment: SegmentId(1), attempt: 1, files: files.into(), rejects: None }
    }

    #[tokio::test]
    async fn a_published_segment_has_its_files_its_manifest_and_nothing_staged() {
        let root = tempfile::tempdir().unwrap();
        let (publisher, ledger) = publisher(root.path());
        let manifest = publisher.publish(&staged(root.path())).await.unwrap();
        assert_eq!(manifests(&publisher.store).await.unwrap(), [manifest]);
        assert_eq!(std::fs::read(root.path().join("region=TH/x.parquet")).unwrap(), b"TH");
        assert_eq!(std::fs::read_dir(root.path().join("_pagehaul/staging")).unwrap().count(), 0);
        assert!(ledger.lock().unwrap().decided_segments().unwrap().is_empty());
    }

    /// What readers of the output parse, and what an earlier version's output is compared with.
    #[tokio::test]
    async fn a_manifest_is_written_with_these_keys_in_this_order_and_read_back() {
        let root = tempfile::tempdir().unwrap();
        let (mut publisher, _ledger) = publisher(root.path());
        publisher.schema.columns = vec![("a".to_owned(), "Utf8".to_owned())];
        publisher.schema.key = vec!["a".to_owned()];
        let mut segment = staged(root.path());
        segment.rejects = segment.files.pop();
        let manifest = publisher.publish(&segment).await.unwrap();
        let text = std::fs::read_to_string(root.path().join("_pagehaul/segments/000001.json")).unwrap();
        assert_eq!(Manifest::parse(text.as_bytes()).unwrap(), manifest);
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

    #[tokio::test]
    async fn a_crash_anywhere_after_the_decision_ends_in_the_same_output() {
        for renamed in 0..=2 {
            for manifest_there in [false, true] {
                let root = tempfile::tempdir().unwrap();
                let (publisher, ledger) = publisher(root.path());
                let segment = staged(root.path());
                let manifest = publisher.publish(&segment).await.unwrap();
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
                for file in segment.files.iter().skip(renamed) {
                    let staged = root.path().join(STAGING).join(&file.staged);
                    Disk.rename(&root.path().join(&file.path), &staged).unwrap();
                }
                publisher.recover().await.unwrap();
                assert_eq!(manifests(&publisher.store).await.unwrap(), [manifest]);
                assert_eq!(std::fs::read(root.path().join("region=ID/x.parquet")).unwrap(), b"ID");
                publisher.recover().await.unwrap();
                assert!(ledger.lock().unwrap().decided_segments().unwrap().is_empty());
            }
        }
    }

    #[tokio::test]
    async fn a_decided_segment_whose_files_are_gone_stays_decided_and_shows_nothing() {
        let root = tempfile::tempdir().unwrap();
        let (publisher, ledger) = publisher(root.path());
        let segment = staged(root.path());
        publisher.publish(&segment).await.unwrap();
        let name = root.path().join(manifest_name(SegmentId(1)));
        let text = std::fs::read_to_string(&name).unwrap();
        ledger.lock().unwrap().unpublish_for_test(SegmentId(1), &text);
        Disk.remove(&name).unwrap();
        Disk.remove(&root.path().join(&segment.files[1].path)).unwrap();
        publisher.recover().await.unwrap();
        assert!(manifests(&publisher.store).await.unwrap().is_empty());
        assert_eq!(ledger.lock().unwrap().decided_segments().unwrap(), [(SegmentId(1), text)]);
    }
}
