//! The limit of open files of this process.

use crate::error::Error;

/// Open files other than those of requests: 64 staged ones, and ledger, journal, locks, runtime and standard streams.
const OWN_FILES: u64 = 64 + 40;

/// The number of concurrent requests: as many as `requested`, or as the limit of open files allows, with `files` open for each
/// and `others` for what else this run does. Raises the limit as far as this process may. Fails if there are not enough for one
/// request.
pub(crate) fn requests(requested: usize, files: u64, others: u64) -> Result<usize, Error> {
    let own = OWN_FILES + others;
    let wanted = own.saturating_add(files.saturating_mul(u64::try_from(requested).unwrap_or(u64::MAX)));
    let Some(allowed) = open_files(wanted).filter(|allowed| *allowed < wanted) else { return Ok(requested) };
    match allowed.saturating_sub(own) / files.max(1) {
        0 => {
            let needed = own + files;
            let reason = format!("{allowed} may be open at once, {needed} are needed; raise the limit (ulimit -n)");
            Err(Error::System("open enough files", std::io::Error::other(reason)))
        }
        max => Ok(usize::try_from(max).unwrap_or(requested)),
    }
}

/// Raises the limit of open files to this number, if it is lower, and returns what is allowed then; none: any number.
#[cfg(unix)]
fn open_files(wanted: u64) -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let now = getrlimit(Resource::Nofile);
    if now.current.is_some_and(|current| current < wanted) {
        let raised = Some(now.maximum.map_or(wanted, |maximum| maximum.min(wanted)));
        setrlimit(Resource::Nofile, Rlimit { current: raised, ..now }).ok(); // the new limit is read below
    }
    getrlimit(Resource::Nofile).current
}

#[cfg(not(unix))]
fn open_files(_wanted: u64) -> Option<u64> {
    None
}
