//! What looking ahead may cost: pages that turn out to be behind the end of a list, or to repeat others.
//!
//! A share of the credits that pages cost may be wasted, and only what was already earned: whenever a run ends, no more than that
//! share was wasted, or one credit where the share is less than one. Where an API answers any page number, only two
//! neighbouring pages show that, so two credits are the minimum there.

use std::sync::Arc;

#[derive(Debug)]
pub(crate) struct LookaheadBudget {
    /// Credits that may be wasted for each useful page.
    share: f64,
    pages: u32,
    /// Requests without a response that may have been billed.
    lost: u32,
    /// Shared with the reservations: one more reference than there are pages that may turn out to be wasted.
    reservations: Arc<()>,
}

/// A credit for a page that may turn out to be wasted. Dropping it returns the credit.
#[derive(Debug)]
pub(crate) struct Reservation {
    _counted: Arc<()>,
}

impl LookaheadBudget {
    /// A budget of `percent` wasted credits for a hundred pages.
    pub(crate) fn new(percent: f64) -> Self {
        Self { share: percent / 100.0, pages: 0, lost: 0, reservations: Arc::default() }
    }

    /// Whether one more credit may be risked. `arrived`: pages ahead that arrived and were wasted, or still may be. `confirms`: this
    /// credit shows whether one of them was.
    pub(crate) fn can_reserve(&self, arrived: u32, confirms: bool) -> bool {
        let least = if confirms { 2.0 } else { 1.0 };
        let most = if self.share > 0.0 { (self.share * f64::from(self.pages)).max(least) } else { 0.0 };
        let reserved = u32::try_from(Arc::strong_count(&self.reservations) - 1).unwrap_or(u32::MAX);
        f64::from(self.lost) + f64::from(reserved) + f64::from(arrived) + 1.0 <= most
    }

    pub(crate) fn record_page(&mut self) {
        self.pages = self.pages.saturating_add(1);
    }

    /// Reserves a credit for a page that may be wasted.
    pub(crate) fn reserve(&self) -> Reservation {
        Reservation { _counted: Arc::clone(&self.reservations) }
    }

    /// Records a request that ended without a page and may have been billed.
    pub(crate) fn record_lost(&mut self) {
        self.lost = self.lost.saturating_add(1);
    }

    /// Credits that may have been billed for pages that never came.
    pub(crate) fn lost(&self) -> u32 {
        self.lost
    }
}

#[cfg(test)]
mod tests {
    use super::LookaheadBudget;

    #[test]
    fn only_what_was_earned_may_be_risked_and_a_useful_page_returns_its_credit() {
        let mut budget = LookaheadBudget::new(1.0);
        assert!(budget.can_reserve(0, false), "the first one is free");
        let reservation = budget.reserve();
        assert!(!budget.can_reserve(0, false));
        drop(reservation);
        assert!(budget.can_reserve(0, false));
        budget.record_lost();
        (0..199).for_each(|_| budget.record_page());
        assert!(!budget.can_reserve(0, false));
        budget.record_page();
        assert!(budget.can_reserve(0, false) && !budget.can_reserve(1, false) && budget.lost() == 1);
    }

    #[test]
    fn what_came_may_be_confirmed_by_a_second_credit() {
        let budget = LookaheadBudget::new(1.0);
        assert!(!budget.can_reserve(1, false) && budget.can_reserve(1, true) && !budget.can_reserve(2, true));
    }

    #[test]
    fn nothing_is_risked_where_nothing_may_be_wasted() {
        let mut budget = LookaheadBudget::new(0.0);
        (0..1_000_000).for_each(|_| budget.record_page());
        assert!(!budget.can_reserve(0, false) && !budget.can_reserve(0, true));
    }
}
