//! What looking ahead may cost: pages asked for that turn out to lie behind the end of a list.
//!
//! A share of the credits that pages cost is set aside for it, and only what was already earned may be risked: whenever a
//! run ends, no more than that share was wasted, or one credit where the share is less than one.

/// The account of one run.
#[derive(Clone, Copy, Debug)]
pub struct Waste {
    /// Credits that may be wasted for each page.
    share: f64,
    pages: u32,
    wasted: u32,
    /// Pages under way that may turn out to be wasted.
    risked: u32,
}

impl Waste {
    /// An account that allows so many wasted credits for a hundred pages.
    pub fn new(percent: f64) -> Self {
        Self { share: percent / 100.0, pages: 0, wasted: 0, risked: 0 }
    }

    /// Whether one more credit may be risked.
    pub fn affords_one(&self) -> bool {
        let most = if self.share > 0.0 { (self.share * f64::from(self.pages)).max(1.0) } else { 0.0 };
        f64::from(self.wasted) + f64::from(self.risked) + 1.0 <= most
    }

    /// Takes note of a page that was of use.
    pub fn earn(&mut self) {
        self.pages = self.pages.saturating_add(1);
    }

    /// Takes note of a request that may be in vain.
    pub fn risk(&mut self) {
        self.risked = self.risked.saturating_add(1);
    }

    /// Takes note of how such a request ended.
    pub fn settle(&mut self, is_wasted: bool) {
        self.risked = self.risked.saturating_sub(1);
        self.wasted = self.wasted.saturating_add(u32::from(is_wasted));
    }

    /// Credits wasted.
    pub fn wasted(&self) -> u64 {
        self.wasted.into()
    }
}

#[cfg(test)]
mod tests {
    use super::Waste;

    #[test]
    fn only_what_was_earned_may_be_risked_and_what_was_of_use_may_be_risked_again() {
        let mut waste = Waste::new(1.0);
        assert!(waste.affords_one(), "the first one is free");
        waste.risk();
        assert!(!waste.affords_one());
        waste.settle(false);
        assert!(waste.affords_one());
        waste.risk();
        waste.settle(true);
        (0..199).for_each(|_| waste.earn());
        assert!(!waste.affords_one());
        waste.earn();
        assert!(waste.affords_one() && waste.wasted() == 1);
    }

    #[test]
    fn nothing_is_risked_where_nothing_may_be_wasted() {
        let mut waste = Waste::new(0.0);
        (0..1_000_000).for_each(|_| waste.earn());
        assert!(!waste.affords_one());
    }
}
