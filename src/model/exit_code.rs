//! The exit codes of the program, with what each tells a scheduler.
//!
//! Schedulers act on exit codes, so they come from one table.

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
    /// Another process works on this export.
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
            Self::Busy => Some("wait for the other process, or name another directory with --out"),
            Self::Temporary => Some("run the same command again later: it resumes where this one stopped"),
            Self::Limit => Some("raise the limit and run the command again: it resumes"),
            Self::Account => Some(
                "put right what the line above names (the key, its credits, the API's certificate, the proxy or this machine's clock), then run the same command again: it resumes",
            ),
            Self::Storage => Some("free space or fix the directory, then run the same command again: it resumes"),
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

#[cfg(test)]
mod tests {
    use super::ExitCode;

    #[test]
    fn exit_codes_are_distinct_and_none_is_one_that_shells_and_schedulers_give_a_meaning_of_their_own() {
        let mut numbers: Vec<u8> = ExitCode::ALL.into_iter().map(ExitCode::number).collect();
        numbers.dedup();
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 130, 143]);
        assert!(numbers.iter().all(|number| ![99, 101, 124, 125, 126, 127, 137].contains(number)));
    }

    #[test]
    fn the_readme_lists_every_exit_code_with_its_word() {
        let readme = include_str!("../../README.md");
        for code in ExitCode::ALL {
            let row = format!("| {} | {} |", code.number(), code.as_str());
            assert!(readme.contains(&row), "README.md lacks {row}");
        }
    }
}
