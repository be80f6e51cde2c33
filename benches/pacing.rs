//! How much of a limit is used, and the share of 429s: `cargo bench --bench pacing`, a table in Markdown.
//!
//! Up to 50 requests a second an hour of virtual time with nothing but the rate limiter; above, real requests through the dispatcher
//! and the HTTP client to the embedded API on a thread of its own: ten seconds after ten seconds of settling in, or eighty where
//! a window's end is to be found. `auto` rows are an hour of virtual time with the search. Words after `--` choose rows by
//! their first columns, as in `-- 500 window` or `-- auto`.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench that cannot be set up has no figures")]

#[path = "../tests/runs/pacing/client.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod client;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use client::{LimitedClient, Responses, Way, qps};
use pagehaul::endpoint::{BUILT_IN, Codes, Endpoint};
use pagehaul::fetch::classify::{Failure, Verdict};
use pagehaul::fetch::dispatcher::{DispatchMode, Dispatcher, FetchOutcome};
use pagehaul::fetch::rate_limit::RateLimiter;
use pagehaul::fetch::{HttpApi, HttpSettings};
use pagehaul::model::clock;
use pagehaul::model::page::{AttemptId, ItemId, ItemIx, PageNum, Request};
use pagehaul::settings::RateLimit;
use pagehaul::simulator::{LimitSpec, Simulator, SimulatorSettings, Window, start};
use tokio::sync::{mpsc, watch};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const WARM: Duration = Duration::from_secs(10);
const WARM_WINDOW: Duration = Duration::from_secs(80);
const MEASURED: Duration = Duration::from_secs(10);
/// Requests that may be in flight.
const IN_FLIGHT: usize = 2_048;

/// The rate limiter alone, in virtual time.
fn virtually(asked: RateLimit, limit: LimitSpec, way: Way, time: Duration) -> Responses {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async { LimitedClient::new(asked, limit, way).work(time).await })
}

/// The dispatcher and the client against the embedded API.
fn on_the_wire(limit: LimitSpec, way: Way) -> Responses {
    let endpoint = Endpoint::parse(BUILT_IN).unwrap();
    let settings = SimulatorSettings {
        qps: Some(limit.per_second),
        limit: limit.window,
        burst: limit.burst,
        phase: limit.phase,
        request_latency: way.least,
        request_jitter: way.jitter,
        max_videos: 1,
        ..SimulatorSettings::default()
    };
    let server = start(Arc::new(Simulator::new(&endpoint, settings).unwrap())).unwrap();
    let http = HttpSettings {
        base_url: server.base_url().parse().unwrap(),
        api_key: "bench".to_owned().into(),
        page_size: 1,
        sort: None,
        connections: IN_FLIGHT,
        compressed: false,
        connect_timeout: Duration::from_secs(5),
        is_loopback: true,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let asked = RateLimit::PerSecond(f64::from(limit.per_second.get()));
    let warm = if limit.window == Window::Fixed && way == Way::FAR { WARM_WINDOW } else { WARM };
    runtime.block_on(measure(HttpApi::new(&endpoint, http).unwrap(), asked, warm))
}

async fn measure(api: HttpApi, asked: RateLimit, warm: Duration) -> Responses {
    let (_mode_sender, mode) = watch::channel(DispatchMode::Send);
    let dispatcher = Dispatcher {
        api: Arc::new(api),
        rate_limiter: Arc::new(RateLimiter::new(asked)),
        timeout: Duration::from_secs(30),
        drain_timeout: Duration::from_secs(1),
        codes: Arc::new(Codes { success: vec![0], ..Codes::default() }),
        mode,
    };
    let (to_dispatch, queue) = mpsc::channel(64);
    let (outcome_sender, mut outcomes) = mpsc::channel::<FetchOutcome>(IN_FLIGHT);
    let begin = clock::now() + warm;
    let end = begin + MEASURED;
    let asking = async {
        for number in 0.. {
            let request =
                Request { attempt: AttemptId(number), item: ItemIx(number), id: ItemId::new("17"), page: PageNum(1) };
            if clock::now() >= end || to_dispatch.send(request).await.is_err() {
                break;
            }
        }
        drop(to_dispatch);
    };
    let counting = async {
        let mut responses = Responses::default();
        while let Some(outcome) = outcomes.recv().await {
            if (begin..end).contains(&clock::now()) {
                let refused = matches!(outcome.classification.verdict, Verdict::Failed(Failure::Throttled(_)));
                responses.refused += u32::from(refused);
                responses.passed += u32::from(outcome.classification.verdict == Verdict::Page);
            }
        }
        responses
    };
    let (sent, (), responses) = tokio::join!(dispatcher.run(queue, outcome_sender), asking, counting);
    sent.unwrap();
    responses
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    // To see that it still works: a minute of virtual time, and of the wire the one cell that needs no settling in.
    let is_quick = std::env::args().any(|word| word == "--quick");
    println!("| requests/s | limit | way there | used | 429 |\n|---|---|---|---|---|");
    let (numbers, auto) =
        ([5, 10, 50, 500, 5_000].map(|rate| (rate, "")), [5, 10, 50, 500].map(|rate| (rate, "auto ")));
    for (rate, kind) in numbers.into_iter().chain(auto) {
        let one = LimitSpec { burst: NonZeroU32::new(1), ..qps(rate, Window::Bucket) };
        let limits = [
            ("bucket", qps(rate, Window::Bucket)),
            ("window", qps(rate, Window::Fixed)),
            ("sliding", qps(rate, Window::Sliding)),
            ("bucket of 1", one),
        ];
        for (name, limit) in limits {
            for (far, way) in [("0", Way::NONE), ("80 ± 40 ms", Way::FAR)] {
                let label = format!("{kind}{rate} | {name} | {far}");
                if !words.iter().all(|word| label.split([' ', '|']).any(|part| part == word)) {
                    continue;
                }
                let asked = if kind.is_empty() { RateLimit::PerSecond(f64::from(rate)) } else { RateLimit::Auto(None) };
                let is_virtual = rate <= 50 || !kind.is_empty();
                if is_quick && !is_virtual && label != "500 | bucket | 0" {
                    continue;
                }
                let time = match (is_virtual, is_quick) {
                    (true, true) => MINUTE,
                    (true, false) => HOUR,
                    (false, _) => MEASURED,
                };
                let responses = if is_virtual { virtually(asked, limit, way, time) } else { on_the_wire(limit, way) };
                let used = f64::from(responses.passed) / (f64::from(rate) * time.as_secs_f64());
                println!("| {label} | {:.2} % | {:.3} % |", used * 100.0, responses.refused_share() * 100.0);
            }
        }
    }
}
