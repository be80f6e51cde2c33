//! `--keep`: when a snapshot is complete, the files of older complete ones of its dataset go.
//!
//! Only what their manifests list is removed, manifests first, so that a reader of manifests sees whole segments or none. What is to go
//! is written down before: a run that was killed meanwhile is finished by the next one. Ledger and journal stay: `replay` brings
//! the files back, where no journal was pruned.

use std::path::Path;

use serde::Deserialize;

use crate::model::event::Event;
use crate::model::sanitize::chain;
use crate::output::error::OutputError;
use crate::output::export_dir::{LOCK, lock_directories};
use crate::output::file_entry::is_inside;
use crate::output::manifest::manifests;
use crate::output::names::{MANIFESTS, REMOVAL, SUCCESS};
use crate::output::store::Store;
use crate::report::summary::SUMMARY;
use crate::run::context::RunContext;
use crate::settings::{ExportPaths, SnapshotLabel};
use crate::state::lock::{Lock, lock_alone};

/// A snapshot that is complete, or that was and is being removed.
struct Complete {
    /// Since when, RFC 3339; empty where its removal has started.
    since: String,
    label: SnapshotLabel,
    paths: ExportPaths,
    store: Store,
}

/// What a summary says about it.
#[derive(Deserialize)]
struct Since {
    complete_since: Option<String>,
}

/// Removes the files of the complete snapshots beyond those that stay. This run's stays in any case. What fails is a warning: this
/// run's snapshot is complete.
pub(super) async fn remove_older(context: &RunContext) {
    let Some(keep) = context.settings.keep else { return };
    if let Err(error) = try_remove_older(context, keep).await {
        context.events.event(&Event::Warning(&format!("older snapshots are still there: {}", chain(&error))));
    }
}

async fn try_remove_older(context: &RunContext, keep: u64) -> Result<(), OutputError> {
    let own = ExportPaths { out: context.settings.out.clone(), state: context.settings.state_dir.clone() };
    let mut complete = complete(context, &own).await?;
    complete.sort_by(|one, other| (&other.since, &other.label).cmp(&(&one.since, &one.label)));
    let keep = usize::try_from(keep).unwrap_or(usize::MAX);
    for (place, older) in complete.into_iter().enumerate() {
        if older.paths.out == own.out || place < keep && !older.since.is_empty() {
            continue;
        }
        let name = older.label.directory();
        match lock(&older.paths)? {
            Ok(_locks) => {
                let files = remove(&older.store).await?;
                context.events.event(&Event::SnapshotRemoved { name: &name, files });
            }
            Err(holder) => {
                context.events.event(&Event::Warning(&format!("{name} is still there: {holder} works on it")));
            }
        }
    }
    Ok(())
}

/// The complete snapshots of the dataset that an export belongs to, its own among them.
async fn complete(context: &RunContext, own: &ExportPaths) -> Result<Vec<Complete>, OutputError> {
    let options = &context.settings.store;
    let dataset = Store::open(&own.out.parent(), options, &own.state)?;
    let mut found = Vec::new();
    for name in dataset.directories().await? {
        let Some(label) = SnapshotLabel::of_directory(&name) else { continue };
        let paths = own.sibling(&label);
        let store = Store::open(&paths.out, options, &paths.state)?;
        if store.find(REMOVAL).await?.is_some() {
            // It goes whatever there is beside it.
            found.push(Complete { since: String::new(), label, paths, store });
            continue;
        }
        if store.find(SUCCESS).await?.is_none() {
            continue;
        }
        let summary = store.get(SUMMARY).await?.unwrap_or_default();
        let since = serde_json::from_slice::<Since>(&summary).ok().and_then(|summary| summary.complete_since);
        found.extend(since.map(|since| Complete { since, label, paths, store }));
    }
    Ok(found)
}

/// Locks an export, where its state is on this machine. The inner error: who works on it.
fn lock(paths: &ExportPaths) -> Result<Result<Vec<Lock>, String>, OutputError> {
    let mut locks = Vec::new();
    for directory in lock_directories(&paths.out, &paths.state).iter().filter(|directory| Path::is_dir(directory)) {
        match lock_alone(&directory.join(LOCK), "a run that removes this snapshot").map_err(OutputError::Unwritable)? {
            Ok(lock) => locks.push(lock),
            Err(holder) => return Ok(Err(holder)),
        }
    }
    Ok(Ok(locks))
}

/// Removes what readers see of an export. Returns the number of files of rows and rejects.
async fn remove(store: &Store) -> Result<usize, OutputError> {
    let files = match removal(store).await? {
        Some(files) => files,
        None => start_removal(store).await?,
    };
    store.remove(vec![SUCCESS.to_owned()]).await?;
    store.remove(store.list(MANIFESTS).await?).await?;
    let count = files.len();
    store.remove(files).await?;
    store.remove_empty_directories().await?;
    store.remove(vec![REMOVAL.to_owned()]).await?;
    Ok(count)
}

/// Writes down which files go.
async fn start_removal(store: &Store) -> Result<Vec<String>, OutputError> {
    let listed = manifests(store).await?;
    let names = listed.iter().flat_map(|manifest| manifest.all_files().map(|file| file.path.clone()));
    let files: Vec<String> = names.collect();
    store.put(REMOVAL, serde_json::json!(files).to_string().into_bytes()).await?;
    Ok(files)
}

/// The files of a snapshot whose removal has started; none if it has not.
async fn removal(store: &Store) -> Result<Option<Vec<String>>, OutputError> {
    let Some(text) = store.get(REMOVAL).await? else { return Ok(None) };
    let files: Vec<String> = serde_json::from_slice(&text).unwrap_or_default();
    // Somebody else may have written it: names that lead out of the output are nobody's.
    Ok(Some(files.into_iter().filter(|name| is_inside(name)).collect()))
}
