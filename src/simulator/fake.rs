//! The `fake` patterns of an endpoint's columns, from which the simulator generates values.
//!
//! A pattern is literal text with placeholders in braces. `K` is a value of the endpoint's sort field parameter, or any other
//! word for an independent order; rank 0 is the first row in descending order. Lengths and bounds are whole numbers, and both
//! bounds are included.
//!
//! | placeholder | value |
//! |---|---|
//! | `{item}` | the requested id |
//! | `{partition}` | one of `fake.partitions`, the first is the most frequent |
//! | `{time:K}` | seconds since 1970, unique in an item, falling with the rank under K |
//! | `{snowflake:K}` | the id of a row: `{time:K}` in the high 32 bits, random bits in the low ones |
//! | `{rank:K:MAX}` | a count that falls from MAX with the rank under K, as in Zipf's law |
//! | `{int:A:B}` | a number from A to B |
//! | `{digits:N}`, `{hex:N}`, `{base64:N}` | N random digits |
//! | `{pick:a:b:c}` | one of the texts |
//! | `{words:N}`, `{tags:N}` | N words of one language, N hash tags |
//!
//! A column that is a JSON number takes `int`, `rank`, `time`, `snowflake` and literal digits. A sort field's column takes
//! exactly one placeholder, with its own K. A column without a pattern gets plain values: an identity is unique, a
//! sort field follows its order, anything else is random by its type.

use std::collections::BTreeSet;

use super::SimulatorError;
use super::list::List;
use super::row::{Part, Skewed, Word};
use super::words::{CAPTIONS, TAGS, escaped};
use crate::endpoint::{Column, ColumnKind, Endpoint, JsonType, Role};

/// The partitions of an endpoint without `fake.partitions`.
const PARTITIONS: [&str; 3] = ["A", "B", "C"];
const BRACE: &str = "a brace is not closed or not opened";

/// The compiled patterns of all columns: a row as one flat list of parts.
#[derive(Debug)]
pub(super) struct Template {
    parts: Vec<Part>,
    fields: Vec<String>,
}

impl Template {
    pub(super) fn compile(endpoint: &Endpoint) -> Result<Self, SimulatorError> {
        let sort_fields: BTreeSet<&String> = endpoint.sort.iter().flat_map(|sort| sort.fields.values()).collect();
        let mut template = Self { parts: Vec::new(), fields: sort_fields.into_iter().cloned().collect() };
        let mut before = b"{\"".as_slice();
        for column in &endpoint.columns {
            let parts = template.column(endpoint, column);
            let parts =
                parts.map_err(|reason| SimulatorError(format!("fake pattern of column {}: {reason}", column.name)))?;
            let is_number = column.json != JsonType::String && template.is_number(&parts, column.json);
            let quote = if is_number { "" } else { "\"" };
            let name = [before, &escaped(&column.name), b"\":", quote.as_bytes()].concat();
            for part in [Part::Literal(name)].into_iter().chain(parts).chain([Part::Literal(quote.into())]) {
                template.push_part(part);
            }
            before = b",\"";
        }
        template.push_part(Part::Literal(b"}".into()));
        Ok(template)
    }

    /// Appends one row as a JSON object.
    pub(super) fn push(&self, list: &List, row: u64, out: &mut Vec<u8>) {
        let mut rng = list.bits(row);
        for part in &self.parts {
            part.push(list, row, &mut rng, out);
        }
    }

    pub(super) fn fields(&self) -> usize {
        self.fields.len()
    }

    /// The index of a list's order, for a value of the sort field parameter or the K of a pattern.
    pub(super) fn field(&self, value: &str) -> Option<usize> {
        self.fields.iter().position(|field| field == value)
    }

    fn push_part(&mut self, part: Part) {
        match (self.parts.last_mut(), part) {
            (Some(Part::Literal(last)), Part::Literal(more)) => last.extend_from_slice(&more),
            (_, part) => self.parts.push(part),
        }
    }

    /// The parts of a column, or what is wrong with its pattern.
    fn column(&mut self, endpoint: &Endpoint, column: &Column) -> Result<Vec<Part>, String> {
        let field = endpoint.sort.as_ref().and_then(|sort| sort.fields.get(&column.name));
        let Some(mut rest) = column.fake.as_deref() else {
            return Ok(self.default_parts(endpoint, column, field));
        };
        let mut parts = Vec::new();
        while let Some((literal, after)) = rest.split_once('{') {
            let (given, after) = after.split_once('}').ok_or(BRACE)?;
            parts.extend(literal_part(literal)?);
            let part = self.placeholder(endpoint, given);
            parts.push(part.ok_or_else(|| format!("{{{given}}} is not a placeholder"))?);
            rest = after;
        }
        parts.extend(literal_part(rest)?);
        if column.json != JsonType::String && !self.is_number(&parts, column.json) {
            return Err("it does not generate a JSON number".to_owned());
        }
        match field {
            Some(field) if !self.follows(&parts, field) => {
                Err(format!("it needs exactly one placeholder that follows sort field {field}"))
            }
            Some(_) | None => Ok(parts),
        }
    }

    fn placeholder(&mut self, endpoint: &Endpoint, given: &str) -> Option<Part> {
        let mut given = given.split(':');
        let name = given.next()?;
        let arguments: Vec<&str> = given.collect();
        let part = match (name, arguments.as_slice()) {
            ("item", []) => Part::Item,
            ("partition", []) => partition(endpoint),
            ("snowflake", [field]) => Part::Snowflake(self.add_field(field)),
            ("time", [field]) => Part::Time(self.add_field(field)),
            ("rank", [field, top]) => Part::Rank(self.add_field(field), top.parse().ok()?),
            ("int", [first, last]) => {
                let first: u64 = first.parse().ok()?;
                let number = last.parse::<u64>().ok()?.checked_sub(first)?.checked_add(1)?;
                Part::Int(first, number)
            }
            ("digits", [length]) => Part::Digits(length.parse().ok()?),
            ("hex", [length]) => Part::Hex(length.parse().ok()?),
            ("base64", [length]) => Part::Base64(length.parse().ok()?),
            ("pick", [_, ..]) => Part::Pick(arguments.into_iter().map(escaped).collect()),
            ("words", [number]) => caption(number.parse().ok()?),
            ("tags", [number]) => Part::Tags(number.parse().ok()?, words("#", TAGS)),
            _ => return None,
        };
        Some(part)
    }

    fn default_parts(&mut self, endpoint: &Endpoint, column: &Column, field: Option<&String>) -> Vec<Part> {
        let is_unique = endpoint.unique_columns().any(|unique| unique.name == column.name);
        let part = match (column.kind, field) {
            _ if column.name == endpoint.item.column => Part::Item,
            _ if column.role == Role::Partition => partition(endpoint),
            _ if column.role == Role::Identity => Part::Snowflake(self.add_field(field.map_or("", String::as_str))),
            (ColumnKind::Timestamp, Some(field)) => Part::Time(self.add_field(field)),
            (ColumnKind::Utf8 | ColumnKind::Int64 | ColumnKind::Float64, Some(field)) => {
                Part::Rank(self.add_field(field), 1_000_000)
            }
            (ColumnKind::Timestamp, None) => Part::Int(1_600_000_000, 100_000_000),
            (ColumnKind::Utf8, None) if is_unique => Part::Hex(32),
            (ColumnKind::Utf8, None) => caption(3),
            (ColumnKind::Int64 | ColumnKind::Float64, None) => Part::Int(0, 1_000),
        };
        let is_millis = column.kind == ColumnKind::Timestamp && column.unit.as_deref() == Some("ms");
        [part].into_iter().chain(is_millis.then(|| Part::Literal(b"000".into()))).collect()
    }

    fn add_field(&mut self, value: &str) -> usize {
        self.field(value).unwrap_or_else(|| {
            self.fields.push(value.to_owned());
            self.fields.len() - 1
        })
    }

    fn follows(&self, parts: &[Part], field: &str) -> bool {
        matches!(parts, [part] if part.field().is_some() && part.field() == self.field(field))
    }

    /// Whether each part is a number, in every row, and one row's parts together are a number.
    fn is_number(&self, parts: &[Part], json: JsonType) -> bool {
        let list = List::new(1, "", 1, self.fields());
        let mut sample = Vec::new();
        for part in parts {
            if part.field().is_none() && !matches!(part, Part::Literal(_) | Part::Int(..)) {
                return false;
            }
            part.push(&list, 0, &mut list.bits(0), &mut sample);
        }
        let number = serde_json::from_slice::<serde_json::Number>(&sample);
        number.is_ok_and(|number| json == JsonType::Number || number.is_u64() || number.is_i64())
    }
}

fn partition(endpoint: &Endpoint) -> Part {
    let given = endpoint.fake.partitions.iter().map(String::as_str);
    let default = PARTITIONS.into_iter().filter(|_| endpoint.fake.partitions.is_empty());
    Part::Partition(Skewed::new(given.chain(default).map(escaped)))
}

fn caption(count: usize) -> Part {
    Part::Words(count, CAPTIONS.iter().map(|language| words("", language)).collect())
}

fn literal_part(literal: &str) -> Result<Option<Part>, String> {
    if literal.contains('}') {
        return Err(BRACE.to_owned());
    }
    Ok((!literal.is_empty()).then(|| Part::Literal(escaped(literal))))
}

fn words(sign: &str, texts: &str) -> Vec<Word> {
    texts.split(' ').filter_map(|text| Word::new(&escaped(&format!("{sign}{text}")))).collect()
}

#[cfg(test)]
mod tests {
    use super::{CAPTIONS, SimulatorError, TAGS, Template, words};
    use crate::endpoint::{BUILT_IN, Endpoint};
    use crate::simulator::list::List;

    fn compiled(column: &str, fake: &str) -> Result<Template, SimulatorError> {
        let mut endpoint = Endpoint::parse(BUILT_IN).unwrap();
        endpoint.columns.iter_mut().find(|known| known.name == column).unwrap().fake = Some(fake.to_owned());
        Template::compile(&endpoint)
    }

    fn generated(column: &str, fake: &str) -> serde_json::Value {
        let template = compiled(column, fake).unwrap();
        let mut out = Vec::new();
        template.push(&List::new(1, "a\"b", 2000, template.fields()), 0, &mut out);
        serde_json::from_slice::<serde_json::Value>(&out).unwrap()[column].take()
    }

    #[test]
    fn literal_text_and_arguments_are_escaped_for_json() {
        assert_eq!(generated("video_desc", "say \"{pick:\\}\"\n{item}"), "say \"\\\"\na\"b");
        assert_eq!(generated("video_desc", ""), "");
    }

    #[test]
    fn numbers_may_have_several_parts_and_are_written_without_quotes() {
        assert_eq!(generated("duration", "-{int:7:7}"), -7);
        assert_eq!(generated("total_comments_cnt", "{int:0:0}"), 0);
        let mut endpoint = Endpoint::parse(&BUILT_IN.replace("total_comments_cnt", "price")).unwrap();
        let price = endpoint.columns.iter_mut().find(|column| column.name == "price").unwrap();
        price.json = crate::endpoint::JsonType::Number;
        price.fake = Some("{int:2627:2627}.{int:73:73}".to_owned());
        assert!(Template::compile(&endpoint).is_ok());
    }

    #[test]
    fn an_invalid_pattern_is_refused_with_its_column() {
        let cases = [
            ("video_desc", "{words:3", "a brace"),
            ("video_desc", "words}", "a brace"),
            ("video_desc", "{word:3}", "{word:3} is not a placeholder"),
            ("video_desc", "{words}", "{words} is not"),
            ("video_desc", "{words:x}", "{words:x} is not"),
            ("video_desc", "{pick}", "{pick} is not"),
            ("video_desc", "{int:2:1}", "{int:2:1} is not"),
            ("video_desc", "{int:0:18446744073709551615}", "{int:0:18446744073709551615} is not"),
            ("duration", "{digits:3}", "it does not generate a JSON number"),
            ("duration", "", "it does not generate"),
            ("duration", "{int:1:1}.5", "it does not generate"),
            ("create_time", "{time:5}", "that follows sort field 6"),
            ("create_time", "{time:6}0", "that follows sort field 6"),
            ("total_views_cnt", "{int:0:9}", "that follows sort field 1"),
        ];
        for (column, fake, reason) in cases {
            let error = compiled(column, fake).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("fake pattern of column {column}: ")) && error.contains(reason),
                "{error}"
            );
        }
    }

    #[test]
    fn no_word_is_too_long() {
        for texts in CAPTIONS.into_iter().chain([TAGS]) {
            assert_eq!(words("#", texts).len(), texts.split(' ').count());
        }
    }

    #[test]
    fn an_order_need_not_be_a_sort_field() {
        let template = compiled("total_comments_cnt", "{rank:comments:900}").unwrap();
        assert_eq!(template.field("comments"), Some(6));
    }
}
