//! The simulated API's size, limits and faults, written as `key=value,key=value`.

use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use super::SimulatorError;
use super::list::{MAX_VIDEOS, scramble};
use crate::settings::nearest;
use crate::settings::parse::{any, checked, count, duration_or_zero, one_of, switch, whole};

/// The number of different ids.
const MAX_PRODUCTS: u64 = 1 << ID_BITS;
const ID_BITS: u32 = 46;
/// Ids have 19 digits and start like those of TikTok Shop.
const FIRST_ID: u64 = 1_729_380_000_000_000_000;

/// How requests count against the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// A token bucket, refilled continuously.
    Bucket,
    /// Each second has its own count.
    Fixed,
    /// The second before each request.
    Sliding,
}

const WINDOWS: [(&str, Window); 3] =
    [("bucket", Window::Bucket), ("window", Window::Fixed), ("sliding", Window::Sliding)];

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

/// One row a setting: key, type, default, placeholder, parser, help.
macro_rules! settings {
    ($($key:ident: $type:ty = $default:expr, $value:literal, $parse:expr, $help:literal;)*) => {
        /// The simulated API's size, limits and faults.
        #[derive(Clone, Debug, PartialEq)]
        pub struct SimulatorSettings {
            $(#[doc = $help] pub $key: $type,)*
        }

        impl Default for SimulatorSettings {
            fn default() -> Self {
                Self { $($key: $default,)* }
            }
        }

        const KEYS: &[&str] = &[$(stringify!($key)),*];

        /// For `pagehaul simulate --help`.
        pub fn settings_help() -> String {
            let rows = [$((concat!(stringify!($key), "=", $value), $help)),*];
            let rows = rows.map(|(setting, help)| format!("  {setting:<20}  {help}\n"));
            format!("Settings, separated by commas:\n{}", rows.concat())
        }

        impl SimulatorSettings {
            /// Sets a value. The error is what the value must be.
            fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
                match key {
                    $(stringify!($key) => self.$key = $parse(value)?.into(),)*
                    _ => {
                        let hint = nearest(key, KEYS.iter().copied()).map(|near| format!(", did you mean {near}?"));
                        return Err(format!("unknown{}", hint.unwrap_or_default()));
                    }
                }
                Ok(())
            }
        }
    };
}

settings! {
    seed: u64 = 1, "N", whole, "seed of all random values [default: 1]";
    products: u64 = 200, "N", count::<0, MAX_PRODUCTS>, "ids that --products prints, up to 2^46 [default: 200]";
    max_videos: u64 = 2000, "N", count::<0, MAX_VIDEOS>, "most rows of a product, up to 100000000 [default: 2000]";
    qps: Option<NonZeroU32> = None, "N", positive, "requests a second; more get 429 [default: no limit]";
    limit: Window = Window::Bucket, "KIND", |text| one_of(text, &WINDOWS), "bucket, window (a second) or sliding [default: bucket]";
    burst: Option<NonZeroU32> = None, "N", positive, "tokens in a full bucket [default: those of a second]";
    phase: Duration = Duration::ZERO, "TIME", phase, "age of the first window, below 1s [default: 0]";
    request_latency: Duration = Duration::ZERO, "TIME", duration_or_zero, "time until a request is counted [default: 0]";
    request_jitter: Duration = Duration::ZERO, "TIME", duration_or_zero, "at most this much more [default: 0]";
    latency: Duration = Duration::ZERO, "TIME", duration_or_zero, "time from then to the response [default: 0]";
    jitter: Duration = Duration::ZERO, "TIME", duration_or_zero, "at most this much more [default: 0]";
    errors: f64 = 0.0, "SHARE", share, "share of responses with 500, 0 to 1 [default: 0]";
    credits: Option<u64> = None, "N", whole, "pages until all responses are 402 [default: no end]";
    key: Option<String> = None, "TEXT", any::<String>, "the only accepted API key [default: any]";
    compress: bool = false, "BOOL", switch, "compress for clients that accept it [default: false]";
    bandwidth: Option<NonZeroU32> = None, "N", positive, "bytes a second of all responses [default: no limit]";
    record: bool = false, "BOOL", switch, "record billed pages, for tests [default: false]";
}

fn positive(text: &str) -> Result<NonZeroU32, String> {
    checked(text, |_| true, "must be a whole number from 1")
}

fn share(text: &str) -> Result<f64, String> {
    checked(text, |share| (0.0..=1.0).contains(share), "must be a number from 0 to 1")
}

fn phase(text: &str) -> Result<Duration, String> {
    let phase = duration_or_zero(text)?;
    if phase < Duration::from_secs(1) { Ok(phase) } else { Err("must be less than a second".to_owned()) }
}

impl SimulatorSettings {
    /// The ids of the simulated products, all different and 19 digits long. Any other id has a list too.
    pub fn ids(&self) -> impl Iterator<Item = String> + use<> {
        let seed = self.seed;
        (0..self.products).map(move |index| scattered_id(index, seed).to_string())
    }

    pub(super) fn limit_spec(&self) -> Option<LimitSpec> {
        let Self { limit: window, burst, phase, .. } = *self;
        self.qps.map(|per_second| LimitSpec { per_second, window, burst, phase })
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

impl FromStr for SimulatorSettings {
    type Err = SimulatorError;

    fn from_str(text: &str) -> Result<Self, SimulatorError> {
        let error = |key: &str, reason: &str| {
            SimulatorError(format!("simulator setting {key}: {reason} (the settings are {})", KEYS.join(", ")))
        };
        let mut settings = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').map_or((part, ""), |(key, value)| (key.trim(), value.trim()));
            let set = if value.is_empty() { Err("has no value".to_owned()) } else { settings.set(key, value) };
            // The value of a key that does not exist may be anything, a secret too.
            let named = if KEYS.contains(&key) { part } else { key };
            set.map_err(|reason| error(&format!("{named:?}"), &reason))?;
        }
        let (is_unlimited, window) = (settings.qps.is_none(), settings.limit);
        let without_effect = [
            ("limit", "qps", window != Window::Bucket && is_unlimited),
            ("burst", "qps and limit=bucket", settings.burst.is_some() && (is_unlimited || window != Window::Bucket)),
            ("phase", "qps and limit=window", !settings.phase.is_zero() && (is_unlimited || window != Window::Fixed)),
        ];
        match without_effect.into_iter().find(|(_, _, is_so)| *is_so) {
            Some((key, needed, _)) => Err(error(key, &format!("needs {needed}"))),
            None => Ok(settings),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{SimulatorSettings, WINDOWS, Window, settings_help};
    use std::collections::BTreeSet;
    use std::num::NonZeroU32;
    use std::time::Duration;

    #[test]
    fn the_help_has_a_line_for_every_setting_with_its_default_and_fits_a_terminal() {
        let help = settings_help();
        assert!(help.lines().all(|line| line.len() <= 80), "{help}");
        for line in help.lines().skip(1) {
            let (key, default) = line.trim().split_once('=').unwrap();
            let default = default.rsplit_once("[default: ").unwrap().1.trim_end_matches(']');
            if !["no limit", "no end", "any", "those of a second"].contains(&default) {
                assert_eq!(format!("{key}={default}").parse(), Ok(SimulatorSettings::default()), "{line}");
            }
        }
    }

    #[test]
    fn each_setting_is_read() {
        let settings = SimulatorSettings {
            seed: 7,
            products: 1_000_000,
            qps: NonZeroU32::new(20),
            limit: Window::Fixed,
            burst: None,
            phase: Duration::from_millis(250),
            request_latency: Duration::from_millis(40),
            request_jitter: Duration::from_millis(80),
            latency: Duration::from_secs(2),
            jitter: Duration::from_micros(1500),
            errors: 0.015,
            credits: Some(0),
            key: Some("sk_live_a=b".to_owned()),
            max_videos: 12,
            compress: true,
            bandwidth: NonZeroU32::new(250_000),
            record: true,
        };
        let text = "seed=7,products=1000000, qps = 20 ,limit=window,phase=250ms,request_latency=40ms,\
                    request_jitter=80ms,latency=2s,jitter=1500us,errors=0.015,credits=0,key=sk_live_a=b,max_videos=12,\
                    compress=true,bandwidth=250000,record=true,";
        assert_eq!(text.parse(), Ok(settings));
        for (word, window) in WINDOWS {
            let settings: SimulatorSettings = format!("qps=5,limit={word}").parse().unwrap();
            assert_eq!(settings.limit_spec().unwrap().window, window);
        }
        assert_eq!("".parse(), Ok(SimulatorSettings::default()));
    }

    #[test]
    fn an_unknown_key_or_a_bad_value_is_refused_by_name_with_the_known_keys() {
        let cases = [
            ("sede=1", "\"sede\": unknown, did you mean seed?"),
            ("seed", "\"seed\": has no value"),
            ("qps=0", "\"qps=0\": must be a whole number from 1"),
            ("qps=1,limit=leaky", "\"limit=leaky\": must be one of bucket, window, sliding"),
            ("limit=window", "limit: needs qps "),
            ("qps=5,limit=window,burst=3", "burst: needs qps and limit=bucket"),
            ("qps=5,phase=300ms", "phase: needs qps and limit=window"),
            ("qps=5,limit=window,phase=1s", "\"phase=1s\": must be less than a second"),
            ("latency=80", "\"latency=80\": must be a time"),
            ("errors=1.5", "\"errors=1.5\": must be a number from 0 to 1"),
            ("errors=NaN", "\"errors=NaN\": must be"),
            ("products=99999999999999999", "from 0 to 70368744177664"),
            ("max_videos=100000001", "from 0 to 100000000"),
            ("key=", "\"key=\": has no value"),
            ("record=yes", "\"record=yes\": must be true or false"),
        ];
        for (text, reason) in cases {
            let error = text.parse::<SimulatorSettings>().unwrap_err().to_string();
            assert!(error.contains(reason) && error.contains("seed, products, max_videos"), "{error}");
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
}
