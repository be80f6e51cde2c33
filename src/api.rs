//! The API as a port: one request out, one whole answer or a reason why there is none.
//!
//! No retry, no redirect, no reading of the body beyond its cap happens here. All bodies under way share one byte budget:
//! each may hold a little for free, and one that grows takes the rest of its cap from a pool at once, so that bodies wait
//! for each other but never in a circle.

use std::error::Error as StdError;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, RETRY_AFTER};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use url::Url;

use crate::clock;
use crate::endpoint::Endpoint;
use crate::page::Request;
use crate::verdict::Lost;

/// Bytes that every body may hold without asking: six times a regular page.
const FREE_BYTES: usize = 64 * 1024;
/// Largest body, bytes.
pub const BODY_CAP: usize = 8 * 1024 * 1024;
/// Bytes that all bodies together may hold beyond the free ones: four of the largest at a time.
pub const BODY_POOL: usize = 4 * BODY_CAP;
/// Idle connections are dropped before common servers drop them: a request must not race their closing.
const IDLE: Duration = Duration::from_secs(20);

/// Sends requests. The real one is [`HttpApi`]; tests bring their own.
pub trait Fetch: Send + Sync + 'static {
    /// Sends one request, once, and reads the whole answer. The caller sets the time limit.
    fn fetch(&self, request: &Request) -> impl Future<Output = Result<RawAnswer, FetchError>> + Send;
}

/// An answer as it came.
#[derive(Debug)]
pub struct RawAnswer {
    /// HTTP status.
    pub status: u16,
    /// The server's wish for a pause.
    pub retry_after: Option<Duration>,
    /// The body.
    pub body: Bytes,
    /// Its share of the byte budget, given back when this is dropped.
    pub share: Option<OwnedSemaphorePermit>,
}

/// There is no whole answer. The text holds neither the address nor the key.
#[derive(Debug, thiserror::Error)]
#[error("{}", match lost {
    Lost::Unsent => "not sent",
    Lost::Connect => "no connection to the API",
    Lost::Tls => "the API's identity could not be verified",
    Lost::Transport => "the connection broke",
    Lost::Timeout => "no whole answer in time",
    Lost::TooLarge => "the answer is larger than 8 MiB",
})]
pub struct FetchError {
    /// What kind of loss it is.
    pub lost: Lost,
    /// What the transport said.
    #[source]
    pub source: Option<Box<dyn StdError + Send + Sync>>,
}

impl FetchError {
    /// A loss without more to say.
    pub fn bare(lost: Lost) -> Self {
        Self { lost, source: None }
    }
}

impl From<reqwest::Error> for FetchError {
    fn from(error: reqwest::Error) -> Self {
        let error = error.without_url();
        let lost = if is_tls(&error) {
            Lost::Tls
        } else if error.is_connect() {
            Lost::Connect
        } else if error.is_timeout() {
            Lost::Timeout
        } else {
            Lost::Transport
        };
        Self { lost, source: Some(Box::new(error)) }
    }
}

/// Whether a certificate or the handshake is somewhere among the causes.
fn is_tls(error: &(dyn StdError + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let inside = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if error.is::<rustls::Error>() || inside.is_some() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// How to reach the API.
#[derive(Debug)]
pub struct HttpSettings {
    /// Scheme and host, checked by the settings.
    pub base_url: Url,
    /// The key.
    pub key: SecretString,
    /// Rows a page.
    pub page_size: u32,
    /// Values of the sort field and direction parameters.
    pub sort: Option<(String, String)>,
    /// Connections that may be kept open.
    pub connections: usize,
    /// Longest time to make a connection.
    pub connect_timeout: Duration,
    /// Whether the host is this machine: plain HTTP is allowed, proxies are not used.
    pub is_loopback: bool,
}

/// The API over HTTP.
#[derive(Debug)]
pub struct HttpApi {
    client: reqwest::Client,
    /// Path and every parameter but the item's and the page's.
    base: Url,
    item_param: String,
    page_param: String,
    authorization: HeaderValue,
    pool: Arc<Semaphore>,
}

impl HttpApi {
    /// A client for one endpoint.
    pub fn new(endpoint: &Endpoint, settings: HttpSettings) -> Result<Self, FetchError> {
        // reqwest's rustls takes the process's provider; a second installation only says that there is one.
        drop(rustls::crypto::ring::default_provider().install_default());
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("pagehaul/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .https_only(!settings.is_loopback)
            .referer(false)
            .connect_timeout(settings.connect_timeout)
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(settings.connections);
        if settings.is_loopback {
            builder = builder.no_proxy();
        }
        let mut authorization = HeaderValue::try_from(format!("Bearer {}", settings.key.expose_secret()))
            .map_err(|error| FetchError { lost: Lost::Unsent, source: Some(Box::new(error)) })?;
        authorization.set_sensitive(true); // shown by no log
        let mut base = settings.base_url;
        let path = format!("{}{}", base.path().trim_end_matches('/'), endpoint.path);
        base.set_path(&path);
        base.query_pairs_mut().append_pair(&endpoint.page.size_param, &settings.page_size.to_string());
        if let (Some(params), Some((field, direction))) = (&endpoint.sort, &settings.sort) {
            base.query_pairs_mut()
                .append_pair(&params.field_param, field)
                .append_pair(&params.direction_param, direction);
        }
        Ok(Self {
            client: builder.build()?,
            base,
            item_param: endpoint.item.param.clone(),
            page_param: endpoint.page.number_param.clone(),
            authorization,
            pool: Arc::new(Semaphore::new(BODY_POOL / 1024)),
        })
    }

    async fn read(&self, mut response: reqwest::Response) -> Result<(Bytes, Option<OwnedSemaphorePermit>), FetchError> {
        let mut share = None;
        let mut body = BytesMut::new();
        let mut only = Bytes::new(); // most bodies come as one chunk and are not copied
        while let Some(chunk) = response.chunk().await? {
            let size = only.len() + body.len() + chunk.len();
            if size > BODY_CAP {
                return Err(FetchError::bare(Lost::TooLarge));
            }
            if share.is_none() && size > FREE_BYTES {
                let most = u32::try_from(BODY_CAP / 1024).unwrap_or(u32::MAX);
                let permit = Arc::clone(&self.pool).acquire_many_owned(most).await;
                share = Some(permit.map_err(|_| FetchError::bare(Lost::Transport))?);
            }
            if only.is_empty() && body.is_empty() {
                only = chunk;
                continue;
            }
            if body.is_empty() {
                body.reserve(2 * size);
                body.extend_from_slice(&std::mem::take(&mut only));
            }
            body.extend_from_slice(&chunk);
        }
        Ok((if body.is_empty() { only } else { body.freeze() }, share))
    }
}

impl Fetch for HttpApi {
    async fn fetch(&self, request: &Request) -> Result<RawAnswer, FetchError> {
        let mut url = self.base.clone();
        url.query_pairs_mut()
            .append_pair(&self.item_param, request.id.as_str())
            .append_pair(&self.page_param, &request.page.to_string());
        let response = self.client.get(url).header(AUTHORIZATION, self.authorization.clone()).send().await?;
        let (status, retry_after) = (response.status().as_u16(), retry_after(response.headers()));
        let (body, share) = self.read(response).await?;
        Ok(RawAnswer { status, retry_after, body, share })
    }
}

/// `Retry-After` as a duration from now (RFC 9110, section 10.2.3). A date counts from the answer's own `Date`, so that our
/// clock does not matter; nonsense, the past and several of them count as none.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let mut values = headers.get_all(RETRY_AFTER).iter();
    let text = values.next()?.to_str().ok()?.trim();
    if values.next().is_some() {
        return None;
    }
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let until = httpdate::parse_http_date(text).ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    let date = headers.get(reqwest::header::DATE).and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
    let now = date.and_then(|date| date.duration_since(std::time::UNIX_EPOCH).ok());
    let here = Duration::from_secs(u64::try_from(clock::wall().seconds()).unwrap_or_default());
    until.checked_sub(now.unwrap_or(here))
}

#[cfg(test)]
mod tests {
    use super::retry_after;
    use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
    use std::time::Duration;

    fn parsed(value: &str, date: Option<&str>) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, value.parse().unwrap());
        if let Some(date) = date {
            headers.insert(DATE, date.parse().unwrap());
        }
        retry_after(&headers)
    }

    #[test]
    fn retry_after_is_read_as_seconds_or_as_a_date_against_the_server_s_own_clock() {
        assert_eq!(parsed("120", None), Some(Duration::from_secs(120)));
        let (date, later) = ("Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:51:07 GMT");
        assert_eq!(parsed(later, Some(date)), Some(Duration::from_secs(90)));
        assert_eq!(parsed("99999999999999999999", None), Some(Duration::from_secs(u64::MAX)));
    }

    #[test]
    fn nonsense_and_the_past_count_as_none() {
        for value in ["", "-5", "1.5", "soon", "0x10", "1e9", "12 13"] {
            assert_eq!(parsed(value, None), None, "{value:?}");
        }
        assert_eq!(parsed("Sun, 06 Nov 1994 08:49:37 GMT", None), None);
        let mut twice = HeaderMap::new();
        twice.append(RETRY_AFTER, "1".parse().unwrap());
        twice.append(RETRY_AFTER, "2".parse().unwrap());
        assert_eq!(retry_after(&twice), None);
    }
}
