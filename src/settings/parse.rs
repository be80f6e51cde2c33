//! Reads the text of a setting's value. Each error says what the value must be.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use url::Url;

use super::{OutputLocation, RateLimit, SnapshotLabel};

/// Longest time. It also refuses `1M`, which is a month and probably meant as a minute.
const MAX_DURATION: Duration = Duration::from_secs(30 * 24 * 3600);
const MIN_SIZE: u64 = 1 << 10;
/// The smallest file that is worth its footer.
const MIN_FILE_SIZE: u64 = 1 << 20;
const MAX_MEMORY: u64 = 1 << 30;

type Parsed<T> = Result<T, String>;

/// A value of a type with a standard text form, if it satisfies a condition; otherwise the error.
pub(crate) fn checked<T: FromStr>(text: &str, is_valid: impl Fn(&T) -> bool, error: &str) -> Parsed<T> {
    text.parse().ok().filter(is_valid).ok_or_else(|| error.to_owned())
}

/// A text or a path.
pub(crate) fn any<T: FromStr<Err = Infallible>>(text: &str) -> Parsed<T> {
    text.parse().map_err(|never| match never {})
}

pub(crate) fn directory(text: &str) -> Parsed<PathBuf> {
    if text.contains("://") {
        return Err("must be a local directory".to_owned());
    }
    Ok(text.into())
}

pub(crate) fn location(text: &str) -> Parsed<OutputLocation> {
    OutputLocation::parse(text)
}

pub(crate) fn snapshot(text: &str) -> Parsed<SnapshotLabel> {
    SnapshotLabel::parse(text)
}

/// Where to listen. A name is not resolved, except for the one that means this machine.
pub(crate) fn listen_address(text: &str) -> Parsed<SocketAddr> {
    let address = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    let error = "must be an address and a port, such as 127.0.0.1:9464 (port 0: any free one)";
    checked(address.as_deref().unwrap_or(text), |_| true, error)
}

/// The address of a store.
pub(crate) fn store_address(text: &str) -> Parsed<Url> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let is_plain = |url: &Url| url.username().is_empty() && url.password().is_none() && url.query().is_none();
    url.filter(is_plain).ok_or_else(|| "must be a URL of http or https, without credentials".to_owned())
}

/// Names and values. A value may have an equals sign in it, and no comma.
pub(crate) fn options(text: &str) -> Parsed<Vec<(String, String)>> {
    let option = |option: String| {
        let (name, value) = option.split_once('=').ok_or("must be NAME=VALUE,NAME=VALUE")?;
        Ok((name.trim().to_owned(), value.to_owned()))
    };
    list(text)?.into_iter().map(option).collect()
}

#[expect(clippy::unnecessary_wraps, reason = "all parsers have one type")]
pub(crate) fn list(text: &str) -> Parsed<Vec<String>> {
    Ok(text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect())
}

pub(crate) fn switch(text: &str) -> Parsed<bool> {
    match text {
        "true" | "1" => Ok(true),
        "false" | "0" | "" => Ok(false),
        _ => Err("must be true or false".to_owned()),
    }
}

pub(crate) fn whole(text: &str) -> Parsed<u64> {
    checked(&text.replace('_', ""), |_| true, "must be a whole number")
}

pub(crate) fn count<const MIN: u64, const MAX: u64>(text: &str) -> Parsed<u64> {
    let range = if MAX == u64::MAX { format!(", {MIN} or more") } else { format!(" from {MIN} to {MAX}") };
    whole(text).ok().filter(|number| (MIN..=MAX).contains(number)).ok_or(format!("must be a whole number{range}"))
}

pub(crate) fn percent(text: &str) -> Parsed<f64> {
    checked(text.trim_end_matches('%'), |number| (0.0..=100.0).contains(number), "must be a number from 0 to 100")
}

pub(crate) fn duration_or_zero(text: &str) -> Parsed<Duration> {
    let time = humantime::parse_duration(text).ok().filter(|time| *time <= MAX_DURATION);
    time.ok_or_else(|| "must be a time such as 500ms, 30s, 5m or 1h".to_owned())
}

pub(crate) fn duration(text: &str) -> Parsed<Duration> {
    let time = duration_or_zero(text)?;
    if time.is_zero() { Err("must be longer than 0s".to_owned()) } else { Ok(time) }
}

/// Requires a unit: a plain number would be bytes, and is probably a mistake.
pub(crate) fn size(text: &str) -> Parsed<u64> {
    let has_unit = text.ends_with(|c: char| c.is_ascii_alphabetic());
    let size = text.parse::<ByteSize>().ok().map(|size| size.0).filter(|size| has_unit && *size >= MIN_SIZE);
    size.ok_or_else(|| "must be a size such as 64KiB, 48MiB or 2GiB".to_owned())
}

pub(crate) fn file_size(text: &str) -> Parsed<u64> {
    Some(size(text)?).filter(|size| *size >= MIN_FILE_SIZE).ok_or_else(|| "must be 1MiB or more".to_owned())
}

pub(crate) fn memory(text: &str) -> Parsed<u64> {
    Some(size(text)?).filter(|size| *size <= MAX_MEMORY).ok_or_else(|| "must be 1GiB or less".to_owned())
}

pub(crate) fn rate_limit(text: &str) -> Parsed<RateLimit> {
    match text {
        "auto" => Ok(RateLimit::Auto(None)),
        "unlimited" => Ok(RateLimit::Unlimited),
        _ => {
            let error = "must be a number of requests per second above 0, auto or unlimited";
            checked(text, |rate| (0.01..=1e6).contains(rate), error).map(RateLimit::PerSecond)
        }
    }
}

pub(crate) fn one_of<T: Copy>(text: &str, values: &[(&str, T)]) -> Parsed<T> {
    let found = values.iter().find(|(word, _)| *word == text);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let words: Vec<_> = values.iter().map(|(word, _)| *word).collect();
        format!("must be one of {}", words.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::{duration, duration_or_zero, size};
    use std::time::Duration;

    #[test]
    fn times_have_a_unit_and_end_within_a_month() {
        for (text, millis) in
            [("500ms", 500), ("30s", 30_000), ("5m", 300_000), ("1h", 3_600_000), ("1h 30m", 5_400_000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for wrong in ["", "s", "10", "-1s", "1M", "1x", "s1", "1e9s", "99999999999999999999s", "999999999999h"] {
            assert!(duration_or_zero(wrong).unwrap_err().contains("500ms, 30s, 5m or 1h"), "{wrong}");
        }
        assert_eq!(duration_or_zero("0s"), Ok(Duration::ZERO));
        assert!(duration("0s").unwrap_err().contains("longer than 0s"));
    }

    #[test]
    fn sizes_have_a_unit() {
        for (text, bytes) in [("64KiB", 64 << 10), ("48MiB", 48 << 20), ("2GiB", 2 << 30), ("1.5 GiB", 3 << 29)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for wrong in ["", "48", "4096", "GiB", "1KiB2", "512B", "0MiB", "-1MiB", "1XiB", "NaNMiB", "infMiB"] {
            assert!(size(wrong).unwrap_err().contains("64KiB, 48MiB or 2GiB"), "{wrong}");
        }
    }
}
