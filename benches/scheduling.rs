//! What it costs to decide which page comes next, with a million ids in the ledger: `cargo bench --bench scheduling`.
//!
//! Every figure is for a round of 64 pages: they are completed and applied to their walks, walks that have ended make room, the
//! ledger is asked for new ones, the most urgent pages are picked, and keys are counted. Divide by 64 for a page. Nothing is
//! fetched, decoded or written: the bench `stages` has those.

#![expect(clippy::expect_used, reason = "a bench that cannot be set up has no figures")]

use std::collections::VecDeque;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use pagehaul::crawl::backlog::Backlog;
use pagehaul::crawl::end_of_list::PagingRules;
use pagehaul::crawl::frontier::Frontier;
use pagehaul::decode::{DecodedPage, Key, PageDrift};
use pagehaul::endpoint::EndRule;
use pagehaul::model::page::{AttemptId, ItemId, ItemIx, PageNum, Request};
use pagehaul::state::ledger::{Ledger, LedgerError};

/// Ids in the ledger.
const IDS: u64 = 1_000_000;
/// Pages that are completed in a round.
const ROUND: usize = 64;
/// Rows of a full page.
const ROWS: u32 = 10;
/// More keys than ever are in memory.
const KEYS: usize = 1 << 20;

/// Walks of lists that all have this many pages, the last one short.
struct Walks<'a> {
    ledger: &'a Ledger,
    rules: PagingRules,
    pages: u32,
    frontier: Frontier,
    backlog: Backlog,
    in_flight: VecDeque<(ItemIx, ItemId, PageNum)>,
    /// Makes every key different.
    keys: u64,
}

impl<'a> Walks<'a> {
    /// `open` walks, each with a page in flight.
    fn new(ledger: &'a Ledger, open: usize, pages: u32) -> Self {
        let (first, last) = (PageNum(1), PageNum(100_000));
        let rules =
            PagingRules { first, last, page_size: ROWS, max_pages: None, end: EndRule::ShortPage, observed: None };
        let frontier = Frontier::new(rules, open);
        let (backlog, in_flight) = (Backlog::default(), VecDeque::new());
        let mut walks = Self { ledger, rules, pages, frontier, backlog, in_flight, keys: 0 };
        while walks.in_flight.len() < open {
            walks.pick(open);
        }
        walks
    }

    fn round(&mut self) {
        for _ in 0..ROUND {
            let (item, id, page) = self.in_flight.pop_front().expect("a page is in flight");
            self.complete(item, id, page);
        }
        self.pick(ROUND);
        self.frontier.unload_keys(KEYS);
    }

    fn complete(&mut self, item: ItemIx, id: ItemId, page: PageNum) {
        let rows = if page.0 < self.pages { ROWS } else { ROWS / 2 };
        let keys = (0..rows).map(|_| self.key()).collect();
        let received = usize::try_from(rows).expect("a page is small");
        let request = Request { attempt: AttemptId(1), item, id, page };
        let decoded = DecodedPage {
            request,
            keys,
            received,
            is_list: true,
            foreign: 0,
            rejects: Vec::new(),
            drift: PageDrift::default(),
        };
        self.frontier.take_in_flight(item, page).expect("it was in flight");
        self.frontier.walk_mut(item).expect("it is open").accept(&decoded, AttemptId(1), &self.rules);
        self.frontier.take_ended(item);
    }

    fn key(&mut self) -> Key {
        self.keys += 1;
        u128::from(self.keys.wrapping_mul(0x9E37_79B9_7F4A_7C15)).to_le_bytes()
    }

    fn pick(&mut self, pages: usize) {
        while self.frontier.is_half_empty() {
            if self.backlog.is_empty() {
                self.backlog = Backlog::default(); // and again from the beginning
            }
            self.backlog
                .refill(&mut self.frontier, self.ledger, &self.rules, (true, &[]))
                .expect("the ledger is whole");
        }
        for _ in 0..pages {
            let Some(task) = self.frontier.next_page() else { return };
            self.in_flight.push_back((task.item, task.id.clone(), task.page));
        }
    }
}

fn rounds(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().expect("a directory");
    let mut ledger = Ledger::open(&directory.path().join("ledger.sqlite")).expect("an empty ledger");
    let ids =
        (0..IDS).map(|number| Ok::<_, LedgerError>(ItemId::new(&(1_729_380_000_000_000_000 + number).to_string())));
    ledger.add_items(ids, || Ok(())).expect("ids are added");
    for (name, pages) in [("64 pages of lists of 6", 6), ("64 pages of lists of 1", 1)] {
        let mut group = criterion.benchmark_group(name);
        group.measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_secs(1)).sample_size(30);
        for open in [64, 256, 1_024, 4_096] {
            let mut walks = Walks::new(&ledger, open, pages);
            group.bench_function(format!("{open} walks open"), |bencher| bencher.iter(|| walks.round()));
        }
        group.finish();
    }
}

criterion_group!(benches, rounds);
criterion_main!(benches);
