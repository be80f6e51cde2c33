//! `--keep`: when a snapshot is complete, the files of older complete ones of its dataset are removed.
//!
//! Here it is decided which; [`Sibling`] knows what each is, and looks again before it removes. This run's snapshot keeps its files
//! in any case, and its lock keeps other processes from removing them. A snapshot that is running, incomplete, of another list
//! or unknown stays and does not count.

use crate::model::event::Event;
use crate::model::sanitize::{Sanitized, chain};
use crate::output::error::OutputError;
use crate::output::read_only::ExportPath;
use crate::output::removal::Removed;
use crate::output::sibling::{Sibling, SnapshotState};
use crate::output::store::Store;
use crate::report::totals::{Count, as_u64};
use crate::run::open::OpenExport;
use crate::settings::{ExportPaths, SnapshotLabel};

/// Names in one warning.
const NAMED: usize = 5;

/// The other snapshots of a dataset, by what happens to them.
#[derive(Debug, Default)]
struct Sorted<T> {
    /// Complete ones that keep their files, the newest first.
    kept: Vec<T>,
    incomplete: Vec<T>,
    /// Those whose files are removed, the oldest first.
    going: Vec<(SnapshotState, T)>,
}

impl<T> Sorted<T> {
    /// `others`: how many keep their files, beside this run's.
    fn new(found: Vec<(SnapshotState, T)>, others: usize) -> Self {
        let (mut complete, mut sorted) =
            (Vec::new(), Self { kept: Vec::new(), incomplete: Vec::new(), going: Vec::new() });
        for (state, snapshot) in found {
            match state {
                SnapshotState::Complete(since) => complete.push((since, snapshot)),
                SnapshotState::Incomplete => sorted.incomplete.push(snapshot),
                SnapshotState::Removing => sorted.going.push((state, snapshot)),
                SnapshotState::Removed => {}
            }
        }
        complete.sort_by_key(|(since, _)| *since);
        let newest = complete.split_off(complete.len().saturating_sub(others));
        sorted.kept.extend(newest.into_iter().rev().map(|(_, snapshot)| snapshot));
        let oldest = complete.into_iter().map(|(since, snapshot)| (SnapshotState::Complete(since), snapshot));
        sorted.going.extend(oldest);
        sorted
    }
}

impl OpenExport<'_> {
    /// Removes the files of the complete snapshots beyond those that are kept, until `is_stopped`. What fails is a warning, because
    /// this run's snapshot is complete.
    pub(super) async fn remove_older_snapshots(&self, mut is_stopped: impl FnMut() -> bool) {
        let settings = &self.context.settings;
        let Some((keep, own)) = settings.keep.zip(settings.snapshot.clone()) else { return };
        let others = usize::try_from(keep.saturating_sub(1)).unwrap_or(usize::MAX);
        match self.siblings(own.clone(), &mut is_stopped).await {
            Ok(found) => self.keep(&own, Sorted::new(found, others), is_stopped).await,
            Err(error) => self.warn(&format!("no older snapshot is removed: {}", chain(&error))),
        }
    }

    /// The other snapshots of the dataset, as far as it is known what they are. Not all of them after a signal.
    async fn siblings(
        &self,
        own: SnapshotLabel,
        mut is_stopped: impl FnMut() -> bool,
    ) -> Result<Vec<(SnapshotState, Sibling)>, OutputError> {
        let settings = &self.context.settings;
        let identity = settings.identity();
        let dataset = Store::open(&settings.out.parent(), &settings.store, &settings.state_dir)?;
        let paths =
            ExportPaths { out: settings.out.clone(), state: settings.state_dir.clone(), snapshot: Some(own.clone()) };
        let mut found = Vec::new();
        for name in dataset.directories().await? {
            if is_stopped() {
                break;
            }
            let Some(label) = SnapshotLabel::of_directory(&name).filter(|label| *label != own) else { continue };
            let ExportPaths { out, state, snapshot: _ } = paths.sibling(label);
            let sibling = Sibling { name, path: ExportPath { out, store: settings.store.clone(), state } };
            match sibling.inspect(&identity).await {
                Ok(state) => found.push((state, sibling)),
                Err(error) => self.warn(&format!("{} stays and does not count: {}", sibling.name, chain(&error))),
            }
        }
        Ok(found)
    }

    async fn keep(&self, own: &SnapshotLabel, sorted: Sorted<Sibling>, mut is_stopped: impl FnMut() -> bool) {
        let identity = self.context.settings.identity();
        for (state, sibling) in &sorted.going {
            let name = &sibling.name;
            if is_stopped() {
                self.warn("stopped by a signal: the next run with --keep removes the files of other older snapshots");
                return;
            }
            match sibling.remove(*state, &identity, &mut is_stopped).await {
                Ok(Removed { is_stopped: true, .. }) => {
                    self.warn(&format!("stopped by a signal: the next run with --keep removes what is left of {name}"));
                    return;
                }
                Ok(Removed { files, foreign, .. }) => {
                    let files = Count(as_u64(files), "file");
                    self.log(&format!("removed the files of {name} ({files}); its ledger and journal stay"));
                    self.warn_of_foreign(name, &foreign);
                }
                Err(error) => self.warn(&format!("{name} is not removed: {}", chain(&error))),
            }
        }
        let names = |snapshots: Vec<Sibling>| snapshots.into_iter().map(|snapshot| snapshot.name);
        let complete: Vec<String> = std::iter::once(own.directory()).chain(names(sorted.kept)).collect();
        let incomplete: Vec<String> = names(sorted.incomplete).collect();
        self.log(&format!("complete snapshots with their files: {}", complete.join(", ")));
        if !incomplete.is_empty() {
            self.log(&format!("incomplete snapshots stay and do not count: {}", incomplete.join(", ")));
        }
    }

    fn warn_of_foreign(&self, snapshot: &str, foreign: &[String]) {
        if foreign.is_empty() {
            return;
        }
        let named: Vec<String> = foreign.iter().take(NAMED).map(|name| Sanitized(name).to_string()).collect();
        let more = foreign.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        self.warn(&format!("{snapshot} still has what is not of its export: {}{more}", named.join(", ")));
    }

    fn log(&self, message: &str) {
        self.context.events.event(&Event::Snapshots(message));
    }
}

#[cfg(test)]
mod tests {
    use super::Sorted;
    use crate::model::clock::Utc64;
    use crate::output::sibling::SnapshotState::{self, Complete, Incomplete, Removed, Removing};

    #[test]
    fn the_newest_complete_snapshots_keep_their_files_and_what_is_not_complete_takes_no_place() {
        let found = || {
            [
                (Complete(Utc64(30)), "c"),
                (Incomplete, "partial"),
                (Complete(Utc64(100)), "e"),
                (Removing, "started"),
                (Removed, "gone"),
                (Complete(Utc64(9)), "a"),
            ]
        };
        let table: [(usize, &[&str], &[&str]); 5] = [
            (0, &[], &["started", "a", "c", "e"]),
            (1, &["e"], &["started", "a", "c"]),
            (2, &["e", "c"], &["started", "a"]),
            (3, &["e", "c", "a"], &["started"]),
            (usize::MAX, &["e", "c", "a"], &["started"]),
        ];
        for (others, kept, going) in table {
            let sorted = Sorted::new(found().to_vec(), others);
            let names =
                |going: &[(SnapshotState, &'static str)]| going.iter().map(|(_, name)| *name).collect::<Vec<_>>();
            assert_eq!((&*sorted.kept, &*names(&sorted.going)), (kept, going), "{others}");
            assert_eq!(sorted.incomplete, ["partial"]);
        }
    }
}
