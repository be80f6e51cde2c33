//! Errors of the list and the API key.

use std::path::PathBuf;

use crate::state::ledger::LedgerError;

/// The list or the API key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// The list cannot be opened or read.
    #[error("cannot read list {list}: {reason}")]
    Unreadable {
        /// The list.
        list: String,
        /// Why, and what to do.
        reason: String,
    },
    /// An entry of the list is not an id.
    #[error("{list}, line {line}: {reason}")]
    BadId {
        /// The list.
        list: String,
        /// Line, or row for a table, from 1.
        line: u64,
        /// Why, and what to do.
        reason: String,
    },
    /// The list has no id.
    #[error("the list of products has no id")]
    Empty,
    /// The ledger failed while ids were added.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The API key cannot be used. The text is the whole message, and never shows the key.
    #[error("{0}")]
    Key(&'static str),
    /// The API key's file cannot be read.
    #[error("cannot read the API key from {}", path.display())]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The API key cannot be read from standard input.
    #[error("cannot read the API key from stdin")]
    KeyInput(#[source] std::io::Error),
}
