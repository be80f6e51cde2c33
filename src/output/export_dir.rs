//! The directory of one export, opened: locked, compared with its settings, and writable.
//!
//! One directory is one export. Whatever may be wrong with its directories is found here, before the first paid request.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::decode::Decoder;
use crate::endpoint::hex;
use crate::model::clock;
use crate::model::event::EventSink;
use crate::model::page::SegmentId;
use crate::model::sanitize::{Sanitized, sanitize};
use crate::output::delta::{DeltaTable, TableColumns};
use crate::output::differences::{self, Identity};
use crate::output::error::OutputError;
use crate::output::manifest::{ManifestSchema, manifests};
use crate::output::names::{MANIFESTS, OWNER, SUCCESS, of_file, segment_of};
use crate::output::owner::{self, Claim};
use crate::output::parquet_file::ParquetOptions;
use crate::output::publisher::Publisher;
use crate::output::segment::SegmentConfig;
use crate::output::store::Store;
use crate::output::table_root::TableRoot;
use crate::settings::{OutputLocation, Settings, SnapshotLabel, TableFormat};
use crate::state::disk::{Access, Disk, DiskError, Doing};
use crate::state::free_space::MinFreeSpace;
use crate::state::ledger::{ExportRow, Ledger, Removal};
use crate::state::lock::{Lock, lock_alone};

pub(crate) const LOCK: &str = "lock";
pub(crate) const LEDGER: &str = "ledger.sqlite";
pub(crate) const HAS_SNAPSHOTS: &str = "holds snapshots: name one with --snapshot LABEL";
pub(crate) const JOURNAL: &str = "journal";
/// How long after the first try a taken lock is tried once more. `status` and `verify` take it only for a moment.
const SECOND_TRY: Duration = Duration::from_millis(100);

/// An export's directory, locked by this process.
#[derive(Debug)]
pub(crate) struct ExportDir {
    pub export: ExportRow,
    pub ledger: Arc<Mutex<Ledger>>,
    pub store: Store,
    table: TableRoot,
    claim: Claim,
    /// Directory of the journal files.
    pub journal: PathBuf,
    pub min_free_space: MinFreeSpace,
    _locks: Vec<Lock>,
}

impl ExportDir {
    /// Opens the directory of an export, or starts one. An existing one must have these settings.
    pub(crate) async fn open(settings: &Settings) -> Result<Self, OutputError> {
        Self::open_with(settings, differences::of_export, refuse_removed).await
    }

    /// The same for a replay, which may change the columns.
    pub(crate) async fn open_to_replay(settings: &Settings) -> Result<Self, OutputError> {
        Self::open_with(settings, differences::of_replay, |_, _| Ok(())).await
    }

    async fn open_with(
        settings: &Settings,
        differences: Differences,
        check_removal: fn(&ExportRow, &OutputLocation) -> Result<(), OutputError>,
    ) -> Result<Self, OutputError> {
        let (out, state) = (&settings.out, &settings.state_dir);
        if settings.snapshot.is_some() && out.directory().is_some() {
            refuse_export_as_dataset(settings).await?; // before a directory is made in it
        }
        let store = Store::open(out, &settings.store, state)?;
        store.create().await.map_err(unwritable)?;
        let journal = create_state(state).map_err(OutputError::Unwritable)?;
        let mut locks = Vec::new();
        for directory in lock_directories(out, state) {
            locks.push(lock(&directory).await?);
        }
        store.check_writable().await.map_err(unwritable)?;
        Disk.check_writable(state).map_err(OutputError::Unwritable)?;

        let first = Store::open_first(out, &settings.store, state).await?;
        let found = Found::read(&first, &journal).await.map_err(OutputError::at_the_start)?;
        let table = TableRoot::open(out, &settings.store, state)?;
        if settings.table == TableFormat::None && table.is_there().await.map_err(OutputError::at_the_start)? {
            return Err(left_without_table(out));
        }
        let ledger = Arc::new(Mutex::new(open_ledger(settings, &first, &found).await?));
        guard(&ledger).export()?.map_or(Ok(()), |export| check_removal(&export, out))?;
        first.probe(&nonce(), &*ledger).await?;
        let export = Self::own(settings, &first, &found, &ledger, differences).await?;
        let claim = Claim::take(&store, &ledger, &export.id, nonce()).await?;
        guard(&ledger).allow_checkpoint()?;
        let mut directories = vec![state.clone()];
        directories.extend(out.directory().map(Path::to_owned));
        let min_free_space = MinFreeSpace { directories, bytes: settings.min_free_space };
        Ok(Self { export, ledger, store, table, claim, journal, min_free_space, _locks: locks })
    }

    /// The export of the ledger, which is the one that the output belongs to from here on.
    async fn own(
        settings: &Settings,
        store: &Store,
        found: &Found,
        ledger: &Mutex<Ledger>,
        differences: Differences,
    ) -> Result<ExportRow, OutputError> {
        let known = guard(ledger).export()?;
        let export = match known {
            Some(export) => {
                found.check((&settings.out, &settings.state_dir), &guard(ledger), &export)?;
                if guard(ledger).last_attempt()?.0 > 0 {
                    check_settings(&export, &differences(&export.identity, &settings.identity()))?;
                }
                export
            }
            None if found.is_export() => return Err(ledger_elsewhere(settings)),
            None => {
                refuse_foreign_output(store, &settings.out).await?;
                if settings.snapshot.is_some() && store.is_in_bucket() {
                    refuse_export_as_dataset(settings).await?; // a directory was looked at first of all
                }
                start(&guard(ledger), settings)?
            }
        };
        guard(ledger).set_out(&owner::name_of(&settings.out))?;
        Ok(export)
    }

    /// The ledger, locked. Never keep the guard across an `await`.
    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        guard(&self.ledger)
    }

    pub(crate) fn segment_config(&self, settings: &Settings, decoder: &Decoder) -> SegmentConfig {
        SegmentConfig {
            staging: self.store.staging(),
            export: self.export.id.clone(),
            schema: Arc::clone(&decoder.schema),
            partition: settings.endpoint.partition().name.clone(),
            parquet: ParquetOptions::from_settings(settings),
        }
    }

    pub(crate) fn publisher(&self, settings: &Settings, decoder: &Decoder, events: &Arc<dyn EventSink>) -> Publisher {
        let (ledger, store) = (Arc::clone(&self.ledger), self.store.clone());
        let columns = TableColumns {
            files: Arc::clone(&decoder.schema),
            partition: self.table.partition(&settings.endpoint.partition().name),
            may_change: settings.evolve,
        };
        let table = match settings.table {
            TableFormat::None => None,
            TableFormat::Delta => DeltaTable::new(self.table.clone(), columns, Arc::clone(events)),
        };
        let schema = self.manifest_schema(settings, decoder);
        Publisher { ledger, store, claim: Some(self.claim.clone()), schema, table }
    }

    pub(crate) fn manifest_schema(&self, settings: &Settings, decoder: &Decoder) -> ManifestSchema {
        let fields = decoder.schema.fields().iter();
        ManifestSchema {
            export: self.export.id.clone(),
            endpoint: format!("{} {}", settings.endpoint.name, settings.endpoint.fingerprint()),
            columns: fields.map(|field| (field.name().clone(), field.data_type().to_string())).collect(),
            key: settings.endpoint.row_key().map(|column| column.name.clone()).collect(),
            partition: settings.endpoint.partition().name.clone(),
        }
    }

    /// Removes what a crash left in a bucket, and staged files that no decision names: nothing will give them a name, and the
    /// journal has their rows. Other files are left alone.
    ///
    /// Returns what could not be removed; it is tried again by the next run.
    pub(crate) async fn remove_leftovers(&self) -> Result<Vec<OutputError>, OutputError> {
        let (leftovers, mut failed) = (self.ledger().leftovers()?, Vec::new());
        for (name, upload) in leftovers {
            match self.store.remove_leftover(&name, upload.as_deref()).await {
                Ok(()) => self.ledger().forget_leftover(&name, upload.as_deref())?,
                Err(error) => failed.push(error),
            }
        }
        if !self.ledger().decided_segments()?.is_empty() {
            return Ok(failed); // recovery needs the staged ones
        }
        let export = self.export.id.clone();
        self.store.remove_staged(move |name| of_file(&export, name).is_some()).await?;
        Ok(failed)
    }
}

type Differences = fn(&Identity, &Identity) -> Vec<String>;

/// What earlier runs left in an output and its state directory, beside the ledger.
pub(super) struct Found {
    owner_file: Option<String>,
    /// The same, or else the export of the first manifest.
    owner: Option<String>,
    manifests: Vec<SegmentId>,
    journals: Vec<SegmentId>,
}

impl Found {
    pub(super) async fn read(store: &Store, journal: &Path) -> Result<Self, OutputError> {
        let owner_file = owner::owner(store).await?;
        let names = store.list(MANIFESTS).await?;
        let segments: Vec<SegmentId> = names.iter().filter_map(|name| segment_of(name)).collect();
        let owner = match &owner_file {
            Some(owner) => Some(owner.clone()),
            None => manifests(store).await?.into_iter().next().map(|manifest| manifest.export),
        };
        Ok(Self { owner_file, owner, manifests: segments, journals: journals(journal)? })
    }

    fn is_export(&self) -> bool {
        self.owner_file.is_some() || !self.manifests.is_empty() || !self.journals.is_empty()
    }

    /// Refuses a ledger of another output, and one that is older than what it should describe: one that was copied back, or that
    /// lost its last transactions.
    pub(super) fn check(
        &self,
        (out, state): (&OutputLocation, &Path),
        ledger: &Ledger,
        export: &ExportRow,
    ) -> Result<(), OutputError> {
        if ledger.last_attempt()?.0 > 0 {
            owner::check_out(export, self.owner.is_some(), out, state)?;
        }
        if self.owner.as_ref().is_some_and(|owner| *owner != export.id) {
            return Err(OutputError::Mismatch(format!(
                "the state in {} belongs to another output directory than {out}",
                state.display()
            )));
        }
        for segment in &self.manifests {
            if !ledger.is_decided(*segment)? {
                let reason = format!("is older than the output: segment {segment} is published there");
                return Err(ledger.unusable(reason).into());
            }
        }
        let last = ledger.last_segment()?;
        match self.journals.iter().find(|segment| **segment > last) {
            Some(segment) => Err(ledger.unusable(format!("is older than the journal of segment {segment}")).into()),
            None => Ok(()),
        }
    }
}

/// Makes the state directory and gives the journal's. The first may be a symbolic link, the other may not.
fn create_state(state: &Path) -> Result<PathBuf, DiskError> {
    Disk.make_directory(state, Access::Private)?;
    let journal = Disk.make_directory_below(state, Path::new(JOURNAL), Access::Private)?;
    Disk.sync_directory(state)?; // a process that made the journal's may have been killed before its name was durable
    Ok(journal)
}

fn journals(directory: &Path) -> Result<Vec<SegmentId>, OutputError> {
    let listed = std::fs::read_dir(directory).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let names = listed.doing("list", directory)?.into_iter().map(|entry| PathBuf::from(entry.file_name()));
    Ok(names.filter_map(|name| name.file_stem()?.to_str()?.parse().ok().map(SegmentId)).collect())
}

/// Opens the ledger, or makes one. None is made in place of one that is lost.
async fn open_ledger(settings: &Settings, store: &Store, found: &Found) -> Result<Ledger, OutputError> {
    let path = settings.state_dir.join(LEDGER);
    if std::fs::metadata(&path).map_or(true, |about| about.len() == 0) {
        if found.is_export() {
            return Err(ledger_elsewhere(settings));
        }
        refuse_foreign_output(store, &settings.out).await?; // before a file is made beside it
    }
    Disk.make_private_file(&path).map_err(OutputError::Unwritable)?;
    Ok(Ledger::open(&path)?)
}

/// Refuses to start an export in a directory that has one's output, or anything that a reader would take for it: a glob would
/// see every row twice, and every page would be paid for again.
async fn refuse_foreign_output(store: &Store, out: &OutputLocation) -> Result<(), OutputError> {
    let success = store.find(SUCCESS).await?.map(|_| SUCCESS.to_owned());
    let Some(name) = store.first_data_file().await?.or(success) else { return Ok(()) };
    if name.split('/').next().and_then(SnapshotLabel::of_directory).is_some() {
        return Err(OutputError::Mismatch(format!("{out} {HAS_SNAPSHOTS}")));
    }
    Err(OutputError::Mismatch(format!(
        "{} has {} already, but no state of an export: give the --state-dir that it was started with, or take another --out",
        out,
        Sanitized(&name)
    )))
}

/// Refuses an export whose files were removed, also if not all of them are gone yet.
pub(crate) fn refuse_removed(export: &ExportRow, out: &OutputLocation) -> Result<(), OutputError> {
    let removed = match export.removal {
        None => return Ok(()),
        Some(Removal::Started) => "are being removed",
        Some(Removal::Finished) => "were removed",
    };
    Err(OutputError::Removed(format!("the files of {out} {removed}: a later run keeps newer snapshots (--keep)")))
}

/// Refuses a snapshot inside of another export's output, which would not know its files.
async fn refuse_export_as_dataset(settings: &Settings) -> Result<(), OutputError> {
    let dataset = settings.out.parent();
    let store = Store::open(&dataset, &settings.store, &settings.state_dir)?;
    if store.find(OWNER).await?.is_none() {
        return Ok(());
    }
    Err(OutputError::Mismatch(format!("{dataset} is the output of an export without snapshots: take another --out")))
}

/// Refuses what belongs to an export, where its ledger is not there. Without a request: of a bucket only the journal is looked at.
pub(crate) async fn refuse_lost_ledger(settings: &Settings) -> Result<(), OutputError> {
    let journal = settings.state_dir.join(JOURNAL);
    let mut is_export = journal.is_dir() && !journals(&journal)?.is_empty();
    if let Some(local) = settings.out.directory().map(Store::new) {
        is_export |= owner::owner(&local).await?.is_some() || !local.list(MANIFESTS).await?.is_empty();
    }
    if is_export { Err(ledger_elsewhere(settings)) } else { Ok(()) }
}

fn ledger_elsewhere(settings: &Settings) -> OutputError {
    OutputError::Mismatch(format!(
        "{} belongs to an export, but its ledger is not in {}: give the --state-dir that it was started with, or take another --out",
        settings.out,
        settings.state_dir.display()
    ))
}

fn left_without_table(out: &OutputLocation) -> OutputError {
    OutputError::Mismatch(format!(
        "{out} has a Delta table, and a run without it would leave the two different: give --table delta"
    ))
}

fn guard(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unwritable(error: OutputError) -> OutputError {
    if let OutputError::Disk(error) = error { OutputError::Unwritable(error) } else { error }
}

/// The directories whose locks an export needs: its state's, and its output's if that is another one.
pub(crate) fn lock_directories(out: &OutputLocation, state: &Path) -> Vec<PathBuf> {
    let Some(out) = out.directory() else { return vec![state.to_owned()] };
    let inside = out.join("_pagehaul");
    let is_inside = std::fs::canonicalize(state).ok() == std::fs::canonicalize(&inside).ok();
    std::iter::once(state.to_owned()).chain((!is_inside).then_some(inside)).collect()
}

pub(super) async fn lock(directory: &Path) -> Result<Lock, OutputError> {
    let about_me = format!("process {}, since {}", std::process::id(), clock::wall());
    let path = directory.join(LOCK);
    let mut taken = lock_alone(&path, &about_me).map_err(OutputError::Unwritable)?;
    if taken.is_err() {
        tokio::time::sleep(SECOND_TRY).await;
        taken = lock_alone(&path, &about_me).map_err(OutputError::Unwritable)?;
    }
    taken.map_err(|holder| {
        let holder = if holder.is_empty() { "one that has just started" } else { &holder };
        OutputError::Busy { holder: sanitize(holder) }
    })
}

/// Letters that no other process uses at this time.
pub(super) fn nonce() -> String {
    hex(&Sha256::digest(format!("{} {}", clock::wall().0, std::process::id()))).chars().take(10).collect()
}

fn start(ledger: &Ledger, settings: &Settings) -> Result<ExportRow, OutputError> {
    let created_at = clock::wall();
    let mut hash = Sha256::new();
    let out = owner::name_of(&settings.out);
    hash.update(format!("{} {} {out}", created_at.0, std::process::id()));
    let id: String = hex(&hash.finalize()).chars().take(10).collect();
    let export = ExportRow { id, created_at, completed_at: None, removal: None, out, identity: settings.identity() };
    ledger.create_export(&export)?;
    Ok(export)
}

fn check_settings(export: &ExportRow, differences: &[String]) -> Result<(), OutputError> {
    if differences.is_empty() {
        return Ok(());
    }
    Err(OutputError::Mismatch(format!(
        "the export started at {} has other settings: {}",
        export.created_at,
        differences.join("; ")
    )))
}
