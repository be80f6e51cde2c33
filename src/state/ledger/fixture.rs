//! What the tests of the ledger write into it.

use tempfile::TempDir;

use super::{AddedItems, AppliedRow, EndRow, Group, Ledger, LedgerError, PageRow};
use crate::model::clock::Utc64;
use crate::model::page::{AttemptId, ItemId, ItemIx, PageNum, Request, StopReason};

/// A new ledger with these items.
pub(super) fn ledger<T: AsRef<str>>(ids: &[T]) -> (TempDir, Ledger) {
    let directory = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::open(&directory.path().join("ledger.sqlite")).unwrap();
    add(&mut ledger, ids);
    (directory, ledger)
}

pub(super) fn add<T: AsRef<str>>(ledger: &mut Ledger, ids: &[T]) -> AddedItems {
    ledger.add_items(ids.iter().map(|id| Ok::<_, LedgerError>(ItemId::new(id.as_ref()))), || Ok(())).unwrap()
}

/// A ledger of lists whose pages had so many rows, each ended on its last page.
pub(super) fn ended(lists: &[(&[usize], StopReason)]) -> (TempDir, Ledger) {
    let ids: Vec<String> = (0..lists.len()).map(|at| format!("p{at}")).collect();
    let (directory, mut ledger) = ledger(&ids);
    let mut group = Group { frame: Some((ledger.start_segment().unwrap().id, 0, 1)), ..Group::default() };
    for (item, (pages, stop)) in (1..).zip(lists) {
        for (number, rows) in (1..).zip(*pages) {
            let attempt = i64::try_from(group.pages.len()).unwrap() + 1;
            group.pages.push(page(attempt, item, number));
            group.applied.push(applied(attempt, item, *rows, 0));
        }
        let (error, is_moved) = (Some("refused".to_owned()), *stop == StopReason::Shifted);
        group.ended.push(EndRow { error, is_moved, ..EndRow::new(ItemIx(item), *stop) });
    }
    ledger.commit(&group, Utc64(1)).unwrap();
    (directory, ledger)
}

pub(super) fn page(attempt: i64, item: i64, page: u32) -> PageRow {
    PageRow { attempt: AttemptId(attempt), item: ItemIx(item), page: PageNum(page), at: Utc64(1) }
}

pub(super) fn request(attempt: i64, item: i64) -> Request {
    Request { attempt: AttemptId(attempt), item: ItemIx(item), id: ItemId::new("a"), page: PageNum(1) }
}

/// A page with `received` rows, all of them new except the rejected ones.
pub(super) fn applied(attempt: i64, item: i64, received: usize, rejected: usize) -> AppliedRow {
    let keys = (0..received - rejected).map(|row| [u8::try_from(row).unwrap(); 16]).collect();
    let (attempt, item) = (AttemptId(attempt), ItemIx(item));
    AppliedRow { attempt, item, received, rejected, is_list: true, keys, again: Vec::new() }
}
