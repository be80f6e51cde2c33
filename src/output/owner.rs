//! Whose output it is: the file `_pagehaul/export.json`.
//!
//! A directory is locked by the process that works on it. A bucket has no locks, so each run writes a word of its own into the file,
//! in place of the word of the run before: a copy of a state directory, or one that was put back, does not know that word and is
//! refused. A run that lost the file to another one publishes nothing more.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::model::sanitize::Sanitized;
use crate::output::error::OutputError;
use crate::output::names::OWNER;
use crate::output::store::Store;
use crate::output::stored::Put;
use crate::settings::OutputLocation;
use crate::state::ledger::{ExportRow, Ledger};

#[derive(Clone, Debug, Serialize, Deserialize)]
struct OwnerFile {
    export: String,
    /// The last run's word; none in a directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    run: Option<String>,
}

/// The export that the owner file names; none if it is missing or cannot be read.
pub(crate) async fn owner(store: &Store) -> Result<Option<String>, OutputError> {
    Ok(read(store).await?.map(|file| file.export))
}

async fn read(store: &Store) -> Result<Option<OwnerFile>, OutputError> {
    Ok(store.get(OWNER).await?.and_then(|text| serde_json::from_slice(&text).ok()))
}

/// How an output is called in a ledger: a directory by its real path, a bucket by its URL.
pub(crate) fn name_of(out: &OutputLocation) -> String {
    let real = out.directory().and_then(|path| std::fs::canonicalize(path).ok());
    real.as_deref().map_or_else(|| out.to_string(), |path| Path::display(path).to_string())
}

/// Fails where a state directory is that of another output. An output that says whose it is, or that the state is in, may have moved.
pub(crate) fn check_out(
    export: &ExportRow,
    is_owned: bool,
    out: &OutputLocation,
    state: &Path,
) -> Result<(), OutputError> {
    let is_inside = out.directory().is_some_and(|out| state.starts_with(out));
    if is_owned || is_inside || export.out == name_of(out) {
        return Ok(());
    }
    Err(OutputError::Mismatch(format!(
        "the state in {} is that of the output {}: give that --out, or another --state-dir",
        state.display(),
        Sanitized(&export.out)
    )))
}

/// A run's claim to an output.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    export: String,
    run: Option<String>,
}

impl Claim {
    /// Makes an output this run's. `word`: letters that no other run has used.
    pub(crate) async fn take(
        store: &Store,
        ledger: &Mutex<Ledger>,
        export: &str,
        word: String,
    ) -> Result<Self, OutputError> {
        let ledger = || ledger.lock().unwrap_or_else(PoisonError::into_inner);
        let run = store.is_in_bucket().then_some(word);
        let known = ledger().run_words()?;
        if let Some(run) = &run {
            // First the ledger: if this run ends in between, the next one knows both words.
            ledger().intend_run(run)?;
        }
        let content = serde_json::json!(OwnerFile { export: export.to_owned(), run: run.clone() }).to_string();
        let (own, is_fenced) = (export.to_owned(), run.is_some());
        let may_replace = move |found: &[u8]| match serde_json::from_slice::<OwnerFile>(found) {
            Ok(found) => {
                let is_known = found.run.is_none_or(|run| known.contains(&run));
                found.export == own && (!is_fenced || is_known)
            }
            Err(_) => true, // nobody can tell whose it was; the manifests say it, too
        };
        match store.put_over(OWNER.to_owned(), content.into_bytes(), may_replace).await? {
            Put::Created | Put::Replaced => {}
            Put::Refused => return Err(lost()),
        }
        if let Some(run) = &run {
            ledger().confirm_run(run)?;
        }
        Ok(Self { export: export.to_owned(), run })
    }

    /// Fails where another run has taken the output meanwhile.
    pub(crate) async fn check(&self, store: &Store) -> Result<(), OutputError> {
        if self.run.is_none() {
            return Ok(()); // the lock is what keeps others out
        }
        match read(store).await? {
            Some(found) if found.export == self.export && found.run == self.run => Ok(()),
            Some(_) | None => Err(lost()),
        }
    }
}

fn lost() -> OutputError {
    OutputError::Mismatch(
        "another run works on this output, or has worked on it with a copy of the state directory: use the state directory of the last run"
            .to_owned(),
    )
}
