//! The embedded API, and the hostile fake where it behaves: APIs on loopback whose well-formed responses come from a function. For
//! tests of the built program. The head of `world` says when to take another fake.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};

use pagehaul::endpoint::{BUILT_IN, Endpoint};
use pagehaul::simulator::{ApiRequest, Simulator};

use super::hostile::{self, Evil};
use super::{DEADLINE, lock};

/// The embedded API, not yet listening. It counts how often it billed each page.
pub(crate) fn simulator(spec: &str) -> Arc<Simulator> {
    let settings = format!("{spec},record=true").parse().unwrap();
    Arc::new(Simulator::new(&endpoint(), settings).unwrap())
}

/// The built-in endpoint.
pub(crate) fn endpoint() -> Endpoint {
    Endpoint::parse(BUILT_IN).unwrap()
}

/// The products of an embedded API.
pub(crate) fn ids(simulator: &Simulator) -> Vec<String> {
    simulator.settings().ids().collect()
}

/// `count` ids from 100 on, which no embedded API has.
pub(crate) fn numbered(count: u32) -> Vec<String> {
    (100..100 + count).map(|id| id.to_string()).collect()
}

/// The fewest requests that read these products to their ends in pages of 10. A full last page needs one more request.
pub(crate) fn fewest_requests(simulator: &Simulator, ids: &[String]) -> u64 {
    ids.iter().map(|id| simulator.videos(id) / 10 + 1).sum()
}

/// Pages that several embedded APIs of the same seed billed, one after the other.
pub(crate) fn billed(simulators: &[&Simulator]) -> BTreeMap<(String, u32), u32> {
    let mut all = BTreeMap::new();
    for (page, times) in simulators.iter().flat_map(|simulator| simulator.billed()) {
        *all.entry(page).or_default() += times;
    }
    all
}

/// Fails if a page was billed more than once.
pub(crate) fn assert_no_page_billed_twice(simulators: &[&Simulator]) {
    let twice: Vec<_> = billed(simulators).into_iter().filter(|(_, times)| *times > 1).collect();
    assert!(twice.is_empty(), "billed more than once: {twice:?}");
}

/// A request, as a scripted API sees it.
#[derive(Clone, Debug)]
pub(crate) struct ReceivedRequest {
    /// How many came up to and with this one.
    pub(crate) number: usize,
    /// Path of the address.
    pub(crate) path: String,
    /// The part of the address after the question mark.
    pub(crate) query: String,
    /// The `Authorization` header.
    pub(crate) authorization: String,
    /// The requested product.
    pub(crate) product: String,
    /// The requested page.
    pub(crate) page: u32,
}

/// The response of a scripted API.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// HTTP status.
    pub(crate) status: u16,
    /// The body.
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// A body under a status.
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, body: body.into() }
    }

    /// A refusal in the envelope of the API.
    pub(crate) fn refusal(status: u16, message: &str) -> Self {
        Self::new(status, serde_json::json!({ "code": status, "data": null, "message": message }).to_string())
    }

    /// A page of these rows, JSON texts.
    pub(crate) fn page(rows: &[String]) -> Self {
        Self::new(200, format!("{{\"code\":0,\"message\":\"success\",\"data\":[{}]}}", rows.join(",")))
    }

    /// The response of an embedded API.
    pub(crate) fn from_simulator(simulator: &Simulator, request: &ReceivedRequest) -> Self {
        let ReceivedRequest { path, query, authorization, .. } = request;
        let answer = simulator.respond(&ApiRequest { path, query, authorization: Some(authorization) });
        Self::new(answer.status, answer.body.to_vec())
    }
}

/// An API on loopback whose responses come from a function. It stops when it is dropped.
pub(crate) struct Api {
    server: Evil,
    requested: Arc<Mutex<Vec<(String, u32)>>>,
}

impl Api {
    /// Starts the embedded API.
    pub(crate) fn from_simulator(simulator: &Arc<Simulator>) -> Self {
        Self::but(simulator, |_| None)
    }

    /// Starts the embedded API, which responds otherwise to some requests.
    pub(crate) fn but(
        simulator: &Arc<Simulator>,
        other: impl Fn(&ReceivedRequest) -> Option<Answer> + Send + Sync + 'static,
    ) -> Self {
        let simulator = Arc::clone(simulator);
        Self::start(move |request| other(request).unwrap_or_else(|| Answer::from_simulator(&simulator, request)))
    }

    /// Starts the embedded API behind a gate that lets `free` requests through. The receiver gets a message for each request that
    /// waits.
    pub(crate) fn gated(simulator: &Arc<Simulator>, free: usize) -> (Self, Arc<Gate>, Receiver<()>) {
        let (gate, waiting) = Gate::new(free);
        let keeper = Arc::clone(&gate);
        let api = Self::but(simulator, move |_| {
            keeper.pass();
            None
        });
        (api, gate, waiting)
    }

    /// Starts an API that responds like this. The function may block; only its own connection waits.
    pub(crate) fn start(answer: impl Fn(&ReceivedRequest) -> Answer + Send + Sync + 'static) -> Self {
        let requested = Arc::<Mutex<Vec<(String, u32)>>>::default();
        let all = Arc::clone(&requested);
        let server = Evil::start(move |wire| {
            while let Some(mut request) = wire.request() {
                {
                    let mut all = lock(&all);
                    all.push((request.product.clone(), request.page));
                    request.number = all.len();
                }
                let Answer { status, body } = answer(&request);
                if !wire.say(hostile::answer_with(status, "Content-Type: application/json\r\n", body)) {
                    return;
                }
            }
        });
        Self { server, requested }
    }

    /// Scheme, host and port.
    pub(crate) fn base_url(&self) -> String {
        self.server.base_url()
    }

    /// Requests so far.
    pub(crate) fn requests(&self) -> usize {
        lock(&self.requested).len()
    }

    /// How often each page was requested.
    pub(crate) fn requested(&self) -> BTreeMap<(String, u32), u32> {
        let mut pages = BTreeMap::new();
        for page in lock(&self.requested).iter() {
            *pages.entry(page.clone()).or_default() += 1;
        }
        pages
    }
}

/// Lets the first requests pass and blocks all others until it is opened.
pub(crate) struct Gate {
    free: usize,
    passed: AtomicUsize,
    open: Mutex<bool>,
    opened: Condvar,
    waiting_sender: Mutex<Sender<()>>,
}

impl Gate {
    /// A gate that lets `free` requests pass, and a receiver of a message for each request that it blocks.
    pub(crate) fn new(free: usize) -> (Arc<Self>, Receiver<()>) {
        let (waiting_sender, waiting) = channel();
        let gate = Self {
            free,
            passed: AtomicUsize::new(0),
            open: Mutex::default(),
            opened: Condvar::new(),
            waiting_sender: Mutex::new(waiting_sender),
        };
        (Arc::new(gate), waiting)
    }

    /// Returns at once for the first requests. Blocks for the others until the gate is opened.
    pub(crate) fn pass(&self) {
        if self.passed.fetch_add(1, Ordering::Relaxed) < self.free {
            return;
        }
        lock(&self.waiting_sender).send(()).ok(); // nobody needs to listen
        let shut = |open: &mut bool| !*open;
        drop(self.opened.wait_timeout_while(lock(&self.open), DEADLINE, shut));
    }

    /// Lets everything pass from now on.
    pub(crate) fn open(&self) {
        *lock(&self.open) = true;
        self.opened.notify_all();
    }
}
