//! Which walk goes first.
//!
//! As long as the ledger has more walks, the deepest goes first, so that few are open at a time. Once all walks that are left are
//! open, the run must not end with one deep list that is read page by page while the rate is not used. How deep a list is shows
//! only by reading it, so all walks continue in rounds: each to one page, to three, to seven, to fifteen. Pages that are known to
//! exist show nothing about the end, so they wait: they can be requested at any time, all at once, and keep the rate busy
//! while the ends of the last lists are found.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use crate::model::page::{ItemIx, PageNum};

/// A walk by its first missing page, the deepest first.
pub(super) type WalkDepth = (Reverse<PageNum>, ItemIx);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rank {
    pub(super) depth: WalkDepth,
    /// Whether its first unknown page can be requested.
    pub(super) is_open_ended: bool,
}

/// Walks with a needed page that was not requested.
#[derive(Debug, Default)]
pub(super) struct WalkOrder {
    deepest: BTreeSet<WalkDepth>,
    /// The open-ended ones, the earliest round first, and the deepest first within a round.
    rounds: BTreeSet<(u32, WalkDepth)>,
}

impl WalkOrder {
    pub(super) fn insert(&mut self, rank: Rank) {
        self.deepest.insert(rank.depth);
        if rank.is_open_ended {
            self.rounds.insert((round(rank.depth), rank.depth));
        }
    }

    pub(super) fn remove(&mut self, rank: Rank) {
        self.deepest.remove(&rank.depth);
        if rank.is_open_ended {
            self.rounds.remove(&(round(rank.depth), rank.depth));
        }
    }

    pub(super) fn deepest(&self) -> Option<ItemIx> {
        self.deepest.first().map(|(_, item)| *item)
    }

    pub(super) fn first_in_rounds(&self) -> Option<ItemIx> {
        self.rounds.first().map(|(_, (_, item))| *item)
    }

    /// The deepest first.
    pub(super) fn items(&self) -> impl Iterator<Item = ItemIx> {
        self.deepest.iter().map(|(_, item)| *item)
    }

    pub(super) fn len(&self) -> usize {
        self.deepest.len()
    }
}

/// The round that a walk is in: each goes to twice the depth of the one before. The first page is 0 or 1.
fn round((Reverse(next), _): WalkDepth) -> u32 {
    u32::BITS - next.0.leading_zeros()
}

#[cfg(test)]
mod tests {
    use super::{Rank, WalkOrder};
    use crate::model::page::{ItemIx, PageNum};
    use proptest::prelude::{any, proptest};
    use std::cmp::Reverse;
    use std::collections::BTreeMap;

    /// Walks lists of this many pages by the rounds, a page at a time. Gives how deep each was after each page.
    fn walk(lists: &[u32]) -> Vec<(usize, u32)> {
        let mut order = WalkOrder::default();
        let place = |at: usize, next: u32| Rank {
            depth: (Reverse(PageNum(next)), ItemIx(i64::try_from(at).unwrap())),
            is_open_ended: true,
        };
        (0..lists.len()).for_each(|at| order.insert(place(at, 1)));
        let (mut read, mut steps) = (vec![0; lists.len()], Vec::new());
        while let Some(item) = order.first_in_rounds() {
            let at = usize::try_from(item.0).unwrap();
            order.remove(place(at, read[at] + 1));
            read[at] += 1;
            steps.push((at, read[at]));
            if read[at] < lists[at] {
                order.insert(place(at, read[at] + 1));
            }
        }
        assert_eq!((order.len(), order.deepest()), (0, None));
        steps
    }

    #[test]
    fn everyone_is_read_to_a_page_then_to_three_then_to_seven() {
        let steps = walk(&[1, 9, 2, 5]);
        let all = [(0, 1), (1, 1), (2, 1), (3, 1), (1, 2), (1, 3), (2, 2), (3, 2), (3, 3)];
        assert_eq!(steps[..all.len()], all);
        assert_eq!(steps[all.len()..all.len() + 4], [(1, 4), (1, 5), (1, 6), (1, 7)]);
    }

    #[test]
    fn what_is_known_to_exist_is_in_no_round() {
        let mut order = WalkOrder::default();
        let place = |item, is_open_ended| Rank { depth: (Reverse(PageNum(3)), ItemIx(item)), is_open_ended };
        order.insert(place(1, false));
        order.insert(place(2, true));
        assert_eq!((order.deepest(), order.first_in_rounds(), order.len()), (Some(ItemIx(1)), Some(ItemIx(2)), 2));
        order.remove(place(2, true));
        assert_eq!((order.first_in_rounds(), order.len()), (None, 1));
    }

    proptest! {
        #[test]
        fn no_list_is_read_to_more_than_twice_the_depth_of_one_that_goes_on(lists in proptest::collection::vec(1_u32..300, 1..40)) {
            let mut read: BTreeMap<usize, u32> = (0..lists.len()).map(|at| (at, 0)).collect();
            let steps = walk(&lists);
            assert_eq!(steps.len(), usize::try_from(lists.iter().sum::<u32>()).unwrap());
            for (at, page) in steps {
                read.insert(at, page);
                let shallowest = read.iter().filter(|(at, read)| **read < lists[**at]).map(|(_, read)| *read).min();
                assert!(shallowest.is_none_or(|shallowest| page <= 2 * shallowest + 1), "{page} pages, {shallowest:?}");
            }
        }

        #[test]
        fn the_rounds_hold_a_walk_as_long_as_it_is_open_ended(walks in proptest::collection::vec((1_u32..300, any::<bool>()), 0..40)) {
            let mut order = WalkOrder::default();
            let places: Vec<Rank> = (0_i64..)
                .zip(&walks)
                .map(|(item, (next, is_open_ended))| Rank {
                    depth: (Reverse(PageNum(*next)), ItemIx(item)),
                    is_open_ended: *is_open_ended,
                })
                .collect();
            for place in &places {
                order.insert(*place);
            }
            let first = places.iter().filter(|place| place.is_open_ended).min_by_key(|place| {
                (32 - place.depth.0.0.0.leading_zeros(), place.depth)
            });
            assert_eq!(order.first_in_rounds(), first.map(|place| place.depth.1));
            assert_eq!(order.deepest(), places.iter().map(|place| place.depth).min().map(|(_, item)| item));
            for place in &places {
                order.remove(*place);
            }
            assert_eq!((order.len(), order.first_in_rounds()), (0, None));
        }
    }
}
