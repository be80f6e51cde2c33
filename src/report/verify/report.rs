//! The result of `verify`: a text for a person, and the same as one JSON object for a program.

use std::fmt;

use bytesize::ByteSize;
use indicatif::HumanCount;
use serde::Serialize;

use crate::model::exit_code::ExitCode;
use crate::model::sanitize::Sanitized;
use crate::report::totals::{Count, as_u64};

/// What to do about a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Remedy {
    /// Ledger or journal are not what the output was made from, and nothing can be rebuilt without them.
    State,
    /// A file is not of this export.
    Move,
    /// The journal has what is wrong in the output.
    Replay,
    /// The output is marked as complete and is not.
    Finish,
}

impl Remedy {
    pub(super) fn next_step(self) -> &'static str {
        match self {
            Self::State => {
                "the ledger or the journal is not what the output was made from: put the state directory back from a copy, or start a new export with another --out"
            }
            Self::Move => "move what is not of this export out of the directory",
            Self::Replay => "`pagehaul replay` rebuilds from the journal what differs, `--all` everything",
            Self::Finish => "the same `pagehaul export` finishes it; until then remove _SUCCESS",
        }
    }
}

/// The result of `verify`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct VerifyReport {
    /// `verified`, or `integrity` where something differs.
    pub status: &'static str,
    /// The exit code.
    pub exit_code: u8,
    /// The same, as a value.
    #[serde(skip)]
    pub exit: ExitCode,
    /// The export.
    pub export: String,
    /// Its directory.
    pub out: String,
    /// How many differences there are.
    pub differences: u64,
    /// The first of them, a line each.
    pub found: Vec<String>,
    /// What to do about them, a line for each kind.
    pub next: Vec<&'static str>,
    /// Percent of files and frames whose content was to be read; none: all.
    pub sample: Option<f64>,
    /// Where the rows are.
    pub rows: RowSums,
    /// What was read.
    pub read: VerifiedCounts,
}

/// Rows by outcome, each counted where it is: received in the journal, published and rejected in the files, duplicates and
/// waiting in the ledger. What a sample does not read is taken from the ledger and the manifests.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct RowSums {
    /// In journaled pages.
    pub received: u64,
    /// In published files.
    pub published: u64,
    /// Could not be typed.
    pub rejected: u64,
    /// Seen before in the same walk.
    pub duplicates: u64,
    /// In the journal, for the next run to publish.
    pub waiting: u64,
    /// Whether received = published + rejected + duplicates + waiting.
    pub conserved: bool,
}

/// What was read.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct VerifiedCounts {
    /// Files that the manifests list, rejects among them.
    pub files: u64,
    /// Of them, files whose content was read.
    pub files_read: u64,
    /// Bytes of the files that were read.
    pub bytes_read: u64,
    /// Journal frames that the ledger names.
    pub frames: u64,
    /// Of them, frames that were read.
    pub frames_read: u64,
    /// Pages in the journal.
    pub pages: u64,
    /// Rows in these pages.
    #[serde(skip)]
    pub rows: u64,
    /// Rows in pages that are not applied yet.
    #[serde(skip)]
    pub rows_unread: u64,
    /// Segments that are decided and not published: the next run does it.
    pub decided: u64,
}

impl VerifyReport {
    /// The JSON object, on one line.
    pub(crate) fn json(&self) -> String {
        crate::model::sanitize::json(self)
    }
}

impl fmt::Display for RowSums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { received, published, rejected, duplicates, waiting, conserved } = *self;
        let sign = if conserved { '=' } else { '≠' };
        write!(f, "{} received {sign} {} published", HumanCount(received), HumanCount(published))?;
        write!(f, " + {} rejected + {} duplicates", HumanCount(rejected), HumanCount(duplicates))?;
        write!(f, " + {} waiting", HumanCount(waiting))
    }
}

impl fmt::Display for VerifyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.found {
            writeln!(f, "difference: {line}")?;
        }
        let unnamed = self.differences.saturating_sub(as_u64(self.found.len()));
        if unnamed > 0 {
            writeln!(f, "and {} more", Count(unnamed, "difference"))?;
        }
        writeln!(f, "{}: {}", self.status, Count(self.differences, "difference"))?;
        writeln!(f, "  rows      {}", self.rows)?;
        let read = &self.read;
        write!(f, "  read      {} of {} files", HumanCount(read.files_read), HumanCount(read.files))?;
        write!(f, " ({}), {} of {}", ByteSize(read.bytes_read), HumanCount(read.frames_read), HumanCount(read.frames))?;
        writeln!(f, " journal frames")?;
        if read.decided > 0 {
            writeln!(f, "  segments  {} decided and not published: the next run does it", read.decided)?;
        }
        writeln!(f, "  output    {}", Sanitized(&self.out))?;
        for next in &self.next {
            writeln!(f, "  next      {next}")?;
        }
        Ok(())
    }
}
