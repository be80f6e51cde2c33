//! Whether a process works on an export, found out without writing anything.

use std::fs::{File, TryLockError};
use std::io::{self, Read};
use std::path::Path;

use crate::state::disk::{DiskError, Doing};

/// Keeps any process from beginning to work on an export, for as long as it lives. Many may look at the same time.
#[derive(Debug)]
pub(crate) struct SharedLock(#[expect(dead_code, reason = "the open file is the lock")] Option<File>);

/// Takes the lock of a state directory to look only. The inner error: a process works on the export, and this is what it
/// wrote about itself.
pub(crate) fn look(lock: &Path) -> Result<Result<SharedLock, String>, DiskError> {
    let file = match File::open(lock) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Ok(SharedLock(None))), // nobody ever worked here
        Err(error) => return Err(error).doing("open", lock),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(Ok(SharedLock(Some(file)))),
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            file.take(200).read_to_string(&mut holder).doing("read", lock)?;
            Ok(Err(holder))
        }
        Err(TryLockError::Error(error)) => Err(error).doing("lock", lock),
    }
}

#[cfg(test)]
mod tests {
    use super::look;
    use crate::state::disk::Disk;

    #[test]
    fn many_may_look_and_nobody_works_meanwhile_and_a_worker_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        assert!(look(&path).unwrap().is_ok());
        assert!(!path.exists(), "looking makes no file");
        let held = Disk.lock(&path, "process 7").unwrap().unwrap();
        assert_eq!(look(&path).unwrap().unwrap_err(), "process 7");
        drop(held);
        let looks = [look(&path).unwrap().unwrap(), look(&path).unwrap().unwrap()];
        assert!(Disk.lock(&path, "process 8").unwrap().is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"process 7");
        drop(looks);
        assert!(Disk.lock(&path, "process 8").unwrap().is_ok());
    }
}
