//! The lists of a world: the rows that exist, and which of them a page shows.

use std::collections::BTreeSet;
use std::sync::Mutex;

use super::account::Call;
use crate::common::lock;
use crate::common::scripted::Reply;

/// Rows that a run requests with each page, unless a test says otherwise.
pub(crate) const PAGE_SIZE: usize = 10;
/// Numbers of rows that did not exist when the export started start here.
const LATER: u64 = 1_000_000;

/// The number of a row that came nth.
pub(crate) fn later(nth: u64) -> u64 {
    LATER + nth
}

/// What an API does with a page number behind the last page.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Behind {
    /// An empty page.
    Empty,
    /// The last page once more.
    Last,
    /// The first page once more.
    First,
    /// The first page, the second, and so on.
    Around,
    /// Something else, such as a refusal.
    Says(fn() -> Reply),
}

/// Lists of rows, each known by its number.
pub(crate) struct Lists {
    rows: Mutex<Vec<Vec<u64>>>,
    /// What existed when the export started and is not hidden.
    pub(super) owed: Vec<BTreeSet<u64>>,
    pub(super) page_size: usize,
    pub(super) cap: usize,
    pub(super) behind: Behind,
    pub(super) shift: Box<dyn Fn(&Call) -> usize + Send + Sync>,
    omits: Box<dyn Fn(usize, u64) -> bool + Send + Sync>,
    is_filtered: bool,
}

impl Lists {
    pub(super) fn new(lists: impl IntoIterator<Item = u64>) -> Self {
        let lists: Vec<Vec<u64>> = lists.into_iter().map(|rows| (0..rows).collect()).collect();
        Self {
            owed: lists.iter().map(|rows| rows.iter().copied().collect()).collect(),
            rows: Mutex::new(lists),
            page_size: PAGE_SIZE,
            cap: usize::MAX,
            behind: Behind::Empty,
            shift: Box::new(|_| 0),
            omits: Box::new(|_, _| false),
            is_filtered: false,
        }
    }

    pub(super) fn hide(&mut self, omits: impl Fn(usize, u64) -> bool + Send + Sync + 'static) {
        for (item, owed) in self.owed.iter_mut().enumerate() {
            owed.retain(|row| !omits(item, *row));
        }
        (self.omits, self.is_filtered) = (Box::new(omits), true);
    }

    /// How many rows a page has at most.
    pub(crate) fn size(&self) -> usize {
        self.page_size.min(self.cap)
    }

    /// Does something with a list.
    pub(super) fn change<T>(&self, item: usize, change: impl FnOnce(&mut Vec<u64>) -> T) -> T {
        change(&mut lock(&self.rows)[item])
    }

    /// How many rows there were when the export started, without hidden ones.
    pub(crate) fn rows(&self) -> usize {
        self.owed.iter().map(BTreeSet::len).sum()
    }

    /// How many rows a list has by now, hidden ones included.
    pub(crate) fn length(&self, item: usize) -> usize {
        self.change(item, |list| list.len())
    }

    /// The rows of an item that a run must have if it calls the item complete after at most this many pages.
    pub(crate) fn owed(&self, item: usize, max_pages: Option<u32>) -> impl Iterator<Item = u64> + '_ {
        let most = max_pages.map_or(u64::MAX, |pages| u64::from(pages) * self.size() as u64);
        self.owed[item].range(..most).copied()
    }

    /// Whether a row exists, or came later.
    pub(crate) fn knows(&self, item: usize, row: u64) -> bool {
        row >= LATER || self.owed[item].contains(&row)
    }

    /// The fewest credits that read every list to its end.
    pub(crate) fn fewest(&self, max_pages: Option<u32>) -> u64 {
        let size = self.size();
        let lists = lock(&self.rows);
        let pages = lists.iter().map(|rows| {
            let full = rows.len().div_ceil(size);
            let pages = match self.behind {
                Behind::Says(_) => full.max(1),
                _ if self.is_filtered => full + 1,
                Behind::Empty | Behind::Last | Behind::First | Behind::Around => rows.len() / size + 1,
            };
            max_pages.map_or(pages, |most| pages.min(most as usize))
        });
        pages.sum::<usize>() as u64
    }

    /// The rows that a page shows, or what the API says in place of a page.
    pub(super) fn page(&self, call: &Call) -> Result<Vec<u64>, Reply> {
        let (all, size) = (lock(&self.rows), self.size());
        let rows = &all[call.item];
        let last = rows.len().div_ceil(size).max(1) as u32;
        let page = match self.behind {
            _ if call.page <= last => call.page,
            Behind::Empty => call.page,
            Behind::Last => last,
            Behind::First => 1,
            Behind::Around => (call.page - 1) % last + 1,
            Behind::Says(reply) => return Err(reply()),
        };
        let from = ((page as usize - 1) * size).saturating_sub((self.shift)(call));
        let shown = rows.iter().skip(from).take(size).copied();
        Ok(shown.filter(|row| !(self.omits)(call.item, *row)).collect())
    }
}
