//! A page that is always answered 429 while others pass: real throttling always serves somebody, so it is the page.
//!
//! That takes three refusals running, each followed by twenty responses to others that are not a 429. From the third refusal on
//! nobody waits for it.

use std::collections::BTreeMap;

use super::PROOFS;
use crate::model::page::{AttemptId, ItemIx, PageNum};

/// Responses to others that must pass after a refusal.
const PASSED: u32 = 20;

/// The pages that were refused with a 429 last time.
#[derive(Debug, Default)]
pub(crate) struct Throttled {
    pages: BTreeMap<(ItemIx, PageNum), Page>,
}

#[derive(Debug)]
struct Page {
    /// The last request when the last 429 arrived.
    since: AttemptId,
    /// Others that passed since.
    passed: u32,
    /// Refusals running that were each followed by enough others.
    proven: u32,
}

impl Page {
    fn proofs(&self) -> u32 {
        self.proven + u32::from(self.passed >= PASSED)
    }
}

impl Throttled {
    /// A page was refused with a 429, and `last` was the last request by then. Gives how many refusals before this one are proven to be its own. Refusals of other
    /// pages after theirs prove that it is the server.
    pub(crate) fn refused(&mut self, item: ItemIx, page: PageNum, attempt: AttemptId, last: AttemptId) -> u32 {
        for (other, known) in &mut self.pages {
            // A page that is known to be refused by itself says nothing about others.
            if *other != (item, page) && attempt > known.since && known.proofs() < PROOFS - 1 {
                (known.passed, known.proven) = (0, 0);
            }
        }
        let known = self.pages.entry((item, page)).or_insert(Page { since: last, passed: 0, proven: 0 });
        known.proven = known.proofs();
        (known.since, known.passed) = (last, 0);
        known.proven
    }

    /// A response that is not a 429, to another item than those that wait.
    pub(crate) fn passed(&mut self, item: ItemIx, attempt: AttemptId) {
        for ((refused, _), known) in &mut self.pages {
            if *refused != item && attempt > known.since {
                known.passed = known.passed.saturating_add(1);
            }
        }
    }

    /// Counts every last refusal as proven because a control request was served.
    pub(crate) fn prove_all(&mut self) {
        for known in self.pages.values_mut() {
            known.passed = PASSED;
        }
    }

    /// How many refusals running are proven to be the page's own.
    pub(crate) fn proofs(&self, item: ItemIx, page: PageNum) -> u32 {
        self.pages.get(&(item, page)).map_or(0, Page::proofs)
    }

    /// Whether a page was refused, and some of the others that must pass before it is asked for again did and some did not.
    pub(crate) fn waits(&self, item: ItemIx, page: PageNum) -> bool {
        self.pages.get(&(item, page)).is_some_and(|known| (1..PASSED).contains(&known.passed))
    }

    /// Whether a 429 to this page makes nobody wait.
    pub(crate) fn is_excused(&self, item: ItemIx, page: PageNum) -> bool {
        self.proofs(item, page) >= PROOFS - 1
    }

    /// The page came, or is given up.
    pub(crate) fn forget(&mut self, item: ItemIx, page: PageNum) {
        self.pages.remove(&(item, page));
    }
}

#[cfg(test)]
mod tests {
    use super::{PASSED, Throttled};
    use crate::model::page::{AttemptId, ItemIx, PageNum};

    #[test]
    fn a_page_is_refused_by_itself_if_twenty_others_pass_after_each_of_three_refusals() {
        let mut attempt = 0;
        let mut next = || {
            attempt += 1;
            AttemptId(attempt)
        };
        let mut throttled = Throttled::default();
        let page = (ItemIx(1), PageNum(7));
        for proven in 0..4 {
            assert_eq!(throttled.is_excused(page.0, page.1), proven >= 2);
            let sent = next();
            assert_eq!(throttled.refused(page.0, page.1, sent, sent), proven);
            for passed in 0..PASSED {
                assert_eq!(throttled.waits(page.0, page.1), passed > 0);
                throttled.passed(ItemIx(2), next());
            }
            assert!(!throttled.waits(page.0, page.1));
            assert_eq!(throttled.proofs(page.0, page.1), proven + 1);
        }
    }

    #[test]
    fn refusals_of_others_and_responses_to_earlier_requests_prove_that_it_is_the_server() {
        let (one, other) = ((ItemIx(1), PageNum(7)), (ItemIx(2), PageNum(3)));
        let mut throttled = Throttled::default();
        throttled.refused(one.0, one.1, AttemptId(1), AttemptId(9));
        (0..50).for_each(|_| throttled.passed(ItemIx(3), AttemptId(9)));
        assert_eq!(throttled.proofs(one.0, one.1), 0, "they left before it was refused");
        (0..50).for_each(|_| throttled.passed(ItemIx(3), AttemptId(10)));
        assert_eq!(throttled.proofs(one.0, one.1), 1);
        throttled.refused(other.0, other.1, AttemptId(11), AttemptId(12));
        assert_eq!(throttled.proofs(one.0, one.1), 0);
        throttled.forget(one.0, one.1);
        assert_eq!(throttled.refused(one.0, one.1, AttemptId(13), AttemptId(13)), 0);
    }
}
