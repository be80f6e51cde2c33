//! The API over HTTP: one request out, one whole response back, or the reason why there is none.
//!
//! Never retries, never follows a redirect, never reads a body beyond its cap.
//!
//! All bodies in flight share one byte budget. Each may use a little of it for free. Before a body grows beyond that, it takes its
//! share of a pool: as many bytes as it can ever have, which is its `Content-Length`, or the cap where nothing bounds it (no
//! length, or a body that is decompressed or converted to UTF-8 here). A body takes a share only once, so whoever has one can
//! finish: bodies wait for each other, but never in a circle. The pool serves first come, first served, so that small bodies
//! cannot overtake a large one for ever.
//!
//! # Transport security
//!
//! | what | how |
//! |---|---|
//! | identity | TLS 1.2 or 1.3, the machine's root certificates (or `SSL_CERT_FILE`); no switch turns it off |
//! | plain HTTP | to this machine only; the settings refuse anything else, and so does the client |
//! | redirects | never followed, so that the key goes to the configured host only |
//! | proxies | those of the environment (`HTTPS_PROXY`, `NO_PROXY`), as tunnels: they see the host and not the key |
//! | protocol | HTTP/1.1; a second protocol would be a second set of faults |
//! | content codings | none is requested and none is decoded, unless `compressed` is set (zstd and gzip) |
//! | characters | UTF-8; a body that is labelled as ISO-8859-1, and is it, is converted (`charset`) |
//! | header fields | [`HEADERS`] |
//! | bytes of the headers | [`HEAD_CAP`] |
//! | bytes of a body | [`BODY_CAP`] |
//! | bytes of all bodies | [`BODY_POOL`], and 64 KiB for each in flight |
//! | time | the caller's limit covers everything: connecting, any number of interim responses, the body |

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER,
    TRANSFER_ENCODING,
};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use url::Url;

use super::caps::{BODY_CAP, BODY_POOL, FREE_BYTES, HEAD_CAP, HEADERS};
use super::compressed::Decompressor;
use super::error::{FetchError, FetchErrorKind};
use super::port::{ContentHeaders, Fetch, RawResponse};
use super::{charset, compressed};
use crate::endpoint::Endpoint;
use crate::model::clock;
use crate::model::page::Request;
use crate::model::tls;

/// Idle connections are dropped before common servers drop them: a request must not race with their closing.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub struct HttpSettings {
    /// Scheme and host, checked by the settings.
    pub base_url: Url,
    /// Sent as a bearer token.
    pub api_key: SecretString,
    pub page_size: u32,
    pub sort: Option<(String, String)>,
    /// Idle connections that may be kept open.
    pub connections: usize,
    pub connect_timeout: Duration,
    pub compressed: bool,
    /// Whether the host is this machine: then plain HTTP is allowed, and proxies are not used.
    pub is_loopback: bool,
}

#[derive(Debug)]
pub struct HttpApi {
    client: reqwest::Client,
    /// The path and every parameter except the item's and the page's.
    base: Url,
    /// Host and port, for error messages.
    host: String,
    item_param: String,
    page_param: String,
    authorization: HeaderValue,
    compressed: bool,
    pool: Arc<Semaphore>,
}

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("plain http is for this machine only: the key would not be encrypted; use https")]
    PlainHttp,
    #[error("the key contains characters that are not allowed in an HTTP header")]
    InvalidKey,
    /// Most likely this machine has no root certificates.
    #[error("make the HTTP client (root certificates come from this machine, or from the file in SSL_CERT_FILE)")]
    Build(#[source] reqwest::Error),
}

impl HttpApi {
    pub fn new(endpoint: &Endpoint, settings: HttpSettings) -> Result<Self, ClientError> {
        let client = client(&settings)?.build().map_err(ClientError::Build)?;
        Self::with_client(client, endpoint, settings)
    }

    fn with_client(client: reqwest::Client, endpoint: &Endpoint, settings: HttpSettings) -> Result<Self, ClientError> {
        let mut authorization = HeaderValue::try_from(format!("Bearer {}", settings.api_key.expose_secret()))
            .map_err(|_| ClientError::InvalidKey)?;
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
            client,
            host: authority(&base),
            base,
            item_param: endpoint.item.param.clone(),
            page_param: endpoint.page.number_param.clone(),
            authorization,
            compressed: settings.compressed,
            pool: Arc::new(Semaphore::new(BODY_POOL / 1024)),
        })
    }

    /// Reads the body, within the caps and the byte budget.
    async fn read(&self, mut response: reqwest::Response) -> Result<(Bytes, Option<OwnedSemaphorePermit>), FetchError> {
        let is_latin1 = charset::is_labelled(response.headers());
        let may_decompress = self.compressed && response.headers().contains_key(CONTENT_ENCODING);
        // The transport delivers no byte beyond the length, so the length is a bound.
        let length = response.content_length().and_then(|length| usize::try_from(length).ok());
        let length = length.filter(|_| !is_latin1 && !may_decompress);
        let most = length.map_or(BODY_CAP, |length| length.min(BODY_CAP));
        let mut share = None;
        let mut body = BytesMut::new();
        let mut first = Bytes::new(); // most bodies come as one chunk, which is not copied
        while let Some(chunk) = response.chunk().await.map_err(|error| FetchError::from_reqwest(error, &self.host))? {
            let size = first.len() + body.len() + chunk.len();
            self.reserve(&mut share, size, most).await?;
            if first.is_empty() && body.is_empty() {
                first = chunk;
                continue;
            }
            if body.is_empty() {
                body.reserve(if length.is_some() && share.is_some() { most } else { 2 * size });
                body.extend_from_slice(&std::mem::take(&mut first));
            } else if length.is_some() && share.is_some() {
                body.reserve(most.saturating_sub(body.len())); // all of it at once
            }
            body.extend_from_slice(&chunk);
        }
        let mut body = if body.is_empty() { first } else { body.freeze() };
        let decompressor = if self.compressed { Decompressor::new(response.headers(), &body)? } else { None };
        if let Some(mut decompressor) = decompressor {
            while !decompressor.step()? {
                self.reserve(&mut share, FREE_BYTES + 1, BODY_CAP).await?;
            }
            body = Bytes::from(decompressor.body);
        }
        if is_latin1 && charset::is_meant(&body) {
            let length = charset::utf8_length(&body);
            self.reserve(&mut share, length, BODY_CAP).await?;
            body = charset::to_utf8(&body, length);
        }
        Ok((body, share))
    }

    /// Takes the share of a body that has grown to this size, if it needs one and has none; it will have `most` bytes at most.
    async fn reserve(
        &self,
        share: &mut Option<OwnedSemaphorePermit>,
        size: usize,
        most: usize,
    ) -> Result<(), FetchError> {
        if size > BODY_CAP {
            return Err(FetchError::new(FetchErrorKind::TooLarge));
        }
        if share.is_none() && size > FREE_BYTES {
            let kib = u32::try_from(most.div_ceil(1024)).unwrap_or(u32::MAX);
            let permit = Arc::clone(&self.pool).acquire_many_owned(kib).await;
            *share = Some(permit.map_err(|_| FetchError::new(FetchErrorKind::Disconnected))?);
        }
        Ok(())
    }
}

impl Fetch for HttpApi {
    async fn fetch(&self, request: &Request) -> Result<RawResponse, FetchError> {
        let mut url = self.base.clone();
        url.query_pairs_mut()
            .append_pair(&self.item_param, request.id.as_str())
            .append_pair(&self.page_param, &request.page.to_string());
        let request = self.client.get(url).header(AUTHORIZATION, self.authorization.clone());
        let response = request.send().await.map_err(|error| FetchError::from_reqwest(error, &self.host))?;
        check_head(&response)?;
        let (status, retry_after) = (response.status().as_u16(), retry_after(response.headers()));
        let content = ContentHeaders::from_headers(response.headers());
        let (body, share) = self.read(response).await?;
        Ok(RawResponse { status, retry_after, content, body, share })
    }
}

/// `host:port`.
pub(crate) fn authority(url: &Url) -> String {
    format!("{}:{}", url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default())
}

fn client(settings: &HttpSettings) -> Result<reqwest::ClientBuilder, ClientError> {
    let plain = settings.base_url.scheme() == "http";
    if plain && !settings.is_loopback {
        return Err(ClientError::PlainHttp);
    }
    tls::use_ring();
    let codings = if settings.compressed { compressed::CODINGS } else { "identity" };
    // Without this header a server may use any coding (RFC 9110, section 12.5.3).
    let headers = HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(codings))]);
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("pagehaul/", env!("CARGO_PKG_VERSION")))
        .default_headers(headers)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .https_only(!plain)
        .tls_version_min(reqwest::tls::Version::TLS_1_2)
        .http1_only()
        .http1_max_headers(HEADERS)
        .referer(false)
        .connect_timeout(settings.connect_timeout)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(settings.connections);
    if settings.is_loopback {
        builder = builder.no_proxy();
    }
    if plain {
        builder = builder.tls_certs_only([]); // none are needed, and a minimal machine may have none
    }
    Ok(builder)
}

/// Refuses a response that is not safe to read: a redirect, headers beyond their cap, and a body whose end is given by two
/// fields that may disagree (RFC 9112, section 6.3: request smuggling).
fn check_head(response: &reqwest::Response) -> Result<(), FetchError> {
    let headers = response.headers();
    if let Some(location) = headers.get(LOCATION).filter(|_| response.status().is_redirection()) {
        let target = String::from_utf8_lossy(location.as_bytes());
        return Err(FetchError::with_source(
            FetchErrorKind::Redirect,
            format!("HTTP {} to {target}", response.status().as_u16()),
        ));
    }
    if headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>() > HEAD_CAP {
        return Err(FetchError::with_source(FetchErrorKind::Malformed, "its headers are larger than 64 KiB"));
    }
    if headers.contains_key(TRANSFER_ENCODING) && headers.contains_key(CONTENT_LENGTH) {
        return Err(FetchError::with_source(FetchErrorKind::Malformed, "it has both a length and chunks"));
    }
    Ok(())
}

/// `Retry-After` as a duration from now (RFC 9110, section 10.2.3). A date is compared with the response's own `Date`, so that
/// the clock of this machine does not matter. An invalid value, a time in the past, or more than one value counts as none.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
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
    let server_time = date.and_then(|date| date.duration_since(std::time::UNIX_EPOCH).ok());
    let own_time = || Duration::from_secs(u64::try_from(clock::wall().seconds()).unwrap_or_default());
    until.checked_sub(server_time.unwrap_or_else(own_time))
}

#[cfg(test)]
mod tests {
    use super::{Fetch, HttpApi, HttpSettings, client, retry_after};
    use crate::endpoint::{BUILT_IN, Endpoint};
    use crate::model::page::{AttemptId, ItemId, ItemIx, PageNum, Request};
    use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
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

    #[tokio::test]
    async fn n18_a_host_whose_first_address_is_a_broken_ipv6_one_is_reached_by_its_ipv4_address() {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = server.local_addr().unwrap().port();
        let server_thread = std::thread::spawn(move || {
            let mut stream = server.accept().unwrap().0;
            let received = stream.read(&mut [0; 4096]).unwrap();
            stream.write_all(b"HTTP/1.1 200 x\r\nContent-Length: 2\r\n\r\n{}").unwrap();
            received
        });
        let settings = HttpSettings {
            base_url: format!("http://both.invalid:{port}").parse().unwrap(),
            api_key: "key".to_owned().into(),
            page_size: 10,
            sort: None,
            connections: 1,
            connect_timeout: Duration::from_secs(60),
            compressed: false,
            is_loopback: true,
        };
        // Nobody listens at the first one: refused, or without a way to it where the machine has no IPv6.
        let addresses = [(Ipv6Addr::LOCALHOST, port).into(), (Ipv4Addr::LOCALHOST, port).into()];
        let client = client(&settings).unwrap().resolve_to_addrs("both.invalid", &addresses).build().unwrap();
        let api = HttpApi::with_client(client, &Endpoint::parse(BUILT_IN).unwrap(), settings).unwrap();
        let (attempt, item) = (AttemptId(1), ItemIx(1));
        let response = api.fetch(&Request { attempt, item, id: ItemId::new("17"), page: PageNum(1) }).await.unwrap();
        assert_eq!((response.status, response.body.as_ref()), (200, b"{}".as_slice()));
        assert!(server_thread.join().unwrap() > 0);
    }

    #[test]
    fn a8_a_wish_for_a_pause_is_seconds_or_a_date_after_the_answer_s_own_and_anything_else_is_none() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        let seconds = |count| Some(Duration::from_secs(count));
        let table: [(&str, Option<Duration>); 25] = [
            ("0", seconds(0)),
            ("120", seconds(120)),
            ("007", seconds(7)),
            (" 30 ", seconds(30)),
            ("86400", seconds(86_400)),
            ("1000000000", seconds(1_000_000_000)),
            ("18446744073709551615", seconds(u64::MAX)),
            ("99999999999999999999", seconds(u64::MAX)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", seconds(0)),
            ("Sun, 06 Nov 1994 08:51:37 GMT", seconds(120)),
            ("Mon, 07 Nov 1994 08:49:37 GMT", seconds(86_400)),
            ("Sunday, 06-Nov-94 08:50:37 GMT", seconds(60)),
            ("Sun Nov  6 08:50:37 1994", seconds(60)),
            ("Sun, 06 Nov 1994 08:49:36 GMT", None),
            ("Thu, 01 Jan 1970 00:00:00 GMT", None),
            ("Sun, 06 Nov 1994 25:61:61 GMT", None),
            ("", None),
            ("-5", None),
            ("+5", None),
            ("1.5", None),
            ("1e9", None),
            ("0x10", None),
            ("12 13", None),
            ("soon", None),
            ("120s", None),
        ];
        for (value, expected) in table {
            assert_eq!(parsed(value, Some(date)), expected, "{value:?}");
        }
        let mut twice = HeaderMap::new();
        for value in ["120", "120"] {
            twice.append(RETRY_AFTER, value.parse().unwrap());
        }
        assert_eq!(retry_after(&twice), None, "two values are none");
    }

    #[test]
    fn a9_a_server_s_clock_may_be_hours_off_only_the_difference_of_its_own_two_dates_counts() {
        for (date, until) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:50:07 GMT"),
            ("Fri, 31 Dec 2049 23:59:50 GMT", "Sat, 01 Jan 2050 00:00:20 GMT"),
        ] {
            assert_eq!(parsed(until, Some(date)), Some(Duration::from_secs(30)), "{date}");
        }
        assert_eq!(parsed("Fri, 31 Dec 1999 23:59:59 GMT", Some("nonsense")), None, "then our own clock counts");
    }

    proptest::proptest! {
        #[test]
        fn a8_no_header_makes_anyone_wait_for_more_than_five_minutes(
            value in "[ -~]{0,40}|[0-9]{1,30}|[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9:]{8} GMT",
            date in proptest::option::of("[ -~]{0,40}|[A-Z][a-z]{2}, [0-9]{2} Nov [0-9]{4} 08:[0-9]{2}:37 GMT"),
        ) {
            let wait = parsed(&value, date.as_deref());
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            let throttle = runtime.block_on(async {
                crate::fetch::rate_limit::RateLimiter::new(Some(10.0)).record_throttle(crate::model::clock::now(), wait).unwrap()
            });
            assert!(throttle.wait <= Duration::from_secs(300), "{value:?} {date:?}: {throttle:?}");
        }
    }
}
