//! JSON as servers write it: understood wherever its meaning is plain, and never so that something is lost.
//!
//! Servers cut texts in the middle of a character, put control characters into strings and `NaN` in place of a number.
//! By the letter none of that is JSON; a page that was paid for is not given up over it.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, Visitor};

/// A body as text: without the byte order mark that some proxies put before it, and each byte that is no UTF-8 as the JSON
/// escape `\udc80` to `\udcff`, which stands for that byte and for nothing else. Borrowed in the regular case; six times as
/// long as the body at worst.
pub fn text(body: &[u8]) -> Cow<'_, str> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    simdutf8::basic::from_utf8(body).map_or_else(|_| Cow::Owned(escaped(body)), Cow::Borrowed)
}

fn escaped(body: &[u8]) -> String {
    let mut text = String::with_capacity(body.len() + 64);
    for chunk in body.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            // A backslash before it would escape ours.
            let is_open = text.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1;
            text.push_str(if is_open { "\\\\udc" } else { "\\udc" });
            text.push_str(&crate::endpoint::hex(&[*byte]));
        }
    }
    text
}

/// The same document by the letter: control characters in strings and backslashes that escape nothing are escaped, and
/// words that are no JSON, such as `NaN`, become strings. Where values begin and end stays the same.
pub fn repaired(text: &str) -> String {
    let mut repaired = String::with_capacity(text.len() + 64);
    let mut rest = text;
    let mut in_string = false;
    while let Some(c) = rest.chars().next() {
        let length = match c {
            '"' => {
                in_string = !in_string;
                1
            }
            '\\' if in_string => {
                let length = escape_length(rest);
                if length == 1 {
                    repaired.push('\\');
                }
                length
            }
            c if in_string && c < ' ' => {
                repaired.push_str("\\u00");
                repaired.push_str(&crate::endpoint::hex(&[c.try_into().unwrap_or_default()]));
                rest = rest.get(1..).unwrap_or_default();
                continue;
            }
            c if !in_string && is_of_word(c) => {
                let (word, behind) = rest.split_at(rest.find(|c| !is_of_word(c)).unwrap_or(rest.len()));
                let is_value = behind.is_empty() || behind.starts_with([',', '}', ']', ' ', '\t', '\r', '\n']);
                if is_value && serde_json::from_str::<IgnoredAny>(word).is_err() {
                    repaired.extend(["\"", word, "\""]);
                    rest = behind;
                    continue;
                }
                word.len()
            }
            c => c.len_utf8(),
        };
        let (same, behind) = rest.split_at_checked(length).unwrap_or((rest, ""));
        repaired.push_str(same);
        rest = behind;
    }
    repaired
}

/// Bytes of the escape that a text begins with; 1, the backslash alone, where it escapes nothing.
fn escape_length(text: &str) -> usize {
    let is_hex = |digits: &[u8]| digits.iter().all(u8::is_ascii_hexdigit);
    match text.as_bytes() {
        [_, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => 2,
        [_, b'u', digits @ ..] if digits.get(..4).is_some_and(is_hex) => 6,
        _ => 1,
    }
}

fn is_of_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.' | '_')
}

/// What a JSON string with its quotes says, each half of a surrogate pair replaced by one U+FFFD.
pub fn unquoted(raw: &str) -> Option<String> {
    let text = serde_json::from_str(raw).or_else(|_| serde_json::from_str(&repaired(raw)));
    text.ok().map(|Lenient(text)| text)
}

/// A JSON string with each half of a surrogate pair replaced by one U+FFFD.
#[derive(Debug)]
pub struct Lenient(pub String);

impl<'de> Deserialize<'de> for Lenient {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct JsonText;
        impl Visitor<'_> for JsonText {
            type Value = Lenient;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Lenient, E> {
                Ok(Lenient(without_halves(bytes)))
            }
        }
        deserializer.deserialize_bytes(JsonText)
    }
}

/// Bytes as text. Half of a surrogate pair comes as three bytes, the first of them 0xED.
fn without_halves(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(chunk) = rest.utf8_chunks().next() {
        text.push_str(chunk.valid());
        let wrong = chunk.invalid();
        if !wrong.is_empty() {
            text.push('\u{fffd}');
        }
        let length = chunk.valid().len() + if wrong == [0xed] { 3 } else { wrong.len() };
        rest = rest.get(length..).unwrap_or_default();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Lenient, repaired, text};
    use proptest::prelude::*;

    fn string(raw: &str) -> String {
        serde_json::from_str::<Lenient>(raw).unwrap().0
    }

    #[test]
    fn each_byte_that_is_no_utf8_stands_as_an_escape_of_its_own() {
        assert_eq!(text(b"\xef\xbb\xbf{}"), "{}");
        assert_eq!(text(b"\"a\xffb\xe2\x82\""), r#""a\udcffb\udce2\udc82""#);
        assert_eq!(string(&text(b"\"a\xffb\xe2\x82\"")), "a\u{fffd}b\u{fffd}\u{fffd}");
        assert_eq!(string(&text(b"\"a\\\xff\"")), "a\\\u{fffd}");
        assert_eq!(string(&text(b"\"a\\\\\xff\"")), "a\\\u{fffd}");
    }

    #[test]
    fn half_a_surrogate_pair_is_one_replacement_and_a_whole_pair_is_its_character() {
        assert_eq!(string(r#""x\ud83dy\ude00z\ud83d""#), "x\u{fffd}y\u{fffd}z\u{fffd}");
        assert_eq!(string(r#""\ud83d\ude00\ud83d\ud83d\ude00""#), "\u{1f600}\u{fffd}\u{1f600}");
        assert_eq!(string(r#""\ued00\udfff\u0000""#), "\u{ed00}\u{fffd}\0");
    }

    #[test]
    fn what_is_no_json_by_the_letter_is_mended_and_the_rest_is_left_alone() {
        let table = [
            ("{\"a\":\"x\ty\0\"}", r#"{"a":"x\u0009y\u0000"}"#),
            ("{ \"a\" :\n[NaN, -Infinity ,01]}", "{ \"a\" :\n[\"NaN\", \"-Infinity\" ,\"01\"]}"),
            (r#"{"a":"\x41\u12\'\"\\"}"#, r#"{"a":"\\x41\\u12\\'\"\\"}"#),
            (r#"{"a":[1,-2.5e+3,true,null,"NaN, \ud83d"]}"#, r#"{"a":[1,-2.5e+3,true,null,"NaN, \ud83d"]}"#),
            ("{a:1}", "{a:1}"),
            ("{\"a\":N", "{\"a\":\"N\""),
            ("\"open \\", "\"open \\\\"),
        ];
        for (text, wanted) in table {
            assert_eq!(repaired(text), wanted, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_mending_panic_and_what_is_json_stays_as_it_is(text in any::<String>(), value in any::<Vec<String>>()) {
            repaired(&text);
            let json = serde_json::to_string(&value).unwrap();
            prop_assert_eq!(repaired(&json), json);
        }

        #[test]
        fn no_bytes_are_lost_on_their_way_into_a_string(bytes in proptest::collection::vec(0x20_u8.., 0..40)) {
            let bytes: Vec<u8> = bytes.into_iter().filter(|byte| !b"\"\\\x7f".contains(byte)).collect();
            let raw = format!("\"{}\"", text(&[b"x", bytes.as_slice()].concat()));
            let units: Vec<u16> = raw.trim_matches('"').get(1..).unwrap().encode_utf16().collect();
            let back = unescaped(&String::from_utf16(&units).unwrap());
            prop_assert_eq!(back, bytes);
        }
    }

    /// The bytes that a text of [`text`] stands for, where it holds no other escapes.
    fn unescaped(text: &str) -> Vec<u8> {
        let mut parts = text.split("\\udc");
        let mut bytes = parts.next().unwrap().as_bytes().to_vec();
        for part in parts {
            let (byte, behind) = part.split_at(2);
            bytes.push(u8::from_str_radix(byte, 16).unwrap());
            bytes.extend_from_slice(behind.as_bytes());
        }
        bytes
    }
}
