//! Decoded pages into walks, rows and ledger entries: the same way live and after a crash.

use crate::decode::{Decoded, DecodedPage};
use crate::model::event::{Event, EventSink};
use crate::output::segment::Rows;
use crate::state::ledger::{AppliedRow, Group};

/// Applies the pages of a group in order, and returns the rows for the files. `page` returns which rows of a page are new; none:
/// no row of it goes to the files.
pub(crate) fn group<E>(
    decoded: Decoded,
    mut page: impl FnMut(&DecodedPage) -> Result<Option<Vec<bool>>, E>,
) -> Result<Rows, E> {
    let mut keep = Vec::with_capacity(decoded.rows.num_rows());
    let mut rejects = Vec::new();
    for decoded in decoded.pages {
        match page(&decoded)? {
            Some(mut new) => {
                keep.append(&mut new);
                rejects.extend(decoded.rejects);
            }
            None => keep.resize(keep.len() + decoded.keys.len(), false),
        }
    }
    Ok(Rows { batch: decoded.rows, partitions: decoded.partitions, keep, rejects })
}

/// Adds an applied page to the group. `keep`: which of its rows are new. `is_first`: it is the first page of its list.
pub(crate) fn note(page: &DecodedPage, keep: &[bool], is_first: bool, group: &mut Group, events: &dyn EventSink) {
    let of = |wanted: bool| {
        let keys = page.keys.iter().zip(keep).filter(move |(_, keep)| **keep == wanted);
        keys.map(|(key, _)| *key).collect::<Vec<_>>()
    };
    let read = AppliedRow {
        attempt: page.request.attempt,
        item: page.request.item,
        received: page.received,
        rejected: page.rejects.len(),
        is_list: page.is_list,
        keys: of(true),
        again: of(false),
    };
    let count = |number: usize| u64::try_from(number).unwrap_or_default();
    events.event(&Event::Read {
        first: is_first,
        kept: count(read.keys.len()),
        duplicates: count(page.keys.len() - read.keys.len()),
        rejected: count(read.rejected),
    });
    group.applied.push(read);
    group.drift.add(&page.drift);
}
