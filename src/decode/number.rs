//! Numbers from text: exact, or none.
//!
//! `1e3` and `1000.0` are whole numbers. A whole number is never rounded: not to 64 bits, and not to a double that prints as
//! another one. A fraction is rounded to the nearest double, as usual. `serde_json` rounds both: of random
//! whole numbers of 19 digits that end with `.0`, two in a thousand survive as a double.

/// Every whole number of so many digits is exact as a double.
const SAFE_DIGITS: usize = 15;

/// `digits` × 10^`exponent`; the digits neither start nor end with a zero, and zero has none.
#[derive(PartialEq, Eq)]
struct Decimal {
    digits: String,
    exponent: i64,
}

impl Decimal {
    /// None if the text, apart from leading zeros, is not a JSON number. Ignores the sign.
    fn parse(text: &str) -> Option<Self> {
        let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let unsigned = text.strip_prefix('-').unwrap_or(text);
        let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
        if ![whole, fraction, exponent.strip_prefix(['+', '-']).unwrap_or(exponent)].into_iter().all(is_digits) {
            return None;
        }
        let all = [whole, fraction].concat();
        let digits = all.trim_end_matches('0');
        let integer_digits = i64::try_from(whole.len()).ok()?;
        let exponent = exponent.parse::<i64>().ok()?.checked_add(integer_digits)?;
        let exponent = exponent.checked_sub(i64::try_from(digits.len()).ok()?)?;
        Some(Self { digits: digits.trim_start_matches('0').to_owned(), exponent })
    }
}

/// A whole number of 64 bits.
pub(crate) fn whole(text: &str) -> Option<i64> {
    if let Some(number) = text.parse().ok().filter(|_| !text.starts_with('+')) {
        return Some(number); // nearly every number
    }
    let Decimal { digits, exponent } = Decimal::parse(text)?;
    if digits.is_empty() {
        return Some(0);
    }
    let zeros = usize::try_from(exponent).ok().filter(|zeros| *zeros <= 19)?;
    let sign = if text.starts_with('-') { "-" } else { "" };
    format!("{sign}{digits}{}", "0".repeat(zeros)).parse().ok()
}

/// A finite number.
pub(crate) fn double(text: &str) -> Option<f64> {
    // Nearly every number. A zero keeps its sign below.
    if let Some(small) = text.parse::<i32>().ok().filter(|number| *number != 0 && !text.starts_with('+')) {
        return Some(f64::from(small));
    }
    let decimal = Decimal::parse(text)?;
    let number: f64 = text.parse().ok().filter(|number: &f64| number.is_finite())?;
    let has_vanished = number.abs() <= 0.0 && !decimal.digits.is_empty();
    let is_long = decimal.exponent >= 0 && decimal.digits.len() > SAFE_DIGITS;
    let prints_alike = |text: &str| Decimal::parse(text).as_ref() == Some(&decimal);
    // `to_string` is the shortest text that parses as the same double.
    let is_rounded = is_long && !prints_alike(&format!("{number:.0}")) && !prints_alike(&number.to_string());
    (!has_vanished && !is_rounded).then_some(number)
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
