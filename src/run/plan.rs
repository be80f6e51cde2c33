//! What is known of an export's lists, from its ledger or from the list of items alone, and the plan that follows.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::task::spawn_blocking;

use crate::crawl::end_of_list::{ObservedEnd, PagingRules};
use crate::crawl::survey::Depth;
use crate::endpoint::EndRule;
use crate::error::Error;
use crate::input::error::InputError;
use crate::input::item_list::Ids;
use crate::model::event::Event;
use crate::model::page::PageNum;
use crate::output::differences;
use crate::output::error::OutputError;
use crate::output::export_dir::{LEDGER, refuse_lost_ledger, refuse_removed};
use crate::output::manifest;
use crate::plan::Plan;
use crate::plan::lists::{Lists, ReadList};
use crate::plan::work::Conditions;
use crate::run::context::RunContext;
use crate::run::open::OpenExport;
use crate::run::register::wrong_sizes_message;
use crate::run::since::note_lists;
use crate::settings::{JournalRetention, RateLimit, table};
use crate::state::ledger::{Ledger, SeenLists};

/// Plans an export without a request, and without a change of any file. `latency`: seconds of a response, if it was measured.
pub async fn plan(context: &RunContext, ids: Ids, latency: Option<f64>) -> Result<Plan, Error> {
    let context = Arc::new(context.clone());
    let path = context.settings.state_dir.join(LEDGER);
    let has_ledger = std::fs::metadata(&path).is_ok_and(|found| found.len() > 0);
    if !has_ledger {
        refuse_lost_ledger(&context.settings).await?;
    }
    spawn_blocking(move || {
        if has_ledger {
            let ledger = Ledger::open_read_only(&path)?;
            ledger.start_snapshot()?;
            if let Some(damage) = ledger.find_damage()? {
                return Err(ledger.unusable(format!("is damaged: {damage}")).into());
            }
            if ledger.export()?.is_some() {
                check(&ledger, &context)?;
                let new = count_new(&ledger, ids)?;
                return of_ledger(&ledger, &context, (new, latency));
            }
        }
        let ledger = scratch(&context, ids)?;
        of_ledger(&ledger, &context, (0, latency))
    })
    .await?
}

impl OpenExport<'_> {
    /// Keeps the plan of an export that has none, before its first request.
    pub(super) fn keep_plan(&self) -> Result<(), Error> {
        let ledger = self.dir.ledger();
        if ledger.kept_plan()?.is_some() {
            return Ok(());
        }
        let plan = of_ledger(&ledger, self.context, (0, None))?;
        Ok(ledger.keep_plan(&crate::model::sanitize::json(&plan.kept()))?)
    }
}

/// Refuses what `export` would refuse: other settings, and files that were removed.
fn check(ledger: &Ledger, context: &RunContext) -> Result<(), Error> {
    let Some(export) = ledger.export()? else { return Ok(()) };
    refuse_removed(&export, &context.settings.out)?;
    let differences = differences::of_export(&export.identity, &context.settings.identity());
    if differences.is_empty() || ledger.last_attempt()?.0 == 0 {
        return Ok(());
    }
    let what = format!("the export started at {} has other settings: {}", export.created_at, differences.join("; "));
    Err(OutputError::Mismatch(what).into())
}

/// Ids that the ledger does not have.
fn count_new(ledger: &Ledger, ids: Ids) -> Result<u64, Error> {
    let mut new = HashSet::new();
    for id in ids {
        let id = id?;
        if ledger.find_item(&id)?.is_none() {
            new.insert(id);
        }
    }
    Ok(u64::try_from(new.len()).unwrap_or(u64::MAX))
}

/// A ledger without a file, with the list and what is known of it.
fn scratch(context: &RunContext, ids: Ids) -> Result<Ledger, Error> {
    let mut ledger = Ledger::in_memory()?;
    let added = ledger.add_items(ids.map(|id| id.map_err(Error::from)), || Ok(()))?;
    if added.listed == 0 {
        return Err(InputError::Empty.into());
    }
    for hints in &context.sizes {
        let wrong = hints.read(0, |sizes| Ok(ledger.set_size_hints(&sizes)?))?;
        if wrong > 0 {
            context.events.event(&Event::Warning(&wrong_sizes_message(wrong)));
        }
    }
    note_lists(&mut ledger, &context.settings)?;
    Ok(ledger)
}

fn of_ledger(ledger: &Ledger, context: &RunContext, (new, latency): (u64, Option<f64>)) -> Result<Plan, Error> {
    let settings = &context.settings;
    let mut rules = context.rules(ledger.end_rule()?.as_deref());
    let is_open = rules.end == EndRule::Auto && rules.observed.is_none();
    let doubted = if is_open { ledger.doubted_page_size(rules.page_size)? } else { None };
    rules.observed = doubted.map(ObservedEnd::PageSize).or(rules.observed);
    let lists = known_lists(ledger, &rules, (new, doubted))?;
    let (totals, credits) = (ledger.totals()?, ledger.credits()?);
    let manifests = manifest::published(ledger)?;
    let files = || manifests.iter().flat_map(|manifest| &manifest.files);
    let conditions = Conditions {
        rate: match context.qps {
            RateLimit::PerSecond(rate) => Some(rate),
            RateLimit::Auto(found) => found,
            RateLimit::Unlimited => None,
        },
        is_rate_chosen: settings.qps == Some(RateLimit::Unlimited) || settings.simulated_as.is_some(),
        max_in_flight: settings.max_in_flight,
        latency,
        lookahead: settings.lookahead,
        has_evidence: settings.end == EndRule::Auto,
        page_size: settings.page_size,
        came: (totals.pages, totals.received, ledger.journal_bytes()?),
        published: (files().map(|file| file.rows).sum(), files().map(|file| file.bytes).sum()),
        journal_stays: (settings.journal == JournalRetention::UntilPublished).then_some(settings.segment_size),
    };
    // Each export has a sample of its own, and the same plan each time.
    let id = ledger.export()?.map(|export| export.id).unwrap_or_default();
    let seed = id.bytes().fold(7_u64, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte.into()));
    let plan = Plan::new(&lists, &conditions, (credits.billed + credits.in_doubt, seed));
    let most = settings.max_credits.map(|most| (table::MAX_CREDITS.info.key, most));
    Ok(plan.limited_by(most, context.time_limit.as_ref().map(|limit| (limit.setting, limit.seconds_left()))))
}

/// What the pages and the hints say of each list. `new`: lists that are not in the ledger. `doubted`: pages of this size may not
/// be the last ones.
fn known_lists(ledger: &Ledger, rules: &PagingRules, (new, doubted): (u64, Option<u32>)) -> Result<Lists, Error> {
    let count = |page: PageNum| page.0.saturating_add(1).saturating_sub(rules.first.0);
    let most_pages = count(rules.limit());
    let full = rules.full_size().and_then(|rows| u32::try_from(rows).ok()).unwrap_or(1);
    let mut lists = Lists { most_pages, doubted_page_size: doubted, ..Lists::default() };
    for mut seen in ledger.seen_lists(full)? {
        // It ended on such a page.
        seen.is_complete &= doubted.is_none() || seen.short.is_some() || seen.empty.is_some();
        *lists.read.entry(read_list(seen, rules, count)).or_default() += seen.lists;
    }
    let unread = ledger.unread_lists()?;
    (lists.continued, lists.unknown) = (unread.continued, unread.unknown + new);
    for (rows, number) in unread.sized {
        *lists.sized.entry(pages_of(rows, full, rules).min(most_pages)).or_default() += number;
    }
    Ok(lists)
}

/// Pages that a list with this many rows takes: behind a full page one more is requested, under the strict rule behind any.
fn pages_of(rows: u64, full: u32, rules: &PagingRules) -> u32 {
    let size = u64::from(if full > 1 { full } else { rules.page_size }.max(1));
    let pages = if rules.full_size().is_some() { rows / size } else { rows.div_ceil(size) };
    u32::try_from(pages + 1).unwrap_or(u32::MAX)
}

fn read_list(seen: SeenLists, rules: &PagingRules, count: impl Fn(PageNum) -> u32) -> ReadList {
    let (short, empty) = (seen.short.map(&count), seen.empty.map(&count));
    let most = count(rules.limit());
    let last_full = seen.last_full.map_or(0, &count);
    let empty = empty.map(|page| if seen.is_complete { page } else { Depth::before_empty(last_full, page) });
    let at_most = short.into_iter().chain(empty).min().or((seen.is_complete || last_full >= most).then_some(last_full));
    let is_known = seen.is_complete || short.is_some() && short == at_most;
    let is_known = is_known || last_full >= most;
    let at_least = if is_known { at_most.unwrap_or(last_full) } else { last_full.saturating_add(1).min(most) };
    let at_most = at_most.map(|pages| pages.max(at_least));
    let has_last = at_most == Some(at_least) && last_full < at_least;
    let came = if seen.is_complete { at_least } else { seen.full_pages.saturating_add(u32::from(has_last)) };
    ReadList { at_least: at_least.max(1), at_most: at_most.map(|pages| pages.max(1)), came: came.min(at_least) }
}

#[cfg(test)]
mod tests {
    use super::{pages_of, read_list};
    use crate::crawl::end_of_list::PagingRules;
    use crate::endpoint::EndRule;
    use crate::model::page::PageNum;
    use crate::plan::lists::ReadList;
    use crate::state::ledger::SeenLists;

    const RULES: PagingRules = PagingRules {
        first: PageNum(1),
        last: PageNum(100),
        page_size: 10,
        max_pages: None,
        end: EndRule::Auto,
        observed: None,
    };

    #[test]
    fn a_full_last_page_costs_one_more_request_and_the_strict_rule_one_a_list() {
        let strict = PagingRules { end: EndRule::EmptyPage, ..RULES };
        for (rows, pages, strictly) in [(0, 1, 1), (1, 1, 2), (9, 1, 2), (10, 2, 2), (11, 2, 3), (100, 11, 11)] {
            assert_eq!((pages_of(rows, 10, &RULES), pages_of(rows, 1, &strict)), (pages, strictly), "{rows}");
        }
    }

    #[test]
    fn what_is_known_of_a_list_follows_from_its_pages() {
        let seen = |is_complete, last_full: u32, short: u32, empty: u32, full_pages| {
            let page = |number| Some(PageNum(number)).filter(|page| page.0 > 0);
            let (last_full, short, empty) = (page(last_full), page(short), page(empty));
            let seen = SeenLists { lists: 1, is_complete, last_full, short, empty, full_pages };
            let ReadList { at_least, at_most, came } =
                read_list(seen, &RULES, |page| page.0.saturating_add(1).saturating_sub(1));
            (at_least, at_most.unwrap_or(0), came)
        };
        assert_eq!(seen(true, 0, 1, 0, 0), (1, 1, 1), "one short page");
        assert_eq!(seen(true, 3, 0, 4, 3), (4, 4, 4), "a full last page and an empty one");
        assert_eq!(seen(true, 2, 3, 4, 2), (3, 3, 3), "evidence behind the end is not of the list");
        assert_eq!(seen(true, 5, 0, 0, 5), (5, 5, 5), "max_pages");
        assert_eq!(seen(false, 4, 0, 0, 4), (5, 0, 4), "open");
        assert_eq!(seen(false, 8, 0, 16, 5), (9, 15, 5), "the end is between");
        assert_eq!(seen(false, 8, 12, 16, 5), (12, 12, 6), "the last page came");
        assert_eq!(seen(false, 8, 0, 9, 5), (9, 9, 6), "so did the empty one behind it");
        assert_eq!(seen(false, 100, 0, 0, 12), (100, 100, 12), "the API's last page");
    }
}
