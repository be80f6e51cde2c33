//! A number that is not known: what is expected of it, and between what and what it is in nine of ten cases.

use std::fmt;

use indicatif::HumanCount;
use serde::{Deserialize, Serialize};

/// The cases below a range, and above it.
const OUTSIDE: f64 = 0.05;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    pub estimate: u64,
    pub low: u64,
    pub high: u64,
}

impl Range {
    pub fn exactly(number: u64) -> Self {
        Self { estimate: number, low: number, high: number }
    }

    /// Of equally likely cases.
    pub(super) fn from_cases(mut cases: Vec<f64>) -> Self {
        cases.sort_unstable_by(f64::total_cmp);
        let last = real(cases.len().saturating_sub(1));
        let at = |share: f64| {
            let place = usize::try_from(whole(last * share)).unwrap_or_default();
            cases.get(place).copied().unwrap_or_default()
        };
        let (low, high) = (whole(at(OUTSIDE).floor()), whole(at(1.0 - OUTSIDE).ceil()));
        Self { estimate: whole(at(0.5)), low, high }
    }

    #[must_use]
    pub fn plus(self, number: u64) -> Self {
        self.map(|one| one.saturating_add(number))
    }

    #[must_use]
    fn map(self, change: impl Fn(u64) -> u64) -> Self {
        Self { estimate: change(self.estimate), low: change(self.low), high: change(self.high) }
    }

    pub fn contains(self, number: u64) -> bool {
        (self.low..=self.high).contains(&number)
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", HumanCount(self.estimate))?;
        if self.low == self.high {
            return Ok(());
        }
        write!(f, " ({} to {})", HumanCount(self.low), HumanCount(self.high))
    }
}

/// A count as a real number, exact up to 2^53.
pub(crate) fn real(number: impl TryInto<u64>) -> f64 {
    let number = number.try_into().unwrap_or(u64::MAX);
    let half = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).map_or(0.0, f64::from);
    half(number >> 32) * (f64::from(u32::MAX) + 1.0) + half(number)
}

/// The nearest count; 0 of what is none.
#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the only conversion from a float here; it saturates"
)]
pub(crate) fn whole(number: f64) -> u64 {
    number.round() as u64
}

#[cfg(test)]
mod tests {
    use super::{Range, real, whole};

    #[test]
    fn a_range_leaves_out_a_twentieth_on_each_side() {
        let range = Range::from_cases((0..=100).rev().map(f64::from).collect());
        assert_eq!(range, Range { estimate: 50, low: 5, high: 95 });
        assert_eq!(range.to_string(), "50 (5 to 95)");
        assert_eq!(Range::from_cases(Vec::new()), Range::exactly(0));
        assert_eq!(Range::exactly(1_234).to_string(), "1,234");
    }

    #[test]
    fn counts_become_real_numbers_and_back() {
        for number in [0, 1, 4_294_967_295, 4_294_967_296, 1 << 52] {
            assert_eq!(whole(real(number)), number);
        }
        assert_eq!([whole(-3.0), whole(f64::NAN), whole(2.5), whole(1e30)], [0, 0, 3, u64::MAX]);
    }
}
