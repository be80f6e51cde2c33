//! The exit codes of the program, and the next step for each.

/// An exit code, as a scheduler sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ExitCode {
    /// All products are complete and published.
    Complete,
    /// A bug.
    Internal,
    /// A flag, a setting, the list or the API key cannot be used; no request was sent.
    Usage,
    /// The output is valid but incomplete: some products failed or are incomplete; after a replay also unfinished ones.
    Partial,
    Busy,
    /// Network, API or rate limit failed for too long; everything is kept, the same command resumes.
    Temporary,
    Limit,
    /// The API key, its credits or the server's identity.
    Account,
    /// A disk is full or failed.
    Storage,
    /// Ledger, journal or output are damaged, or belong to other settings.
    Integrity,
    /// The API's responses do not fit the endpoint's description.
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
        self.number_and_name().0
    }

    /// Its name in the summary.
    pub fn as_str(self) -> &'static str {
        self.number_and_name().1
    }

    fn number_and_name(self) -> (u8, &'static str) {
        match self {
            Self::Complete => (0, "complete"),
            Self::Internal => (1, "internal"),
            Self::Usage => (2, "usage"),
            Self::Partial => (3, "partial"),
            Self::Busy => (4, "busy"),
            Self::Temporary => (5, "temporary"),
            Self::Limit => (6, "limit"),
            Self::Account => (7, "account"),
            Self::Storage => (8, "storage"),
            Self::Integrity => (9, "integrity"),
            Self::Contract => (10, "contract"),
            Self::Interrupted => (130, "interrupted"),
            Self::Terminated => (143, "terminated"),
        }
    }

    pub fn next_step(self) -> Option<&'static str> {
        match self {
            Self::Complete => None,
            Self::Internal => {
                Some("this is a bug: please report it with the lines above; the same command resumes the export")
            }
            Self::Usage => Some(
                "`pagehaul --help` lists the commands, `pagehaul COMMAND --help` lists the flags; no request was sent",
            ),
            Self::Partial => Some(
                "_pagehaul/products.parquet lists what is missing; the same command retries temporary failures, --retry-failed also permanent ones, --repair reads lists again that changed meanwhile; rejected rows need a new export (--out)",
            ),
            Self::Busy => Some("wait for the other process, or choose another directory with --out"),
            Self::Temporary => Some("run the same command again later: it resumes where this one stopped"),
            Self::Limit => Some("raise the limit and run the command again: it resumes"),
            Self::Account => Some(
                "fix the cause above (the API key, its credits, the API's certificate, the proxy or this machine's clock), then run the same command again: it resumes",
            ),
            Self::Storage => Some("free space or fix the directory, then run the same command again: it resumes"),
            Self::Integrity => Some(
                "nothing was changed; use the settings that the export started with, restore damaged files from a backup, or choose another --out",
            ),
            Self::Contract => Some(
                "the API may have changed: inspect a response in the journal (zstdcat), then check --endpoint and --end",
            ),
            Self::Interrupted | Self::Terminated => Some(
                "run the same command again: it resumes; `pagehaul replay` publishes what is already in the journal",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ExitCode;

    #[test]
    fn exit_codes_are_distinct_and_none_has_a_meaning_of_its_own_to_shells_and_schedulers() {
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
        let readme = include_str!("../../README.md");
        for code in ExitCode::ALL {
            let row = format!("| {} | {} |", code.number(), code.as_str());
            assert!(readme.contains(&row), "README.md lacks {row}");
        }
    }
}
