//! Keys: each is once in the ledger, and the files hold exactly the rows whose keys the ledger has.
//!
//! The ledger's keys are gone through an item at a time, so no more than one item's are held: 16 bytes a row. With the files
//! they are compared as sums, which do not depend on order and need no memory: one for each segment, over a hash of every
//! row's item and key. Rows that are missing, doubled or others change the sum, but for one chance in 2^128.

use std::collections::{BTreeMap, HashSet};

use sha2::{Digest, Sha256};

use super::Audit;
use super::report::Remedy;
use crate::decode::Key;
use crate::model::page::SegmentId;
use crate::model::sanitize::Sanitized;
use crate::state::ledger::LedgerError;

/// A sum over rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct KeySum(u128);

impl KeySum {
    pub(super) fn add(&mut self, item: &str, key: &Key) {
        let mut hash = Sha256::new();
        hash.update(key);
        hash.update(item.as_bytes());
        let hash = hash.finalize();
        self.0 = self.0.wrapping_add(hash.first_chunk::<16>().map_or(0, |bytes| u128::from_le_bytes(*bytes)));
    }

    pub(super) fn join(&mut self, other: Self) {
        self.0 = self.0.wrapping_add(other.0);
    }
}

/// `found`: the sums of the segments whose files could all be read.
pub(super) fn compare(
    audit: &mut Audit<'_>,
    found: impl Iterator<Item = (SegmentId, KeySum)>,
) -> Result<(), LedgerError> {
    let mut sums: BTreeMap<SegmentId, KeySum> = BTreeMap::new();
    let differences = &mut audit.differences;
    audit.opened.ledger.for_each_key(|item, pages| {
        let mut seen: HashSet<&Key> = HashSet::new();
        let mut doubled = 0_u64;
        for (segment, keys) in pages {
            let sum = sums.entry(*segment).or_default();
            for key in keys {
                sum.add(item, key);
                doubled += u64::from(!seen.insert(key));
            }
        }
        if doubled > 0 {
            differences
                .add(Remedy::State, format!("ledger: {doubled} rows of product {} are there twice", Sanitized(item)));
        }
    })?;
    for (segment, found) in found {
        if found != sums.get(&segment).copied().unwrap_or_default() {
            differences.add(
                Remedy::Replay,
                format!("segment {segment}: the rows in its files are not the ones that the ledger has"),
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::KeySum;

    #[test]
    fn a_sum_depends_on_every_row_and_not_on_their_order() {
        let sum = |rows: &[(&str, u8)]| {
            let mut sum = KeySum::default();
            for (item, key) in rows {
                sum.add(item, &[*key; 16]);
            }
            sum
        };
        let rows = [("a", 1), ("a", 2), ("b", 1)];
        assert_eq!(sum(&rows), sum(&[rows[2], rows[0], rows[1]]));
        for other in
            [&rows[..2], &[rows[0], rows[0], rows[2]], &[rows[0], rows[1], ("b", 2)], &[("c", 1), rows[1], rows[2]]]
        {
            assert_ne!(sum(&rows), sum(other));
        }
    }
}
