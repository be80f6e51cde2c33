//! Why a run stops before it is done, and what it counted until then.

use crate::error::ExitCode;
use crate::verdict::StopCause;

/// Why a run stops before it is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// A signal.
    Signal(ExitCode),
    /// Nothing will work any more; what was said.
    Cause(StopCause, String),
    /// Nothing succeeded for too long; the last thing that was said.
    Temporary(String),
    /// Item after item was answered and none with a page; the last answer, and whether a page ever came before.
    Same(String, bool),
    /// `max_credits` are spent.
    Credits,
    /// Short pages seem to be no end here; their size.
    ShortPages(usize),
    /// A disk is nearly full; which, and how full.
    Room(String),
}

impl Stop {
    /// The code that the process ends with.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Signal(code) => *code,
            Self::Cause(StopCause::Account, _) => ExitCode::Account,
            Self::Cause(StopCause::Contract, _) | Self::Same(_, false) | Self::ShortPages(_) => ExitCode::Contract,
            Self::Temporary(_) | Self::Same(_, true) => ExitCode::Temporary,
            Self::Credits => ExitCode::Limit,
            Self::Room(_) => ExitCode::Storage,
        }
    }

    /// Whether what was read so far is published: not after a signal, which wants a quick end, and not without room for it.
    pub fn publishes(&self) -> bool {
        !matches!(self, Self::Signal(_) | Self::Room(_))
    }
}

impl std::fmt::Display for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Signal(_) => f.write_str("stopped by a signal"),
            Self::Cause(_, said) | Self::Room(said) => f.write_str(said),
            Self::Temporary(said) => write!(f, "nothing succeeded for too long, lastly: {said}"),
            Self::Same(said, true) => {
                write!(f, "one product after the other got the same answer and no page: {said}")
            }
            Self::Same(said, false) => write!(f, "no product got a page, lastly: {said}"),
            Self::Credits => f.write_str("max_credits is reached"),
            Self::ShortPages(rows) => write!(
                f,
                "every list so far ended on a page of {rows} rows and no page was full: short pages seem to be no end here; run again with --end empty-page"
            ),
        }
    }
}

/// What happened in this run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counted {
    /// Requests sent.
    pub requests: u64,
    /// Pages among the answers.
    pub pages: u64,
    /// Attempts that were followed by another one.
    pub retries: u64,
    /// Answers 429.
    pub throttled: u64,
    /// Pages asked for ahead that brought no row.
    pub wasted: u64,
    /// From the first request to the last answer, seconds.
    pub seconds: f64,
    /// The limit that refusals have shown, requests a second.
    pub found: Option<f64>,
}
