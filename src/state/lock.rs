//! The lock of a state directory as a reader takes it: shared, and without writing anything.

use std::fs::{File, TryLockError};
use std::io::{self, Read};
use std::path::Path;

use crate::state::disk::{DiskError, Doing};

/// While it lives, no process can start to work on the export. Many readers may have one at the same time.
#[derive(Debug)]
pub(crate) struct SharedLock(#[expect(dead_code, reason = "the open file is the lock")] Option<File>);

/// Takes the shared lock. The inner error: a process works on the export, and this is what it wrote about itself.
pub(crate) fn lock_shared(lock: &Path) -> Result<Result<SharedLock, String>, DiskError> {
    let file = match File::open(lock) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Ok(SharedLock(None))), // no process ever worked here
        Err(error) => return Err(error).doing("open", lock),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(Ok(SharedLock(Some(file)))),
        Err(TryLockError::WouldBlock) => {
            let mut owner = String::new();
            file.take(200).read_to_string(&mut owner).doing("read", lock)?;
            Ok(Err(owner))
        }
        Err(TryLockError::Error(error)) => Err(error).doing("lock", lock),
    }
}

#[cfg(test)]
mod tests {
    use super::lock_shared;
    use crate::state::disk::Disk;

    #[test]
    fn many_readers_share_the_lock_and_keep_writers_out_and_a_writer_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        assert!(lock_shared(&path).unwrap().is_ok());
        assert!(!path.exists(), "reading creates no file");
        let lock = Disk.lock(&path, "process 7").unwrap().unwrap();
        assert_eq!(lock_shared(&path).unwrap().unwrap_err(), "process 7");
        drop(lock);
        let readers = [lock_shared(&path).unwrap().unwrap(), lock_shared(&path).unwrap().unwrap()];
        assert!(Disk.lock(&path, "process 8").unwrap().is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"process 7");
        drop(readers);
        assert!(Disk.lock(&path, "process 8").unwrap().is_ok());
    }
}
