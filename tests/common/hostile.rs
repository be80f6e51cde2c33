//! The hostile fake of the API: a server on loopback that may break the rules of its transport. A script has each connection and
//! writes anything to it, in clear or under TLS with a certificate that the test has made.
//!
//! For tests of sockets, TLS and broken bytes. `api` serves well-formed responses through it, for the built program. The head of
//! `world` says when to take another fake.

#![expect(clippy::unwrap_used, reason = "what helps a test fails by panicking")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use pagehaul::simulator::Simulator;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::{Answer, ReceivedRequest};

/// The server. A script runs on a thread for each connection. The server stops when it is dropped.
pub(crate) struct Evil {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    script: Box<dyn Fn(&mut Wire) + Send + Sync>,
    tls: Option<Arc<ServerConfig>>,
    connections: AtomicUsize,
    requests: AtomicUsize,
    ended: AtomicBool,
}

impl Evil {
    /// A server that follows this script.
    pub(crate) fn start(script: impl Fn(&mut Wire) + Send + Sync + 'static) -> Self {
        Self::listen(None, Box::new(script))
    }

    /// The same under TLS.
    pub(crate) fn start_tls(identity: &Identity, script: impl Fn(&mut Wire) + Send + Sync + 'static) -> Self {
        Self::listen(Some(identity.config()), Box::new(script))
    }

    fn listen(tls: Option<Arc<ServerConfig>>, script: Box<dyn Fn(&mut Wire) + Send + Sync>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, requests) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let shared = Arc::new(Shared { script, tls, connections, requests, ended: AtomicBool::new(false) });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if serving.ended.load(Ordering::Relaxed) {
                    return;
                }
                serving.connections.fetch_add(1, Ordering::SeqCst);
                let shared = Arc::clone(&serving);
                // A connection ends with its client, which a test always outlives.
                std::thread::spawn(move || (shared.script)(&mut Wire::new(stream.unwrap(), &shared)));
            }
        });
        Self { address, shared }
    }

    /// Its port.
    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Scheme, host and port.
    pub(crate) fn base_url(&self) -> String {
        let scheme = if self.shared.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Requests that were read so far.
    pub(crate) fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }
}

impl Drop for Evil {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        // The listener checks the flag at each connection.
        TcpStream::connect(self.address).ok();
    }
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// The server's end of a connection.
pub(crate) struct Wire {
    tcp: TcpStream,
    stream: BufReader<Box<dyn Stream>>,
    shared: Arc<Shared>,
}

impl Wire {
    fn new(tcp: TcpStream, shared: &Arc<Shared>) -> Self {
        tcp.set_nodelay(true).unwrap();
        let own = tcp.try_clone().unwrap();
        let stream: Box<dyn Stream> = match &shared.tls {
            None => Box::new(own),
            Some(config) => Box::new(StreamOwned::new(ServerConnection::new(Arc::clone(config)).unwrap(), own)),
        };
        Self { tcp, stream: BufReader::new(stream), shared: Arc::clone(shared) }
    }

    /// The head of the next request, as it was sent; none when the client has left.
    pub(crate) fn head(&mut self) -> Option<String> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.stream.read_line(&mut head).unwrap_or_default() == 0 {
                return None;
            }
        }
        self.shared.requests.fetch_add(1, Ordering::SeqCst);
        Some(head)
    }

    /// The next request; none when the client has left.
    pub(crate) fn request(&mut self) -> Option<ReceivedRequest> {
        let head = self.head()?;
        let target = head.split(' ').nth(1).unwrap();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut fields = head.lines().filter_map(|line| line.split_once(':'));
        let authorization = fields.find(|(name, _)| name.eq_ignore_ascii_case("authorization"));
        let parameter = |name: &str| {
            let found = url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name);
            found.map(|(_, value)| value.into_owned()).unwrap_or_default()
        };
        Some(ReceivedRequest {
            number: 0,
            path: path.to_owned(),
            query: query.to_owned(),
            authorization: authorization.unwrap_or_default().1.trim().to_owned(),
            product: parameter("product_id"),
            page: parameter("page_num").parse().unwrap_or_default(),
        })
    }

    /// Writes; false when the client has left.
    pub(crate) fn say(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        let stream = self.stream.get_mut();
        stream.write_all(bytes.as_ref()).and_then(|()| stream.flush()).is_ok()
    }

    /// Writes the same again and again until the client leaves.
    pub(crate) fn flood(&mut self, bytes: impl AsRef<[u8]>) {
        while self.say(bytes.as_ref()) {}
    }

    /// Makes the end of the connection, at the end of the script, a reset.
    pub(crate) fn will_reset(&mut self) {
        socket2::SockRef::from(&self.tcp).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Keeps the connection open, in silence, until the client leaves.
    pub(crate) fn hold(&mut self) {
        std::io::copy(&mut self.stream, &mut std::io::sink()).ok();
    }

    /// Becomes a tunnel to another port of this machine until the client leaves.
    pub(crate) fn tunnel(&mut self, port: u16) {
        let there = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        let (mut from_there, mut to_here) = (there.try_clone().unwrap(), self.tcp.try_clone().unwrap());
        std::thread::spawn(move || std::io::copy(&mut from_there, &mut to_here).ok());
        std::io::copy(&mut self.stream, &mut &there).ok();
        there.shutdown(std::net::Shutdown::Both).ok();
    }
}

/// A response with its length in its head.
pub(crate) fn answer(status: u16, body: impl AsRef<[u8]>) -> Vec<u8> {
    answer_with(status, "", body)
}

/// The same with more header lines, each with its line end.
pub(crate) fn answer_with(status: u16, fields: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head = format!("HTTP/1.1 {status} x\r\n{fields}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// The response of an embedded API.
pub(crate) fn from_simulator(simulator: &Simulator, request: &ReceivedRequest) -> Vec<u8> {
    let Answer { status, body } = Answer::from_simulator(simulator, request);
    answer(status, body)
}

/// The certificates of a server, and its key.
pub(crate) struct Identity {
    chain: Vec<rcgen::Certificate>,
    key: KeyPair,
}

impl Identity {
    fn config(&self) -> Arc<ServerConfig> {
        let chain = self.chain.iter().map(|certificate| certificate.der().clone()).collect();
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut config = config.with_no_client_auth().with_single_cert(chain, key).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Arc::new(config)
    }
}

/// A certificate authority.
pub(crate) struct Authority {
    params: CertificateParams,
    key: KeyPair,
    own: rcgen::Certificate,
}

impl Authority {
    fn params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    }

    /// A root that no store of certificates has.
    pub(crate) fn root(name: &str) -> Self {
        let (params, key) = (Self::params(name), KeyPair::generate().unwrap());
        let own = params.self_signed(&key).unwrap();
        Self { params, key, own }
    }

    /// An authority that this one signed.
    pub(crate) fn below(&self, name: &str) -> Self {
        let (params, key) = (Self::params(name), KeyPair::generate().unwrap());
        let own = params.signed_by(&key, &self.issuer()).unwrap();
        Self { params, key, own }
    }

    fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &self.key)
    }

    /// Its own certificate in PEM.
    pub(crate) fn pem(&self) -> String {
        self.own.pem()
    }

    /// An identity for one host, valid in these years.
    pub(crate) fn identity(&self, host: &str, years: (i32, i32)) -> Identity {
        let mut params = CertificateParams::new([host.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
        params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
        let key = KeyPair::generate().unwrap();
        Identity { chain: vec![params.signed_by(&key, &self.issuer()).unwrap()], key }
    }
}

/// An identity with a self-signed certificate.
pub(crate) fn self_signed(host: &str) -> Identity {
    let (params, key) = (CertificateParams::new([host.to_owned()]).unwrap(), KeyPair::generate().unwrap());
    Identity { chain: vec![params.self_signed(&key).unwrap()], key }
}
