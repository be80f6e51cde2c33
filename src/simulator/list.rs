//! The length of one item's list, and the rank of each row in each sort order.
//!
//! Nothing is stored. A row's rank under a sort field is an affine permutation of its position. Permutations are invertible,
//! so any page of any order is generated independently and is exactly sorted. Powers are computed with square roots, which
//! are exact on every machine, so a seed gives the same rows everywhere.

use std::sync::LazyLock;

use rand_core::{Rng, SeedableRng};
use rand_xoshiro::SplitMix64;

use super::words::escaped;

/// Scale of the heavy tail: with at most 2,000 rows, a list has 67 on average, and one in twenty is empty.
const SCALE: f64 = 20.0;
/// The latest time of any row: a second in August 2025.
const LATEST: u64 = 1_755_000_000;
/// Most seconds between [`LATEST`] and an item's newest row.
const NEWEST_AGE: u64 = 30 * 86_400;
/// Most seconds between an item's newest and oldest rows.
const SPAN: u64 = 600 * 86_400;
/// Most rows of one item: with more, two rows would have the same second.
pub(super) const MAX_VIDEOS: u64 = 100_000_000;
/// Primes greater than every length of a list, hence coprime to it.
#[rustfmt::skip]
const PRIMES: [u64; 16] = [
    5_998_696_981, 8_352_341_719, 7_166_808_863, 4_641_061_351,
    5_980_221_859, 5_139_813_853, 7_611_803_483, 4_372_628_807,
    7_640_735_807, 7_303_237_327, 6_670_359_601, 5_059_041_473,
    7_908_190_057, 6_209_769_437, 8_425_809_001, 8_524_346_521,
];

/// Hashes a number to 64 bits.
pub(super) fn scramble(number: u64) -> u64 {
    SplitMix64::seed_from_u64(number).next_u64()
}

/// The random bits of the element `number` of a sequence.
pub(super) fn random_bits(seed: u64, number: u64) -> SplitMix64 {
    SplitMix64::seed_from_u64(scramble(seed).wrapping_add(scramble(number)))
}

/// Scales 64 random bits to a number below `limit`.
pub(super) fn random_below(bits: u64, limit: u64) -> u64 {
    u64::try_from((u128::from(bits) * u128::from(limit)) >> 64).unwrap_or_default()
}

/// The whole part of a number that is not negative.
#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the only conversion from a float; it saturates, and every argument is from 0 to 2^33"
)]
fn whole(number: f64) -> u64 {
    number as u64
}

/// Scales the upper 32 random bits to a number above 0 and up to 1.
pub(super) fn share(bits: u64) -> f64 {
    (f64::from(u32::try_from(bits >> 32).unwrap_or_default()) + 1.0) / 4_294_967_296.0
}

#[derive(Debug)]
pub(super) struct List {
    key: u64,
    rows: u64,
    /// One for each sort field.
    orders: Vec<Order>,
    /// The second of the newest row.
    newest: u64,
    /// Average seconds from one row to the next.
    stride: u64,
    /// The item's id, escaped for JSON.
    pub(super) item: Vec<u8>,
}

impl List {
    /// `fields` is the number of sort fields.
    pub(super) fn new(seed: u64, item: &str, max_rows: u64, fields: usize) -> Self {
        let key = key(seed, item);
        let rows = length(key, max_rows);
        let mut rng = SplitMix64::seed_from_u64(scramble(key ^ 1));
        let orders = (0..fields).map(|_| Order::random(&mut rng, rows)).collect();
        let newest = LATEST - random_below(scramble(key ^ 3), NEWEST_AGE);
        let stride = (SPAN / rows.max(1)).max(1);
        Self { key, rows, orders, newest, stride, item: escaped(item) }
    }

    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// The random bits of one row.
    pub(super) fn bits(&self, row: u64) -> SplitMix64 {
        random_bits(self.key ^ 2, row)
    }

    /// The number of rows before this one if sorted by a field in descending order.
    pub(super) fn rank(&self, field: usize, row: u64) -> u64 {
        self.orders.get(field).map_or(row, |order| order.apply(row, self.rows))
    }

    /// Maps a rank under a field to its row.
    pub(super) fn sorted(&self, field: usize) -> Order {
        self.orders.get(field).map_or(Order::IDENTITY, |order| order.inverted(self.rows))
    }

    /// The second of a rank. It is unique among the ranks of one field and falls with the rank.
    pub(super) fn time(&self, rank: u64) -> u64 {
        self.newest.saturating_sub(rank * self.stride + random_below(scramble(self.key ^ scramble(rank)), self.stride))
    }
}

/// The number of rows of an item's list.
pub(super) fn rows(seed: u64, item: &str, max_rows: u64) -> u64 {
    length(key(seed, item), max_rows)
}

/// A count that falls with the rank: `top / (rank + 1)^(13/16)`, as in Zipf's law.
pub(super) fn zipf_count(rank: u64, top: u32) -> u64 {
    let known = usize::try_from(rank).ok().and_then(|rank| ZIPF_FACTORS.get(rank).copied());
    whole(f64::from(top) * known.unwrap_or_else(|| zipf_factor(rank)))
}

/// [`zipf_factor`] of the first ranks, which most rows have: roots are slow.
static ZIPF_FACTORS: LazyLock<Vec<f64>> = LazyLock::new(|| (0..2048).map(zipf_factor).collect());

fn zipf_factor(rank: u64) -> f64 {
    let place = f64::from(u32::try_from(rank.saturating_add(1)).unwrap_or(u32::MAX));
    let half = place.sqrt();
    let quarter = half.sqrt();
    1.0 / (half * quarter * quarter.sqrt().sqrt())
}

fn key(seed: u64, item: &str) -> u64 {
    item.as_bytes().chunks(8).fold(scramble(seed), |key, chunk| {
        let word = chunk.iter().fold(0, |word, byte| (word << 8) | u64::from(*byte));
        scramble(key ^ word)
    })
}

/// Draws from a Pareto distribution that starts at 0, with the exponent 8/7.
fn length(key: u64, max_rows: u64) -> u64 {
    let share = share(scramble(key));
    let half = share.sqrt();
    let quarter = half.sqrt();
    let rows = SCALE * (1.0 / (half * quarter * quarter.sqrt()) - 1.0);
    whole(rows).min(max_rows).min(MAX_VIDEOS)
}

/// A permutation of a list's positions: `step * position + offset`, modulo the list's length.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    step: u64,
    offset: u64,
}

impl Order {
    const IDENTITY: Self = Self { step: 1, offset: 0 };

    fn random(rng: &mut SplitMix64, rows: u64) -> Self {
        let rows = rows.max(1);
        let prime = usize::try_from(rng.next_u64() % 16).ok().and_then(|index| PRIMES.get(index));
        Self { step: prime.copied().unwrap_or(1) % rows, offset: random_below(rng.next_u64(), rows) }
    }

    pub(super) fn apply(self, position: u64, rows: u64) -> u64 {
        // Each number is at most 10^8, so the product fits.
        (self.step * position + self.offset).checked_rem(rows).unwrap_or_default()
    }

    fn inverted(self, rows: u64) -> Self {
        let step = inverse(self.step, rows);
        Self { step, offset: rows - (step * self.offset).checked_rem(rows).unwrap_or_default() }
    }
}

/// The inverse of `step` modulo `rows` (extended Euclid).
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
    use super::{List, PRIMES, zipf_count};
    use std::collections::BTreeSet;

    #[test]
    fn every_step_is_a_prime_greater_than_every_length() {
        for step in PRIMES {
            assert!(step > u64::from(u32::MAX));
            assert!(
                (2..1 << 17).take_while(|factor| factor * factor <= step).all(|factor| step % factor != 0),
                "{step}"
            );
        }
    }

    #[test]
    fn ranks_are_an_invertible_permutation() {
        for item in 0..400 {
            let list = List::new(1, &item.to_string(), 300, 3);
            for field in 0..3 {
                let ranks: BTreeSet<u64> = (0..list.rows()).map(|row| list.rank(field, row)).collect();
                assert!(ranks.into_iter().eq(0..list.rows()));
                assert!(
                    (0..list.rows()).all(|row| list.sorted(field).apply(list.rank(field, row), list.rows()) == row)
                );
            }
        }
    }

    #[test]
    fn the_longest_list_is_sorted_too() {
        let item = (0..1_000_000)
            .map(|item: u32| item.to_string())
            .find(|item| super::rows(1, item, u64::MAX) > 1_000_000)
            .unwrap();
        let list = List::new(1, &item, u64::MAX, 1);
        for row in [0, 1, list.rows() / 2, list.rows() - 1] {
            assert_eq!(list.sorted(0).apply(list.rank(0, row), list.rows()), row);
        }
        assert!(list.time(list.rows() - 1) > 1_000_000_000);
    }

    #[test]
    fn times_fall_strictly_and_counts_never_rise_with_the_rank() {
        for item in ["1729382310407603945", "b", "c", "d"] {
            let list = List::new(1, item, 2000, 1);
            assert!((1..list.rows()).all(|rank| list.time(rank) < list.time(rank - 1)));
        }
        assert!((1..5000).all(|rank| zipf_count(rank, 9000) <= zipf_count(rank - 1, 9000)));
        assert_eq!((zipf_count(0, 9000), zipf_count(u64::MAX, 9000)), (9000, 0));
    }
}
