//! The API of a seed: it hands out the rows of its lists, keeps its own account, and lets go wrong what the plan says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use pagehaul::fetch::FetchErrorKind;
use pagehaul::fetch::{ContentHeaders, Fetch, FetchError, RawResponse};
use pagehaul::model::clock;
use pagehaul::model::page::Request;
use pagehaul::simulator::Simulator;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::oracle::Ledger;
use crate::plan::{Behind, Death, Dice, Fault, Plan};

/// Numbers of rows that were put in while the run went on start here.
const LATER: u64 = 1_000;
/// Rows that are put in at most: a list comes to rest.
const MOST_PUT_IN: u64 = 12;

/// What the server saw and did, over all lives.
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// Requests that reached it.
    pub(crate) requests: u64,
    /// Pages that it charged for, delivered or not.
    pub(crate) charged: u64,
    /// The same by product and page.
    pub(crate) pages: BTreeMap<(String, u32), u32>,
    /// Empty lists that it sent as such.
    pub(crate) empty_lists: u64,
    /// Pages that were in the journal when a life ended.
    pub(crate) journaled: BTreeSet<(String, u32)>,
    /// What happened, for people and for comparing two runs of a seed.
    pub(crate) log: Vec<String>,
    /// What must not have happened.
    pub(crate) wrong: Vec<String>,
}

/// The server's side of all lives.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) rows: Simulator,
    pub(crate) account: Mutex<Account>,
    dice: Mutex<Dice>,
    /// Credits left.
    credits: Mutex<Option<u64>>,
    /// Virtual seconds of the lives before.
    pub(crate) lived: Mutex<Duration>,
    /// When a token was last counted, virtual time since the first life began, and how many there were.
    tokens: Mutex<(Duration, f64)>,
    raised: AtomicBool,
}

impl World {
    pub(crate) fn new(plan: Plan) -> Self {
        let settings = format!("seed={},max_videos=50", plan.seed).parse().unwrap();
        Self {
            rows: Simulator::new(&crate::common::endpoint(), settings).unwrap(),
            account: Mutex::default(),
            dice: Mutex::new(Dice::new(plan.seed ^ 0x5EED)),
            credits: Mutex::new(plan.credits),
            lived: Mutex::default(),
            tokens: Mutex::new((Duration::ZERO, 3.0)),
            raised: AtomicBool::new(false),
            plan,
        }
    }

    /// What an earlier life of this world was charged for.
    pub(crate) fn remember(&self, pages: &BTreeMap<(String, u32), u32>) {
        let mut account = self.account.lock().unwrap();
        account.charged = pages.values().map(|times| u64::from(*times)).sum();
        account.requests = account.charged;
        account.pages.clone_from(pages);
    }

    /// The ids of the products, in order.
    pub(crate) fn ids(&self) -> Vec<String> {
        (0..self.plan.lists.len()).map(|at| format!("70{at}")).collect()
    }

    /// More credits than anyone needs.
    pub(crate) fn top_up(&self) {
        *self.credits.lock().unwrap() = None;
    }

    /// The client's own limit is lifted.
    pub(crate) fn raise_limit(&self) {
        self.raised.store(true, Ordering::SeqCst);
    }

    pub(crate) fn limit_was_raised(&self) -> bool {
        self.raised.load(Ordering::SeqCst)
    }

    /// Rows of a list by now.
    pub(crate) fn rows_of(&self, id: &str) -> u64 {
        self.plan.lists[usize::try_from(place(id)).unwrap()] + self.put_in(id)
    }

    /// Rows that were put in at the head of a list.
    fn put_in(&self, id: &str) -> u64 {
        let Some(one_in) = self.plan.odd.grows else { return 0 };
        let account = self.account.lock().unwrap();
        let pages: u32 = account.pages.iter().filter(|((of, _), _)| of == id).map(|(_, times)| times).sum();
        (u64::from(pages) / one_in).min(MOST_PUT_IN)
    }

    /// The page that an API shows in place of one behind the end; none where it says that there is no such page.
    fn shown(&self, id: &str, page: u32) -> Option<u32> {
        let rows = self.rows_of(id);
        let last = u32::try_from(rows.div_ceil(self.plan.rows_a_page()).max(1)).unwrap();
        match self.plan.behind {
            Behind::Last => Some(page.min(last)),
            Behind::First if page > last => Some(1),
            Behind::Refusal if page > last => None,
            Behind::Nothing | Behind::First | Behind::Refusal => Some(page),
        }
    }

    /// The rows of a page, as JSON values.
    pub(crate) fn page(&self, id: &str, page: u32, shift: u64) -> Vec<Value> {
        let (rows, put_in) = (self.rows_of(id), self.put_in(id));
        let size = self.plan.rows_a_page();
        let from = (u64::from(self.shown(id, page).unwrap_or(page)) - 1) * size;
        let positions = (from..from + size).filter_map(|at| at.checked_sub(shift.min(at))).filter(|at| *at < rows);
        let shown = positions.filter(|at| !self.plan.hides(place(id), *at));
        // What was put in is at the head, the newest first.
        shown.map(|at| self.row(id, at.checked_sub(put_in).unwrap_or(LATER + put_in - at))).collect()
    }

    /// A row of a list: one of the simulator's, under an id that says where it stands.
    pub(crate) fn row(&self, id: &str, at: u64) -> Value {
        // Any product's row will do for the values; the list itself is the plan's.
        let donor = self.rows.settings().ids().find(|id| self.rows.videos(id) > 0).unwrap();
        let mut row: Value = serde_json::from_str(&self.rows.row(&donor, None, 0).unwrap()).unwrap();
        row["product_id"] = id.into();
        // The same videos in every list: a key is a product and a video.
        row["video_id"] = format!("v{at}").into();
        row["region"] = ["ID", "TH", "VN"][usize::try_from(at % 3).unwrap()].into();
        row["video_desc"] = format!("row {at} of {id}").into();
        row
    }

    fn throttles(&self, now: Duration) -> bool {
        let Some(rate) = self.plan.limit else { return false };
        let mut tokens = self.tokens.lock().unwrap();
        let (since, had) = *tokens;
        *tokens = (now, (had + now.saturating_sub(since).as_secs_f64() * rate).min(3.0));
        let throttled = tokens.1 < 1.0;
        tokens.1 -= if throttled { 0.0 } else { 1.0 };
        throttled
    }

    /// Takes a credit; false: there is none.
    fn charge(&self, request: &Request) -> bool {
        let mut credits = self.credits.lock().unwrap();
        if *credits == Some(0) {
            return false;
        }
        *credits = credits.map(|credits| credits - 1);
        let mut account = self.account.lock().unwrap();
        account.charged += 1;
        *account.pages.entry((request.id.to_string(), request.page.0)).or_default() += 1;
        true
    }

    /// Rows spoiled in three ways that cost none that has an identity.
    fn spoil(rows: &mut [Value]) {
        for (at, row) in rows.iter_mut().enumerate() {
            match at % 3 {
                0 => row["total_views_cnt"] = json!({"not": "a number"}),
                1 => row["nobody_knows_this"] = json!([1, null]),
                _ => row["video_id"] = Value::Null,
            }
        }
    }
}

/// One life of the run: the API as it sees it, and where it dies.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) world: Arc<World>,
    pub(crate) death: Option<Death>,
    pub(crate) die: Notify,
    pub(crate) signal: Notify,
    pub(crate) began: Instant,
    /// When each request left.
    pub(crate) sent: Mutex<Vec<Instant>>,
    pub(crate) ledger: Ledger,
    /// Whether nothing goes wrong any more: the last life must come to an end.
    pub(crate) calm: bool,
}

impl Life {
    /// Notes that a request left, and dies if it is time.
    fn leave(&self, request: &Request) {
        let count = {
            let mut sent = self.sent.lock().unwrap();
            sent.push(clock::now());
            u64::try_from(sent.len()).unwrap()
        };
        let mut account = self.world.account.lock().unwrap();
        let is_known = account.journaled.contains(&(request.id.to_string(), request.page.0));
        if is_known && !self.ledger.is_outdated(request) {
            account.wrong.push(format!("{} page {} was in the journal when a life ended", request.id, request.page));
        }
        let at = (clock::now() - self.began).as_millis();
        account.log.push(format!("{at} ms: {} asks {} page {}", request.attempt.0, request.id, request.page));
        match self.death {
            Some(Death::Request(at)) if at == count => self.die.notify_one(),
            Some(Death::Signal(at)) if at == count => self.signal.notify_one(),
            _ => {}
        }
    }

    fn fault(&self) -> (Option<Fault>, u64) {
        let mut dice = self.world.dice.lock().unwrap();
        let plan = &self.world.plan;
        let hit = !plan.faults.is_empty() && dice.one_in(plan.fault_in) && !self.calm;
        let fault = hit.then(|| dice.pick(&plan.faults));
        // No two answers come in the same millisecond, so that their order does not hang on a thread.
        (fault, dice.below(97))
    }

    /// Virtual time since the first life began.
    fn now(&self) -> Duration {
        *self.world.lived.lock().unwrap() + (clock::now() - self.began)
    }

    fn is_out(&self) -> bool {
        self.world.plan.outage.is_some_and(|(from, long)| (from..from + long).contains(&self.now().as_secs()))
    }

    async fn answer(&self, request: &Request) -> Result<RawResponse, FetchError> {
        let (fault, jitter) = self.fault();
        let latency = self.world.plan.latency + Duration::from_millis(jitter);
        let lost = |lost| Err(FetchError::new(lost));
        if fault == Some(Fault::NoConnection) || self.is_out() {
            tokio::time::sleep(latency).await;
            return lost(FetchErrorKind::Connect);
        }
        self.world.account.lock().unwrap().requests += 1;
        if fault == Some(Fault::LostBefore) {
            tokio::time::sleep(latency).await;
            return lost(FetchErrorKind::Disconnected);
        }
        let refusal = self.refusal(request, fault);
        let charged = refusal.is_none() && self.world.charge(request);
        let (status, body) = match refusal {
            Some(refusal) => refusal,
            None if charged => (200, self.page(request, fault)),
            None => (402, envelope(402, "apiKey quota is not enough")),
        };
        let wait = match fault {
            Some(Fault::TooLate) => Duration::from_secs(3_600),
            Some(Fault::Slow) => latency + Duration::from_secs(9),
            _ => latency,
        };
        tokio::time::sleep(wait).await;
        if charged && fault == Some(Fault::LostAfter) {
            return lost(FetchErrorKind::Disconnected);
        }
        Ok(RawResponse {
            status,
            retry_after: None,
            content: ContentHeaders::default(),
            body: Bytes::from(body),
            share: None,
        })
    }

    /// What the server says instead of a page.
    fn refusal(&self, request: &Request, fault: Option<Fault>) -> Option<(u16, String)> {
        let plan = &self.world.plan;
        let place = Some(place(request.id.as_str()));
        if self.world.throttles(self.now()) {
            return Some((429, envelope(429, "qps limit exceeded")));
        }
        if place == plan.refused || self.world.shown(request.id.as_str(), request.page.0).is_none() {
            return Some((400, envelope(400, "Invalid parameter: product_id")));
        }
        if place == plan.dead {
            return Some((500, envelope(500, "Internal server error")));
        }
        match fault? {
            Fault::Error => Some((500, envelope(500, "Internal server error"))),
            Fault::ErrorInside => Some((200, envelope(500, "Internal server error"))),
            Fault::Html => Some((502, "<html><h1>502 Bad Gateway</h1></html>".to_owned())),
            _ => None,
        }
    }

    fn page(&self, request: &Request, fault: Option<Fault>) -> String {
        let shift = u64::from(fault == Some(Fault::Shifted));
        let mut rows = self.world.page(request.id.as_str(), request.page.0, shift);
        if fault == Some(Fault::Dirty) {
            World::spoil(&mut rows);
        }
        let is_null = fault == Some(Fault::NoList) || rows.is_empty() && self.world.plan.odd.ends_with_null;
        self.world.account.lock().unwrap().empty_lists += u64::from(rows.is_empty() && !is_null);
        let data = if is_null { Value::Null } else { rows.into() };
        let mut body = json!({"code": 0, "message": "success", "data": data, "requestId": "r"}).to_string();
        if fault == Some(Fault::Truncated) {
            body.truncate(body.len() * 2 / 3);
        }
        body
    }
}

/// The place of a product in the lists.
fn place(id: &str) -> u64 {
    id.trim_start_matches("70").parse().unwrap()
}

fn envelope(code: u16, message: &str) -> String {
    json!({"code": code, "data": null, "message": message}).to_string()
}

impl Fetch for Life {
    async fn fetch(&self, request: &Request) -> Result<RawResponse, FetchError> {
        let wrong = self.ledger.check_request(request);
        self.world.account.lock().unwrap().wrong.extend(wrong);
        // What other threads write at this moment comes first, whichever of them is faster: no time passes before it is done.
        tokio::time::sleep(Duration::from_millis(1)).await;
        self.leave(request);
        let answer = self.answer(request).await;
        let at = (clock::now() - self.began).as_millis();
        let message = match &answer {
            Ok(answer) => format!("{} with {} bytes", answer.status, answer.body.len()),
            Err(error) => format!("{:?}", error.kind),
        };
        self.world.account.lock().unwrap().log.push(format!("{at} ms: {} gets {message}", request.attempt.0));
        answer
    }
}
