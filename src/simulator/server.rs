//! The simulated API on a socket: HTTP/1.1, nothing more than the answers need.
//!
//! All connections share one thread, the caller's or one of the server's own, so that a simulator beside an export takes
//! at most one core from it. What an answer says is decided when its request has come in (after its `way`); the delay
//! follows, and a client that leaves meanwhile has been billed all the same.

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
use tokio::task::JoinSet;

use super::Simulator;
use super::answer::ApiRequest;

/// Connections that may wait to be accepted: an export opens all of its own at once.
const BACKLOG: u32 = 4096;
/// The pause after a connection could not be accepted, for example for want of a file descriptor.
const PAUSE: Duration = Duration::from_millis(10);
/// Failures in a row after which there is no hope: a second of them.
const MAX_FAILURES: u32 = 100;

/// Serves until `shutdown` is there; then every connection is cut.
pub async fn serve(
    simulator: Arc<Simulator>,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let mut connections = JoinSet::new();
    let mut failures = 0;
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => return Ok(()),
            Some(_ended) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    failures = 0;
                    connections.spawn(converse(Arc::clone(&simulator), stream));
                }
                Err(error) if failures == MAX_FAILURES => return Err(error),
                Err(_) => {
                    failures += 1;
                    tokio::time::sleep(PAUSE).await;
                }
            },
        }
    }
}

/// Answers the requests of one connection. A broken connection is the client's affair.
async fn converse(simulator: Arc<Simulator>, stream: TcpStream) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let service = service_fn(move |request| respond(Arc::clone(&simulator), request));
    let mut http = http1::Builder::new();
    http.auto_date_header(false).header_read_timeout(None).half_close(false);
    // An error here says that the client left or spoke no HTTP; there is nobody to tell.
    if http.serve_connection(TokioIo::new(stream), service).await.is_err() {}
}

async fn respond(simulator: Arc<Simulator>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::new(Full::default());
    if request.method() != Method::GET {
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        return Ok(response);
    }
    let way = simulator.way();
    if !way.is_zero() {
        tokio::time::sleep(way).await;
    }
    let answer = simulator.answer(&ApiRequest {
        path: request.uri().path(),
        query: request.uri().query().unwrap_or_default(),
        authorization: request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok()),
    });
    if !answer.delay.is_zero() {
        tokio::time::sleep(answer.delay).await;
    }
    let accepted = request.headers().get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let packed = if simulator.settings().packs { packed(&answer.body, accepted) } else { None };
    if let Some((coding, _)) = packed {
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static(coding));
    }
    let body = packed.map_or(answer.body, |(_, body)| body);
    let carriage = simulator.carriage(body.len());
    if !carriage.is_zero() {
        tokio::time::sleep(carriage).await;
    }
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    *response.body_mut() = Full::new(body);
    Ok(response)
}

/// A body in the best coding of those that are accepted, and its name; none where none of them is.
fn packed(body: &[u8], accepted: &str) -> Option<(&'static str, Bytes)> {
    if accepted.contains("zstd") {
        return zstd::bulk::compress(body, zstd::DEFAULT_COMPRESSION_LEVEL).ok().map(|body| ("zstd", body.into()));
    }
    if !accepted.contains("gzip") {
        return None;
    }
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    let packed = encoder.write_all(body).and_then(|()| encoder.finish());
    packed.ok().map(|body| ("gzip", body.into()))
}

/// A simulator that is being served on a thread of its own. Dropping it ends it.
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
            // A sender that is gone says the same as one that has sent.
            if stopped.await.is_err() {}
        }))
    })?;
    Ok(Server { address, running: Some((stop, thread)) })
}

impl Server {
    /// Scheme, host and port.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends it and says whether it had failed before.
    pub fn stop(mut self) -> io::Result<()> {
        self.end()
    }

    fn end(&mut self) -> io::Result<()> {
        let Some((stop, thread)) = self.running.take() else {
            return Ok(());
        };
        drop(stop);
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the simulator's thread panicked")))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Whoever wants to know calls `stop`.
        if self.end().is_err() {}
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

    /// Sends requests over one connection, the last of which asks to close it.
    fn converse(address: &str, heads: &[String]) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "{}Connection: close\r\n\r\n", heads.join("\r\n")).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn pages_come_over_http_and_a_stopped_server_is_gone() {
        let endpoint = Endpoint::parse(BUILT_IN).unwrap();
        let simulator = Arc::new(Simulator::new(&endpoint, "latency=1ms".parse().unwrap()).unwrap());
        let server = start(Arc::clone(&simulator)).unwrap();
        let address = server.base_url().strip_prefix("http://").unwrap().to_owned();
        let head = |method: &str, rest: &str| {
            let target = format!("{}?product_id=5&page_num=1&page_size=10", endpoint.path);
            format!("{method} {target} HTTP/1.1\r\nHost: x\r\n{rest}")
        };
        let key = "Authorization: Bearer k\r\n";
        let told = converse(&address, &[head("GET", key), head("GET", ""), head("POST", key)]);
        let statuses: Vec<&str> = told.split("HTTP/1.1 ").skip(1).filter_map(|answer| answer.get(..3)).collect();
        assert_eq!(statuses, ["200", "401", "405"]);
        assert!(told.contains("content-type: application/json") && told.contains("\"requestId\""));
        assert_eq!((simulator.account().requests, simulator.account().pages), (2, 1));
        server.stop().unwrap();
        assert!(TcpStream::connect(&address).is_err());
    }
}
