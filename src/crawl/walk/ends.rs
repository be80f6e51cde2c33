//! Where a walk ends: judged by the rules, page by page, and taken back when there are rows behind.

use super::Walk;
use crate::crawl::end_of_list::{End, PagingRules};
use crate::model::page::{Counts, PageNum, StopReason};
use crate::state::ledger::EndRow;

/// How often a refused page with rows behind it is requested again.
const MAX_REFUSAL_RETRIES: u8 = 2;

/// How the API refused a page.
#[derive(Debug)]
pub(super) struct PageRefusal {
    message: String,
    /// Whether it came as a success without a list of rows.
    is_without_list: bool,
}

impl Walk {
    /// A page in its middle that it lacks, though there are rows behind it, and why.
    pub fn missing_page(&self) -> Option<(PageNum, String)> {
        if let Some(page) = self.skipped_page {
            return Some((page, format!("page {page} had no usable row; the pages behind it were read")));
        }
        if let Some(page) = self.page_without_list {
            return Some((page, format!("page {page} came without a list of rows, and pages behind it have rows")));
        }
        let refusal = self.refused.get(&self.next).filter(|_| self.end.is_none())?;
        let message = format!("page {} was refused, and pages behind it have rows: {}", self.next, refusal.message);
        Some((self.next, message))
    }

    /// Its final end: a list that lacks a page has failed, and one that may lack rows is not complete.
    pub fn resolve_end(&self, end: EndRow) -> EndRow {
        let end = EndRow { is_moved: self.is_moved(), ..end };
        if !end.stop.is_complete() {
            return end;
        }
        if let Some((_, message)) = self.missing_page() {
            return EndRow { stop: StopReason::Failed, error: Some(message), ..end };
        }
        if self.is_shifted() {
            let message = "the list moved while its pages were requested ahead: rows may be missing; --repair reads it once more, in order";
            return EndRow { stop: StopReason::Shifted, error: Some(message.to_owned()), ..end };
        }
        end
    }

    /// Takes back that its first missing page was refused, because there are rows behind it: the page is requested again, twice
    /// at most. False: that was done often enough.
    pub fn retry_refused(&mut self, rules: &PagingRules) -> bool {
        if self.refusal_retries >= MAX_REFUSAL_RETRIES || self.refused.remove(&self.next).is_none() {
            return false;
        }
        self.refusal_retries += 1;
        self.in_doubt.insert(self.next); // the refusal may have been billed
        self.lookahead.request_again(self.next);
        self.advance(rules);
        true
    }

    /// Whether a refusal of this page may be the end of the list: it is not the first one.
    pub fn may_end_before(page: PageNum, rules: &PagingRules) -> bool {
        page > rules.first
    }

    /// Whether a page is the first missing one, right behind a full page.
    pub fn follows_full(&self, page: PageNum, rules: &PagingRules) -> bool {
        page == self.next && self.last.is_some_and(|(_, counts)| rules.is_full(counts))
    }

    /// Records that the API refused a page that [may be behind the end](Self::may_end_before).
    pub fn refuse(&mut self, page: PageNum, message: String, rules: &PagingRules) {
        self.record_refusal(page, PageRefusal { message, is_without_list: false }, rules);
    }

    /// Records that such a page came as a success without a list of rows.
    pub fn refuse_without_list(&mut self, page: PageNum, message: String, rules: &PagingRules) {
        self.record_refusal(page, PageRefusal { message, is_without_list: true }, rules);
    }

    fn record_refusal(&mut self, page: PageNum, refusal: PageRefusal, rules: &PagingRules) {
        self.refused.insert(page, refusal);
        self.advance(rules);
    }

    /// Takes back that a success without a list was the end, because an empty list came behind it. False: it was not the end, or
    /// was taken back often enough.
    pub fn doubt_missing_list(&mut self, rules: &PagingRules) -> bool {
        if !self.refused.get(&self.next).is_some_and(|refusal| refusal.is_without_list) {
            return false;
        }
        self.end = None;
        self.retry_refused(rules)
    }

    /// Drops the check of its end. `is_trusted`: the check would have confirmed the end.
    pub fn drop_check(&mut self, is_trusted: bool) {
        self.lost.clear();
        let Some(end) = &mut self.end else { return };
        end.check = None;
        if is_trusted && end.stop == StopReason::RepeatedPage {
            end.stop = StopReason::EndRepeated;
        }
    }

    /// Judges its end again, after the rules have changed.
    pub fn reevaluate_end(&mut self, rules: &PagingRules) {
        self.lookahead.forget_end();
        self.continues_behind_short = false;
        if let Some((page, counts)) = self.last.filter(|_| !self.is_foreign) {
            self.end = self.end_after(page, counts, rules);
        }
        self.advance(rules);
    }

    /// Its end, if it ends with this page.
    pub(super) fn end_after(&self, page: PageNum, counts: Counts, rules: &PagingRules) -> Option<End> {
        let end = rules.end_at(page, counts, self.pages_without_valid_rows);
        let mut end = end.filter(|end| !self.is_disproved(end))?;
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
        let refusal = self.refused.get(&self.next)?;
        // A refusal without a message is a code that the endpoint file lists as the end: it needs no check.
        let is_described = refusal.message.is_empty();
        let check = Some(self.next.next()).filter(|check| *check <= rules.limit() && !is_described);
        if refusal.is_without_list {
            return Some(End { check, must_check: true, ..End::new(StopReason::EmptyPage, None, 0) });
        }
        let message = (!is_described).then(|| format!("page {} was refused: {}", self.next, refusal.message));
        let received = self.last.map_or(0, |(_, counts)| counts.received);
        Some(End { check, ..End::new(StopReason::EndRefused, message, received) })
    }

    /// Where a response behind the end was lost, that page checks the end: the loss proves nothing.
    pub(super) fn check_lost(&mut self) {
        let Some(page) = self.lost.range(self.next..).next_back().copied() else { return };
        if let Some(end) = self.end.as_mut().filter(|end| end.may_be_disproved()) {
            (end.check, end.must_check) = (Some(page), true);
        }
    }

    /// Confirms its end if the page that checks it arrived or was refused, and the walk is still at its end.
    pub(super) fn confirm(&mut self) {
        let Some(check) = self.end.as_ref().and_then(|end| end.check) else { return };
        let is_outdated = self.is_check_outdated();
        let has_come = self.beyond.contains_key(&check) && self.moves.accepts(is_outdated);
        if check < self.next || has_come || self.refused.contains_key(&check) {
            self.drop_check(true);
        }
    }

    /// Whether an end is none, because new rows are known behind it: a page that was read long before or after its neighbours
    /// may be short, or repeat others, where a list changed meanwhile.
    pub(super) fn is_disproved(&self, end: &End) -> bool {
        let may_be = end.may_be_disproved() || end.stop == StopReason::Rejected;
        may_be && self.beyond.values().any(|counts| counts.fresh > 0)
    }
}
