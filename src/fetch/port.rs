//! The API as a port: one request out, one whole response back, or the reason why there is none.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};
use tokio::sync::OwnedSemaphorePermit;

use super::error::FetchError;
use crate::model::page::Request;

/// Sends requests: [`HttpApi`](super::HttpApi), or a scripted API in tests.
pub trait Fetch: Send + Sync + 'static {
    /// Sends one request, once, and reads the whole response. The caller sets the time limit.
    fn fetch(&self, request: &Request) -> impl Future<Output = Result<RawResponse, FetchError>> + Send;
}

#[derive(Debug)]
pub struct RawResponse {
    pub status: u16,
    /// The wait that the server asks for, from the moment of the response.
    pub retry_after: Option<Duration>,
    /// What the headers say about the body, for messages.
    pub content: ContentHeaders,
    /// The body, decompressed and in UTF-8 where that was requested.
    pub body: Bytes,
    /// The body's share of the byte budget, returned when this is dropped.
    pub share: Option<OwnedSemaphorePermit>,
}

/// What the headers of a response say about its body, unchecked.
#[derive(Debug, Default)]
pub struct ContentHeaders {
    /// `Content-Type`.
    pub kind: Option<Box<str>>,
    /// `Content-Encoding`.
    pub coding: Option<Box<str>>,
}

impl ContentHeaders {
    pub(super) fn from_headers(headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into());
        Self { kind: text(CONTENT_TYPE), coding: text(CONTENT_ENCODING) }
    }
}
