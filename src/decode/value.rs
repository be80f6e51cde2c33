//! One cell's JSON text as a value of its column: coerced where nothing is lost, refused otherwise.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Builder, Int64Builder, StringBuilder, TimestampMicrosecondBuilder};

use crate::decode::lenient_json;
use crate::decode::number;
use crate::endpoint::{Column, ColumnKind};

use super::time;

/// The columns of rows under construction.
pub(super) enum Builder {
    Text(StringBuilder),
    Int(Int64Builder),
    Float(Float64Builder),
    Time(TimestampMicrosecondBuilder),
}

impl Builder {
    pub(super) fn new(kind: ColumnKind, rows: usize) -> Self {
        match kind {
            ColumnKind::Utf8 => Self::Text(StringBuilder::with_capacity(rows, rows * 48)),
            ColumnKind::Int64 => Self::Int(Int64Builder::with_capacity(rows)),
            ColumnKind::Float64 => Self::Float(Float64Builder::with_capacity(rows)),
            ColumnKind::Timestamp => Self::Time(TimestampMicrosecondBuilder::with_capacity(rows)),
        }
    }

    /// Appends a cell's JSON text. False: it did not fit, a null (or the repaired text) stands in its place.
    pub(super) fn append(&mut self, raw: Option<&str>, column: &Column) -> bool {
        let raw = raw.filter(|raw| *raw != "null");
        match self {
            Self::Text(builder) => {
                let value = raw.and_then(text_of);
                builder.append_option(value.as_ref().map(|value| &value.text));
                value.is_some_and(|value| value.exact) || raw.is_none()
            }
            Self::Int(builder) => {
                let value = raw.and_then(integer_of);
                builder.append_option(value);
                value.is_some() || raw.is_none()
            }
            Self::Float(builder) => {
                let value = raw.and_then(double_of);
                builder.append_option(value);
                value.is_some() || raw.is_none()
            }
            Self::Time(builder) => {
                let value = raw.and_then(|raw| moment_of(raw, column.unit.as_deref()));
                builder.append_option(value);
                value.is_some() || raw.is_none()
            }
        }
    }

    pub(super) fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Text(builder) => Arc::new(builder.finish()),
            Self::Int(builder) => Arc::new(builder.finish()),
            Self::Float(builder) => Arc::new(builder.finish()),
            Self::Time(builder) => Arc::new(builder.finish().with_timezone("UTC")),
        }
    }
}

/// The text of a cell; `exact` is false where something that is not Unicode had to be replaced.
pub(super) struct Text<'a> {
    pub(super) text: Cow<'a, str>,
    pub(super) exact: bool,
}

/// A string as it is, a number by its digits; nothing else is text.
pub(super) fn text_of(raw: &str) -> Option<Text<'_>> {
    let [b'"', bytes @ .., b'"'] = raw.as_bytes() else {
        let number = matches!(raw.as_bytes(), [b'-' | b'0'..=b'9', ..]);
        return number.then_some(Text { text: Cow::Borrowed(raw), exact: true });
    };
    if memchr::memchr(b'\\', bytes).is_none() {
        let inner = raw.get(1..=bytes.len())?;
        return Some(Text { text: Cow::Borrowed(inner), exact: true });
    }
    if let Ok(text) = serde_json::from_str::<String>(raw) {
        return Some(Text { text: Cow::Owned(text), exact: true });
    }
    // Half of a surrogate pair is common where a server cuts a text in the middle of an emoji.
    lenient_json::unquoted(raw).map(|text| Text { text: Cow::Owned(text), exact: false })
}

/// A text that identifies something; none if it is empty. What is not Unicode stands as its JSON text: repaired, two of
/// them could look the same.
pub(super) fn identity_of(raw: &str) -> Option<Text<'_>> {
    let value = text_of(raw).filter(|value| !value.text.is_empty())?;
    Some(if value.exact { value } else { Text { text: Cow::Borrowed(raw), exact: false } })
}

/// The same where it is part of a key, which must be another one for each identity: so that no text looks like the JSON text
/// of what is not Unicode, one that begins with a quote stands as its JSON text too.
pub(super) fn key_text_of(raw: &str) -> Option<Text<'_>> {
    let value = identity_of(raw)?;
    if !(value.exact && value.text.starts_with('"')) {
        return Some(value);
    }
    Some(Text { text: Cow::Owned(serde_json::Value::from(&*value.text).to_string()), exact: false })
}

/// A whole number, also as a string.
fn integer_of(raw: &str) -> Option<i64> {
    number::whole(&text_of(raw)?.text)
}

/// A finite number, also as a string.
fn double_of(raw: &str) -> Option<f64> {
    number::double(&text_of(raw)?.text)
}

/// Microseconds since 1970 of a count of seconds or milliseconds, or of a time in ISO 8601, between 1970 and 2100: outside of
/// it something else is meant.
fn moment_of(raw: &str, unit: Option<&str>) -> Option<i64> {
    const YEAR_2100: i64 = 4_102_444_800_000_000;
    let text = text_of(raw)?.text;
    let factor = if unit == Some("ms") { 1_000 } else { 1_000_000 };
    let micros = match number::whole(&text) {
        Some(count) => count.checked_mul(factor),
        None => time::micros(&text),
    };
    micros.filter(|micros| (1..YEAR_2100).contains(micros))
}

/// Whether a cell is a number with an exponent or a fraction. As an identity it is none: it went through a float, and may be
/// the rounded id of several.
pub(super) fn is_inexact_number(raw: &str) -> bool {
    raw.starts_with(|c: char| c == '-' || c.is_ascii_digit()) && raw.contains(['.', 'e', 'E'])
}
