//! How a run ends: the exit codes, and the one error that carries every other.
//!
//! Schedulers act on exit codes, so they come from one table. Nothing below this layer names them.

use std::io::ErrorKind;
use std::path::PathBuf;

use crate::api::ClientError;
use crate::commit::CommitError;
use crate::disk::DiskError;
use crate::endpoint::EndpointError;
use crate::journal::JournalError;
use crate::ledger::LedgerError;
use crate::plan::PlanError;
use crate::record::RecordError;
use crate::segment::SegmentError;
use crate::settings::SettingsError;
use crate::simulator::SimulatorError;
use crate::store::StoreError;

/// What an exit code means to whoever started the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ExitCode {
    /// All products were read to the end and are published.
    Complete,
    /// A bug.
    Internal,
    /// A flag, a setting, a list or the key will not do; no request was sent.
    Usage,
    /// The output is valid and lacks something: products that failed or were cut short; after a replay also those that are open.
    Partial,
    /// Another process holds this export.
    Busy,
    /// The network, the API or its limit failed for too long; everything is kept, the same command resumes.
    Temporary,
    /// A limit that was asked for is reached.
    Limit,
    /// The key, its credits or the server's identity.
    Account,
    /// The disk.
    Storage,
    /// Ledger, journal or output are damaged, or belong to other settings.
    Integrity,
    /// The API's answers do not fit the endpoint's description.
    Contract,
    /// Stopped by SIGINT, cleanly.
    Interrupted,
    /// Stopped by SIGTERM, cleanly.
    Terminated,
}

impl ExitCode {
    /// Every code, for documents and tests.
    pub const ALL: [Self; 13] = [
        Self::Complete,
        Self::Internal,
        Self::Usage,
        Self::Partial,
        Self::Busy,
        Self::Temporary,
        Self::Limit,
        Self::Account,
        Self::Storage,
        Self::Integrity,
        Self::Contract,
        Self::Interrupted,
        Self::Terminated,
    ];

    /// The number that the process ends with.
    pub fn number(self) -> u8 {
        match self {
            Self::Complete => 0,
            Self::Internal => 1,
            Self::Usage => 2,
            Self::Partial => 3,
            Self::Busy => 4,
            Self::Temporary => 5,
            Self::Limit => 6,
            Self::Account => 7,
            Self::Storage => 8,
            Self::Integrity => 9,
            Self::Contract => 10,
            Self::Interrupted => 130,
            Self::Terminated => 143,
        }
    }

    /// The word for it in the summary.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Internal => "internal",
            Self::Usage => "usage",
            Self::Partial => "partial",
            Self::Busy => "busy",
            Self::Temporary => "temporary",
            Self::Limit => "limit",
            Self::Account => "account",
            Self::Storage => "storage",
            Self::Integrity => "integrity",
            Self::Contract => "contract",
            Self::Interrupted => "interrupted",
            Self::Terminated => "terminated",
        }
    }

    /// What to do about it, one line; none where there is nothing to do.
    pub fn next_step(self) -> Option<&'static str> {
        match self {
            Self::Complete => None,
            Self::Internal => Some("this is a bug: please report it with the lines above; the same command resumes"),
            Self::Usage => {
                Some("`pagehaul --help` lists the commands, `pagehaul COMMAND --help` its flags; no request was sent")
            }
            Self::Partial => Some(
                "_pagehaul/products.parquet says what each product lacks; the same command retries passing failures, --retry-failed also refusals, --repair reads lists once more that moved; what was rejected is paid for, only a new --out asks again",
            ),
            Self::Busy => Some("wait for the other process, or name another folder with --out"),
            Self::Temporary => Some("run the same command again later: it resumes where this one stopped"),
            Self::Limit => Some("raise the limit and run the command again: it resumes"),
            Self::Account => Some(
                "put right what the line above names (the key, its credits, the API's certificate, the proxy or this machine's clock), then run the same command again: it resumes",
            ),
            Self::Storage => Some("free space or fix the folder, then run the same command again: it resumes"),
            Self::Integrity => Some(
                "nothing was changed; use the settings that the export was begun with, restore what is damaged, or take another --out",
            ),
            Self::Contract => Some(
                "the API may have changed: look at an answer in the journal (zstdcat), then at --endpoint or --end",
            ),
            Self::Interrupted | Self::Terminated => {
                Some("run the same command again: it resumes; or `pagehaul replay` publishes what waits")
            }
        }
    }
}

/// A run could not go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting will not do.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The list of products will not do.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The key, or a flag of its own, will not do. Its text is the whole message.
    #[error("{0}")]
    Usage(&'static str),
    /// The key's file cannot be read.
    #[error("read the key from {}", path.display())]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Not an error: help, or the version.
    #[error("{0}")]
    Answer(String),
    /// The command line cannot be parsed.
    #[error("{0}")]
    CommandLine(String),
    /// An endpoint description will not do.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// A simulator's description will not do.
    #[error(transparent)]
    Spec(#[from] crate::simulator::SettingsError),
    /// The output or state folder does not take files. Found before the first request.
    #[error("the folder cannot be written to")]
    Unwritable(#[source] DiskError),
    /// A disk is nearly full. Found before the first request of this run.
    #[error("{0}")]
    NoRoom(String),
    /// A signal came where there is nothing to wait for, or a second one: left at once, uncleanly but safely.
    #[error("stopped at once by a signal")]
    Killed(ExitCode),
    /// The embedded API cannot listen.
    #[error("listen on {address}")]
    Listen {
        /// Where.
        address: std::net::SocketAddr,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The embedded API could not be made.
    #[error(transparent)]
    Simulator(#[from] SimulatorError),
    /// Another process works on this export.
    #[error("another process holds this export: {holder}")]
    Busy {
        /// What it says of itself.
        holder: String,
    },
    /// Folder and settings do not belong together.
    #[error("{0}")]
    Mismatch(String),
    /// What an export needs to go on is not as it was left.
    #[error("{0}")]
    Damaged(String),
    /// The output is not as it was left; the journal may bring it back.
    #[error("{0}")]
    Spoilt(String),
    /// The HTTP client could not be made.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The ledger failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The journal failed.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The output store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Answers could not be recorded.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Rows could not be staged.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// A segment could not be published.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// A report file could not be written.
    #[error("write {name}")]
    Report {
        /// The file.
        name: &'static str,
        /// Why.
        #[source]
        source: parquet::errors::ParquetError,
    },
    /// The program panicked.
    #[error("the program failed")]
    Bug,
    /// The writer ended before its time; why, it says where it is waited for.
    #[error("the writer of files ended")]
    WriterEnded,
    /// A task panicked.
    #[error("a task of the program failed")]
    Panic(#[from] tokio::task::JoinError),
    /// Something of the operating system was refused.
    #[error("{action}")]
    System {
        /// What was being done.
        action: &'static str,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    /// What to do about it, one line; none where there is nothing to do.
    pub fn next_step(&self) -> Option<&'static str> {
        if matches!(self, Self::Spoilt(_) | Self::Commit(CommitError::Manifest { .. })) {
            return Some(
                "`pagehaul verify` names every difference, `pagehaul replay` builds the files again from the journal",
            );
        }
        if matches!(self, Self::Damaged(_) | Self::Journal(JournalError::Damaged { .. })) {
            return Some(
                "nothing was changed: put the state folder back from a copy, or begin anew with another --out",
            );
        }
        if let Self::Killed(_) = self {
            return Some("run the same command again: it goes on where this one stopped");
        }
        if let Self::Listen { .. } = self {
            return Some("name another address with --listen");
        }
        if let Self::System { .. } = self {
            return Some("put right what the line above names; no request was sent");
        }
        self.exit_code().next_step()
    }

    /// The code that the process ends with.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Settings(_)
            | Self::Usage(_)
            | Self::KeyFile { .. }
            | Self::CommandLine(_)
            | Self::Endpoint(_)
            | Self::Spec(_)
            | Self::Simulator(_)
            | Self::System { .. }
            | Self::Listen { .. }
            | Self::Client(_)
            | Self::Plan(PlanError::Unreadable { .. } | PlanError::BadId { .. } | PlanError::Empty) => ExitCode::Usage,
            Self::Unwritable(error) => {
                let own_fault = matches!(
                    error.source.kind(),
                    ErrorKind::NotFound
                        | ErrorKind::PermissionDenied
                        | ErrorKind::NotADirectory
                        | ErrorKind::InvalidFilename
                        | ErrorKind::InvalidInput
                        | ErrorKind::Other
                );
                if own_fault { ExitCode::Usage } else { ExitCode::Storage }
            }
            Self::Answer(_) => ExitCode::Complete,
            Self::Killed(code) => *code,
            Self::Plan(PlanError::Ledger(error)) | Self::Ledger(error) | Self::Record(RecordError::Ledger(error)) => {
                of_ledger(error)
            }
            Self::Busy { .. } => ExitCode::Busy,
            Self::Mismatch(_) | Self::Damaged(_) | Self::Spoilt(_) => ExitCode::Integrity,
            Self::Bug | Self::Panic(_) | Self::WriterEnded | Self::Record(RecordError::Decode(_)) => ExitCode::Internal,
            Self::NoRoom(_) | Self::Disk(_) | Self::Store(_) | Self::Segment(_) | Self::Report { .. } => {
                ExitCode::Storage
            }
            Self::Journal(error) | Self::Record(RecordError::Journal(error)) => match error {
                JournalError::Damaged { .. } => ExitCode::Integrity,
                JournalError::Disk(_) | JournalError::Pack(_) => ExitCode::Storage,
            },
            Self::Commit(error) => match error {
                CommitError::Ledger(error) => of_ledger(error),
                CommitError::Store(_) => ExitCode::Storage,
                CommitError::Manifest { .. } | CommitError::Taken { .. } => ExitCode::Integrity,
            },
        }
    }
}

fn of_ledger(error: &LedgerError) -> ExitCode {
    use rusqlite::ErrorCode;
    match error {
        LedgerError::Unusable { .. } => ExitCode::Integrity,
        LedgerError::Undurable { .. } => ExitCode::Storage,
        LedgerError::Sql { source, .. } => match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::ConstraintViolation) => {
                ExitCode::Integrity
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => ExitCode::Busy,
            Some(_) => ExitCode::Storage,
            None => ExitCode::Internal,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::ExitCode;

    #[test]
    fn exit_codes_are_distinct_and_none_is_one_that_shells_and_schedulers_give_a_meaning_of_their_own() {
        let mut numbers: Vec<u8> = ExitCode::ALL.into_iter().map(ExitCode::number).collect();
        numbers.dedup();
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 130, 143]);
        let words = [
            (ExitCode::Complete, 0, "complete"),
            (ExitCode::Internal, 1, "internal"),
            (ExitCode::Usage, 2, "usage"),
            (ExitCode::Partial, 3, "partial"),
            (ExitCode::Busy, 4, "busy"),
            (ExitCode::Temporary, 5, "temporary"),
            (ExitCode::Limit, 6, "limit"),
            (ExitCode::Account, 7, "account"),
            (ExitCode::Storage, 8, "storage"),
            (ExitCode::Integrity, 9, "integrity"),
            (ExitCode::Contract, 10, "contract"),
            (ExitCode::Interrupted, 130, "interrupted"),
            (ExitCode::Terminated, 143, "terminated"),
        ];
        assert_eq!(words, ExitCode::ALL.map(|code| (code, code.number(), code.as_str())));
        assert!(numbers.iter().all(|number| ![99, 101, 124, 125, 126, 127, 137].contains(number)));
    }

    #[test]
    fn the_readme_lists_every_exit_code_with_its_word() {
        let readme = include_str!("../README.md");
        for code in ExitCode::ALL {
            let row = format!("| {} | {} |", code.number(), code.as_str());
            assert!(readme.contains(&row), "README.md lacks {row}");
        }
    }
}
