//! Adds the ids of a list to the table `items`, however long the list is and however much of it is known.

use rusqlite::Transaction;

use super::{Doing, Ledger, LedgerError};
use crate::model::page::ItemId;

/// SQLite's default cache size, KiB.
const CACHE: i64 = 2_000;
/// The cache size while a list is added, KiB: an index of this size is written in another order than its table without reading
/// pages again and again.
const LARGE_CACHE: i64 = 32 * 1_024;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AddedItems {
    /// All of them.
    pub listed: u64,
    /// Ids that the ledger did not have.
    pub new: u64,
    /// Ids that the list had before.
    pub repeated: u64,
}

impl Ledger {
    /// Adds the items that are new. With new items the export is not complete any more: `first` removes what says so elsewhere,
    /// before they are committed. Fails with the error of `ids` or of `first`, and then adds none.
    pub fn add_items<E: From<LedgerError>>(
        &mut self,
        ids: impl Iterator<Item = Result<ItemId, E>>,
        first: impl FnOnce() -> Result<(), E>,
    ) -> Result<AddedItems, E> {
        self.before("add items")?;
        self.set_cache(LARGE_CACHE).doing("prepare to add items")?;
        let transaction = self.db.transaction().doing("start to add items")?;
        let added = insert_new(&transaction, ids)?;
        if added.new > 0 {
            first()?;
            transaction.execute("UPDATE export SET completed_at = NULL", []).doing("add items")?;
        }
        transaction.commit().doing("add items")?;
        self.set_cache(CACHE).doing("add items")?;
        self.after("add items")?;
        Ok(added)
    }

    fn set_cache(&self, size: i64) -> rusqlite::Result<()> {
        self.db.pragma_update(None, "cache_size", -size)
    }
}

/// Inserts the ids that are new.
///
/// A list that comes again comes in the same order: its ids are compared side by side with the ledger's, and only those that
/// moved are looked up. One bit an item says which of the known ones the list has.
fn insert_new<E: From<LedgerError>>(
    transaction: &Transaction<'_>,
    ids: impl Iterator<Item = Result<ItemId, E>>,
) -> Result<AddedItems, E> {
    let insert = "INSERT OR IGNORE INTO items (id) VALUES (?1)";
    let mut insert = transaction.prepare(insert).doing("prepare to add items")?;
    let mut find = transaction.prepare("SELECT ix FROM items WHERE id = ?1").doing("prepare to add items")?;
    let mut known = transaction.prepare("SELECT ix, id FROM items ORDER BY ix").doing("list the items")?;
    let mut known = known.query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?))).doing("list the items")?;
    let mut next = known.next().transpose().doing("list the items")?;
    let (mut added, mut listed) = (AddedItems::default(), ItemSet::default());
    for id in ids {
        let id = id?;
        added.listed += 1;
        let ix = match next.take_if(|(_, known)| known == id.as_str()) {
            Some((ix, _)) => {
                next = known.next().transpose().doing("list the items")?;
                ix
            }
            None if insert.execute([id.as_str()]).doing("add an item")? == 1 => {
                added.new += 1;
                transaction.last_insert_rowid()
            }
            None => find.query_row([id.as_str()], |row| row.get(0)).doing("find an item")?,
        };
        added.repeated += u64::from(!listed.insert(ix));
    }
    Ok(added)
}

/// A set of items: a bit for each, by its number in the ledger.
#[derive(Default)]
struct ItemSet(Vec<u64>);

impl ItemSet {
    /// Whether the item is new in the set.
    fn insert(&mut self, ix: i64) -> bool {
        let Ok(ix) = usize::try_from(ix) else { return true };
        let (word, bit) = (ix / 64, 1_u64 << (ix % 64));
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0.get_mut(word).is_none_or(|word| std::mem::replace(word, *word | bit) & bit == 0)
    }
}

#[cfg(test)]
mod tests {
    use crate::state::ledger::AddedItems;
    use crate::state::ledger::fixture::{add, ledger};

    #[test]
    fn whatever_the_order_of_a_list_each_id_is_added_once_and_keeps_its_place() {
        let (_directory, mut ledger) = ledger::<&str>(&[]);
        let lists: [(&[&str], u64, u64); 9] = [
            (&["b", "a", "b", "c"], 3, 1),
            (&["b", "a", "c"], 0, 0),
            (&["b", "a", "c", "d", "d", "e"], 2, 1),
            (&["x", "b", "a", "y", "c", "x", "d", "e"], 2, 1),
            (&["e", "d", "c", "b", "a"], 0, 0),
            (&["c"], 0, 0),
            (&[], 0, 0),
            (&["b", "b", "a", "a", "z"], 1, 2),
            (&["c", "b", "a", "c", "z", "z", "c"], 0, 3),
        ];
        for (list, new, repeated) in lists {
            let listed = u64::try_from(list.len()).unwrap();
            assert_eq!(add(&mut ledger, list), AddedItems { listed, new, repeated }, "{list:?}");
        }
        let ids = ledger.rows("SELECT id FROM items ORDER BY ix", [], |row| row.get::<_, String>(0)).unwrap();
        assert_eq!(ids, ["b", "a", "c", "d", "e", "x", "y", "z"]);
    }
}
