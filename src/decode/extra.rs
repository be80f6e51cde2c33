//! `_extra`: the fields that belong to no column, as one JSON object that every reader accepts.
//!
//! A value that a strict reader refuses would fail a query over the whole file. So half of a surrogate pair, a word such as
//! `NaN`, a number too large for a double, and nesting deeper than [`NESTING`] become a string of their JSON text. The same
//! is true of a name with half of a surrogate pair. A name that comes more than once gets the list of its values.

use std::borrow::Cow;
use std::collections::HashMap;

use super::cells::{Field, depth};

/// Most levels of a value that `_extra` nests; many readers accept 128.
pub const NESTING: usize = 100;

/// The fields as one object, in order.
pub(super) fn object(fields: &[Field<'_>]) -> String {
    let mut positions: HashMap<&str, usize> = HashMap::with_capacity(fields.len());
    let mut named: Vec<(&str, Vec<&str>)> = Vec::with_capacity(fields.len());
    for (name, raw) in fields {
        let position = *positions.entry(name).or_insert(named.len());
        match named.get_mut(position) {
            Some((_, values)) => values.push(raw),
            None => named.push((name, vec![raw])),
        }
    }
    let mut text = String::from("{");
    for (at, (name, values)) in named.iter().enumerate() {
        text.extend([if at > 0 { "," } else { "" }, &quoted(name), ":"]);
        match values.as_slice() {
            [raw] => text.push_str(&value(raw)),
            several => {
                let several: Vec<_> = several.iter().map(|raw| value(raw)).collect();
                text.extend(["[", &several.join(","), "]"]);
            }
        }
    }
    text.push('}');
    text
}

/// A value's text unchanged if every reader accepts it, otherwise as a string.
fn value(raw: &str) -> Cow<'_, str> {
    let is_readable = depth(raw) <= NESTING && serde_json::from_str::<serde_json::Value>(raw).is_ok();
    if is_readable { Cow::Borrowed(raw) } else { Cow::Owned(quoted(raw)) }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::{NESTING, object};

    fn object_of(fields: &[(&'static str, &'static str)]) -> String {
        object(&fields.iter().map(|(name, raw)| ((*name).into(), *raw)).collect::<Vec<_>>())
    }

    #[test]
    fn a_value_that_every_reader_accepts_stays_unchanged() {
        let fields = [("a", "[1, {\"x\": null}]"), ("q\"", "\"\\u00e9\\ud83d\\ude00\""), ("n", "1e300"), ("m", "-0.0")];
        assert_eq!(object_of(&fields), r#"{"a":[1, {"x": null}],"q\"":"\u00e9\ud83d\ude00","n":1e300,"m":-0.0}"#);
        assert_eq!(object_of(&[]), "{}");
    }

    #[test]
    fn a_value_that_a_strict_reader_refuses_becomes_a_string_of_its_text() {
        let fields =
            [("h", r#""cut \ud83d""#), ("l", r#"["\udcff"]"#), ("w", "NaN"), ("n", "1e400"), ("t", "\"a\tb\"")];
        assert_eq!(
            object_of(&fields),
            r#"{"h":"\"cut \\ud83d\"","l":"[\"\\udcff\"]","w":"NaN","n":"1e400","t":"\"a\tb\""}"#
        );
        let deep = |levels: usize| -> &'static str { ("[".repeat(levels) + &"]".repeat(levels)).leak() };
        assert_eq!(object_of(&[("d", deep(NESTING))]), format!("{{\"d\":{}}}", deep(NESTING)));
        assert_eq!(object_of(&[("d", deep(NESTING + 1))]), format!("{{\"d\":\"{}\"}}", deep(NESTING + 1)));
    }

    #[test]
    fn a_name_that_comes_more_than_once_gets_all_of_its_values() {
        assert_eq!(object_of(&[("a", "1"), ("b", "2"), ("a", "null"), ("a", "\"x\"")]), r#"{"a":[1,null,"x"],"b":2}"#);
    }
}
