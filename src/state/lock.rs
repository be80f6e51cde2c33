//! The lock of a state directory: a process that works on the export takes it alone, readers share it.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Write};
use std::path::Path;

use crate::state::disk::{Access, DiskError, Doing, open};

/// A lock that is taken until this is dropped, or the process ends in any way. Without a file no process ever worked here.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "the open file is the lock")] Option<File>);

/// The inner error: another process has the lock, and this is what it wrote about itself.
type Locked = Result<Result<Lock, String>, DiskError>;

/// Takes the lock for this process alone, and writes about it into the file.
pub(crate) fn lock_alone(path: &Path, about_me: &str) -> Locked {
    let mut options = Access::Private.options();
    let file = open(path, options.read(true).write(true).create(true).truncate(false)).doing("open", path)?;
    let result = file.try_lock();
    if result.is_ok() {
        file.set_len(0).and_then(|()| (&file).write_all(about_me.as_bytes())).doing("write", path)?;
    }
    locked(file, result, path)
}

/// Shares the lock with other readers, without writing anything: no process can start to work on the export.
pub(crate) fn lock_shared(path: &Path) -> Locked {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Ok(Lock(None))),
        file => file.doing("open", path)?,
    };
    let result = file.try_lock_shared();
    locked(file, result, path)
}

fn locked(file: File, result: Result<(), TryLockError>, path: &Path) -> Locked {
    match result {
        Ok(()) => Ok(Ok(Lock(Some(file)))),
        Err(TryLockError::WouldBlock) => {
            let mut owner = Vec::new();
            file.take(200).read_to_end(&mut owner).doing("read", path)?;
            Ok(Err(String::from_utf8_lossy(&owner).into_owned()))
        }
        Err(TryLockError::Error(error)) => Err(error).doing("lock", path),
    }
}

#[cfg(test)]
mod tests {
    use super::{lock_alone, lock_shared};

    #[test]
    fn many_readers_share_the_lock_and_keep_writers_out_and_a_writer_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        assert!(lock_shared(&path).unwrap().is_ok());
        assert!(!path.exists(), "reading creates no file");
        let lock = lock_alone(&path, "process 7").unwrap().unwrap();
        assert_eq!(lock_alone(&path, "process 8").unwrap().unwrap_err(), "process 7");
        assert_eq!(lock_shared(&path).unwrap().unwrap_err(), "process 7");
        drop(lock);
        let readers = [lock_shared(&path).unwrap().unwrap(), lock_shared(&path).unwrap().unwrap()];
        assert!(lock_alone(&path, "process 8").unwrap().is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"process 7");
        drop(readers);
        assert!(lock_alone(&path, "process 8").unwrap().is_ok());
    }
}
