//! Adding the ids of a list, however long it is and however much of it is known.

use rusqlite::Transaction;

use super::{Doing, LedgerError};
use crate::page::ItemId;

/// Adds the items that are new; gives how many ids came and how many of them were new.
///
/// A list that comes again comes in the same order: its ids are met side by side with the ledger's, and only those that are
/// not where they were are looked up.
pub(super) fn add_items<E: From<LedgerError>>(
    transaction: &Transaction<'_>,
    ids: impl Iterator<Item = Result<ItemId, E>>,
) -> Result<(u64, u64), E> {
    let insert = "INSERT OR IGNORE INTO items (id) VALUES (?1)";
    let mut insert = transaction.prepare(insert).doing("prepare to add items")?;
    let mut standing = transaction.prepare("SELECT id FROM items ORDER BY ix").doing("list the items")?;
    let mut standing = standing.query_map([], |row| row.get::<_, String>(0)).doing("list the items")?;
    let mut next = standing.next().transpose().doing("list the items")?;
    let (mut came, mut new) = (0, 0);
    for id in ids {
        let id = id?;
        came += 1;
        if next.as_deref() == Some(id.as_str()) {
            next = standing.next().transpose().doing("list the items")?;
        } else {
            new += u64::try_from(insert.execute([id.as_str()]).doing("add an item")?).unwrap_or_default();
        }
    }
    Ok((came, new))
}

#[cfg(test)]
mod tests {
    use crate::ledger::{Ledger, LedgerError};
    use crate::page::ItemId;

    #[test]
    fn whatever_the_order_of_a_list_each_id_is_added_once_and_keeps_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(&folder.path().join("ledger.sqlite")).unwrap();
        let lists: [(&[&str], u64); 8] = [
            (&["b", "a", "b", "c"], 3),
            (&["b", "a", "c"], 0),
            (&["b", "a", "c", "d", "d", "e"], 2),
            (&["x", "b", "a", "y", "c", "x", "d", "e"], 2),
            (&["e", "d", "c", "b", "a"], 0),
            (&["c"], 0),
            (&[], 0),
            (&["b", "b", "a", "a", "z"], 1),
        ];
        for (list, new) in lists {
            let ids = list.iter().map(|id| Ok::<_, LedgerError>(ItemId::new(id)));
            let came = u64::try_from(list.len()).unwrap();
            assert_eq!(ledger.add_items(ids).unwrap(), (came, new), "{list:?}");
        }
        let ids = ledger.rows("SELECT id FROM items ORDER BY ix", [], |row| row.get::<_, String>(0)).unwrap();
        assert_eq!(ids, ["b", "a", "c", "d", "e", "x", "y", "z"]);
    }
}
