//! The scheduled world: a model of an API that has lists of its own and knows which rows exist. It counts requests, limits
//! them, bills pages, fails by schedule, and changes its lists, all in virtual time. It decides what a request gets when the
//! request arrives, half of its latency after it left.
//!
//! There are three fakes of the API. Which one does a test take?
//!
//! * `world`: whatever depends on lists, time, limits or credits: where lists end, whose fault a failure is, what a crash
//!   costs, how much of a limit is used. An oracle compares the output with what the world knows.
//! * `scripted`: a run in virtual time that needs some exact responses in an exact order. The test writes a function from
//!   requests to responses. A world is served through it, so that it records and stops both kinds of runs.
//! * `hostile`, and `api` on top of it: the built program, or what only a socket can do: connections, TLS, broken bytes.

mod account;
mod limits;
mod lists;
mod replies;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use pagehaul::fetch::{FetchError, RawResponse};
use rand_core::{Rng, SeedableRng};
use rand_xoshiro::SplitMix64;

use self::account::{Account, InFlight};
use self::lists::Lists;
use super::lock;
use super::scripted::{Reply, Scripted, Sent};

pub(crate) use self::account::{Call, Seen};
pub(crate) use self::limits::Limit;
pub(crate) use self::lists::{Behind, PAGE_SIZE, later};
pub(crate) use self::replies::*;

/// How long a response takes unless a test says otherwise.
pub(crate) const LATENCY: Duration = Duration::from_millis(50);

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

type Hook<T> = Box<dyn Fn(&Call) -> Option<T> + Send + Sync>;
type Change = Box<dyn Fn(&Call, &mut Vec<u64>) + Send + Sync>;
type Row = Box<dyn Fn(usize, u64) -> String + Send + Sync>;
type Spoil = Box<dyn Fn(&Call, Reply) -> Reply + Send + Sync>;

/// A model of an API.
pub(crate) struct World {
    pub(crate) lists: Lists,
    account: Mutex<Account>,
    limits: Mutex<Vec<Limit>>,
    row: Row,
    empty: &'static str,
    code: i64,
    delays: Vec<Hook<Duration>>,
    losses: Vec<Hook<Reply>>,
    faults: Vec<Hook<Reply>>,
    others: Vec<Hook<Reply>>,
    spoils: Vec<Spoil>,
    changes: Vec<Change>,
}

fn first<T>(hooks: &[Hook<T>], call: &Call) -> Option<T> {
    hooks.iter().find_map(|hook| hook(call))
}

/// How it is put together.
impl World {
    /// An API without quirks whose lists have this many rows.
    pub(crate) fn new(lists: impl IntoIterator<Item = u64>) -> Self {
        Self {
            lists: Lists::new(lists),
            account: Mutex::default(),
            limits: Mutex::default(),
            row: Box::new(text_of),
            empty: "[]",
            code: 0,
            delays: Vec::new(),
            losses: Vec::new(),
            faults: Vec::new(),
            others: Vec::new(),
            spoils: Vec::new(),
            changes: Vec::new(),
        }
    }

    /// It is requested pages of this many rows.
    pub(crate) fn with_page_size(mut self, page_size: usize) -> Self {
        self.lists.page_size = page_size;
        self
    }

    /// It never gives more than this many rows a page.
    pub(crate) fn capped(mut self, cap: usize) -> Self {
        self.lists.cap = cap;
        self
    }

    /// Rows that take a place in its pages and are not shown: deleted, blocked, or not for this key.
    pub(crate) fn hiding(mut self, omits: impl Fn(usize, u64) -> bool + Send + Sync + 'static) -> Self {
        self.lists.hide(omits);
        self
    }

    /// This many pages of a hundred lack one row each.
    pub(crate) fn hiding_one_in_some_pages(self, percent: u64, seed: u64) -> Self {
        let size = self.lists.size() as u64;
        self.hiding(move |item, row| {
            let page = hash(&[seed, item as u64, row / size]);
            page % 100 < percent && page / 100 % size == row % size
        })
    }

    /// What it does behind the last page.
    pub(crate) fn behind(mut self, behind: Behind) -> Self {
        self.lists.behind = behind;
        self
    }

    /// Some pages show the rows this many places before theirs: rows of other lists were put in meanwhile.
    pub(crate) fn shifting(mut self, by: impl Fn(&Call) -> usize + Send + Sync + 'static) -> Self {
        self.lists.shift = Box::new(by);
        self
    }

    /// Its rows are these JSON texts, by the place of the item and the number of the row.
    pub(crate) fn with_rows(self, row: impl Fn(usize, u64) -> String + Send + Sync + 'static) -> Self {
        Self { row: Box::new(row), ..self }
    }

    /// In place of an empty list it sends this.
    pub(crate) fn ending_with(self, empty: &'static str) -> Self {
        Self { empty, ..self }
    }

    /// Its success has another code than 0.
    pub(crate) fn succeeding_with(self, code: i64) -> Self {
        Self { code, ..self }
    }

    /// It counts requests against this from its time on.
    pub(crate) fn limited(mut self, limit: Limit) -> Self {
        self.limits.get_mut().unwrap().push(limit);
        self
    }

    /// Pages that it bills at most.
    pub(crate) fn with_credits(mut self, credits: Option<u64>) -> Self {
        self.account.get_mut().unwrap().credits = credits;
        self
    }

    /// Some responses take this long.
    pub(crate) fn taking(mut self, delay: impl Fn(&Call) -> Option<Duration> + Send + Sync + 'static) -> Self {
        self.delays.push(Box::new(delay));
        self
    }

    /// Some requests do not reach it.
    pub(crate) fn losing(mut self, loss: impl Fn(&Call) -> Option<Reply> + Send + Sync + 'static) -> Self {
        self.losses.push(Box::new(loss));
        self
    }

    /// Some requests get another reply, for free.
    pub(crate) fn but(mut self, fault: impl Fn(&Call) -> Option<Reply> + Send + Sync + 'static) -> Self {
        self.faults.push(Box::new(fault));
        self
    }

    /// Some requests get another success, which is billed.
    pub(crate) fn sending(mut self, other: impl Fn(&Call) -> Option<Reply> + Send + Sync + 'static) -> Self {
        self.others.push(Box::new(other));
        self
    }

    /// What becomes of a page on its way back, after it was billed.
    pub(crate) fn spoiling(mut self, spoil: impl Fn(&Call, Reply) -> Reply + Send + Sync + 'static) -> Self {
        self.spoils.push(Box::new(spoil));
        self
    }

    /// Right after some responses a list changes.
    pub(crate) fn changing(mut self, change: impl Fn(&Call, &mut Vec<u64>) + Send + Sync + 'static) -> Self {
        self.changes.push(Box::new(change));
        self
    }
}

/// How it serves.
impl World {
    /// Serves a run, which request number `stop_at` of this run stops.
    pub(crate) fn serve(self: &Arc<Self>, stop_at: usize) -> Arc<Scripted> {
        let world = Arc::clone(self);
        Scripted::responding(stop_at, move |sent| {
            let (world, call) = (Arc::clone(&world), world.leaves(sent));
            Box::pin(async move { world.respond(call).await })
        })
    }

    /// A life of the run is over. Another one starts with another virtual clock, and finds the limits unused.
    pub(crate) fn restart(&self) {
        self.account().restart();
        lock(&self.limits).iter_mut().for_each(Limit::restart);
    }

    fn leaves(&self, sent: &Sent) -> Call {
        self.account().leaves(place(&sent.id), sent)
    }

    async fn respond(&self, mut call: Call) -> Result<RawResponse, FetchError> {
        let _in_flight = InFlight::new(&self.account, call.number);
        if let Some(loss) = first(&self.losses, &call) {
            return loss.result().await;
        }
        let delay = first(&self.delays, &call).unwrap_or(LATENCY);
        tokio::time::sleep(delay / 2).await;
        call.since = self.account().arrives(call.number);
        let reply = self.answer(&call, delay);
        self.account().answers(call.number, reply.status());
        reply.sooner_by(delay / 2).result().await
    }

    fn answer(&self, call: &Call, delay: Duration) -> Reply {
        let at_once = self.account().in_flight;
        if let Some(refusal) = limits::refusal_at(&lock(&self.limits), call.since, at_once) {
            return refusal.after(delay);
        }
        self.account().admits(call.number);
        if let Some(fault) = first(&self.faults, call) {
            return fault;
        }
        if !self.account().has_credits() {
            return refusal(402, "apiKey quota is not enough").after(delay);
        }
        let page = match first(&self.others, call).map_or_else(|| self.page(call), Ok) {
            Ok(page) => page.after(delay),
            Err(refusal) => return refusal.after(delay),
        };
        self.account().bill(call);
        self.lists.change(call.item, |list| self.changes.iter().for_each(|change| change(call, list)));
        self.spoils.iter().fold(page, |page, spoil| spoil(call, page))
    }

    /// A page, or the free reply in place of one.
    fn page(&self, call: &Call) -> Result<Reply, Reply> {
        let rows = self.lists.page(call)?;
        let rows: Vec<String> = rows.into_iter().map(|row| (self.row)(call.item, row)).collect();
        let data = if rows.is_empty() { self.empty.to_owned() } else { format!("[{}]", rows.join(",")) };
        Ok(success_with(self.code, &data))
    }
}

/// What it knows.
impl World {
    /// What it counted.
    pub(crate) fn account(&self) -> MutexGuard<'_, Account> {
        lock(&self.account)
    }

    /// Requests that the limits admit in a part of the run; none where they do not count by time.
    pub(crate) fn permitted(&self, from: Duration, until: Duration) -> Option<f64> {
        limits::permitted(&lock(&self.limits), from, until)
    }

    /// The ids of its items.
    pub(crate) fn ids(&self) -> Vec<String> {
        (0..self.lists.owed.len()).map(id).collect()
    }

    /// Pages that it served, each as often as it was.
    pub(crate) fn served(&self) -> std::collections::BTreeMap<(usize, u32), u32> {
        self.account().served.clone()
    }

    /// Requests so far, over all runs.
    pub(crate) fn requests(&self) -> usize {
        self.account().seen.len()
    }

    /// Continues the account of another model.
    pub(crate) fn inherit(&self, other: &Self) {
        *self.account() = std::mem::take(&mut *other.account());
    }
}
