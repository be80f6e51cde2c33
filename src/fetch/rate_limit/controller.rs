//! How many requests a second: at most the given number, fewer while the server refuses some, discovered where no number is given.
//!
//! Three stages. *Search*: double every second until the first 429. *Measure*: after a 429, go half the way back to the rate that
//! was known to pass, then count; while some of the responses are 429, the rate becomes what passes. *Climb*: return to the rate
//! at which 429s began, more slowly the nearer it is, stay there, and only then go beyond, slowly at first and then faster and
//! faster (a probe). The next 429 starts a new measurement.
//!
//! Sources: doubling is TCP's slow start, and the climb's cubic is CUBIC (RFC 9438, sections 4.2 and 4.10); going back by half is
//! BIC's binary search; cutting by the refused share is DCTCP's reaction to marks (RFC 8257); growing only while the rate is
//! used is congestion window validation (RFC 7661). New is that a probe has a price: the more 429s it caused, the longer until
//! the next one, so that their share of all responses is bounded.

use std::time::Duration;

use tokio::time::Instant;

/// Where the search for an unknown limit starts, requests a second.
const START_RATE: f64 = 5.0;
/// Lowest rate that 429s may lead to, requests a second.
const MIN_RATE: f64 = 0.1;
/// Share of the rate that a first 429 takes off, and how far below the refused rate a climb starts. Smaller than CUBIC's three
/// tenths, because a limiter's threshold is sharp and a 429 costs no page.
const CUT: f64 = 0.02;
/// Share of the rate that remains at least when nearly everything is refused.
const MIN_REMAINDER: f64 = 0.25;
/// Responses that a measurement needs.
const MIN_SAMPLE: u32 = 20;
/// The time that it must span: a server that counts by the second first accepts all, then refuses all.
const MIN_SPAN: Duration = Duration::from_secs(1);
/// The price of probes where the limit was given, and where it is discovered and followed.
const PRICE_FIXED: Price = Price { share: 0.001, longest: Duration::from_secs(600) };
const PRICE_AUTO: Price = Price { share: 0.003, longest: Duration::from_secs(120) };
/// The wait that a probe causes is a price, too: the next one comes this many times as long after it.
const WAIT_FACTOR: u32 = 50;
/// Minimum time between two probes, and the maximum that follows from waits.
const MIN_PLATEAU: Duration = Duration::from_secs(5);
const MAX_WAIT_PLATEAU: Duration = Duration::from_secs(3_600);
/// Beyond the known limit the rate gains [`CUT`] in this time, and eight times as much in twice this time.
const PROBE_TIME: Duration = Duration::from_secs(5);
/// How often the rate is adjusted.
const STEP: Duration = Duration::from_millis(250);
/// Permits between two adjustments, at least.
const STEP_PERMITS: f64 = 4.0;
/// Share of the permits that must be used for the rate to grow.
const MIN_USED: f64 = 0.75;

/// What a probe may cost.
#[derive(Clone, Copy, Debug)]
struct Price {
    /// 429s, as a share of all responses until the next probe.
    share: f64,
    /// The maximum time until the next probe that follows from this share.
    longest: Duration,
}

#[derive(Debug, PartialEq)]
enum RateStage {
    /// There was no 429 yet: the rate doubles.
    Search,
    /// Responses are counted until none is a 429.
    Measure,
    /// Towards the refused rate within `plateau`, and then beyond it. `since` moves on while the rate is not used.
    Climb { since: Instant, plateau: Duration },
}

/// Counts the responses to requests that were sent since the rate was last cut.
#[derive(Debug, Default)]
struct ResponseCount {
    began: Option<Instant>,
    /// When the first response arrived.
    first: Option<Instant>,
    passed: u32,
    refused: u32,
}

#[derive(Debug)]
pub(super) struct RateController {
    /// The given number; infinite if there is none.
    max: f64,
    price: Price,
    /// Requests a second at present.
    pub(super) current: f64,
    /// The rate that was refused last, or is assumed to be the limit.
    peak: f64,
    stage: RateStage,
    count: ResponseCount,
    /// 429s since the last climb ended, and the longest wait that they caused.
    throttles: u32,
    longest_wait: Duration,
    /// The share that the last 429 of a climb or search took off.
    cut: f64,
    /// Whether a measurement was ever finished.
    is_discovered: bool,
    /// When the rate was last adjusted or left alone, and permits since.
    stepped: Instant,
    permits: u32,
}

impl RateController {
    /// A given number, which is never exceeded.
    pub(super) fn fixed(rate: f64, now: Instant) -> Self {
        Self::new(rate, (rate, PRICE_FIXED), RateStage::Climb { since: now, plateau: MIN_PLATEAU }, now)
    }

    /// An unknown limit. `known` is what an earlier run found.
    pub(super) fn auto(known: Option<f64>, now: Instant) -> Self {
        let Some(peak) = known else {
            return Self::new(START_RATE, (f64::INFINITY, PRICE_AUTO), RateStage::Search, now);
        };
        let climb = RateStage::Climb { since: now, plateau: MIN_PLATEAU };
        let new = Self::new(peak, (f64::INFINITY, PRICE_AUTO), climb, now);
        Self { current: peak * (1.0 - CUT), is_discovered: true, ..new }
    }

    /// After the first 429 without a limit: the search starts at half the rate that was reached.
    pub(super) fn from_reached(rate: f64, now: Instant) -> Self {
        Self::new((rate / 2.0).max(MIN_RATE), (f64::INFINITY, PRICE_AUTO), RateStage::Search, now)
    }

    fn new(rate: f64, (max, price): (f64, Price), stage: RateStage, now: Instant) -> Self {
        Self {
            max,
            price,
            current: rate,
            peak: rate,
            stage,
            count: ResponseCount::default(),
            throttles: 0,
            longest_wait: Duration::ZERO,
            cut: CUT,
            is_discovered: false,
            stepped: now,
            permits: 0,
        }
    }

    /// The 429s had another cause than the rate: returns to the given number, if there is one.
    pub(super) fn restore(&mut self, now: Instant) {
        if self.max.is_finite() {
            (self.current, self.peak) = (self.max, self.max);
            self.stage = RateStage::Climb { since: now, plateau: MIN_PLATEAU };
            self.count = ResponseCount::new(now);
        }
    }

    /// What the limit seems to be, if 429s have shown it, requests a second.
    pub(super) fn discovered(&self) -> Option<f64> {
        self.is_discovered.then_some(self.peak.min(self.current / (1.0 - CUT)))
    }

    pub(super) fn record_permit(&mut self) {
        self.permits = self.permits.saturating_add(1);
    }

    /// Lets the rate grow as its stage allows. True: it changed. `latency` is the mean time of a response.
    pub(super) fn step(&mut self, now: Instant, latency: Duration) -> bool {
        let passed = now.saturating_duration_since(self.stepped);
        let permits_time = Duration::from_secs_f64(STEP_PERMITS / self.current);
        let enough = if self.stage == RateStage::Search { MIN_SPAN.max(latency * 2) } else { STEP.max(permits_time) };
        if passed < enough {
            return false;
        }
        let is_used = f64::from(self.permits + 1) >= self.current * passed.as_secs_f64() * MIN_USED;
        let before = self.current;
        match &mut self.stage {
            RateStage::Search if is_used => self.current = (self.current * 2.0).min(self.max),
            RateStage::Climb { since, plateau } => {
                let at = now.saturating_duration_since(*since);
                if at > *plateau && !is_used {
                    *since += passed; // that an unused rate causes no 429 says nothing
                } else {
                    self.current = self.current.max(self.peak * climb(at, *plateau)).min(self.max);
                }
            }
            RateStage::Search | RateStage::Measure => {}
        }
        (self.stepped, self.permits) = (now, 0);
        (self.current - before).abs() > f64::EPSILON
    }

    /// A response that is not a 429, to a request that was sent at `sent`. True: the rate changed.
    pub(super) fn record_response(&mut self, now: Instant, sent: Instant) -> bool {
        if !self.count.includes(sent) || self.stage != RateStage::Measure {
            return false;
        }
        self.count.passed = self.count.passed.saturating_add(1);
        self.evaluate(now)
    }

    /// A 429 to a request that was sent at `sent`, and the wait that it causes. True: the rate changed.
    pub(super) fn record_throttle(&mut self, now: Instant, sent: Instant, wait: Duration) -> bool {
        self.throttles = self.throttles.saturating_add(1);
        let before = self.longest_wait;
        self.longest_wait = before.max(wait);
        if !self.count.includes(sent) {
            return false;
        }
        let good = match self.stage {
            RateStage::Search => self.current / 2.0,
            RateStage::Climb { .. } => self.peak,
            RateStage::Measure => {
                self.count.refused = self.count.refused.saturating_add(1);
                return self.evaluate(now);
            }
        };
        // After a long wait a bucket is full again, and a measurement finds nothing: then the cut grows with each 429 that follows.
        let is_repeated = before >= MIN_SPAN && self.current <= self.peak;
        self.cut = if is_repeated { (self.cut * 2.0).min(1.0 - MIN_REMAINDER) } else { CUT };
        let start = if self.current > good { f64::midpoint(self.current, good) } else { self.current };
        (self.throttles, self.longest_wait) = (1, wait);
        self.set(start * (1.0 - self.cut), now);
        self.peak = self.current / (1.0 - CUT);
        self.stage = RateStage::Measure;
        true
    }

    /// Ends or repeats the measurement, once there are enough responses.
    fn evaluate(&mut self, now: Instant) -> bool {
        let ResponseCount { passed, refused, .. } = self.count;
        if !self.count.is_sufficient(now) {
            return false;
        }
        if refused == 0 {
            let is_first = !self.is_discovered;
            self.is_discovered = true;
            self.peak = self.peak.min(self.current / (1.0 - CUT));
            let plateau = if is_first && self.max.is_infinite() { MIN_PLATEAU } else { self.plateau() };
            self.stage = RateStage::Climb { since: now, plateau };
            self.count = ResponseCount::new(now);
            (self.stepped, self.permits) = (now, 0);
            return false;
        }
        let share = f64::from(passed) / f64::from(passed.saturating_add(refused));
        self.set(self.current * share.max(MIN_REMAINDER), now);
        true
    }

    fn set(&mut self, to: f64, now: Instant) {
        self.current = to.max(MIN_RATE.min(self.max));
        self.count = ResponseCount::new(now);
        (self.stepped, self.permits) = (now, 0);
    }

    /// How long the rate stays below the one that was refused.
    fn plateau(&self) -> Duration {
        let seconds = f64::from(self.throttles) / (self.price.share * self.current);
        let by_throttles = Duration::from_secs_f64(seconds.min(self.price.longest.as_secs_f64()));
        by_throttles.max(self.longest_wait.saturating_mul(WAIT_FACTOR).min(MAX_WAIT_PLATEAU)).max(MIN_PLATEAU)
    }
}

/// The cubic, as a factor of the peak: from [`CUT`] below 1 up to 1 within the plateau, and then beyond.
fn climb(at: Duration, plateau: Duration) -> f64 {
    let to_go = 1.0 - at.as_secs_f64() / plateau.as_secs_f64();
    if to_go >= 0.0 {
        return 1.0 - CUT * to_go.powi(3);
    }
    1.0 + CUT * (at.saturating_sub(plateau).as_secs_f64() / PROBE_TIME.as_secs_f64()).powi(3)
}

impl ResponseCount {
    fn new(now: Instant) -> Self {
        Self { began: Some(now), ..Self::default() }
    }

    /// Whether a request that was sent then counts.
    fn includes(&self, sent: Instant) -> bool {
        self.began.is_none_or(|began| sent > began)
    }

    /// Whether there are enough responses over enough time. Where nothing passes, waits help, not another rate.
    fn is_sufficient(&mut self, now: Instant) -> bool {
        let first = *self.first.get_or_insert(now);
        let responses = self.passed.saturating_add(self.refused);
        self.passed > 0 && responses >= MIN_SAMPLE && now.saturating_duration_since(first) >= MIN_SPAN
    }
}
