//! How many requests a second: at most what was asked for, less while the server refuses some, found out where nobody knows.
//!
//! Four stages. *Seek*: double every second until the first 429. *Settle*: after one, go half the way back to the rate that
//! was known to pass, then count; as long as some of the answers are 429, the rate becomes what passes. *Climb*: back up to
//! the rate at which refusals began, slower the nearer it is, stay, and only then go beyond, slowly at first and then ever
//! faster. The next 429 begins it all again.
//!
//! Where the parts come from: doubling is TCP's slow start and the climb's cubic is CUBIC (RFC 9438, sections 4.2 and 4.10);
//! the way back by half is BIC's binary search; cutting by the share that was refused is DCTCP's answer to marks (RFC 8257);
//! growing only while the rate is used is congestion window validation (RFC 7661). What is new is that a probe has its price:
//! the more 429s it made, the longer until the next one, so that their share of all answers is bounded.

use std::time::Duration;

use tokio::time::Instant;

/// Where an unknown limit is sought from, requests a second.
const FIRST: f64 = 5.0;
/// Lowest rate that refusals may lead to, requests a second.
const FLOOR: f64 = 0.1;
/// What a first 429 takes off, and how far below the refused rate a climb begins. Smaller than CUBIC's three tenths, because
/// a limiter's edge is sharp and a 429 costs no page.
const BACK: f64 = 0.02;
/// Least that is left when nearly everything is refused.
const LEAST: f64 = 0.25;
/// Answers that a count must have.
const SAMPLE: u32 = 20;
/// And the time that they must span: a server that counts by the second says yes, yes, no, no.
const SPAN: Duration = Duration::from_secs(1);
/// Refusals of a probe, as a share of all answers until the next one, and the longest time until then: under a number that was
/// given, which is believed, and where the limit is to be found out and followed.
const PRICE_ASKED: Price = Price { share: 0.001, longest: Duration::from_secs(600) };
const PRICE_AUTO: Price = Price { share: 0.003, longest: Duration::from_secs(120) };
/// The wait for a probe's answer is a price, too: so many times as long everyone works in peace.
const PRICE_HOLD: u32 = 50;
/// Shortest time between two probes, and longest one, as far as waits say.
const SHORTEST: Duration = Duration::from_secs(5);
const LONGEST_HOLD: Duration = Duration::from_secs(3_600);
/// Beyond the known limit the rate gains [`BACK`] in this time, and eight times as much in twice this time.
const BEYOND: Duration = Duration::from_secs(5);
/// How often the rate is moved.
const STEP: Duration = Duration::from_millis(250);
/// And how many permits that must be at least.
const STEP_PERMITS: f64 = 4.0;
/// Share of the permits that must have been used for the rate to grow.
const USED: f64 = 0.75;

/// What a probe may cost.
#[derive(Clone, Copy, Debug)]
struct Price {
    share: f64,
    longest: Duration,
}

#[derive(Debug, PartialEq)]
enum RateStage {
    /// Nothing was ever refused: doubling.
    Seek,
    /// Refusals are counted until there are none.
    Settle,
    /// Towards the rate that was refused within `plateau`, and then beyond it. `since` may be moved.
    Climb { since: Instant, plateau: Duration },
}

/// Answers to requests that left since the rate was last cut.
#[derive(Debug, Default)]
struct RequestCount {
    began: Option<Instant>,
    first: Option<Instant>,
    passed: u32,
    refused: u32,
}

/// The rate that is allowed at present.
#[derive(Debug)]
pub(super) struct RateController {
    /// It is never higher.
    most: f64,
    price: Price,
    current: f64,
    /// The rate that was refused last, or is believed to be the limit.
    peak: f64,
    stage: RateStage,
    count: RequestCount,
    /// Refusals since the last climb ended, and the longest wait that they brought.
    refusals: u32,
    held: Duration,
    /// What the last first 429 took off.
    back: f64,
    /// Whether refusals were ever counted to an end.
    is_found: bool,
    /// When the rate was last moved or left alone, and permits since.
    stepped: Instant,
    permits: u32,
}

impl RateController {
    /// A rate that was asked for, and is never exceeded.
    pub(super) fn asked(rate: f64, now: Instant) -> Self {
        Self::new(rate, (rate, PRICE_ASKED), RateStage::Climb { since: now, plateau: SHORTEST }, now)
    }

    /// A limit that nobody knows, or that was so much in an earlier run.
    pub(super) fn auto(known: Option<f64>, now: Instant) -> Self {
        match known {
            None => Self::new(FIRST, (f64::INFINITY, PRICE_AUTO), RateStage::Seek, now),
            Some(peak) => {
                let climb = RateStage::Climb { since: now, plateau: SHORTEST };
                Self {
                    current: peak * (1.0 - BACK),
                    is_found: true,
                    ..Self::new(peak, (f64::INFINITY, PRICE_AUTO), climb, now)
                }
            }
        }
    }

    /// For what was as fast as it could until it was refused: half of that is where a limit is sought.
    pub(super) fn reached(rate: f64, now: Instant) -> Self {
        Self::new((rate / 2.0).max(FLOOR), (f64::INFINITY, PRICE_AUTO), RateStage::Seek, now)
    }

    fn new(rate: f64, (most, price): (f64, Price), stage: RateStage, now: Instant) -> Self {
        Self {
            most,
            price,
            current: rate,
            peak: rate,
            stage,
            count: RequestCount::default(),
            refusals: 0,
            held: Duration::ZERO,
            back: BACK,
            is_found: false,
            stepped: now,
            permits: 0,
        }
    }

    /// The refusals had another cause than the rate: it is what it was asked to be again.
    pub(super) fn pardon(&mut self, now: Instant) {
        if self.most.is_finite() {
            (self.current, self.peak) = (self.most, self.most);
            self.stage = RateStage::Climb { since: now, plateau: SHORTEST };
            self.count = RequestCount::new(now);
        }
    }

    /// Requests a second at present.
    pub(super) fn current(&self) -> f64 {
        self.current
    }

    /// What the limit seems to be, if refusals have shown it.
    pub(super) fn found(&self) -> Option<f64> {
        self.is_found.then_some(self.peak.min(self.current / (1.0 - BACK)))
    }

    /// A permit was taken.
    pub(super) fn permit(&mut self) {
        self.permits = self.permits.saturating_add(1);
    }

    /// Lets the rate grow as its stage says. True: it changed. `round` is the time that an answer takes.
    pub(super) fn step(&mut self, now: Instant, round: Duration) -> bool {
        let passed = now.saturating_duration_since(self.stepped);
        let some = Duration::from_secs_f64(STEP_PERMITS / self.current);
        let enough = if self.stage == RateStage::Seek { SPAN.max(round * 2) } else { STEP.max(some) };
        if passed < enough {
            return false;
        }
        let used = f64::from(self.permits + 1) >= self.current * passed.as_secs_f64() * USED;
        let before = self.current;
        match &mut self.stage {
            RateStage::Seek if used => self.current = (self.current * 2.0).min(self.most),
            RateStage::Climb { since, plateau } => {
                let at = now.saturating_duration_since(*since);
                if at > *plateau && !used {
                    *since += passed; // a rate that nobody uses says nothing about the next one
                } else {
                    self.current = self.current.max(self.peak * climb(at, *plateau)).min(self.most);
                }
            }
            RateStage::Seek | RateStage::Settle => {}
        }
        (self.stepped, self.permits) = (now, 0);
        (self.current - before).abs() > f64::EPSILON
    }

    /// An answer that was no 429 to a request that left at `sent`. True: the rate changed.
    pub(super) fn passed(&mut self, now: Instant, sent: Instant) -> bool {
        if !self.count.holds(sent) || self.stage != RateStage::Settle {
            return false;
        }
        self.count.passed = self.count.passed.saturating_add(1);
        self.judge(now)
    }

    /// A 429 to a request that left at `sent`, which made everyone wait so long. True: the rate changed.
    pub(super) fn refused(&mut self, now: Instant, sent: Instant, held: Duration) -> bool {
        self.refusals = self.refusals.saturating_add(1);
        let before = self.held;
        self.held = before.max(held);
        if !self.count.holds(sent) {
            return false;
        }
        let good = match self.stage {
            RateStage::Seek => self.current / 2.0,
            RateStage::Climb { .. } => self.peak,
            RateStage::Settle => {
                self.count.refused = self.count.refused.saturating_add(1);
                return self.judge(now);
            }
        };
        // After a long wait a bucket is full again and the count finds nothing: then refusals that follow each other must do.
        let again = before >= SPAN && self.current <= self.peak;
        self.back = if again { (self.back * 2.0).min(1.0 - LEAST) } else { BACK };
        let back = if self.current > good { f64::midpoint(self.current, good) } else { self.current };
        (self.refusals, self.held) = (1, held);
        self.cut(back * (1.0 - self.back), now);
        self.peak = self.current / (1.0 - BACK);
        self.stage = RateStage::Settle;
        true
    }

    /// Looks at the count, once it says something.
    fn judge(&mut self, now: Instant) -> bool {
        let RequestCount { passed, refused, .. } = self.count;
        if !self.count.is_telling(now) {
            return false;
        }
        if refused == 0 {
            let first = !self.is_found;
            self.is_found = true;
            self.peak = self.peak.min(self.current / (1.0 - BACK));
            let plateau = if first && self.most.is_infinite() { SHORTEST } else { self.plateau() };
            self.stage = RateStage::Climb { since: now, plateau };
            self.count = RequestCount::new(now);
            (self.stepped, self.permits) = (now, 0);
            return false;
        }
        let share = f64::from(passed) / f64::from(passed.saturating_add(refused));
        self.cut(self.current * share.max(LEAST), now);
        true
    }

    fn cut(&mut self, to: f64, now: Instant) {
        self.current = to.max(FLOOR.min(self.most));
        self.count = RequestCount::new(now);
        (self.stepped, self.permits) = (now, 0);
    }

    /// How long the rate stays below the one that was refused.
    fn plateau(&self) -> Duration {
        let seconds = f64::from(self.refusals) / (self.price.share * self.current);
        let by_refusals = Duration::from_secs_f64(seconds.min(self.price.longest.as_secs_f64()));
        by_refusals.max(self.held.saturating_mul(PRICE_HOLD).min(LONGEST_HOLD)).max(SHORTEST)
    }
}

/// The cubic: from [`BACK`] below 1 up to 1 within the plateau, and then beyond.
fn climb(at: Duration, plateau: Duration) -> f64 {
    let to_go = 1.0 - at.as_secs_f64() / plateau.as_secs_f64();
    if to_go >= 0.0 {
        return 1.0 - BACK * to_go.powi(3);
    }
    1.0 + BACK * (at.saturating_sub(plateau).as_secs_f64() / BEYOND.as_secs_f64()).powi(3)
}

impl RequestCount {
    fn new(now: Instant) -> Self {
        Self { began: Some(now), ..Self::default() }
    }

    /// Whether a request that left then is one of those.
    fn holds(&self, sent: Instant) -> bool {
        self.began.is_none_or(|began| sent > began)
    }

    /// Whether it says something: enough answers over enough time. Where nothing passes, waiting is the answer, not another
    /// rate.
    fn is_telling(&mut self, now: Instant) -> bool {
        let first = *self.first.get_or_insert(now);
        let answers = self.passed.saturating_add(self.refused);
        self.passed > 0 && answers >= SAMPLE && now.saturating_duration_since(first) >= SPAN
    }
}
