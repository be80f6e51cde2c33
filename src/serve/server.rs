//! The connections of the server, each with one request and within bounds. It shares the thread of the run.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::respond::{Site, respond};
use crate::model::connections::serve_connections;
use crate::model::sanitize::chain;

/// Connections at once: some Prometheus servers, probes and people.
const MAX_CONNECTIONS: usize = 16;
/// The connections, the one that is accepted before the oldest is closed, the listener, and two queries of the ledger.
pub(crate) const OPEN_FILES: u64 = 16 + 1 + 1 + 2 * 4;
/// The longest time for the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest time of a connection, until the last byte of its response is taken.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of the head of a request.
const MAX_HEAD: usize = 16 << 10;
const MAX_HEADERS: usize = 64;
/// The pause after a second in which no connection could be accepted.
const PAUSE: Duration = Duration::from_secs(5);

/// Listens, so that an address that cannot be had is an error before anything is paid.
pub(crate) async fn listen(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    Ok((listener, bound))
}

/// A server at work. It ends, with all its connections, when this is dropped.
#[derive(Debug)]
pub(crate) struct Serving(#[expect(dead_code, reason = "dropped, it aborts its task")] JoinSet<()>);

pub(super) fn start(listener: TcpListener, site: Arc<Site>) -> Serving {
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut has_warned = false;
        loop {
            let serve = |stream| serve_request(Arc::clone(&site), stream);
            let error = serve_connections(&listener, Some(MAX_CONNECTIONS), serve).await;
            if !has_warned {
                tracing::warn!("--serve cannot accept connections, the export continues: {}", chain(&error));
                has_warned = true;
            }
            tokio::time::sleep(PAUSE).await;
        }
    });
    Serving(tasks)
}

/// Answers the first request of a connection and closes it.
async fn serve_request(site: Arc<Site>, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    let service = service_fn(move |request| respond(Arc::clone(&site), request));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).keep_alive(false).half_close(true);
    http.max_buf_size(MAX_HEAD).max_headers(MAX_HEADERS);
    // On an error, the client disconnected, was too slow, or sent something other than HTTP.
    tokio::time::timeout(CONNECTION_TIMEOUT, http.serve_connection(TokioIo::new(stream), service)).await.ok();
}

#[cfg(test)]
mod tests {
    use super::{CONNECTION_TIMEOUT, HEAD_TIMEOUT, serve_request};
    use crate::model::clock;
    use crate::serve::fixture::site;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    /// What a client that writes this gets, and how long its connection lasts.
    async fn talk(sent: &[u8]) -> (String, Duration) {
        let (mut client, server) = tokio::io::duplex(64 << 10);
        client.write_all(sent).await.unwrap();
        let (start, text) = (clock::now(), read(&mut client));
        let (text, ()) = tokio::join!(text, serve_request(site(Ok(b"{}")), server));
        (text, clock::now() - start)
    }

    async fn read(client: &mut DuplexStream) -> String {
        let mut text = Vec::new();
        client.read_to_end(&mut text).await.unwrap();
        String::from_utf8(text).unwrap()
    }

    fn statuses(text: &str) -> Vec<&str> {
        text.split("HTTP/1.1 ").skip(1).filter_map(|response| response.get(..3)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_has_one_request_and_is_closed() {
        let one = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let (text, took) = talk(format!("{one}{one}").as_bytes()).await;
        assert_eq!((statuses(&text), took), (vec!["200"], Duration::ZERO));
        assert!(text.contains("connection: close\r\n") && text.ends_with("\r\n\r\nok\n"), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn head_has_the_length_and_no_body() {
        let (text, _) = talk(b"HEAD /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        assert!(text.contains("content-length: 3\r\n") && text.ends_with("\r\n\r\n"), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_never_ends_its_head_is_left_after_five_seconds() {
        for sent in ["", "G", "GET /metrics HTTP/1.1\r\nHost: localhost\r\n", "GET /metrics HTTP/1.1\r\nHost: local"] {
            let (text, took) = talk(sent.as_bytes()).await;
            assert!(!text.contains("pagehaul_"), "{text}");
            assert!((HEAD_TIMEOUT..HEAD_TIMEOUT + Duration::from_millis(50)).contains(&took), "{took:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_never_reads_is_left_after_half_a_minute() {
        let (mut client, server) = tokio::io::duplex(256);
        client.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let start = clock::now();
        serve_request(site(Ok(b"{}")), server).await;
        let took = clock::now() - start;
        assert!((CONNECTION_TIMEOUT..CONNECTION_TIMEOUT + Duration::from_millis(50)).contains(&took), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_is_not_read_and_a_head_that_is_too_large_or_no_http_is_refused() {
        let body = "POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\nxxxx";
        let large = format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(20 << 10));
        let many = format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X: y\r\n".repeat(70));
        let waits = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n";
        let table = [(body, "405"), (&*large, "431"), (&*many, "431"), ("\x16\x03\x01\x02", "400"), (waits, "200")];
        for (sent, status) in table {
            let (text, took) = talk(sent.as_bytes()).await;
            assert_eq!((statuses(&text), took), (vec![status], Duration::ZERO), "{text}");
        }
    }
}
