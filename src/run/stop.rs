//! Why a run stops before it is done.

use crate::error::ExitCode;
use crate::fetch::classify::StopCause;

/// Why a run stops before it is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// A signal.
    Signal(ExitCode),
    /// Nothing will work any more; what was said.
    Cause(StopCause, String),
    /// Nothing succeeded for too long; the last thing that was said.
    Temporary(String),
    /// Item after item got the same answer, which is no page; the last one.
    Same(String),
    /// No page ever came, in this run or before; of how many items one was asked for now, and the last answer.
    NoPage(usize, String),
    /// `max_credits` are spent.
    Credits,
    /// Lists go on behind short pages, and to read on costs more than was allowed for.
    Evidence {
        /// Lists that ended on a short page.
        ends: u64,
        /// Pages that were read.
        pages: u64,
    },
    /// List after list came without a row.
    EmptyLists {
        /// How many.
        empty: u64,
        /// Whether none had a row before; otherwise most had.
        all: bool,
    },
    /// A disk is nearly full; which, and how full.
    Room(String),
}

impl Stop {
    /// The code that the process ends with.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Signal(code) => *code,
            Self::Cause(StopCause::Account, _) => ExitCode::Account,
            Self::Cause(StopCause::Contract, _) | Self::NoPage(..) | Self::EmptyLists { .. } => ExitCode::Contract,
            Self::Temporary(_) | Self::Same(_) => ExitCode::Temporary,
            Self::Credits | Self::Evidence { .. } => ExitCode::Limit,
            Self::Room(_) => ExitCode::Storage,
        }
    }

    /// Whether what was read so far is published: not after a signal, which wants a quick end, and not without room for it.
    pub(crate) fn publishes(&self) -> bool {
        !matches!(self, Self::Signal(_) | Self::Room(_))
    }
}

impl std::fmt::Display for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Signal(_) => f.write_str("stopped by a signal"),
            Self::Cause(_, message) | Self::Room(message) => f.write_str(message),
            Self::Temporary(message) => write!(f, "nothing succeeded for too long, lastly: {message}"),
            Self::Same(message) => {
                write!(f, "one product after the other got the same answer and no page: {message}")
            }
            Self::NoPage(items, message) => write!(
                f,
                "no product got a page, lastly: {message}; asked for: {items}, from all over the list (if the endpoint is right, put one that is known to exist into the list)"
            ),
            Self::Credits => f.write_str("max_credits is reached"),
            Self::Evidence { ends, pages } => write!(
                f,
                "lists go on behind pages with fewer rows than asked for: {ends} lists that ended on such a page are to be read on, which costs up to {ends} credits where {pages} pages were read; to allow that, run again with a larger --max-evidence, or with --end empty-page"
            ),
            Self::EmptyLists { empty, all: true } => write!(
                f,
                "no list has a row, {empty} of them asked for all over the list of products: is it the right endpoint, account or market, and are these ids of this API? once that is right, --repair asks for them again; if they are empty, --allow-empty says so"
            ),
            Self::EmptyLists { empty, all: false } => write!(
                f,
                "the last {empty} lists came without a row, though most before had rows: the API seems to be degraded; once it is not, --repair asks for them again; if they are empty, --allow-empty says so"
            ),
        }
    }
}
