//! The folder of one export, opened: locked, checked against its settings, and writable.
//!
//! One folder is one export. Whatever could go wrong with folders is found here, before the first paid request.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::clock::{self, Utc64};
use crate::commit::{Committer, Imprint, MANIFESTS};
use crate::decode::Decoder;
use crate::disk::{Disk, Lock};
use crate::endpoint::hex;
use crate::error::Error;
use crate::ledger::{ExportRow, Ledger};
use crate::segment::{Shape, stem};
use crate::settings::Settings;
use crate::store::Store;

/// Says which export an output belongs to.
const BADGE: &str = "_pagehaul/export.json";
/// Says that the output is complete: written last, removed before anything changes.
pub const SUCCESS: &str = "_SUCCESS";

/// An export's folder, held by this process.
#[derive(Debug)]
pub struct Site {
    /// Who the export is.
    pub export: ExportRow,
    /// Its ledger.
    pub ledger: Arc<Mutex<Ledger>>,
    /// Its output.
    pub store: Store,
    /// Folder of the journal files.
    pub journal: PathBuf,
    staging: PathBuf,
    _locks: Vec<Lock>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Badge {
    export: String,
}

impl Site {
    /// Opens the folder of an export, or begins one. The settings must be those that it was begun with.
    pub async fn open(settings: &Settings) -> Result<Self, Error> {
        let disk = Disk;
        let (out, state) = (&settings.out, &settings.state_dir);
        let (staging, journal) = (out.join("_pagehaul/staging"), state.join("journal"));
        let made = disk.make_folder(&out.join(MANIFESTS)).and_then(|()| disk.make_folder(&staging));
        made.and_then(|()| disk.make_folder(&journal)).map_err(Error::Unwritable)?;
        // The state may lie elsewhere: then its folder and the output's are each held.
        let mut locks = vec![lock(disk, state)?];
        if std::fs::canonicalize(state).ok() != std::fs::canonicalize(out.join("_pagehaul")).ok() {
            locks.push(lock(disk, &out.join("_pagehaul"))?);
        }
        [out, &staging, state].into_iter().try_for_each(|folder| disk.probe(folder)).map_err(Error::Unwritable)?;

        let path = settings.state_dir.join("ledger.sqlite");
        disk.make_private_file(&path)?;
        let ledger = Ledger::open(&path)?;
        let store = Store::open(&settings.out, disk)?;
        let badge = store.get(BADGE).await?.and_then(|badge| serde_json::from_slice::<Badge>(&badge).ok());
        let has_output = !store.list(MANIFESTS).await?.is_empty();
        let export = match ledger.export()? {
            Some(export) => {
                if badge.is_none() && !has_output {
                    write_badge(&store, &export.id)?; // the process ended between the two
                } else if badge.is_none_or(|badge| badge.export != export.id) {
                    return Err(Error::Mismatch(format!(
                        "the state in {} belongs to another output folder than {}",
                        settings.state_dir.display(),
                        settings.out.display()
                    )));
                }
                let was_used = ledger.last_attempt()?.0 > 0;
                if was_used {
                    same_identity(&export, settings)?;
                }
                export
            }
            None if has_output || badge.is_some() => {
                return Err(Error::Mismatch(format!(
                    "{} belongs to an export, but its ledger is not in {}: give the --state-dir that it was begun with, or take another --out",
                    settings.out.display(),
                    settings.state_dir.display()
                )));
            }
            None => begin(&ledger, &store, settings)?,
        };
        let ledger = Arc::new(Mutex::new(ledger));
        Ok(Self { export, ledger, store, journal, staging, _locks: locks })
    }

    /// The ledger, for a moment.
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What shapes the files.
    pub fn shape(&self, settings: &Settings, decoder: &Decoder) -> Shape {
        Shape {
            staging: self.staging.clone(),
            export: self.export.id.clone(),
            schema: Arc::clone(decoder.schema()),
            partition: settings.endpoint.partition().name.clone(),
            unique: settings.endpoint.unique_columns().map(|column| column.name.clone()).collect(),
            budget: settings.memory,
        }
    }

    /// Who publishes.
    pub fn committer(&self, settings: &Settings, decoder: &Decoder) -> Committer {
        let fields = decoder.schema().fields().iter();
        let imprint = Imprint {
            export: self.export.id.clone(),
            endpoint: format!("{} {}", settings.endpoint.name, settings.endpoint.fingerprint()),
            columns: fields.map(|field| (field.name().clone(), field.data_type().to_string())).collect(),
        };
        Committer::new(Arc::clone(&self.ledger), self.store.clone(), self.staging.clone(), imprint)
    }

    /// Removes staged files of the open segment: it was never decided, so nothing will ever name them, and the journal has
    /// their rows. Files of anybody else are left alone.
    pub fn sweep(&self) -> Result<(), Error> {
        let Some(open) = self.ledger().open_segment()? else { return Ok(()) };
        let begun = stem(&self.export.id, open.id, 0);
        let ours = begun.trim_end_matches('0');
        let entries =
            std::fs::read_dir(&self.staging).map_err(|source| Error::System { action: "list staged files", source })?;
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().starts_with(ours) {
                Disk.remove(&entry.path())?;
            }
        }
        Ok(())
    }
}

/// The settings that an existing export was begun with, for a command that takes them over.
pub fn identity(out: Option<&Path>, state_dir: Option<&str>) -> Result<BTreeMap<String, String>, Error> {
    let Some(out) = out else { return Err(Error::Usage("no folder of an export: name it with --out DIR")) };
    let state = state_dir.map_or_else(|| out.join("_pagehaul"), PathBuf::from);
    let path = state.join("ledger.sqlite");
    let nothing = Error::Usage("there is no export in that folder (its ledger is missing: is --state-dir right?)");
    if !path.exists() {
        return Err(nothing);
    }
    Ledger::open(&path)?.export()?.map(|export| export.identity).ok_or(nothing)
}

fn lock(disk: Disk, state: &Path) -> Result<Lock, Error> {
    let about_me = format!("process {}, since {}", std::process::id(), clock::wall());
    let taken = disk.lock(&state.join("lock"), &about_me).map_err(Error::Unwritable)?;
    taken.map_err(|holder| Error::Busy { holder: crate::sanitize::sanitize(&holder) })
}

fn write_badge(store: &Store, export: &str) -> Result<(), Error> {
    Ok(store.put(BADGE, serde_json::json!({ "export": export }).to_string().as_bytes())?)
}

fn begin(ledger: &Ledger, store: &Store, settings: &Settings) -> Result<ExportRow, Error> {
    let created_at = clock::wall();
    let mut hash = Sha256::new();
    hash.update(format!("{created_at:?} {} {:?}", std::process::id(), std::fs::canonicalize(&settings.out)));
    let id: String = hex(&hash.finalize()).chars().take(10).collect();
    let export = ExportRow { id, created_at, completed_at: None, identity: settings.identity() };
    ledger.begin(&export)?;
    write_badge(store, &export.id)?;
    Ok(export)
}

/// Refuses settings that would move cursors or change rows, naming each of them. The rule of a list's end may be made
/// stricter: walks that it ended too early are opened again.
fn same_identity(export: &ExportRow, settings: &Settings) -> Result<(), Error> {
    let now = settings.identity();
    let mut differences = Vec::new();
    for (key, was) in &export.identity {
        let is = now.get(key).map_or("", String::as_str);
        let stricter = key == "end" && is == "empty-page";
        if is != was && !stricter {
            differences.push(format!("{key} was {was}, now {is}"));
        }
    }
    if differences.is_empty() {
        return Ok(());
    }
    let begun: Utc64 = export.created_at;
    Err(Error::Mismatch(format!("the export begun at {begun} has other settings: {}", differences.join("; "))))
}
