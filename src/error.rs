//! The one error that carries every other, and the exit code of each.

use std::io::ErrorKind;

use arrow::error::ArrowError;

use crate::endpoint::EndpointError;
use crate::fetch::ClientError;
use crate::input::error::InputError;
use crate::output::error::OutputError;
use crate::report::error::ReportError;
use crate::settings::SettingsError;
use crate::simulator::SimulatorError;
use crate::state::disk::DiskError;
use crate::state::journal::JournalError;
use crate::state::ledger::LedgerError;

pub use crate::model::exit_code::ExitCode;

/// The next step where published files were changed or deleted.
const REBUILD: &str =
    "`pagehaul verify` names every difference, `pagehaul replay` builds the files again from the journal";
/// The next step where the state of an export is damaged.
const RESTORE: &str = "nothing was changed: put the state directory back from a copy, or begin anew with another --out";

/// A run could not go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting will not do.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The key, or a flag of its own, will not do. Its text is the whole message.
    #[error("{0}")]
    Usage(&'static str),
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
    Spec(#[from] crate::simulator::SimulatorSettingsError),
    /// A disk is nearly full. Found before the first request of this run.
    #[error("{0}")]
    NoRoom(String),
    /// A signal came where there is nothing to wait for, or a second one: left at once, uncleanly but safely.
    #[error("stopped at once by a signal")]
    Interrupted(ExitCode),
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
    /// The HTTP client could not be made.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The list or the API key.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The export's directory or a file in it.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// A report.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// The decoder failed, which is a bug: the rows are safe in the journal.
    #[error("decode recorded responses")]
    Decode(#[source] ArrowError),
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The ledger failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The journal failed.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The program panicked.
    #[error("the program failed")]
    Bug,
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
        if let Self::Output(error) | Self::Report(ReportError::Output(error)) = self {
            if matches!(error, OutputError::Modified(_) | OutputError::Manifest { .. }) {
                return Some(REBUILD);
            }
            if let OutputError::Damaged(_) = error {
                return Some(RESTORE);
            }
        }
        if let Self::Journal(JournalError::Damaged { .. }) = self {
            return Some(RESTORE);
        }
        if let Self::Interrupted(_) = self {
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
            | Self::CommandLine(_)
            | Self::Endpoint(_)
            | Self::Spec(_)
            | Self::Simulator(_)
            | Self::System { .. }
            | Self::Listen { .. }
            | Self::Client(_) => ExitCode::Usage,
            Self::Input(error) => of_input(error),
            Self::Output(error) => of_output(error),
            Self::Report(error) => of_report(error),
            Self::Answer(_) => ExitCode::Complete,
            Self::Interrupted(code) => *code,
            Self::Ledger(error) => of_ledger(error),
            Self::Journal(error) => of_journal(error),
            Self::Bug | Self::Panic(_) | Self::Decode(_) => ExitCode::Internal,
            Self::NoRoom(_) | Self::Disk(_) => ExitCode::Storage,
        }
    }
}

fn of_input(error: &InputError) -> ExitCode {
    match error {
        InputError::Unreadable { .. }
        | InputError::BadId { .. }
        | InputError::Empty
        | InputError::Key(_)
        | InputError::KeyFile { .. }
        | InputError::KeyInput(_) => ExitCode::Usage,
        InputError::Ledger(error) => of_ledger(error),
    }
}

fn of_output(error: &OutputError) -> ExitCode {
    match error {
        OutputError::NoExport(_) | OutputError::Thread(_) => ExitCode::Usage,
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
        | OutputError::Damaged(_)
        | OutputError::Modified(_)
        | OutputError::SegmentTaken { .. }
        | OutputError::Manifest { .. } => ExitCode::Integrity,
        OutputError::Disk(_)
        | OutputError::Arrow(_)
        | OutputError::Parquet { .. }
        | OutputError::StagedMissing { .. }
        | OutputError::NameTaken { .. } => ExitCode::Storage,
        OutputError::Ledger(error) => of_ledger(error),
        OutputError::WriterEnded | OutputError::Panic(_) => ExitCode::Internal,
    }
}

fn of_report(error: &ReportError) -> ExitCode {
    match error {
        ReportError::Sample => ExitCode::Usage,
        ReportError::Output(error) => of_output(error),
        ReportError::Ledger(error) => of_ledger(error),
        ReportError::Journal(error) => of_journal(error),
        ReportError::Disk(_) | ReportError::Write { .. } => ExitCode::Storage,
        ReportError::Panic(_) => ExitCode::Internal,
    }
}

fn of_journal(error: &JournalError) -> ExitCode {
    match error {
        JournalError::Damaged { .. } => ExitCode::Integrity,
        JournalError::Disk(_) | JournalError::Pack(_) => ExitCode::Storage,
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
