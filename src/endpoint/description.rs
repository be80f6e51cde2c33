//! The description of a list call, read from a TOML file. The built-in file is compiled in.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::codes::EndRule;
use super::id_form::IdPattern;

/// The endpoint file that is used without `--endpoint`.
pub const BUILT_IN: &str = include_str!("../../config/endpoints/product-videos.toml");

/// The column of the time when a row was fetched: UTC, microseconds.
pub const FETCHED_AT: &str = "_fetched_at";
/// The column of the page that a row arrived on.
pub const PAGE_NUM: &str = "_page_num";
/// The column of unknown fields and of values that do not fit their column, as JSON text; null if there are none.
pub const EXTRA: &str = "_extra";

#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// Not TOML, or not an endpoint; with the line.
    #[error("read the endpoint description: {0}")]
    Parse(String),
    #[error("endpoint {name}: {reason}")]
    Invalid { name: String, reason: String },
}

/// The description of a list call. `config/endpoints/product-videos.toml` explains the fields.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    pub(crate) name: String,
    pub(crate) base_url: String,
    pub path: String,
    pub(crate) success_codes: Vec<i64>,
    #[serde(default)]
    pub(crate) retry_codes: Vec<i64>,
    #[serde(default)]
    pub(crate) throttle_codes: Vec<i64>,
    #[serde(default)]
    pub(crate) stop_codes: Vec<i64>,
    #[serde(default)]
    pub(crate) end_of_list_codes: Vec<i64>,
    pub(crate) end: EndRule,
    pub(crate) item: ItemParam,
    pub(crate) page: PageParams,
    pub(crate) sort: Option<SortParams>,
    /// Every column of a row, in the order of the files.
    #[serde(rename = "column")]
    pub columns: Vec<Column>,
    #[serde(default)]
    pub(crate) fake: Fake,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ItemParam {
    pub(crate) param: String,
    /// The column that repeats the item's id in every row.
    pub(crate) column: String,
    pub(crate) form: Option<IdPattern>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PageParams {
    pub(crate) number_param: String,
    pub(crate) first: u32,
    /// The largest page number that the API accepts.
    pub(crate) last: u32,
    pub(crate) size_param: String,
    pub(crate) size_max: u32,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SortParams {
    pub(crate) field_param: String,
    pub(crate) direction_param: String,
    pub(crate) ascending: String,
    pub(crate) descending: String,
    /// Column name to the field parameter's value.
    pub(crate) fields: BTreeMap<String, String>,
}

/// Settings of the simulator.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fake {
    /// Partition values, the most frequent first; empty: the simulator's own.
    pub(crate) partitions: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// Its name in responses and files.
    pub name: String,
    pub(crate) json: JsonType,
    /// The type in files.
    #[serde(rename = "type")]
    pub kind: ColumnKind,
    #[serde(default = "yes")]
    pub(crate) nullable: bool,
    #[serde(default)]
    pub role: Role,
    pub(crate) unique: Option<bool>,
    pub(crate) unit: Option<String>,
    pub(crate) meaning: String,
    /// The simulator's pattern for a value; None: plain values of its type.
    pub(crate) fake: Option<String>,
}

fn yes() -> bool {
    true
}

impl Column {
    /// What it means, with the unit in brackets.
    pub(crate) fn meaning_with_unit(&self) -> String {
        let unit = self.unit.as_ref().map(|unit| format!(" [{unit}]")).unwrap_or_default();
        self.meaning.clone() + &unit
    }
}

/// The JSON type that the API documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum JsonType {
    String,
    Integer,
    Number,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColumnKind {
    Utf8,
    Int64,
    Float64,
    /// A moment in UTC, microseconds. The API counts in the column's unit, `s` or `ms`.
    Timestamp,
}

impl ColumnKind {
    /// Its name in the endpoint file and in a fingerprint.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Utf8 => "utf8",
            Self::Int64 => "int64",
            Self::Float64 => "float64",
            Self::Timestamp => "timestamp",
        }
    }

    pub(crate) fn data_type(self) -> DataType {
        match self {
            Self::Utf8 => DataType::Utf8,
            Self::Int64 => DataType::Int64,
            Self::Float64 => DataType::Float64,
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC"))),
        }
    }

    /// The SQL type in DuckDB and most warehouses.
    pub fn sql_type(self) -> &'static str {
        match self {
            Self::Utf8 => "VARCHAR",
            Self::Int64 => "BIGINT",
            Self::Float64 => "DOUBLE",
            Self::Timestamp => "TIMESTAMP WITH TIME ZONE",
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    #[default]
    Attribute,
    /// Part of the row's key.
    Identity,
    /// The directory a row goes to; not repeated inside the files.
    Partition,
    /// Differs at every fetch.
    Volatile,
    /// A measure that changes from day to day.
    Metric,
}

impl Role {
    /// Its name in the endpoint file.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Attribute => "attribute",
            Self::Identity => "identity",
            Self::Partition => "partition",
            Self::Volatile => "volatile",
            Self::Metric => "metric",
        }
    }
}

/// An error in a TOML text, on one line that starts with its line number.
pub(crate) fn at_line(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start));
    let line = before.map(|before| format!("line {}: ", before.matches('\n').count() + 1)).unwrap_or_default();
    line + error.message()
}

impl Endpoint {
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        let endpoint: Self = toml::from_str(text).map_err(|error| EndpointError::Parse(at_line(text, &error)))?;
        match endpoint.check() {
            Ok(()) => Ok(endpoint),
            Err(reason) => Err(EndpointError::Invalid { name: endpoint.name, reason }),
        }
    }

    fn check(&self) -> Result<(), String> {
        let require = |is_met: bool, what: &str| if is_met { Ok(()) } else { Err(what.to_owned()) };
        let none = |wrong: Option<&Column>, what: &str| match wrong {
            Some(column) => Err(format!("column {}: {what}", column.name)),
            None => Ok(()),
        };
        self.check_names()?;
        let partitions = self.columns.iter().filter(|column| column.role == Role::Partition);
        require(partitions.count() == 1, "exactly one column must have the role partition")?;
        require(self.partition().kind == ColumnKind::Utf8, "the partition column must be utf8")?;
        let item = self.columns.iter().find(|column| column.name == self.item.column);
        if item.is_none_or(|column| column.role != Role::Identity || column.kind != ColumnKind::Utf8) {
            return Err(format!("item column {} must be an identity column of type utf8", self.item.column));
        }
        require(self.key_columns().next().is_some(), "a row needs an identity column beside the item's")?;
        if let Some(wrong) = self.key_columns().find(|column| column.kind != ColumnKind::Utf8) {
            return Err(format!("identity column {} must be utf8: ids never pass through a number", wrong.name));
        }
        let is_timed = |column: &Column| matches!(column.unit.as_deref(), Some("s" | "ms"));
        let mut times = self.columns.iter().filter(|column| column.kind == ColumnKind::Timestamp);
        none(times.find(|column| !is_timed(column)), "a timestamp needs the unit s or ms")?;
        let required = self.columns.iter().find(|column| !column.nullable && column.role != Role::Identity);
        none(required, "only identity columns can have nullable = false")?;
        require(self.page.size_max > 0 && self.page.first <= self.page.last, "page limits are empty")?;
        let has_call = self.path.starts_with('/') && !self.success_codes.is_empty();
        require(has_call, "path must begin with a slash, and success_codes must not be empty")?;
        let mut sorted = self.sort.iter().flat_map(|sort| sort.fields.keys());
        match sorted.find(|field| !self.columns.iter().any(|column| column.name == **field)) {
            Some(field) => Err(format!("sort field {field} is not a column")),
            None => Ok(()),
        }
    }

    /// The partition column.
    ///
    /// # Panics
    /// Never: [`parse`](Self::parse) accepts only descriptions with exactly one.
    pub fn partition(&self) -> &Column {
        let found = self.columns.iter().find(|column| column.role == Role::Partition);
        #[expect(clippy::expect_used, reason = "`parse` accepts exactly one partition column")]
        found.expect("one partition column")
    }

    /// The columns that identify a row in its item's list.
    pub(crate) fn key_columns(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter().filter(|column| column.role == Role::Identity && column.name != self.item.column)
    }

    /// The columns that identify a row in the whole output: the item's, then [`key_columns`](Self::key_columns).
    pub(crate) fn row_key(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter().filter(|column| column.name == self.item.column).chain(self.key_columns())
    }

    /// The columns whose values hardly ever repeat: by default keys and volatile columns.
    pub fn unique_columns(&self) -> impl Iterator<Item = &Column> {
        let is_key = |column: &Column| column.role == Role::Identity && column.name != self.item.column;
        let is_unique = move |column: &Column| column.role == Role::Volatile || is_key(column);
        self.columns.iter().filter(move |column| column.unique.unwrap_or_else(|| is_unique(column)))
    }

    /// The text columns that nobody searches by prefix or range: unique, and not part of the key.
    pub fn opaque_columns(&self) -> impl Iterator<Item = &Column> {
        self.unique_columns().filter(|column| column.kind == ColumnKind::Utf8 && column.role != Role::Identity)
    }

    /// 16 hex digits over everything that affects how a response is decoded.
    pub(crate) fn fingerprint(&self) -> String {
        let mut text = String::new();
        for Column { name, kind, role, nullable, unit, .. } in &self.columns {
            text += &json!([name, kind.as_str(), role.as_str(), nullable, unit]).to_string();
        }
        text += &json!([self.path, self.item.param, self.page.first, self.item.column]).to_string();
        short_digest(&text)
    }

    /// 16 hex digits over everything that affects a request.
    pub(crate) fn call_fingerprint(&self) -> String {
        let PageParams { number_param, first, size_param, .. } = &self.page;
        let mut text = json!([self.path, self.item.param, number_param, first, size_param]).to_string();
        if let Some(SortParams { field_param, direction_param, ascending, descending, fields }) = &self.sort {
            let fields: Vec<_> = fields.iter().collect(); // sorted by name
            text += &json!([field_param, direction_param, ascending, descending, fields]).to_string();
        }
        short_digest(&text)
    }

    /// The Arrow schema of files without the partition column: the other `columns`, then pagehaul's own three.
    pub fn file_schema(&self, columns: &[Column]) -> SchemaRef {
        file_schema(columns.iter().filter(|column| column.role != Role::Partition))
    }
}

/// The Arrow schema of files with these columns: they, then pagehaul's own three.
pub(crate) fn file_schema<'a>(columns: impl Iterator<Item = &'a Column>) -> SchemaRef {
    let mut fields: Vec<Field> =
        columns.map(|column| Field::new(&column.name, column.kind.data_type(), column.nullable)).collect();
    fields.push(Field::new(FETCHED_AT, ColumnKind::Timestamp.data_type(), false));
    fields.push(Field::new(PAGE_NUM, DataType::Int32, false));
    fields.push(Field::new(EXTRA, DataType::Utf8, true));
    Arc::new(Schema::new(fields))
}

fn short_digest(text: &str) -> String {
    hex(&Sha256::digest(text)).chars().take(16).collect()
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}

#[cfg(test)]
mod tests {
    use super::{BUILT_IN, ColumnKind, EndRule, Endpoint, JsonType, Role};
    use crate::endpoint::Codes;

    #[test]
    fn the_built_in_endpoint_describes_the_21_columns_of_the_contract() {
        let endpoint = Endpoint::parse(BUILT_IN).unwrap();
        assert_eq!(endpoint.columns.len(), 21);
        assert_eq!(endpoint.partition().name, "region");
        assert_eq!(endpoint.key_columns().map(|column| column.name.as_str()).collect::<Vec<_>>(), ["video_id"]);
        let column = |name: &str| endpoint.columns.iter().find(|column| column.name == name).unwrap();
        assert_eq!(column("create_time").kind, ColumnKind::Timestamp);
        assert_eq!(column("data_size").kind, ColumnKind::Int64);
        assert_eq!(column("total_video_sale_gmv_amt").kind, ColumnKind::Float64);
        assert_eq!(column("play_addr").role, Role::Volatile);
        assert!(endpoint.columns.iter().all(|column| !column.meaning.is_empty()));
    }

    #[test]
    fn the_partition_column_is_not_repeated_inside_the_files() {
        let endpoint = Endpoint::parse(BUILT_IN).unwrap();
        let schema = endpoint.file_schema(&endpoint.columns);
        assert_eq!(schema.fields().len(), 20 + 3);
        assert!(schema.field_with_name("region").is_err());
    }

    #[test]
    fn a_description_that_contradicts_itself_is_refused_with_the_reason() {
        let cases = [
            ("role = \"partition\"", "role = \"metric\"", "exactly one column must have the role partition"),
            ("column = \"product_id\"", "column = \"shop_id\"", "item column shop_id"),
            ("size_max = 10", "size_max = 0", "page limits are empty"),
            ("name = \"user_id\"", "name = \"video_id\"", "two columns are named video_id"),
            ("name = \"user_id\"", "name = \"Video_Id\"", "columns video_id and Video_Id differ only by case"),
            ("name = \"user_id\"", "name = \"REGION\"", "columns REGION and region differ only by case"),
            ("name = \"user_id\"", "name = \"_user\"", "pagehaul's own"),
            ("name = \"user_id\"", "name = \"user\\u001b[2J\"", "is not a name"),
            ("name = \"product-videos\"", "name = \"\"", "is not a name"),
            (
                "type = \"timestamp\"\nunit = \"s\"",
                "type = \"timestamp\"\nunit = \"us\"",
                "create_time: a timestamp needs",
            ),
            ("type = \"timestamp\"\nunit = \"s\"", "type = \"timestamp\"", "create_time: a timestamp needs"),
            ("name = \"user_id\"", "nullable = false\nname = \"user_id\"", "column user_id: only identity columns"),
        ];
        for (from, to, reason) in cases {
            let error = Endpoint::parse(&BUILT_IN.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn the_form_of_an_id_is_a_regular_expression_and_not_part_of_an_export_s_identity() {
        let built_in = Endpoint::parse(BUILT_IN).unwrap();
        let form = built_in.item.form.as_ref().unwrap();
        assert!(form.fits("1729382310407603945") && !form.fits("1.7295E+18") && !form.fits("product_id"));
        let line = BUILT_IN.lines().find(|line| line.starts_with("form = ")).unwrap();
        for (other, is_formed) in [("", false), ("form = \"[a-z]+\"", true)] {
            let other = Endpoint::parse(&BUILT_IN.replace(line, other)).unwrap();
            assert_eq!(other.item.form.is_some(), is_formed);
            assert_eq!(other.fingerprint(), built_in.fingerprint());
            assert_eq!(other.call_fingerprint(), built_in.call_fingerprint());
        }
        let at = BUILT_IN.lines().position(|found| found == line).unwrap() + 1;
        let error = Endpoint::parse(&BUILT_IN.replace(line, "form = \"[0-9\"")).unwrap_err().to_string();
        assert!(error.contains(&format!("line {at}: form is not a regular expression: unclosed")), "{error}");
    }

    #[test]
    fn a_partition_column_s_name_is_short_enough_for_any_value_in_the_directory_s_name() {
        let named = |name: &str| Endpoint::parse(&BUILT_IN.replace("name = \"region\"", &format!("name = \"{name}\"")));
        let directory = crate::model::partition::directory(
            &named(&"r".repeat(74)).unwrap().partition().name,
            Some(&"x".repeat(180)),
        );
        assert!(directory.len() <= 255 && directory.ends_with('x'));
        assert!(named(&"r".repeat(75)).unwrap_err().to_string().contains("too long for a directory"));
        for name in ["region-code", "re gion", "région", "region=", "2nd", "r.", "r%"] {
            let error = named(name).unwrap_err().to_string();
            assert!(error.contains(&format!("the partition column {name} must consist of ASCII letters")), "{error}");
        }
        for name in ["Region", "r", "region_2", "R2D2"] {
            assert_eq!(named(name).unwrap().partition().name, name);
        }
    }

    #[test]
    fn fingerprints_are_written_into_manifests_and_ledgers_and_change_with_the_description_alone() {
        let described = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/endpoint.toml"));
        let of = |text: &str| {
            let endpoint = Endpoint::parse(text).unwrap();
            [endpoint.fingerprint(), endpoint.call_fingerprint()]
        };
        assert_eq!(of(BUILT_IN), ["95a53aa5494fff22", "4cc9231033b1e231"]);
        assert_eq!(of(&described.unwrap()), ["f17e25e1e175718f", "a918019f65c88d7f"]);
    }

    #[test]
    fn the_words_of_a_description_mean_what_they_say_and_are_read_back_from_what_writes_them() {
        let kinds = [
            ("utf8", ColumnKind::Utf8),
            ("int64", ColumnKind::Int64),
            ("float64", ColumnKind::Float64),
            ("timestamp", ColumnKind::Timestamp),
        ];
        let roles = [
            ("attribute", Role::Attribute),
            ("identity", Role::Identity),
            ("partition", Role::Partition),
            ("volatile", Role::Volatile),
            ("metric", Role::Metric),
        ];
        let jsons = [("string", JsonType::String), ("integer", JsonType::Integer), ("number", JsonType::Number)];
        let ends = [("auto", EndRule::Auto), ("short-page", EndRule::ShortPage), ("empty-page", EndRule::EmptyPage)];
        for (word, kind) in kinds {
            assert_eq!((read::<ColumnKind>(word), kind.as_str()), (kind, word));
        }
        for (word, role) in roles {
            assert_eq!((read::<Role>(word), role.as_str()), (role, word));
        }
        assert_eq!(jsons.map(|(word, _)| read::<JsonType>(word)), jsons.map(|(_, json)| json));
        assert_eq!(ends.map(|(word, _)| read::<EndRule>(word)), ends.map(|(_, end)| end));
    }

    fn read<T: serde::de::DeserializeOwned>(word: &str) -> T {
        serde_json::from_value(word.into()).unwrap()
    }

    #[test]
    fn an_identity_records_the_codes_as_words_and_numbers() {
        let codes = Codes {
            success: vec![0, 200],
            retry: vec![-1],
            throttle: vec![429],
            stop: Vec::new(),
            end_of_list: vec![7],
        };
        assert_eq!(codes.words(), "success=0,200 retry=-1 throttle=429 stop= end_of_list=7");
    }
}
