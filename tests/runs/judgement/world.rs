//! Models of APIs. A model holds the rows that exist, answers requests as one or another real API would, and keeps its own
//! account of what it served.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use pagehaul::endpoint::ColumnKind;
use rand_core::{Rng, SeedableRng};
use rand_xoshiro::SplitMix64;
use serde_json::json;
use tokio::time::Instant;

use crate::common::scripted::{Reply, Sent};
use crate::common::{Answer, endpoint};

/// Rows that a run asks for with each page, unless a test says otherwise.
pub(crate) const ASKED: usize = 10;
/// How long an answer takes.
pub(crate) const LATENCY: Duration = Duration::from_millis(50);
/// Requests that no test needs.
const MOST: usize = 100_000;
/// Numbers of rows that did not exist when the export began start here.
const LATER: u64 = 1_000_000;

/// The id of the item at a place.
pub(crate) fn id(place: usize) -> String {
    (1_000_000 + place).to_string()
}

/// The place of an item.
pub(crate) fn place(id: &str) -> usize {
    id.parse::<usize>().unwrap() - 1_000_000
}

/// A number that looks random and is always the same.
pub(crate) fn hash(of: &[u64]) -> u64 {
    of.iter().fold(0, |hash, part| SplitMix64::seed_from_u64(hash ^ part.wrapping_mul(0x9E37_79B9)).next_u64())
}

/// List lengths from 0 to `most` rows in no particular order.
pub(crate) fn every_size(lists: usize, most: u64) -> Vec<u64> {
    (0..lists as u64).map(|list| hash(&[list, 17]) % (most + 1)).collect()
}

/// A request, as a model sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    /// How many came up to and with this one, over all runs.
    pub(crate) number: usize,
    /// How often this page was asked for, this time included.
    pub(crate) nth: u32,
    /// Time since the first request of all.
    pub(crate) since: Duration,
    /// The place of the item.
    pub(crate) item: usize,
    /// The page.
    pub(crate) page: u32,
}

/// What an API says to a page number behind the last page.
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

type Fault = Box<dyn Fn(&Call) -> Option<Reply> + Send + Sync>;
type Change = Box<dyn Fn(&Call, &mut Vec<u64>) + Send + Sync>;
type Delay = Box<dyn Fn(&Call) -> Option<Duration> + Send + Sync>;
type Omits = Box<dyn Fn(usize, u64) -> bool + Send + Sync>;

/// What a model saw and did.
#[derive(Debug, Default)]
struct Account {
    requests: usize,
    began: Option<Instant>,
    asked: BTreeMap<(usize, u32), u32>,
    served: BTreeMap<(usize, u32), u32>,
}

/// A model of an API.
pub(crate) struct World {
    lists: Mutex<Vec<Vec<u64>>>,
    owed: Vec<BTreeSet<u64>>,
    account: Mutex<Account>,
    asked: usize,
    cap: usize,
    omits: Omits,
    is_filtered: bool,
    empty: &'static str,
    behind: Behind,
    code: i64,
    faults: Vec<Fault>,
    others: Vec<Fault>,
    delays: Vec<Delay>,
    changes: Vec<Change>,
}

impl World {
    /// An API without quirks whose lists have this many rows.
    pub(crate) fn new(lists: impl IntoIterator<Item = u64>) -> Self {
        let lists: Vec<Vec<u64>> = lists.into_iter().map(|rows| (0..rows).collect()).collect();
        Self {
            owed: lists.iter().map(|rows| rows.iter().copied().collect()).collect(),
            lists: Mutex::new(lists),
            account: Mutex::default(),
            asked: ASKED,
            cap: usize::MAX,
            omits: Box::new(|_, _| false),
            is_filtered: false,
            empty: "[]",
            behind: Behind::Empty,
            code: 0,
            faults: Vec::new(),
            others: Vec::new(),
            delays: Vec::new(),
            changes: Vec::new(),
        }
    }

    /// It is asked for pages of this many rows.
    pub(crate) fn asked_for(self, asked: usize) -> Self {
        Self { asked, ..self }
    }

    /// It never gives more than this many rows a page.
    pub(crate) fn capped(self, cap: usize) -> Self {
        Self { cap, ..self }
    }

    /// Rows that take a place in its pages and are not shown: deleted, blocked, or not for this key.
    pub(crate) fn hiding(mut self, omits: impl Fn(usize, u64) -> bool + Send + Sync + 'static) -> Self {
        for (item, owed) in self.owed.iter_mut().enumerate() {
            owed.retain(|row| !omits(item, *row));
        }
        Self { omits: Box::new(omits), is_filtered: true, ..self }
    }

    /// This many pages of a hundred lack one row each.
    pub(crate) fn hiding_one_in_some_pages(self, percent: u64, seed: u64) -> Self {
        let size = self.size() as u64;
        self.hiding(move |item, row| {
            let page = hash(&[seed, item as u64, row / size]);
            page % 100 < percent && page / 100 % size == row % size
        })
    }

    /// In place of an empty list it sends this.
    pub(crate) fn ending_with(self, empty: &'static str) -> Self {
        Self { empty, ..self }
    }

    /// What it does behind the last page.
    pub(crate) fn behind(self, behind: Behind) -> Self {
        Self { behind, ..self }
    }

    /// Some requests it answers otherwise.
    pub(crate) fn but(mut self, fault: impl Fn(&Call) -> Option<Reply> + Send + Sync + 'static) -> Self {
        self.faults.push(Box::new(fault));
        self
    }

    /// Some answers take this long.
    pub(crate) fn taking(mut self, delay: impl Fn(&Call) -> Option<Duration> + Send + Sync + 'static) -> Self {
        self.delays.push(Box::new(delay));
        self
    }

    /// Its success has another code than 0.
    pub(crate) fn succeeding_with(self, code: i64) -> Self {
        Self { code, ..self }
    }

    /// Some requests it answers with another success, and charges for it.
    pub(crate) fn sending(mut self, other: impl Fn(&Call) -> Option<Reply> + Send + Sync + 'static) -> Self {
        self.others.push(Box::new(other));
        self
    }

    /// Right after some answers a list changes.
    pub(crate) fn changing(mut self, change: impl Fn(&Call, &mut Vec<u64>) + Send + Sync + 'static) -> Self {
        self.changes.push(Box::new(change));
        self
    }

    /// How many rows a page has at most.
    pub(crate) fn size(&self) -> usize {
        self.asked.min(self.cap)
    }

    /// The ids of its items.
    pub(crate) fn ids(&self) -> Vec<String> {
        (0..self.owed.len()).map(id).collect()
    }

    /// How many rows exist.
    pub(crate) fn rows(&self) -> usize {
        self.owed.iter().map(BTreeSet::len).sum()
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
        let lists = self.lists.lock().unwrap();
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

    /// Pages that it served, each as often as it was.
    pub(crate) fn served(&self) -> BTreeMap<(usize, u32), u32> {
        self.account.lock().unwrap().served.clone()
    }

    /// Requests so far, over all runs.
    pub(crate) fn requests(&self) -> usize {
        self.account.lock().unwrap().requests
    }

    /// Answers a request.
    pub(crate) fn answer(&self, sent: &Sent) -> Reply {
        let call = self.note(sent);
        if let Some(reply) = self.faults.iter().find_map(|fault| fault(&call)) {
            return reply;
        }
        let other = self.others.iter().find_map(|other| other(&call));
        let reply = other.inspect(|_| self.charge(&call)).unwrap_or_else(|| self.page(&call));
        let mut lists = self.lists.lock().unwrap();
        self.changes.iter().for_each(|change| change(&call, &mut lists[call.item]));
        let delay = self.delays.iter().find_map(|delay| delay(&call));
        reply.after(delay.unwrap_or(LATENCY))
    }

    /// Goes on with the account of another model.
    pub(crate) fn inherit(&self, other: &Self) {
        let mut account = self.account.lock().unwrap();
        *account = std::mem::take(&mut *other.account.lock().unwrap());
    }

    fn note(&self, sent: &Sent) -> Call {
        let mut account = self.account.lock().unwrap();
        account.requests += 1;
        assert!(account.requests < MOST, "it goes on and on with page {} of {}", sent.page, sent.id);
        let began = *account.began.get_or_insert(sent.at);
        let item = place(&sent.id);
        let nth = account.asked.entry((item, sent.page)).or_default();
        *nth += 1;
        let nth = *nth;
        Call { number: account.requests, nth, since: sent.at - began, item, page: sent.page }
    }

    fn charge(&self, call: &Call) {
        *self.account.lock().unwrap().served.entry((call.item, call.page)).or_default() += 1;
    }

    fn page(&self, call: &Call) -> Reply {
        let lists = self.lists.lock().unwrap();
        let (rows, size) = (&lists[call.item], self.size());
        let last = rows.len().div_ceil(size).max(1) as u32;
        let page = match self.behind {
            _ if call.page <= last => call.page,
            Behind::Empty => call.page,
            Behind::Last => last,
            Behind::First => 1,
            Behind::Around => (call.page - 1) % last + 1,
            Behind::Says(reply) => return reply(),
        };
        self.charge(call);
        let from = (page as usize - 1) * size;
        let shown = rows.iter().skip(from).take(size).filter(|row| !(self.omits)(call.item, **row));
        let shown: Vec<String> = shown.map(|row| text_of(call.item, *row)).collect();
        let data = if shown.is_empty() { self.empty.to_owned() } else { format!("[{}]", shown.join(",")) };
        answer(self.code, &data)
    }
}

/// What every row has beside its identity and its region: a value for each column that the endpoint describes.
static REST: LazyLock<String> = LazyLock::new(|| {
    let columns = endpoint().columns.into_iter();
    let others = columns.filter(|column| !["video_id", "product_id", "region"].contains(&column.name.as_str()));
    let cells = others.map(|column| match column.kind {
        ColumnKind::Utf8 => format!(",\"{}\":\"x\"", column.name),
        ColumnKind::Int64 | ColumnKind::Float64 => format!(",\"{}\":7", column.name),
        ColumnKind::Timestamp => format!(",\"{}\":\"1700000000\"", column.name),
    });
    cells.collect()
});

/// A row as JSON text.
pub(crate) fn text_of(item: usize, row: u64) -> String {
    let (product, region, rest) = (id(item), ["ID", "TH", "VN"][(row % 3) as usize], REST.as_str());
    format!("{{\"video_id\":\"v{row}\",\"product_id\":\"{product}\",\"region\":\"{region}\"{rest}}}")
}

/// The number of a row that came nth.
pub(crate) fn later(nth: u64) -> u64 {
    LATER + nth
}

/// A success with something under `data`.
pub(crate) fn success(data: &str) -> Reply {
    answer(0, data).after(LATENCY)
}

fn answer(code: i64, data: &str) -> Reply {
    Answer::new(200, format!("{{\"code\":{code},\"message\":\"success\",\"data\":{data}}}")).into()
}

/// A body under a status, after the usual time.
pub(crate) fn body(status: u16, body: impl Into<Vec<u8>>) -> Reply {
    Reply::from(Answer::new(status, body)).after(LATENCY)
}

/// A page of HTML, as gateways send it.
pub(crate) fn html(status: u16) -> Reply {
    body(status, format!("<html><head><title>{status}</title></head><body>gateway</body></html>"))
}

/// A refusal in the API's envelope, under the same HTTP status.
pub(crate) fn refusal(status: u16, message: &str) -> Reply {
    Reply::refusal(status, message).after(LATENCY)
}

/// A refusal in the API's envelope, under HTTP 200.
pub(crate) fn inside(code: i64, message: &str) -> Reply {
    body(200, json!({ "code": code, "message": message, "data": null }).to_string())
}

/// A 429 in the API's envelope; a wish of zero seconds is none.
pub(crate) fn throttled(retry_after: u64) -> Reply {
    let reply = refusal(429, "qps limit exceeded");
    if retry_after > 0 { reply.with_retry_after(Duration::from_secs(retry_after)) } else { reply }
}

/// An internal error in the API's envelope.
pub(crate) fn internal_error() -> Reply {
    refusal(500, "Internal server error")
}
