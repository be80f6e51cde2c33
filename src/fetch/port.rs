//! The API as a port: one request out, one whole answer or a reason why there is none.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};
use tokio::sync::OwnedSemaphorePermit;

use super::transport_error::FetchError;
use crate::model::page::Request;

/// Sends requests. The real one is [`HttpApi`]; tests bring their own.
pub trait Fetch: Send + Sync + 'static {
    /// Sends one request, once, and reads the whole answer. The caller sets the time limit.
    fn fetch(&self, request: &Request) -> impl Future<Output = Result<RawResponse, FetchError>> + Send;
}

/// An answer as it came.
#[derive(Debug)]
pub struct RawResponse {
    /// HTTP status.
    pub status: u16,
    /// The server's wish for a pause.
    pub retry_after: Option<Duration>,
    /// What its head says of the body.
    pub media: Media,
    /// The body.
    pub body: Bytes,
    /// Its share of the byte budget, given back when this is dropped.
    pub share: Option<OwnedSemaphorePermit>,
}

/// What an answer's head says of its body, as it came.
#[derive(Debug, Default)]
pub struct Media {
    /// `Content-Type`.
    pub kind: Option<Box<str>>,
    /// `Content-Encoding`.
    pub coding: Option<Box<str>>,
}

impl Media {
    /// Of a response's head.
    pub(super) fn from_headers(headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into());
        Self { kind: text(CONTENT_TYPE), coding: text(CONTENT_ENCODING) }
    }
}
