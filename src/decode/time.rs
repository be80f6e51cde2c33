//! Times as text: ISO 8601 in the form of RFC 3339, to the microsecond.
//!
//! A time needs a date, a time of day and an offset. A text without an offset is ambiguous, and one with digits beyond the
//! microsecond would be cut: neither is a time here. `chrono`'s own parser accepts white space anywhere.

use chrono::NaiveDate;

/// Microseconds since 1970 of a time such as `2026-11-22T10:00:00Z`, `2026-11-22 10:00:00.25+00:00` or
/// `2026-11-22T12:00+0200`.
pub(super) fn micros(text: &str) -> Option<i64> {
    let (year, rest) = number(text, 4)?;
    let (month, rest) = number(rest.strip_prefix('-')?, 2)?;
    let (day, rest) = number(rest.strip_prefix('-')?, 2)?;
    let (hour, rest) = number(rest.strip_prefix(['T', 't', ' '])?, 2)?;
    let (minute, rest) = number(rest.strip_prefix(':')?, 2)?;
    let (second, micro, rest) = match rest.strip_prefix(':') {
        Some(rest) => seconds(rest)?,
        None => (0, 0, rest),
    };
    let offset = offset(rest)?;
    let date = NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, month, day)?;
    let local = date.and_hms_micro_opt(hour, minute, second, micro)?.and_utc().timestamp_micros();
    local.checked_sub(offset)
}

/// A number of exactly `digits` digits, and the rest of the text.
fn number(text: &str, digits: usize) -> Option<(u32, &str)> {
    let (number, rest) = text.split_at_checked(digits)?;
    let is_plain = number.bytes().all(|byte| byte.is_ascii_digit());
    Some((number.parse().ok().filter(|_| is_plain)?, rest))
}

/// Seconds, microseconds, and the rest of the text.
fn seconds(text: &str) -> Option<(u32, u32, &str)> {
    let (second, rest) = number(text, 2)?;
    let (micro, rest) = match rest.strip_prefix(['.', ',']) {
        Some(rest) => fraction(rest)?,
        None => (0, rest),
    };
    Some((second, micro, rest))
}

/// A fraction of a second in microseconds, and the rest of the text; none if it has nonzero digits beyond them.
fn fraction(text: &str) -> Option<(u32, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(end).filter(|(digits, _)| !digits.is_empty())?;
    let (micros, beyond) = digits.split_at_checked(6).unwrap_or((digits, ""));
    let micros = format!("{micros:0<6}").parse().ok()?;
    beyond.bytes().all(|byte| byte == b'0').then_some((micros, rest))
}

/// Microseconds that local time is ahead of UTC.
fn offset(text: &str) -> Option<i64> {
    if matches!(text, "Z" | "z") {
        return Some(0);
    }
    let (sign, rest) = match text.strip_prefix('+') {
        Some(rest) => (1, rest),
        None => (-1, text.strip_prefix('-')?),
    };
    let (hours, rest) = number(rest, 2)?;
    let (minutes, rest) = if rest.is_empty() { (0, rest) } else { number(rest.strip_prefix(':').unwrap_or(rest), 2)? };
    let is_offset = rest.is_empty() && hours < 24 && minutes < 60;
    is_offset.then(|| sign * i64::from(hours * 60 + minutes) * 60_000_000)
}

#[cfg(test)]
mod tests {
    use super::micros;
    use crate::model::clock::Utc64;
    use proptest::prelude::*;

    #[test]
    fn a_moment_is_read_to_the_microsecond_from_any_usual_format() {
        let ten = 1_795_341_600_000_000;
        let table = [
            ("2026-11-22T10:00:00Z", ten),
            ("2026-11-22t10:00:00z", ten),
            ("2026-11-22 10:00:00Z", ten),
            ("2026-11-22T10:00Z", ten),
            ("2026-11-22T10:00:00+00:00", ten),
            ("2026-11-22T10:00:00-00:00", ten),
            ("2026-11-22T10:00:00+0000", ten),
            ("2026-11-22 10:00:00+00", ten),
            ("2026-11-22T12:00:00+02:00", ten),
            ("2026-11-22T15:30:00+0530", ten),
            ("2026-11-22T02:00:00-08", ten),
            ("2026-11-23T00:00:00+14:00", ten),
            ("2026-11-22T10:00:00.5Z", ten + 500_000),
            ("2026-11-22T10:00:00,25Z", ten + 250_000),
            ("2026-11-22T10:00:00.000001Z", ten + 1),
            ("2026-11-22T10:00:00.123456000Z", ten + 123_456),
            ("1970-01-01T00:00:00Z", 0),
            ("2024-02-29T23:59:59.999999Z", 1_709_251_199_999_999),
        ];
        for (text, expected) in table {
            assert_eq!(micros(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn a_text_that_is_ambiguous_or_would_be_cut_is_not_a_time() {
        for text in [
            "2026-11-22T10:00:00",
            "2026-11-22 10:00:00.5",
            "2026-11-22",
            "2026-11-22Z",
            "10:00:00Z",
            "2026-11-22T10:00:00.1234567Z",
            "2026-11-22T10:00:00.Z",
            "2026-11-22T10:00.5Z",
            "2026-11-22T10.5Z",
            "2026-11-22T10:00:60Z",
            "2026-11-22T24:00:00Z",
            "2026-02-29T10:00:00Z",
            "2026-13-01T10:00:00Z",
            "2026-11-22T10:00:00+24:00",
            "2026-11-22T10:00:00+01:60",
            "2026-11-22T10:00:00+1:00",
            "2026-11-22T10:00:00+",
            "2026-11-22T10:00:00Z ",
            " 2026-11-22T10:00:00Z",
            "2026-11-22T10:00:00ZZ",
            "2026-11-22T10:00:00 CET",
            "2026-11-22  10:00:00Z",
            "26-11-22T10:00:00Z",
            "2026-1-22T10:00:00Z",
            "2026-11-22T1O:00:00Z",
            "2026-11-22T+1:00:00Z",
            "２026-11-22T10:00:00Z",
            "20261122T100000Z",
            "2026-W47-7T10:00:00Z",
            "",
        ] {
            assert_eq!(micros(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn every_moment_comes_back_from_its_text_in_any_offset(micro in 0_i64..4_102_444_800_000_000, minutes in -1_439_i64..1_440) {
            let shifted = Utc64(micro + minutes * 60_000_000 + 86_400_000_000); // a day later: none is before 1970
            let (seconds, rest) = (shifted.0.div_euclid(1_000_000), shifted.0.rem_euclid(1_000_000));
            let local = chrono::DateTime::from_timestamp(seconds, 0).unwrap().format("%Y-%m-%dT%H:%M:%S");
            let sign = if minutes < 0 { '-' } else { '+' };
            let text = format!("{local}.{rest:06}{sign}{:02}:{:02}", minutes.abs() / 60, minutes.abs() % 60);
            prop_assert_eq!(micros(&text), Some(micro + 86_400_000_000));
        }

        #[test]
        fn no_text_makes_it_panic(text in "[0-9TZ:.+ \\-]{0,30}|\\PC{0,30}") {
            micros(&text);
        }
    }
}
