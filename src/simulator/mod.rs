//! The list API, embedded: the documented call over real HTTP, at any size, deterministic from a seed.
//!
//! `pagehaul simulate` serves it, `export --simulate` runs against it on a fresh machine without a key, and the tests
//! compare with it: what a row must be is a pure function of the seed, the item and the row's position. No column is
//! named here; all come from the endpoint's table.

mod account;
mod answer;
mod fake;
mod limit;
mod list;
mod row;
mod server;
mod settings;
mod words;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rand_core::{Rng, SeedableRng};
use rand_xoshiro::SplitMix64;

pub use account::{Account, Billed};
pub use answer::{ApiAnswer, ApiRequest};
pub use fake::PatternError;
pub use server::{Server, serve, start};
pub use settings::{Qps, Settings, SettingsError, Window};

use crate::endpoint::Endpoint;
use account::Books;
use answer::{Asked, Refusal};
use fake::Template;
use limit::Limit;
use list::{List, below, mix};

/// Room for a row and for the frame of an answer, bytes. Only a first guess: a body grows where it must.
const ROW_ROOM: usize = 1300;
const FRAME_ROOM: usize = 128;

/// The simulator could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SimulatorError {
    /// A column's `fake` pattern is of no use.
    #[error("read the fake pattern of column {column}")]
    Pattern {
        /// The column.
        column: String,
        /// What is wrong with its pattern.
        #[source]
        source: PatternError,
    },
}

/// The simulated API, without a socket.
#[derive(Debug)]
pub struct Simulator {
    endpoint: Endpoint,
    settings: Settings,
    template: Template,
    opening: Vec<u8>,
    limit: Option<Limit>,
    credits: Option<AtomicU64>,
    books: Books,
}

impl Simulator {
    /// Makes the API that an endpoint describes.
    pub fn new(endpoint: &Endpoint, settings: Settings) -> Result<Self, SimulatorError> {
        let template =
            Template::compile(endpoint).map_err(|(column, source)| SimulatorError::Pattern { column, source })?;
        let code = endpoint.success_codes.first().copied().unwrap_or_default();
        Ok(Self {
            endpoint: endpoint.clone(),
            template,
            opening: format!("{{\"code\":{code},\"message\":\"success\",\"data\":[").into_bytes(),
            limit: settings.qps.map(Limit::new),
            credits: settings.credits.map(AtomicU64::new),
            books: Books::new(settings.record),
            settings,
        })
    }

    /// What it was made from.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Number of rows of a product. Every id has a list, if only an empty one.
    pub fn videos(&self, product: &str) -> u64 {
        list::rows(self.settings.seed, product, self.settings.max_videos)
    }

    /// One row as JSON text, the same as in an answer: the one at a position (from 0) in an order, given as the value
    /// of the sort field parameter and whether the greatest comes first. `None`: no such row or order.
    pub fn row(&self, product: &str, sort: Option<(&str, bool)>, position: u64) -> Option<String> {
        let order = match sort {
            None => None,
            Some((field, descending)) => Some((self.template.field(field)?, descending)),
        };
        let list = self.list(product);
        let mut row = Vec::new();
        self.push_rows(&list, order, position..position.checked_add(1)?, &mut row);
        if row.is_empty() { None } else { String::from_utf8(row).ok() }
    }

    /// Answers a request: everything but the wait.
    pub fn answer(&self, request: &ApiRequest<'_>) -> ApiAnswer {
        let number = self.books.request();
        let mut rng = SplitMix64::seed_from_u64(mix(self.settings.seed).wrapping_add(mix(number)));
        let delay = self.settings.latency + drawn(self.settings.jitter, rng.next_u64());
        match self.page(request, &mut rng) {
            Ok(body) => ApiAnswer { status: 200, body, delay },
            Err(refusal) => {
                self.books.refused(&refusal);
                ApiAnswer { status: refusal.status(), body: refusal.body(), delay }
            }
        }
    }

    /// Its own account of what it saw.
    pub fn account(&self) -> Account {
        self.books.account()
    }

    /// How many times each page of each product was billed; empty unless the settings say `record`.
    pub fn billed(&self) -> Billed {
        self.books.billed()
    }

    /// The checks in the order of a gateway: a request is known, allowed and understood before it can fail or cost.
    fn page(&self, request: &ApiRequest<'_>, rng: &mut SplitMix64) -> Result<Bytes, Refusal> {
        if request.path != self.endpoint.path {
            return Err(Refusal::NotFound);
        }
        if !answer::authorized(request.authorization, self.settings.key.as_deref()) {
            return Err(Refusal::Unauthorized);
        }
        if self.limit.as_ref().is_some_and(|limit| !limit.admits()) {
            return Err(Refusal::Throttled);
        }
        let asked = Asked::read(&self.endpoint, request.query)?;
        if list::share(rng.next_u64()) <= self.settings.errors {
            return Err(Refusal::Injected);
        }
        if self.credits.as_ref().is_some_and(|credits| !spend(credits)) {
            return Err(Refusal::Unpaid);
        }
        self.books.page(&asked.item, asked.page);
        Ok(self.body(&asked, rng))
    }

    fn body(&self, asked: &Asked<'_>, rng: &mut SplitMix64) -> Bytes {
        let list = self.list(&asked.item);
        let rows = asked.start.min(list.rows())..asked.start.saturating_add(u64::from(asked.size)).min(list.rows());
        let room = usize::try_from(rows.end - rows.start).unwrap_or_default() * ROW_ROOM;
        let mut body = Vec::with_capacity(room + FRAME_ROOM);
        body.extend_from_slice(&self.opening);
        let sort = asked.sort.as_ref();
        let order = sort.and_then(|sort| self.template.field(&sort.field).map(|field| (field, sort.descending)));
        self.push_rows(&list, order, rows, &mut body);
        body.extend_from_slice(b"],\"requestId\":\"");
        row::push_uuid(&mut body, rng);
        body.extend_from_slice(b"\"}");
        Bytes::from(body)
    }

    fn list(&self, product: &str) -> List {
        List::new(self.settings.seed, product, self.settings.max_videos, self.template.fields())
    }

    /// Appends the rows at these positions of an order, with commas between them.
    fn push_rows(&self, list: &List, order: Option<(usize, bool)>, positions: std::ops::Range<u64>, out: &mut Vec<u8>) {
        let sorted = order.map(|(field, descending)| (list.sorted(field), descending));
        let rows = list.rows();
        for (index, position) in positions.take_while(|position| *position < rows).enumerate() {
            if index > 0 {
                out.push(b',');
            }
            let row = match sorted {
                None => position,
                Some((sorted, true)) => sorted.carry(position, rows),
                Some((sorted, false)) => sorted.carry(rows - 1 - position, rows),
            };
            self.template.push(list, row, out);
        }
    }
}

/// Takes one credit, if there is one.
fn spend(credits: &AtomicU64) -> bool {
    credits.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
}

/// A duration from nothing up to a limit.
fn drawn(limit: Duration, bits: u64) -> Duration {
    let nanos = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(below(bits, nanos))
}

#[cfg(test)]
mod tests;
