//! Probes: whether looking for the end of a list shortens the run, and which list is worth it most.
//!
//! A list that is read page by page takes the latency of a response for each page that is still to come. How many pages these are
//! is not known. Lists are mostly as unequal as a Pareto tail, where a list that has reached a length is expected to have as much
//! again to come ([`Lookahead::unknown`]). Meanwhile the rest of the run's work is done at the permitted rate. The saving is the
//! time that the list takes longer than that. With a tail whose exponent is 2 and a mean of `time` to come, it is
//! `time² / (time + rest)` on average.
//!
//! Mean residual life of a Pareto tail: N. L. Johnson, S. Kotz, N. Balakrishnan, "Continuous Univariate Distributions" 1,
//! chapter 20. The same estimate for whatever has been seen to last for a while: J. R. Gott, "Implications of the Copernican
//! principle for our future prospects", Nature 363 (1993).
//!
//! [`Lookahead::unknown`]: crate::crawl::lookahead::Lookahead::unknown

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::time::Duration;

use super::{Frontier, PageTask};
use crate::crawl::lookahead::Stage;
use crate::crawl::lookahead::budget::Reservation;
use crate::crawl::walk::LookaheadCost;
use crate::model::page::ItemIx;

/// What a probe must be worth under the current conditions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProbePolicy {
    pub(crate) latency: Duration,
    pub(crate) rate: f64,
    /// The time that a search must save before it starts.
    pub(crate) min_saving: Duration,
}

impl ProbePolicy {
    /// Seconds that a list takes page by page if it has this many unknown pages, and that the rest of the run takes if it has
    /// `all` pages with them.
    fn times(&self, unknown: u32, all: f64) -> (f64, f64) {
        let others = (all - f64::from(unknown)).max(0.0);
        (f64::from(unknown) * self.latency.as_secs_f64(), others / self.rate)
    }

    /// Seconds by which the run is expected to be shorter if the end of such a list is searched for.
    fn saving(&self, unknown: u32, all: f64) -> f64 {
        let (time, rest) = self.times(unknown, all);
        if time > 0.0 { time * (time / (time + rest)) } else { 0.0 }
    }

    fn allows(&self, ProbeCandidate { stage, unknown: Reverse(unknown), .. }: ProbeCandidate, all: f64) -> bool {
        match stage {
            // Without its neighbour the probe that arrived is worth nothing, and the neighbour of a page mostly exists.
            Stage::Confirm => true,
            // A search continues as long as this list is what the run waits for.
            Stage::Search => {
                let (time, rest) = self.times(unknown, all);
                time > rest
            }
            Stage::Start => self.saving(unknown, all) > self.min_saving.as_secs_f64(),
        }
    }
}

/// A walk with a page ahead to request: the most urgent stage first, then the list that may be longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ProbeCandidate {
    pub(super) stage: Stage,
    pub(super) unknown: Reverse<u32>,
    pub(super) item: ItemIx,
}

/// The candidate that is most worth a credit, if `all` pages are left to be requested.
fn best(candidates: &BTreeSet<ProbeCandidate>, policy: &ProbePolicy, all: f64) -> Option<ProbeCandidate> {
    // The first of each stage may save most.
    [Stage::Confirm, Stage::Search, Stage::Start].into_iter().find_map(|stage| {
        let from = ProbeCandidate { stage, unknown: Reverse(u32::MAX), item: ItemIx(i64::MIN) };
        let first = candidates.range(from..).next().filter(|first| first.stage == stage)?;
        Some(*first).filter(|first| policy.allows(*first, all))
    })
}

impl Frontier {
    /// Whether a page ahead is worth a credit now, and what for. Needed pages that show how long their lists are come first.
    pub(crate) fn lookahead_stage(&self, policy: &ProbePolicy) -> Option<Stage> {
        self.best_probe(policy).map(|candidate| candidate.stage)
    }

    /// The page ahead that is most worth a credit.
    pub(crate) fn next_lookahead(&mut self, policy: &ProbePolicy, credit: Reservation) -> Option<&PageTask> {
        let ProbeCandidate { item, .. } = self.best_probe(policy)?;
        let (_, page) = self.walks.get(&item)?.walk.probe(&self.rules)?;
        self.request(item, page, Some(credit))
    }

    fn best_probe(&self, policy: &ProbePolicy) -> Option<ProbeCandidate> {
        let has_better =
            self.ready.first_in_rounds().is_some() || !self.unstarted.is_empty() || !self.requeue.is_empty();
        if has_better || !self.has_all { None } else { best(&self.probes, policy, self.expected) }
    }

    /// The pages ahead that came in this run and are not known to be of use.
    pub(crate) fn lookahead_cost(&self) -> LookaheadCost {
        self.lookahead_cost
    }
}

#[cfg(test)]
mod tests {
    use super::{ProbeCandidate, ProbePolicy, best};
    use crate::crawl::lookahead::Stage;
    use crate::model::page::ItemIx;
    use proptest::prelude::proptest;
    use std::cmp::Reverse;
    use std::collections::BTreeSet;
    use std::time::Duration;

    const POLICY: ProbePolicy =
        ProbePolicy { latency: Duration::from_millis(80), rate: 50.0, min_saving: Duration::from_secs(2) };

    fn chosen(candidates: &[(Stage, u32)], all: f64, policy: &ProbePolicy) -> Option<i64> {
        let candidates: BTreeSet<ProbeCandidate> = (0..)
            .zip(candidates)
            .map(|(item, (stage, unknown))| ProbeCandidate {
                stage: *stage,
                unknown: Reverse(*unknown),
                item: ItemIx(item),
            })
            .collect();
        best(&candidates, policy, all).map(|candidate| candidate.item.0)
    }

    #[test]
    fn a_search_is_begun_where_it_saves_enough_and_goes_on_while_it_saves_anything() {
        use Stage::{Confirm, Search, Start};
        type Case<'a> = (&'a [(Stage, u32)], f64, Option<i64>);
        let table: [Case<'_>; 9] = [
            (&[(Start, 25)], 25.0, None), // 2 s page by page, and nothing else to do
            (&[(Start, 26)], 26.0, Some(0)),
            (&[(Start, 26)], 31.0, None),     // a tenth of a second of other work
            (&[(Start, 50)], 249.0, Some(0)), // 4 s page by page, nearly 4 s of other work
            (&[(Start, 50)], 250.0, None),
            (&[(Search, 5)], 24.0, Some(0)),
            (&[(Search, 5)], 25.0, None),
            (&[(Start, 400), (Search, 300), (Confirm, 1)], 0.0, Some(2)),
            (&[(Start, 400), (Search, 1), (Start, 500)], 1_000.0, Some(2)),
        ];
        for (candidates, all, item) in table {
            assert_eq!(chosen(candidates, all, &POLICY), item, "{candidates:?} of {all}");
        }
    }

    #[test]
    fn where_answers_take_no_time_nothing_is_saved() {
        let policy = ProbePolicy { latency: Duration::ZERO, rate: f64::INFINITY, min_saving: Duration::ZERO };
        assert_eq!(chosen(&[(Stage::Start, u32::MAX), (Stage::Search, 9)], 0.0, &policy), None);
    }

    proptest! {
        #[test]
        fn more_to_gain_is_worth_more_and_more_work_besides_makes_it_worth_less(unknown in 0_u32..10_000, all in 0_u32..100_000, more in 1_u32..1_000) {
            let saving = |unknown: u32, all: u32| POLICY.saving(unknown, f64::from(all));
            assert!(saving(unknown + more, all) > saving(unknown, all));
            assert!(saving(unknown, all + more) <= saving(unknown, all));
        }
    }
}
