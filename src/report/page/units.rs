//! Numbers as people read them, each with its unit.

use bytesize::ByteSize;
use indicatif::HumanCount;

use crate::model::clock::Utc64;

/// A count as a number of charts.
pub(crate) fn as_f64(number: u64) -> f64 {
    let half = |bits: u64| f64::from(u32::try_from(bits & u64::from(u32::MAX)).unwrap_or(u32::MAX));
    half(number >> 32) * 4_294_967_296.0 + half(number)
}

/// A part of a whole; 0 of nothing.
pub(crate) fn fraction(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { as_f64(part) / as_f64(whole) }
}

/// A count with its thousands apart.
pub(crate) fn count(number: u64) -> String {
    HumanCount(number).to_string()
}

pub(crate) fn bytes(number: u64) -> String {
    ByteSize(number).to_string()
}

/// A share, with as many digits as tell it from nothing and from all.
pub(crate) fn percent(part: u64, whole: u64) -> String {
    let share = fraction(part, whole) * 100.0;
    if part == 0 || part == whole && whole > 0 {
        format!("{share:.0} %")
    } else if share < 0.01 {
        "< 0.01 %".to_owned()
    } else if share < 1.0 {
        format!("{share:.2} %")
    } else if share > 99.0 {
        format!("{:.2} %", share.min(99.99))
    } else {
        format!("{share:.1} %")
    }
}

/// A latency: milliseconds below a second.
pub(crate) fn latency(seconds: f64) -> String {
    if seconds < 0.01 {
        format!("{:.1} ms", seconds * 1_000.0)
    } else if seconds < 0.995 {
        format!("{:.0} ms", seconds * 1_000.0)
    } else if seconds < 9.95 {
        format!("{seconds:.1} s")
    } else {
        format!("{seconds:.0} s")
    }
}

/// A moment, to the second.
pub(crate) fn moment(at: Utc64) -> String {
    let text = at.to_string();
    text.split('.').next().unwrap_or_default().replace('T', " ")
}

/// A time of work in its two largest units.
pub(crate) fn duration(seconds: f64) -> String {
    let seconds = if (59.5..60.0).contains(&seconds) { 60.0 } else { seconds };
    let (minutes, hours) = ((seconds / 60.0).floor(), (seconds / 3_600.0).floor());
    if seconds < 9.95 {
        format!("{seconds:.1} s")
    } else if seconds < 59.5 {
        format!("{seconds:.0} s")
    } else if minutes < 60.0 {
        format!("{minutes:.0} min {:02.0} s", (seconds - minutes * 60.0).floor())
    } else if hours < 48.0 {
        format!("{hours:.0} h {:02.0} min", minutes - hours * 60.0)
    } else {
        let days = (hours / 24.0).floor();
        format!("{days:.0} d {:02.0} h", hours - days * 24.0)
    }
}

/// Requests a second.
pub(crate) fn rate(per_second: f64) -> String {
    if per_second == 0.0 {
        "0".to_owned()
    } else if per_second < 9.95 {
        format!("{per_second:.1}")
    } else {
        format!("{per_second:.0}")
    }
}

#[cfg(test)]
mod tests {
    use super::{duration, latency, percent};

    #[test]
    fn numbers_have_a_unit_and_no_more_digits_than_say_something() {
        assert_eq!([0.004, 0.25, 0.9, 1.0, 12.34].map(latency), ["4.0 ms", "250 ms", "900 ms", "1.0 s", "12 s"]);
        let shown = [0.0, 4.25, 42.0, 59.7, 61.0, 3_599.0, 3_661.0, 90_000.0, 2_592_000.0].map(duration);
        assert_eq!(
            shown,
            [
                "0.0 s",
                "4.2 s",
                "42 s",
                "1 min 00 s",
                "1 min 01 s",
                "59 min 59 s",
                "1 h 01 min",
                "25 h 00 min",
                "30 d 00 h"
            ]
        );
        assert_eq!(percent(0, 0), "0 %");
        assert_eq!(
            [(0, 9), (9, 9), (1, 1_000_000), (999_999, 1_000_000), (1, 3)].map(|(part, of)| percent(part, of)),
            ["0 %", "100 %", "< 0.01 %", "99.99 %", "33.3 %"]
        );
    }
}
