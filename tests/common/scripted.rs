//! The scripted fake of the API: virtual time, and a function from requests to responses that the test writes. It records every
//! request. tokio's clock must be paused; then hours take milliseconds, and a run can be stopped or dropped at any request.
//!
//! For a test that needs some exact responses in an exact order. The head of `world` says when to take another fake.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use pagehaul::error::{Error, ExitCode};
use pagehaul::fetch::FetchErrorKind;
use pagehaul::fetch::{ContentHeaders, Fetch, FetchError, RawResponse};
use pagehaul::model::clock;
use pagehaul::model::page::{ItemId, Request};
use pagehaul::report::summary::Summary;
use pagehaul::run::context::RunContext;
use pagehaul::run::export::export;
use pagehaul::simulator::{ApiRequest, Simulator};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Answer, lock};

/// A request, as a scripted API sees it.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    /// How many came up to and with this one.
    pub(crate) number: usize,
    /// When it left.
    pub(crate) at: Instant,
    /// The requested product.
    pub(crate) id: String,
    /// The requested page.
    pub(crate) page: u32,
}

/// What a scripted API does after a request.
#[derive(Debug)]
pub(crate) struct Reply {
    after: Duration,
    answer: Result<RawResponse, FetchErrorKind>,
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        let answer = RawResponse {
            status: answer.status,
            retry_after: None,
            content: ContentHeaders::default(),
            body: answer.body.into(),
            share: None,
        };
        Self { after: Duration::ZERO, answer: Ok(answer) }
    }
}

impl Reply {
    /// An API's refusal in its envelope.
    pub(crate) fn refusal(status: u16, message: &str) -> Self {
        Answer::refusal(status, message).into()
    }

    /// A page of these rows, JSON texts.
    pub(crate) fn page(rows: &[String]) -> Self {
        Answer::page(rows).into()
    }

    /// No complete response.
    pub(crate) fn lost(lost: FetchErrorKind) -> Self {
        Self { after: Duration::ZERO, answer: Err(lost) }
    }

    /// No response, ever.
    pub(crate) fn never() -> Self {
        Self { after: Duration::from_secs(1 << 30), answer: Err(FetchErrorKind::Disconnected) }
    }

    /// The response of an embedded API, after its latency.
    pub(crate) fn from_simulator(simulator: &Simulator, sent: &Sent, page_size: u32) -> Self {
        let query = format!("product_id={}&page_num={}&page_size={page_size}", sent.id, sent.page);
        let path = "/v1/tiktok/product/videos/analytics";
        let answer = simulator.respond(&ApiRequest { path, query: &query, authorization: Some("Bearer x") });
        Self { after: answer.delay, ..Answer::new(answer.status, answer.body.to_vec()).into() }
    }

    /// What the client gets, after the delay.
    pub(crate) async fn result(self) -> Result<RawResponse, FetchError> {
        tokio::time::sleep(self.after).await;
        self.answer.map_err(FetchError::new)
    }

    /// Its status; none: no complete response.
    pub(crate) fn status(&self) -> Option<u16> {
        self.answer.as_ref().ok().map(|answer| answer.status)
    }

    /// Its body; empty where there is no complete response.
    pub(crate) fn body(&self) -> &[u8] {
        self.answer.as_ref().map_or(&[], |answer| &answer.body)
    }

    /// The same with a body made from its own.
    pub(crate) fn map_body(mut self, change: impl FnOnce(&[u8]) -> Vec<u8>) -> Self {
        if let Ok(answer) = &mut self.answer {
            answer.body = change(&answer.body).into();
        }
        self
    }

    /// The same, this much sooner.
    pub(crate) fn sooner_by(mut self, by: Duration) -> Self {
        self.after = self.after.saturating_sub(by);
        self
    }

    /// The same, after this time.
    pub(crate) fn after(self, after: Duration) -> Self {
        Self { after, ..self }
    }

    /// The same, with a `Retry-After`.
    pub(crate) fn with_retry_after(mut self, pause: Duration) -> Self {
        if let Ok(answer) = &mut self.answer {
            answer.retry_after = Some(pause);
        }
        self
    }
}

/// What a request will get.
type Response = Pin<Box<dyn Future<Output = Result<RawResponse, FetchError>> + Send>>;

/// The API.
pub(crate) struct Scripted {
    respond: Box<dyn Fn(&Sent) -> Response + Send + Sync>,
    sent: Mutex<Vec<Sent>>,
    stop_at: usize,
    stop: Notify,
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
}

impl Scripted {
    /// An API that responds like this.
    pub(crate) fn new(answer: impl Fn(&Sent) -> Reply + Send + Sync + 'static) -> Arc<Self> {
        Self::stopping_at(usize::MAX, answer)
    }

    /// The same, but request number `stop_at` stops the run.
    pub(crate) fn stopping_at(stop_at: usize, answer: impl Fn(&Sent) -> Reply + Send + Sync + 'static) -> Arc<Self> {
        Self::responding(stop_at, move |sent| Box::pin(answer(sent).result()))
    }

    /// The same, where what a request gets may be decided later than it leaves.
    pub(crate) fn responding(stop_at: usize, respond: impl Fn(&Sent) -> Response + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            respond: Box::new(respond),
            sent: Mutex::default(),
            stop_at,
            stop: Notify::new(),
            in_flight: AtomicUsize::new(0),
            most_in_flight: AtomicUsize::new(0),
        })
    }

    /// The embedded API, with pages of 10.
    pub(crate) fn direct(simulator: &Arc<Simulator>) -> Arc<Self> {
        let simulator = Arc::clone(simulator);
        Self::new(move |sent| Reply::from_simulator(&simulator, sent, 10))
    }

    /// Every request, in order.
    pub(crate) fn sent(&self) -> MutexGuard<'_, Vec<Sent>> {
        lock(&self.sent)
    }

    /// The number of requests.
    pub(crate) fn requests(&self) -> usize {
        self.sent().len()
    }

    /// How often each page was requested.
    pub(crate) fn requested(&self) -> BTreeMap<(String, u32), u32> {
        let mut pages = BTreeMap::new();
        for sent in self.sent().iter() {
            *pages.entry((sent.id.clone(), sent.page)).or_default() += 1;
        }
        pages
    }

    /// The most requests that were in flight at a time.
    pub(crate) fn most_in_flight(&self) -> usize {
        self.most_in_flight.load(Ordering::SeqCst)
    }

    /// How many requests are in flight.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::SeqCst)
    }

    /// Completes when the request at which the run is to stop arrives.
    pub(crate) async fn stops(&self) {
        self.stop.notified().await;
    }
}

impl Fetch for Scripted {
    async fn fetch(&self, request: &Request) -> Result<RawResponse, FetchError> {
        let sent = {
            let mut all = self.sent();
            let (number, id) = (all.len() + 1, request.id.as_str().to_owned());
            all.push(Sent { number, at: clock::now(), id, page: request.page.0 });
            all[number - 1].clone()
        };
        self.most_in_flight.fetch_max(self.in_flight.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let response = (self.respond)(&sent);
        if sent.number == self.stop_at {
            self.stop.notify_one();
        }
        let answer = response.await;
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
        answer
    }
}

/// Runs an export of these products until its API stops it.
pub(crate) async fn run_job(context: &RunContext, api: &Arc<Scripted>, list: &[String]) -> Result<Summary, Error> {
    let stopping = Arc::clone(api);
    let stopped = async move {
        stopping.stops().await;
        ExitCode::Interrupted
    };
    run_until(context, api, list, stopped).await
}

/// Runs an export of these products until `stopped` completes.
pub(crate) async fn run_until(
    context: &RunContext,
    api: &Arc<impl Fetch>,
    list: &[String],
    stopped: impl Future<Output = ExitCode>,
) -> Result<Summary, Error> {
    let list: Vec<_> = list.iter().map(|id| Ok(ItemId::new(id))).collect();
    export(context, Box::new(list.into_iter()), Arc::clone(api), stopped).await
}
