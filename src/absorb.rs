//! Decoded pages into walks, rows and ledger entries: the one way, live and after a crash.

use crate::decode::DecodedPage;
use crate::event::{Event, Monitor};
use crate::ledger::{EndRow, Group, ReadRow};
use crate::page::StopReason;
use crate::walk::{Rules, Walk};

/// Reads a decoded page into its walk: notes it in the group, says which rows are new, and why the walk is over if it is.
pub fn absorb(
    page: &DecodedPage,
    walk: &mut Walk,
    rules: &Rules,
    group: &mut Group,
    monitor: &dyn Monitor,
) -> (Vec<bool>, Option<StopReason>) {
    let accepted = walk.accept(page, rules);
    let kept = page.keys.iter().zip(&accepted.keep).filter(|(_, keep)| **keep);
    let read = ReadRow {
        attempt: page.attempt,
        item: page.item,
        received: page.received,
        rejected: page.rejects.len(),
        keys: kept.map(|(key, _)| *key).collect(),
    };
    let count = |number: usize| u64::try_from(number).unwrap_or_default();
    monitor.event(&Event::Read {
        kept: count(read.keys.len()),
        folded: count(page.keys.len() - read.keys.len()),
        rejected: count(read.rejected),
    });
    group.read.push(read);
    let stop = accepted.stop.map(|(stop, error)| {
        monitor.event(&Event::Ended { id: &page.id, stop, error: error.as_deref() });
        group.ended.push(EndRow { item: page.item, stop, error, transient: false });
        stop
    });
    (accepted.keep, stop)
}
