//! The pages of a survey: of each walk one at a time, until its depth is known well enough.

use super::{Frontier, PageTask};
use crate::model::page::{ItemIx, PageNum};

impl Frontier {
    /// The next page of a survey. It is in flight until it is taken back.
    pub(crate) fn next_survey_page(&mut self) -> Option<&PageTask> {
        if let Some((_, task)) = self.requeue.pop_first() {
            return Some(self.send_again(task));
        }
        if let Some((item, page)) = self.survey_page() {
            return self.request(item, page, None);
        }
        let walk = self.unstarted.pop_front()?;
        let item = self.open(walk);
        self.request(item, self.rules.first, None)
    }

    /// Whether there is one.
    pub(crate) fn has_survey_page(&self) -> bool {
        !self.requeue.is_empty() || !self.unstarted.is_empty() || self.survey_page().is_some()
    }

    /// Of a walk that has started, the first one in the order of the list.
    fn survey_page(&self) -> Option<(ItemIx, PageNum)> {
        let next = |(item, open): (&ItemIx, &super::OpenWalk)| {
            let is_free = open.is_quiet() && !open.is_suspended && open.check.is_none() && open.closing.is_none();
            let page = open.walk.depth(&self.rules).filter(|_| is_free)?.next_page()?;
            Some((*item, PageNum(self.rules.first.0.saturating_add(page - 1))))
        };
        self.walks.iter().filter_map(next).min()
    }
}
