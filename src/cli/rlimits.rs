//! What the operating system allows this process: open files for what was asked, and no picture of its memory on a disk.

use crate::error::Error;

/// Open files beside those of requests: 64 staged ones, and ledger, journal, locks, runtime and standard streams.
const OWN_FILES: u64 = 64 + 40;

/// How many requests may be under way: as many as were asked for, or as the files that may be open allow. The limit is
/// raised as far as this process may raise it.
///
/// `files` are open for each of them. Fails if there are not enough for one.
pub(crate) fn requests(asked: usize, files: u64) -> Result<usize, Error> {
    let wanted = OWN_FILES.saturating_add(files.saturating_mul(u64::try_from(asked).unwrap_or(u64::MAX)));
    let Some(allowed) = open_files(wanted).filter(|allowed| *allowed < wanted) else { return Ok(asked) };
    match allowed.saturating_sub(OWN_FILES) / files.max(1) {
        0 => {
            let least = OWN_FILES + files;
            let reason = format!(
                "at most {allowed} may be open at once, at least {least} are needed: raise the limit (ulimit -n)"
            );
            Err(Error::System { action: "open files", source: std::io::Error::other(reason) })
        }
        most => Ok(usize::try_from(most).unwrap_or(asked)),
    }
}

/// Makes sure that so many files may be open, and says how many are allowed then; none: any number.
#[cfg(unix)]
fn open_files(wanted: u64) -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let now = getrlimit(Resource::Nofile);
    if now.current.is_some_and(|current| current < wanted) {
        let raised = Some(now.maximum.map_or(wanted, |maximum| maximum.min(wanted)));
        setrlimit(Resource::Nofile, Rlimit { current: raised, ..now }).ok(); // what holds then is read again
    }
    getrlimit(Resource::Nofile).current
}

#[cfg(not(unix))]
fn open_files(_wanted: u64) -> Option<u64> {
    None
}
