//! Every durable write of the program, except SQLite's.
//!
//! A file is whole and fsynced before it gets its name, and its directory is fsynced after. State is private to its owner.
//! Nothing is written through a symbolic link. An fsync that fails is never repeated: the kernel may already have dropped the
//! bytes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::model::failpoint::failpoint;

#[derive(Debug, thiserror::Error)]
#[error("{action} {}", path.display())]
pub struct DiskError {
    /// A verb.
    pub action: &'static str,
    pub path: PathBuf,
    #[source]
    pub source: io::Error,
}

pub(crate) trait Doing<T> {
    fn doing(self, action: &'static str, path: &Path) -> Result<T, DiskError>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, action: &'static str, path: &Path) -> Result<T, DiskError> {
        self.map_err(|source| DiskError { action, path: path.to_owned(), source })
    }
}

/// Does one durable operation, between two failpoints.
fn durably<T>(action: &'static str, path: &Path, work: impl FnOnce() -> io::Result<T>) -> Result<T, DiskError> {
    between_failpoints(action, path, work).doing(action, path)
}

fn between_failpoints<T>(action: &'static str, path: &Path, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    failpoint!(Before, action, path)?;
    let done = work()?;
    failpoint!(After, action, path)?;
    Ok(done)
}

/// Who may read a new file or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Its owner only, whatever the umask: state, raw responses, rejects.
    Private,
    /// As the umask says: output is for others to read.
    Shared,
}

impl Access {
    /// The modes of a file and of a directory.
    #[cfg(unix)]
    fn modes(self) -> (u32, u32) {
        match self {
            Self::Private => (0o600, 0o700),
            Self::Shared => (0o666, 0o777),
        }
    }

    /// Options that give a new file its mode, and open none through a symbolic link.
    #[cfg_attr(not(unix), expect(clippy::unused_self, reason = "only Unix has modes"))]
    pub(super) fn options(self) -> OpenOptions {
        let mut options = OpenOptions::new();
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt;
            options.mode(self.modes().0).custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed());
        }
        options
    }
}

/// The only way to write to the disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl Disk {
    /// Makes a directory and its parents, and fsyncs the parents of the new ones. An existing one keeps its mode.
    pub fn make_directory(self, path: &Path, access: Access) -> Result<(), DiskError> {
        if fs::symlink_metadata(path).is_ok() {
            let is_directory = if path.is_dir() { Ok(()) } else { Err(io::ErrorKind::NotADirectory.into()) };
            return is_directory.doing("make directory", path);
        }
        let parent = parent(path);
        if !parent.exists() {
            self.make_directory(parent, access)?;
        }
        let mut builder = fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, access.modes().1);
        match between_failpoints("make directory", path, || builder.create(path)) {
            Ok(()) => self.sync_directory(parent),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error).doing("make directory", path),
        }
    }

    /// Makes a directory below one that exists, and those between. None of them may be a symbolic link: what is written below
    /// an output stays below it.
    pub fn make_directory_below(self, root: &Path, below: &Path, access: Access) -> Result<PathBuf, DiskError> {
        let mut path = root.to_owned();
        for part in below {
            path.push(part);
            self.make_directory(&path, access)?;
            refuse_symlink(&path).doing("write into", &path)?;
        }
        Ok(path)
    }

    /// Makes the names of its files durable.
    pub fn sync_directory(self, path: &Path) -> Result<(), DiskError> {
        durably("sync directory", path, || File::open(path)?.sync_all())
    }

    /// Creates a file that counts and hashes what is written to it. An error if the file exists.
    pub fn create(self, path: &Path, access: Access) -> Result<NewFile, DiskError> {
        let file = durably("create", path, || open(path, access.options().write(true).create_new(true)))?;
        let file = TracedFile { file, path: path.to_owned() };
        Ok(NewFile { file: BufWriter::with_capacity(1 << 16, file), bytes: 0, hash: Sha256::new() })
    }

    /// Opens a file to append to that only this process reads, before it ends: not synced, not hashed. A new one must not exist:
    /// what an earlier process left is not part of it.
    pub fn append_scratch(self, path: &Path, is_new: bool) -> Result<impl Write + use<>, DiskError> {
        let mut options = Access::Private.options();
        let file = durably("create", path, || open(path, options.append(true).create_new(is_new)))?;
        Ok(TracedFile { file, path: path.to_owned() })
    }

    /// Creates an empty private file unless there is one: SQLite keeps the mode of a file that it opens.
    pub fn make_private_file(self, path: &Path) -> Result<(), DiskError> {
        let mut options = Access::Private.options();
        durably("open", path, || open(path, options.write(true).create(true).truncate(false))).map(drop)
    }

    /// Opens a private file to append to and truncates it to `len` bytes. Fsyncs its directory if the file is empty: it is new,
    /// or the process that created it was killed before it did.
    pub fn append(self, path: &Path, len: u64) -> Result<AppendFile, DiskError> {
        let mut options = Access::Private.options();
        let mut file =
            durably("open", path, || open(path, options.read(true).write(true).create(true).truncate(false)))?;
        let found = file.seek(SeekFrom::End(0)).doing("measure", path)?;
        if found > len {
            durably("truncate", path, || file.set_len(len))?;
            durably("sync", path, || file.sync_all())?;
            file.seek(SeekFrom::Start(len)).doing("seek in", path)?;
        }
        if found == 0 {
            self.sync_directory(parent(path))?;
        }
        Ok(AppendFile { file, path: path.to_owned(), len: found.min(len) })
    }

    /// Gives a synced file its final name. Neither directory is synced: see [`sync_directory`](Self::sync_directory).
    #[expect(clippy::disallowed_methods, reason = "this file is the seam that the rule points to")]
    pub fn rename(self, from: &Path, to: &Path) -> Result<(), DiskError> {
        durably("rename to", to, || fs::rename(from, to))
    }

    /// Replaces a small file atomically.
    pub fn replace(self, path: &Path, content: &[u8], access: Access) -> Result<(), DiskError> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        let temporary = path.with_file_name(name);
        self.remove(&temporary)?;
        let mut file = self.create(&temporary, access)?;
        file.write_all(content).doing("write", &temporary)?;
        file.finish()?;
        self.rename(&temporary, path)?;
        self.sync_directory(parent(path))
    }

    /// The same where several processes may replace the same file at once: each has a temporary name of its own.
    pub fn replace_at_once(self, path: &Path, content: &[u8], access: Access) -> Result<(), DiskError> {
        let (directory, options) = (parent(path), access.options());
        let create = |path: &Path| open(path, options.clone().write(true).create_new(true));
        let temporary = tempfile::Builder::new().prefix(".report").suffix(".new").make_in(directory, create);
        let mut temporary = temporary.doing("create a file in", directory)?;
        temporary.as_file_mut().write_all(content).doing("write", path)?;
        durably("sync", path, || temporary.as_file().sync_all())?;
        self.rename(temporary.path(), path)?;
        self.sync_directory(directory)
    }

    /// Writes into what exists and is not a regular file: a device, or a pipe. It may be named by a symbolic link.
    pub fn write_into(self, path: &Path, content: &[u8]) -> Result<(), DiskError> {
        let write = || OpenOptions::new().write(true).open(path)?.write_all(content);
        write().doing("write", path)
    }

    /// Removes a file if it exists. The directory is not synced: a file that comes back is removed again.
    #[expect(clippy::disallowed_methods, reason = "this file is the seam that the rule points to")]
    pub fn remove(self, path: &Path) -> Result<(), DiskError> {
        match between_failpoints("remove", path, || fs::remove_file(path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).doing("remove", path),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Removes a directory if it is empty, and a symbolic link never. It is not synced: an empty one that comes back does no harm.
    pub fn remove_empty_directory(self, path: &Path) -> Result<(), DiskError> {
        match between_failpoints("remove directory", path, || fs::remove_dir(path)) {
            Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => {
                Err(error).doing("remove directory", path)
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Checks that a directory is writable: creates, syncs, renames and removes a file.
    pub fn check_writable(self, directory: &Path) -> Result<(), DiskError> {
        let path = directory.join(".pagehaul-probe");
        self.replace(&path, b"probe", Access::Private)?;
        self.remove(&path)
    }
}

/// A new file. It is durable after [`finish`](Self::finish).
#[derive(Debug)]
pub struct NewFile {
    file: BufWriter<TracedFile>,
    bytes: u64,
    hash: Sha256,
}

/// A file with failpoints at its writes.
#[derive(Debug)]
struct TracedFile {
    file: File,
    path: PathBuf,
}

impl Write for TracedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        between_failpoints("write", &self.path, || self.file.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A durable file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    pub bytes: u64,
    /// SHA-256 of the content, hexadecimal.
    pub sha256: String,
}

impl NewFile {
    /// Writes what is buffered and fsyncs the file. The caller fsyncs its directory.
    pub fn finish(mut self) -> Result<Written, DiskError> {
        let flushed = self.file.flush();
        let TracedFile { file, path } = self.file.get_ref();
        flushed.doing("write", path)?;
        durably("sync", path, || file.sync_all())?;
        Ok(Written { bytes: self.bytes, sha256: crate::endpoint::hex(&self.hash.finalize()) })
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(bytes.get(..written).unwrap_or_default());
        self.bytes += u64::try_from(written).unwrap_or_default();
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A file whose appended bytes are durable when `append` returns.
#[derive(Debug)]
pub struct AppendFile {
    file: File,
    path: PathBuf,
    /// Bytes in the file.
    pub(super) len: u64,
}

impl AppendFile {
    /// Appends bytes and fsyncs them.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), DiskError> {
        durably("append to", &self.path, || self.file.write_all(bytes))?;
        durably("sync", &self.path, || self.file.sync_data())?;
        self.len += u64::try_from(bytes.len()).unwrap_or_default();
        Ok(())
    }
}

/// Opens a file, with an error that says so if it is a symbolic link.
pub(super) fn open(path: &Path, options: &OpenOptions) -> io::Result<File> {
    options.open(path).map_err(|error| if is_symlink(path) { through_symlink() } else { error })
}

fn refuse_symlink(path: &Path) -> io::Result<()> {
    if is_symlink(path) { Err(through_symlink()) } else { Ok(()) }
}

fn is_symlink(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink())
}

fn through_symlink() -> io::Error {
    io::Error::other("it is a symbolic link, and nothing is written through one")
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::{Access, Disk};
    use std::io::Write;

    #[test]
    fn a_new_file_knows_its_length_and_hash_and_never_replaces_another() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        let mut file = Disk.create(&path, Access::Shared).unwrap();
        file.write_all(b"abc").unwrap();
        let written = file.finish().unwrap();
        assert_eq!(written.bytes, 3);
        assert!(written.sha256.starts_with("ba7816bf"));
        assert!(Disk.create(&path, Access::Shared).is_err());
    }

    #[test]
    fn appending_continues_behind_the_length_that_is_known_to_be_good() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        Disk.append(&path, 0).unwrap().append(b"good torn").unwrap();
        let mut file = Disk.append(&path, 5).unwrap();
        file.append(b"better").unwrap();
        assert_eq!((file.len, std::fs::read(&path).unwrap().as_slice()), (11, &b"good better"[..]));
    }

    #[cfg(debug_assertions)]
    #[test]
    fn the_name_of_an_empty_file_is_made_durable_because_its_creator_may_have_been_killed_before() {
        use std::sync::{Arc, Mutex};
        let directory = tempfile::tempdir().unwrap();
        let (root, path) = (directory.path(), directory.path().join("journal"));
        let synced = Arc::new(Mutex::new(Vec::new()));
        let _watch = crate::model::failpoint::watch(root, {
            let synced = Arc::clone(&synced);
            move |step| {
                let is_sync = step.action == "sync directory" && step.when == crate::model::failpoint::When::After;
                synced.lock().unwrap().extend(is_sync.then(|| step.path.to_owned()));
                Ok(())
            }
        });
        std::fs::File::create(&path).unwrap();
        Disk.append(&path, 0).unwrap().append(b"x").unwrap();
        assert_eq!(*synced.lock().unwrap(), [root]);
        Disk.append(&path, 1).unwrap();
        assert_eq!(*synced.lock().unwrap(), [root], "a file with content was durable before");
    }

    #[test]
    fn a_scratch_file_begins_empty_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        Disk.append_scratch(&path, true).unwrap().write_all(b"one").unwrap();
        Disk.append_scratch(&path, false).unwrap().write_all(b" two").unwrap();
        assert!(Disk.append_scratch(&path, true).is_err(), "what another process left is not continued");
        assert_eq!(std::fs::read(&path).unwrap(), b"one two");
    }

    #[test]
    fn a_directory_that_is_missing_or_a_file_is_not_writable() {
        let directory = tempfile::tempdir().unwrap();
        Disk.check_writable(directory.path()).unwrap();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        assert!(Disk.check_writable(&directory.path().join("missing")).is_err());
        let file = directory.path().join("file");
        std::fs::File::create(&file).unwrap();
        assert!(Disk.make_directory(&file, Access::Shared).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn state_is_private_to_its_owner() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("x/state");
        Disk.make_directory(&state, Access::Private).unwrap();
        Disk.append(&state.join("j"), 0).unwrap();
        let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&state), mode(&state.join("j"))), (0o700, 0o600));
    }
}
