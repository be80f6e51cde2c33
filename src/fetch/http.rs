//! The API over HTTP: one request out, one whole answer or a reason why there is none.
//!
//! No retry, no redirect, no reading of the body beyond its cap happens here.
//!
//! All bodies in flight share one byte budget. Each may hold a little for free. One that grows takes its share of a pool before
//! it holds more: as many bytes as it can ever have, which is the length in its head, or the cap where nothing bounds it (no
//! length, or a body that is unpacked or brought to UTF-8 here). It takes that share once and never another, so whoever has one
//! comes to its end without waiting for anybody: bodies wait for each other, but never in a circle. The pool is served in the
//! order of asking, so that a large body is not passed by small ones for ever.
//!
//! # Transport security
//!
//! | what | how |
//! |---|---|
//! | identity | TLS 1.2 or 1.3, the machine's root certificates (or `SSL_CERT_FILE`); no switch turns it off |
//! | plain HTTP | to this machine only; the settings refuse anything else, and so does the client |
//! | redirects | never followed, so that the key goes to the host that was named and to no other |
//! | proxies | those of the environment (`HTTPS_PROXY`, `NO_PROXY`), as tunnels: they see the host and not the key |
//! | protocol | HTTP/1.1; a second protocol would be a second set of faults |
//! | content codings | none is asked for and none is undone, unless the settings ask for zstd and gzip (`packed`) |
//! | characters | UTF-8; a body that says ISO-8859-1 and is it comes out as UTF-8 (`charset`) |
//! | fields of an answer's head | [`HEADERS`] |
//! | bytes of an answer's head | [`HEAD_CAP`] |
//! | bytes of a body | [`BODY_CAP`] |
//! | bytes of all bodies | [`BODY_POOL`], and 64 KiB for each under way |
//! | time | the caller's, over everything: connecting, any number of interim answers, the body |

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
use super::compressed::Unpacking;
use super::port::{Fetch, Media, RawResponse};
use super::transport_error::FetchError;
use super::{charset, compressed};
use crate::endpoint::Endpoint;
use crate::fetch::classify::TransportError;
use crate::model::clock;
use crate::model::page::Request;

/// Idle connections are dropped before common servers drop them: a request must not race their closing.
const IDLE: Duration = Duration::from_secs(20);

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
    /// Whether bodies may come packed.
    pub compressed: bool,
    /// Whether the host is this machine: plain HTTP is allowed, proxies are not used.
    pub is_loopback: bool,
}

/// The API over HTTP.
#[derive(Debug)]
pub struct HttpApi {
    client: reqwest::Client,
    /// Path and every parameter but the item's and the page's.
    base: Url,
    /// Host and port, as errors name them.
    host: String,
    item_param: String,
    page_param: String,
    authorization: HeaderValue,
    compressed: bool,
    pool: Arc<Semaphore>,
}

/// There is no client to send requests with.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The key would travel in clear.
    #[error("plain http is for this machine only: the key would travel in clear; use https")]
    Plain,
    /// The key cannot be sent.
    #[error("the key holds characters that no header may hold")]
    Key,
    /// Most likely this machine has no root certificates.
    #[error("make the HTTP client (root certificates come from this machine, or from the file in SSL_CERT_FILE)")]
    Build(#[source] reqwest::Error),
}

impl HttpApi {
    /// A client for one endpoint.
    pub fn new(endpoint: &Endpoint, settings: HttpSettings) -> Result<Self, ClientError> {
        let client = client(&settings)?.build().map_err(ClientError::Build)?;
        Self::with(client, endpoint, settings)
    }

    fn with(client: reqwest::Client, endpoint: &Endpoint, settings: HttpSettings) -> Result<Self, ClientError> {
        let mut authorization =
            HeaderValue::try_from(format!("Bearer {}", settings.key.expose_secret())).map_err(|_| ClientError::Key)?;
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

    async fn read(&self, mut response: reqwest::Response) -> Result<(Bytes, Option<OwnedSemaphorePermit>), FetchError> {
        let is_labelled = charset::is_labelled(response.headers());
        let may_unpack = self.compressed && response.headers().contains_key(CONTENT_ENCODING);
        // The transport gives no byte beyond the length, so it is the most that comes.
        let length = response.content_length().and_then(|length| usize::try_from(length).ok());
        let length = length.filter(|_| !is_labelled && !may_unpack);
        let most = length.map_or(BODY_CAP, |length| length.min(BODY_CAP));
        let mut share = None;
        let mut body = BytesMut::new();
        let mut only = Bytes::new(); // most bodies come as one chunk and are not copied
        while let Some(chunk) = response.chunk().await.map_err(|error| FetchError::of(error, &self.host))? {
            let size = only.len() + body.len() + chunk.len();
            if size > BODY_CAP {
                return Err(FetchError::bare(TransportError::TooLarge));
            }
            if share.is_none() && size > FREE_BYTES {
                share = Some(self.share(most).await?);
                if length.is_some() && !body.is_empty() {
                    body.reserve(most.saturating_sub(body.len()));
                }
            }
            if only.is_empty() && body.is_empty() {
                only = chunk;
                continue;
            }
            if body.is_empty() {
                body.reserve(if length.is_some() && share.is_some() { most } else { 2 * size });
                body.extend_from_slice(&std::mem::take(&mut only));
            }
            body.extend_from_slice(&chunk);
        }
        let mut body = if body.is_empty() { only } else { body.freeze() };
        let packed = if self.compressed { Unpacking::begin(response.headers(), &body)? } else { None };
        if let Some(mut packed) = packed {
            while !packed.step()? {
                if share.is_none() {
                    share = Some(self.share(BODY_CAP).await?);
                }
            }
            body = packed.plain();
        }
        if is_labelled && charset::is_meant(&body) {
            let length = charset::length(&body);
            if length > BODY_CAP {
                return Err(FetchError::bare(TransportError::TooLarge));
            }
            if share.is_none() && length > FREE_BYTES {
                share = Some(self.share(BODY_CAP).await?);
            }
            body = charset::to_utf8(&body, length);
        }
        Ok((body, share))
    }

    /// The room for a body of at most this many bytes.
    async fn share(&self, most: usize) -> Result<OwnedSemaphorePermit, FetchError> {
        let most = u32::try_from(most.div_ceil(1024)).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.pool).acquire_many_owned(most).await;
        permit.map_err(|_| FetchError::bare(TransportError::Transport))
    }
}

impl Fetch for HttpApi {
    async fn fetch(&self, request: &Request) -> Result<RawResponse, FetchError> {
        let mut url = self.base.clone();
        url.query_pairs_mut()
            .append_pair(&self.item_param, request.id.as_str())
            .append_pair(&self.page_param, &request.page.to_string());
        let asked = self.client.get(url).header(AUTHORIZATION, self.authorization.clone());
        let response = asked.send().await.map_err(|error| FetchError::of(error, &self.host))?;
        check_head(&response)?;
        let (status, retry_after) = (response.status().as_u16(), retry_after(response.headers()));
        let media = Media::from_headers(response.headers());
        let (body, share) = self.read(response).await?;
        Ok(RawResponse { status, retry_after, media, body, share })
    }
}

/// Host and port.
pub fn authority(url: &Url) -> String {
    format!("{}:{}", url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default())
}

fn client(settings: &HttpSettings) -> Result<reqwest::ClientBuilder, ClientError> {
    let plain = settings.base_url.scheme() == "http";
    if plain && !settings.is_loopback {
        return Err(ClientError::Plain);
    }
    // reqwest's rustls takes the process's provider; a second installation only says that there is one.
    drop(rustls::crypto::ring::default_provider().install_default());
    let codings = if settings.compressed { compressed::CODINGS } else { "identity" };
    // What is not asked for by name may be answered in any coding (RFC 9110, section 12.5.3).
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
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(settings.connections);
    if settings.is_loopback {
        builder = builder.no_proxy();
    }
    if plain {
        builder = builder.tls_certs_only([]); // none are needed, and a bare machine may have none
    }
    Ok(builder)
}

/// Refuses an answer that it would be unsafe to read on: a redirect, a head beyond its cap, and a body whose end two fields
/// disagree about (RFC 9112, section 6.3: somebody may be smuggling).
fn check_head(response: &reqwest::Response) -> Result<(), FetchError> {
    let headers = response.headers();
    if let Some(location) = headers.get(LOCATION).filter(|_| response.status().is_redirection()) {
        let target = String::from_utf8_lossy(location.as_bytes());
        return Err(FetchError::because(
            TransportError::Redirect,
            format!("HTTP {} to {target}", response.status().as_u16()),
        ));
    }
    if headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>() > HEAD_CAP {
        return Err(FetchError::because(TransportError::Unreadable, "its head is larger than 64 KiB"));
    }
    if headers.contains_key(TRANSFER_ENCODING) && headers.contains_key(CONTENT_LENGTH) {
        return Err(FetchError::because(TransportError::Unreadable, "it has both a length and chunks"));
    }
    Ok(())
}

/// `Retry-After` as a duration from now (RFC 9110, section 10.2.3). A date counts from the answer's own `Date`, so that our
/// clock does not matter; nonsense, the past and several of them count as none.
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
    let now = date.and_then(|date| date.duration_since(std::time::UNIX_EPOCH).ok());
    let here = Duration::from_secs(u64::try_from(clock::wall().seconds()).unwrap_or_default());
    until.checked_sub(now.unwrap_or(here))
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
        let answering = std::thread::spawn(move || {
            let mut stream = server.accept().unwrap().0;
            let asked = stream.read(&mut [0; 4096]).unwrap();
            stream.write_all(b"HTTP/1.1 200 x\r\nContent-Length: 2\r\n\r\n{}").unwrap();
            asked
        });
        let settings = HttpSettings {
            base_url: format!("http://both.invalid:{port}").parse().unwrap(),
            key: "key".to_owned().into(),
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
        let api = HttpApi::with(client, &Endpoint::parse(BUILT_IN).unwrap(), settings).unwrap();
        let (attempt, item) = (AttemptId(1), ItemIx(1));
        let answer = api.fetch(&Request { attempt, item, id: ItemId::new("17"), page: PageNum(1) }).await.unwrap();
        assert_eq!((answer.status, answer.body.as_ref()), (200, b"{}".as_slice()));
        assert!(answering.join().unwrap() > 0);
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
        assert_eq!(retry_after(&twice), None, "two wishes are none");
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
            let wish = parsed(&value, date.as_deref());
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            let held = runtime.block_on(async {
                crate::fetch::rate_limit::RateLimiter::new(Some(10.0)).throttled(crate::model::clock::now(), wish).unwrap()
            });
            assert!(held.wait <= Duration::from_secs(300), "{value:?} {date:?}: {held:?}");
        }
    }
}
