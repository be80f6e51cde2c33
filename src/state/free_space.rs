//! Free space on the disks of an export, and whether they are network file systems.
//!
//! A run stops sending, and says so, while there is still space for the responses in flight: better than to stop in the middle
//! of a write.

use std::path::{Path, PathBuf};

use crate::state::disk::{DiskError, Doing};

/// The default minimum, bytes: this, or one part in [`DISK_PARTS`] of the disk, whichever is less.
const DEFAULT: u64 = 256 << 20;
const DISK_PARTS: u64 = 20;

#[derive(Clone, Debug)]
pub(crate) struct MinFreeSpace {
    /// Directories on the disks that are measured.
    pub(crate) directories: Vec<PathBuf>,
    /// None: the default.
    pub(crate) bytes: Option<u64>,
}

impl MinFreeSpace {
    pub(crate) fn shortage(&self) -> Result<Option<String>, DiskError> {
        for directory in &self.directories {
            let Some((free, total)) = free_space(directory)? else { continue };
            let least = self.bytes.unwrap_or_else(|| DEFAULT.min(total / DISK_PARTS));
            if free < least {
                let (free, least, directory) = (free >> 10, least >> 10, directory.display());
                return Ok(Some(format!(
                    "the disk of {directory} has {free} KiB free, less than min_free_space: {least} KiB"
                )));
            }
        }
        Ok(None)
    }
}

/// Free and total bytes of a disk, where the system says them.
#[cfg(unix)]
pub(crate) fn free_space(directory: &Path) -> Result<Option<(u64, u64)>, DiskError> {
    let found = rustix::fs::statvfs(directory).map_err(std::io::Error::from).doing("measure the disk of", directory)?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    Ok(Some((bytes(found.f_bavail), bytes(found.f_blocks))))
}

#[cfg(not(unix))]
fn free_space(_directory: &Path) -> Result<Option<(u64, u64)>, DiskError> {
    Ok(None)
}

/// The network file system that a directory is on, if it is a known one: locks and shared memory do not work there as the
/// ledger needs them.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub(crate) fn network_file_system(directory: &Path) -> Option<&'static str> {
    name_of(rustix::fs::statfs(directory).ok()?.f_type)
}

/// None: this system does not say it in a form that is understood.
#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
pub(crate) fn network_file_system(_directory: &Path) -> Option<&'static str> {
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
    fn the_minimum_is_what_was_given_or_a_small_part_of_the_disk() {
        let directory = tempfile::tempdir().unwrap();
        let shortage = |bytes| MinFreeSpace { directories: vec![directory.path().to_owned()], bytes }.shortage();
        assert_eq!(shortage(Some(0)).unwrap(), None);
        let message = shortage(Some(u64::MAX)).unwrap().unwrap();
        assert!(
            message.contains("min_free_space") && message.contains(directory.path().to_str().unwrap()),
            "{message}"
        );
        let missing = MinFreeSpace { directories: vec![directory.path().join("missing")], bytes: None };
        assert!(missing.shortage().is_err());
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
