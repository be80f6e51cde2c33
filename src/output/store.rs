//! The port to the output: no other code reads or writes it.
//!
//! An output is a local directory ([`LocalStore`]) or a prefix in a bucket ([`Bucket`]). Both take names relative to the output's
//! root. Files are staged on a local disk in any case.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::output::bucket::{Bucket, LeftoverLog};
use crate::output::error::OutputError;
use crate::output::file_entry::FileEntry;
use crate::output::local_store::LocalStore;
use crate::output::names::STAGING;
use crate::output::stored::{Put, Stored};
use crate::settings::{OutputLocation, StoreOptions};
use crate::state::disk::Doing;

/// An output.
#[derive(Clone, Debug)]
pub struct Store {
    /// The output directory; for a bucket, where files are staged.
    local: Arc<LocalStore>,
    bucket: Option<Bucket>,
}

impl Store {
    /// The output in a directory, which need not exist.
    pub fn new(root: &Path) -> Self {
        let local = LocalStore { root: root.to_owned(), staging: root.join(STAGING) };
        Self { local: Arc::new(local), bucket: None }
    }

    /// The output at a location, without a request.
    pub(crate) fn open(out: &OutputLocation, with: &StoreOptions, state: &Path) -> Result<Self, OutputError> {
        Ok(match out {
            OutputLocation::Directory(path) => Self::new(path),
            OutputLocation::Bucket(url) => Self::in_bucket(Bucket::open(url, with)?, state),
        })
    }

    /// The same for the first requests to a bucket: missing credentials and a wrong address show soon.
    pub(crate) async fn open_first(
        out: &OutputLocation,
        with: &StoreOptions,
        state: &Path,
    ) -> Result<Self, OutputError> {
        Ok(match out {
            OutputLocation::Directory(path) => Self::new(path),
            OutputLocation::Bucket(url) => Self::in_bucket(Bucket::open_first(url, with).await?, state),
        })
    }

    fn in_bucket(bucket: Bucket, state: &Path) -> Self {
        let local = LocalStore { root: state.to_owned(), staging: state.join("staging") };
        Self { local: Arc::new(local), bucket: Some(bucket) }
    }

    /// The local directory where files are staged.
    pub(crate) fn staging(&self) -> PathBuf {
        self.local.staging.clone()
    }

    /// Makes what an output needs before anything is written to it.
    pub(crate) async fn create(&self) -> Result<(), OutputError> {
        match &self.bucket {
            None => self.on_disk(LocalStore::create).await,
            Some(_) => self.on_disk(LocalStore::create_staging).await,
        }
    }

    /// Proves that a directory takes files, as far as can be told before the ledger is open.
    pub(crate) async fn check_writable(&self) -> Result<(), OutputError> {
        match &self.bucket {
            None => self.on_disk(LocalStore::check_writable).await,
            Some(_) => Ok(()),
        }
    }

    /// Proves that a bucket takes objects, and keeps the conditions of their writes. `nonce`: letters that no other process uses.
    pub(crate) async fn probe(&self, nonce: &str, log: &dyn LeftoverLog) -> Result<(), OutputError> {
        match &self.bucket {
            None => Ok(()),
            Some(bucket) => Ok(bucket.probe(nonce, log).await?),
        }
    }

    pub(crate) fn is_in_bucket(&self) -> bool {
        self.bucket.is_some()
    }

    /// Gives staged files their durable names. Repeating it after a crash is harmless: a file that has its name keeps it, also
    /// where it is still staged, as in a copy of the directory or after a power loss.
    pub(crate) async fn publish(&self, files: Vec<FileEntry>, log: &Arc<dyn LeftoverLog>) -> Result<(), OutputError> {
        let Some(bucket) = &self.bucket else {
            let names: Vec<_> = files.into_iter().map(|file| (file.staged, file.path)).collect();
            return self.on_disk(move |local| local.publish(&names)).await;
        };
        let mut uploads = Vec::new();
        for file in files {
            let staged = self.local.staging.join(&file.staged);
            if staged.exists() {
                uploads.push(file);
                continue;
            }
            match bucket.head(&file.path).await?.filter(|found| found.bytes == Some(file.bytes)) {
                Some(found) => log.uploaded(&file.path, found.etag.as_deref())?,
                None => return Err(OutputError::StagedMissing { staged, name: file.path }),
            }
        }
        Ok(bucket.upload(&self.local.staging, uploads, log).await?)
    }

    /// Writes a small file, unless one of its name is there that may not be replaced. Readers see the old content or the new
    /// one, whole.
    pub(crate) async fn put_over(
        &self,
        name: String,
        content: Vec<u8>,
        may_replace: impl Fn(&[u8]) -> bool + Send + 'static,
    ) -> Result<Put, OutputError> {
        match &self.bucket {
            None => self.on_disk(move |local| local.put_over(&name, &content, may_replace)).await,
            Some(bucket) => Ok(bucket.put_over(&name, &content, may_replace).await?),
        }
    }

    /// Writes a small file, in place of an older one.
    pub(crate) async fn put(&self, name: &str, content: Vec<u8>) -> Result<(), OutputError> {
        let Some(bucket) = &self.bucket else {
            let name = name.to_owned();
            return self.on_disk(move |local| local.put(&name, &content)).await;
        };
        Ok(bucket.put(name, content).await?)
    }

    /// The same without the export's lock: another process may write the same file now.
    pub(crate) async fn put_at_once(&self, name: &str, content: Vec<u8>) -> Result<(), OutputError> {
        let Some(bucket) = &self.bucket else {
            let name = name.to_owned();
            return self.on_disk(move |local| local.put_at_once(&name, &content)).await;
        };
        Ok(bucket.put(name, content).await?)
    }

    /// Reads a small file; none if there is none.
    pub(crate) async fn get(&self, name: &str) -> Result<Option<Vec<u8>>, OutputError> {
        let Some(bucket) = &self.bucket else {
            let name = name.to_owned();
            return self.on_disk(move |local| local.get(&name)).await;
        };
        Ok(bucket.get(name).await?.map(Vec::from))
    }

    /// Removes files, durably. One that is not there is fine. Fails where one is behind a symbolic link.
    pub(crate) async fn remove(&self, names: Vec<String>) -> Result<(), OutputError> {
        match &self.bucket {
            None => self.on_disk(move |local| local.remove(&names)).await,
            Some(bucket) => Ok(bucket.remove(&names).await?),
        }
    }

    /// Removes the directories of rows and rejects that are empty. A bucket has none.
    pub(crate) async fn remove_empty_directories(&self) -> Result<(), OutputError> {
        match &self.bucket {
            None => self.on_disk(LocalStore::remove_empty_directories).await,
            Some(_) => Ok(()),
        }
    }

    /// Removes staged files. It is not made durable: a file that comes back is removed again.
    pub(crate) async fn remove_staged(
        &self,
        is_leftover: impl Fn(&str) -> bool + Send + 'static,
    ) -> Result<(), OutputError> {
        self.on_disk(move |local| local.remove_staged(is_leftover)).await
    }

    /// Removes what an earlier run may have left in a bucket. A directory has nothing of the kind.
    pub(crate) async fn remove_leftover(&self, name: &str, upload: Option<&str>) -> Result<(), OutputError> {
        match &self.bucket {
            None => Ok(()),
            Some(bucket) => Ok(bucket.remove_leftover(name, upload).await?),
        }
    }

    /// Names of the files directly under a directory, ascending.
    pub(crate) async fn list(&self, directory: &'static str) -> Result<Vec<String>, OutputError> {
        match &self.bucket {
            None => self.on_disk(move |local| local.list(directory)).await,
            Some(bucket) => Ok(bucket.list(directory).await?),
        }
    }

    /// Names of the directories directly in the output, ascending.
    pub(crate) async fn directories(&self) -> Result<Vec<String>, OutputError> {
        match &self.bucket {
            None => self.on_disk(LocalStore::directories).await,
            Some(bucket) => Ok(bucket.directories().await?),
        }
    }

    /// The files in the directories of rows, `COLUMN=VALUE` for whatever column, and of rejects. What is not a plain file is
    /// named too: only our files belong there. Links are not followed. A bucket's listing may be old: [`Store::find`] what it
    /// lacks.
    pub(crate) async fn data_files(&self) -> Result<BTreeMap<String, Stored>, OutputError> {
        match &self.bucket {
            None => self.on_disk(LocalStore::data_files).await,
            Some(bucket) => Ok(bucket.data_files().await?),
        }
    }

    /// The first file that [`data_files`](Self::data_files) would have.
    pub(crate) async fn first_data_file(&self) -> Result<Option<String>, OutputError> {
        match &self.bucket {
            None => Ok(self.data_files().await?.into_keys().next()),
            Some(bucket) => Ok(bucket.first_data_file().await?),
        }
    }

    /// A plain file in a plain directory; none if there is nothing of this name, or something else.
    pub(crate) async fn find(&self, name: &str) -> Result<Option<Stored>, OutputError> {
        let Some(bucket) = &self.bucket else {
            let name = name.to_owned();
            return self.on_disk(move |local| local.find(&name)).await;
        };
        Ok(bucket.head(name).await?)
    }

    /// A file's content, to be read at any place; none if there is none. An object's is copied to a file without a name.
    pub(crate) async fn read(&self, name: &str) -> Result<Option<File>, OutputError> {
        let Some(bucket) = &self.bucket else {
            let name = name.to_owned();
            return self.on_disk(move |local| local.open(&name)).await;
        };
        let mut copy = tempfile::tempfile_in(&self.local.root).doing("make a temporary file in", &self.local.root)?;
        Ok(bucket.download(name, &mut copy).await?.then_some(copy))
    }

    /// The content of a staged file; none if there is none.
    pub(crate) async fn read_staged(&self, staged: &str) -> Result<Option<File>, OutputError> {
        let staged = staged.to_owned();
        self.on_disk(move |local| local.open_staged(&staged)).await
    }

    /// The output's root, for a table that is there.
    #[cfg(feature = "delta")]
    pub(crate) fn root(&self) -> StoreRoot {
        match &self.bucket {
            None => StoreRoot::Directory(self.local.root.clone()),
            Some(bucket) => {
                let (objects, prefix, url) = bucket.root();
                StoreRoot::Bucket(objects, prefix, url.to_owned())
            }
        }
    }

    async fn on_disk<T: Send + 'static, E: Send + 'static>(
        &self,
        work: impl FnOnce(&LocalStore) -> Result<T, E> + Send + 'static,
    ) -> Result<T, OutputError>
    where
        OutputError: From<E>,
    {
        let local = Arc::clone(&self.local);
        Ok(tokio::task::spawn_blocking(move || work(&local)).await??)
    }
}

/// The root of an output.
#[cfg(feature = "delta")]
#[derive(Debug)]
pub(crate) enum StoreRoot {
    Directory(PathBuf),
    /// The store, the prefix in it, and the URL of both.
    Bucket(Arc<dyn object_store::ObjectStore>, object_store::path::Path, String),
}
