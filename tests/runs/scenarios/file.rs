//! A scenario as its file declares it: the world, the settings of the run, and what is expected to come of it.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use pagehaul::simulator::{self, LimitSpec};
use serde::{Deserialize, Deserializer};

use super::figures::{Figure, Range};
use crate::common::world;

/// A scenario. A key that is not known is an error: what is expected must not be skipped because of a slip.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    /// What it shows, in one sentence.
    pub(crate) says: String,
    /// The API and its lists.
    pub(crate) world: World,
    /// Settings of the run, as in a config file.
    pub(crate) run: BTreeMap<String, toml::Value>,
    /// What is expected of the whole run.
    pub(crate) expect: BTreeMap<Figure, Range>,
    /// What is expected of a part of it.
    #[serde(default)]
    pub(crate) window: Vec<Window>,
}

/// A part of a run.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Window {
    /// Since the first request.
    #[serde(deserialize_with = "time")]
    pub(crate) from: Duration,
    /// The same.
    #[serde(deserialize_with = "time")]
    pub(crate) until: Duration,
    /// What is expected of it.
    pub(crate) expect: BTreeMap<Figure, Range>,
}

/// The API and its lists. Times are counted from the first request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct World {
    /// Everything that looks random is drawn from it.
    #[serde(default)]
    pub(crate) seed: u64,
    /// The products, in order.
    pub(crate) lists: Vec<Lists>,
    /// How long an answer takes at least: half of it before the API sees the request.
    #[serde(deserialize_with = "time")]
    pub(crate) latency: Duration,
    /// How much longer it may take, any time up to this being as likely.
    #[serde(default, deserialize_with = "time")]
    pub(crate) jitter: Duration,
    /// Answers that take much longer.
    pub(crate) tail: Option<Tail>,
    /// Pages that may be billed before the account is empty.
    pub(crate) credits: Option<u64>,
    /// What the API lets pass, over time: each applies until the next one does. None: everything.
    #[serde(default)]
    pub(crate) limit: Vec<Limit>,
    /// What goes wrong, and when.
    #[serde(default)]
    pub(crate) fault: Vec<Fault>,
}

/// Products with lists of one length.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lists {
    /// How many.
    pub(crate) products: u32,
    /// Pages of each, the last one short; 0: an empty list, which takes a request as well.
    pub(crate) pages: u32,
}

/// Answers that take much longer.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tail {
    /// Their share.
    pub(crate) share: f64,
    /// How much longer.
    #[serde(deserialize_with = "time")]
    pub(crate) adds: Duration,
}

/// How requests are counted.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum By {
    /// A bucket of as many as may pass in a second.
    Bucket,
    /// A bucket of one.
    StrictBucket,
    /// Seconds that start at `phase`, each with its own count.
    FixedWindow,
    /// Any second at all.
    SlidingWindow,
    /// Requests that are with the API at one time.
    InFlight,
}

/// What the API lets pass.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limit {
    /// Since when.
    #[serde(default, deserialize_with = "time")]
    pub(crate) from: Duration,
    /// This many a second, or at a time.
    lets: NonZeroU32,
    /// How they are counted.
    by: By,
    /// How long before the first request its window started.
    #[serde(default, deserialize_with = "time")]
    phase: Duration,
    /// What a 429 requests.
    #[serde(default, deserialize_with = "some_time")]
    retry_after: Option<Duration>,
}

impl Limit {
    /// The limit as a world counts it.
    pub(crate) fn counted(&self) -> world::Limit {
        let window = match self.by {
            By::Bucket | By::StrictBucket => simulator::Window::Bucket,
            By::FixedWindow => simulator::Window::Fixed,
            By::SlidingWindow => simulator::Window::Sliding,
            By::InFlight => return self.applying(world::Limit::at_once(self.lets.get())),
        };
        let burst = NonZeroU32::new(1).filter(|_| self.by == By::StrictBucket);
        self.applying(world::Limit::new(LimitSpec { per_second: self.lets, window, burst, phase: self.phase }))
    }

    fn applying(&self, limit: world::Limit) -> world::Limit {
        limit.applying_from(self.from).asking_for(self.retry_after)
    }
}

/// Something that goes wrong.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fault {
    /// Since when.
    #[serde(default, deserialize_with = "time")]
    pub(crate) from: Duration,
    /// For how long; none: for ever.
    #[serde(default, deserialize_with = "some_time")]
    pub(crate) lasts: Option<Duration>,
    /// What.
    pub(crate) does: FailureStreak,
    /// The share of requests that are hit; none: all.
    pub(crate) share: Option<f64>,
    /// The products that are hit, as places in the list from 0, the last one not; none: all.
    pub(crate) products: Option<[u32; 2]>,
    /// Of those, one in so many is hit; none: all.
    pub(crate) every: Option<u32>,
    /// How much slower, for `is_slow`.
    pub(crate) factor: Option<u32>,
    /// What a 429 requests.
    #[serde(default, deserialize_with = "some_time")]
    pub(crate) retry_after: Option<Duration>,
}

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FailureStreak {
    /// No connection.
    RefusesConnections,
    /// The connection breaks before an answer.
    Resets,
    /// There is never an answer, and the page is billed.
    IsSilent,
    /// 500 in the API's envelope.
    Answers500,
    /// 502 with a page of HTML.
    AnswersHtml,
    /// 429 whatever the rate.
    Answers429,
    /// 401.
    RefusesTheKey,
    /// Latency times `factor`.
    IsSlow,
}

impl Scenario {
    /// Reads the file of a scenario.
    pub(crate) fn read(name: &str) -> Self {
        let path = directory().join(format!("{name}.toml"));
        let text = std::fs::read_to_string(&path).unwrap();
        toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }
}

impl World {
    /// Pages of each product, in order.
    pub(crate) fn depths(&self) -> Vec<u32> {
        self.lists.iter().flat_map(|lists| (0..lists.products).map(|_| lists.pages)).collect()
    }
}

impl Fault {
    /// Whether it may hit a product's request at a time.
    pub(crate) fn concerns(&self, product: u32, at: Duration) -> bool {
        let is_time = at >= self.from && self.lasts.is_none_or(|lasts| at < self.from + lasts);
        let [from, to] = self.products.unwrap_or([0, u32::MAX]);
        is_time && (from..to).contains(&product) && (product - from).is_multiple_of(self.every.unwrap_or(1))
    }
}

/// A setting as a text.
pub(crate) fn text(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Integer(number) => number.to_string(),
        toml::Value::Float(number) => number.to_string(),
        other => panic!("{other:?} is no setting of a scenario"),
    }
}

/// Where the scenarios are.
pub(crate) fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/runs/scenarios")
}

fn time<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len()));
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        _ => return Err(serde::de::Error::custom(format!("{text:?} is no time such as 80ms, 2s, 10m or 1h"))),
    };
    let number: f64 = number.parse().map_err(serde::de::Error::custom)?;
    Ok(Duration::from_secs_f64(number * seconds))
}

fn some_time<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    time(from).map(Some)
}
