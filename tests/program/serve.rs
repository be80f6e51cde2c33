//! `--serve`: what a running export shows over HTTP, to whom, and that no client delays or ends it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Instant;

use crate::common::{Answer, Api, DEADLINE, Gate, Home, KEY, Program, ids, pagehaul, run, simulator, tells_key};
use serde_json::Value;

/// An export that does not move: 30 pages are in its journal, and the API keeps back the six requests that are in flight.
struct Waiting {
    home: Home,
    api: Api,
    gate: Arc<Gate>,
    program: Program,
    address: String,
}

fn waiting(serve: &str) -> Waiting {
    let simulator = simulator("products=40,max_videos=90,seed=3");
    let (api, gate, waiting) = Api::gated(&simulator, 30);
    let home = Home::new(&ids(&simulator));
    let flags = ["--max-in-flight", "6", "--max-credits", "100000", "--serve", serve];
    let mut program = Program::start(home.export(&api.base_url(), &flags));
    let address = served(&mut program);
    for _ in 0..6 {
        waiting.recv_timeout(DEADLINE).unwrap();
    }
    // What the last answers brought becomes known right after the requests that they led to have left.
    until(|| get(&address, "/metrics").contains("\npagehaul_pages_total 30\n"));
    Waiting { home, api, gate, program, address }
}

/// The address that a program serves on, without the scheme. From any address it is reached on loopback.
fn served(program: &mut Program) -> String {
    let line = program.wait_for_line("serving http://");
    let address = line.split("http://").nth(1).unwrap().split('/').next().unwrap();
    address.replace("0.0.0.0", "127.0.0.1")
}

fn until(mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < DEADLINE, "it never came to that");
    }
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// The whole response to a request under this name.
fn ask(address: &str, method: &str, path: &str, host: &str) -> String {
    let mut stream = connect(address);
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    response
}

fn get(address: &str, path: &str) -> String {
    ask(address, "GET", path, address)
}

/// The value of a series.
fn value(metrics: &str, series: &str) -> f64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in {metrics}")).parse().unwrap()
}

#[test]
fn a_running_export_shows_what_status_shows_and_continues_undisturbed() {
    let Waiting { home, api, gate, program, address } = waiting("127.0.0.1:0");
    let flags = ["--max-in-flight", "6", "--max-credits", "100000", "--serve", &address];
    let second = run(home.export(&api.base_url(), &flags));
    assert_eq!(second.code, Some(4), "the address is in use because the export is: {second}");
    let shown = get(&address, "/status.json");
    let (head, body) = shown.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("content-type: application/json\r\n"), "{head}");
    let shown: Value = serde_json::from_str(body).unwrap();
    assert_eq!(shown, run(pagehaul(["status", "--json", "--out", &home.argument("out")])).json());
    assert_eq!((&shown["status"], &shown["in_flight"]), (&"running".into(), &6.into()));
    let metrics = get(&address, "/metrics");
    let table = [
        ("pagehaul_requests_total{result=\"page\"}", 30.0),
        ("pagehaul_credits_total{charge=\"billed\"}", 30.0),
        ("pagehaul_requests_in_flight", 6.0),
        ("pagehaul_export_credits_max", 100_000.0),
        ("pagehaul_export_rows", shown["rows"]["waiting"].as_f64().unwrap()),
        ("pagehaul_journal_waiting_bytes", shown["segments"]["open_bytes"].as_f64().unwrap()),
        ("pagehaul_products{state=\"started\"}", shown["walking"].as_f64().unwrap()),
        ("pagehaul_products{state=\"complete\"}", shown["products"]["complete"].as_f64().unwrap()),
    ];
    for (series, expected) in table {
        assert!((value(&metrics, series) - expected).abs() < 0.5, "{series}: {metrics}");
    }
    assert!(value(&metrics, "pagehaul_disk_free_bytes{disk=\"state\"}") > 0.0);
    let page = get(&address, "/");
    assert!(page.contains("content-type: text/html; charset=utf-8\r\n") && page.contains("<!DOCTYPE html>"), "{page}");
    assert!(page.contains("running") && page.trim_end().ends_with("</html>") && !page.contains("<script"), "{page}");
    assert!(get(&address, "/readyz").ends_with("\r\n\r\nready: requests flow\n"));
    assert!(get(&address, "/healthz").ends_with("\r\n\r\nok\n"));
    gate.open();
    program.end().ended(0);
    assert!(TcpStream::connect(&address).is_err(), "the server ends with the run");
}

#[test]
fn clients_that_do_nothing_keep_nobody_out_and_do_not_hold_up_the_end_of_the_run() {
    let Waiting { home: _home, api: _api, gate, program, address } = waiting("127.0.0.1:0");
    let silent: Vec<TcpStream> = (0..40).map(|_| connect(&address)).collect();
    let unfinished: Vec<TcpStream> = (0..40)
        .map(|_| {
            let mut stream = connect(&address);
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: loc").unwrap();
            stream
        })
        .collect();
    for _ in 0..20 {
        assert!(get(&address, "/metrics").starts_with("HTTP/1.1 200 OK\r\n"));
    }
    // The first ones were closed for others; the last ones are still open.
    let mut closed = silent.iter().map(|mut stream| stream.read(&mut [0]).unwrap_or_default());
    assert!(closed.all(|bytes| bytes == 0));
    let unread: Vec<TcpStream> = (0..4)
        .map(|_| {
            let mut stream = connect(&address);
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            stream
        })
        .collect();
    gate.open();
    program.end().ended(0);
    drop((unfinished, unread));
}

#[test]
fn requests_by_other_names_methods_and_paths_are_refused_over_a_real_connection() {
    let Waiting { home: _home, api: _api, gate, program, address } = waiting("localhost:0");
    let table = [
        ("GET", "/metrics", "evil.example", "421 "),
        ("GET", "/metrics", "10.0.0.1", "421 "),
        ("GET", "/metrics", "localhost:1", "200 "),
        ("POST", "/metrics", "localhost", "405 "),
        ("HEAD", "/metrics", "localhost", "200 "),
        ("GET", "/../../etc/passwd", "localhost", "404 "),
        ("GET", "http://evil.example/metrics", "localhost", "421 "),
    ];
    for (method, path, host, status) in table {
        let response = ask(&address, method, path, host);
        assert!(response.starts_with(&format!("HTTP/1.1 {status}")), "{method} {path} {host}: {response}");
        let has_metrics = response.contains("pagehaul_pages_total");
        assert_eq!(has_metrics, (method, status) == ("GET", "200 "), "{method} {path} {host}: {response}");
    }
    gate.open();
    program.end().ended(0);
}

#[test]
fn an_address_that_others_reach_is_served_with_a_warning() {
    let simulator = simulator("products=40,max_videos=90,seed=3");
    let (api, gate, waiting) = Api::gated(&simulator, 30);
    let home = Home::new(&ids(&simulator));
    let mut program = Program::start(home.export(&api.base_url(), &["--serve", "0.0.0.0:0"]));
    let address = served(&mut program);
    program.wait_for_line("there is no password");
    waiting.recv_timeout(DEADLINE).unwrap();
    for (host, status) in [("10.0.0.1:9464", "200 "), ("pagehaul:9464", "200 "), ("evil.example", "421 ")] {
        assert!(ask(&address, "GET", "/metrics", host).starts_with(&format!("HTTP/1.1 {status}")), "{host}");
    }
    gate.open();
    program.end().ended(0);
}

#[test]
fn an_address_that_cannot_be_had_is_exit_2_before_anything_is_requested_or_made() {
    let simulator = simulator("products=4,max_videos=25");
    let (home, api) = (Home::new(&ids(&simulator)), Api::from_simulator(&simulator));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap().to_string();
    let table = [
        (&*taken, "cannot serve on"),
        ("9464", "must be an address and a port"),
        ("127.0.0.1", "must be an address and a port"),
        ("example.com:80", "must be an address and a port"),
        ("127.0.0.1:65536", "must be an address and a port"),
    ];
    for (address, message) in table {
        let run = run(home.export(&api.base_url(), &["--serve", address]));
        let cause = run.ended(2)["cause"].as_str().unwrap().to_owned();
        assert!(cause.contains(message), "{run}");
    }
    assert_eq!((api.requests(), home.out().exists()), (0, false));
    drop(listener);
    run(home.export(&api.base_url(), &["--serve", &taken])).ended(0);
}

#[test]
fn the_next_run_serves_at_the_same_address_right_after_this_one() {
    let simulator = simulator("products=40,max_videos=90,seed=3");
    let (api, gate, waiting) = Api::gated(&simulator, 30);
    let home = Home::new(&ids(&simulator));
    let mut program = Program::start(home.export(&api.base_url(), &["--serve", "127.0.0.1:0"]));
    let address = served(&mut program);
    waiting.recv_timeout(DEADLINE).unwrap();
    let open = connect(&address);
    assert!(get(&address, "/metrics").contains("pagehaul_pages_total "));
    program.kill();
    gate.open();
    let mut program = Program::start(home.export(&api.base_url(), &["--serve", &address]));
    assert_eq!(served(&mut program), address);
    program.end().ended(0);
    drop(open);
}

#[test]
fn an_outage_is_named_and_what_the_api_says_shows_no_key() {
    let simulator = simulator("products=40,max_videos=90,seed=3");
    let message = format!("go away {KEY}\u{1b}[2J");
    let api = Api::but(&simulator, move |request| (request.number > 3).then(|| Answer::refusal(503, &message)));
    let home = Home::new(&ids(&simulator));
    let flags = ["--serve", "127.0.0.1:0", "--max-in-flight", "8"];
    let mut program = Program::start(home.export(&api.base_url(), &flags));
    let address = served(&mut program);
    until(|| get(&address, "/metrics").contains("\npagehaul_outage 1\n"));
    let ready = get(&address, "/readyz");
    assert!(ready.starts_with("HTTP/1.1 200 ") && ready.contains("one at a time is sent"), "{ready}");
    assert!(ready.contains("go away") && !ready.contains('\u{1b}'), "{ready}");
    for path in ["/", "/readyz", "/metrics", "/status.json", "/nothing"] {
        assert!(!tells_key(get(&address, path).as_bytes()), "{path}");
    }
    program.signal("TERM");
    program.end().ended(143);
}
