//! `verify`: files, manifests, journal and ledger compared with each other. Nothing is changed.
//!
//! The ledger knows what was decided to the byte, the manifests in the output say the same, the files are as listed, and
//! the journal holds what the ledger counts. Each of them is read for itself; whatever two of them say differently is a
//! difference. Memory is bounded by a batch of rows, a journal frame, and the keys of one item.

mod files;
mod journals;
mod keys;
mod report;
mod table;

use std::collections::BTreeSet;
use std::path::PathBuf;

use sha2::{Digest, Sha256};

use crate::model::exit_code::ExitCode;
use crate::model::page::SegmentId;
use crate::model::sanitize::sanitize;
use crate::output::error::OutputError;
use crate::output::export_dir::refuse_removed;
use crate::output::names::{OWNER, SUCCESS};
use crate::output::owner;
use crate::output::read_only::{ExportPath, ReadOnlyExport};
use crate::output::store::Store;
use crate::output::table_root::TableRoot;
use crate::report::error::ReportError;
use crate::report::totals::RowCounts;
use crate::state::ledger::{SegmentRow, SegmentState};

use report::Remedy;
pub(crate) use report::{RowSums, VerifiedCounts, VerifyReport};

/// Differences that are named one by one.
const NAMED: usize = 40;

/// How much content is read, percent; none: all.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SampleRate(Option<f64>);

impl SampleRate {
    /// Percent of the files and frames. The error says what it must be.
    pub(crate) fn parse(percent: &str) -> Result<Self, &'static str> {
        let number = percent.parse().ok().filter(|number: &f64| *number > 0.0 && *number <= 100.0);
        number
            .map(|number| Self(Some(number).filter(|number| *number < 100.0)))
            .ok_or("must be a number above 0, up to 100: percent of the content")
    }

    /// Whether this file or frame is read: a matter of its name alone, so that it is the same ones each time.
    fn takes(self, name: &str) -> bool {
        let Some(percent) = self.0 else { return true };
        let hash = Sha256::digest(name.as_bytes());
        let lot = hash.first_chunk::<4>().map_or(0, |bytes| u32::from_le_bytes(*bytes));
        f64::from(lot) * 100.0 < percent * f64::from(u32::MAX)
    }
}

/// What differs: all of it counted, the first of it named.
#[derive(Debug, Default)]
struct Mismatches {
    named: Vec<String>,
    count: u64,
    remedies: BTreeSet<Remedy>,
}

impl Mismatches {
    fn add(&mut self, remedy: Remedy, what: impl AsRef<str>) {
        self.count += 1;
        self.remedies.insert(remedy);
        if self.named.len() < NAMED {
            self.named.push(sanitize(what.as_ref()));
        }
    }
}

struct Audit<'a> {
    opened: &'a ReadOnlyExport,
    store: &'a Store,
    table: &'a TableRoot,
    segments: &'a [SegmentRow],
    journal: PathBuf,
    share: SampleRate,
    /// Whether files are read at all: objects are downloaded only for `--read`.
    reads_files: bool,
    read: VerifiedCounts,
    differences: Mismatches,
}

impl Audit<'_> {
    fn differs(&mut self, remedy: Remedy, what: impl AsRef<str>) {
        self.differences.add(remedy, what);
    }

    /// What repairs the files of a segment.
    fn rebuild(&self, segment: SegmentId) -> Remedy {
        let is_pruned = self.segments.iter().any(|row| row.id == segment && row.is_pruned);
        if is_pruned { Remedy::Pruned } else { Remedy::Replay }
    }
}

/// `downloads`: whether the objects of an output in a bucket are read.
pub(crate) async fn verify(path: &ExportPath, share: SampleRate, downloads: bool) -> Result<VerifyReport, ReportError> {
    let _locks = path.lock()?.map_err(|holder| OutputError::Busy { holder })?;
    let opened = path.open().await?;
    refuse_removed(&opened.export, &path.out)?;
    let store = path.reach().await?;
    let segments = opened.ledger.segments()?;
    let (read, differences) = (VerifiedCounts::default(), Mismatches::default());
    let journal = path.journal();
    let reads_files = downloads || !store.is_in_bucket();
    let table = TableRoot::open(&path.out, &path.store, &path.state)?;
    let (store, table) = (&store, &table);
    let mut audit =
        Audit { opened: &opened, store, table, segments: &segments, journal, share, reads_files, read, differences };
    if let Some(damage) = opened.ledger.find_damage()? {
        audit.differs(Remedy::State, format!("ledger: {damage}"));
    }
    for (count, what) in opened.ledger.contradictions()? {
        audit.differs(Remedy::State, format!("ledger: {count} {what}"));
    }
    let files = files::compare(&mut audit).await?;
    journals::compare(&mut audit)?;
    table::compare(&mut audit).await?;
    let sums = files.segments.iter().filter_map(|(segment, contents)| Some((*segment, contents.keys?)));
    keys::compare(&mut audit, sums)?;
    let rows = rows(&mut audit, &files)?;
    compare_marks(&mut audit, &rows).await?;
    let Audit { read, differences, .. } = audit;
    let exit = if differences.count == 0 { ExitCode::Complete } else { ExitCode::Integrity };
    Ok(VerifyReport {
        status: if differences.count == 0 { "verified" } else { exit.as_str() },
        exit_code: exit.number(),
        exit,
        export: opened.export.id.clone(),
        out: path.out.to_string(),
        differences: differences.count,
        found: differences.named,
        next: differences.remedies.into_iter().map(Remedy::next_step).collect(),
        sample: share.0,
        rows,
        read,
    })
}

/// The equation of conservation: every row that was received is somewhere, and in one path only.
fn rows(audit: &mut Audit<'_>, files: &files::Files) -> Result<RowSums, ReportError> {
    let (received, waiting) = (audit.read.rows, audit.read.rows_unread);
    let mut rows = RowCounts { received, waiting, ..RowCounts::default() };
    for segment in audit.segments {
        let sums = audit.opened.ledger.segment_sums(segment.id)?;
        rows.duplicates += sums.received.saturating_sub(sums.kept + sums.rejected);
        let Some(found) = files.segments.get(&segment.id) else {
            rows.waiting += sums.kept;
            rows.rejected += sums.rejected;
            continue;
        };
        rows.published += found.rows;
        rows.rejected += found.rejected;
        for (what, files, ledger) in [("rows", found.rows, sums.kept), ("rejects", found.rejected, sums.rejected)] {
            if files != ledger {
                let what = format!("segment {}: {files} {what} in its files, {ledger} in the ledger", segment.id);
                audit.differs(audit.rebuild(segment.id), what);
            }
        }
    }
    let conserved = received == rows.published + rows.rejected + rows.duplicates + rows.waiting;
    let sums = RowSums { counts: rows, conserved };
    if !conserved {
        audit.differs(Remedy::Replay, format!("rows are not conserved: {sums}"));
    }
    Ok(sums)
}

/// The marks that readers trust: whose output it is, and whether it is complete.
async fn compare_marks(audit: &mut Audit<'_>, rows: &RowSums) -> Result<(), ReportError> {
    let opened = audit.opened;
    let owner = owner::owner(audit.store).await?;
    let has_segments = audit.segments.iter().any(|segment| segment.state != SegmentState::Open); // the owner file is written first
    if owner.as_ref().map_or(has_segments, |owner| *owner != opened.export.id) {
        let remedy = if owner.is_none() { Remedy::Replay } else { Remedy::State };
        audit.differs(remedy, format!("{OWNER} does not name the export of the ledger, {}", opened.export.id));
    }
    if audit.store.get(SUCCESS).await?.is_some() {
        let totals = opened.ledger.totals()?;
        let unfinished = totals.items - totals.complete;
        let waiting = rows.counts.waiting;
        if unfinished > 0 || waiting > 0 || opened.export.completed_at.is_none() {
            audit.differs(
                Remedy::Finish,
                format!("{SUCCESS} is there, but {unfinished} products are not complete and {waiting} rows are not published"),
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Mismatches, NAMED, Remedy, SampleRate};

    #[test]
    fn a_share_is_always_of_the_same_names_and_about_as_large_as_asked() {
        let names: Vec<String> = (0..4_000).map(|number| format!("region=ID/{number}.parquet")).collect();
        let taken = |percent: &str| {
            let share = SampleRate::parse(percent).unwrap();
            names.iter().filter(|name| share.takes(name)).collect::<Vec<_>>()
        };
        let (tenth, half) = (taken("10"), taken("50"));
        assert!((300..500).contains(&tenth.len()) && (1_800..2_200).contains(&half.len()));
        assert!(tenth.iter().all(|name| half.contains(name)), "a larger share reads at least what a smaller one reads");
        assert_eq!((taken("100").len(), tenth), (4_000, taken("10")));
        for wrong in ["0", "-1", "101", "NaN", "all", ""] {
            assert!(SampleRate::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn differences_are_named_up_to_a_number_and_counted_beyond_it_and_harmless_to_show() {
        let mut differences = Mismatches::default();
        (0..100).for_each(|number| differences.add(Remedy::Move, format!("{number} \u{1b}[31m")));
        assert_eq!((differences.count, differences.named.len()), (100, NAMED));
        assert!(!differences.named[0].contains('\u{1b}'));
    }
}
