//! One cell's JSON text as a value of its column: converted if nothing is lost, refused otherwise.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, ArrowPrimitiveType, Float64Builder, Int64Builder, PrimitiveBuilder, StringBuilder,
    TimestampMicrosecondBuilder,
};

use super::{lenient_json, number, time};
use crate::endpoint::{Column, ColumnKind};

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

    /// Appends a cell's JSON text. False if it does not fit: then the cell is null, or the repaired text.
    pub(super) fn append(&mut self, raw: Option<&str>, column: &Column) -> bool {
        let raw = raw.filter(|raw| *raw != "null");
        let value = raw.and_then(text_of);
        let text = value.as_ref().map(|value| &*value.text);
        let fits = match self {
            Self::Text(builder) => {
                builder.append_option(text);
                value.is_some_and(|value| value.is_exact)
            }
            Self::Int(builder) => append_number(builder, text.and_then(number::whole)),
            Self::Float(builder) => append_number(builder, text.and_then(number::double)),
            Self::Time(builder) => {
                append_number(builder, text.and_then(|text| micros_of(text, column.unit.as_deref())))
            }
        };
        fits || raw.is_none()
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

fn append_number<T: ArrowPrimitiveType>(builder: &mut PrimitiveBuilder<T>, value: Option<T::Native>) -> bool {
    builder.append_option(value);
    value.is_some()
}

pub(super) struct Text<'a> {
    pub(super) text: Cow<'a, str>,
    /// False if a part that is not Unicode was replaced.
    pub(super) is_exact: bool,
}

/// A string, or a number by its digits; nothing else is text.
pub(super) fn text_of(raw: &str) -> Option<Text<'_>> {
    let [b'"', bytes @ .., b'"'] = raw.as_bytes() else {
        let is_number = matches!(raw.as_bytes(), [b'-' | b'0'..=b'9', ..]);
        return is_number.then_some(Text { text: Cow::Borrowed(raw), is_exact: true });
    };
    if memchr::memchr(b'\\', bytes).is_none() {
        let inner = raw.get(1..=bytes.len())?;
        return Some(Text { text: Cow::Borrowed(inner), is_exact: true });
    }
    if let Ok(text) = serde_json::from_str::<String>(raw) {
        return Some(Text { text: Cow::Owned(text), is_exact: true });
    }
    // Half of a surrogate pair is common: some servers cut a text in the middle of an emoji.
    lenient_json::unquoted(raw).map(|text| Text { text: Cow::Owned(text), is_exact: false })
}

/// A text that identifies something; none if it is empty. A text that is not Unicode is its JSON text, because two repaired
/// texts could be equal.
pub(super) fn identity_of(raw: &str) -> Option<Text<'_>> {
    let value = text_of(raw).filter(|value| !value.text.is_empty())?;
    Some(if value.is_exact { value } else { Text { text: Cow::Borrowed(raw), is_exact: false } })
}

/// Like [`identity_of`], for a key, which must differ for each identity: a text that starts with a quote is its JSON text too,
/// so that it never equals the JSON text of one that is not Unicode.
pub(super) fn key_text_of(raw: &str) -> Option<Text<'_>> {
    let value = identity_of(raw)?;
    if !(value.is_exact && value.text.starts_with('"')) {
        return Some(value);
    }
    Some(Text { text: Cow::Owned(serde_json::Value::from(&*value.text).to_string()), is_exact: false })
}

/// Microseconds since 1970, from a count of seconds or milliseconds or from ISO 8601. None outside of 1970 to 2100, where the
/// number means something else.
fn micros_of(text: &str, unit: Option<&str>) -> Option<i64> {
    const YEAR_2100: i64 = 4_102_444_800_000_000;
    let factor = if unit == Some("ms") { 1_000 } else { 1_000_000 };
    let micros = match number::whole(text) {
        Some(count) => count.checked_mul(factor),
        None => time::micros(text),
    };
    micros.filter(|micros| (1..YEAR_2100).contains(micros))
}

/// Whether a cell is a number with an exponent or a fraction. It cannot identify a row: it went through a float, which rounds
/// several ids to one.
pub(super) fn is_inexact_number(raw: &str) -> bool {
    raw.starts_with(|c: char| c == '-' || c.is_ascii_digit()) && raw.contains(['.', 'e', 'E'])
}
