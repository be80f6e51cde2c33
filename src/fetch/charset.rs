//! Converts bodies that are labelled as ISO-8859-1 to UTF-8, before anything reads them.
//!
//! This is one of the two changes that are ever made to a raw response. It loses nothing: each byte becomes a distinct character.
//! As in the Encoding Standard, both `ISO-8859-1` and `windows-1252` mean windows-1252, which has letters and quotation marks
//! where ISO-8859-1 has control characters that texts do not use.
//!
//! The label alone is not enough, because many servers put it on UTF-8. A body that is mostly UTF-8 is left as it is. So is a body
//! that does not start like a JSON object: it is not a page.

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderMap};

/// The labels, in lower case.
const LABELS: [&str; 9] =
    ["iso-8859-1", "iso8859-1", "iso_8859-1", "latin1", "latin-1", "l1", "windows-1252", "cp1252", "x-cp1252"];

/// The characters of windows-1252 from 0x80 to 0x9F. The five bytes that it leaves undefined become control characters.
const HIGH: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}', '‘', '’',
    '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

/// Whether the headers say that the body is in this character set.
pub(super) fn is_labelled(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(|kind| String::from_utf8_lossy(kind.as_bytes()).to_ascii_lowercase());
    let kind = kind.unwrap_or_default();
    let mut parameters = kind.split(';').skip(1).filter_map(|parameter| parameter.split_once('='));
    let charset = parameters.find(|(name, _)| name.trim() == "charset");
    charset.is_some_and(|(_, value)| LABELS.contains(&value.trim().trim_matches(['"', '\''])))
}

/// Whether a body with such a label really is in this character set.
pub(super) fn is_meant(body: &[u8]) -> bool {
    let (mut valid, mut invalid) = (0_usize, 0_usize);
    for chunk in body.utf8_chunks() {
        valid += chunk.valid().chars().filter(|c| !c.is_ascii()).count();
        invalid += chunk.invalid().len();
    }
    invalid > valid && body.trim_ascii_start().starts_with(b"{")
}

/// The length of the body in UTF-8, bytes.
pub(super) fn utf8_length(body: &[u8]) -> usize {
    body.iter().map(|byte| character(*byte).len_utf8()).sum()
}

/// Converts the body. `length` is its [`utf8_length`].
pub(super) fn to_utf8(body: &[u8], length: usize) -> Bytes {
    let mut text = String::with_capacity(length);
    text.extend(body.iter().map(|byte| character(*byte)));
    Bytes::from(text)
}

fn character(byte: u8) -> char {
    let high = byte.checked_sub(0x80).and_then(|high| HIGH.get(usize::from(high)));
    high.copied().unwrap_or_else(|| char::from(byte))
}

#[cfg(test)]
mod tests {
    use super::{is_labelled, is_meant, to_utf8, utf8_length};
    use reqwest::header::{CONTENT_TYPE, HeaderMap};
    use std::collections::HashSet;

    fn utf8(body: &[u8]) -> String {
        let plain = to_utf8(body, utf8_length(body));
        assert_eq!(plain.len(), utf8_length(body));
        String::from_utf8(plain.to_vec()).unwrap()
    }

    #[test]
    fn a_label_is_found_however_it_is_spelled() {
        let labelled = |kind: &str| is_labelled(&HeaderMap::from_iter([(CONTENT_TYPE, kind.parse().unwrap())]));
        for kind in [
            "application/json; charset=ISO-8859-1",
            "application/json;charset=iso-8859-1",
            "Application/JSON; Charset=\"Latin1\"",
            "text/plain; boundary=x; charset = windows-1252 ; x=y",
            "application/json; charset='iso-8859-1'",
        ] {
            assert!(labelled(kind), "{kind}");
        }
        for kind in [
            "application/json",
            "application/json; charset=utf-8",
            "application/json; charset=utf-8; charset=iso-8859-1",
            "application/json; charset=iso-8859-15",
            "application/json; charset=us-ascii",
            "application/json; xcharset=iso-8859-1",
            "iso-8859-1",
            "",
        ] {
            assert!(!labelled(kind), "{kind}");
        }
        assert!(!is_labelled(&HeaderMap::new()));
    }

    #[test]
    fn every_byte_becomes_a_character_of_its_own() {
        assert_eq!(utf8(b"{\"a\":\"caf\xe9 \xfcber \x80 \x93x\x94 \xff\"}"), "{\"a\":\"café über € “x” ÿ\"}");
        let all: Vec<u8> = (0..=u8::MAX).collect();
        let text = utf8(&all);
        assert_eq!((text.chars().count(), text.chars().collect::<HashSet<_>>().len()), (256, 256));
        assert!(text.starts_with(&(0..0x80).map(char::from).collect::<String>()));
        assert!(text.ends_with(&(0xa0..=0xff_u8).map(char::from).collect::<String>()));
    }

    #[test]
    fn a_body_that_is_mostly_utf8_or_not_an_object_is_not_what_its_label_says() {
        for body in [&b"{\"a\":\"caf\xe9\"}"[..], b" \r\n{\"a\":\"\xe9\xe8\"}", "{\"Ã©\":1}".as_bytes()] {
            assert_eq!(is_meant(body), body.contains(&0xe9), "{body:?}");
        }
        for body in [
            "{\"a\":\"café\"}".as_bytes(),
            b"{\"a\":\"plain\"}",
            b"{\"a\":\"caf\xc3\xa9, cut \xf0\x9f\"}\xc3\xa9",
            b"\xef\xbb\xbf{\"a\":\"caf\xe9\"}",
            b"<p>caf\xe9</p>",
            b"\x1f\x8b\x08\xff",
            b"",
        ] {
            assert!(!is_meant(body), "{body:?}");
        }
    }
}
