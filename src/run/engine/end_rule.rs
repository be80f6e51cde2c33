//! What the ends of lists show about the API: when the end rule changes, what that costs, and which ends are checked for it.

use std::collections::BTreeSet;

use super::Engine;
use crate::crawl::end_of_list::{ObservedEnd, PagingRules};
use crate::crawl::judgement::end_evidence;
use crate::crawl::walk::Walk;
use crate::endpoint::EndRule;
use crate::error::Error;
use crate::model::event::Event;
use crate::model::page::{ItemId, ItemIx, PageNum, SegmentId};
use crate::run::stop::Stop;
use crate::state::ledger::{ContinuedItem, EndedItem};

/// Short ends that may be opened again whatever `max_evidence` says, credits.
const LEAST_PRICE: f64 = 3.0;

impl Engine<'_> {
    /// Changes the end rule if pages behind short ones have disproved it, and opens the walks whose ends are in doubt then. Where
    /// reading on costs more than `max_evidence`, the run stops first.
    pub(super) async fn update_end_rule(&mut self) -> Result<(), Error> {
        let is_open = self.rules.full_size().is_some() && self.rules.end == EndRule::Auto;
        if self.stop.is_some() || !is_open || !self.evidence.is_disproved() {
            return Ok(());
        }
        self.commit(Vec::new()).await?; // the ledger must know what was applied
        let learned = end_evidence::observed_end(&self.rules, self.dir.ledger().largest_page()?);
        let (ends, pages) = self.short_ends()?;
        let in_vain = (as_f64(ends) * self.evidence.wasted_share()).ceil();
        let is_paid = learned != ObservedEnd::EmptyPage || in_vain <= self.most_evidence(pages);
        let learned = if is_paid { learned } else { ObservedEnd::Unpaid };
        let only = match learned {
            ObservedEnd::PageSize(rows) => Some(rows),
            ObservedEnd::EmptyPage | ObservedEnd::Unpaid => None,
        };
        let opened = self.dir.ledger().set_end_rule(&learned.word(), only)?;
        self.rules = PagingRules { observed: Some(learned), ..self.rules };
        self.evidence.restart();
        if is_paid {
            self.backlog.reopen();
            self.context.events.event(&Event::Reopened(opened));
            self.context.events.event(&Event::Warning(&message(learned, opened, self.rules.page_size)));
        } else {
            self.stop_for(Stop::Evidence { ends, pages });
        }
        for item in self.frontier.set_rules(self.rules) {
            if self.frontier.take_revisit(item) {
                self.group.reopened.push(item); // it may continue, or end elsewhere; `opened` has counted it
            }
            self.end_if_over(item);
        }
        Ok(())
    }

    /// Checks whether `max_evidence` allows by now what an earlier run stopped for: reading on behind short pages.
    pub(super) fn check_unpaid(&mut self) -> Result<(), Error> {
        if self.rules.observed != Some(ObservedEnd::Unpaid) || self.rules.end != EndRule::Auto {
            return Ok(());
        }
        let (ends, pages) = {
            let ledger = self.dir.ledger();
            (ledger.walks_behind_short_pages(self.rules.page_size)?, ledger.totals()?.pages)
        };
        if as_f64(ends) > self.most_evidence(pages) {
            self.stop_for(Stop::Evidence { ends, pages });
            return Ok(());
        }
        let learned = ObservedEnd::EmptyPage;
        self.dir.ledger().set_end_rule(&learned.word(), None)?;
        self.rules.observed = Some(learned);
        Ok(())
    }

    /// Requests the page behind the end of a list.
    pub(super) fn request_behind_end(&mut self, ended: EndedItem) -> Result<(), Error> {
        let pages = self.dir.ledger().pages(ended.item, SegmentId::BEHIND_ALL)?;
        let mut walk = Walk::new(ended.item, ended.id, &self.rules, pages, None);
        if walk.end().is_none() {
            // It ended on a success without a list, which is not in the journal.
            walk.refuse_without_list(walk.next(), String::new(), &self.rules);
            walk.drop_check(true);
        }
        walk.is_revisit = true;
        self.frontier.add(walk);
        self.frontier.add_check(ended.item, ended.last.next());
        self.evidence.spend(1);
        Ok(())
    }

    /// Spends what is left of the evidence budget behind the lists that are the likeliest to continue, once all have ended: one at a
    /// time at first, then several of them, because each search reads all lists. Then it settles what is in doubt.
    pub(super) async fn check_likeliest_ends(&mut self) -> Result<(), Error> {
        let is_open = self.rules.end == EndRule::Auto && self.rules.full_size().is_some();
        if self.stop.is_some() || !is_open {
            return Ok(());
        }
        if !self.evidence.affords(1) && (self.evidence.is_in_doubt() || !self.has_full_page()?) {
            self.evidence.doubt_lists();
        }
        let ends = if self.evidence.affords(1) && self.can_afford() { self.likeliest_ends()? } else { Vec::new() };
        if ends.is_empty() {
            return self.settle_doubt().await;
        }
        self.evidence.record_last_checks(ends.iter().map(|ended| ended.item));
        ends.into_iter().try_for_each(|ended| self.request_behind_end(ended))
    }

    /// The short ends to check next.
    fn likeliest_ends(&self) -> Result<Vec<EndedItem>, Error> {
        let most = self.evidence.last_checks_at_once(self.credits_left());
        let (is_deepest, except) = self.evidence.next_last_check();
        Ok(self.dir.ledger().longest_short_ends(is_deepest, except, (most, self.rules.limit()))?)
    }

    /// Settles what a single list has left in doubt that continued behind a short page: requests that page again, once, if other
    /// lists may have been cut. If it is full by now, the list has grown. Whatever else comes, the rule is wrong.
    async fn settle_doubt(&mut self) -> Result<(), Error> {
        if !self.evidence.is_in_doubt() {
            return Ok(());
        }
        let continued = {
            let ledger = self.dir.ledger();
            let unproven = ledger.longest_short_ends(false, &BTreeSet::new(), (1, self.rules.limit()))?;
            if unproven.is_empty() { None } else { ledger.continued_item(full_rows(&self.rules))? }
        };
        match continued {
            None => Ok(()),
            Some(continued) if continued.is_confirmed => {
                self.evidence.confirm();
                self.update_end_rule().await
            }
            Some(_) if !self.can_afford() => {
                self.stop_for(Stop::Credits);
                Ok(())
            }
            Some(ContinuedItem { item, id, page, .. }) => self.request_again(item, id, page),
        }
    }

    /// Requests a page again that was applied, as evidence.
    pub(super) fn request_again(&mut self, item: ItemIx, id: ItemId, page: PageNum) -> Result<(), Error> {
        let mut ledger = self.dir.ledger();
        ledger.reread_page(item, page)?;
        let pages = ledger.pages(item, SegmentId::BEHIND_ALL)?;
        drop(ledger);
        let mut walk = Walk::new(item, id, &self.rules, pages, None);
        walk.unload_keys(); // its rows are in the ledger
        self.frontier.add(walk);
        self.evidence.spend(1);
        Ok(())
    }

    fn has_full_page(&self) -> Result<bool, Error> {
        let largest = usize::try_from(self.dir.ledger().largest_page()?).unwrap_or(usize::MAX);
        Ok(self.rules.full_size().is_none_or(|full| largest >= full))
    }

    fn short_ends(&self) -> Result<(u64, u64), Error> {
        let ledger = self.dir.ledger();
        Ok((ledger.count_short_ends(None)?, ledger.totals()?.pages))
    }

    /// Credits that reading on behind short pages may cost.
    fn most_evidence(&self, pages: u64) -> f64 {
        (as_f64(pages) * self.context.settings.max_evidence / 100.0).max(LEAST_PRICE)
    }
}

/// Rows of a full page; 0: any page may be followed by another one.
pub(super) fn full_rows(rules: &PagingRules) -> u32 {
    rules.full_size().and_then(|rows| u32::try_from(rows).ok()).unwrap_or_default()
}

fn as_f64(number: u64) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

fn message(learned: ObservedEnd, opened: usize, asked: u32) -> String {
    match learned {
        ObservedEnd::PageSize(rows) => format!(
            "the API returns at most {rows} rows a page ({asked} were requested): a page of {rows} rows counts as full from now on, and {opened} lists that ended on one are read on"
        ),
        ObservedEnd::EmptyPage | ObservedEnd::Unpaid => format!(
            "lists continue behind pages with fewer rows than requested: only an empty page ends a list from now on, and {opened} lists that ended on a short page are read on"
        ),
    }
}
