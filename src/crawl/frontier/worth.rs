//! What a page ahead is worth: whether looking for the end of a list shortens the run.
//!
//! A list that is read page by page takes the latency of an answer for each page that is still to come. How many these are
//! is not known; lists are mostly as unequal as a Pareto tail, where whoever has reached a depth is expected to have as much
//! again to come ([`WalkDepth::unknown`]). Meanwhile the rest of the run's work is done at the permitted rate. What is saved is
//! what the list takes longer than that, which it may, or may not: with a tail whose exponent is 2 and a mean of `time` to
//! come, by `time² / (time + rest)` on average.
//!
//! Mean residual life of a Pareto tail: N. L. Johnson, S. Kotz, N. Balakrishnan, "Continuous Univariate Distributions" 1,
//! chapter 20. The same estimate for whatever has been seen to last for a while: J. R. Gott, "Implications of the Copernican
//! principle for our future prospects", Nature 363 (1993).
//!
//! [`WalkDepth::unknown`]: crate::crawl::lookahead::Depth::unknown

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::time::Duration;

use crate::crawl::lookahead::Stage;
use crate::model::page::ItemIx;

/// What time costs at present.
#[derive(Clone, Copy, Debug)]
pub struct Worth {
    /// The time that an answer takes.
    pub latency: Duration,
    /// Requests a second that can be sent.
    pub rate: f64,
    /// What a search must save.
    pub saves: Duration,
}

impl Worth {
    /// Seconds that a list takes page by page which may have this many pages of which nothing is known, and that the rest of the
    /// run takes, if this many pages are left to be asked for altogether.
    fn times(&self, unknown: u32, all: f64) -> (f64, f64) {
        let others = (all - f64::from(unknown)).max(0.0);
        (f64::from(unknown) * self.latency.as_secs_f64(), others / self.rate)
    }

    /// Seconds by which the run is expected to be shorter if the end of such a list is looked for.
    fn saving(&self, unknown: u32, all: f64) -> f64 {
        let (time, rest) = self.times(unknown, all);
        if time > 0.0 { time * (time / (time + rest)) } else { 0.0 }
    }

    /// Whether a page ahead is worth a credit.
    fn is_met(&self, Prospect { stage, unknown: Reverse(unknown), .. }: Prospect, all: f64) -> bool {
        match stage {
            // Without its neighbour what came is worth nothing, and the neighbour of a page mostly exists.
            Stage::Confirm => true,
            // A list that was worth it is followed to its end, as long as that is what the run waits for.
            Stage::Search => {
                let (time, rest) = self.times(unknown, all);
                time > rest
            }
            Stage::Begin => self.saving(unknown, all) > self.saves.as_secs_f64(),
        }
    }
}

/// A walk with a page ahead to ask for: the most urgent kind first, then the one that may be deepest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Prospect {
    pub(super) stage: Stage,
    pub(super) unknown: Reverse<u32>,
    pub(super) item: ItemIx,
}

/// The walk that is most worth a page ahead, if this many pages are left to be asked for altogether.
pub(super) fn best(prospects: &BTreeSet<Prospect>, worth: &Worth, all: f64) -> Option<Prospect> {
    // The first of each stage may have most to gain.
    [Stage::Confirm, Stage::Search, Stage::Begin].into_iter().find_map(|stage| {
        let from = Prospect { stage, unknown: Reverse(u32::MAX), item: ItemIx(i64::MIN) };
        let first = prospects.range(from..).next().filter(|first| first.stage == stage)?;
        Some(*first).filter(|first| worth.is_met(*first, all))
    })
}

#[cfg(test)]
mod tests {
    use super::{Prospect, Worth, best};
    use crate::crawl::lookahead::Stage;
    use crate::model::page::ItemIx;
    use proptest::prelude::proptest;
    use std::cmp::Reverse;
    use std::collections::BTreeSet;
    use std::time::Duration;

    const WORTH: Worth = Worth { latency: Duration::from_millis(80), rate: 50.0, saves: Duration::from_secs(2) };

    fn chosen(prospects: &[(Stage, u32)], all: f64, worth: &Worth) -> Option<i64> {
        let prospects: BTreeSet<Prospect> = (0..)
            .zip(prospects)
            .map(|(item, (stage, unknown))| Prospect { stage: *stage, unknown: Reverse(*unknown), item: ItemIx(item) })
            .collect();
        best(&prospects, worth, all).map(|prospect| prospect.item.0)
    }

    #[test]
    fn a_search_is_begun_where_it_saves_enough_and_goes_on_while_it_saves_anything() {
        use Stage::{Begin, Confirm, Search};
        type Case<'a> = (&'a [(Stage, u32)], f64, Option<i64>);
        let table: [Case<'_>; 9] = [
            (&[(Begin, 25)], 25.0, None), // 2 s page by page, and nothing else to do
            (&[(Begin, 26)], 26.0, Some(0)),
            (&[(Begin, 26)], 31.0, None),     // a tenth of a second of other work
            (&[(Begin, 50)], 249.0, Some(0)), // 4 s page by page, nearly 4 s of other work
            (&[(Begin, 50)], 250.0, None),
            (&[(Search, 5)], 24.0, Some(0)),
            (&[(Search, 5)], 25.0, None),
            (&[(Begin, 400), (Search, 300), (Confirm, 1)], 0.0, Some(2)),
            (&[(Begin, 400), (Search, 1), (Begin, 500)], 1_000.0, Some(2)),
        ];
        for (prospects, all, item) in table {
            assert_eq!(chosen(prospects, all, &WORTH), item, "{prospects:?} of {all}");
        }
    }

    #[test]
    fn where_answers_take_no_time_nothing_is_saved() {
        let worth = Worth { latency: Duration::ZERO, rate: f64::INFINITY, saves: Duration::ZERO };
        assert_eq!(chosen(&[(Stage::Begin, u32::MAX), (Stage::Search, 9)], 0.0, &worth), None);
    }

    proptest! {
        #[test]
        fn more_to_gain_is_worth_more_and_more_work_besides_makes_it_worth_less(unknown in 0_u32..10_000, all in 0_u32..100_000, more in 1_u32..1_000) {
            let saving = |unknown: u32, all: u32| WORTH.saving(unknown, f64::from(all));
            assert!(saving(unknown + more, all) > saving(unknown, all));
            assert!(saving(unknown, all + more) <= saving(unknown, all));
        }
    }
}
