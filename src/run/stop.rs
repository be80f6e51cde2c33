//! Why a run stops before it is done.

use crate::error::{ExitCode, RESUME};
use crate::fetch::classify::StopCause;

/// Why a run stops before it is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    Signal(ExitCode),
    /// No request will succeed; the message of the last one.
    Cause(StopCause, String),
    /// Nothing succeeded for too long; the last message.
    Temporary(String),
    /// Many items in a row got the same response, which is not a page; its message.
    Same(String),
    /// No page ever came, in this run or before; the number of items that were requested now, and the last message.
    NoPage(usize, String),
    Credits,
    /// A survey has read all it was to read.
    Surveyed,
    /// The run's time is over; the message names the setting.
    Time(String),
    /// Lists continue behind short pages, and reading on costs more than `max_evidence` allows.
    Evidence {
        ends: u64,
        pages: u64,
    },
    /// Many lists in a row came without a row.
    EmptyLists {
        empty: u64,
        /// True: no list ever had a row. False: most had.
        all: bool,
    },
    /// A disk is nearly full; the message names it.
    Room(String),
}

impl Stop {
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Signal(code) => *code,
            Self::Cause(StopCause::Account, _) => ExitCode::Account,
            Self::Cause(StopCause::Contract, _) | Self::NoPage(..) | Self::EmptyLists { .. } => ExitCode::Contract,
            Self::Temporary(_) | Self::Same(_) => ExitCode::Temporary,
            Self::Credits | Self::Surveyed | Self::Time(_) | Self::Evidence { .. } => ExitCode::Limit,
            Self::Room(_) => ExitCode::Storage,
        }
    }

    pub(crate) fn next_step(&self) -> Option<&'static str> {
        if matches!(self, Self::Time(_)) { Some(RESUME) } else { self.exit_code().next_step() }
    }

    /// Whether it may come of a list that became shorter: some APIs answer a page behind its end as they would in an outage.
    pub(crate) fn may_be_of_last_pages(&self) -> bool {
        matches!(self, Self::Temporary(_) | Self::Same(_))
    }

    /// Whether the run still publishes what it has: not after a signal, which wants a quick end, and not on a full disk.
    pub(crate) fn publishes(&self) -> bool {
        !matches!(self, Self::Signal(_) | Self::Room(_))
    }
}

impl std::fmt::Display for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Signal(_) => f.write_str("stopped by a signal"),
            Self::Cause(_, message) | Self::Room(message) | Self::Time(message) => f.write_str(message),
            Self::Temporary(message) => write!(f, "nothing succeeded for too long; the last response: {message}"),
            Self::Same(message) => {
                write!(f, "many products in a row got the same response instead of a page: {message}")
            }
            Self::NoPage(items, message) => write!(
                f,
                "no product got a page; the last response: {message}; {items} products from all over the list were requested (if the endpoint is right, add a product that is known to exist to the list)"
            ),
            Self::Credits => f.write_str("max_credits is reached"),
            Self::Surveyed => f.write_str("the sample is read"),
            Self::Evidence { ends, pages } => write!(
                f,
                "lists continue behind pages with fewer rows than requested: {ends} lists that ended on such a page must be read on, which costs up to {ends} credits after {pages} pages; to allow that, run again with a larger --max-evidence, or with --end empty-page"
            ),
            Self::EmptyLists { empty, all: true } => write!(
                f,
                "no list has a row ({empty} lists from all over the list of products): check the endpoint, the account, the market and the ids; then --repair requests them again; if the lists are really empty, use --allow-empty"
            ),
            Self::EmptyLists { empty, all: false } => write!(
                f,
                "the last {empty} lists came without a row, though most lists before had rows: the API seems degraded; when it has recovered, --repair requests them again; if the lists are really empty, use --allow-empty"
            ),
        }
    }
}
