//! Sends requests whose intent is durable, at the permitted rate, each exactly once.
//!
//! One dispatcher takes them in order, waits for the rate limit and starts a task for each. An attempt ends in exactly one
//! [`FetchOutcome`], whatever happens: a response classified by its envelope, an error, or "not sent" because it was recalled.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::decode::envelope;
use crate::endpoint::Codes;
use crate::fetch::classify::{Classification, Failure, Verdict, classify, classify_error};
use crate::fetch::explain::explain;
use crate::fetch::rate_limit::{MAX_WAIT, RateLimiter, Throttle};
use crate::fetch::{Fetch, FetchError, FetchErrorKind, RawResponse};
use crate::model::attempt::AttemptResult;
use crate::model::clock::{self, Utc64};
use crate::model::page::{AttemptId, Request};
use crate::model::sanitize::{chain, redact};

#[derive(Debug)]
pub struct FetchOutcome {
    pub request: Request,
    pub sent: Instant,
    /// From the sending to the outcome.
    pub latency: Duration,
    /// When its outcome was known.
    pub at: Utc64,
    pub classification: Classification,
    /// Why it failed, sanitised; empty for a page.
    pub message: String,
    pub response: Option<RawResponse>,
    /// The wait for all requests that this one caused: only the first 429 of a burst causes one.
    pub throttle: Option<Throttle>,
}

impl FetchOutcome {
    /// The wait that the server asks for, [`MAX_WAIT`] at most: for all requests after a 429, for this page otherwise.
    pub fn retry_after(&self) -> Duration {
        let wait = self.response.as_ref().and_then(|response| response.retry_after);
        wait.unwrap_or_default().min(MAX_WAIT)
    }

    /// How the attempt ended; none if it was not sent.
    pub fn result(&self) -> Option<AttemptResult> {
        let failure = match self.classification.verdict {
            Verdict::Unsent => return None,
            Verdict::Page => return Some(AttemptResult::Page),
            Verdict::NoList => return Some(AttemptResult::Unusable),
            Verdict::Failed(failure) => failure,
        };
        Some(match failure {
            Failure::Throttled(_) => AttemptResult::Throttled,
            Failure::Unavailable if self.response.is_none() => AttemptResult::NoResponse,
            Failure::Unavailable => AttemptResult::ServerError,
            Failure::NoConnection => AttemptResult::NoConnection,
            Failure::Unusable | Failure::MissingList | Failure::UnknownCode { .. } => AttemptResult::Unusable,
            Failure::NoSuchPage | Failure::EndOfList | Failure::OtherRefusal => AttemptResult::Refused,
            Failure::Refused(_) => AttemptResult::Denied,
        })
    }
}

/// What the dispatcher does with requests that wait for the rate limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DispatchMode {
    /// Sends them.
    Send,
    /// Returns attempts up to this one unsent: an outage, or a refusal that may be for everyone, began after they were made.
    Recall(AttemptId),
    /// Returns all unsent, and waits for the responses in flight: the run is stopping.
    Finish,
    /// The same, but waits only for `drain_timeout`: a signal stops the run.
    Halt,
}

impl DispatchMode {
    fn recalls(self, attempt: AttemptId) -> bool {
        match self {
            Self::Send => false,
            Self::Recall(last) => attempt <= last,
            Self::Finish | Self::Halt => true,
        }
    }
}

#[derive(Debug)]
pub struct Dispatcher<F> {
    pub api: Arc<F>,
    pub rate_limiter: Arc<RateLimiter>,
    /// Time limit for a whole response.
    pub timeout: Duration,
    /// The same, from the moment when a signal stops the run.
    pub drain_timeout: Duration,
    pub codes: Arc<Codes>,
    /// Changes whenever the engine wants something else.
    pub mode: watch::Receiver<DispatchMode>,
}

impl<F: Fetch> Dispatcher<F> {
    /// Runs until the channel of requests is closed and every attempt has an outcome. The channel of outcomes must have room for
    /// every request in flight. Fails only if an attempt panicked.
    pub async fn run(
        self,
        mut requests: mpsc::Receiver<Request>,
        outcomes: mpsc::Sender<FetchOutcome>,
    ) -> Result<(), tokio::task::JoinError> {
        let mut mode = self.mode.clone();
        let mut attempts = JoinSet::new();
        let shared = Arc::new(self);
        while let Some(request) = requests.recv().await {
            let permitted = tokio::select! {
                biased;
                _ = mode.wait_for(|mode| mode.recalls(request.attempt)) => false,
                () = shared.rate_limiter.acquire() => true,
            };
            let (shared, outcomes) = (Arc::clone(&shared), outcomes.clone());
            attempts.spawn(async move {
                let outcome = if permitted { shared.attempt(request).await } else { shared.unsent(request) };
                // The channel is closed only when the run has failed.
                drop(outcomes.send(outcome).await);
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
        let result = tokio::select! {
            biased;
            result = self.api.fetch(&request) => result,
            () = self.deadline() => Err(FetchError::new(FetchErrorKind::Timeout)),
        };
        self.outcome(request, sent, result)
    }

    /// Ends after `timeout`, or `drain_timeout` after a signal.
    async fn deadline(&self) {
        let mut mode = self.mode.clone();
        let halted = async {
            if mode.wait_for(|mode| *mode == DispatchMode::Halt).await.is_err() {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(self.drain_timeout).await;
        };
        tokio::select! {
            () = tokio::time::sleep(self.timeout) => {}
            () = halted => {}
        }
    }

    fn unsent(&self, request: Request) -> FetchOutcome {
        self.outcome(request, clock::now(), Err(FetchError::new(FetchErrorKind::Unsent)))
    }

    fn outcome(&self, request: Request, sent: Instant, result: Result<RawResponse, FetchError>) -> FetchOutcome {
        let (at, latency) = (clock::wall(), clock::now() - sent);
        match result {
            Ok(response) => {
                let envelope = envelope::read(&response.body);
                let (status, retry_after) = (response.status, response.retry_after);
                let classification = classify(status, &envelope, retry_after, &self.codes);
                let message = if classification.verdict == Verdict::Page {
                    String::new()
                } else {
                    explain(&response, &envelope, request.page, &self.codes.success)
                };
                let response = Some(RawResponse { body: redact(response.body), ..response });
                let throttle = self.report(&request, sent, classification.verdict);
                FetchOutcome { request, sent, latency, at, classification, message, response, throttle }
            }
            Err(error) => {
                let classification = classify_error(error.kind);
                self.rate_limiter.take_exempt(request.attempt);
                let message = chain(&error);
                FetchOutcome { request, sent, latency, at, classification, message, response: None, throttle: None }
            }
        }
    }

    /// Reports a response to the rate limiter, before its group is written: a 429 delays the requests behind it at once.
    fn report(&self, request: &Request, sent: Instant, verdict: Verdict) -> Option<Throttle> {
        let is_exempt = self.rate_limiter.take_exempt(request.attempt);
        if let Verdict::Failed(Failure::Throttled(retry_after)) = verdict {
            return if is_exempt { None } else { self.rate_limiter.record_throttle(sent, retry_after) };
        }
        self.rate_limiter.record_response(sent);
        None
    }
}
