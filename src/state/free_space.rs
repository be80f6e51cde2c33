//! Room on the disks of an export, and what kind of disks they are.
//!
//! A disk that is full in the middle of a write is a worse moment to stop than any before it. So a run stops sending while
//! there still is room for the answers under way, and says so.

use std::path::{Path, PathBuf};

use crate::state::disk::{DiskError, Doing};

/// The room that is left free where nothing else is asked for: this, or the share of the disk below, whichever is less.
const FLOOR: u64 = 256 << 20;
/// The share, one part of so many.
const SHARE: u64 = 20;

/// The room that an export leaves free.
#[derive(Clone, Debug)]
pub(crate) struct MinFreeSpace {
    directories: Vec<PathBuf>,
    asked: Option<u64>,
}

impl MinFreeSpace {
    /// A floor of `asked` bytes, or the built-in one, on the disks of these directories.
    pub(crate) fn new(directories: Vec<PathBuf>, asked: Option<u64>) -> Self {
        Self { directories, asked }
    }

    /// What is wrong, if a disk has less free than the floor.
    pub(crate) fn shortage(&self) -> Result<Option<String>, DiskError> {
        for directory in &self.directories {
            let Some(room) = room(directory)? else { continue };
            let floor = self.asked.unwrap_or_else(|| FLOOR.min(room.total / SHARE));
            if room.free < floor {
                let (free, floor, directory) = (room.free >> 10, floor >> 10, directory.display());
                return Ok(Some(format!(
                    "the disk of {directory} has {free} KiB free, less than min_free_space: {floor} KiB"
                )));
            }
        }
        Ok(None)
    }
}

/// Bytes of a disk.
struct FreeSpace {
    free: u64,
    total: u64,
}

#[cfg(unix)]
fn room(directory: &Path) -> Result<Option<FreeSpace>, DiskError> {
    let found = rustix::fs::statvfs(directory).map_err(std::io::Error::from).doing("measure the disk of", directory)?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    Ok(Some(FreeSpace { free: bytes(found.f_bavail), total: bytes(found.f_blocks) }))
}

#[cfg(not(unix))]
fn room(_directory: &Path) -> Result<Option<FreeSpace>, DiskError> {
    Ok(None)
}

/// The network file system that a directory lies on, if it is a known one: locks and shared memory do not hold there as the
/// ledger needs them.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub(crate) fn network_file_system(directory: &Path) -> Option<&'static str> {
    name_of(rustix::fs::statfs(directory).ok()?.f_type)
}

/// The network file system that a directory lies on: only known where the system says so in a form that is understood.
#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
pub fn network_file_system(_directory: &Path) -> Option<&'static str> {
    None
}

/// Magic numbers of statfs(2).
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
fn name_of(magic: rustix::fs::FsWord) -> Option<&'static str> {
    Some(match magic {
        0x6969 => "NFS",
        0x517b | 0xff53_4d42 | 0xfe53_4d42 => "SMB",
        0x5346_414f | 0x6b41_4653 => "AFS",
        0x0102_1997 => "9p",
        0x00c3_6400 => "Ceph",
        0x6573_5546 => "FUSE",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::MinFreeSpace;

    #[test]
    fn a_floor_is_what_was_asked_for_or_a_small_share_of_the_disk() {
        let directory = tempfile::tempdir().unwrap();
        let floor = |asked| MinFreeSpace::new(vec![directory.path().to_owned()], asked).shortage();
        assert_eq!(floor(Some(0)).unwrap(), None);
        let message = floor(Some(u64::MAX)).unwrap().unwrap();
        assert!(
            message.contains("min_free_space") && message.contains(directory.path().to_str().unwrap()),
            "{message}"
        );
        assert!(MinFreeSpace::new(vec![directory.path().join("missing")], None).shortage().is_err());
    }

    #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
    #[test]
    fn l11_network_file_systems_are_known_by_their_magic_numbers_and_a_local_disk_is_none() {
        use super::{name_of, network_file_system};
        let known =
            [(0x6969, "NFS"), (0x517b, "SMB"), (0xff53_4d42, "SMB"), (0xfe53_4d42, "SMB"), (0x6573_5546, "FUSE")];
        for (magic, name) in known {
            assert_eq!(name_of(magic), Some(name));
        }
        // ext4, tmpfs, overlay, XFS, Btrfs.
        for magic in [0xef53, 0x0102_1994, 0x794c_7630, 0x5846_5342, 0x9123_683e] {
            assert_eq!(name_of(magic), None);
        }
        assert_eq!(network_file_system(std::path::Path::new("/proc")), None);
        assert_eq!(network_file_system(std::path::Path::new("/nonexistent")), None);
    }
}
