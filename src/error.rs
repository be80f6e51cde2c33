//! The one error that carries every other, and the exit code of each.

use std::borrow::Cow;
use std::io::ErrorKind;

use arrow::error::ArrowError;

use crate::endpoint::EndpointError;
use crate::fetch::ClientError;
use crate::input::error::InputError;
use crate::output::bucket::{BucketError, BucketFailure};
use crate::output::error::{OutputError, TableError};
use crate::report::error::ReportError;
use crate::settings::SettingsError;
use crate::simulator::SimulatorError;
use crate::state::disk::DiskError;
use crate::state::journal::JournalError;
use crate::state::ledger::LedgerError;

pub use crate::model::exit_code::ExitCode;

/// The next step after published files were changed or deleted.
const REBUILD: &str = "`pagehaul verify` lists every difference, `pagehaul replay` rebuilds the files from the journal";
/// The next step after the state of an export was damaged.
const RESTORE: &str =
    "nothing was changed; restore the state directory from a backup, or start a new export with another --out";
/// The next step where the journal that a rebuild needs was removed on purpose.
const WITHOUT_JOURNAL: &str = "nothing was changed; keep the columns that these segments have, put changed files back from a copy, or start a new export with another --out";

/// The next step where a snapshot's files were removed on purpose.
const OTHER_SNAPSHOT: &str =
    "name another --snapshot; `pagehaul replay` with this one brings its files back, if its journal is there";

/// The next step where an export cannot be continued.
const OTHER_SINCE: &str =
    "nothing was requested; correct --since, or leave it out: then every list that is not taken over yet is read whole";

/// The next step after a run whose time was over.
pub(crate) const RESUME: &str = "run the same command again: it resumes where this one stopped";

/// The next step where it was over before it began.
pub(crate) const LATER: &str = "give a later --deadline, or leave it out";

/// The next step after a command that only reads was cut.
const AGAIN: &str = "run the same command again, with more time";

/// An error that ends a command.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A command line that cannot be used. The text is the whole message.
    #[error("{0}")]
    Usage(Cow<'static, str>),
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// A disk is nearly full, before the first request of this run.
    #[error("{0}")]
    NoFreeSpace(String),
    /// A second signal, or one with nothing to wait for. The run ended at once; nothing that was durable is lost.
    #[error("stopped at once by a signal")]
    Interrupted(ExitCode),
    /// The run's time was over before its first request.
    #[error("{0}")]
    TimeLimit(String),
    /// A moment that had passed when the program started.
    #[error("{0}")]
    Late(String),
    /// The time of a command that only reads was over, or it got a signal; the message.
    #[error("{1}")]
    Cut(ExitCode, String),
    #[error("cannot listen on {0}")]
    Listen(std::net::SocketAddr, #[source] std::io::Error),
    /// The address of `--serve` cannot be had.
    #[error("cannot serve on {0}")]
    Serve(std::net::SocketAddr, #[source] std::io::Error),
    /// The file that `--html` names cannot be written.
    #[error("cannot write the page to {0}")]
    Page(String, #[source] std::io::Error),
    /// The simulator cannot be created from its specification or the endpoint.
    #[error(transparent)]
    Simulator(#[from] SimulatorError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Input(#[from] InputError),
    #[error(transparent)]
    Output(#[from] OutputError),
    #[error(transparent)]
    Report(#[from] ReportError),
    /// A bug of the decoder. The rows are safe in the journal.
    #[error("cannot decode responses of the journal")]
    Decode(#[source] ArrowError),
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("the program failed (a bug)")]
    Bug,
    #[error("a task of the program failed (a bug)")]
    Panic(#[from] tokio::task::JoinError),
    /// The operating system refused something: a verb with its object.
    #[error("cannot {0}")]
    System(&'static str, #[source] std::io::Error),
}

impl Error {
    /// What to do about it, on one line.
    pub fn next_step(&self) -> Option<&'static str> {
        if let Self::Output(error) | Self::Report(ReportError::Output(error)) = self {
            if let OutputError::Bucket(error) = error
                && let Some(step) = error.next_step()
            {
                return Some(step);
            }
            if matches!(error, OutputError::Modified(_) | OutputError::Manifest { .. }) {
                return Some(REBUILD);
            }
            if let OutputError::Since(_) = error {
                return Some(OTHER_SINCE);
            }
            if let OutputError::Damaged(_) = error {
                return Some(RESTORE);
            }
            if let OutputError::Pruned(_) = error {
                return Some(WITHOUT_JOURNAL);
            }
            if let OutputError::Removed(_) = error {
                return Some(OTHER_SNAPSHOT);
            }
        }
        if let Self::Journal(JournalError::Damaged { .. }) = self {
            return Some(RESTORE);
        }
        if let Self::TimeLimit(_) = self {
            return Some(RESUME);
        }
        if let Self::Late(_) = self {
            return Some(LATER);
        }
        if let Self::Cut(..) = self {
            return Some(AGAIN);
        }
        if let Self::Interrupted(_) = self {
            return Some(RESUME);
        }
        if let Self::Listen(..) = self {
            return Some("choose another address with --listen");
        }
        if let Self::Serve(..) = self {
            return Some("name another address with --serve, port 0 for any free one; no request was sent");
        }
        if let Self::Page(..) = self {
            return Some("name another file with --html, or - for stdout");
        }
        if let Self::System(..) = self {
            return Some("fix the cause above; no request was sent");
        }
        self.exit_code().next_step()
    }

    /// The code that the process ends with.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Page(_, error) if error.kind() == ErrorKind::StorageFull => ExitCode::Storage,
            Self::Settings(_)
            | Self::Usage(_)
            | Self::Endpoint(_)
            | Self::Simulator(_)
            | Self::System(..)
            | Self::Listen(..)
            | Self::Serve(..)
            | Self::Page(..)
            | Self::Client(_) => ExitCode::Usage,
            Self::Input(error) => input_code(error),
            Self::Output(error) => output_code(error),
            Self::Report(error) => report_code(error),
            Self::Interrupted(code) | Self::Cut(code, _) => *code,
            Self::TimeLimit(_) | Self::Late(_) => ExitCode::Limit,
            Self::Ledger(error) => ledger_code(error),
            Self::Journal(error) => journal_code(error),
            Self::Bug | Self::Panic(_) | Self::Decode(_) => ExitCode::Internal,
            Self::NoFreeSpace(_) | Self::Disk(_) => ExitCode::Storage,
        }
    }
}

fn input_code(error: &InputError) -> ExitCode {
    match error {
        InputError::Unreadable { .. }
        | InputError::BadId { .. }
        | InputError::Empty
        | InputError::Key(_)
        | InputError::KeyFile { .. }
        | InputError::KeyInput(_) => ExitCode::Usage,
        InputError::Ledger(error) => ledger_code(error),
    }
}

fn output_code(error: &OutputError) -> ExitCode {
    match error {
        OutputError::NoExport(_) | OutputError::Snapshots(_) | OutputError::Thread(_) => ExitCode::Usage,
        OutputError::Unwritable(error) => {
            let is_users_choice = matches!(
                error.source.kind(),
                ErrorKind::NotFound
                    | ErrorKind::PermissionDenied
                    | ErrorKind::NotADirectory
                    | ErrorKind::InvalidFilename
                    | ErrorKind::InvalidInput
                    | ErrorKind::Other
            );
            if is_users_choice { ExitCode::Usage } else { ExitCode::Storage }
        }
        OutputError::Busy { .. } => ExitCode::Busy,
        OutputError::Mismatch(_)
        | OutputError::Since(_)
        | OutputError::Damaged(_)
        | OutputError::Pruned(_)
        | OutputError::Removed(_)
        | OutputError::Modified(_)
        | OutputError::SegmentTaken { .. }
        | OutputError::Manifest { .. } => ExitCode::Integrity,
        OutputError::Disk(_)
        | OutputError::Arrow(_)
        | OutputError::Parquet { .. }
        | OutputError::StagedMissing { .. }
        | OutputError::Content { .. }
        | OutputError::NameTaken { .. } => ExitCode::Storage,
        OutputError::Ledger(error) => ledger_code(error),
        OutputError::Bucket(error) => bucket_code(error),
        OutputError::Table(error) => table_code(error),
        OutputError::WriterEnded | OutputError::Panic(_) => ExitCode::Internal,
    }
}

fn bucket_code(error: &BucketError) -> ExitCode {
    match error {
        BucketError::Location { .. } | BucketError::Unfit { .. } => ExitCode::Usage,
        BucketError::NoCredentials { .. } => ExitCode::Account,
        BucketError::TooLarge { .. } => ExitCode::Integrity,
        BucketError::Ledger(error) => ledger_code(error),
        BucketError::Panic(_) => ExitCode::Internal,
        BucketError::Taken { .. } | BucketError::Staged { .. } | BucketError::Copy { .. } | BucketError::Disk(_) => {
            ExitCode::Storage
        }
        BucketError::Request { .. } => match error.failure() {
            BucketFailure::Credentials => ExitCode::Account,
            // At the start it is a wrong setting. Later the bucket is gone.
            BucketFailure::Bucket => ExitCode::Storage,
            BucketFailure::Unfit | BucketFailure::Other => ExitCode::Temporary,
        },
    }
}

fn table_code(error: &TableError) -> ExitCode {
    match error {
        TableError::Differs { .. } | TableError::Vanished { .. } | TableError::File { .. } => ExitCode::Integrity,
        TableError::Location { .. } => ExitCode::Usage,
        TableError::Store(error) => bucket_code(error),
        TableError::Failed { url, .. } if url.starts_with("file:") => ExitCode::Storage,
        TableError::Failed { .. } | TableError::Contended { .. } => ExitCode::Temporary,
    }
}

fn report_code(error: &ReportError) -> ExitCode {
    match error {
        ReportError::Output(error) => output_code(error),
        ReportError::Ledger(error) => ledger_code(error),
        ReportError::Journal(error) => journal_code(error),
        ReportError::Products(_) => ExitCode::Storage,
    }
}

fn journal_code(error: &JournalError) -> ExitCode {
    match error {
        JournalError::Damaged { .. } => ExitCode::Integrity,
        JournalError::Disk(_) | JournalError::Compress(_) => ExitCode::Storage,
    }
}

fn ledger_code(error: &LedgerError) -> ExitCode {
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
            None if is_of_content(source) => ExitCode::Integrity,
            None => ExitCode::Internal,
        },
    }
}

/// Whether an error is of a value in the ledger that this program would not have written.
fn is_of_content(error: &rusqlite::Error) -> bool {
    use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType, Utf8Error};
    matches!(error, FromSqlConversionFailure(..) | IntegralValueOutOfRange(..) | InvalidColumnType(..) | Utf8Error(..))
}
