//! What a report shows of single products, gathered in one pass over all of them: how deep lists are, and the first of each ranking.

use crate::model::clock::Utc64;
use crate::model::sanitize::sanitize;
use crate::state::ledger::ItemRow;

/// Products of a ranking.
const RANKED: usize = 10;
/// The largest depth of each class of lists, pages. The last class has all deeper ones.
pub(crate) const DEPTHS: [i64; 12] = [0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 5_000];

/// The first products by some measure, the largest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ranking {
    pub(crate) products: Vec<Ranked>,
    /// How many products have more than nothing of it.
    pub(crate) of: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Ranked {
    /// Sanitised.
    pub(crate) product: String,
    pub(crate) measure: i64,
    pub(crate) pages: i64,
    pub(crate) rows: i64,
}

impl Ranking {
    fn add(&mut self, item: &ItemRow, measure: i64) {
        if measure <= 0 {
            return;
        }
        self.of += 1;
        let at = self.products.partition_point(|ranked| ranked.measure >= measure);
        if at < RANKED {
            let product = sanitize(&item.id);
            self.products.insert(at, Ranked { product, measure, pages: item.pages, rows: item.rows });
            self.products.truncate(RANKED);
        }
    }
}

/// All products of an export, summed up.
#[derive(Clone, Debug, Default)]
pub(crate) struct ItemsOverview {
    /// How many lists are in each class of [`DEPTHS`], and in the one behind them.
    pub(crate) depths: [u64; DEPTHS.len() + 1],
    /// By microseconds from the first page to the last.
    pub(crate) slowest: Ranking,
    /// By credits, those in doubt included.
    pub(crate) dearest: Ranking,
    /// By rows that came again.
    pub(crate) duplicates: Ranking,
    /// By rows that could not be used.
    pub(crate) rejected: Ranking,
    /// The first lists that moved while they were read: by rows.
    pub(crate) moved: Ranking,
}

impl ItemsOverview {
    pub(crate) fn add(&mut self, item: &ItemRow) {
        let class = DEPTHS.partition_point(|depth| *depth < item.pages);
        if let Some(count) = self.depths.get_mut(class) {
            *count += 1;
        }
        let took = item.fetched.map_or(0, |(Utc64(first), Utc64(last))| last.saturating_sub(first));
        self.slowest.add(item, if item.pages_taken_over == 0 { took } else { 0 });
        self.dearest.add(item, item.pages - item.pages_taken_over + item.in_doubt);
        self.duplicates.add(item, item.duplicates);
        self.rejected.add(item, item.rejected);
        self.moved.add(item, if item.is_moved { item.rows.max(1) } else { 0 });
    }
}

#[cfg(test)]
mod tests {
    use super::{ItemsOverview, RANKED};
    use crate::model::clock::Utc64;
    use crate::state::ledger::ItemRow;

    fn item(number: i64) -> ItemRow {
        ItemRow {
            id: format!("p\u{202e}{number}"),
            pages: number,
            pages_taken_over: 0,
            since: None,
            rows: 10 * number,
            duplicates: number % 2,
            rejected: 0,
            is_moved: number == 7,
            stop: None,
            error: None,
            fetched: Some((Utc64(5), Utc64(5 + number * 1_000))),
            in_doubt: i64::from(number == 3) * 1_000,
        }
    }

    #[test]
    fn rankings_have_the_largest_first_and_no_more_than_are_shown_and_depths_count_all() {
        let mut overview = ItemsOverview::default();
        (0..=200).for_each(|number| overview.add(&item(number)));
        assert_eq!(overview.depths.iter().sum::<u64>(), 201);
        assert_eq!(overview.depths[..5], [1, 1, 1, 3, 5]);
        let dearest: Vec<i64> = overview.dearest.products.iter().map(|ranked| ranked.measure).collect();
        assert_eq!((dearest.len(), &dearest[..3]), (RANKED, &[1_003, 200, 199][..]));
        assert_eq!(overview.slowest.products[0].measure, 200_000);
        assert_eq!((overview.duplicates.of, overview.moved.of, overview.rejected.of), (100, 1, 0));
        assert!(!overview.dearest.products[0].product.contains('\u{202e}'));
    }
}
