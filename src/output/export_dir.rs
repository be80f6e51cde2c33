//! The directory of one export, opened: locked, checked against its settings, and writable.
//!
//! One directory is one export. Whatever could go wrong with directories is found here, before the first paid request.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::decode::Decoder;
use crate::endpoint::hex;
use crate::model::clock::{self, Utc64};
use crate::model::page::SegmentId;
use crate::model::sanitize::Sanitized;
use crate::output::error::OutputError;
use crate::output::parquet_file::Layout;
use crate::output::publisher::{self, MANIFESTS, ManifestSchema, Publisher};
use crate::output::segment::{SegmentConfig, of_name};
use crate::output::store::{REJECTS, Store};
use crate::settings::{CODES, DESCRIPTION, Settings};
use crate::state::disk::{Access, Disk, DiskError, Lock};
use crate::state::free_space::MinFreeSpace;
use crate::state::ledger::{ExportRow, Ledger};

/// Says which export an output belongs to.
pub(crate) const BADGE: &str = "_pagehaul/export.json";
/// Name of the lock in a state directory.
pub(crate) const LOCK: &str = "lock";
/// Name of the ledger in a state directory.
pub(crate) const LEDGER: &str = "ledger.sqlite";
/// How long after the first try a held lock is tried once more.
const SECOND_LOOK: Duration = Duration::from_millis(100);
/// Says that the output is complete: written last, removed before anything changes.
pub(crate) const SUCCESS: &str = "_SUCCESS";

/// An export's directory, held by this process.
#[derive(Debug)]
pub struct ExportDir {
    /// Who the export is.
    pub export: ExportRow,
    /// Its ledger.
    pub ledger: Arc<Mutex<Ledger>>,
    /// Its output.
    pub store: Store,
    /// Directory of the journal files.
    pub journal: PathBuf,
    /// The room that its disks keep free.
    pub floor: MinFreeSpace,
    staging: PathBuf,
    _locks: Vec<Lock>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Badge {
    export: String,
}

impl ExportDir {
    /// Opens the directory of an export, or begins one. The settings must be those that it was begun with.
    pub async fn open(settings: &Settings) -> Result<Self, OutputError> {
        Self::open_as(settings, differences).await
    }

    /// Opens the directory of an export that may be read into other columns now. Whatever moves cursors must be as it was.
    pub async fn open_to_replay(settings: &Settings) -> Result<Self, OutputError> {
        Self::open_as(settings, differences_of_calls).await
    }

    async fn open_as(settings: &Settings, differences: Differences) -> Result<Self, OutputError> {
        let disk = Disk;
        let (out, state) = (&settings.out, &settings.state_dir);
        let (staging, journal) = directories(settings).map_err(OutputError::Unwritable)?;
        // The state may lie elsewhere: then its directory and the output's are each held.
        let mut locks = vec![lock(disk, state).await?];
        if std::fs::canonicalize(state).ok() != std::fs::canonicalize(out.join("_pagehaul")).ok() {
            locks.push(lock(disk, &out.join("_pagehaul")).await?);
        }
        [out, &staging, state]
            .into_iter()
            .try_for_each(|directory| disk.check_writable(directory))
            .map_err(OutputError::Unwritable)?;

        let store = Store::open(out, disk)?;
        let manifests: Vec<String> =
            store.list(MANIFESTS).await?.into_iter().filter(|name| publisher::segment_of(name).is_some()).collect();
        let badge = badge(&store).await?;
        let is_begun = badge.is_some() || !manifests.is_empty() || !numbers(&names(&journal)?).is_empty();
        let path = state.join(LEDGER);
        let is_empty = std::fs::metadata(&path).map_or(true, |about| about.len() == 0);
        if is_empty {
            // Nothing is made in the place of what is lost.
            if is_begun {
                return Err(ledger_elsewhere(settings));
            }
            refuse_taken(out)?;
        }
        disk.make_private_file(&path).map_err(OutputError::Unwritable)?;
        let ledger = Ledger::open(&path)?;
        let export = match ledger.export()? {
            Some(export) => {
                if owner(&store, badge.as_ref()).await?.is_some_and(|owner| owner != export.id) {
                    return Err(OutputError::Mismatch(format!(
                        "the state in {} belongs to another output directory than {}",
                        state.display(),
                        out.display()
                    )));
                }
                if badge.is_none() {
                    write_badge(&store, &export.id)?; // the process ended between the two, or somebody removed it
                }
                same_age(&ledger, &manifests, &names(&journal)?)?;
                let was_used = ledger.last_attempt()?.0 > 0;
                if was_used {
                    same_identity(&export, &differences(&export.identity, &settings.identity()))?;
                }
                export
            }
            None if is_begun => return Err(ledger_elsewhere(settings)),
            None => begin(&ledger, &store, settings)?,
        };
        ledger.allow_checkpoint()?;
        let floor = MinFreeSpace::new(vec![out.clone(), state.clone()], settings.min_free_space);
        let ledger = Arc::new(Mutex::new(ledger));
        Ok(Self { export, ledger, store, journal, floor, staging, _locks: locks })
    }

    /// The ledger, for a moment.
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What shapes the files.
    pub fn shape(&self, settings: &Settings, decoder: &Decoder) -> SegmentConfig {
        SegmentConfig {
            staging: self.staging.clone(),
            export: self.export.id.clone(),
            schema: Arc::clone(decoder.schema()),
            partition: settings.endpoint.partition().name.clone(),
            layout: Layout::from_settings(settings),
        }
    }

    /// Who publishes.
    pub fn committer(&self, settings: &Settings, decoder: &Decoder) -> Publisher {
        let imprint = self.imprint(settings, decoder);
        Publisher::new(Arc::clone(&self.ledger), self.store.clone(), self.staging.clone(), imprint)
    }

    /// What the manifests of now have in common.
    pub fn imprint(&self, settings: &Settings, decoder: &Decoder) -> ManifestSchema {
        let fields = decoder.schema().fields().iter();
        ManifestSchema {
            export: self.export.id.clone(),
            endpoint: format!("{} {}", settings.endpoint.name, settings.endpoint.fingerprint()),
            columns: fields.map(|field| (field.name().clone(), field.data_type().to_string())).collect(),
            key: settings.endpoint.row_key().map(|column| column.name.clone()).collect(),
            partition: settings.endpoint.partition().name.clone(),
        }
    }

    /// Removes staged files that no decision names: nothing will ever give them a name, and the journal has their rows. Files
    /// of anybody else are left alone.
    pub fn sweep(&self) -> Result<(), OutputError> {
        if !self.ledger().decided_segments()?.is_empty() {
            return Ok(()); // recovery needs them
        }
        let ours = names(&self.staging)?.into_iter().filter(|name| of_name(&self.export.id, name).is_some());
        Ok(ours.into_iter().try_for_each(|name| Disk.remove(&self.staging.join(name)))?)
    }
}

/// The settings that an existing export was begun with, for a command that takes them over.
pub(crate) fn identity(out: Option<&Path>, state_dir: Option<&str>) -> Result<BTreeMap<String, String>, OutputError> {
    let Some(out) = out else { return Err(OutputError::NoExport("no directory of an export: name it with --out DIR")) };
    let state = state_dir.map_or_else(|| out.join("_pagehaul"), PathBuf::from);
    let path = state.join(LEDGER);
    let nothing =
        OutputError::NoExport("there is no export in that directory (its ledger is missing: is --state-dir right?)");
    if !path.exists() {
        return Err(nothing);
    }
    Ledger::export_at(&path)?.map(|export| export.identity).ok_or(nothing)
}

/// Makes the directories of an export, and gives those of staged files and of the journal. The roots that were named may be
/// symbolic links, nothing below them may.
fn directories(settings: &Settings) -> Result<(PathBuf, PathBuf), DiskError> {
    let (disk, out, state) = (Disk, &settings.out, &settings.state_dir);
    disk.make_directory(out, Access::Shared)?;
    // The manifests are output too: their directory lets others in, what is private in it does not.
    disk.make_directory_below(out, Path::new(MANIFESTS), Access::Shared)?;
    let staging = disk.make_directory_below(out, Path::new("_pagehaul/staging"), Access::Private)?;
    disk.make_directory(state, Access::Private)?;
    let journal = disk.make_directory_below(state, Path::new("journal"), Access::Private)?;
    // Whoever made one of them may have been killed before its name was durable.
    [out, &out.join("_pagehaul"), state].into_iter().try_for_each(|directory| disk.sync_directory(directory))?;
    Ok((staging, journal))
}

/// Refuses to begin an export in a directory that holds one's output already, or anything that a reader would take for it: a
/// glob would see every row twice, and every page would be paid for again.
fn refuse_taken(out: &Path) -> Result<(), OutputError> {
    let is_output = |name: &String| name.contains('=') || [SUCCESS, REJECTS].contains(&name.as_str());
    names(out)?.into_iter().find(is_output).map_or(Ok(()), |name| {
        Err(OutputError::Mismatch(format!(
            "{} holds {} already, but no state of an export: give the --state-dir that it was begun with, or take another --out",
            out.display(),
            Sanitized(&name)
        )))
    })
}

/// Names in a directory that are text: ours all are.
fn names(directory: &Path) -> Result<Vec<String>, OutputError> {
    let listed = std::fs::read_dir(directory).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let entries = listed.map_err(|source| DiskError { action: "list", path: directory.to_owned(), source })?;
    Ok(entries.into_iter().filter_map(|entry| entry.file_name().into_string().ok()).collect())
}

/// The segments that files are named after: manifests, or journal files.
fn numbers(names: &[String]) -> Vec<SegmentId> {
    let number = |name: &String| Path::new(name).file_stem()?.to_str()?.parse().ok();
    names.iter().filter_map(number).map(SegmentId).collect()
}

/// Refuses a ledger that is older than what lies around it: one that was copied back, or that lost its last transactions.
fn same_age(ledger: &Ledger, manifests: &[String], journal: &[String]) -> Result<(), OutputError> {
    for segment in numbers(manifests) {
        if !ledger.is_decided(segment)? {
            return Err(ledger
                .unusable(format!("is older than the output: segment {segment} is published there"))
                .into());
        }
    }
    let last = ledger.last_segment()?;
    match numbers(journal).into_iter().find(|segment| *segment > last) {
        Some(segment) => Err(ledger.unusable(format!("is older than the journal of segment {segment}")).into()),
        None => Ok(()),
    }
}

/// Takes a lock. One who only looks holds it for a blink: so a second look decides.
fn ledger_elsewhere(settings: &Settings) -> OutputError {
    OutputError::Mismatch(format!(
        "{} belongs to an export, but its ledger is not in {}: give the --state-dir that it was begun with, or take another --out",
        settings.out.display(),
        settings.state_dir.display()
    ))
}

async fn lock(disk: Disk, state: &Path) -> Result<Lock, OutputError> {
    let about_me = format!("process {}, since {}", std::process::id(), clock::wall());
    let path = state.join(LOCK);
    let mut taken = disk.lock(&path, &about_me).map_err(OutputError::Unwritable)?;
    if taken.is_err() {
        tokio::time::sleep(SECOND_LOOK).await;
        taken = disk.lock(&path, &about_me).map_err(OutputError::Unwritable)?;
    }
    taken.map_err(|holder| {
        let holder = if holder.is_empty() { "one that has just begun" } else { &holder };
        OutputError::Busy { holder: crate::model::sanitize::sanitize(holder) }
    })
}

/// The export that an output belongs to; none if nothing says so.
pub(crate) async fn badge(store: &Store) -> Result<Option<String>, OutputError> {
    let badge = store.get(BADGE).await?.and_then(|badge| serde_json::from_slice::<Badge>(&badge).ok());
    Ok(badge.map(|badge| badge.export))
}

/// The export that published what is there, by its badge or else by its first manifest.
async fn owner(store: &Store, badge: Option<&String>) -> Result<Option<String>, OutputError> {
    match badge {
        Some(badge) => Ok(Some(badge.clone())),
        None => Ok(publisher::manifests(store).await?.first().map(|manifest| manifest.export.clone())),
    }
}

fn write_badge(store: &Store, export: &str) -> Result<(), OutputError> {
    Ok(store.put(BADGE, serde_json::json!({ "export": export }).to_string().as_bytes())?)
}

fn begin(ledger: &Ledger, store: &Store, settings: &Settings) -> Result<ExportRow, OutputError> {
    let created_at = clock::wall();
    let mut hash = Sha256::new();
    hash.update(format!("{} {} {:?}", created_at.0, std::process::id(), std::fs::canonicalize(&settings.out)));
    let id: String = hex(&hash.finalize()).chars().take(10).collect();
    let export = ExportRow { id, created_at, completed_at: None, identity: settings.identity() };
    ledger.create_export(&export)?;
    write_badge(store, &export.id)?;
    Ok(export)
}

/// What differs between the settings that an export was begun with and those of now, as far as it matters.
type Differences = fn(&Identity, &Identity) -> Vec<String>;
type Identity = BTreeMap<String, String>;

fn same_identity(export: &ExportRow, differences: &[String]) -> Result<(), OutputError> {
    if differences.is_empty() {
        return Ok(());
    }
    let begun: Utc64 = export.created_at;
    Err(OutputError::Mismatch(format!("the export begun at {begun} has other settings: {}", differences.join("; "))))
}

/// Settings that would move cursors or change rows. The rule of a list's end may be made stricter: walks that it ended too
/// early are opened again.
fn differences(was: &Identity, now: &Identity) -> Vec<String> {
    let mut found = Vec::new();
    for (key, was) in was {
        let is = now.get(key).map_or("", String::as_str);
        let stricter = key == "end" && strictness(is) > strictness(was);
        match key.as_str() {
            _ if is == was || stricter => {}
            // The other side of the columns; and a file may say what the built-in endpoint says.
            "dropped" | DESCRIPTION | CODES => {}
            "columns" => found.push(format!("columns was {}", other_columns(was, is))),
            _ => found.push(format!("{key} was {was}, now {is}")),
        }
    }
    found
}

/// How many requests a rule of a list's end is ready to spend on being right.
fn strictness(end: &str) -> u8 {
    match end {
        "short-page" => 1,
        "auto" => 2,
        "empty-page" => 3,
        _ => 0,
    }
}

/// What one list of columns has and another has not.
fn other_columns(was: &str, is: &str) -> String {
    let only = |one: &str, other: &str| {
        let other: Vec<&str> = other.split(',').collect();
        one.split(',').filter(|name| !other.contains(name)).collect::<Vec<_>>().join(",")
    };
    match (only(was, is), only(is, was)) {
        (lost, gained) if lost.is_empty() && gained.is_empty() => "in another order".to_owned(),
        (lost, gained) if gained.is_empty() => format!("with {lost}, now without"),
        (lost, gained) if lost.is_empty() => format!("without {gained}, now with"),
        (lost, gained) => format!("with {lost}, now with {gained}"),
    }
}

/// Settings that would move cursors. Other columns of the same call move none; whether it is the same call, `call` says.
fn differences_of_calls(was: &Identity, now: &Identity) -> Vec<String> {
    let same_call = was.get("call").is_some_and(|call| now.get("call") == Some(call));
    let is_free = |key: &str| key == "columns" || key == "endpoint" && same_call;
    let shaping =
        was.iter().filter(|(key, _)| !is_free(key)).map(|(key, value)| (key.clone(), value.clone())).collect();
    differences(&shaping, now)
}

#[cfg(test)]
mod tests {
    use super::{differences, differences_of_calls};
    use std::collections::BTreeMap;

    fn identity(values: &[(&str, &str)]) -> BTreeMap<String, String> {
        values.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn an_export_takes_no_other_columns_and_a_replay_does_but_no_other_call() {
        let was =
            identity(&[("call", "x 1"), ("columns", "a,b"), ("dropped", "none"), ("endpoint", "x 2"), ("sort", "a")]);
        let with = |key: &str, value: &str| {
            let mut now = was.clone();
            now.insert(key.to_owned(), value.to_owned());
            (differences(&was, &now).len(), differences_of_calls(&was, &now).len())
        };
        assert_eq!((with("columns", "a"), with("endpoint", "x 3"), with("dropped", "b")), ((1, 0), (1, 0), (0, 0)));
        assert_eq!((with("call", "x 9"), with("sort", "b"), with("new", "z")), ((1, 1), (1, 1), (0, 0)));
        let shown = |now: &str| {
            let columns = |names: &str| identity(&[("columns", names)]);
            differences(&columns("a,b"), &columns(now)).join("; ")
        };
        assert_eq!(shown("a"), "columns was with b, now without");
        assert_eq!(shown("a,b,c"), "columns was without c, now with");
        assert_eq!(
            (shown("c,a").as_str(), shown("b,a").as_str()),
            ("columns was with b, now with c", "columns was in another order")
        );
    }

    #[test]
    fn the_rule_of_a_list_s_end_may_become_stricter_and_nothing_else() {
        let of = |end: &str| identity(&[("end", end)]);
        let rules = ["short-page", "auto", "empty-page"];
        for (place, was) in rules.iter().enumerate() {
            let refused = rules.map(|now| !differences(&of(was), &of(now)).is_empty());
            assert_eq!(refused, [0, 1, 2].map(|now| now < place), "from {was}");
        }
    }
}
