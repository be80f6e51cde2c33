//! The result of `prune`: a text for a person, and the same as one JSON object for a program.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use bytesize::ByteSize;
use serde::Serialize;

use crate::model::page::SegmentId;
use crate::model::sanitize::Sanitized;
use crate::output::retention::{Needed, Sorted, listed};
use crate::report::totals::{Count, as_u64};

/// What the removal ends.
const ENDS: &str = "`pagehaul replay` cannot rebuild these segments any more, nor write them with other columns";

#[derive(Clone, Debug, Serialize)]
pub(crate) struct PruneReport {
    /// `pruned`, `would_prune` for a dry run, or `nothing_to_prune`.
    pub status: &'static str,
    /// The exit code: 0.
    pub exit_code: u8,
    pub export: String,
    pub out: String,
    pub older_than: String,
    pub dry_run: bool,
    /// Journal files that were removed, or would be.
    pub files: u64,
    pub bytes: u64,
    pub segments: Vec<i64>,
    /// What that ends; none if nothing is removed.
    pub ends: Option<&'static str>,
    /// Segments whose journal file stays, by reason.
    pub kept: BTreeMap<Needed, u64>,
    /// Segments whose journal file was removed before.
    pub pruned_before: u64,
}

impl PruneReport {
    pub(crate) fn new(
        sorted: &Sorted,
        (export, out): (String, String),
        older_than: Duration,
        is_dry_run: bool,
    ) -> Self {
        let mut kept = BTreeMap::new();
        for (_, needed) in &sorted.needed {
            *kept.entry(*needed).or_default() += 1;
        }
        let is_empty = sorted.expendable.is_empty();
        Self {
            status: match is_dry_run {
                _ if is_empty => "nothing_to_prune",
                true => "would_prune",
                false => "pruned",
            },
            exit_code: 0,
            export,
            out,
            older_than: humantime::format_duration(older_than).to_string(),
            dry_run: is_dry_run,
            files: as_u64(sorted.expendable.len()),
            bytes: sorted.expendable.iter().map(|file| file.bytes).sum(),
            segments: sorted.expendable.iter().map(|file| file.segment.0).collect(),
            ends: (!is_empty).then_some(ENDS),
            kept,
            pruned_before: as_u64(sorted.gone),
        }
    }
}

/// What the segments have in common whose journal files stay, after their number.
fn explained(needed: Needed) -> &'static str {
    match needed {
        Needed::Unpublished => "not published yet",
        Needed::Recent => "published more recently",
        Needed::NotJudged => "with responses that may become pages under other codes of the endpoint",
        Needed::ReplayUnfinished => "of which a replay was not finished",
        Needed::OutputModified => {
            "whose published files are missing or were changed: `pagehaul replay` rebuilds them first"
        }
        Needed::JournalDamaged => "whose journal file is missing or damaged: `pagehaul verify` says more",
    }
}

impl fmt::Display for PruneReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.status {
            "pruned" => "pruned",
            "would_prune" => "dry run, nothing is removed: would prune",
            _ => "nothing to prune",
        };
        match self.ends {
            None => writeln!(f, "{what}")?,
            Some(ends) => {
                let segments = listed(self.segments.iter().copied().map(SegmentId));
                writeln!(f, "{what}: {}, {}", Count(self.files, "journal file"), ByteSize(self.bytes))?;
                writeln!(f, "  segments  {segments}")?;
                writeln!(f, "  ends      {ends}")?;
            }
        }
        for (needed, count) in &self.kept {
            writeln!(f, "  kept      {} {}", Count(*count, "segment"), explained(*needed))?;
        }
        if self.pruned_before > 0 {
            writeln!(f, "  before    {} pruned", Count(self.pruned_before, "segment"))?;
        }
        write!(f, "  output    {}", Sanitized(&self.out))
    }
}
