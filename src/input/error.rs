//! Errors of the list and the API key.

use std::path::PathBuf;

use crate::state::ledger::LedgerError;

#[derive(Debug, thiserror::Error)]
pub enum InputError {
    #[error("cannot read list {list}: {reason}")]
    Unreadable { list: String, reason: String },
    #[error("{list}, line {line}: {reason}")]
    BadId {
        list: String,
        /// Line, or row for a table, from 1.
        line: u64,
        reason: String,
    },
    #[error("the list of products has no id")]
    Empty,
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The API key cannot be used. The text is the whole message, and never shows the key.
    #[error("{0}")]
    Key(&'static str),
    #[error("cannot read the API key from {}", path.display())]
    KeyFile {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot read the API key from stdin")]
    KeyInput(#[source] std::io::Error),
}
