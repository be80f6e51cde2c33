//! The output in a local directory. Every call blocks.
//!
//! Files get their names by renaming staged ones, through [`Disk`], which owns the order of syncs. A name is never given
//! twice, and nothing is written through a symbolic link.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::output::error::OutputError;
use crate::output::names::{MANIFESTS, STAGING, access, has_data};
use crate::output::stored::{Put, Stored, content_hash};
use crate::state::disk::{Access, Disk, DiskError, Doing};

#[derive(Debug)]
pub(super) struct LocalStore {
    pub(super) root: PathBuf,
    /// Where files are staged. It is on the disk of the root, so that they can be renamed.
    pub(super) staging: PathBuf,
}

impl LocalStore {
    /// Makes the directories of an output. The root may be a symbolic link, nothing below it may.
    pub(super) fn create(&self) -> Result<(), DiskError> {
        Disk.make_directory(&self.root, Access::Shared)?;
        // Others may read the manifests, so they may enter `_pagehaul`. What is private in it has a private mode.
        Disk.make_directory_below(&self.root, Path::new(MANIFESTS), Access::Shared)?;
        Disk.make_directory_below(&self.root, Path::new(STAGING), Access::Private)?;
        // A process that made one of them may have been killed before its name was durable.
        Disk.sync_directory(&self.root)?;
        Disk.sync_directory(&self.root.join("_pagehaul"))
    }

    /// Makes the staging directory of an output that is in a bucket.
    pub(super) fn create_staging(&self) -> Result<(), DiskError> {
        Disk.make_directory(&self.staging, Access::Private).map(drop)
    }

    pub(super) fn check_writable(&self) -> Result<(), DiskError> {
        Disk.check_writable(&self.root)?;
        Disk.check_writable(&self.staging)
    }

    pub(super) fn publish(&self, files: &[(String, String)]) -> Result<(), OutputError> {
        let mut directories = BTreeSet::from([self.root.clone()]);
        for (staged, name) in files {
            let (source, target) = (self.staging.join(staged), self.root.join(name));
            let below = Path::new(name).parent().unwrap_or(Path::new(""));
            let directory = Disk.make_directory_below(&self.root, below, access(name))?;
            match (source.exists(), target.exists()) {
                (true, false) => Disk.rename(&source, &target)?,
                (false, true) => {}
                (true, true) if sha256(&source)? == sha256(&target)? => Disk.remove(&source)?,
                (true, true) => return Err(OutputError::NameTaken { name: name.clone() }),
                (false, false) => return Err(OutputError::StagedMissing { staged: source, name: name.clone() }),
            }
            directories.insert(directory);
        }
        Ok(directories.iter().try_for_each(|directory| Disk.sync_directory(directory))?)
    }

    /// The export's lock is what makes the reading and the writing one step.
    pub(super) fn put_over(
        &self,
        name: &str,
        content: &[u8],
        may_replace: impl FnOnce(&[u8]) -> bool,
    ) -> Result<Put, DiskError> {
        let put = match self.get(name)? {
            Some(found) if found == content => return Ok(Put::Created),
            Some(found) if may_replace(&found) => Put::Replaced,
            Some(_) => return Ok(Put::Refused),
            None => Put::Created,
        };
        if let Some(below) = Path::new(name).parent() {
            Disk.make_directory_below(&self.root, below, access(name))?;
        }
        self.put(name, content)?;
        Ok(put)
    }

    pub(super) fn put(&self, name: &str, content: &[u8]) -> Result<(), DiskError> {
        Disk.replace(&self.root.join(name), content, access(name))
    }

    pub(super) fn put_at_once(&self, name: &str, content: &[u8]) -> Result<(), DiskError> {
        Disk.replace_at_once(&self.root.join(name), content, access(name))
    }

    pub(super) fn get(&self, name: &str) -> Result<Option<Vec<u8>>, DiskError> {
        let path = self.root.join(name);
        match fs::read(&path) {
            Ok(content) => Ok(Some(content)),
            Err(error) if is_absence(&error) || error.kind() == io::ErrorKind::IsADirectory => Ok(None),
            Err(error) => Err(error).doing("read", &path),
        }
    }

    pub(super) fn remove(&self, names: &[String]) -> Result<(), DiskError> {
        let mut directories = BTreeSet::new();
        for path in names.iter().map(|name| self.root.join(name)) {
            if fs::symlink_metadata(&path).is_ok() {
                self.refuse_links_above(&path).doing("remove", &path)?;
                Disk.remove(&path)?;
                directories.extend(path.parent().map(Path::to_owned));
            }
        }
        directories.iter().try_for_each(|directory| Disk.sync_directory(directory))
    }

    /// Fails where a directory between the output and a file in it is a symbolic link.
    fn refuse_links_above(&self, path: &Path) -> io::Result<()> {
        let mut between = path.ancestors().skip(1).take_while(|directory| *directory != self.root);
        if between.any(Path::is_symlink) {
            return Err(io::Error::other("its directory is a symbolic link, and nothing is removed through one"));
        }
        Ok(())
    }

    /// Removes the directories of rows and rejects that are empty.
    pub(super) fn remove_empty_directories(&self) -> Result<(), DiskError> {
        let mut names = self.directories()?.into_iter().filter(|name| has_data(name));
        names.try_for_each(|name| Disk.remove_empty_directory(&self.root.join(name)))
    }

    pub(super) fn remove_staged(&self, is_leftover: impl Fn(&str) -> bool) -> Result<(), DiskError> {
        let staging = &self.staging;
        let mut names = entries(staging)?.into_iter().map(|(name, _)| name).filter(|name| is_leftover(name));
        names.try_for_each(|name| Disk.remove(&staging.join(name)))
    }

    pub(super) fn list(&self, directory: &str) -> Result<Vec<String>, DiskError> {
        let mut found = entries(&self.root.join(directory))?;
        found.retain(|(_, kind)| !kind.is_dir());
        let mut names: Vec<String> = found.into_iter().map(|(name, _)| format!("{directory}/{name}")).collect();
        names.sort();
        Ok(names)
    }

    /// Names of the directories directly in it, ascending.
    pub(super) fn directories(&self) -> Result<Vec<String>, DiskError> {
        let mut found = entries(&self.root)?;
        found.retain(|(_, kind)| kind.is_dir());
        let mut names: Vec<String> = found.into_iter().map(|(name, _)| name).collect();
        names.sort();
        Ok(names)
    }

    pub(super) fn data_files(&self) -> Result<BTreeMap<String, Stored>, DiskError> {
        let mut names = Vec::new();
        for (directory, kind) in entries(&self.root)? {
            if !has_data(&directory) {
                continue;
            }
            if !kind.is_dir() {
                names.push(directory);
                continue;
            }
            let found = entries(&self.root.join(&directory))?;
            names.extend(found.into_iter().map(|(file, _)| format!("{directory}/{file}")));
        }
        let stored = |name: String| {
            let bytes = self.find(&name)?.and_then(|found| found.bytes);
            Ok((name, Stored { bytes, etag: None }))
        };
        names.into_iter().map(stored).collect()
    }

    pub(super) fn find(&self, name: &str) -> Result<Option<Stored>, DiskError> {
        let path = self.root.join(name);
        let directory = path.parent().unwrap_or(&self.root);
        if fs::symlink_metadata(directory).is_ok_and(|directory| directory.is_symlink()) && *directory != self.root {
            return Ok(None);
        }
        match fs::symlink_metadata(&path) {
            Ok(found) => Ok(found.is_file().then_some(Stored { bytes: Some(found.len()), etag: None })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).doing("inspect", &path),
        }
    }

    pub(super) fn open(&self, name: &str) -> Result<Option<File>, DiskError> {
        open(&self.root.join(name))
    }

    pub(super) fn open_staged(&self, name: &str) -> Result<Option<File>, DiskError> {
        open(&self.staging.join(name))
    }
}

fn open(path: &Path) -> Result<Option<File>, DiskError> {
    match File::open(path) {
        Err(error) if is_absence(&error) => Ok(None),
        opened => opened.map(Some).doing("open", path),
    }
}

fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn sha256(path: &Path) -> Result<String, DiskError> {
    let content = File::open(path).and_then(content_hash);
    content.doing("read", path)
}

/// Names and kinds of what is directly in a directory; nothing where there is none.
fn entries(directory: &Path) -> Result<Vec<(String, fs::FileType)>, DiskError> {
    let listed = match fs::read_dir(directory) {
        Err(error) if is_absence(&error) => return Ok(Vec::new()),
        listed => listed.doing("list", directory)?,
    };
    let named = |entry: io::Result<fs::DirEntry>| {
        let entry = entry?;
        Ok((entry.file_name().to_string_lossy().into_owned(), entry.file_type()?))
    };
    listed.map(named).collect::<io::Result<_>>().doing("list", directory)
}

#[cfg(test)]
mod tests {
    use super::{LocalStore, Put};
    use crate::output::error::OutputError;
    use crate::output::names::STAGING;
    use crate::state::disk::{Access, Disk};
    use std::io::Write;

    fn store() -> (tempfile::TempDir, LocalStore) {
        let directory = tempfile::tempdir().unwrap();
        let store = LocalStore { root: directory.path().to_owned(), staging: directory.path().join(STAGING) };
        store.create().unwrap();
        (directory, store)
    }

    #[test]
    fn publishing_twice_is_the_same_as_once_and_never_replaces_a_file() {
        let (directory, store) = store();
        let staged = directory.path().join("_pagehaul/staging/a");
        let named = |staged: &str, name: &str| [(staged.to_owned(), name.to_owned())];
        Disk.create(&staged, Access::Shared).unwrap().write_all(b"x").unwrap();
        let files = named("a", "region=ID/a.parquet");
        store.publish(&files).unwrap();
        store.publish(&files).unwrap();
        // Staged and there as well, as in a directory that was put back from a copy: the same file is one.
        Disk.create(&staged, Access::Shared).unwrap().write_all(b"x").unwrap();
        store.publish(&files).unwrap();
        assert!(!staged.exists());
        Disk.create(&staged, Access::Shared).unwrap();
        let refused = store.publish(&files).unwrap_err();
        assert!(matches!(refused, OutputError::NameTaken { .. }) && refused.needs_rebuild());
        let refused = store.publish(&named("other", "region=ID/b.parquet")).unwrap_err();
        assert!(matches!(refused, OutputError::StagedMissing { .. }) && refused.needs_rebuild());
        let refused = store.publish(&named("a", &format!("{}/a.parquet", "r".repeat(300)))).unwrap_err();
        assert!(refused.needs_rebuild());
    }

    #[test]
    fn a_manifest_is_made_once_replaced_only_where_it_may_be_and_read_back() {
        let (_directory, store) = store();
        let put = |content: &[u8], may_replace| {
            store.put_over("_pagehaul/segments/000001.json", content, |_| may_replace).unwrap()
        };
        assert_eq!((put(b"first", false), put(b"first", false)), (Put::Created, Put::Created));
        assert_eq!(put(b"second", false), Put::Refused);
        assert_eq!(store.get("_pagehaul/segments/000001.json").unwrap().unwrap(), b"first");
        assert_eq!(put(b"third", true), Put::Replaced);
        assert_eq!(store.get("_pagehaul/segments/000001.json").unwrap().unwrap(), b"third");
        assert_eq!(store.get("_pagehaul/segments/000002.json").unwrap(), None);
        assert_eq!(store.list("_pagehaul/segments").unwrap(), ["_pagehaul/segments/000001.json"]);
        store.remove(&["_pagehaul/segments/000001.json".to_owned()]).unwrap();
        assert!(store.list("_pagehaul/segments").unwrap().is_empty());
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
        let lengths: Vec<_> = listed.iter().map(|(name, stored)| (name.as_str(), stored.bytes)).collect();
        let plain = ["_rejects/r", "ratio=x/y", "region=ID/a.parquet"].map(|name| (name, Some(0)));
        assert_eq!(lengths, [&plain[..], &[("region=ID/deep", None), ("region=TH", None)]].concat());
        assert_eq!(store.find("region=ID/deep").unwrap(), None);
        assert_eq!(store.find("_rejects/r").unwrap().unwrap().bytes, Some(0));
        store.remove(&["_rejects/r".to_owned()]).unwrap();
        assert!(store.find("_rejects/r").unwrap().is_none() && store.open("_rejects/r").unwrap().is_none());
    }

    #[cfg(unix)]
    #[test]
    fn l24_nothing_is_written_through_a_symbolic_link() {
        let (directory, store) = store();
        let elsewhere = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), directory.path().join("region=ID")).unwrap();
        Disk.create(&directory.path().join("_pagehaul/staging/a"), Access::Shared).unwrap();
        assert!(store.publish(&[("a".to_owned(), "region=ID/a.parquet".to_owned())]).is_err());
        assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    }

    #[cfg(unix)]
    #[test]
    fn nothing_is_removed_through_a_symbolic_link_and_only_empty_directories_of_rows_go() {
        let (directory, store) = store();
        let elsewhere = tempfile::tempdir().unwrap();
        let name = "x.parquet";
        Disk.create(&elsewhere.path().join(name), Access::Shared).unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), directory.path().join("region=ID")).unwrap();
        let refused = store.remove(&[format!("region=ID/{name}")]).unwrap_err();
        assert!(refused.source.to_string().contains("symbolic link"), "{refused}");
        for name in ["region=TH", "region=US", "other"] {
            Disk.make_directory(&directory.path().join(name), Access::Shared).unwrap();
        }
        Disk.create(&directory.path().join("region=US").join(name), Access::Shared).unwrap();
        store.remove_empty_directories().unwrap();
        assert!(elsewhere.path().join(name).exists());
        let left = ["_pagehaul", "other", "region=US"];
        assert_eq!(store.directories().unwrap(), left);
        assert!(directory.path().join("region=ID").is_symlink());
    }
}
