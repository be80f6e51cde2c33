//! Where the output lies: finished files get their names here, and manifests are read and made.
//!
//! Reading goes through `object_store`, so that it is the same for a folder and for a bucket. Names are given by renaming
//! staged files, through `disk`; a name is never given twice, and nothing is written through a symbolic link.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::disk::{Disk, DiskError, Doing};

/// The output could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The store failed.
    #[error("{action} {name}")]
    Object {
        /// What was being done.
        action: &'static str,
        /// To which object.
        name: String,
        /// What the store said.
        #[source]
        source: object_store::Error,
    },
    /// A staged file is gone and its name is free: somebody else's hand.
    #[error("staged file {} is missing and {name} is not there either", staged.display())]
    Missing {
        /// Where it was staged.
        staged: PathBuf,
        /// The name it should get.
        name: String,
    },
}

/// A place for output.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
    disk: Disk,
    objects: Arc<dyn ObjectStore>,
}

impl Store {
    /// The store in a folder, which must exist.
    pub fn open(root: &Path, disk: Disk) -> Result<Self, StoreError> {
        let objects = LocalFileSystem::new_with_prefix(root).map_err(|source| {
            let name = root.display().to_string();
            StoreError::Object { action: "open", name, source }
        })?;
        Ok(Self { root: root.to_owned(), disk, objects: Arc::new(objects) })
    }

    /// Gives staged files their names and makes the names durable. Repeating it after a crash is harmless: a file that has
    /// its name already keeps it.
    pub fn publish(&self, files: &[(PathBuf, String)]) -> Result<(), StoreError> {
        let mut folders = BTreeSet::from([self.root.clone()]);
        for (staged, name) in files {
            let target = self.root.join(name);
            let folder = target.parent().unwrap_or(&self.root).to_owned();
            self.disk.make_folder(&folder)?;
            refuse_symlink(&folder)?;
            match (staged.exists(), target.exists()) {
                (true, false) => self.disk.rename(staged, &target)?,
                (false, true) => {}
                (true, true) => return Err(std::io::ErrorKind::AlreadyExists.into()).doing("rename to", &target)?,
                (false, false) => return Err(StoreError::Missing { staged: staged.clone(), name: name.clone() }),
            }
            folders.insert(folder);
        }
        for folder in &folders {
            self.disk.sync_folder(folder)?;
        }
        Ok(())
    }

    /// Writes a small object, unless there is one of this name. The export's lock is what makes the look and the write one.
    pub fn put_new(&self, name: &str, content: &[u8]) -> Result<bool, StoreError> {
        let path = self.root.join(name);
        if path.exists() {
            return Ok(false);
        }
        if let Some(folder) = path.parent() {
            self.disk.make_folder(folder)?;
            refuse_symlink(folder)?;
        }
        self.disk.replace(&path, content)?;
        Ok(true)
    }

    /// Writes a small object in place of an older one.
    pub fn put(&self, name: &str, content: &[u8]) -> Result<(), StoreError> {
        Ok(self.disk.replace(&self.root.join(name), content)?)
    }

    /// Removes an object, durably; one that is not there is fine.
    pub fn remove(&self, name: &str) -> Result<(), StoreError> {
        let path = self.root.join(name);
        if path.exists() {
            self.disk.remove(&path)?;
            self.disk.sync_folder(&self.root)?;
        }
        Ok(())
    }

    /// Reads a small object; none if there is none.
    pub async fn get(&self, name: &str) -> Result<Option<Bytes>, StoreError> {
        let failed = |source| StoreError::Object { action: "read", name: name.to_owned(), source };
        match self.objects.get(&ObjectPath::from(name)).await {
            Ok(found) => found.bytes().await.map(Some).map_err(failed),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// Names of the objects directly under a folder, ascending.
    pub async fn list(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        let failed = |source| StoreError::Object { action: "list", name: folder.to_owned(), source };
        let listing = self.objects.list_with_delimiter(Some(&ObjectPath::from(folder))).await.map_err(failed)?;
        let mut names: Vec<String> = listing.objects.into_iter().map(|object| object.location.to_string()).collect();
        names.sort();
        Ok(names)
    }
}

fn refuse_symlink(folder: &Path) -> Result<(), DiskError> {
    let is_link = std::fs::symlink_metadata(folder).doing("look at", folder)?.is_symlink();
    if is_link {
        let why = "it is a symbolic link, and output is never written through one";
        return Err(std::io::Error::other(why)).doing("write into", folder);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Store, StoreError};
    use crate::disk::Disk;
    use std::io::Write;

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), Disk).unwrap();
        (folder, store)
    }

    #[test]
    fn publishing_twice_is_the_same_as_once_and_never_replaces_a_file() {
        let (folder, store) = store();
        let staged = folder.path().join("staged");
        Disk.create(&staged).unwrap().write_all(b"x").unwrap();
        let files = [(staged.clone(), "region=ID/a.parquet".to_owned())];
        store.publish(&files).unwrap();
        store.publish(&files).unwrap();
        Disk.create(&staged).unwrap();
        assert!(store.publish(&files).is_err());
        let lost = [(staged.with_file_name("other"), "region=ID/b.parquet".to_owned())];
        assert!(matches!(store.publish(&lost), Err(StoreError::Missing { .. })));
    }

    #[tokio::test]
    async fn a_manifest_is_made_once_and_read_back() {
        let (_folder, store) = store();
        assert!(store.put_new("_pagehaul/segments/000001.json", b"first").unwrap());
        assert!(!store.put_new("_pagehaul/segments/000001.json", b"second").unwrap());
        assert_eq!(store.get("_pagehaul/segments/000001.json").await.unwrap().unwrap(), "first");
        assert_eq!(store.get("_pagehaul/segments/000002.json").await.unwrap(), None);
        assert_eq!(store.list("_pagehaul/segments").await.unwrap(), ["_pagehaul/segments/000001.json"]);
        store.remove("_pagehaul/segments/000001.json").unwrap();
        assert!(store.list("_pagehaul/segments").await.unwrap().is_empty());
    }

    #[cfg(unix)]
    #[test]
    fn nothing_is_written_through_a_symbolic_link() {
        let (folder, store) = store();
        let elsewhere = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), folder.path().join("region=ID")).unwrap();
        let staged = folder.path().join("staged");
        Disk.create(&staged).unwrap();
        assert!(store.publish(&[(staged, "region=ID/a.parquet".to_owned())]).is_err());
        assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    }
}
