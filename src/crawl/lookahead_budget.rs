//! What looking ahead may cost: pages asked for that turn out to be behind the end of a list, or to repeat others.
//!
//! A share of the credits that pages cost is set aside for it, and only what was already earned may be risked: whenever a
//! run ends, no more than that share was wasted, or one credit where the share is less than one. An API that answers any
//! page number is found out by two pages side by side: there two credits are the least.

/// The account of one run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LookaheadBudget {
    /// Credits that may be wasted for each page.
    share: f64,
    pages: u32,
    /// Requests whose answers were lost and may have been billed.
    lost: u32,
    /// Pages under way that may turn out to be wasted.
    risked: u32,
}

impl LookaheadBudget {
    /// An account that allows so many wasted credits for a hundred pages.
    pub(crate) fn new(percent: f64) -> Self {
        Self { share: percent / 100.0, pages: 0, lost: 0, risked: 0 }
    }

    /// Whether one more credit may be risked, if this many pages that came were in vain or still may be. `confirms`: the page
    /// says whether one of those is.
    pub(crate) fn affords_one(&self, came: u32, confirms: bool) -> bool {
        let least = if confirms { 2.0 } else { 1.0 };
        let most = if self.share > 0.0 { (self.share * f64::from(self.pages)).max(least) } else { 0.0 };
        f64::from(self.lost) + f64::from(self.risked) + f64::from(came) + 1.0 <= most
    }

    /// Takes note of a page that was of use.
    pub(crate) fn earn(&mut self) {
        self.pages = self.pages.saturating_add(1);
    }

    /// Takes note of a request that may be in vain.
    pub(crate) fn risk(&mut self) {
        self.risked = self.risked.saturating_add(1);
    }

    /// Takes note that such a request has ended. `is_lost`: without a page, and it may have been billed.
    pub(crate) fn settle(&mut self, is_lost: bool) {
        self.risked = self.risked.saturating_sub(1);
        self.lost = self.lost.saturating_add(u32::from(is_lost));
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
    fn only_what_was_earned_may_be_risked_and_what_was_of_use_may_be_risked_again() {
        let mut waste = LookaheadBudget::new(1.0);
        assert!(waste.affords_one(0, false), "the first one is free");
        waste.risk();
        assert!(!waste.affords_one(0, false));
        waste.settle(false);
        assert!(waste.affords_one(0, false));
        waste.risk();
        waste.settle(true);
        (0..199).for_each(|_| waste.earn());
        assert!(!waste.affords_one(0, false));
        waste.earn();
        assert!(waste.affords_one(0, false) && !waste.affords_one(1, false) && waste.lost() == 1);
    }

    #[test]
    fn what_came_may_be_confirmed_by_a_second_credit() {
        let waste = LookaheadBudget::new(1.0);
        assert!(!waste.affords_one(1, false) && waste.affords_one(1, true) && !waste.affords_one(2, true));
    }

    #[test]
    fn nothing_is_risked_where_nothing_may_be_wasted() {
        let mut waste = LookaheadBudget::new(0.0);
        (0..1_000_000).for_each(|_| waste.earn());
        assert!(!waste.affords_one(0, false) && !waste.affords_one(0, true));
    }
}
