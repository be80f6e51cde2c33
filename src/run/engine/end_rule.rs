//! What the ends of lists show about the API: when the end rule changes, what that costs, and which ends are checked for it.

use super::Engine;
use crate::crawl::end_of_list::{ObservedEnd, PagingRules};
use crate::crawl::judgement::end_evidence;
use crate::crawl::walk::Walk;
use crate::endpoint::EndRule;
use crate::error::Error;
use crate::model::event::Event;
use crate::model::page::SegmentId;
use crate::run::stop::Stop;
use crate::state::ledger::EndedItem;

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
    /// time at first, then several of them, because each search reads all lists.
    pub(super) fn check_likeliest_ends(&mut self) -> Result<(), Error> {
        let is_open = self.rules.end == EndRule::Auto && self.rules.full_size().is_some();
        if self.stop.is_some() || !is_open || !self.evidence.affords(1) || !self.can_afford() {
            return Ok(());
        }
        let most = self.evidence.last_checks_at_once(self.credits_left());
        let found = {
            let (is_deepest, except) = self.evidence.next_last_check();
            self.dir.ledger().longest_short_ends(is_deepest, except, most)?
        };
        let found: Vec<EndedItem> = found.into_iter().filter(|ended| ended.last < self.rules.limit()).collect();
        self.evidence.record_last_checks(found.iter().map(|ended| ended.item));
        found.into_iter().try_for_each(|ended| self.request_behind_end(ended))
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
