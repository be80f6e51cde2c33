//! Requests whose intent is durable, sent at the quota's pace, each exactly once.
//!
//! One dispatcher takes them in order, waits for the quota and starts a task for each. An attempt ends in exactly one
//! [`FetchOutcome`], whatever happens: an answer judged by its frame, a loss, or "not sent" because it was recalled.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::decode::envelope;
use crate::endpoint::Codes;
use crate::fetch::cause;
use crate::fetch::classify::{Classification, Failure, Outcome, TransportError, Verdict, classify};
use crate::fetch::rate_limit::{LONGEST_WAIT, RateLimiter, Throttle};
use crate::fetch::{Fetch, FetchError, RawResponse};
use crate::model::clock::{self, Utc64};
use crate::model::page::{AttemptId, Request};
use crate::model::sanitize::chain;

/// What became of a request.
#[derive(Debug)]
pub struct FetchOutcome {
    /// The request.
    pub request: Request,
    /// When it left.
    pub sent: Instant,
    /// When its outcome was known.
    pub at: Utc64,
    /// What it claims, and what it cost.
    pub judged: Classification,
    /// Why it failed, sanitised; empty for a page.
    pub cause: String,
    /// What came back, if anything whole did.
    pub answer: Option<RawResponse>,
    /// The wait that it brought upon everyone: a 429, and the first of its burst.
    pub held: Option<Throttle>,
}

impl FetchOutcome {
    /// How long the server wants to be left alone: by everyone after a 429, with this page after any other answer.
    pub fn wish(&self) -> Duration {
        let wish = self.answer.as_ref().and_then(|answer| answer.retry_after);
        wish.unwrap_or_default().min(LONGEST_WAIT)
    }
}

/// What to do with requests that wait for the quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DispatchMode {
    /// Send them.
    Send,
    /// Give those back unsent that are numbered up to this one: what they were asked for before is in question.
    Recall(AttemptId),
    /// Give all back unsent, and wait for whole answers to what is in flight: the run is stopping.
    Finish,
    /// The same, but wait only `drain_timeout`: the run was told to stop.
    Halt,
}

impl DispatchMode {
    fn draining(self, attempt: AttemptId) -> bool {
        match self {
            Self::Send => false,
            Self::Recall(last) => attempt <= last,
            Self::Finish | Self::Halt => true,
        }
    }
}

/// Sends what it is given.
#[derive(Debug)]
pub struct Dispatcher<F> {
    /// The API.
    pub api: Arc<F>,
    /// The gate.
    pub quota: Arc<RateLimiter>,
    /// Longest time for a whole answer.
    pub timeout: Duration,
    /// How long answers are waited for once a signal stops the run.
    pub drain_timeout: Duration,
    /// What the codes of envelopes mean.
    pub codes: Arc<Codes>,
    /// What to do.
    pub orders: watch::Receiver<DispatchMode>,
}

impl<F: Fetch> Dispatcher<F> {
    /// Works until the channel of requests is closed and every attempt has arrived. The arrivals' channel must hold as many
    /// as may be under way. Fails only if an attempt panicked.
    pub async fn run(
        self,
        mut requests: mpsc::Receiver<Request>,
        arrivals: mpsc::Sender<FetchOutcome>,
    ) -> Result<(), tokio::task::JoinError> {
        let mut orders = self.orders.clone();
        let mut attempts = JoinSet::new();
        let shared = Arc::new(self);
        while let Some(request) = requests.recv().await {
            let permitted = tokio::select! {
                biased;
                _ = orders.wait_for(|orders| orders.draining(request.attempt)) => false,
                () = shared.quota.ready() => true,
            };
            let (shared, arrivals) = (Arc::clone(&shared), arrivals.clone());
            attempts.spawn(async move {
                let arrival = if permitted { shared.attempt(request).await } else { shared.unsent(request) };
                // A closed channel means that the run failed and nobody is left to tell.
                drop(arrivals.send(arrival).await);
            });
            while let Some(ended) = attempts.try_join_next() {
                ended?;
            }
        }
        while let Some(ended) = attempts.join_next().await {
            ended?;
        }
        Ok(())
    }

    async fn attempt(&self, request: Request) -> FetchOutcome {
        let sent = clock::now();
        let answer = tokio::select! {
            biased;
            answer = self.api.fetch(&request) => answer,
            () = self.max_outage() => Err(FetchError::bare(TransportError::Timeout)),
        };
        self.judged(request, sent, answer)
    }

    /// Ends when a whole answer is not waited for any longer.
    async fn max_outage(&self) {
        let mut orders = self.orders.clone();
        let stopping = async {
            if orders.wait_for(|orders| *orders == DispatchMode::Halt).await.is_err() {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(self.drain_timeout).await;
        };
        tokio::select! {
            () = tokio::time::sleep(self.timeout) => {}
            () = stopping => {}
        }
    }

    fn unsent(&self, request: Request) -> FetchOutcome {
        self.judged(request, clock::now(), Err(FetchError::bare(TransportError::Unsent)))
    }

    fn judged(&self, request: Request, sent: Instant, answer: Result<RawResponse, FetchError>) -> FetchOutcome {
        let at = clock::wall();
        match answer {
            Ok(answer) => {
                let envelope = envelope::read(&answer.body);
                let (status, retry_after) = (answer.status, answer.retry_after);
                let judged = classify(&Outcome::Response { status, envelope: &envelope, retry_after }, &self.codes);
                let is_page = judged.verdict == Verdict::Page;
                let success = &self.codes.success;
                let cause = if is_page { String::new() } else { cause::of(&answer, &envelope, request.page, success) };
                let body = crate::model::sanitize::redact(answer.body);
                let held = self.learn(&request, sent, judged.verdict);
                FetchOutcome { request, sent, at, judged, cause, answer: Some(RawResponse { body, ..answer }), held }
            }
            Err(error) => {
                let judged = classify(&Outcome::TransportError(error.lost), &self.codes);
                self.quota.take_excused(request.attempt);
                let cause = chain(&error);
                FetchOutcome { request, sent, at, judged, cause, answer: None, held: None }
            }
        }
    }

    /// Reports an answer to the quota, before its group is written: a 429 holds those who wait behind it at once.
    fn learn(&self, request: &Request, sent: Instant, verdict: Verdict) -> Option<Throttle> {
        let is_excused = self.quota.take_excused(request.attempt);
        if let Verdict::Failed(Failure::Throttled(retry_after)) = verdict {
            return if is_excused { None } else { self.quota.throttled(sent, retry_after) };
        }
        self.quota.passed(sent);
        None
    }
}
