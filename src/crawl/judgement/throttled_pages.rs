//! Pages that always get a 429 while others pass: real throttling serves some request, so it is the page.
//!
//! The proof is three 429s in a row, each followed by twenty responses to other items that are not a 429. From the third 429 on
//! no other request waits because of that page.

use std::collections::BTreeMap;

use super::PROOFS;
use crate::model::page::{AttemptId, ItemIx, PageNum};

/// Responses to other items that must pass after a 429.
const MIN_PASSED: u32 = 20;

/// The pages whose last response was a 429.
#[derive(Debug, Default)]
pub(crate) struct ThrottledPages {
    pages: BTreeMap<(ItemIx, PageNum), Page>,
}

#[derive(Debug)]
struct Page {
    /// The last attempt when the last 429 arrived.
    since: AttemptId,
    /// Responses to other items that passed since.
    passed: u32,
    /// 429s in a row that were each followed by enough of them.
    proven: u32,
}

impl Page {
    fn proofs(&self) -> u32 {
        self.proven + u32::from(self.passed >= MIN_PASSED)
    }
}

impl ThrottledPages {
    /// Records a 429 to a page; `last` is the last attempt so far. Returns how many 429s before this one are proven to be its own.
    /// For other pages, a 429 to a later attempt shows that it is the server.
    pub(crate) fn refused(&mut self, item: ItemIx, page: PageNum, attempt: AttemptId, last: AttemptId) -> u32 {
        for (other, known) in &mut self.pages {
            // Not for a page whose 429s are known to be its own.
            if *other != (item, page) && attempt > known.since && known.proofs() < PROOFS - 1 {
                (known.passed, known.proven) = (0, 0);
            }
        }
        let known = self.pages.entry((item, page)).or_insert(Page { since: last, passed: 0, proven: 0 });
        known.proven = known.proofs();
        (known.since, known.passed) = (last, 0);
        known.proven
    }

    /// Records a response that is not a 429.
    pub(crate) fn passed(&mut self, item: ItemIx, attempt: AttemptId) {
        for ((refused, _), known) in &mut self.pages {
            if *refused != item && attempt > known.since {
                known.passed = known.passed.saturating_add(1);
            }
        }
    }

    /// Counts every last 429 as proven, because a control request was served.
    pub(crate) fn prove_all(&mut self) {
        for known in self.pages.values_mut() {
            known.passed = MIN_PASSED;
        }
    }

    /// How many 429s in a row are proven to be the page's own.
    pub(crate) fn proofs(&self, item: ItemIx, page: PageNum) -> u32 {
        self.pages.get(&(item, page)).map_or(0, Page::proofs)
    }

    /// Whether a page got a 429, and some but not all of the responses that must pass before it is requested again did.
    pub(crate) fn waits(&self, item: ItemIx, page: PageNum) -> bool {
        self.pages.get(&(item, page)).is_some_and(|known| (1..MIN_PASSED).contains(&known.passed))
    }

    /// Whether a 429 to this page causes no wait for others.
    pub(crate) fn is_exempt(&self, item: ItemIx, page: PageNum) -> bool {
        self.proofs(item, page) >= PROOFS - 1
    }

    /// Forgets a page that arrived or was given up.
    pub(crate) fn forget(&mut self, item: ItemIx, page: PageNum) {
        self.pages.remove(&(item, page));
    }
}

#[cfg(test)]
mod tests {
    use super::{MIN_PASSED, ThrottledPages};
    use crate::model::page::{AttemptId, ItemIx, PageNum};

    #[test]
    fn it_is_the_page_if_twenty_others_pass_after_each_of_three_429s() {
        let mut attempt = 0;
        let mut next = || {
            attempt += 1;
            AttemptId(attempt)
        };
        let mut throttled = ThrottledPages::default();
        let page = (ItemIx(1), PageNum(7));
        for proven in 0..4 {
            assert_eq!(throttled.is_exempt(page.0, page.1), proven >= 2);
            let sent = next();
            assert_eq!(throttled.refused(page.0, page.1, sent, sent), proven);
            for passed in 0..MIN_PASSED {
                assert_eq!(throttled.waits(page.0, page.1), passed > 0);
                throttled.passed(ItemIx(2), next());
            }
            assert!(!throttled.waits(page.0, page.1));
            assert_eq!(throttled.proofs(page.0, page.1), proven + 1);
        }
    }

    #[test]
    fn refusals_of_others_prove_that_it_is_the_server_and_responses_to_earlier_requests_prove_nothing() {
        let (one, other) = ((ItemIx(1), PageNum(7)), (ItemIx(2), PageNum(3)));
        let mut throttled = ThrottledPages::default();
        throttled.refused(one.0, one.1, AttemptId(1), AttemptId(9));
        (0..50).for_each(|_| throttled.passed(ItemIx(3), AttemptId(9)));
        assert_eq!(throttled.proofs(one.0, one.1), 0, "they were sent before it was refused");
        (0..50).for_each(|_| throttled.passed(ItemIx(3), AttemptId(10)));
        assert_eq!(throttled.proofs(one.0, one.1), 1);
        throttled.refused(other.0, other.1, AttemptId(11), AttemptId(12));
        assert_eq!(throttled.proofs(one.0, one.1), 0);
        throttled.forget(one.0, one.1);
        assert_eq!(throttled.refused(one.0, one.1, AttemptId(13), AttemptId(13)), 0);
    }
}
