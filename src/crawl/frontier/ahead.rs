//! Pages ahead: which one is worth a credit now, and what became of those that came.

use super::worth::Prospect;
use super::{PageTask, Scheduler, Worth, worth};
use crate::crawl::lookahead::Stage;
use crate::crawl::walk::Ahead;

impl Scheduler {
    /// The page ahead that is most worth a credit.
    pub fn next_scout(&mut self, worth: &Worth) -> Option<&PageTask> {
        let Prospect { item, .. } = self.prospect(worth)?;
        let (_, page) = self.walks.get(&item)?.walk.probe(&self.rules)?;
        self.ask(item, page)
    }

    /// Whether a page ahead is worth a credit now, and what for. Pages that are needed anyway go first as long as they tell
    /// something about how deep their lists are.
    pub fn probe(&self, worth: &Worth) -> Option<Stage> {
        self.prospect(worth).map(|prospect| prospect.stage)
    }

    fn prospect(&self, worth: &Worth) -> Option<Prospect> {
        let tells = self.ready.first_in_rounds().is_some() || !self.fresh.is_empty() || !self.again.is_empty();
        if tells || !self.has_all { None } else { worth::best(&self.probes, worth, self.expected) }
    }

    /// What became of the pages ahead that came in this run.
    pub fn ahead(&self) -> Ahead {
        self.ahead
    }
}
