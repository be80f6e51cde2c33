//! Serves the simulated API over HTTP/1.1.
//!
//! All connections share one thread, so that a simulator beside an export uses at most one core. A response is decided when
//! its request is counted, and sent after its delay: a client that disconnects meanwhile has been billed.

use std::convert::Infallible;
use std::future::Future;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::oneshot;

use super::Simulator;
use super::request::ApiRequest;
use crate::model::connections::serve_connections;

/// Connections that may wait to be accepted: an export opens all of its connections at once.
const BACKLOG: u32 = 4096;

/// Serves until `shutdown` completes, then closes every connection.
pub async fn serve(
    simulator: Arc<Simulator>,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let serve = |stream| serve_requests(Arc::clone(&simulator), stream);
    tokio::select! {
        biased;
        () = shutdown => Ok(()),
        error = serve_connections(&listener, None, serve) => Err(error),
    }
}

async fn serve_requests(simulator: Arc<Simulator>, stream: TcpStream) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let service = service_fn(move |request| respond(Arc::clone(&simulator), request));
    let mut http = http1::Builder::new();
    http.auto_date_header(false).header_read_timeout(None).half_close(false);
    // On an error, the client disconnected or sent something other than HTTP.
    http.serve_connection(TokioIo::new(stream), service).await.ok();
}

async fn respond(simulator: Arc<Simulator>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut http = Response::new(Full::default());
    if request.method() != Method::GET {
        *http.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        return Ok(http);
    }
    let header = |name| request.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    wait(simulator.request_delay()).await;
    let response = simulator.respond(&ApiRequest {
        path: request.uri().path(),
        query: request.uri().query().unwrap_or_default(),
        authorization: header(AUTHORIZATION),
    });
    wait(response.delay).await;
    let accepted = header(ACCEPT_ENCODING).filter(|_| simulator.settings().compress).unwrap_or_default();
    let body = match compressed(&response.body, accepted) {
        Some((coding, body)) => {
            http.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static(coding));
            body
        }
        None => response.body,
    };
    wait(simulator.transfer_time(body.len())).await;
    *http.status_mut() = StatusCode::from_u16(response.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    http.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    *http.body_mut() = Full::new(body);
    Ok(http)
}

/// Sleeps; a timer would round nothing up to a millisecond.
async fn wait(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}

/// The name of the best accepted content coding, and the body in it; None if none is accepted.
fn compressed(body: &[u8], accepted: &str) -> Option<(&'static str, Bytes)> {
    if accepted.contains("zstd") {
        return zstd::bulk::compress(body, zstd::DEFAULT_COMPRESSION_LEVEL).ok().map(|body| ("zstd", body.into()));
    }
    if !accepted.contains("gzip") {
        return None;
    }
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    let compressed = encoder.write_all(body).and_then(|()| encoder.finish());
    compressed.ok().map(|body| ("gzip", body.into()))
}

/// A simulator that is served on a thread of its own until it is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    running: Option<(oneshot::Sender<()>, JoinHandle<io::Result<()>>)>,
}

/// Starts serving on loopback, on a free port.
pub fn start(simulator: Arc<Simulator>) -> io::Result<Server> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = {
        let _inside = runtime.enter();
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        socket.listen(BACKLOG)?
    };
    let address = listener.local_addr()?;
    let (stop, stopped) = oneshot::channel();
    let thread = std::thread::Builder::new().name("simulator".to_owned()).spawn(move || {
        runtime.block_on(serve(simulator, listener, async {
            stopped.await.ok(); // a dropped sender stops the server too
        }))
    })?;
    Ok(Server { address, running: Some((stop, thread)) })
}

impl Server {
    /// Scheme, host and port.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            drop(stop);
            thread.join().ok(); // whoever sent requests has seen that it failed
        }
    }
}

#[cfg(test)]
mod tests {
    use super::start;
    use crate::endpoint::{BUILT_IN, Endpoint};
    use crate::simulator::Simulator;
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::sync::Arc;

    /// Sends requests over one connection; the last one closes it.
    fn serve_requests(address: &str, heads: &[String]) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "{}Connection: close\r\n\r\n", heads.join("\r\n")).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn pages_are_served_over_http_and_a_stopped_server_refuses_connections() {
        let endpoint = Endpoint::parse(BUILT_IN).unwrap();
        let simulator = Arc::new(Simulator::new(&endpoint, "latency=1ms".parse().unwrap()).unwrap());
        let server = start(Arc::clone(&simulator)).unwrap();
        let address = server.base_url().strip_prefix("http://").unwrap().to_owned();
        let head = |method: &str, rest: &str| {
            let target = format!("{}?product_id=5&page_num=1&page_size=10", endpoint.path);
            format!("{method} {target} HTTP/1.1\r\nHost: x\r\n{rest}")
        };
        let key = "Authorization: Bearer k\r\n";
        let text = serve_requests(&address, &[head("GET", key), head("GET", ""), head("POST", key)]);
        let statuses: Vec<&str> = text.split("HTTP/1.1 ").skip(1).filter_map(|response| response.get(..3)).collect();
        assert_eq!(statuses, ["200", "401", "405"]);
        assert!(text.contains("content-type: application/json") && text.contains("\"requestId\""));
        assert_eq!((simulator.account().requests, simulator.account().pages), (2, 1));
        drop(server);
        assert!(TcpStream::connect(&address).is_err());
    }
}
