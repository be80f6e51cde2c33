//! What the server answers to a request. It changes nothing, and knows nothing of connections.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

use super::cached::{Cached, Made};
use super::hosts::Hosts;
use super::metrics::{Metrics, TextFormat};
use super::readiness::Readiness;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";
const PATHS: &str = "there are /, /metrics, /healthz, /readyz and /status.json here\n";

/// Nothing may be run, loaded, framed or stored of what is served, and no other site may read it.
const HEADERS: [(HeaderName, &str); 5] = [
    (header::CACHE_CONTROL, "no-store"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
];

/// What is served.
#[derive(Debug)]
pub(crate) struct Site {
    pub(super) metrics: Arc<Metrics>,
    pub(super) readiness: Arc<Readiness>,
    pub(super) status: Cached,
    pub(super) report: Cached,
    pub(super) hosts: Hosts,
}

type Body = Full<Bytes>;

/// The body of the request is never read.
pub(super) async fn respond<B>(site: Arc<Site>, request: Request<B>) -> Result<Response<Body>, Infallible> {
    let mut response = if !is_for_this_server(&request, site.hosts) {
        text(StatusCode::MISDIRECTED_REQUEST, "this server does not answer to that name\n")
    } else if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are served\n");
        refused.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        refused
    } else {
        document(&site, request.uri().path(), request.headers()).await
    };
    let headers = HEADERS.into_iter().map(|(name, value)| (name, HeaderValue::from_static(value)));
    response.headers_mut().extend(headers);
    Ok(response)
}

/// Whether all that says for which server a request is names this one.
fn is_for_this_server<B>(request: &Request<B>, hosts: Hosts) -> bool {
    let mut named = request.headers().get_all(header::HOST).iter();
    let host = named.next().and_then(|host| host.to_str().ok());
    let target = request.uri().authority().map(hyper::http::uri::Authority::as_str);
    host.is_some_and(|host| hosts.allows(host))
        && named.next().is_none()
        && target.is_none_or(|target| hosts.allows(target))
}

async fn document(site: &Site, path: &str, headers: &HeaderMap) -> Response<Body> {
    match path {
        "/metrics" => metrics(&site.metrics, headers),
        // The run and this server share one thread: whoever gets this knows that it turns.
        "/healthz" => text(StatusCode::OK, "ok\n"),
        "/readyz" => match site.readiness.check() {
            Ok(what) => text(StatusCode::OK, format!("ready: {what}\n")),
            Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
        },
        "/status.json" => made(of_ledger(site, &site.status).await, JSON),
        "/" => made(of_ledger(site, &site.report).await, HTML),
        _ => text(StatusCode::NOT_FOUND, PATHS),
    }
}

fn metrics(metrics: &Metrics, headers: &HeaderMap) -> Response<Body> {
    let format = if accepts_open_metrics(headers) { TextFormat::OpenMetrics } else { TextFormat::Prometheus };
    match metrics.text(format) {
        Ok(body) => response(StatusCode::OK, format.content_type(), body),
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written (a bug)\n"),
    }
}

/// Prometheus asks for this format and the other one, and prefers this one.
fn accepts_open_metrics(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let is_named = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/openmetrics-text"));
        is_named && !parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    })
}

/// A document from the ledger, which another process may work on until this one has its lock.
async fn of_ledger(site: &Site, document: &Cached) -> Made {
    if site.readiness.is_open() { document.get().await } else { Err("the export is being opened".to_owned()) }
}

fn made(made: Made, kind: &'static str) -> Response<Body> {
    match made {
        Ok(body) => response(StatusCode::OK, kind, body),
        Err(error) => text(StatusCode::SERVICE_UNAVAILABLE, error + "\n"),
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    response(status, TEXT, body)
}

fn response(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use super::{Site, respond};
    use crate::model::event::{Event, EventSink};
    use crate::serve::fixture::site;
    use http_body_util::BodyExt;
    use hyper::{HeaderMap, Request};
    use std::sync::Arc;

    type Answer = (u16, HeaderMap, String);

    async fn ask(site: &Arc<Site>, method: &str, target: &str, headers: &[(&str, &str)]) -> Answer {
        let builder = Request::builder().method(method).uri(target);
        let request = headers.iter().fold(builder, |request, (name, value)| request.header(*name, *value));
        let response = respond(Arc::clone(site), request.body(()).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (parts.status.as_u16(), parts.headers, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn get(site: &Arc<Site>, path: &str) -> Answer {
        ask(site, "GET", path, &[("host", "localhost:9464")]).await
    }

    fn registered(site: &Site) {
        site.readiness.event(&Event::Registered { listed: 1, new: 1, repeated: 0, reopened: 0, others: 0 });
    }

    #[tokio::test]
    async fn whatever_is_answered_may_not_be_stored_sniffed_framed_or_read_by_another_site() {
        let site = site(Ok(b"{}\n"));
        for path in ["/", "/metrics", "/healthz", "/readyz", "/status.json", "/nothing", "/metrics/", "//metrics"] {
            let (_, headers, _) = get(&site, path).await;
            let of = |name: &str| headers.get(name).unwrap().to_str().unwrap();
            assert_eq!((of("cache-control"), of("x-content-type-options")), ("no-store", "nosniff"), "{path}");
            assert!(of("content-security-policy").starts_with("default-src 'none'"), "{path}");
            assert_eq!(of("cross-origin-resource-policy"), "same-origin", "{path}");
            assert!(headers.keys().all(|name| !name.as_str().starts_with("access-control-")), "{path}");
        }
    }

    #[tokio::test]
    async fn each_document_has_its_status_and_type_and_anything_else_is_not_found() {
        let site = site(Ok(b"{\"status\":\"running\"}\n"));
        registered(&site);
        let table = [
            ("/healthz", 200, "text/plain; charset=utf-8", "ok\n"),
            ("/readyz", 503, "text/plain; charset=utf-8", "not ready: finishing what earlier runs left\n"),
            ("/status.json", 200, "application/json", "{\"status\":\"running\"}\n"),
            ("/status.json?x=1", 200, "application/json", "{\"status\":\"running\"}\n"),
            ("/", 200, "text/html; charset=utf-8", "<p>the report\n"),
        ];
        for (path, status, kind, text) in table {
            let (code, headers, body) = get(&site, path).await;
            assert_eq!((code, headers["content-type"].to_str().unwrap(), &*body), (status, kind, text), "{path}");
        }
        for path in ["/status", "/metrics/..", "/%2e%2e/etc/passwd", "/favicon.ico", "/METRICS"] {
            let (code, _, body) = get(&site, path).await;
            assert_eq!(code, 404, "{path}");
            assert!(body.contains("/metrics"), "{body}");
        }
    }

    #[tokio::test]
    async fn a_status_that_cannot_be_read_is_503_with_the_reason_and_so_is_one_before_the_export_is_open() {
        let site = site(Err("the disk is gone"));
        let (code, _, body) = get(&site, "/status.json").await;
        assert_eq!((code, &*body), (503, "the export is being opened\n"));
        registered(&site);
        let (code, _, body) = get(&site, "/status.json").await;
        assert_eq!((code, &*body), (503, "the disk is gone\n"));
    }

    #[tokio::test]
    async fn only_get_and_head_are_served() {
        let site = site(Ok(b"{}"));
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "BREW"] {
            let target = if method == "CONNECT" { "localhost:9464" } else { "/metrics" };
            let (code, headers, _) = ask(&site, method, target, &[("host", "localhost")]).await;
            assert_eq!((code, headers["allow"].to_str().unwrap()), (405, "GET, HEAD"), "{method}");
        }
        assert_eq!(ask(&site, "HEAD", "/metrics", &[("host", "localhost")]).await.0, 200);
    }

    #[tokio::test]
    async fn a_request_under_another_name_is_misdirected_however_it_says_so() {
        let site = site(Ok(b"{}"));
        let cases: [(&str, &[(&str, &str)]); 6] = [
            ("/metrics", &[("host", "evil.example:9464")]),
            ("/metrics", &[]),
            ("/metrics", &[("host", "localhost"), ("host", "evil.example")]),
            ("http://evil.example/metrics", &[("host", "localhost")]),
            ("http://localhost/metrics", &[("host", "evil.example")]),
            ("/metrics", &[("host", "10.0.0.1")]),
        ];
        for (target, headers) in cases {
            let (code, _, body) = ask(&site, "GET", target, headers).await;
            assert_eq!(code, 421, "{target} {headers:?}");
            assert!(!body.contains("evil") && !body.contains("pagehaul_"), "{body}");
        }
        let own: &[(&str, &str)] = &[("host", "127.0.0.1:9464"), ("origin", "http://evil.example")];
        assert_eq!(ask(&site, "GET", "http://localhost:9464/metrics", own).await.0, 200);
    }

    #[tokio::test]
    async fn prometheus_gets_the_format_that_it_asks_for() {
        let site = site(Ok(b"{}"));
        let old = "text/plain; version=0.0.4; charset=utf-8";
        let new = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        let table = [
            ("", old),
            ("*/*", old),
            ("text/plain;version=0.0.4;q=0.5,*/*;q=0.1", old),
            ("application/openmetrics-text; version=1.0.0; q=0, text/plain", old),
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                new,
            ),
            ("application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;q=0.2", new),
        ];
        for (accept, kind) in table {
            let (_, headers, body) = ask(&site, "GET", "/metrics", &[("host", "localhost"), ("accept", accept)]).await;
            assert_eq!(headers["content-type"].to_str().unwrap(), kind, "{accept}");
            assert_eq!(body.ends_with("# EOF\n"), kind == new, "{accept}");
        }
    }
}
