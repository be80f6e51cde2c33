//! JSON that some servers send although it is invalid, read without loss.
//!
//! Servers cut texts in the middle of a character, write control characters into strings, and `NaN` or `007` for a number. A
//! page that was paid for must not fail because of that.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, Visitor};

/// A body as text: without the byte order mark that some proxies add, and with each byte that is not UTF-8 as the JSON escape
/// `\udc80` to `\udcff`, which no other input produces. Usually borrowed; at most six times as long as the body.
pub fn text(body: &[u8]) -> Cow<'_, str> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    simdutf8::basic::from_utf8(body).map_or_else(|_| Cow::Owned(escaped(body)), Cow::Borrowed)
}

fn escaped(body: &[u8]) -> String {
    let mut text = String::with_capacity(body.len() + 64);
    for chunk in body.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            // An odd backslash before the escape would escape its backslash.
            let is_escaped = text.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1;
            text.push_str(if is_escaped { "\\\\udc" } else { "\\udc" });
            text.push_str(&crate::endpoint::hex(&[*byte]));
        }
    }
    text
}

/// The document as strict JSON: control characters in strings are escaped, and words such as `NaN` become strings. Values
/// keep their order and nesting.
pub fn repaired(text: &str) -> String {
    let mut repaired = String::with_capacity(text.len() + 64);
    let mut rest = text;
    let mut in_string = false;
    while let Some(c) = rest.chars().next() {
        let mut length = c.len_utf8();
        match c {
            '"' => in_string = !in_string,
            '\\' if in_string => length += rest.chars().nth(1).map_or(0, char::len_utf8),
            '\0'..' ' if in_string => {
                repaired.extend(format!("\\u{:04x}", u32::from(c)).chars());
                rest = rest.get(length..).unwrap_or_default();
                continue;
            }
            _ if !in_string && is_of_word(c) => {
                let (word, after) = rest.split_at(rest.find(|c| !is_of_word(c)).unwrap_or(rest.len()));
                let is_value = after.is_empty() || after.starts_with([',', '}', ']', ' ', '\t', '\r', '\n']);
                if is_value && serde_json::from_str::<IgnoredAny>(word).is_err() {
                    repaired.extend(["\"", word, "\""]);
                    rest = after;
                    continue;
                }
                length = word.len();
            }
            _ => {}
        }
        let (same, after) = rest.split_at_checked(length).unwrap_or((rest, ""));
        repaired.push_str(same);
        rest = after;
    }
    repaired
}

fn is_of_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.' | '_')
}

/// The value of a quoted JSON string, each half of a surrogate pair replaced by one U+FFFD.
pub fn unquoted(raw: &str) -> Option<String> {
    let text = serde_json::from_str(raw).or_else(|_| serde_json::from_str(&repaired(raw)));
    text.ok().map(|Lenient(text)| text)
}

/// A JSON string, deserialized with each half of a surrogate pair replaced by one U+FFFD.
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
                Ok(Lenient(replace_halves(bytes)))
            }
        }
        deserializer.deserialize_bytes(JsonText)
    }
}

/// Bytes as text. `serde_json` returns half of a surrogate pair as three bytes, the first of which is 0xED.
fn replace_halves(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(chunk) = rest.utf8_chunks().next() {
        text.push_str(chunk.valid());
        let invalid = chunk.invalid();
        if !invalid.is_empty() {
            text.push('\u{fffd}');
        }
        let length = chunk.valid().len() + if invalid == [0xed] { 3 } else { invalid.len() };
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
    fn each_byte_that_is_not_utf8_becomes_an_escape_of_its_own() {
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
    fn invalid_json_is_repaired_and_the_rest_stays_unchanged() {
        let table = [
            ("{\"a\":\"x\ty\0\"}", r#"{"a":"x\u0009y\u0000"}"#),
            ("{ \"a\" :\n[NaN, -Infinity ,01]}", "{ \"a\" :\n[\"NaN\", \"-Infinity\" ,\"01\"]}"),
            (r#"{"a":[1,-2.5e+3,true,null,"NaN, \ud83d"]}"#, r#"{"a":[1,-2.5e+3,true,null,"NaN, \ud83d"]}"#),
            ("{a:1}", "{a:1}"),
            ("{\"a\":N", "{\"a\":\"N\""),
            ("\"open \\", "\"open \\"),
        ];
        for (text, expected) in table {
            assert_eq!(repaired(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_repair_panic_and_valid_json_stays_unchanged(text in any::<String>(), value in any::<Vec<String>>()) {
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

    /// The bytes that [`text`] was given, if it returned no other escapes.
    fn unescaped(text: &str) -> Vec<u8> {
        let mut parts = text.split("\\udc");
        let mut bytes = parts.next().unwrap().as_bytes().to_vec();
        for part in parts {
            let (byte, rest) = part.split_at(2);
            bytes.push(u8::from_str_radix(byte, 16).unwrap());
            bytes.extend_from_slice(rest.as_bytes());
        }
        bytes
    }
}
