//! The frame of an answer: `{code, message, data, requestId}`, read without looking at a single row.
//!
//! This is all that is judged before an answer becomes durable, so it must accept every complete JSON document, whatever
//! its rows hold: lone surrogates, invalid UTF-8 and numbers of any size are somebody else's business (see `decode`).

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// Key under which the rows stand.
pub const DATA: &str = "data";
/// How bodies begin that are packed with gzip (RFC 1952) and zstd (RFC 8878). Neither is text.
const PACKED: [&[u8]; 2] = [b"\x1f\x8b", b"\x28\xb5\x2f\xfd"];

/// The frame of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    /// Outcome by the API's own word, when it is a number or a text that holds one.
    pub code: Option<i64>,
    /// What the API says, not sanitised.
    pub message: String,
    /// What stands under `data`.
    pub data: Payload,
}

/// What stands under `data`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Payload {
    /// No such key, null, or something that is no list.
    #[default]
    None,
    /// A list of rows, however long.
    Rows,
}

/// A body is no envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotEnvelope {
    /// No body at all.
    #[error("the body is empty")]
    Empty,
    /// JSON that breaks off: the answer did not arrive whole.
    #[error("the body breaks off")]
    Truncated,
    /// Packed with gzip or zstd, which no request asks for. It is never unpacked: a small body could hold a huge one.
    #[error("the body is compressed, which was not asked for")]
    Compressed,
    /// Something else than a JSON object with a `code`.
    #[error("the body is not the documented envelope")]
    Foreign,
}

/// A body as text: without the byte order mark that some proxies put before it, and with whatever is not UTF-8 replaced.
/// Borrowed in the regular case.
pub fn text(body: &[u8]) -> Cow<'_, str> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    simdutf8::basic::from_utf8(body).map_or_else(|_| String::from_utf8_lossy(body), Cow::Borrowed)
}

/// Reads the frame of a body and checks that the document is complete.
pub fn read(body: &[u8]) -> Result<Envelope, NotEnvelope> {
    if PACKED.iter().any(|magic| body.starts_with(magic)) {
        return Err(NotEnvelope::Compressed);
    }
    let text = text(body);
    match text.trim_ascii_start().as_bytes().first() {
        None => return Err(NotEnvelope::Empty),
        Some(b'{') => {}
        Some(_) => return Err(NotEnvelope::Foreign),
    }
    let envelope: Envelope = serde_json::from_str(&text).map_err(|error| match error.classify() {
        serde_json::error::Category::Eof => NotEnvelope::Truncated,
        serde_json::error::Category::Io | serde_json::error::Category::Syntax | serde_json::error::Category::Data => {
            NotEnvelope::Foreign
        }
    })?;
    if envelope.code.is_none() { Err(NotEnvelope::Foreign) } else { Ok(envelope) }
}

impl<'de> Deserialize<'de> for Envelope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Frame;
        impl<'de> Visitor<'de> for Frame {
            type Value = Envelope;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an envelope")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Envelope, A::Error> {
                let mut envelope = Envelope::default();
                while let Some(key) = map.next_key::<Lenient>()? {
                    match key.0.as_str() {
                        "code" => envelope.code = scalar(map.next_value()?).trim().parse().ok(),
                        "message" => envelope.message = scalar(map.next_value()?),
                        DATA => {
                            let data: &RawValue = map.next_value()?;
                            envelope.data = if data.get().starts_with('[') { Payload::Rows } else { Payload::None };
                        }
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(envelope)
            }
        }
        deserializer.deserialize_map(Frame)
    }
}

/// A JSON string with whatever is not Unicode replaced.
pub(crate) struct Lenient(pub(crate) String);

impl<'de> Deserialize<'de> for Lenient {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Lenient;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Lenient, E> {
                Ok(Lenient(String::from_utf8_lossy(bytes).into_owned()))
            }
        }
        deserializer.deserialize_bytes(Text)
    }
}

/// The text of a string or a number; empty for anything else.
fn scalar(raw: &RawValue) -> String {
    let text = raw.get();
    if text.starts_with('"') {
        return serde_json::from_str(text).map_or_else(|_| String::new(), |Lenient(text)| text);
    }
    let number = text.starts_with(|c: char| c == '-' || c.is_ascii_digit());
    if number { text.to_owned() } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::{NotEnvelope, Payload, read};

    #[test]
    fn a_success_is_read_without_touching_its_rows() {
        let body = br#"{"code":0,"message":"success","data":[{"a":1e999},{"b":"\ud83d"}],"requestId":"x"}"#;
        let envelope = read(body).unwrap();
        assert_eq!((envelope.code, envelope.data), (Some(0), Payload::Rows));
        assert_eq!(envelope.message, "success");
    }

    #[test]
    fn invalid_utf8_and_lone_surrogates_anywhere_do_not_make_it_less_complete() {
        let envelope = read(b"{\"code\":0,\"message\":\"\\ud83d\",\"data\":[{\"t\":\"\xff\xfe\"}]}").unwrap();
        assert_eq!(envelope.data, Payload::Rows);
        assert!(read(b"{\"code\":0,\"message\":\"\xff\",\"data\":[]}").is_ok());
    }

    #[test]
    fn code_may_be_a_text_and_message_anything() {
        let envelope = read(br#"{"code":"402","message":null,"data":null}"#).unwrap();
        assert_eq!((envelope.code, envelope.message.as_str(), envelope.data), (Some(402), "", Payload::None));
    }

    #[test]
    fn data_that_is_no_list_is_no_page() {
        for data in ["null", "{\"a\":[]}", "\"rows\"", "7", "-7", "1.5", "true"] {
            let envelope = read(format!(r#"{{"code":0,"message":"","data":{data}}}"#).as_bytes()).unwrap();
            assert_eq!(envelope.data, Payload::None, "{data}");
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
