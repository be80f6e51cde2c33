//! The result of `verify`: a text for a person, and the same as one JSON object for a program.

use std::fmt;

use bytesize::ByteSize;
use indicatif::HumanCount;
use serde::Serialize;

use crate::model::exit_code::ExitCode;
use crate::model::sanitize::Sanitized;
use crate::report::totals::{Count, RowCounts, as_u64};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Remedy {
    /// Ledger or journal are not what the output was made from, and nothing can be rebuilt without them.
    State,
    /// A file is not of this export.
    Move,
    /// The journal has what is wrong in the output.
    Replay,
    /// The journal had it, and its file was removed.
    Pruned,
    /// Somebody else changed the table.
    Table,
    /// What a store says about an object is not what it said before; its content may be the same.
    Read,
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
            Self::Pruned => {
                "the journal files of these segments were removed: put what differs back from a copy, or start a new export with another --out"
            }
            Self::Table => {
                "another writer changed the table (OPTIMIZE, DELETE): restore an earlier version of it, or move _delta_log away and run each export again with --table delta, which makes the table again"
            }
            Self::Read => "`pagehaul verify --read` downloads the objects and compares their content",
            Self::Finish => "the same `pagehaul export` finishes it; until then remove _SUCCESS",
        }
    }
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct VerifyReport {
    /// `verified`, or `integrity` where something differs.
    pub status: &'static str,
    pub exit_code: u8,
    #[serde(skip)]
    pub exit: ExitCode,
    pub export: String,
    pub out: String,
    pub differences: u64,
    /// The first of them, a line each.
    pub found: Vec<String>,
    /// What to do about them, a line for each kind.
    pub next: Vec<&'static str>,
    /// Percent of files and frames whose content was to be read; none: all.
    pub sample: Option<f64>,
    pub rows: RowSums,
    pub read: VerifiedCounts,
}

/// Rows by outcome, each counted where it is: received in the journal, published and rejected in the files, duplicates and
/// waiting in the ledger. What a sample does not read is taken from the ledger and the manifests.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct RowSums {
    #[serde(flatten)]
    pub counts: RowCounts,
    /// Whether received = published + rejected + duplicates + waiting.
    pub conserved: bool,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct VerifiedCounts {
    /// Files that the manifests list, rejects among them.
    pub files: u64,
    /// Of them, files whose content was read.
    pub files_read: u64,
    pub bytes_read: u64,
    /// Journal frames that the ledger names.
    pub frames: u64,
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
    /// Published segments that do without their journal file: the ledger's counts are compared with manifests and files.
    pub pruned: u64,
    /// The Delta table of the output, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<VerifiedTable>,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct VerifiedTable {
    /// Whether this build can read tables.
    pub is_compared: bool,
    /// Published segments that the table has.
    pub committed: u64,
    /// Those that the next run commits.
    pub uncommitted: u64,
}

impl fmt::Display for RowSums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RowCounts { received, published, rejected, duplicates, waiting } = self.counts;
        let sign = if self.conserved { '=' } else { '≠' };
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
        if read.pruned > 0 {
            let pruned = Count(read.pruned, "segment");
            writeln!(f, "  pruned    {pruned} without journal: the ledger was compared with manifests and files")?;
        }
        match read.table {
            Some(VerifiedTable { is_compared: true, committed, uncommitted: 0 }) => {
                writeln!(f, "  table     {} committed", Count(committed, "segment"))?;
            }
            Some(VerifiedTable { is_compared: true, committed, uncommitted }) => {
                let committed = Count(committed, "segment");
                writeln!(f, "  table     {committed} committed, {uncommitted} not yet: the next run does it")?;
            }
            Some(_) => writeln!(f, "  table     not compared: this build of pagehaul is without the feature `delta`")?,
            None => {}
        }
        write!(f, "  output    {}", Sanitized(&self.out))?;
        self.next.iter().try_for_each(|next| write!(f, "\n  next      {next}"))
    }
}
