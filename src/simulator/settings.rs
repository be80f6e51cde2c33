//! The simulated API's size, limits and faults.
//!
//! Written as `key=value,key=value` on the command line and in an export's identity. The text is canonical and omits
//! defaults, so that equal settings are equal texts.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use super::list::{MAX_VIDEOS, scramble};
use crate::settings::nearest;

/// The keys, as messages list them.
const KEYS: &str = "seed, products, qps, limit, burst, phase, request_latency, request_jitter, latency, jitter, errors, credits, key, \
                    max_videos, compress, bandwidth, record";

/// For `pagehaul simulate --help`.
pub const SETTINGS_HELP: &str = "\
Settings, separated by commas:
  seed=N                seed of all random values [default: 1]
  products=N            ids that --products prints, up to 2^46 [default: 200]
  max_videos=N          most rows of a product, up to 100000000 [default: 2000]
  qps=N                 requests a second; more get 429 [default: no limit]
  limit=KIND            counted by bucket, window (each second) or sliding (the
                        last second) [default: bucket]
  burst=N               tokens in a full bucket [default: those of a second]
  phase=TIME            age of the first window, below 1s [default: 0]
  request_latency=TIME  time until a request is counted, e.g. 20ms [default: 0]
  request_jitter=TIME   at most this much more [default: 0]
  latency=TIME          time from then to the response, e.g. 80ms [default: 0]
  jitter=TIME           at most this much more [default: 0]
  errors=SHARE          share of responses with 500, 0 to 1 [default: 0]
  credits=N             pages until all responses are 402 [default: no end]
  key=TEXT              the only accepted API key [default: any]
  compress=BOOL         compress for clients that accept it [default: false]
  bandwidth=N           bytes a second of all responses [default: no limit]
  record=BOOL           record billed pages, for tests [default: false]
";

/// The number of different ids.
const MAX_PRODUCTS: u64 = 1 << ID_BITS;
const ID_BITS: u32 = 46;
/// Ids have 19 digits and begin like those of TikTok Shop.
const FIRST_ID: u64 = 1_729_380_000_000_000_000;

/// A setting of the simulator is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SimulatorSettingsError {
    /// There is no such key.
    #[error("simulator setting {key:?} is unknown{hint}; the settings are {KEYS}")]
    Unknown {
        /// The unknown key.
        key: String,
        /// A known key that is similar; empty if there is none.
        hint: String,
    },
    /// The value is not one that the key accepts.
    #[error("simulator setting {key}: {given:?} is not {expected} (the settings are {KEYS})")]
    Value {
        /// The setting's key.
        key: String,
        /// The invalid value.
        given: String,
        /// What the key accepts.
        expected: &'static str,
    },
    /// The key has no effect without other settings.
    #[error("simulator setting {key} needs {needed} (the settings are {KEYS})")]
    Needs {
        /// The setting's key.
        key: &'static str,
        /// The missing settings.
        needed: &'static str,
    },
}

/// How requests count against the limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Window {
    /// A token bucket, refilled continuously.
    #[default]
    Bucket,
    /// Each second has its own count.
    Fixed,
    /// The second before each request.
    Sliding,
}

impl Window {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Bucket => "bucket",
            Self::Fixed => "window",
            Self::Sliding => "sliding",
        }
    }
}

/// The rate limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitSpec {
    /// Requests a second.
    pub per_second: NonZeroU32,
    /// How they are counted.
    pub window: Window,
    /// Tokens in a full bucket; `None`: those of a second.
    pub burst: Option<NonZeroU32>,
    /// Age of the fixed window when the first request comes, below a second.
    pub phase: Duration,
}

/// The simulated API's size, limits and faults.
#[derive(Clone, Debug, PartialEq)]
pub struct SimulatorSettings {
    /// Seed of all random values.
    pub seed: u64,
    /// The number of [`ids`](Self::ids). Any other id has a list too.
    pub products: u64,
    /// The rate limit; `None`: there is none.
    pub qps: Option<LimitSpec>,
    /// Least time before a request is counted and its response is decided.
    pub request_latency: Duration,
    /// Most time in addition to `request_latency`.
    pub request_jitter: Duration,
    /// Least time from then to the response.
    pub latency: Duration,
    /// Most time in addition to `latency`.
    pub jitter: Duration,
    /// Share of injected 500 responses, 0 to 1.
    pub errors: f64,
    /// Pages that are billed before the account is empty; `None`: it never is.
    pub credits: Option<u64>,
    /// The only accepted API key; `None`: any is. It is not a secret.
    pub key: Option<String>,
    /// Most rows of a product.
    pub max_videos: u64,
    /// Whether responses are compressed for clients that accept zstd or gzip.
    pub compress: bool,
    /// Bytes a second of all bodies together; `None`: no limit.
    pub bandwidth: Option<NonZeroU32>,
    /// Whether to record how often each page was billed. Costs speed and memory; for tests.
    pub record: bool,
}

impl Default for SimulatorSettings {
    fn default() -> Self {
        Self {
            seed: 1,
            products: 200,
            qps: None,
            request_latency: Duration::ZERO,
            request_jitter: Duration::ZERO,
            latency: Duration::ZERO,
            jitter: Duration::ZERO,
            errors: 0.0,
            credits: None,
            key: None,
            max_videos: 2000,
            compress: false,
            bandwidth: None,
            record: false,
        }
    }
}

impl SimulatorSettings {
    /// The ids of the simulated products, all different and 19 digits long.
    pub fn ids(&self) -> impl Iterator<Item = String> + use<> {
        let seed = self.seed;
        (0..self.products).map(move |index| scattered_id(index, seed).to_string())
    }

    /// Every key with its value as text; empty if there is none.
    fn pairs(&self) -> [(&'static str, String); 17] {
        fn text_or_empty<T: ToString>(value: Option<&T>) -> String {
            value.map(ToString::to_string).unwrap_or_default()
        }
        [
            ("seed", self.seed.to_string()),
            ("products", self.products.to_string()),
            ("qps", text_or_empty(self.qps.map(|qps| qps.per_second).as_ref())),
            ("limit", self.qps.map_or(Window::default(), |qps| qps.window).as_str().to_owned()),
            ("burst", text_or_empty(self.qps.and_then(|qps| qps.burst).as_ref())),
            ("phase", duration_text(self.qps.map_or(Duration::ZERO, |qps| qps.phase))),
            ("request_latency", duration_text(self.request_latency)),
            ("request_jitter", duration_text(self.request_jitter)),
            ("latency", duration_text(self.latency)),
            ("jitter", duration_text(self.jitter)),
            ("errors", self.errors.to_string()),
            ("credits", text_or_empty(self.credits.as_ref())),
            ("key", text_or_empty(self.key.as_ref())),
            ("max_videos", self.max_videos.to_string()),
            ("compress", self.compress.to_string()),
            ("bandwidth", text_or_empty(self.bandwidth.as_ref())),
            ("record", self.record.to_string()),
        ]
    }
}

/// Maps 0, 1, 2, … to ids that are far apart and different: each step is invertible.
fn scattered_id(index: u64, seed: u64) -> u64 {
    let mask = MAX_PRODUCTS - 1;
    let mut id = (index ^ scramble(seed)) & mask;
    for round in 0..3 {
        id = id.wrapping_mul(scramble(seed ^ round) | 1) & mask;
        id ^= id >> (ID_BITS / 2);
    }
    FIRST_ID + id
}

impl fmt::Display for SimulatorSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for ((key, value), (_, default)) in self.pairs().into_iter().zip(Self::default().pairs()) {
            if value != default {
                write!(f, "{separator}{key}={value}")?;
                separator = ",";
            }
        }
        Ok(())
    }
}

impl FromStr for SimulatorSettings {
    type Err = SimulatorSettingsError;

    fn from_str(text: &str) -> Result<Self, SimulatorSettingsError> {
        let mut settings = Self::default();
        let mut rate = None;
        let (mut window, mut burst, mut phase) = (None, None, None);
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (key, given) = part.split_once('=').unwrap_or((part, ""));
            let (key, given) = (key.trim(), given.trim());
            let value = Value { key, given };
            match key {
                "seed" => settings.seed = value.number("a whole number")?,
                "products" => settings.products = value.at_most(MAX_PRODUCTS, "a whole number up to 2^46")?,
                "qps" => rate = Some(value.number("a whole number from 1")?),
                "limit" => window = Some(value.window()?),
                "burst" => burst = Some(value.number("a whole number from 1")?),
                "phase" => phase = Some(value.phase()?),
                "request_latency" => settings.request_latency = value.duration()?,
                "request_jitter" => settings.request_jitter = value.duration()?,
                "latency" => settings.latency = value.duration()?,
                "jitter" => settings.jitter = value.duration()?,
                "errors" => settings.errors = value.share()?,
                "credits" => settings.credits = Some(value.number("a whole number")?),
                "key" => settings.key = Some(value.text()?),
                "max_videos" => settings.max_videos = value.at_most(MAX_VIDEOS, "a whole number up to 100000000")?,
                "compress" => settings.compress = value.number("true or false")?,
                "bandwidth" => settings.bandwidth = Some(value.number("a whole number of bytes a second from 1")?),
                "record" => settings.record = value.number("true or false")?,
                _ => {
                    let hint = nearest(key, KEYS.split(", ")).map(|near| format!(", did you mean {near}?"));
                    return Err(SimulatorSettingsError::Unknown {
                        key: key.to_owned(),
                        hint: hint.unwrap_or_default(),
                    });
                }
            }
        }
        let kind = window.unwrap_or_default();
        settings.qps =
            rate.map(|per_second| LimitSpec { per_second, window: kind, burst, phase: phase.unwrap_or_default() });
        let unmet = [
            ("limit", "qps", window.is_some() && rate.is_none()),
            ("burst", "qps and limit=bucket", burst.is_some() && (rate.is_none() || kind != Window::Bucket)),
            ("phase", "qps and limit=window", phase.is_some() && (rate.is_none() || kind != Window::Fixed)),
        ];
        match unmet.into_iter().find(|(_, _, is_unmet)| *is_unmet) {
            Some((key, needed, _)) => Err(SimulatorSettingsError::Needs { key, needed }),
            None => Ok(settings),
        }
    }
}

/// A value to parse, and its key for messages.
#[derive(Clone, Copy)]
struct Value<'a> {
    key: &'a str,
    given: &'a str,
}

impl Value<'_> {
    fn or_error<T>(self, value: Option<T>, expected: &'static str) -> Result<T, SimulatorSettingsError> {
        let (key, given) = (self.key.to_owned(), self.given.to_owned());
        value.ok_or(SimulatorSettingsError::Value { key, given, expected })
    }

    fn number<T: FromStr>(self, expected: &'static str) -> Result<T, SimulatorSettingsError> {
        self.or_error(self.given.parse().ok(), expected)
    }

    fn at_most(self, most: u64, expected: &'static str) -> Result<u64, SimulatorSettingsError> {
        self.or_error(self.given.parse().ok().filter(|value| *value <= most), expected)
    }

    fn share(self) -> Result<f64, SimulatorSettingsError> {
        let share = self.given.parse().ok().filter(|share| (0.0..=1.0).contains(share));
        self.or_error(share, "a number from 0 to 1")
    }

    fn window(self) -> Result<Window, SimulatorSettingsError> {
        let mut windows = [Window::Bucket, Window::Fixed, Window::Sliding].into_iter();
        self.or_error(windows.find(|window| window.as_str() == self.given), "bucket, window or sliding")
    }

    fn phase(self) -> Result<Duration, SimulatorSettingsError> {
        let phase = self.duration()?;
        self.or_error(Some(phase).filter(|phase| *phase < Duration::from_secs(1)), "less than a second")
    }

    fn text(self) -> Result<String, SimulatorSettingsError> {
        self.or_error(Some(self.given.to_owned()).filter(|text| !text.is_empty()), "a key")
    }

    fn duration(self) -> Result<Duration, SimulatorSettingsError> {
        let number = |unit: &str| self.given.strip_suffix(unit).and_then(|number| number.trim().parse().ok());
        let duration = match self.given {
            "0" => Some(Duration::ZERO),
            _ => number("us")
                .map(Duration::from_micros)
                .or_else(|| number("ms").map(Duration::from_millis))
                .or_else(|| number("s").map(Duration::from_secs)),
        };
        self.or_error(duration, "a duration like 80ms or 1s")
    }
}

/// The shortest text that [`Value::duration`] reads as this duration.
fn duration_text(duration: Duration) -> String {
    let micros = duration.as_micros();
    if micros == 0 {
        "0".to_owned()
    } else if micros.is_multiple_of(1_000_000) {
        format!("{}s", micros / 1_000_000)
    } else if micros.is_multiple_of(1000) {
        format!("{}ms", micros / 1000)
    } else {
        format!("{micros}us")
    }
}

#[cfg(test)]
mod tests {
    use super::{LimitSpec, SimulatorSettings, Window};
    use std::collections::BTreeSet;
    use std::num::NonZeroU32;
    use std::time::Duration;

    #[test]
    fn the_help_has_a_line_for_every_setting_with_its_default_and_fits_a_terminal() {
        let lines = super::SETTINGS_HELP.replace("\n                        ", " ");
        for (key, value) in SimulatorSettings::default().pairs() {
            let line = lines.split("\n  ").find(|line| line.starts_with(&format!("{key}=")));
            let line = line.unwrap_or_else(|| panic!("{key} has no line"));
            assert!(value.is_empty() || line.contains(&format!("[default: {value}]")), "{line}");
        }
        assert!(super::SETTINGS_HELP.lines().all(|line| line.len() <= 80));
    }

    #[test]
    fn an_empty_text_is_the_default_and_the_default_is_written_as_an_empty_text() {
        assert_eq!("".parse(), Ok(SimulatorSettings::default()));
        assert_eq!(SimulatorSettings::default().to_string(), "");
    }

    #[test]
    fn settings_are_read_back_from_their_text() {
        let settings = SimulatorSettings {
            seed: 7,
            products: 1_000_000,
            qps: Some(LimitSpec {
                per_second: NonZeroU32::new(20).unwrap(),
                window: Window::Fixed,
                burst: None,
                phase: Duration::from_millis(250),
            }),
            request_latency: Duration::from_millis(40),
            request_jitter: Duration::from_millis(80),
            latency: Duration::from_millis(80),
            jitter: Duration::from_micros(1500),
            errors: 0.015,
            credits: Some(0),
            key: Some("sk_live_a=b".to_owned()),
            max_videos: 12,
            compress: true,
            bandwidth: NonZeroU32::new(250_000),
            record: true,
        };
        let text_or_empty = settings.to_string();
        let expected = "seed=7,products=1000000,qps=20,limit=window,phase=250ms,request_latency=40ms,\
                        request_jitter=80ms,latency=80ms,jitter=1500us,errors=0.015,credits=0,key=sk_live_a=b,max_videos=12,\
                        compress=true,bandwidth=250000,record=true";
        assert_eq!(text_or_empty, expected);
        assert_eq!(text_or_empty.parse(), Ok(settings));
    }

    #[test]
    fn equal_settings_have_equal_texts() {
        let settings: SimulatorSettings =
            " latency = 2000ms , qps=5, limit=bucket, seed=1 ,jitter=0ms".parse().unwrap();
        assert_eq!(settings.to_string(), "qps=5,latency=2s");
    }

    #[test]
    fn an_unknown_key_or_a_bad_value_is_refused_by_name_with_the_known_keys() {
        let cases = [
            ("sede=1", "\"sede\" is unknown"),
            ("seed", "seed: \"\" is not a whole number"),
            ("qps=0", "qps: \"0\" is not a whole number from 1"),
            ("qps=1,limit=leaky", "limit: \"leaky\" is not bucket, window or sliding"),
            ("limit=window", "limit needs qps "),
            ("qps=5,limit=window,burst=3", "burst needs qps and limit=bucket"),
            ("qps=5,phase=300ms", "phase needs qps and limit=window"),
            ("qps=5,limit=window,phase=1s", "phase: \"1s\" is not less than a second"),
            ("latency=80", "latency: \"80\" is not a duration"),
            ("errors=1.5", "errors: \"1.5\" is not a number from 0 to 1"),
            ("errors=NaN", "errors: \"NaN\" is not"),
            ("products=99999999999999999", "products: "),
            ("max_videos=100000001", "max_videos: "),
            ("key=", "key: \"\" is not a key"),
            ("record=yes", "record: \"yes\" is not true or false"),
        ];
        for (text, reason) in cases {
            let error = text.parse::<SimulatorSettings>().unwrap_err().to_string();
            assert!(error.contains(reason) && error.contains("seed, products, qps"), "{error}");
        }
    }

    #[test]
    fn ids_are_distinct_numbers_of_19_digits_that_follow_from_the_seed() {
        let settings: SimulatorSettings = "products=50000".parse().unwrap();
        let ids: Vec<String> = settings.ids().collect();
        assert!(ids.iter().all(|id| id.len() == 19 && id.parse::<u64>().is_ok()));
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 50_000);
        assert!(settings.ids().eq(ids.iter().cloned()));
        assert!(SimulatorSettings { seed: 2, ..settings }.ids().next() != ids.first().cloned());
    }

    #[test]
    fn each_word_for_how_requests_are_counted_is_read_back() {
        for (word, window) in [("bucket", Window::Bucket), ("window", Window::Fixed), ("sliding", Window::Sliding)] {
            let settings: SimulatorSettings = format!("qps=5,limit={word}").parse().unwrap();
            assert_eq!((settings.qps.unwrap().window, window.as_str()), (window, word));
        }
    }
}
