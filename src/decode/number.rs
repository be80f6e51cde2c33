//! Numbers out of text: exactly, or not at all.
//!
//! A number counts by its digits, whichever way it is spelled: `1e3` and `1000.0` are whole. What would have to be rounded
//! is no whole number, and no double either if it is whole and the double would be printed as another one. Fractions are
//! rounded to the nearest double, as they always are.

/// Digits of a whole number that every double holds.
const SAFE_DIGITS: usize = 15;

/// A JSON number, taken apart.
struct Decimal<'a> {
    is_negative: bool,
    whole: &'a str,
    fraction: &'a str,
    exponent: i64,
}

impl<'a> Decimal<'a> {
    /// None: the text is no number as JSON spells them, but for leading zeros.
    fn parse(text: &'a str) -> Option<Self> {
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let (is_negative, rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (mantissa, exponent) = rest.split_once(['e', 'E']).map_or((rest, None), |(a, b)| (a, Some(b)));
        let (whole, fraction) = mantissa.split_once('.').map_or((mantissa, None), |(a, b)| (a, Some(b)));
        let exponent = match exponent {
            None => 0,
            Some(text) if is_number(text.strip_prefix(['+', '-']).unwrap_or(text)) => text.parse().ok()?,
            Some(_) => return None,
        };
        if !is_number(whole) || fraction.is_some_and(|fraction| !is_number(fraction)) {
            return None;
        }
        Some(Self { is_negative, whole, fraction: fraction.unwrap_or_default(), exponent })
    }

    /// Whether it is whole and this double says another whole number: neither exactly nor in its shortest spelling the same.
    fn is_rounded_to(&self, number: f64) -> bool {
        let digits = [self.whole, self.fraction].concat();
        let significant = digits.trim_start_matches('0').trim_end_matches('0');
        if significant.len() <= SAFE_DIGITS {
            return false;
        }
        let dropped = digits.len() - digits.trim_end_matches('0').len();
        let behind = |length: usize| i64::try_from(length).unwrap_or(i64::MAX);
        let zeros = self.exponent.saturating_sub(behind(self.fraction.len())).saturating_add(behind(dropped));
        let Ok(zeros) = usize::try_from(zeros) else { return false }; // a fraction
        let spelled = |text: &str| {
            text.strip_prefix(significant)
                .is_some_and(|rest| rest.len() == zeros && rest.bytes().all(|digit| digit == b'0'))
        };
        !spelled(&format!("{:.0}", number.abs())) && !spelled(&number.abs().to_string())
    }

    fn is_zero(&self) -> bool {
        [self.whole, self.fraction].iter().all(|digits| digits.bytes().all(|digit| digit == b'0'))
    }
}

/// A number in its regular spelling: so few digits that they always fit, and at most a sign. Nearly every number is one.
fn regular(text: &str) -> Option<i64> {
    let (is_negative, digits) = match text.as_bytes() {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if !(1..=18).contains(&digits.len()) {
        return None;
    }
    let mut number = 0_i64;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number * 10 + i64::from(digit);
    }
    Some(if is_negative { -number } else { number })
}

/// A whole number of 64 bits.
pub(crate) fn whole(text: &str) -> Option<i64> {
    if let Some(number) = regular(text) {
        return Some(number);
    }
    let decimal = Decimal::parse(text)?;
    if decimal.is_zero() {
        return Some(0);
    }
    let Decimal { is_negative, whole, fraction, exponent } = decimal;
    let digits = [if is_negative { "-" } else { "" }, whole, fraction].concat();
    let shift = exponent.checked_sub(i64::try_from(fraction.len()).ok()?)?;
    let shifted = usize::try_from(shift.unsigned_abs()).ok()?;
    if shift <= 0 {
        let (kept, dropped) = digits.split_at_checked(digits.len().checked_sub(shifted)?)?;
        return if dropped.bytes().all(|digit| digit == b'0') { kept.parse().ok() } else { None };
    }
    let zeros = if shifted <= 19 { "0".repeat(shifted) } else { return None };
    (digits + &zeros).parse().ok()
}

/// A finite number.
pub(crate) fn double(text: &str) -> Option<f64> {
    // A zero keeps its sign.
    if let Some(small) = regular(text).and_then(|number| i32::try_from(number).ok()).filter(|number| *number != 0) {
        return Some(f64::from(small));
    }
    let decimal = Decimal::parse(text)?;
    let number: f64 = text.parse().ok().filter(|number: &f64| number.is_finite())?;
    let vanished = number.abs() <= 0.0 && !decimal.is_zero();
    (!vanished && !decimal.is_rounded_to(number)).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::{double, whole};
    use proptest::prelude::*;

    #[test]
    fn whole_numbers_are_read_from_any_spelling_and_nothing_is_ever_rounded() {
        let table = [
            ("0", 0),
            ("-0", 0),
            ("0e999999999999", 0),
            ("-0.000", 0),
            ("007", 7),
            ("1.0", 1),
            ("1e3", 1_000),
            ("-1.5e1", -15),
            ("1200e-2", 12),
            ("0.5E+1", 5),
            ("9007199254740993.0", 9_007_199_254_740_993),
            ("9223372036854775807", i64::MAX),
            ("-9223372036854775808", i64::MIN),
            ("9.223372036854775807e18", i64::MAX),
        ];
        for (text, number) in table {
            assert_eq!(whole(text), Some(number), "{text}");
        }
        let none = "1.5 9223372036854775808 -9223372036854775809 1e19 1e400 1e99999999999999999999 1e-1 12e-2 \
                    1.00000000000000000001 9007199254740991.4 + +1 1. .5 -.5 1e 1e+ e1 1_0 0x10 NaN inf Infinity -inf ١٢ - --1 1.2.3 1e1e1";
        for text in none.split_whitespace().chain(["", " 1", "1 "]) {
            assert_eq!(whole(text), None, "{text:?}");
        }
    }

    #[test]
    fn doubles_hold_what_is_whole_exactly_and_never_turn_something_into_nothing() {
        let table = [
            ("0", 0.0),
            ("-0.0", 0.0),
            ("0e5", 0.0),
            ("2627.73", 2_627.73),
            ("1e400e", f64::NAN),
            ("9007199254740992", 9_007_199_254_740_992.0),
            ("-9007199254740992", -9_007_199_254_740_992.0),
            ("000000000000000000001", 1.0),
            ("5e-324", 5e-324),
            ("1e23", 1e23),
            ("1152921504606846976", 1_152_921_504_606_846_976.0),
            ("1152921504606846976.000", 1_152_921_504_606_846_976.0),
            ("9007199254740992.0", 9_007_199_254_740_992.0),
            ("100000000000000000000000", 1e23),
            ("0.1000000000000000055511151231257827", 0.1),
        ];
        for (text, number) in table {
            assert_eq!(double(text), Some(number).filter(|number| !number.is_nan()), "{text}");
        }
        for text in [
            "9007199254740993",
            "9007199254740993.0",
            "9.007199254740993e15",
            "90071992547409930e-1",
            "12345678901234567890.0",
            "-9007199254740993",
            "99999999999999999999999",
            "1e400",
            "-1e400",
            "1e-400",
            "NaN",
            "inf",
            "1.",
        ] {
            assert_eq!(double(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_whole_number_comes_back_from_every_spelling(number: i64, zeros in 0_usize..5, point in 0_usize..25) {
            prop_assert_eq!(whole(&number.to_string()), Some(number));
            prop_assert_eq!(whole(&format!("{number}.{}e0", "0".repeat(zeros + 1))), Some(number));
            let (sign, digits) = if number < 0 { ("-", number.unsigned_abs().to_string()) } else { ("", number.to_string()) };
            let padded = format!("{}{digits}", "0".repeat(point + 1));
            let (left, right) = padded.split_at(padded.len() - point);
            if point > 0 {
                prop_assert_eq!(whole(&format!("{sign}{left}.{right}e{point}")), Some(number));
            }
        }

        #[test]
        fn no_text_makes_a_number_of_nothing(text in "[-+0-9.eE]{0,24}") {
            if let Some(number) = whole(&text) {
                // The standard parser agrees wherever it is exact.
                if number.abs() < 1 << 53 {
                    prop_assert_eq!(text.parse::<f64>().unwrap().abs().to_string(), number.abs().to_string());
                }
            }
        }
    }
}
