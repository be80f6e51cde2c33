//! Where the output lies: finished files get their names here, and manifests are read and made.
//!
//! Reading goes through `object_store`, so that it is the same for a directory and for a bucket. Names are given by renaming
//! staged files, through `disk`; a name is never given twice, and nothing is written through a symbolic link.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt};
use sha2::{Digest, Sha256};

use crate::endpoint::hex;
use crate::state::disk::{Access, Disk, DiskError, Doing};

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
    /// A staged file's name is another file's.
    #[error("{name} is there already, with another content than the staged file's")]
    Taken {
        /// The name it should get.
        name: String,
    },
}

impl StoreError {
    /// Whether staged files can never get their names: they are not all there, or their names cannot be given.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Missing { .. } | Self::Taken { .. } => true,
            Self::Disk(error) => error.source.kind() == io::ErrorKind::InvalidFilename,
            Self::Object { .. } => false,
        }
    }
}

/// Directory of the rejects in an output.
pub const REJECTS: &str = "_rejects";

/// Who may read an object: rejects are rows as they came, with the columns that were to be left out; all else is output.
pub fn access(name: &str) -> Access {
    if Path::new(name).starts_with(REJECTS) { Access::Private } else { Access::Shared }
}

/// What became of an object that should be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// There was none of its name, or the same one already.
    Made,
    /// It took the place of another one.
    Replaced,
    /// The one that is there stays.
    Refused,
}

/// A place for output.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
    disk: Disk,
    objects: Arc<dyn ObjectStore>,
}

impl Store {
    /// The store in a directory, which must exist.
    pub fn open(root: &Path, disk: Disk) -> Result<Self, StoreError> {
        let objects = LocalFileSystem::new_with_prefix(root).map_err(|source| {
            let name = root.display().to_string();
            StoreError::Object { action: "open", name, source }
        })?;
        Ok(Self { root: root.to_owned(), disk, objects: Arc::new(objects) })
    }

    /// Gives staged files their names and makes the names durable. Repeating it after a crash is harmless: a file that has
    /// its name already keeps it, also where it is still staged too, as in a copy of the directory or after a power loss.
    pub fn publish(&self, files: &[(PathBuf, String)]) -> Result<(), StoreError> {
        let mut directories = BTreeSet::from([self.root.clone()]);
        for (staged, name) in files {
            let target = self.root.join(name);
            let below = Path::new(name).parent().unwrap_or(Path::new(""));
            let directory = self.disk.make_directory_below(&self.root, below, access(name))?;
            match (staged.exists(), target.exists()) {
                (true, false) => self.disk.rename(staged, &target)?,
                (false, true) => {}
                (true, true) if sha256(staged)? == sha256(&target)? => self.disk.remove(staged)?,
                (true, true) => return Err(StoreError::Taken { name: name.clone() }),
                (false, false) => return Err(StoreError::Missing { staged: staged.clone(), name: name.clone() }),
            }
            directories.insert(directory);
        }
        for directory in &directories {
            self.disk.sync_directory(directory)?;
        }
        Ok(())
    }

    /// Writes a small object, unless there is one of this name that may not be replaced. Readers see the old content or the
    /// new one, whole. The export's lock is what makes the look and the write one.
    pub fn put_over(
        &self,
        name: &str,
        content: &[u8],
        may_replace: impl FnOnce(&[u8]) -> bool,
    ) -> Result<Put, StoreError> {
        let path = self.root.join(name);
        let put = match fs::read(&path) {
            Ok(found) if found == content => return Ok(Put::Made),
            Ok(found) if may_replace(&found) => Put::Replaced,
            Ok(_) => return Ok(Put::Refused),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Put::Made,
            Err(error) => return Err(error).doing("read", &path)?,
        };
        if let Some(below) = Path::new(name).parent() {
            self.disk.make_directory_below(&self.root, below, access(name))?;
        }
        self.disk.replace(&path, content, access(name))?;
        Ok(put)
    }

    /// Writes a small object in place of an older one.
    pub fn put(&self, name: &str, content: &[u8]) -> Result<(), StoreError> {
        Ok(self.disk.replace(&self.root.join(name), content, access(name))?)
    }

    /// Removes an object, durably; one that is not there is fine.
    pub fn remove(&self, name: &str) -> Result<(), StoreError> {
        let path = self.root.join(name);
        if path.exists() {
            self.disk.remove(&path)?;
            self.disk.sync_directory(&self.root)?;
        }
        Ok(())
    }

    /// Names of the files in the directories of rows, `COLUMN=VALUE` for whatever column, and of rejects, ascending. What is no
    /// plain file is named too: nothing but files of ours belongs there. Links are not followed.
    pub fn data_files(&self) -> Result<Vec<String>, StoreError> {
        let mut names = Vec::new();
        for (directory, kind) in entries(&self.root)? {
            if directory != REJECTS && !directory.contains('=') {
                continue;
            }
            if !kind.is_dir() {
                names.push(directory);
                continue;
            }
            let found = entries(&self.root.join(&directory))?;
            names.extend(found.into_iter().map(|(file, _)| format!("{directory}/{file}")));
        }
        names.sort();
        Ok(names)
    }

    /// Removes files and makes it durable that they are gone.
    pub fn remove_all(&self, names: &[String]) -> Result<(), StoreError> {
        let mut directories = BTreeSet::new();
        for name in names {
            let path = self.root.join(name);
            self.disk.remove(&path)?;
            directories.extend(path.parent().map(Path::to_owned));
        }
        for directory in &directories {
            self.disk.sync_directory(directory)?;
        }
        Ok(())
    }

    /// Length of a plain file in a plain directory; none if there is nothing of this name, or something else.
    pub fn length(&self, name: &str) -> Result<Option<u64>, StoreError> {
        let path = self.root.join(name);
        let directory = path.parent().unwrap_or(&self.root);
        if fs::symlink_metadata(directory).is_ok_and(|directory| directory.is_symlink()) && *directory != self.root {
            return Ok(None);
        }
        match fs::symlink_metadata(&path) {
            Ok(found) => Ok(found.is_file().then_some(found.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).doing("look at", &path)?,
        }
    }

    /// SHA-256 of a file's content, hexadecimal.
    pub fn sha256(&self, name: &str) -> Result<String, StoreError> {
        Ok(sha256(&self.root.join(name))?)
    }

    /// Opens a file for reading at any place.
    pub fn open_file(&self, name: &str) -> Result<File, StoreError> {
        let path = self.root.join(name);
        Ok(File::open(&path).doing("open", &path)?)
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

    /// Names of the objects directly under a directory, ascending.
    pub async fn list(&self, directory: &str) -> Result<Vec<String>, StoreError> {
        let failed = |source| StoreError::Object { action: "list", name: directory.to_owned(), source };
        let listing = self.objects.list_with_delimiter(Some(&ObjectPath::from(directory))).await.map_err(failed)?;
        let mut names: Vec<String> = listing.objects.into_iter().map(|object| object.location.to_string()).collect();
        names.sort();
        Ok(names)
    }
}

fn sha256(path: &Path) -> Result<String, DiskError> {
    let mut file = File::open(path).doing("open", path)?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hex(&hash.finalize())),
            Ok(read) => hash.update(buffer.get(..read).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error).doing("read", path),
        }
    }
}

/// What is directly in a directory: names and kinds.
fn entries(directory: &Path) -> Result<Vec<(String, fs::FileType)>, DiskError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).doing("list", directory)? {
        let entry = entry.doing("list", directory)?;
        found.push((entry.file_name().to_string_lossy().into_owned(), entry.file_type().doing("list", directory)?));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::{Put, Store, StoreError};
    use crate::state::disk::{Access, Disk};
    use std::io::Write;

    fn store() -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), Disk).unwrap();
        (directory, store)
    }

    #[test]
    fn publishing_twice_is_the_same_as_once_and_never_replaces_a_file() {
        let (directory, store) = store();
        let staged = directory.path().join("staged");
        Disk.create(&staged, Access::Shared).unwrap().write_all(b"x").unwrap();
        let files = [(staged.clone(), "region=ID/a.parquet".to_owned())];
        store.publish(&files).unwrap();
        store.publish(&files).unwrap();
        // Staged and there as well, as in a directory that was put back from a copy: the same file is one.
        Disk.create(&staged, Access::Shared).unwrap().write_all(b"x").unwrap();
        store.publish(&files).unwrap();
        assert!(!staged.exists());
        Disk.create(&staged, Access::Shared).unwrap();
        let refused = store.publish(&files).unwrap_err();
        assert!(matches!(refused, StoreError::Taken { .. }) && refused.is_final());
        let lost = [(staged.with_file_name("other"), "region=ID/b.parquet".to_owned())];
        let refused = store.publish(&lost).unwrap_err();
        assert!(matches!(refused, StoreError::Missing { .. }) && refused.is_final());
        let no_name = [(staged, format!("{}/a.parquet", "r".repeat(300)))];
        assert!(store.publish(&no_name).unwrap_err().is_final());
    }

    #[tokio::test]
    async fn a_manifest_is_made_once_replaced_only_where_it_may_be_and_read_back() {
        let (_directory, store) = store();
        let put = |content: &[u8], may_replace| {
            store.put_over("_pagehaul/segments/000001.json", content, |_| may_replace).unwrap()
        };
        assert_eq!((put(b"first", false), put(b"first", false)), (Put::Made, Put::Made));
        assert_eq!(put(b"second", false), Put::Refused);
        assert_eq!(store.get("_pagehaul/segments/000001.json").await.unwrap().unwrap(), "first");
        assert_eq!(put(b"third", true), Put::Replaced);
        assert_eq!(store.get("_pagehaul/segments/000001.json").await.unwrap().unwrap(), "third");
        assert_eq!(store.get("_pagehaul/segments/000002.json").await.unwrap(), None);
        assert_eq!(store.list("_pagehaul/segments").await.unwrap(), ["_pagehaul/segments/000001.json"]);
        store.remove("_pagehaul/segments/000001.json").unwrap();
        assert!(store.list("_pagehaul/segments").await.unwrap().is_empty());
    }

    #[cfg(unix)]
    #[test]
    fn the_directories_of_rows_are_listed_with_whatever_is_in_them_and_no_other_directory_is() {
        let (directory, store) = store();
        for name in ["region=ID/a.parquet", "region=ID/deep/x", "_rejects/r", "ratio=x/y", "other/z"] {
            let path = directory.path().join(name);
            Disk.make_directory(path.parent().unwrap(), Access::Shared).unwrap();
            Disk.create(&path, Access::Shared).unwrap();
        }
        std::os::unix::fs::symlink("/", directory.path().join("region=TH")).unwrap();
        let listed = store.data_files().unwrap();
        assert_eq!(listed, ["_rejects/r", "ratio=x/y", "region=ID/a.parquet", "region=ID/deep", "region=TH"]);
        assert_eq!((store.length("region=ID/deep").unwrap(), store.length("_rejects/r").unwrap()), (None, Some(0)));
        assert!(store.sha256("_rejects/r").unwrap().starts_with("e3b0c442"));
        store.remove_all(&["_rejects/r".to_owned()]).unwrap();
        assert_eq!(store.length("_rejects/r").unwrap(), None);
    }

    #[cfg(unix)]
    #[test]
    fn l24_nothing_is_written_through_a_symbolic_link() {
        let (directory, store) = store();
        let elsewhere = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), directory.path().join("region=ID")).unwrap();
        let staged = directory.path().join("staged");
        Disk.create(&staged, Access::Shared).unwrap();
        assert!(store.publish(&[(staged, "region=ID/a.parquet".to_owned())]).is_err());
        assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    }
}
