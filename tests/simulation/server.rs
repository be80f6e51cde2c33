//! The scheduled world of a seed, and one life of the run in it.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pagehaul::fetch::{Fetch, FetchError, FetchErrorKind, RawResponse};
use pagehaul::model::clock;
use pagehaul::model::page::Request;
use pagehaul::simulator::{LimitSpec, Simulator, Window};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::bucket::Bucket;
use crate::common::scripted::{Reply, Scripted};
use crate::common::world::{self, Call, Limit, hash, html, id, inside, internal_error, later, refusal, success};
use crate::oracle::Ledger;
use crate::plan::{Death, Dice, Fault, Growth, Plan};

/// Rows that are put in at most: a list comes to rest.
const MOST_PUT_IN: u64 = 12;

/// What is known of a seed over all lives, beside what its world counts.
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// Empty lists that were sent as such.
    pub(crate) empty_lists: u64,
    /// Pages that were in the journal when a life ended.
    pub(crate) journaled: BTreeSet<(String, u32)>,
    /// What happened, for people and for comparing two runs of a seed.
    pub(crate) log: Vec<String>,
    /// What must not have happened.
    pub(crate) wrong: Vec<String>,
}

/// The server's side of all lives.
pub(crate) struct World {
    pub(crate) plan: Arc<Plan>,
    pub(crate) api: Arc<world::World>,
    pub(crate) account: Arc<Mutex<Account>>,
    /// Whether nothing goes wrong any more: the last life must come to an end.
    is_calm: Arc<AtomicBool>,
    raised: AtomicBool,
    /// Where the output is, if not in a directory.
    pub(crate) bucket: Option<Bucket>,
}

impl World {
    /// `out`: the directory of the state, and of the output as the oracle reads it.
    pub(crate) fn new(plan: Plan, out: &Path) -> Self {
        let bucket = plan.is_in_bucket.then(|| Bucket::new(plan.seed, out));
        let (plan, account, is_calm) = (Arc::new(plan), Arc::default(), Arc::default());
        let faults = Faults { plan: Arc::clone(&plan), account: Arc::clone(&account), is_calm: Arc::clone(&is_calm) };
        Self { api: Arc::new(api(&plan, faults)), plan, account, is_calm, raised: AtomicBool::new(false), bucket }
    }

    /// What an earlier life of this world was charged for.
    pub(crate) fn remember(&self, pages: &BTreeMap<(usize, u32), u32>) {
        self.api.account().served.clone_from(pages);
    }

    /// More credits than anyone needs.
    pub(crate) fn top_up(&self) {
        self.api.account().credits = None;
    }

    /// The client's own limit is lifted.
    pub(crate) fn raise_limit(&self) {
        self.raised.store(true, Ordering::SeqCst);
    }

    pub(crate) fn limit_was_raised(&self) -> bool {
        self.raised.load(Ordering::SeqCst)
    }
}

/// The API of a plan.
fn api(plan: &Arc<Plan>, faults: Faults) -> world::World {
    let (hides, grows) = (Arc::clone(plan), plan.odd.grows);
    let [delays, losses, free, spoils] = [(); 4].map(|()| faults.clone());
    let served = Mutex::new(BTreeMap::<usize, u64>::new());
    let mut api = world::World::new(plan.lists.iter().copied())
        .with_page_size(plan.page_size as usize)
        .capped(plan.odd.cap.map_or(usize::MAX, |cap| cap as usize))
        .behind(plan.behind)
        .ending_with(if plan.odd.ends_with_null { "null" } else { "[]" })
        .with_rows(rows(plan.seed))
        .with_credits(plan.credits)
        .taking(move |call| Some(delays.delay(call)))
        .losing(move |call| losses.loss(call))
        .but(move |call| free.free(call))
        .shifting(move |call| usize::from(faults.of(call) == Some(Fault::Shifted)))
        .spoiling(move |call, reply| spoils.spoil(call, reply))
        .changing(move |call, list| {
            let Some(Growth { after, one_in }) = grows else { return };
            let mut served = served.lock().unwrap();
            let pages = served.entry(call.item).or_default();
            *pages += 1;
            let put_in = list.iter().filter(|row| **row >= later(0)).count() as u64;
            let grows = *pages > after && (*pages - after).is_multiple_of(one_in);
            if grows && put_in < MOST_PUT_IN {
                list.insert(0, later(put_in));
            }
        });
    if plan.odd.filtered > 0 {
        api = api.hiding(move |item, row| hides.hides(item as u64, row));
    }
    if let Some(per_second) = plan.limit {
        let per_second = NonZeroU32::new(per_second).unwrap();
        let spec = LimitSpec { per_second, window: Window::Bucket, burst: NonZeroU32::new(3), phase: Duration::ZERO };
        api = api.limited(Limit::new(spec));
    }
    api
}

/// Rows with a value in every column, all of them those of one row of the embedded API.
fn rows(seed: u64) -> impl Fn(usize, u64) -> String {
    let settings = format!("seed={seed},max_videos=50").parse().unwrap();
    let simulator = Simulator::new(&crate::common::endpoint(), settings).unwrap();
    let donor = simulator.settings().ids().find(|id| simulator.videos(id) > 0).unwrap();
    let donor: Value = serde_json::from_str(&simulator.row(&donor, None, 0).unwrap()).unwrap();
    move |item, at| {
        let (mut row, id) = (donor.clone(), id(item));
        row["video_desc"] = format!("row {at} of {id}").into();
        row["product_id"] = id.into();
        // The same videos in every list: a key is a product and a video.
        row["video_id"] = format!("v{at}").into();
        row["region"] = ["ID", "TH", "VN"][(at % 3) as usize].into();
        row.to_string()
    }
}

/// What goes wrong with each request. It follows from the seed and the request's number.
#[derive(Clone)]
struct Faults {
    plan: Arc<Plan>,
    account: Arc<Mutex<Account>>,
    is_calm: Arc<AtomicBool>,
}

impl Faults {
    fn dice(&self, call: &Call) -> Dice {
        Dice::new(hash(&[self.plan.seed ^ 0x5EED, call.number as u64]))
    }

    fn of(&self, call: &Call) -> Option<Fault> {
        let mut dice = self.dice(call);
        let plan = &self.plan;
        let is_hit = !plan.faults.is_empty() && dice.one_in(plan.fault_in) && !self.is_calm.load(Ordering::SeqCst);
        is_hit.then(|| dice.pick(&plan.faults))
    }

    /// No two responses come in the same millisecond, so that their order does not depend on a thread.
    fn delay(&self, call: &Call) -> Duration {
        self.plan.latency + Duration::from_millis(hash(&[self.plan.seed, call.number as u64]) % 97)
    }

    fn loss(&self, call: &Call) -> Option<Reply> {
        let is_out = self.plan.outage.is_some_and(|(from, long)| (from..from + long).contains(&call.since.as_secs()));
        let lost = match self.of(call) {
            _ if is_out => FetchErrorKind::Connect,
            Some(Fault::NoConnection) => FetchErrorKind::Connect,
            Some(Fault::LostBefore) => FetchErrorKind::Disconnected,
            _ => return None,
        };
        Some(Reply::lost(lost).after(self.delay(call)))
    }

    fn free(&self, call: &Call) -> Option<Reply> {
        let item = Some(call.item as u64);
        let reply = match self.of(call) {
            _ if item == self.plan.refused => no_such_page(),
            _ if item == self.plan.dead => internal_error(),
            Some(Fault::Error) => internal_error(),
            Some(Fault::ErrorInside) => inside(500, "Internal server error"),
            Some(Fault::Html) => html(502),
            _ => return None,
        };
        Some(reply.after(self.delay(call)))
    }

    fn spoil(&self, call: &Call, reply: Reply) -> Reply {
        let fault = self.of(call);
        let is_empty = reply.body().ends_with(br#""data":[]}"#);
        self.account.lock().unwrap().empty_lists += u64::from(is_empty && fault != Some(Fault::NoList));
        let delay = self.delay(call);
        match fault {
            Some(Fault::LostAfter) => Reply::lost(FetchErrorKind::Disconnected).after(delay),
            Some(Fault::TooLate) => reply.after(Duration::from_secs(3_600)),
            Some(Fault::Slow) => reply.after(delay + Duration::from_secs(9)),
            Some(Fault::NoList) => success("null").after(delay),
            Some(Fault::Truncated) => reply.map_body(|body| body[..body.len() * 2 / 3].to_vec()),
            Some(Fault::Dirty) => reply.map_body(spoil_rows),
            _ => reply,
        }
    }
}

/// Rows spoiled in three ways that cost none that has an identity.
fn spoil_rows(body: &[u8]) -> Vec<u8> {
    let mut page: Value = serde_json::from_slice(body).unwrap();
    for (at, row) in page["data"].as_array_mut().into_iter().flatten().enumerate() {
        match at % 3 {
            0 => row["total_views_cnt"] = json!({"not": "a number"}),
            1 => row["nobody_knows_this"] = json!([1, null]),
            _ => row["video_id"] = Value::Null,
        }
    }
    page.to_string().into_bytes()
}

/// What an API says that knows no such product or page.
pub(crate) fn no_such_page() -> Reply {
    refusal(400, "Invalid parameter: product_id")
}

/// One life of the run: the API as it sees it, and where it dies.
pub(crate) struct Life {
    pub(crate) world: Arc<World>,
    pub(crate) death: Option<Death>,
    /// What the run sends. Its stop is the death or the signal at a request.
    pub(crate) api: Arc<Scripted>,
    /// The machine dies at a failpoint.
    pub(crate) die: Notify,
    pub(crate) ledger: Ledger,
    started: Instant,
}

impl Life {
    pub(crate) fn new(world: &Arc<World>, death: Option<Death>, ledger: Ledger, is_calm: bool) -> Self {
        world.is_calm.store(is_calm, Ordering::SeqCst);
        if let Some(bucket) = &world.bucket {
            bucket.set_calm(is_calm);
        }
        let stop_at = match death {
            Some(Death::Request(at) | Death::Signal(at)) => usize::try_from(at).unwrap(),
            _ => usize::MAX,
        };
        let (api, started) = (world.api.serve(stop_at), clock::now());
        Self { world: Arc::clone(world), death, api, die: Notify::new(), ledger, started }
    }

    /// Completes at the request at which this life ends, if it ends like this.
    pub(crate) async fn stops_if(&self, is_meant: impl Fn(Death) -> bool) {
        match self.death {
            Some(death) if is_meant(death) => self.api.stops().await,
            _ => std::future::pending().await,
        }
    }

    fn log(&self, request: &Request, what: &str) {
        let at = (clock::now() - self.started).as_millis();
        self.world.account.lock().unwrap().log.push(format!("{at} ms: {} {what}", request.attempt.0));
    }

    fn check_known(&self, request: &Request) {
        let mut account = self.world.account.lock().unwrap();
        let is_known = account.journaled.contains(&(request.id.to_string(), request.page.0));
        if is_known && !self.ledger.is_outdated(request) {
            account.wrong.push(format!("{} page {} was in the journal when a life ended", request.id, request.page));
        }
    }
}

impl Fetch for Life {
    async fn fetch(&self, request: &Request) -> Result<RawResponse, FetchError> {
        let wrong = self.ledger.check_request(request);
        self.world.account.lock().unwrap().wrong.extend(wrong);
        // What other threads write at this moment comes first, whichever of them is faster: no time passes before it is done.
        tokio::time::sleep(Duration::from_millis(1)).await;
        self.check_known(request);
        self.log(request, &format!("requests {} page {}", request.id, request.page));
        let response = self.api.fetch(request).await;
        let message = match &response {
            Ok(response) => format!("{} with {} bytes", response.status, response.body.len()),
            Err(error) => format!("{:?}", error.kind),
        };
        self.log(request, &format!("gets {message}"));
        response
    }
}
