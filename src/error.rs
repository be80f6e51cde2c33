//! The one error that carries every other, and the exit code of each.

use std::io::ErrorKind;
use std::path::PathBuf;

use crate::endpoint::EndpointError;
use crate::fetch::ClientError;
use crate::input::item_list::PlanError;
use crate::output::publisher::CommitError;
use crate::output::segment::SegmentError;
use crate::output::store::StoreError;
use crate::run::group_commit::RecordError;
use crate::settings::SettingsError;
use crate::simulator::SimulatorError;
use crate::state::disk::DiskError;
use crate::state::journal::JournalError;
use crate::state::ledger::LedgerError;

pub use crate::model::exit_code::ExitCode;

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
