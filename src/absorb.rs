//! Decoded pages into walks, rows and ledger entries: the one way, live and after a crash.

use crate::decode::DecodedPage;
use crate::event::{Event, Monitor};
use crate::ledger::{Group, ReadRow};
use crate::rules::Rules;
use crate::walk::Walk;

/// Reads a decoded page into its walk, notes it in the group, and says which rows are new.
pub fn absorb(
    page: &DecodedPage,
    walk: &mut Walk,
    rules: &Rules,
    group: &mut Group,
    monitor: &dyn Monitor,
) -> Vec<bool> {
    let keep = walk.accept(page, rules);
    let kept = page.keys.iter().zip(&keep).filter(|(_, keep)| **keep);
    let read = ReadRow {
        attempt: page.attempt,
        item: page.item,
        received: page.received,
        rejected: page.rejects.len(),
        keys: kept.map(|(key, _)| *key).collect(),
    };
    let count = |number: usize| u64::try_from(number).unwrap_or_default();
    monitor.event(&Event::Read {
        first: page.page == rules.first,
        kept: count(read.keys.len()),
        folded: count(page.keys.len() - read.keys.len()),
        rejected: count(read.rejected),
    });
    group.read.push(read);
    keep
}
