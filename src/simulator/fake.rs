//! How the simulator makes a value: the `fake` patterns of an endpoint's columns, compiled.
//!
//! A pattern is literal text with placeholders in braces. `K` is a value of the endpoint's sort field parameter, or any
//! other word for an order of its own; rank 0 is the first row when the greatest comes first. Lengths and bounds are
//! whole numbers, both bounds included.
//!
//! | placeholder | value |
//! |---|---|
//! | `{item}` | the id that was asked for |
//! | `{partition}` | one of `fake.partitions`, the first the most often |
//! | `{time:K}` | seconds since 1970, different for every row of an item and falling with the rank under K |
//! | `{snowflake:K}` | the id of a row: `{time:K}` in the high 32 bits, random bits in the low ones |
//! | `{rank:K:MAX}` | a count that falls with the rank under K, from MAX, as a Zipf-like law has it |
//! | `{int:A:B}` | a number from A to B |
//! | `{digits:N}`, `{hex:N}`, `{base64:N}` | N random digits of that base |
//! | `{pick:a:b:c}` | one of the texts |
//! | `{words:N}`, `{tags:N}` | N words of one language, N hash tags |
//!
//! A column that is a JSON number takes `int`, `rank`, `time`, `snowflake` and literal digits; a column that can be
//! sorted by takes exactly one placeholder, with its own K. Both are checked here, before a row is made.

use std::collections::BTreeSet;

use super::list::List;
use super::row::{Part, Skewed, Word};
use super::words::{CAPTIONS, TAGS, json_text, text};
use crate::endpoint::{Column, Endpoint, JsonType};

/// A `fake` pattern could not be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// A brace without its other.
    #[error("a brace is not closed or not opened")]
    Brace,
    /// No such placeholder, or not with these arguments.
    #[error("{{{given}}} is no placeholder")]
    Placeholder {
        /// What stands between the braces.
        given: String,
    },
    /// A column of JSON numbers that would get something else.
    #[error("the pattern does not make a JSON number")]
    NotNumber,
    /// A sort field that would not be sorted by.
    #[error("the column is sort field {field} and needs one placeholder that follows it")]
    NotSorted {
        /// The value of the sort field parameter.
        field: String,
    },
}

/// The compiled patterns of all columns: a row as one flat list of parts.
#[derive(Debug)]
pub(super) struct Template {
    parts: Vec<Part>,
    fields: Vec<String>,
}

impl Template {
    /// Compiles an endpoint's columns; an error comes with the column's name.
    pub(super) fn compile(endpoint: &Endpoint) -> Result<Self, (String, PatternError)> {
        let sorted: BTreeSet<&String> = endpoint.sort.iter().flat_map(|sort| sort.fields.values()).collect();
        let mut template = Self { parts: Vec::new(), fields: sorted.into_iter().cloned().collect() };
        for (index, column) in endpoint.columns.iter().enumerate() {
            let parts = template.column(endpoint, column).map_err(|reason| (column.name.clone(), reason))?;
            let quote = if column.json == JsonType::String { "\"" } else { "" };
            let before = if index == 0 { "{" } else { "," };
            template.literal(format!("{before}\"{}\":{quote}", text(&column.name)).as_bytes());
            for part in parts {
                template.part(part);
            }
            template.literal(quote.as_bytes());
        }
        template.literal(b"}");
        Ok(template)
    }

    /// Appends one row as a JSON object.
    pub(super) fn push(&self, list: &List, row: u64, out: &mut Vec<u8>) {
        let mut rng = list.bits(row);
        for part in &self.parts {
            part.push(list, row, &mut rng, out);
        }
    }

    /// Number of orders that a list must have.
    pub(super) fn fields(&self) -> usize {
        self.fields.len()
    }

    /// Which of a list's orders a value of the sort field parameter, or a K of a pattern, is.
    pub(super) fn field(&self, value: &str) -> Option<usize> {
        self.fields.iter().position(|field| field == value)
    }

    fn part(&mut self, part: Part) {
        match (self.parts.last_mut(), part) {
            (Some(Part::Literal(last)), Part::Literal(more)) => last.extend_from_slice(&more),
            (_, part) => self.parts.push(part),
        }
    }

    fn literal(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.part(Part::Literal(bytes.to_vec()));
        }
    }

    fn column(&mut self, endpoint: &Endpoint, column: &Column) -> Result<Vec<Part>, PatternError> {
        let mut parts = Vec::new();
        let mut rest = column.fake.as_str();
        while let Some((literal, after)) = rest.split_once('{') {
            let (given, after) = after.split_once('}').ok_or(PatternError::Brace)?;
            parts.extend(written(literal)?);
            let part = self.placeholder(endpoint, given);
            parts.push(part.ok_or_else(|| PatternError::Placeholder { given: given.to_owned() })?);
            rest = after;
        }
        parts.extend(written(rest)?);
        if column.json != JsonType::String && !self.is_number(&parts, column.json) {
            return Err(PatternError::NotNumber);
        }
        let field = endpoint.sort.as_ref().and_then(|sort| sort.fields.get(&column.name));
        match field {
            Some(field) if !self.follows(&parts, field) => Err(PatternError::NotSorted { field: field.clone() }),
            Some(_) | None => Ok(parts),
        }
    }

    fn placeholder(&mut self, endpoint: &Endpoint, given: &str) -> Option<Part> {
        let mut given = given.split(':');
        let name = given.next()?;
        let arguments: Vec<&str> = given.collect();
        let part = match (name, arguments.as_slice()) {
            ("item", []) => Part::Item,
            ("partition", []) => {
                Part::Partition(Skewed::new(endpoint.fake.partitions.iter().map(|name| json_text(name))))
            }
            ("snowflake", [field]) => Part::Snowflake(self.add_field(field)),
            ("time", [field]) => Part::Time(self.add_field(field)),
            ("rank", [field, top]) => Part::Rank(self.add_field(field), top.parse().ok()?),
            ("int", [first, last]) => {
                let first: u64 = first.parse().ok()?;
                let many = last.parse::<u64>().ok()?.checked_sub(first)?.checked_add(1)?;
                Part::Int(first, many)
            }
            ("digits", [length]) => Part::Digits(length.parse().ok()?),
            ("hex", [length]) => Part::Hex(length.parse().ok()?),
            ("base64", [length]) => Part::Base64(length.parse().ok()?),
            ("pick", [_, ..]) => Part::Pick(escaped(&arguments)),
            ("words", [many]) => {
                Part::Words(many.parse().ok()?, CAPTIONS.iter().map(|language| words("", language)).collect())
            }
            ("tags", [many]) => Part::Tags(many.parse().ok()?, words("#", TAGS)),
            _ => return None,
        };
        Some(part)
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

    /// Whether the parts make numbers: by their kinds, so that no row can differ, and by a row, so that they fit together.
    fn is_number(&self, parts: &[Part], json: JsonType) -> bool {
        let list = List::new(1, "", 1, self.fields());
        let mut made = Vec::new();
        for part in parts {
            if part.field().is_none() && !matches!(part, Part::Literal(_) | Part::Int(..)) {
                return false;
            }
            part.push(&list, 0, &mut list.bits(0), &mut made);
        }
        let number = serde_json::from_slice::<serde_json::Number>(&made);
        number.is_ok_and(|number| json == JsonType::Number || number.is_u64() || number.is_i64())
    }
}

fn written(literal: &str) -> Result<Option<Part>, PatternError> {
    if literal.contains('}') {
        return Err(PatternError::Brace);
    }
    Ok((!literal.is_empty()).then(|| Part::Literal(json_text(literal))))
}

fn escaped(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| json_text(text)).collect()
}

fn words(sign: &str, texts: &str) -> Vec<Word> {
    texts.split(' ').filter_map(|text| Word::new(&json_text(&format!("{sign}{text}")))).collect()
}

#[cfg(test)]
mod tests {
    use super::{CAPTIONS, PatternError, TAGS, Template, words};
    use crate::endpoint::{BUILT_IN, Endpoint};
    use crate::simulator::list::List;

    fn compiled(column: &str, fake: &str) -> Result<Template, (String, PatternError)> {
        let mut endpoint = Endpoint::parse(BUILT_IN).unwrap();
        endpoint.columns.iter_mut().find(|known| known.name == column).unwrap().fake = fake.to_owned();
        Template::compile(&endpoint)
    }

    fn made(column: &str, fake: &str) -> serde_json::Value {
        let template = compiled(column, fake).unwrap();
        let mut out = Vec::new();
        template.push(&List::new(1, "a\"b", 2000, template.fields()), 0, &mut out);
        serde_json::from_slice::<serde_json::Value>(&out).unwrap()[column].take()
    }

    #[test]
    fn literal_text_and_arguments_are_escaped_for_json() {
        assert_eq!(made("video_desc", "say \"{pick:\\}\"\n{item}"), "say \"\\\"\na\"b");
        assert_eq!(made("video_desc", ""), "");
    }

    #[test]
    fn numbers_may_be_put_together_and_are_written_without_quotation_marks() {
        assert_eq!(made("duration", "-{int:7:7}"), -7);
        assert_eq!(made("total_comments_cnt", "{int:0:0}"), 0);
        let mut endpoint = Endpoint::parse(&BUILT_IN.replace("total_comments_cnt", "price")).unwrap();
        let price = endpoint.columns.iter_mut().find(|column| column.name == "price").unwrap();
        price.json = crate::endpoint::JsonType::Number;
        price.fake = "{int:2627:2627}.{int:73:73}".to_owned();
        assert!(Template::compile(&endpoint).is_ok());
    }

    #[test]
    fn a_pattern_that_cannot_be_used_is_refused_with_its_column() {
        let placeholder = |given: &str| PatternError::Placeholder { given: given.to_owned() };
        let cases = [
            ("video_desc", "{words:3", PatternError::Brace),
            ("video_desc", "words}", PatternError::Brace),
            ("video_desc", "{word:3}", placeholder("word:3")),
            ("video_desc", "{words}", placeholder("words")),
            ("video_desc", "{words:x}", placeholder("words:x")),
            ("video_desc", "{pick}", placeholder("pick")),
            ("video_desc", "{int:2:1}", placeholder("int:2:1")),
            ("video_desc", "{int:0:18446744073709551615}", placeholder("int:0:18446744073709551615")),
            ("duration", "{digits:3}", PatternError::NotNumber),
            ("duration", "", PatternError::NotNumber),
            ("duration", "{int:1:1}.5", PatternError::NotNumber),
            ("create_time", "{time:5}", PatternError::NotSorted { field: "6".to_owned() }),
            ("create_time", "{time:6}0", PatternError::NotSorted { field: "6".to_owned() }),
            ("total_views_cnt", "{int:0:9}", PatternError::NotSorted { field: "1".to_owned() }),
        ];
        for (column, fake, reason) in cases {
            assert_eq!(compiled(column, fake).err(), Some((column.to_owned(), reason)), "{fake}");
        }
    }

    #[test]
    fn no_word_is_too_long_to_be_used() {
        for texts in CAPTIONS.into_iter().chain([TAGS]) {
            assert_eq!(words("#", texts).len(), texts.split(' ').count());
        }
    }

    #[test]
    fn an_order_that_is_no_sort_field_is_an_order_all_the_same() {
        let template = compiled("total_comments_cnt", "{rank:comments:900}").unwrap();
        assert_eq!(template.field("comments"), Some(6));
    }
}
