//! Faults of the network and of HTTP, rows N1 to N22 of the catalogue: the real client against a server on loopback that
//! breaks the rules, and whole runs, so that what is lost, kept, counted and reported is seen together.
//!
//! Where a test needs a time limit to pass, what it asserts is the same however early the limit comes.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::hostile::{Authority, Evil, Wire, answer, answer_with, from_simulator, self_signed};
use crate::common::scripted::{Reply, Scripted};
use crate::common::{
    DEADLINE, Gate, Home, KEY, ReceivedRequest, assert_rows, context, endpoint, expected, fewest_requests,
    files_that_hold, ids, rows, run, simulator,
};
use pagehaul::endpoint::Codes;
use pagehaul::error::ExitCode;
use pagehaul::fetch::classify::{Failure, StopCause, Verdict};
use pagehaul::fetch::dispatcher::{DispatchMode, Dispatcher, FetchOutcome};
use pagehaul::fetch::rate_limit::RateLimiter;
use pagehaul::fetch::{BODY_CAP, ClientError, Fetch, HEAD_CAP, HEADERS, HttpApi, HttpSettings};
use pagehaul::model::clock;
use pagehaul::model::page::{AttemptId, Charge, ItemId, ItemIx, PageNum, Request};
use pagehaul::report::summary::Summary;
use pagehaul::run::export::export;
use pagehaul::simulator::Simulator;
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};

/// A limit for what would never end by itself. A loaded machine may use it up before anything was sent at all.
const SHORT: Duration = Duration::from_millis(300);

/// A page of one row, complete.
const PAGE: &str = r#"{"code":0,"message":"success","data":[{"video_id":"7","region":"ID"}],"requestId":"r"}"#;

const NO_ROUTE: Verdict = Verdict::Failed(Failure::NoConnection);
const UNAVAILABLE: Verdict = Verdict::Failed(Failure::Unavailable);
/// Something that may have been billed and cannot be used: requested once more.
const UNUSABLE: Verdict = Verdict::Failed(Failure::Unusable);
const ELSEWHERE: Verdict = Verdict::Failed(Failure::Refused(StopCause::Contract));

// --- one request ---------------------------------------------------------------------------------------------------

fn api_of(base_url: &str, connect_timeout: Duration) -> Arc<HttpApi> {
    api_with(base_url, connect_timeout, false)
}

fn api_with(base_url: &str, connect_timeout: Duration, compressed: bool) -> Arc<HttpApi> {
    let settings = HttpSettings {
        base_url: base_url.parse().unwrap(),
        api_key: KEY.to_owned().into(),
        page_size: 10,
        sort: None,
        connections: 16,
        connect_timeout,
        compressed,
        is_loopback: true,
    };
    Arc::new(HttpApi::new(&endpoint(), settings).unwrap())
}

fn api(server: &Evil) -> Arc<HttpApi> {
    api_of(&server.base_url(), DEADLINE)
}

fn request(id: &str, page: u32) -> Request {
    Request { attempt: AttemptId(1), item: ItemIx(1), id: ItemId::new(id), page: PageNum(page) }
}

/// Sends requests as a run would, all at once, and returns what `take` makes of each outcome as soon as it comes.
async fn send<F: Fetch, T>(
    api: &Arc<F>,
    requests: Vec<Request>,
    timeout: Duration,
    take: impl Fn(FetchOutcome) -> T,
) -> Vec<T> {
    let (_mode_sender, mode) = watch::channel(DispatchMode::Send);
    let rate_limiter = Arc::new(RateLimiter::new(None));
    let codes = Arc::new(Codes { success: vec![0], ..Codes::default() });
    let dispatcher = Dispatcher { api: Arc::clone(api), rate_limiter, timeout, drain_timeout: timeout, codes, mode };
    let (to_dispatch, queue) = mpsc::channel(requests.len());
    let (outcome_sender, mut outcomes) = mpsc::channel(requests.len());
    for request in requests {
        to_dispatch.send(request).await.unwrap();
    }
    drop(to_dispatch);
    let mut taken = Vec::new();
    let taking = async {
        while let Some(outcome) = outcomes.recv().await {
            taken.push(take(outcome));
        }
    };
    let (sent, ()) = tokio::join!(dispatcher.run(queue, outcome_sender), taking);
    sent.unwrap();
    taken
}

async fn ask_within<F: Fetch>(api: &Arc<F>, timeout: Duration) -> FetchOutcome {
    send(api, vec![request("17", 1)], timeout, |outcome| outcome).await.remove(0)
}

async fn ask<F: Fetch>(api: &Arc<F>) -> FetchOutcome {
    ask_within(api, DEADLINE).await
}

/// Fails unless an attempt ended like this, saying these words on one line, and the key is not among them.
fn assert_outcome(case: &str, outcome: &FetchOutcome, verdict: &Verdict, charge: Charge, words: &str) {
    assert_eq!(
        (&outcome.classification.verdict, outcome.classification.charge),
        (verdict, charge),
        "{case}: {outcome:?}"
    );
    assert!(outcome.message.contains(words), "{case}: {:?} lacks {words:?}", outcome.message);
    assert!(
        !outcome.message.contains("CANARY") && !outcome.message.chars().any(char::is_control),
        "{case}: {outcome:?}"
    );
}

/// Writes this answer to the first request of each connection and closes it. The attempt must end like that.
async fn assert_answer(case: &str, message: Vec<u8>, verdict: &Verdict, words: &str) {
    let server = Evil::start(move |wire| {
        wire.request();
        wire.say(&message);
    });
    let charge = if *verdict == Verdict::Page { Charge::Billed } else { Charge::InDoubt };
    assert_outcome(case, &ask(&api(&server)).await, verdict, charge, words);
    assert_eq!(server.requests(), 1, "{case}: nothing below us may send it again");
}

// --- whole runs ----------------------------------------------------------------------------------------------------

/// A run that starts anew in a directory of its own.
async fn run_with<F: Fetch>(api: Arc<F>, ids: &[String], more: &[(&str, &str)]) -> (TempDir, Summary) {
    let directory = tempfile::tempdir().unwrap();
    let quick = [("retry_base_delay", "1ms"), ("retry_max_delay", "2ms"), ("max_in_flight", "8")];
    let context = context(directory.path(), None, &[&quick, more].concat());
    let list: Vec<_> = ids.iter().map(|id| Ok(ItemId::new(id))).collect();
    let summary = export(&context, Box::new(list.into_iter()), api, std::future::pending()).await.unwrap();
    (directory, summary)
}

/// Fails unless every row is there once, and what the API charged is between what is known and what is in doubt.
fn assert_nothing_lost(done: &(TempDir, Summary), simulator: &Simulator, ids: &[String]) {
    let (directory, summary) = done;
    assert_eq!(summary.exit, ExitCode::Complete, "{summary}");
    assert_rows(directory.path(), &expected(simulator, ids, 10));
    let (charged, credits) = (simulator.account().pages, summary.totals.credits);
    assert!((credits.billed..=credits.billed + credits.in_doubt).contains(&charged), "{charged} charged: {summary}");
}

/// An API that answers from a simulator, but what it says first of each page is spoilt: the function is given the right
/// answer, which is paid for, writes what it likes of it and says whether the connection continues.
fn spoiling(
    simulator: &Arc<Simulator>,
    spoil: impl Fn(&mut Wire, &ReceivedRequest, &[u8]) -> bool + Send + Sync + 'static,
) -> Evil {
    let (simulator, known) = (Arc::clone(simulator), Mutex::new(BTreeSet::new()));
    Evil::start(move |wire| {
        while let Some(request) = wire.request() {
            let right = from_simulator(&simulator, &request);
            let first = known.lock().unwrap().insert((request.product.clone(), request.page));
            let goes_on = if first { spoil(wire, &request, &right) } else { wire.say(&right) };
            if !goes_on {
                return;
            }
        }
    })
}

/// A product whose page is always answered by this script is given up after two requests that stay in doubt, the other
/// product is exported whole, and the run says which one failed and why.
async fn assert_given_up_after_two<T>(
    case: &str,
    words: &str,
    script: impl Fn(&mut Wire) -> T + Send + Sync + 'static,
) {
    let simulator = simulator("products=40,max_videos=25");
    let ids: Vec<String> = ids(&simulator).into_iter().filter(|id| simulator.videos(id) > 0).take(2).collect();
    let (good, bad) = (ids[0].clone(), ids[1].clone());
    let requested_bad = Arc::new(AtomicUsize::new(0));
    let server = Evil::start({
        let (simulator, bad, requested_bad) = (Arc::clone(&simulator), bad.clone(), Arc::clone(&requested_bad));
        move |wire| {
            while let Some(request) = wire.request() {
                if request.product == bad {
                    requested_bad.fetch_add(1, Ordering::SeqCst);
                    script(wire); // and whether the connection continues is for the client to say
                } else {
                    wire.say(from_simulator(&simulator, &request));
                }
            }
        }
    });
    let (directory, summary) = run_with(api(&server), &ids, &[]).await;
    assert_eq!(summary.exit, ExitCode::Partial, "{case}: {summary}");
    assert_eq!(requested_bad.load(Ordering::SeqCst), 2, "{case}");
    assert_eq!((summary.totals.products.failed, summary.totals.credits.in_doubt), (1, 2), "{case}: {summary}");
    let failure = &summary.totals.failures[0];
    let message = failure.error.as_deref().unwrap_or_default();
    assert!(failure.product == bad && message.contains(words), "{case}: {failure:?}");
    assert_rows(directory.path(), &expected(&simulator, &[good], 10));
}

// --- N1, N2: no connection -----------------------------------------------------------------------------------------

#[tokio::test]
async fn n1_a_name_that_does_not_resolve_costs_nothing_is_named_and_ends_the_run_as_temporary() {
    // No part of a name may be so long: the resolver refuses it without asking anybody.
    let host = format!("{}.invalid", "a".repeat(64));
    let api = api_of(&format!("http://{host}"), DEADLINE);
    let named = format!("cannot connect to the API: {host}:80");
    assert_outcome("N1", &ask(&api).await, &NO_ROUTE, Charge::Free, &named);
    let (_directory, summary) = run_with(api, &["17".to_owned()], &[("max_outage", "50ms")]).await;
    assert_eq!(summary.exit, ExitCode::Temporary, "{summary}");
    assert_eq!(
        (summary.totals.credits.billed, summary.totals.credits.in_doubt, summary.totals.products.open),
        (0, 0, 1),
        "{summary}"
    );
    assert!(summary.cause.unwrap().contains(&named));
}

#[tokio::test]
async fn n2_a_refused_connection_costs_nothing_and_ends_the_run_as_temporary() {
    // Bound and never listening: nobody else can get this port.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let port = socket.local_addr().unwrap().as_socket().unwrap().port();
    let api = api_of(&format!("http://127.0.0.1:{port}"), DEADLINE);
    let named = format!("cannot connect to the API: 127.0.0.1:{port}");
    assert_outcome("refused", &ask(&api).await, &NO_ROUTE, Charge::Free, &named);
    let (_directory, summary) = run_with(api, &["17".to_owned()], &[("max_outage", "50ms")]).await;
    assert_eq!((summary.exit, summary.totals.credits.in_doubt), (ExitCode::Temporary, 0), "{summary}");
}

#[tokio::test]
async fn n2_a_connection_that_never_comes_about_ends_at_its_own_limit_and_costs_nothing() {
    // It takes the connection and never shakes hands.
    let server = Evil::start(Wire::hold);
    let api = api_of(&server.base_url().replace("http:", "https:"), SHORT);
    assert_outcome("black hole", &ask(&api).await, &NO_ROUTE, Charge::Free, "cannot connect to the API");
    assert_eq!(server.requests(), 0);
}

// --- N3, N4: broken, stalled ---------------------------------------------------------------------------------------

#[tokio::test]
async fn n3_a_reset_in_the_middle_of_a_response_is_in_doubt_and_requested_again() {
    let reset = |wire: &mut Wire| {
        wire.request();
        wire.will_reset();
        wire.say(&answer(200, PAGE)[..80]);
    };
    let server = Evil::start(reset);
    assert_outcome("N3", &ask(&api(&server)).await, &UNAVAILABLE, Charge::InDoubt, "the connection broke");

    let simulator = simulator("products=6,max_videos=35");
    let ids = ids(&simulator);
    let server = spoiling(&simulator, |wire, _, right| {
        wire.will_reset();
        wire.say(&right[..right.len() / 2]);
        false
    });
    let done = run_with(api(&server), &ids, &[]).await;
    assert_nothing_lost(&done, &simulator, &ids);
    let pages = fewest_requests(&simulator, &ids);
    let (billed, in_doubt) = (done.1.totals.credits.billed, done.1.totals.credits.in_doubt);
    assert_eq!((billed, in_doubt, simulator.account().pages), (pages, pages, 2 * pages), "every first answer was lost");
}

#[tokio::test]
async fn n4_a_body_that_stalls_after_its_first_byte_ends_at_the_limit_for_whole_responses() {
    let server = Evil::start(|wire| {
        wire.request();
        wire.say(&answer(200, PAGE)[..60]);
        wire.hold();
    });
    let outcome = ask_within(&api(&server), SHORT).await;
    assert_outcome("N4", &outcome, &UNAVAILABLE, Charge::InDoubt, "no whole response in time");
}

#[tokio::test(start_paused = true)]
async fn n4_a_response_that_never_comes_ends_after_exactly_the_limit() {
    let (started, limit) = (clock::now(), Duration::from_secs(30));
    let outcome = ask_within(&Scripted::new(|_| Reply::never()), limit).await;
    assert_outcome("N4", &outcome, &UNAVAILABLE, Charge::InDoubt, "no whole response in time");
    assert_eq!(clock::now() - started, limit);
}

// --- N5 to N8: too much --------------------------------------------------------------------------------------------

#[tokio::test]
async fn n5_a_body_without_end_is_cut_at_its_cap_and_requested_once_more_only() {
    let chunks = |wire: &mut Wire| {
        wire.say("HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n");
        wire.flood(format!("10000\r\n{}\r\n", "7".repeat(0x10000)));
    };
    let announced = |wire: &mut Wire| {
        wire.say("HTTP/1.1 200 x\r\nContent-Length: 9223372036854775807\r\n\r\n{");
        wire.flood("7".repeat(0x10000));
    };
    let unframed = |wire: &mut Wire| {
        wire.say("HTTP/1.1 200 x\r\n\r\n{");
        wire.flood(" ".repeat(0x10000));
    };
    let words = "the response is larger than 8 MiB";
    assert_eq!(BODY_CAP, 8 << 20);
    assert_given_up_after_two("chunks", words, chunks).await;
    assert_given_up_after_two("announced", words, announced).await;
    assert_given_up_after_two("unframed", words, unframed).await;
}

#[tokio::test]
async fn n6_a_response_that_is_compressed_unasked_is_no_page_and_is_never_decompressed() {
    let bomb = zstd::bulk::compress(&vec![b' '; 64 << 20], 1).unwrap();
    assert!(bomb.len() < 64 << 10);
    let compressed_page = zstd::bulk::compress(PAGE.as_bytes(), 1).unwrap();
    let gzip = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff".repeat(100);
    let (zstd, gzip_words) = (
        "compressed with zstd, which was not requested: run again with --compressed",
        "compressed with gzip, which was not requested: run again with --compressed",
    );
    for (coding, body, words) in [
        ("zstd", bomb, zstd),
        ("zstd", compressed_page, zstd),
        ("gzip", gzip.clone(), gzip_words),
        ("gzip, gzip", gzip, "compressed with gzip, gzip, which was not requested: only gzip and zstd can be read"),
        ("br", b"\x1b\x3a\x00\xf8\x05".repeat(9), "compressed with br, which was not requested: only gzip"),
        ("deflate", b"\x78\x9c\x00\xf8\x05".repeat(9), "compressed with deflate, which was not requested: only gzip"),
        ("x-unheard-of", b"\x00\x01\x02".to_vec(), "compressed with x-unheard-of"),
    ] {
        let message = answer_with(200, &format!("Content-Encoding: {coding}\r\n"), &body);
        let server = Evil::start(move |wire| {
            let head = wire.head().unwrap_or_default().to_ascii_lowercase();
            assert!(head.contains("\r\naccept-encoding: identity\r\n"), "{head}");
            wire.say(&message);
        });
        let outcome = ask(&api(&server)).await;
        assert_outcome(coding, &outcome, &UNUSABLE, Charge::InDoubt, words);
        assert_eq!(outcome.response.unwrap().body, body, "evidence is kept as it came");
    }
    // A label alone makes no garbage of an answer that is whole and paid for.
    let mislabelled = answer_with(200, "Content-Encoding: gzip\r\n", PAGE);
    assert_answer("mislabelled", mislabelled, &Verdict::Page, "").await;
    assert_given_up_after_two("N6", gzip_words, |wire| {
        wire.say(answer_with(200, "Content-Encoding: gzip\r\n", b"\x1f\x8b\x08\x00"));
    })
    .await;
}

#[tokio::test]
async fn n6_a_response_that_is_compressed_as_requested_is_decompressed_up_to_the_cap_and_kept_so() {
    let compressed_page = zstd::bulk::compress(PAGE.as_bytes(), 1).unwrap();
    let bomb = zstd::bulk::compress(&vec![b' '; 64 << 20], 1).unwrap();
    let cut = compressed_page[..compressed_page.len() - 4].to_vec();
    let too_large = "the response is larger than 8 MiB";
    for (coding, body, verdict, words) in [
        ("zstd", compressed_page, Verdict::Page, ""),
        ("zstd", bomb, UNUSABLE, too_large),
        ("zstd", cut, UNUSABLE, "the response is not valid HTTP"),
        ("gzip", b"\x1f\x8b\x08\x00".to_vec(), UNUSABLE, "the response is not valid HTTP"),
        ("gzip", PAGE.as_bytes().to_vec(), Verdict::Page, ""),
    ] {
        let message = answer_with(200, &format!("Content-Encoding: {coding}\r\n"), &body);
        let server = Evil::start(move |wire| {
            let head = wire.head().unwrap_or_default().to_ascii_lowercase();
            assert!(head.contains("\r\naccept-encoding: zstd, gzip\r\n"), "{head}");
            wire.say(&message);
        });
        let outcome = ask(&api_with(&server.base_url(), DEADLINE, true)).await;
        let charge = if verdict == Verdict::Page { Charge::Billed } else { Charge::InDoubt };
        assert_outcome(coding, &outcome, &verdict, charge, words);
        if let Some(answer) = outcome.response {
            assert_eq!(answer.body, PAGE.as_bytes(), "{coding}");
        }
    }
}

#[tokio::test]
async fn n7_interim_responses_without_end_end_at_the_limit_for_whole_responses() {
    let server = Evil::start(|wire| {
        wire.request();
        wire.flood("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n".repeat(100));
    });
    let outcome = ask_within(&api(&server), SHORT).await;
    assert_outcome("N7", &outcome, &UNAVAILABLE, Charge::InDoubt, "no whole response in time");
    let some = ["HTTP/1.1 103 x\r\n\r\n".repeat(50).into_bytes(), answer(200, PAGE)].concat();
    assert_answer("fifty of them", some, &Verdict::Page, "").await;
}

#[tokio::test]
async fn n8_a_head_beyond_its_caps_is_requested_once_more_only() {
    let fields = |count: usize| "X: y\r\n".repeat(count);
    let long = |size: usize| format!("X-Long: {}\r\n", "y".repeat(size));
    let words = "the response is not valid HTTP";
    let larger = "its headers are larger than 64 KiB";
    let most = fields(HEADERS - 1); // its length is one more
    assert_answer("as many fields as may be", answer_with(200, &most, PAGE), &Verdict::Page, "").await;
    let more = answer_with(200, &fields(HEADERS), PAGE);
    assert_answer("a field too many", more.clone(), &UNUSABLE, words).await;
    let near = answer_with(200, &long(HEAD_CAP - 64), PAGE);
    assert_answer("a long head", near, &Verdict::Page, "").await;
    let longer = answer_with(200, &long(HEAD_CAP), PAGE);
    assert_answer("a head too long", longer.clone(), &UNUSABLE, larger).await;
    let endless = |wire: &mut Wire| {
        wire.say("HTTP/1.1 200 x\r\nX-Long: ");
        wire.flood("y".repeat(0x10000));
    };
    assert_given_up_after_two("fields", words, move |wire| wire.say(&more)).await;
    assert_given_up_after_two("long", larger, move |wire| wire.say(&longer)).await;
    assert_given_up_after_two("endless", words, endless).await;
}

// --- N9 to N12: the end of an answer, and of a connection ----------------------------------------------------------

/// A page in one of the ways to say where it ends.
fn framed(way: &str, body: &str) -> Vec<u8> {
    let chunk = |part: &str| format!("{:x}\r\n{part}\r\n", part.len());
    let text = match way {
        "length" => format!("HTTP/1.1 200 x\r\nContent-Length: {}\r\n\r\n{body}", body.len()),
        "chunks" => {
            let (one, two) = body.split_at(body.len() / 2);
            format!("HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n{}{}0\r\n\r\n", chunk(one), chunk(two))
        }
        _ => format!("HTTP/1.1 200 x\r\nConnection: close\r\n\r\n{body}"),
    };
    text.into_bytes()
}

#[tokio::test]
async fn n9_a_length_that_is_wrong_or_given_twice_never_makes_a_page() {
    let broke = "the connection broke";
    let unreadable = "the response is not valid HTTP";
    let head = |fields: &str| format!("HTTP/1.1 200 x\r\n{fields}\r\n\r\n{PAGE}").into_bytes();
    let length = PAGE.len();
    let chunked = "Transfer-Encoding: chunked";
    let table = [
        ("one more", head(&format!("Content-Length: {}", length + 1)), UNAVAILABLE, broke),
        ("one less", head(&format!("Content-Length: {}", length - 1)), UNUSABLE, "the body is truncated"),
        ("none", head("Content-Length: 0"), UNUSABLE, "the body is empty"),
        ("below none", head("Content-Length: -5"), UNUSABLE, unreadable),
        ("no number", head("Content-Length: 1e2"), UNUSABLE, unreadable),
        ("two that differ", head(&format!("Content-Length: {length}\r\nContent-Length: 10")), UNUSABLE, unreadable),
        ("chunks that are none", head(chunked), UNUSABLE, unreadable),
        ("a chunk without end", head(&format!("{chunked}\r\n\r\nfffffffffffffffff")), UNUSABLE, unreadable),
        (
            "long extensions of a chunk",
            head(&format!("{chunked}\r\n\r\n1;{}", "x".repeat(0x10000))),
            UNUSABLE,
            unreadable,
        ),
        (
            "a length and chunks",
            [
                format!("HTTP/1.1 200 x\r\nContent-Length: {length}\r\n").as_bytes(),
                &framed("chunks", PAGE)["HTTP/1.1 200 x\r\n".len()..],
            ]
            .concat(),
            UNUSABLE,
            "both a length and chunks",
        ),
    ];
    for (case, message, verdict, words) in table {
        assert_answer(case, message, &verdict, words).await;
    }
    assert_given_up_after_two("one less", "the body is truncated", move |wire| {
        wire.say(format!("HTTP/1.1 200 x\r\nContent-Length: {}\r\n\r\n{PAGE}", length - 1));
    })
    .await;
}

#[tokio::test]
async fn n9_bytes_behind_a_short_length_never_answer_the_next_request() {
    let forged = PAGE.replace("\"7\"", "\"666\"");
    let message = [&answer(200, PAGE)[..], &answer(200, &forged)].concat();
    let server = Evil::start(move |wire| while wire.request().is_some() && wire.say(&message) {});
    let api = api(&server);
    for _ in 0..50 {
        let outcome = ask(&api).await;
        let body = outcome.response.as_ref().map(|answer| answer.body.as_ref());
        assert!(body.is_none_or(|body| body == PAGE.as_bytes()), "{outcome:?}");
    }
}

#[tokio::test]
async fn n10_a_body_cut_at_any_byte_is_never_a_short_page() {
    const WAYS: [&str; 3] = ["length", "chunks", "close"];
    let server = Evil::start(|wire| {
        let request = wire.request().unwrap();
        wire.say(&framed(&request.product, PAGE)[..request.page as usize]);
    });
    let api = api(&server);
    for way in WAYS {
        let whole = framed(way, PAGE);
        let requests: Vec<Request> = (0..=whole.len() as u32).map(|cut| request(way, cut)).collect();
        for requests in requests.chunks(16) {
            for outcome in send(&api, requests.to_vec(), DEADLINE, |outcome| outcome).await {
                let (case, cut) = (format!("{way}, {}", outcome.request.page), outcome.request.page.0 as usize);
                if cut == whole.len() {
                    assert_outcome(&case, &outcome, &Verdict::Page, Charge::Billed, "");
                } else {
                    // Half an answer without a length looks whole to the transport: it may be billed, so once more only.
                    let verdict = if outcome.response.is_some() { UNUSABLE } else { UNAVAILABLE };
                    assert_outcome(&case, &outcome, &verdict, Charge::InDoubt, "");
                    assert!(outcome.response.is_none() || way == "close", "{case}: {outcome:?}");
                }
            }
        }
    }

    let simulator = simulator("products=6,max_videos=35");
    let ids = ids(&simulator);
    let sent = AtomicUsize::new(0);
    let server = spoiling(&simulator, move |wire, _, right| {
        let number = sent.fetch_add(1, Ordering::SeqCst);
        let body = String::from_utf8_lossy(right).split_once("\r\n\r\n").unwrap().1.to_owned();
        let message = framed(WAYS[number % 3], &body);
        wire.say(&message[..number * 997 % message.len()]);
        false
    });
    let done = run_with(api_of(&server.base_url(), DEADLINE), &ids, &[]).await;
    assert_nothing_lost(&done, &simulator, &ids);
    assert_eq!(done.1.totals.credits.in_doubt, fewest_requests(&simulator, &ids), "every first answer was cut");
}

#[tokio::test]
async fn n11_a_server_that_closes_after_each_response_loses_no_page_of_five_hundred() {
    let simulator = simulator("products=140,max_videos=90");
    let ids = ids(&simulator);
    let fewest = fewest_requests(&simulator, &ids);
    assert!(fewest >= 500, "{fewest}");
    let server = Evil::start({
        let simulator = Arc::clone(&simulator);
        move |wire| {
            if let Some(request) = wire.request() {
                wire.say(from_simulator(&simulator, &request)); // and nothing says that the connection ends here
            }
        }
    });
    let done = run_with(api(&server), &ids, &[("lookahead", "0")]).await;
    assert_nothing_lost(&done, &simulator, &ids);
    let (credits, run) = (done.1.totals.credits, done.1.run);
    assert_eq!(credits.billed, fewest);
    assert_eq!(run.requests, credits.billed + credits.in_doubt + credits.free, "every attempt is accounted for");
    assert!(server.requests() as u64 <= credits.billed + credits.in_doubt, "what was sent is billed or in doubt");
}

#[tokio::test]
async fn n12_http_2_is_never_spoken_its_frames_are_no_response_and_a_server_that_drains_loses_no_page() {
    let settings: &[u8] = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00";
    let go_away: &[u8] = b"\x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x0b";
    let reset: &[u8] = b"\x00\x00\x04\x03\x00\x00\x00\x00\x01\x00\x00\x00\x07";
    let unreadable = "the response is not valid HTTP";
    for (case, message) in [
        ("settings", settings.to_vec()),
        ("goaway", [settings, go_away].concat()),
        ("refused stream", [settings, reset].concat()),
        ("preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
        ("version", b"HTTP/2.0 200 OK\r\n\r\n".to_vec()),
    ] {
        assert_answer(case, message, &UNUSABLE, unreadable).await;
    }
    assert_given_up_after_two("goaway", unreadable, move |wire| wire.say([settings, go_away].concat())).await;

    let simulator = simulator("products=6,max_videos=35");
    let ids = ids(&simulator);
    let server = spoiling(&simulator, |wire, _, _| {
        wire.say(answer_with(503, "Connection: close\r\nRetry-After: 0\r\n", "draining"));
        false
    });
    let done = run_with(api(&server), &ids, &[]).await;
    assert_nothing_lost(&done, &simulator, &ids);
}

// --- N13, N14: identity --------------------------------------------------------------------------------------------

/// The years of certificates that are valid now.
const NOW: (i32, i32) = (2020, 4096);

/// Exports from this server, whose root the program must trust; gives the line that says why it stopped.
fn export_under_tls(server: &Evil, trusted: &Authority, code: i32) -> String {
    let home = Home::new(&(100..112).map(|id| id.to_string()).collect::<Vec<_>>());
    let roots = home.file("roots.pem", trusted.pem().as_bytes());
    let mut command = home.export(&server.base_url(), &["--max-in-flight", "3"]);
    command.env("SSL_CERT_FILE", roots).env_remove("SSL_CERT_DIR");
    let summary = run(command).ended(code);
    assert_eq!(summary["credits"]["in_doubt"], 0, "{summary}");
    assert_eq!(summary["products"]["failed"], 0, "it is no product's fault: {summary}");
    summary["cause"].as_str().unwrap_or_default().to_owned()
}

/// A page of one row, which ends a list, to every request.
fn pages(wire: &mut Wire) {
    while wire.request().is_some() && wire.say(answer(200, PAGE)) {}
}

#[test]
fn n13_a_server_that_cannot_prove_who_it_is_ends_the_run_at_once_and_is_sent_nothing() {
    let root = Authority::root("Known");
    let good = Evil::start_tls(&root.identity("127.0.0.1", NOW), pages);
    export_under_tls(&good, &root, 0);
    assert_eq!(good.requests(), 12, "with a good certificate it works");

    let between = root.below("Between");
    for (case, identity, words) in [
        ("another host", root.identity("other.invalid", NOW), "not valid for name"),
        ("signed by itself", self_signed("127.0.0.1"), "UnknownIssuer"),
        ("signed by a stranger", Authority::root("Stranger").identity("127.0.0.1", NOW), "UnknownIssuer"),
        ("a chain with a gap", between.identity("127.0.0.1", NOW), "UnknownIssuer"),
    ] {
        let server = Evil::start_tls(&identity, pages);
        let message = export_under_tls(&server, &root, 7);
        assert!(message.contains("the API's identity: 127.0.0.1:") && message.contains(words), "{case}: {message}");
        assert_eq!(server.requests(), 0, "{case}");
        assert!((1..=3).contains(&server.connections()), "{case}: no retries, {} connections", server.connections());
    }
}

#[test]
fn n13_a_server_of_tls_1_1_ends_the_run_at_once_and_one_that_breaks_the_handshake_is_tried_again() {
    let root = Authority::root("Known");
    let mut hello = b"\x16\x03\x02\x00\x2a\x02\x00\x00\x26\x03\x02".to_vec(); // a ServerHello of TLS 1.1
    hello.extend([7; 32]);
    hello.extend(b"\x00\x00\x2f\x00");
    let alert = b"\x15\x03\x03\x00\x02\x02\x50".to_vec(); // an alert: internal error
    for (case, message, code) in [("TLS 1.1", hello, 7), ("alert", alert, 5), ("plain HTTP", answer(200, PAGE), 5)] {
        let server = Evil::start(move |wire| {
            wire.say(&message);
            wire.hold();
        });
        let home = Home::new(&["17".to_owned()]);
        let roots = home.file("roots.pem", root.pem().as_bytes());
        let impatient = ["--retry-base-delay", "1ms", "--retry-max-delay", "2ms", "--max-outage", "50ms"];
        let mut command = home.export(&server.base_url().replace("http:", "https:"), &impatient);
        command.env("SSL_CERT_FILE", roots).env_remove("SSL_CERT_DIR");
        let summary = run(command).ended(code);
        let message = summary["cause"].as_str().unwrap();
        let words = if code == 7 { "the API's identity: 127.0.0.1:" } else { "cannot connect to the API: 127.0.0.1:" };
        assert!(message.contains(words), "{case}: {message}");
        assert_eq!(server.connections() == 1, code == 7, "{case}");
        assert_eq!((server.requests(), &summary["credits"]["in_doubt"]), (0, &0.into()), "{case}: {summary}");
    }
}

#[test]
fn n14_a_certificate_that_is_not_valid_now_is_named_with_its_time_and_this_machine_s() {
    let root = Authority::root("Known");
    for (years, words) in [
        ((2019, 2020), "its certificate expired at 2020-01-01T00:00:00.000Z; this machine's clock says 20"),
        ((4000, 4096), "its certificate is valid from 4000-01-01T00:00:00.000Z; this machine's clock says 20"),
    ] {
        let server = Evil::start_tls(&root.identity("127.0.0.1", years), pages);
        let message = export_under_tls(&server, &root, 7);
        assert!(message.contains(words), "{message}");
        assert_eq!(server.requests(), 0);
    }
}

#[test]
fn n13_a_machine_without_root_certificates_is_reported_and_needs_none_for_itself() {
    let home = Home::new(&["17".to_owned()]);
    let bare = |base_url: &str| {
        let mut command = home.export(base_url, &[]);
        command.env("SSL_CERT_FILE", home.argument("none")).env_remove("SSL_CERT_DIR");
        run(command)
    };
    let refused = bare("https://127.0.0.1:1");
    assert_eq!(refused.code, Some(2), "{refused}");
    assert!(refused.stderr.contains("SSL_CERT_FILE"), "{refused}");
    bare(&Evil::start(pages).base_url()).ended(0);
}

#[test]
fn plain_http_is_refused_by_the_client_itself_unless_it_stays_on_this_machine() {
    let settings = HttpSettings {
        base_url: "http://api.invalid".parse().unwrap(),
        api_key: KEY.to_owned().into(),
        page_size: 10,
        sort: None,
        connections: 1,
        connect_timeout: SHORT,
        compressed: false,
        is_loopback: false,
    };
    assert!(matches!(HttpApi::new(&endpoint(), settings), Err(ClientError::PlainHttp)));
}

// --- N15 to N17: somebody in between -------------------------------------------------------------------------------

const PORTAL: &str = "<html>\x1b]0;owned\x07<a href='http://login.invalid/'>Log in to the hotel's network</a></html>";

#[tokio::test]
async fn n15_a_portal_s_page_is_no_page_and_its_start_is_shown_without_what_acts_on_a_terminal() {
    for fields in ["Content-Type: text/html\r\n", "Content-Type: application/json\r\n"] {
        let message = answer_with(200, fields, PORTAL);
        assert_answer(fields, message, &UNUSABLE, "HTTP 200: the body is not the documented envelope").await;
    }
    assert_given_up_after_two("N15", "not the documented envelope", |wire| wire.say(answer(200, PORTAL))).await;
}

#[test]
fn n15_a_portal_before_the_first_page_ends_the_run_soon_and_nothing_of_it_acts_on_the_screen() {
    let server = Evil::start(|wire| while wire.request().is_some() && wire.say(answer(200, PORTAL)) {});
    let home = Home::new(&(100..400).map(|id| id.to_string()).collect::<Vec<_>>());
    let done = run(home.export(&server.base_url(), &["--max-in-flight", "4", "--retry-base-delay", "1ms"]));
    done.ended(10);
    assert!(server.requests() < 60, "{} requests", server.requests());
    let shown = format!("{}{}", done.stdout, done.stderr);
    assert!(done.stderr.lines().any(|line| line.starts_with("contract: ") && line.ends_with("to the list)")), "{done}");
    assert!(shown.contains("begins: <html>\u{fffd}]0;owned") && !shown.contains('\x1b'), "{done}");
    assert_ne!(files_that_hold(&home.out(), "hotel").len(), 0, "the journal keeps it as evidence");
}

#[tokio::test]
async fn n15_a_portal_in_the_middle_of_a_run_ends_it_as_temporary_before_it_has_eaten_the_list() {
    let simulator = simulator("products=200,max_videos=15");
    let ids = ids(&simulator);
    let passed = AtomicUsize::new(0);
    let server = Evil::start({
        let simulator = Arc::clone(&simulator);
        move |wire| {
            while let Some(request) = wire.request() {
                let page = from_simulator(&simulator, &request);
                let is_open = passed.fetch_add(1, Ordering::SeqCst) < 40;
                wire.say(if is_open { page } else { answer(200, PORTAL) });
            }
        }
    });
    let (_directory, summary) = run_with(api(&server), &ids, &[]).await;
    assert_eq!((summary.exit, summary.totals.credits.billed), (ExitCode::Temporary, 40), "{summary}");
    assert!(server.requests() < 100, "{} requests", server.requests());
    assert!(summary.totals.products.failed < 20 && summary.totals.products.open > 100, "{summary}");
}

#[tokio::test]
async fn n16_a_redirect_is_shown_and_never_followed() {
    let elsewhere = Evil::start(pages);
    let evil = elsewhere.base_url();
    for status in [301, 302, 303, 307, 308] {
        for target in [&evil, "http://127.0.0.1:1/", "/v1/loop", "//other.invalid/x", "", "\u{9b}31m\u{202e}", KEY] {
            let message = answer_with(status, &format!("Location: {target}\r\n"), "");
            let server = Evil::start(move |wire| while wire.request().is_some() && wire.say(&message) {});
            let outcome = ask(&api(&server)).await;
            let words = format!("the response is a redirect, which is never followed: HTTP {status} to ");
            let (case, verdict) = (format!("{status} to {target:?}"), ELSEWHERE);
            assert_outcome(&case, &outcome, &verdict, Charge::InDoubt, &words);
            assert_eq!((server.requests(), server.connections()), (1, 1), "{case}");
        }
    }
    let message = answer_with(302, &format!("Location: {evil}/v1\r\n"), "");
    let server = Evil::start(move |wire| while wire.request().is_some() && wire.say(&message) {});
    let home = Home::new(&(100..130).map(|id| id.to_string()).collect::<Vec<_>>());
    let summary = run(home.export(&server.base_url(), &["--max-in-flight", "2"])).ended(10);
    assert!(summary["cause"].as_str().unwrap().contains(&evil), "{summary}");
    assert!(server.requests() <= 2);
    assert_eq!(elsewhere.connections(), 0, "nobody came to the place that the redirects name");
}

/// An export from a host that is not this machine, through a proxy of the environment.
fn export_by_proxy(host: &str, proxy: &Evil, more: &[(&str, &str)]) -> (Home, crate::common::Run) {
    let home = Home::new(&(100..110).map(|id| id.to_string()).collect::<Vec<_>>());
    let flags = ["--qps", "1000", "--max-in-flight", "2", "--max-outage", "100ms", "--retry-base-delay", "5ms"];
    let mut command = home.export(&format!("https://{host}"), &flags);
    command.env("HTTPS_PROXY", format!("http://someone:s3cret@127.0.0.1:{}", proxy.port()));
    command.envs(more.iter().copied()).env_remove("SSL_CERT_DIR");
    let done = run(command);
    assert!(!format!("{}{}", done.stdout, done.stderr).contains("s3cret"), "{done}");
    (home, done)
}

#[test]
fn n17_a_proxy_of_the_environment_tunnels_and_sees_neither_key_nor_request() {
    const HOST: &str = "something.invalid";
    let root = Authority::root("Known");
    let server = Evil::start_tls(&root.identity(HOST, NOW), pages);
    let heads = Arc::new(Mutex::new(Vec::new()));
    let proxy = Evil::start({
        let (heads, port) = (Arc::clone(&heads), server.port());
        move |wire| {
            heads.lock().unwrap().push(wire.head().unwrap());
            wire.say("HTTP/1.1 200 Connection established\r\n\r\n");
            wire.tunnel(port);
        }
    });
    let roots = Home::new(&[]);
    let roots = (roots.file("roots.pem", root.pem().as_bytes()), roots);
    let (_home, done) = export_by_proxy(HOST, &proxy, &[("SSL_CERT_FILE", &roots.0)]);
    done.ended(0);
    assert_eq!(server.requests(), 10);
    let heads = heads.lock().unwrap();
    assert!(!heads.is_empty());
    for head in heads.iter() {
        assert!(head.starts_with("CONNECT something.invalid:443 HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("Basic c29tZW9uZTpzM2NyZXQ=") && !head.contains("CANARY"), "{head}");
    }
}

#[test]
fn n17_a_proxy_that_wants_other_credentials_ends_the_run_at_once_and_one_that_breaks_is_temporary() {
    const HOST: &str = "something.invalid";
    let refusing = Evil::start(|wire| {
        wire.head();
        wire.say("HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n");
    });
    let summary = export_by_proxy(HOST, &refusing, &[]).1.ended(7);
    assert!(summary["cause"].as_str().unwrap().contains("refused the credentials"), "{summary}");
    assert!((1..=2).contains(&refusing.connections()), "no retries: {} connections", refusing.connections());

    let cutting = Evil::start(|wire| drop(wire.head()));
    let failing = Evil::start(|wire| {
        wire.head();
        wire.say("HTTP/1.1 502 Bad Gateway\r\n\r\n");
    });
    for proxy in [cutting, failing] {
        let summary = export_by_proxy(HOST, &proxy, &[]).1.ended(5);
        assert!(summary["cause"].as_str().unwrap().contains("something.invalid:443 through the proxy"), "{summary}");
        assert_eq!((&summary["credits"]["in_doubt"], &summary["products"]["failed"]), (&0.into(), &0.into()));
    }
}

#[test]
fn n17_hosts_that_need_no_proxy_and_this_machine_are_reached_without_one() {
    let proxy = Evil::start(Wire::hold);
    // No resolver and no certificate can know this name, so nothing leaves the machine.
    let host = format!("{}.invalid", "a".repeat(64));
    export_by_proxy(&host, &proxy, &[("NO_PROXY", ".invalid")]).1.ended(5);
    let server = Evil::start(pages);
    let home = Home::new(&["17".to_owned()]);
    let mut command = home.export(&server.base_url(), &[]);
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"] {
        command.env(name, proxy.base_url());
    }
    run(command).ended(0);
    assert_eq!(proxy.connections(), 0);
}

// --- N19, N20: not what was requested ------------------------------------------------------------------------------

#[tokio::test]
async fn n19_a_response_that_is_no_envelope_is_no_page_whatever_its_status() {
    let (once, stop) = (UNUSABLE, ELSEWHERE);
    let unreadable = "the response is not valid HTTP";
    for (case, message, verdict, words) in [
        ("204", b"HTTP/1.1 204 x\r\n\r\n".to_vec(), &once, "HTTP 204"),
        ("206", answer_with(206, "Content-Range: bytes 0-9/20\r\n", PAGE), &once, "HTTP 206"),
        ("101", b"HTTP/1.1 101 x\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n".to_vec(), &once, "HTTP 101"),
        ("304", b"HTTP/1.1 304 x\r\n\r\n".to_vec(), &stop, "HTTP 304"),
        ("300", answer(300, PAGE), &stop, "HTTP 300"),
        ("empty 200", answer(200, ""), &once, "the body is empty"),
        ("blank 200", answer(200, " \r\n\t"), &once, "the body is empty"),
        ("HTTP/0.9", PAGE.as_bytes().to_vec(), &once, unreadable),
        ("another protocol", b"SSH-2.0-OpenSSH_9.9\r\n".to_vec(), &once, unreadable),
        ("ICY", b"ICY 200 OK\r\n\r\n".to_vec(), &once, unreadable),
        ("status of two digits", b"HTTP/1.1 20 OK\r\n\r\n".to_vec(), &once, unreadable),
        ("NUL in a field", b"HTTP/1.1 200 OK\r\nX: \0\r\n\r\n".to_vec(), &once, unreadable),
    ] {
        assert_answer(case, message, verdict, words).await;
    }
    assert_answer("nothing at all", Vec::new(), &UNAVAILABLE, "the connection broke").await;
    assert_given_up_after_two("204", "HTTP 204", |wire| wire.say("HTTP/1.1 204 x\r\n\r\n")).await;
    assert_given_up_after_two("HTTP/0.9", unreadable, |wire| wire.say(PAGE)).await;
}

#[test]
fn n19_a_server_that_never_gives_an_envelope_ends_the_run_as_another_api() {
    let server = Evil::start(|wire| drop((wire.request(), wire.say("NOISE\r\n\r\n"))));
    let home = Home::new(&(100..400).map(|id| id.to_string()).collect::<Vec<_>>());
    let summary =
        run(home.export(&server.base_url(), &["--max-in-flight", "4", "--retry-base-delay", "1ms"])).ended(10);
    assert!(server.requests() < 60, "{} requests", server.requests());
    assert_eq!(summary["credits"]["in_doubt"], server.requests(), "each may be billed: {summary}");
}

#[tokio::test]
async fn n20_rows_of_another_product_are_kept_as_evidence_and_published_nowhere() {
    let simulator = simulator("products=40,max_videos=25");
    let ids: Vec<String> = ids(&simulator).into_iter().filter(|id| simulator.videos(id) > 11).take(3).collect();
    let (mixed, other) = (ids[0].clone(), ids[1].clone());
    let server = Evil::start({
        let (simulator, mixed, other) = (Arc::clone(&simulator), mixed.clone(), other.clone());
        move |wire| {
            while let Some(mut request) = wire.request() {
                if request.product == mixed {
                    request.query = request.query.replace(&mixed, &other);
                }
                wire.say(from_simulator(&simulator, &request));
            }
        }
    });
    let (directory, summary) = run_with(api(&server), &ids, &[]).await;
    assert_eq!((summary.exit, summary.totals.products.failed), (ExitCode::Partial, 1), "{summary}");
    assert!(summary.totals.failures[0].error.as_deref().unwrap().contains("another product"), "{summary}");
    assert_rows(directory.path(), &expected(&simulator, &ids[1..], 10));
    assert!(rows(directory.path()).keys().all(|(product, _)| *product != mixed));
    let video = simulator.row(&other, None, 0).unwrap();
    let video = video.split("\"video_id\":\"").nth(1).unwrap().split('"').next().unwrap();
    assert_ne!(files_that_hold(directory.path(), video).len(), 0, "the journal holds the answer");
}

// --- N22: too late -------------------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn n22_responses_that_come_after_the_limit_are_exactly_what_is_in_doubt() {
    let simulator = simulator("products=40,max_videos=60");
    let ids = ids(&simulator);
    let late = |number: usize| number % 7 == 3;
    let api = Scripted::new({
        let simulator = Arc::clone(&simulator);
        move |sent| {
            let takes = if late(sent.number) { Duration::from_secs(31) } else { Duration::from_millis(80) };
            Reply::from_simulator(&simulator, sent, 10).after(takes)
        }
    });
    let done = run_with(Arc::clone(&api), &ids, &[("request_timeout", "30s")]).await;
    assert_nothing_lost(&done, &simulator, &ids);
    let (credits, sent) = (done.1.totals.credits, api.requests());
    let came_late = (1..=sent).filter(|number| late(*number)).count() as u64;
    assert!(came_late > 10);
    assert_eq!((credits.in_doubt, simulator.account().pages - credits.billed), (came_late, came_late), "{}", done.1);
}

// --- memory of bodies ----------------------------------------------------------------------------------------------

#[tokio::test]
async fn large_bodies_wait_for_each_other_but_never_in_a_circle_and_never_block_small_ones() {
    // A body past its free share, then nothing until the gate opens.
    let (gate, held) = Gate::new(0);
    let server = Evil::start({
        let gate = Arc::clone(&gate);
        move |wire| {
            while let Some(request) = wire.request() {
                let body = if request.page == 1 { PAGE.to_owned() } else { format!("{PAGE}{}", " ".repeat(200_000)) };
                let message = framed("chunks", &body); // nothing says how long it will be
                let first = if request.page == 2 { 100_000 } else { message.len() };
                wire.say(&message[..first]);
                if first < message.len() {
                    gate.pass();
                    wire.say(&message[first..]);
                }
            }
        }
    });
    let api = api(&server);
    let small = || async { assert_eq!(ask(&api).await.classification.verdict, Verdict::Page) };
    let large = |count: usize| vec![request("17", 3); count];
    // Each of four whose length is not known takes a quarter of the pool, though it is small, and keeps it as long as nobody
    // has taken its body: a fifth cannot come through, one below the free bytes can.
    let untaken = send(&api, large(4), DEADLINE, |outcome| outcome).await;
    assert!(untaken.iter().all(|outcome| outcome.response.as_ref().is_some_and(|answer| answer.share.is_some())));
    {
        let mut fifth = std::pin::pin!(send(&api, large(1), DEADLINE, |outcome| outcome.classification.verdict));
        for _ in 0..20 {
            tokio::select! {
                biased;
                _ = &mut fifth => panic!("five large bodies at a time"),
                () = small() => {}
            }
        }
        drop(untaken);
        assert_eq!(fifth.await, [Verdict::Page]);
    }
    // Twelve that stall in the middle, three times as many as fit; then all of them continue.
    let stalled = send(&api, vec![request("17", 2); 12], DEADLINE, |outcome| outcome.classification.verdict);
    let opened = async {
        for _ in 0..12 {
            while held.try_recv().is_err() {
                small().await;
            }
        }
        gate.open();
    };
    let (stalled, opened) = tokio::join!(stalled, tokio::time::timeout(DEADLINE, opened));
    opened.unwrap();
    assert_eq!(stalled, [const { Verdict::Page }; 12]);
}

#[tokio::test]
async fn a_body_whose_length_is_known_takes_no_more_of_the_pool_than_that() {
    let body = |bytes: usize| format!("{PAGE}{}", " ".repeat(bytes - PAGE.len()));
    let server = Evil::start(move |wire| {
        while let Some(request) = wire.request() {
            let message = match request.page {
                1 => answer(200, body((1 << 20) - 100)),
                2 => answer_with(200, "Content-Encoding: zstd\r\n", body(100_000)),
                3 => answer_with(200, "Content-Type: application/json; charset=ISO-8859-1\r\n", body(100_000)),
                4 => framed("chunks", &body(100_000)),
                5 => answer(200, body(BODY_CAP)),
                _ => answer(200, body(64 * 1024)),
            };
            wire.say(&message);
        }
    });
    let kib_of = async |page: u32, compressed: bool| {
        let api = api_with(&server.base_url(), DEADLINE, compressed);
        let outcome = send(&api, vec![request("17", page)], DEADLINE, |outcome| outcome).await.remove(0);
        assert_eq!(outcome.classification.verdict, Verdict::Page, "{outcome:?}");
        outcome.response.unwrap().share.map_or(0, |share| share.num_permits())
    };
    // Up to the free bytes nothing; a length in whole KiB, rounded up; the cap where a body may become more than its length.
    let whole = BODY_CAP / 1024;
    assert_eq!((kib_of(6, false).await, kib_of(1, false).await, kib_of(5, false).await), (0, 1024, whole));
    assert_eq!((kib_of(2, true).await, kib_of(2, false).await), (whole, 98));
    assert_eq!((kib_of(3, false).await, kib_of(4, false).await), (whole, whole));
    // Eight times as many as of unknown length are in flight at once, all of them whole and none of them taken.
    let api = api(&server);
    let untaken = send(&api, vec![request("17", 1); 32], DEADLINE, |outcome| outcome).await;
    assert!(
        untaken.iter().all(|outcome| outcome.classification.verdict == Verdict::Page && outcome.response.is_some())
    );
    let mut next =
        std::pin::pin!(send(&api, vec![request("17", 1)], DEADLINE, |outcome| outcome.classification.verdict));
    for _ in 0..5 {
        tokio::select! {
            biased;
            _ = &mut next => panic!("more than the pool holds"),
            arrived = send(&api, vec![request("17", 6)], DEADLINE, |outcome| outcome.classification.verdict) => {
                assert_eq!(arrived, [Verdict::Page], "one below the free bytes waits for nobody");
            }
        }
    }
    drop(untaken);
    assert_eq!(next.await, [Verdict::Page]);
}

// --- characters ----------------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_body_that_says_that_it_is_iso_8859_1_is_read_as_such_unless_it_is_utf8() {
    const LATIN: &str = "Content-Type: application/json; charset=ISO-8859-1\r\n";
    let page = |text: &[u8]| [&br#"{"code":0,"data":[{"video_id":"7","video_desc":""#[..], text, br#""}]}"#].concat();
    let text = |body: &[u8]| {
        let body: serde_json::Value = serde_json::from_slice(body).unwrap();
        body["data"][0]["video_desc"].as_str().unwrap().to_owned()
    };
    for (fields, sent, read) in [
        (LATIN, &b"Caf\xe9 \xfcber \x80"[..], "Café über €"),
        ("Content-Type: text/json;charset=\"latin1\"\r\n", b"ma\xf1ana", "mañana"),
        (LATIN, "Café, and a label that lies".as_bytes(), "Café, and a label that lies"),
        (LATIN, b"plain", "plain"),
    ] {
        let message = answer_with(200, fields, page(sent));
        let server = Evil::start(move |wire| {
            wire.request();
            wire.say(&message);
        });
        let outcome = ask(&api(&server)).await;
        assert_outcome(read, &outcome, &Verdict::Page, Charge::Billed, "");
        assert_eq!(text(&outcome.response.unwrap().body), read);
    }
    // Without the label such bytes are kept as they came, and so is what is not a page.
    for (fields, body, verdict) in [
        ("", page(b"caf\xe9"), Verdict::Page),
        (LATIN, b"<p>caf\xe9</p>".to_vec(), UNUSABLE),
        (LATIN, b"\x1f\x8b\x08\x00\xe9".to_vec(), UNUSABLE),
    ] {
        let message = answer_with(200, fields, &body);
        let server = Evil::start(move |wire| {
            wire.request();
            wire.say(&message);
        });
        let outcome = ask(&api(&server)).await;
        assert_eq!((&outcome.classification.verdict, &outcome.response.unwrap().body[..]), (&verdict, &body[..]));
    }
    // The cap applies to what a body becomes, not only to what came.
    let high = answer_with(200, LATIN, page(&vec![0xe9; BODY_CAP / 2 + 1]));
    assert_answer("too large", high, &UNUSABLE, "the response is larger than 8 MiB").await;
}

#[test]
fn rows_in_iso_8859_1_come_out_right_also_when_their_journal_is_replayed() {
    let page = [&b"{\"code\":0,\"data\":[{\"video_id\":\"7\",\"product_id\":\"17\",\"region\":\"ID\",\"video_desc\":\"Caf\xe9\"}]}"[..]].concat();
    let server = Evil::start(move |wire| {
        while wire.request().is_some() {
            wire.say(answer_with(200, "Content-Type: application/json; charset=iso-8859-1\r\n", &page));
        }
    });
    let home = Home::new(&["17".to_owned()]);
    run(home.export(&server.base_url(), &[])).ended(0);
    let described = || rows(&home.out()).into_values().map(|row| row["video_desc"].clone()).collect::<Vec<_>>();
    assert_eq!(described(), ["Café"]);
    let out = home.argument("out");
    run(crate::common::pagehaul(["replay", "--all", "--out", &out, "--progress", "none"])).ended(0);
    assert_eq!(described(), ["Café"]);
}
