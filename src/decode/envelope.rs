//! The envelope of a response, `{code, message, data, requestId}`, read without decoding a row.
//!
//! A response is classified by its envelope alone before it is journaled. So every complete document must be accepted,
//! whatever its rows contain: lone surrogates, invalid UTF-8, numbers of any size and nesting of any depth (`decoder` handles
//! them), and what `lenient_json` repairs.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;

use crate::decode::lenient_json::{self, Lenient};
use crate::decode::number;

/// The field that contains the rows.
pub const DATA: &str = "data";
/// The first bytes of gzip (RFC 1952) and zstd (RFC 8878). Neither is text.
const COMPRESSED: [&[u8]; 2] = [b"\x1f\x8b", b"\x28\xb5\x2f\xfd"];

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    /// The API's result code, if it is a number or a text that contains one.
    pub code: Option<i64>,
    /// Not sanitised.
    pub message: String,
    /// The kind of value under `data`.
    pub data: Payload,
}

/// The kind of value under `data`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Payload {
    /// No such field, null, `{}`, `""` or false: some APIs send these for no rows.
    #[default]
    None,
    /// Any other value that is not a list.
    Other,
    Rows,
}

impl Payload {
    fn from_json(value: &str) -> Self {
        match value {
            "null" | "false" | "\"\"" => Self::None,
            list if list.starts_with('[') => Self::Rows,
            object if object.strip_prefix('{').is_some_and(|rest| rest.trim_start() == "}") => Self::None,
            _ => Self::Other,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotEnvelope {
    /// Nothing but white space.
    #[error("the body is empty")]
    Empty,
    /// JSON without its end: a part of the response did not arrive.
    #[error("the body is truncated")]
    Truncated,
    /// gzip or zstd without a header that says so. It is never decompressed here: a small body can expand to a huge one.
    #[error("the body is compressed, which was not requested")]
    Compressed,
    /// Not a JSON object with a `code`.
    #[error("the body is not the documented envelope")]
    Foreign,
}

/// Reads the envelope of a body and checks that the document is complete.
pub fn read(body: &[u8]) -> Result<Envelope, NotEnvelope> {
    if COMPRESSED.iter().any(|magic| body.starts_with(magic)) {
        return Err(NotEnvelope::Compressed);
    }
    let text = lenient_json::text(body);
    match text.trim_ascii_start().as_bytes().first() {
        None => return Err(NotEnvelope::Empty),
        Some(b'{') => {}
        Some(_) => return Err(NotEnvelope::Foreign),
    }
    let envelope = match parse(&text) {
        Err(NotEnvelope::Foreign) => parse(&lenient_json::repaired(&text)),
        known => known,
    }?;
    if envelope.code.is_none() { Err(NotEnvelope::Foreign) } else { Ok(envelope) }
}

fn parse(text: &str) -> Result<Envelope, NotEnvelope> {
    serde_json::from_str(text).map_err(|error| match error.classify() {
        Category::Eof => NotEnvelope::Truncated,
        Category::Io | Category::Syntax | Category::Data => NotEnvelope::Foreign,
    })
}

impl<'de> Deserialize<'de> for Envelope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EnvelopeVisitor;
        impl<'de> Visitor<'de> for EnvelopeVisitor {
            type Value = Envelope;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an envelope")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Envelope, A::Error> {
                let mut envelope = Envelope::default();
                while let Some(key) = map.next_key::<Lenient>()? {
                    match key.0.as_str() {
                        "code" => envelope.code = number::whole(scalar(map.next_value()?).trim()),
                        "message" => envelope.message = scalar(map.next_value()?),
                        DATA => {
                            let data: &RawValue = map.next_value()?;
                            // If the field comes twice, a list takes precedence.
                            envelope.data = envelope.data.max(Payload::from_json(data.get()));
                        }
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(envelope)
            }
        }
        deserializer.deserialize_map(EnvelopeVisitor)
    }
}

/// The text of a string or a number; empty for anything else.
fn scalar(raw: &RawValue) -> String {
    match raw.get() {
        text if text.starts_with('"') => lenient_json::unquoted(text).unwrap_or_default(),
        number if number.starts_with(|c: char| c == '-' || c.is_ascii_digit()) => number.to_owned(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::{NotEnvelope, Payload, read};

    #[test]
    fn a_success_is_read_without_decoding_its_rows() {
        let body = br#"{"code":0,"message":"success","data":[{"a":1e999},{"b":"\ud83d"}],"requestId":"x"}"#;
        let envelope = read(body).unwrap();
        assert_eq!((envelope.code, envelope.data), (Some(0), Payload::Rows));
        assert_eq!(envelope.message, "success");
    }

    #[test]
    fn a_body_with_invalid_utf8_and_lone_surrogates_is_complete() {
        let envelope = read(b"{\"code\":0,\"message\":\"\\ud83d\",\"data\":[{\"t\":\"\xff\xfe\"}]}").unwrap();
        assert_eq!(envelope.data, Payload::Rows);
        assert!(read(b"{\"code\":0,\"message\":\"\xff\",\"data\":[]}").is_ok());
    }

    #[test]
    fn code_may_be_a_text_and_message_anything() {
        let envelope = read(br#"{"code":"402","message":null,"data":null}"#).unwrap();
        assert_eq!((envelope.code, envelope.message.as_str(), envelope.data), (Some(402), "", Payload::None));
        for (code, number) in
            [("0.0", Some(0)), ("\" 0\"", Some(0)), ("4.29e2", Some(429)), ("\"x\"", None), ("[]", None)]
        {
            let read = read(format!(r#"{{"code":{code},"data":[]}}"#).as_bytes());
            assert_eq!(read.ok().and_then(|envelope| envelope.code), number, "{code}");
        }
    }

    #[test]
    fn data_that_is_not_a_list_means_no_rows_or_is_something_else() {
        let table = [
            (Payload::None, ["null", "{}", "{ }", "\"\"", "false"].as_slice()),
            (Payload::Other, &["{\"a\":[]}", "\"rows\"", "7", "-7", "1.5", "true", "0"]),
        ];
        for (payload, texts) in table {
            for data in texts {
                let envelope = read(format!(r#"{{"code":0,"message":"","data":{data}}}"#).as_bytes()).unwrap();
                assert_eq!(envelope.data, payload, "{data}");
            }
        }
        assert_eq!(read(br#"{"code":0}"#).unwrap().data, Payload::None);
    }

    #[test]
    fn invalid_json_that_can_be_repaired_is_a_page_and_still_must_be_complete() {
        let body =
            "{\"code\":0,\"message\":\"a\tb\0\",\"data\":[{\"a\":NaN,\"b\":-Infinity,\"c\":01,\"d\":\"x41\n\"}]}";
        let envelope = read(body.as_bytes()).unwrap();
        assert_eq!((envelope.data, envelope.message.as_str()), (Payload::Rows, "a\tb\0"));
        for end in 1..body.len() {
            assert_eq!(read(&body.as_bytes()[..end]), Err(NotEnvelope::Truncated), "cut at {end}");
        }
    }

    #[test]
    fn a_data_field_that_comes_twice_is_a_page_if_one_is_a_list() {
        for data in [r#""data":null,"data":[]"#, r#""data":[],"data":null"#, r#""data":[],"data":[]"#] {
            assert_eq!(read(format!("{{\"code\":0,{data}}}").as_bytes()).unwrap().data, Payload::Rows, "{data}");
        }
    }

    #[test]
    fn a_body_cut_at_any_byte_is_truncated_and_never_an_envelope() {
        let body = br#"{"code":0,"message":"success","data":[{"a":1},{"b":"x"}],"requestId":"x"}"#;
        for end in 1..body.len() {
            assert_eq!(read(&body[..end]), Err(NotEnvelope::Truncated), "cut at {end}");
        }
        assert_eq!(read(b""), Err(NotEnvelope::Empty));
    }

    #[test]
    fn other_documents_are_foreign() {
        for body in ["<html></html>", "[]", "{}", "{\"code\":null}", "{\"data\":[]}", "{\"code\":0} trailing"] {
            assert_eq!(read(body.as_bytes()), Err(NotEnvelope::Foreign), "{body}");
        }
        assert!(read(b"\xef\xbb\xbf{\"code\":0,\"data\":[]}").is_ok());
    }
}
