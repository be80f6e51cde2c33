//! Where a walk ends: judged by the rules, page by page, and taken back when rows lie behind.

use super::{MOST_FORGIVEN, Walk};
use crate::crawl::end_of_list::{End, PagingRules};
use crate::model::page::{Counts, PageNum, StopReason};
use crate::state::ledger::EndRow;

impl Walk {
    /// Why the walk lacks a page in its middle, if it does: it was refused, or came without a list, and rows lie behind it.
    pub fn hole(&self) -> Option<(PageNum, String)> {
        if let Some(page) = self.lacks {
            return Some((page, format!("page {page} had no usable row; what lies behind it was read")));
        }
        if let Some(page) = self.gap {
            return Some((page, format!("page {page} came without a list of rows, and pages behind it have rows")));
        }
        let message = self.refused.get(&self.next).filter(|_| self.end.is_none())?;
        Some((self.next, format!("page {} was refused, and pages behind it have rows: {message}", self.next)))
    }

    /// What its end comes to: a list that lacks a page has failed, and one that may lack rows is not complete.
    pub fn outcome(&self, end: EndRow) -> EndRow {
        let end = EndRow { is_moved: self.is_moved(), ..end };
        if !end.stop.is_complete() {
            return end;
        }
        if let Some((_, message)) = self.hole() {
            return EndRow { stop: StopReason::Failed, error: Some(message), ..end };
        }
        if self.is_shifted() {
            let message = "the list moved while pages of it were asked for ahead: rows may be missing; --repair reads it once more, in order";
            return EndRow { stop: StopReason::Shifted, error: Some(message.to_owned()), ..end };
        }
        end
    }

    /// Takes back that its first missing page was refused, because rows lie behind it: it is worth another request, twice at
    /// most. `in_doubt`: the refusal may have been billed. False: it was taken back often enough.
    pub fn forgive(&mut self, rules: &PagingRules) -> bool {
        if self.forgiven >= MOST_FORGIVEN || self.refused.remove(&self.next).is_none() {
            return false;
        }
        self.forgiven += 1;
        self.in_doubt.insert(self.next);
        self.depth.ask_again(self.next);
        self.advance(rules);
        true
    }

    /// Whether a refusal of this page may be the end of the list: it is not the first one.
    pub fn may_end_before(page: PageNum, rules: &PagingRules) -> bool {
        page > rules.first
    }

    /// Whether a page is the first missing one, behind a page as full as one that others follow.
    pub fn follows_full(&self, page: PageNum, rules: &PagingRules) -> bool {
        page == self.next && self.last.is_some_and(|(_, counts)| rules.is_full(counts))
    }

    /// Takes note that the API refused a page that [may be behind the end](Self::may_end_before).
    pub fn refuse(&mut self, page: PageNum, message: String, rules: &PagingRules) {
        self.refused.insert(page, message);
        self.advance(rules);
    }

    /// Takes note that such a page came as a success without a list of rows.
    pub fn refuse_as_null(&mut self, page: PageNum, message: String, rules: &PagingRules) {
        self.nulls.insert(page);
        self.refuse(page, message, rules);
    }

    /// Takes back that a success without a list was the end: an empty list came behind it. False: it was not, or was taken back
    /// often enough.
    pub fn doubt_null(&mut self, rules: &PagingRules) -> bool {
        if !self.nulls.remove(&self.next) {
            return false;
        }
        self.end = None;
        self.forgive(rules)
    }

    /// Does without the check of its end. `is_trusted`: the end is one all the same.
    pub fn settle_end(&mut self, is_trusted: bool) {
        self.lost.clear();
        let Some(end) = &mut self.end else { return };
        end.check = None;
        if is_trusted && end.stop == StopReason::RepeatedPage {
            end.stop = StopReason::EndRepeated;
        }
    }

    /// Judges its end again, after the rules have changed.
    pub fn rejudge(&mut self, rules: &PagingRules) {
        self.depth.forget_ceiling();
        self.goes_on_behind_short = false;
        if let Some((page, counts)) = self.last.filter(|_| !self.is_foreign) {
            self.end = self.judged(page, counts, rules);
        }
        self.advance(rules);
    }

    pub(super) fn judged(&self, page: PageNum, counts: Counts, rules: &PagingRules) -> Option<End> {
        let mut end = rules.end_at(page, counts, self.barren).filter(|end| !self.is_passed(end))?;
        if let (StopReason::RepeatedPage, Some(from), Some(check)) = (end.stop, self.moves.repeats_from, end.check) {
            // Unseen rows are as far behind the first page that repeats others, not behind the last one.
            let check = check.0.saturating_sub(page.0.saturating_sub(from.0));
            end.check = Some(PageNum(check).max(page.next())).filter(|check| *check <= rules.limit());
        }
        let may_skip = matches!(end.stop, StopReason::RepeatedPage | StopReason::Rejected);
        let is_skipped = may_skip && self.skip.is_some_and(|skip| page <= skip);
        (!is_skipped).then_some(end)
    }

    /// The end of a list whose next page was refused.
    pub(super) fn refused_at_next(&self, rules: &PagingRules) -> Option<End> {
        let message = self.refused.get(&self.next)?;
        // Nothing is said of an end that the endpoint's description names.
        let message = Some(format!("page {} was refused: {message}", self.next)).filter(|_| !message.is_empty());
        let check = Some(self.next.next()).filter(|check| *check <= rules.limit() && message.is_some());
        let received = self.last.map_or(0, |(_, counts)| counts.received);
        if self.nulls.contains(&self.next) {
            let stop = StopReason::EmptyPage;
            return Some(End { stop, message: None, received: 0, check, is_wrap: false, is_must: true });
        }
        Some(End { stop: StopReason::EndRefused, message, received, check, is_wrap: false, is_must: false })
    }

    /// That a response was lost proves nothing: if the page lies behind the end, it is asked for once more before that is one.
    pub(super) fn check_lost(&mut self) {
        let Some(page) = self.lost.range(self.next..).next_back().copied() else { return };
        if let Some(end) = self.end.as_mut().filter(|end| end.may_be_passed()) {
            (end.check, end.is_must) = (Some(page), true);
        }
    }

    /// Takes the check of its end as done, if that page came or was refused, too, and the walk is still at its end.
    pub(super) fn confirm(&mut self) {
        let Some((check, stop)) = self.end.as_ref().and_then(|end| end.check.zip(Some(end.stop))) else { return };
        let moves = &mut self.moves;
        let tells = |counts: &Counts| stop != StopReason::RepeatedPage || moves.may_confirm(*counts);
        let has_come = self.beyond.get(&check).is_some_and(tells);
        if check < self.next || has_come || self.refused.contains_key(&check) {
            self.settle_end(true);
        }
    }

    /// Whether an end is none, because new rows are known to lie behind it: pages that were read long before or after their
    /// neighbours may be short or repeat others where a list changed meanwhile.
    pub(super) fn is_passed(&self, end: &End) -> bool {
        let may_be = end.may_be_passed() || end.stop == StopReason::Rejected && !self.is_foreign;
        may_be && self.beyond.values().any(|counts| counts.fresh > 0)
    }
}
