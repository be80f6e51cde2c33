//! What the simulated API is like: its size, its limits, its faults.
//!
//! Written as `key=value,key=value` on the command line and in an export's identity, where two spellings of the same
//! settings must not look like two APIs: what is shown is canonical and leaves out every default.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use super::list::{MOST_VIDEOS, mix};
use crate::settings::nearest;

/// The keys of the settings, as messages name them.
const KEYS: &str = "seed, products, qps, limit, burst, phase, way, way_jitter, latency, jitter, errors, credits, key, max_videos, packs, link, record";

/// What each of them is, for `pagehaul simulate --help`.
pub const HELP: &str = "\
Settings, separated by commas:
  seed=N            everything that looks random is drawn from it [default: 1]
  products=N        ids that --products prints, up to 2^46 [default: 200]
  max_videos=N      most rows of a product, up to 100000000 [default: 2000]
  qps=N             requests a second, more are answered 429 [default: no limit]
  limit=KIND        how they are counted: bucket, window (by the second) or
                    sliding (the last second) [default: bucket]
  burst=N           tokens that a bucket holds [default: those of a second]
  phase=TIME        how much of the first window is over, below 1s [default: 0]
  way=TIME          time before a request is counted, such as 20ms [default: 0]
  way_jitter=TIME   how much longer that may take [default: 0]
  latency=TIME      time from then to the answer, such as 80ms [default: 0]
  jitter=TIME       how much longer that may take [default: 0]
  errors=SHARE      share of answers 500, from 0 to 1 [default: 0]
  credits=N         pages until every answer is 402 [default: no end]
  key=TEXT          the only key that is accepted [default: any is]
  packs=BOOL        true: packed answers for those who ask [default: false]
  link=N            bytes a second of all answers together [default: any]
  record=BOOL       true: remember what was billed, for tests [default: false]
";

/// Most products: as many as there are different ids.
const MAX_PRODUCTS: u64 = 1 << ID_BITS;
const ID_BITS: u32 = 46;
/// Every id begins like the ones that TikTok Shop hands out, and has 19 digits.
const FIRST_ID: u64 = 1_729_380_000_000_000_000;

/// A setting of the simulator could not be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SimulatorSettingsError {
    /// No such key.
    #[error("simulator setting {key:?} is unknown{hint}; the settings are {KEYS}")]
    Unknown {
        /// What was given as a key.
        key: String,
        /// What may have been meant; empty if nothing is near.
        hint: String,
    },
    /// A value that the key does not take.
    #[error("simulator setting {key}: {given:?} is not {wanted} (the settings are {KEYS})")]
    Value {
        /// The key.
        key: String,
        /// What was given as its value.
        given: String,
        /// What it takes.
        wanted: &'static str,
    },
}

/// How requests are counted against the limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Window {
    /// A bucket of as many tokens as may pass in a second, refilled without steps.
    #[default]
    Bucket,
    /// Seconds, each with its own count.
    Fixed,
    /// The last second before each request.
    Sliding,
}

impl Window {
    /// The word for it as a setting.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bucket => "bucket",
            Self::Fixed => "window",
            Self::Sliding => "sliding",
        }
    }
}

/// The limit in queries per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitSpec {
    /// Requests that may pass in a second.
    pub per_second: NonZeroU32,
    /// How they are counted.
    pub window: Window,
    /// Tokens that a bucket holds; `None`: those of a second.
    pub burst: Option<NonZeroU32>,
    /// How much of a fixed window was over when the first request came; less than a second.
    pub phase: Duration,
}

/// What the simulated API is like.
#[derive(Clone, Debug, PartialEq)]
pub struct SimulatorSettings {
    /// Everything that looks random is drawn from it.
    pub seed: u64,
    /// How many ids [`ids`](Self::ids) gives. Any other id has a list, too.
    pub products: u64,
    /// The limit; `None`: there is none.
    pub qps: Option<LimitSpec>,
    /// How long a request takes at least before it is counted and answered.
    pub way: Duration,
    /// How much longer it may take.
    pub way_jitter: Duration,
    /// How long an answer takes at least, from then on.
    pub latency: Duration,
    /// How much longer it may take.
    pub jitter: Duration,
    /// Share of the answers that are a 500 without a reason, 0 to 1.
    pub errors: f64,
    /// Pages that may be billed before the account is empty; `None`: it never is.
    pub credits: Option<u64>,
    /// The only key that is accepted; `None`: any is. It opens nothing but this simulator and is no secret.
    pub key: Option<String>,
    /// Most rows of a product: the cap of the heavy tail.
    pub max_videos: u64,
    /// Whether answers are packed for those who accept zstd or gzip.
    pub packs: bool,
    /// Bytes a second of bodies on the link, which all answers share; `None`: it is as fast as it is.
    pub link: Option<NonZeroU32>,
    /// Whether to remember how many times each page was billed. Costs speed and memory; for tests.
    pub record: bool,
}

impl Default for SimulatorSettings {
    fn default() -> Self {
        Self {
            seed: 1,
            products: 200,
            qps: None,
            way: Duration::ZERO,
            way_jitter: Duration::ZERO,
            latency: Duration::ZERO,
            jitter: Duration::ZERO,
            errors: 0.0,
            credits: None,
            key: None,
            max_videos: 2000,
            packs: false,
            link: None,
            record: false,
        }
    }
}

impl SimulatorSettings {
    /// The ids of the simulated products, all different.
    pub fn ids(&self) -> impl Iterator<Item = String> + use<> {
        let seed = self.seed;
        (0..self.products).map(move |index| scattered(index, seed).to_string())
    }

    /// Every key with its value as text; an empty text where there is none.
    fn pairs(&self) -> [(&'static str, String); 17] {
        fn shown<T: ToString>(value: Option<&T>) -> String {
            value.map(ToString::to_string).unwrap_or_default()
        }
        [
            ("seed", self.seed.to_string()),
            ("products", self.products.to_string()),
            ("qps", shown(self.qps.map(|qps| qps.per_second).as_ref())),
            ("limit", self.qps.map_or(Window::default(), |qps| qps.window).as_str().to_owned()),
            ("burst", shown(self.qps.and_then(|qps| qps.burst).as_ref())),
            ("phase", duration_text(self.qps.map_or(Duration::ZERO, |qps| qps.phase))),
            ("way", duration_text(self.way)),
            ("way_jitter", duration_text(self.way_jitter)),
            ("latency", duration_text(self.latency)),
            ("jitter", duration_text(self.jitter)),
            ("errors", self.errors.to_string()),
            ("credits", shown(self.credits.as_ref())),
            ("key", shown(self.key.as_ref())),
            ("max_videos", self.max_videos.to_string()),
            ("packs", self.packs.to_string()),
            ("link", shown(self.link.as_ref())),
            ("record", self.record.to_string()),
        ]
    }
}

/// Carries 0, 1, 2, … to ids that are far apart and never the same: each step can be undone, so no two meet.
fn scattered(index: u64, seed: u64) -> u64 {
    let mask = MAX_PRODUCTS - 1;
    let mut id = (index ^ mix(seed)) & mask;
    for round in 0..3 {
        id = id.wrapping_mul(mix(seed ^ round) | 1) & mask;
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
                "way" => settings.way = value.duration()?,
                "way_jitter" => settings.way_jitter = value.duration()?,
                "latency" => settings.latency = value.duration()?,
                "jitter" => settings.jitter = value.duration()?,
                "errors" => settings.errors = value.share()?,
                "credits" => settings.credits = Some(value.number("a whole number")?),
                "key" => settings.key = Some(value.text()?),
                "max_videos" => settings.max_videos = value.at_most(MOST_VIDEOS, "a whole number up to 100000000")?,
                "packs" => settings.packs = value.number("true or false")?,
                "link" => settings.link = Some(value.number("a whole number of bytes a second from 1")?),
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
        let counted = window.unwrap_or_default();
        settings.qps =
            rate.map(|per_second| LimitSpec { per_second, window: counted, burst, phase: phase.unwrap_or_default() });
        let idle = [
            ("limit", window.is_some() && rate.is_none(), "of use without the setting qps"),
            ("burst", burst.is_some() && (rate.is_none() || counted != Window::Bucket), "of use without a bucket"),
            ("phase", phase.is_some() && (rate.is_none() || counted != Window::Fixed), "of use without limit=window"),
        ];
        match idle.into_iter().find(|(_, is_idle, _)| *is_idle) {
            Some((key, _, wanted)) => Err(Value { key, given: "what was given" }.refused(wanted)),
            None => Ok(settings),
        }
    }
}

/// A value on its way to its type, with the key for the message.
#[derive(Clone, Copy)]
struct Value<'a> {
    key: &'a str,
    given: &'a str,
}

impl Value<'_> {
    fn refused(self, wanted: &'static str) -> SimulatorSettingsError {
        SimulatorSettingsError::Value { key: self.key.to_owned(), given: self.given.to_owned(), wanted }
    }

    fn number<T: FromStr>(self, wanted: &'static str) -> Result<T, SimulatorSettingsError> {
        self.given.parse().map_err(|_| self.refused(wanted))
    }

    fn at_most(self, most: u64, wanted: &'static str) -> Result<u64, SimulatorSettingsError> {
        self.number(wanted).and_then(|value| if value <= most { Ok(value) } else { Err(self.refused(wanted)) })
    }

    fn share(self) -> Result<f64, SimulatorSettingsError> {
        let wanted = "a number from 0 to 1";
        let share: f64 = self.number(wanted)?;
        if (0.0..=1.0).contains(&share) { Ok(share) } else { Err(self.refused(wanted)) }
    }

    fn window(self) -> Result<Window, SimulatorSettingsError> {
        [Window::Bucket, Window::Fixed, Window::Sliding]
            .into_iter()
            .find(|window| window.as_str() == self.given)
            .ok_or_else(|| self.refused("bucket, window or sliding"))
    }

    fn phase(self) -> Result<Duration, SimulatorSettingsError> {
        let phase = self.duration()?;
        if phase < Duration::from_secs(1) { Ok(phase) } else { Err(self.refused("less than a second")) }
    }

    fn text(self) -> Result<String, SimulatorSettingsError> {
        if self.given.is_empty() { Err(self.refused("a key")) } else { Ok(self.given.to_owned()) }
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
        duration.ok_or_else(|| self.refused("a duration like 80ms or 1s"))
    }
}

/// The shortest spelling that [`Value::duration`] reads back.
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
        let lines = super::HELP.replace("\n                    ", " ");
        for (key, value) in SimulatorSettings::default().pairs() {
            let line = lines.split("\n  ").find(|line| line.starts_with(&format!("{key}=")));
            let line = line.unwrap_or_else(|| panic!("{key} has no line"));
            assert!(value.is_empty() || line.contains(&format!("[default: {value}]")), "{line}");
        }
        assert!(super::HELP.lines().all(|line| line.len() <= 80));
    }

    #[test]
    fn an_empty_text_is_the_default_and_the_default_shows_as_an_empty_text() {
        assert_eq!("".parse(), Ok(SimulatorSettings::default()));
        assert_eq!(SimulatorSettings::default().to_string(), "");
    }

    #[test]
    fn settings_are_read_back_from_what_they_show() {
        let settings = SimulatorSettings {
            seed: 7,
            products: 1_000_000,
            qps: Some(LimitSpec {
                per_second: NonZeroU32::new(20).unwrap(),
                window: Window::Fixed,
                burst: None,
                phase: Duration::from_millis(250),
            }),
            way: Duration::from_millis(40),
            way_jitter: Duration::from_millis(80),
            latency: Duration::from_millis(80),
            jitter: Duration::from_micros(1500),
            errors: 0.015,
            credits: Some(0),
            key: Some("sk_live_a=b".to_owned()),
            max_videos: 12,
            packs: true,
            link: NonZeroU32::new(250_000),
            record: true,
        };
        let shown = settings.to_string();
        let expected = "seed=7,products=1000000,qps=20,limit=window,phase=250ms,way=40ms,way_jitter=80ms,latency=80ms,\
                        jitter=1500us,errors=0.015,credits=0,key=sk_live_a=b,max_videos=12,packs=true,link=250000,record=true";
        assert_eq!(shown, expected);
        assert_eq!(shown.parse(), Ok(settings));
    }

    #[test]
    fn two_spellings_of_the_same_settings_show_alike() {
        let spelled: SimulatorSettings = " latency = 2000ms , qps=5, limit=bucket, seed=1 ,jitter=0ms".parse().unwrap();
        assert_eq!(spelled.to_string(), "qps=5,latency=2s");
    }

    #[test]
    fn an_unknown_key_or_a_bad_value_is_refused_by_name_with_the_known_keys() {
        let cases = [
            ("sede=1", "\"sede\" is unknown"),
            ("seed", "seed: \"\" is not a whole number"),
            ("qps=0", "qps: \"0\" is not a whole number from 1"),
            ("qps=1,limit=leaky", "limit: \"leaky\" is not bucket, window or sliding"),
            ("limit=window", "limit: \"what was given\" is not of use without the setting qps"),
            ("qps=5,limit=window,burst=3", "burst: \"what was given\" is not of use without a bucket"),
            ("qps=5,phase=300ms", "phase: \"what was given\" is not of use without limit=window"),
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
