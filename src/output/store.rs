//! The port to the output: no other code reads or writes it.
//!
//! A local directory is the one kind of output there is. Object stores will be a second one behind the same methods, which is
//! why they are asynchronous, take names relative to the output's root, and request no more than an object store can do.
//! Staged files are local in any case.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::output::error::OutputError;
use crate::output::local_store::LocalStore;
pub(crate) use crate::output::local_store::Put;
use crate::output::names::STAGING;
use crate::state::disk::DiskError;

#[derive(Clone, Debug)]
pub struct Store(Arc<LocalStore>);

impl Store {
    /// The output in a directory, which need not exist.
    pub fn new(root: &Path) -> Self {
        Self(Arc::new(LocalStore { root: root.to_owned() }))
    }

    /// The local directory where files are staged.
    pub(crate) fn staging(&self) -> PathBuf {
        self.0.root.join(STAGING)
    }

    /// Makes what an output needs before anything is written to it.
    pub(crate) async fn create(&self) -> Result<(), OutputError> {
        self.on_disk(LocalStore::create).await
    }

    /// Proves that the output takes files.
    pub(crate) async fn check_writable(&self) -> Result<(), OutputError> {
        self.on_disk(LocalStore::check_writable).await
    }

    pub(crate) async fn is_there(&self) -> Result<bool, OutputError> {
        self.on_disk(|local| Ok::<_, DiskError>(local.root.is_dir())).await
    }

    /// Gives staged files, the first of each pair, their durable names. Repeating it after a crash is harmless: a file that has
    /// its name keeps it, also where it is still staged, as in a copy of the directory or after a power loss.
    pub(crate) async fn publish(&self, files: Vec<(String, String)>) -> Result<(), OutputError> {
        self.on_disk(move |local| local.publish(&files)).await
    }

    /// Writes a small file, unless one of its name is there that may not be replaced. Readers see the old content or the new
    /// one, whole.
    pub(crate) async fn put_over(
        &self,
        name: String,
        content: Vec<u8>,
        may_replace: impl FnOnce(&[u8]) -> bool + Send + 'static,
    ) -> Result<Put, OutputError> {
        self.on_disk(move |local| local.put_over(&name, &content, may_replace)).await
    }

    /// Writes a small file, in place of an older one.
    pub(crate) async fn put(&self, name: &str, content: Vec<u8>) -> Result<(), OutputError> {
        let name = name.to_owned();
        self.on_disk(move |local| local.put(&name, &content)).await
    }

    /// Reads a small file; none if there is none.
    pub(crate) async fn get(&self, name: &str) -> Result<Option<Vec<u8>>, OutputError> {
        let name = name.to_owned();
        self.on_disk(move |local| local.get(&name)).await
    }

    /// Removes files, durably. One that is not there is fine.
    pub(crate) async fn remove(&self, names: Vec<String>) -> Result<(), OutputError> {
        self.on_disk(move |local| local.remove(&names)).await
    }

    /// Removes staged files. It is not made durable: a file that comes back is removed again.
    pub(crate) async fn remove_staged(
        &self,
        is_leftover: impl Fn(&str) -> bool + Send + 'static,
    ) -> Result<(), OutputError> {
        self.on_disk(move |local| local.remove_staged(is_leftover)).await
    }

    /// Names of the files directly under a directory, ascending.
    pub(crate) async fn list(&self, directory: &'static str) -> Result<Vec<String>, OutputError> {
        self.on_disk(move |local| local.list(directory)).await
    }

    /// Names of the files in the directories of rows, `COLUMN=VALUE` for whatever column, and of rejects, ascending. What is
    /// not a plain file is named too: only our files belong there. Links are not followed.
    pub(crate) async fn data_files(&self) -> Result<Vec<String>, OutputError> {
        self.on_disk(LocalStore::data_files).await
    }

    /// Length of a plain file in a plain directory; none if there is nothing of this name, or something else.
    pub(crate) async fn length(&self, name: &str) -> Result<Option<u64>, OutputError> {
        let name = name.to_owned();
        self.on_disk(move |local| local.length(&name)).await
    }

    /// SHA-256 of a file's content, hexadecimal.
    pub(crate) async fn sha256(&self, name: &str) -> Result<String, OutputError> {
        let name = name.to_owned();
        self.on_disk(move |local| local.sha256(&name)).await
    }

    /// A file's content, to be read at any place.
    pub(crate) async fn open_file(&self, name: &str) -> Result<File, OutputError> {
        let name = name.to_owned();
        self.on_disk(move |local| local.open_file(&name)).await
    }

    async fn on_disk<T: Send + 'static, E: Send + 'static>(
        &self,
        work: impl FnOnce(&LocalStore) -> Result<T, E> + Send + 'static,
    ) -> Result<T, OutputError>
    where
        OutputError: From<E>,
    {
        let local = Arc::clone(&self.0);
        Ok(tokio::task::spawn_blocking(move || work(&local)).await??)
    }
}
