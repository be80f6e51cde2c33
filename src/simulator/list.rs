//! The numbers behind one item's list: how long it is, and where a row stands in each sort order.
//!
//! Nothing is stored. A row's rank under a sort field is an affine permutation of its position, which can be undone, so
//! that any page in any order is made alone and is still exactly sorted. Roots replace powers: square roots are exact
//! to the last bit on every machine, so a seed gives the same rows everywhere.

use std::sync::LazyLock;

use rand_core::{Rng, SeedableRng};
use rand_xoshiro::SplitMix64;

use super::words::json_text;

/// Scale of the heavy tail: with a cap of 2,000 rows, a list has about 67 on average and one in twenty is empty.
const SCALE: f64 = 20.0;
/// No video is newer: a second in August 2025.
const LATEST: u64 = 1_755_000_000;
/// The newest video of a product is up to this much older, seconds.
const OLDEST_START: u64 = 30 * 86_400;
/// The videos of a product lie within this time, seconds.
const SPAN: u64 = 600 * 86_400;
/// Most rows of one product: with more, two videos would have to be made in the same second.
pub(super) const MOST_VIDEOS: u64 = 100_000_000;
/// Primes above every list's length, hence without a common factor with it.
const STEPS: [u64; 16] = [
    5_998_696_981,
    8_352_341_719,
    7_166_808_863,
    4_641_061_351,
    5_980_221_859,
    5_139_813_853,
    7_611_803_483,
    4_372_628_807,
    7_640_735_807,
    7_303_237_327,
    6_670_359_601,
    5_059_041_473,
    7_908_190_057,
    6_209_769_437,
    8_425_809_001,
    8_524_346_521,
];

/// Spreads a number over all 64 bits.
pub(super) fn mix(number: u64) -> u64 {
    SplitMix64::seed_from_u64(number).next_u64()
}

/// A number below `limit`, from 64 random bits.
pub(super) fn below(bits: u64, limit: u64) -> u64 {
    u64::try_from((u128::from(bits) * u128::from(limit)) >> 64).unwrap_or_default()
}

/// The whole part of a number that is not negative.
#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "no other conversion from a float exists; it saturates, and every argument is from 0 to 2^33"
)]
fn whole(number: f64) -> u64 {
    number as u64
}

/// The share of 32 random bits, above 0 and up to 1.
pub(super) fn share(bits: u64) -> f64 {
    (f64::from(u32::try_from(bits >> 32).unwrap_or_default()) + 1.0) / 4_294_967_296.0
}

/// One item's list, as numbers.
#[derive(Debug)]
pub(super) struct List {
    key: u64,
    rows: u64,
    orders: Vec<Order>,
    /// Second of the newest row, and the seconds from one row to the next, more or less.
    newest: u64,
    stride: u64,
    /// The item's id, ready to stand between quotation marks.
    pub(super) item: Vec<u8>,
}

impl List {
    /// The list of an item, with this many sort fields.
    pub(super) fn new(seed: u64, item: &str, max_rows: u64, fields: usize) -> Self {
        let key = key(seed, item);
        let rows = length(key, max_rows);
        let mut rng = SplitMix64::seed_from_u64(mix(key ^ 1));
        let orders = (0..fields).map(|_| Order::draw(&mut rng, rows)).collect();
        let newest = LATEST - below(mix(key ^ 3), OLDEST_START);
        let stride = (SPAN / rows.max(1)).max(1);
        Self { key, rows, orders, newest, stride, item: json_text(item) }
    }

    /// Number of rows.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// Random bits that belong to one row.
    pub(super) fn bits(&self, row: u64) -> SplitMix64 {
        SplitMix64::seed_from_u64(mix(self.key ^ 2).wrapping_add(mix(row)))
    }

    /// How many rows stand above this one when they are sorted by a field, the greatest first.
    pub(super) fn rank(&self, field: usize, row: u64) -> u64 {
        self.orders.get(field).map_or(row, |order| order.carry(row, self.rows))
    }

    /// What carries a rank under a field back to its row.
    pub(super) fn sorted(&self, field: usize) -> Order {
        self.orders.get(field).map_or(Order::AS_IS, |order| order.undone(self.rows))
    }

    /// A second in which no other row with a rank under the same field was made; rank 0 is the newest.
    pub(super) fn time(&self, rank: u64) -> u64 {
        self.newest.saturating_sub(rank * self.stride + below(mix(self.key ^ mix(rank)), self.stride))
    }
}

/// Number of rows of an item's list, without the rest of the list.
pub(super) fn rows(seed: u64, item: &str, max_rows: u64) -> u64 {
    length(key(seed, item), max_rows)
}

/// A count that falls with the rank as a Zipf-like law has it, `top / (rank + 1)^(13/16)`, and so never rises.
pub(super) fn count(rank: u64, top: u32) -> u64 {
    let known = usize::try_from(rank).ok().and_then(|rank| FALLS.get(rank).copied());
    whole(f64::from(top) * known.unwrap_or_else(|| fall(rank)))
}

/// What is left of a count at the first ranks. Roots are slow, and most rows stand here.
static FALLS: LazyLock<Vec<f64>> = LazyLock::new(|| (0..2048).map(fall).collect());

fn fall(rank: u64) -> f64 {
    let place = f64::from(u32::try_from(rank.saturating_add(1)).unwrap_or(u32::MAX));
    let half = place.sqrt();
    let quarter = half.sqrt();
    1.0 / (half * quarter * quarter.sqrt().sqrt())
}

fn key(seed: u64, item: &str) -> u64 {
    item.as_bytes().chunks(8).fold(mix(seed), |key, chunk| {
        let word = chunk.iter().fold(0, |word, byte| (word << 8) | u64::from(*byte));
        mix(key ^ word)
    })
}

/// A Pareto tail that begins at 0, with the exponent 8/7.
fn length(key: u64, max_rows: u64) -> u64 {
    let share = share(mix(key));
    let half = share.sqrt();
    let quarter = half.sqrt();
    let rows = SCALE * (1.0 / (half * quarter * quarter.sqrt()) - 1.0);
    whole(rows).min(max_rows).min(MOST_VIDEOS)
}

/// One permutation of a list's positions: `step * position + offset`, modulo the list's length.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    step: u64,
    offset: u64,
}

impl Order {
    const AS_IS: Self = Self { step: 1, offset: 0 };

    fn draw(rng: &mut SplitMix64, rows: u64) -> Self {
        let rows = rows.max(1);
        let prime = usize::try_from(rng.next_u64() % 16).ok().and_then(|index| STEPS.get(index));
        Self { step: prime.copied().unwrap_or(1) % rows, offset: below(rng.next_u64(), rows) }
    }

    /// Where a position goes.
    pub(super) fn carry(self, position: u64, rows: u64) -> u64 {
        // Every number here is at most 10^8, so the product fits.
        (self.step * position + self.offset).checked_rem(rows).unwrap_or_default()
    }

    /// The permutation that carries everything back.
    fn undone(self, rows: u64) -> Self {
        let step = inverse(self.step, rows);
        Self { step, offset: rows - (step * self.offset).checked_rem(rows).unwrap_or_default() }
    }
}

/// The number that undoes a multiplication by `step` modulo `rows` (extended Euclid).
fn inverse(step: u64, rows: u64) -> u64 {
    let modulus = i64::try_from(rows).unwrap_or(1);
    let (mut old, mut new) = (modulus, i64::try_from(step).unwrap_or(1));
    let (mut old_factor, mut new_factor) = (0_i64, 1_i64);
    while new != 0 {
        let quotient = old / new;
        (old, new) = (new, old - quotient * new);
        (old_factor, new_factor) = (new_factor, old_factor - quotient * new_factor);
    }
    u64::try_from(old_factor.checked_rem_euclid(modulus).unwrap_or_default()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{List, STEPS, count};
    use std::collections::BTreeSet;

    #[test]
    fn every_step_is_a_prime_above_the_longest_list() {
        for step in STEPS {
            assert!(step > u64::from(u32::MAX));
            assert!(
                (2..1 << 17).take_while(|factor| factor * factor <= step).all(|factor| step % factor != 0),
                "{step}"
            );
        }
    }

    #[test]
    fn ranks_are_a_permutation_that_can_be_undone() {
        for item in 0..400 {
            let list = List::new(1, &item.to_string(), 300, 3);
            for field in 0..3 {
                let ranks: BTreeSet<u64> = (0..list.rows()).map(|row| list.rank(field, row)).collect();
                assert!(ranks.into_iter().eq(0..list.rows()));
                assert!(
                    (0..list.rows()).all(|row| list.sorted(field).carry(list.rank(field, row), list.rows()) == row)
                );
            }
        }
    }

    #[test]
    fn the_longest_list_can_be_walked_in_any_order_too() {
        let item = (0..1_000_000)
            .map(|item: u32| item.to_string())
            .find(|item| super::rows(1, item, u64::MAX) > 1_000_000)
            .unwrap();
        let list = List::new(1, &item, u64::MAX, 1);
        for row in [0, 1, list.rows() / 2, list.rows() - 1] {
            assert_eq!(list.sorted(0).carry(list.rank(0, row), list.rows()), row);
        }
        assert!(list.time(list.rows() - 1) > 1_000_000_000);
    }

    #[test]
    fn times_fall_strictly_and_counts_never_rise_with_the_rank() {
        for item in ["1729382310407603945", "b", "c", "d"] {
            let list = List::new(1, item, 2000, 1);
            assert!((1..list.rows()).all(|rank| list.time(rank) < list.time(rank - 1)));
        }
        assert!((1..5000).all(|rank| count(rank, 9000) <= count(rank - 1, 9000)));
        assert_eq!((count(0, 9000), count(u64::MAX, 9000)), (9000, 0));
    }
}
