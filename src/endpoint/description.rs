//! A list call as data: where it is, how it pages, and every column of its rows.
//!
//! An endpoint is a TOML file. The built-in one is compiled in; another may be given. Whatever needs to know a column,
//! the decoder, the Arrow schema, `pagehaul schema` and the simulator, asks here.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::codes::EndRule;
use super::id_form::IdPattern;

/// The endpoint that pagehaul was made for.
pub const BUILT_IN: &str = include_str!("../../config/endpoints/product-videos.toml");

/// When a row was fetched: UTC, microseconds.
pub const FETCHED_AT: &str = "_fetched_at";
/// The page on which a row stood.
pub const PAGE_NUM: &str = "_page_num";
/// JSON text of unknown fields and of values that did not fit their column; null when there is none.
pub const EXTRA: &str = "_extra";

/// An endpoint's description could not be used.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// Not TOML, or not an endpoint; with its line.
    #[error("read the endpoint description: {0}")]
    Parse(String),
    /// A description that contradicts itself.
    #[error("endpoint {name}: {reason}")]
    Invalid {
        /// The endpoint's name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// A described list call.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// Short name, for reports.
    pub name: String,
    /// Scheme and host of the real service.
    pub base_url: String,
    /// Path of the call.
    pub path: String,
    /// Values of the envelope's `code` that mean success.
    pub success_codes: Vec<i64>,
    /// Values that mean that the same request may succeed later.
    #[serde(default)]
    pub retry_codes: Vec<i64>,
    /// Values that mean that requests come too fast.
    #[serde(default)]
    pub throttle_codes: Vec<i64>,
    /// Values that mean that the key is not accepted or that its credits are used up.
    #[serde(default)]
    pub stop_codes: Vec<i64>,
    /// Values that mean that the page asked for is behind the end of the list.
    #[serde(default)]
    pub end_of_list_codes: Vec<i64>,
    /// What ends a walk.
    pub end: EndRule,
    /// The item parameter and the column that repeats it.
    pub item: ItemParam,
    /// The page parameters and their limits.
    pub page: PageParams,
    /// The sort parameters, where the call has them.
    pub sort: Option<SortParams>,
    /// Every column of a row, in file order.
    #[serde(rename = "column")]
    pub columns: Vec<Column>,
    /// What the simulator needs beyond the columns.
    pub fake: Fake,
}

/// The item parameter.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ItemParam {
    /// Query parameter that names the item.
    pub param: String,
    /// Column in which every row repeats it.
    pub column: String,
    /// What an id looks like: a list is checked against it while it is read. None: any text may be one.
    pub form: Option<IdPattern>,
}

/// The page parameters and their limits.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PageParams {
    /// Query parameter of the page's number.
    pub number_param: String,
    /// Number of the first page.
    pub first: u32,
    /// Largest page number that the API accepts.
    pub last: u32,
    /// Query parameter of the page's size.
    pub size_param: String,
    /// Largest page size that the API accepts, rows.
    pub size_max: u32,
}

/// The sort parameters.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SortParams {
    /// Query parameter of the field.
    pub field_param: String,
    /// Query parameter of the direction.
    pub direction_param: String,
    /// Its value for ascending.
    pub ascending: String,
    /// Its value for descending.
    pub descending: String,
    /// Column name to the field parameter's value.
    pub fields: BTreeMap<String, String>,
}

/// What the simulator needs beyond the columns.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fake {
    /// Partition values, the most frequent first.
    pub partitions: Vec<String>,
}

/// One column of a row.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// Its name, in the answers and in the files.
    pub name: String,
    /// How the contract sends it.
    pub json: JsonType,
    /// What it becomes.
    #[serde(rename = "type")]
    pub kind: ColumnKind,
    /// Whether a row may be without it. False of identity columns only: a row without one of those is a reject.
    #[serde(default = "yes")]
    pub nullable: bool,
    /// What it is for.
    #[serde(default)]
    pub role: Role,
    /// Whether two rows hardly ever share a value. Not said: true of keys and of what differs at every fetch.
    #[serde(default)]
    pub unique: Option<bool>,
    /// What its numbers count.
    pub unit: Option<String>,
    /// One line of meaning.
    pub meaning: String,
    /// How the simulator makes one.
    pub fake: String,
}

fn yes() -> bool {
    true
}

/// How the contract sends a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JsonType {
    /// A JSON string.
    String,
    /// A JSON number without a fraction.
    Integer,
    /// A JSON number.
    Number,
}

/// The Arrow type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColumnKind {
    /// Text.
    Utf8,
    /// A whole number.
    Int64,
    /// A double.
    Float64,
    /// A moment in UTC, microseconds; the API counts in the column's unit, `s` or `ms`.
    Timestamp,
}

impl ColumnKind {
    /// The word for it in the endpoint file and in a fingerprint.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Utf8 => "utf8",
            Self::Int64 => "int64",
            Self::Float64 => "float64",
            Self::Timestamp => "timestamp",
        }
    }

    /// The Arrow type.
    pub fn data_type(self) -> DataType {
        match self {
            Self::Utf8 => DataType::Utf8,
            Self::Int64 => DataType::Int64,
            Self::Float64 => DataType::Float64,
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC"))),
        }
    }

    /// The SQL type, as DuckDB and most warehouses spell it.
    pub fn sql_type(self) -> &'static str {
        match self {
            Self::Utf8 => "VARCHAR",
            Self::Int64 => "BIGINT",
            Self::Float64 => "DOUBLE",
            Self::Timestamp => "TIMESTAMP WITH TIME ZONE",
        }
    }
}

/// What a column is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A plain property of the row.
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
    /// The word for it in the endpoint file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Attribute => "attribute",
            Self::Identity => "identity",
            Self::Partition => "partition",
            Self::Volatile => "volatile",
            Self::Metric => "metric",
        }
    }
}

/// What is wrong with a TOML text, after the line on which it is: in one line, where the error draws a picture of several.
pub(crate) fn at_line(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start));
    let line = before.map(|before| format!("line {}: ", before.matches('\n').count() + 1)).unwrap_or_default();
    line + error.message()
}

impl Endpoint {
    /// Reads and checks a description.
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        let endpoint: Self = toml::from_str(text).map_err(|error| EndpointError::Parse(at_line(text, &error)))?;
        match endpoint.contradiction() {
            None => Ok(endpoint),
            Some(reason) => Err(EndpointError::Invalid { name: endpoint.name, reason }),
        }
    }

    fn contradiction(&self) -> Option<String> {
        if let Some(reason) = self.unusable_name() {
            return Some(reason);
        }
        if self.columns.iter().filter(|column| column.role == Role::Partition).count() != 1 {
            return Some("exactly one column must have the role partition".to_owned());
        }
        if self.partition().kind != ColumnKind::Utf8 {
            return Some("the partition column must be utf8".to_owned());
        }
        let item = self.columns.iter().find(|column| column.name == self.item.column);
        if item.is_none_or(|column| column.role != Role::Identity || column.kind != ColumnKind::Utf8) {
            return Some(format!("item column {} must be an identity column of type utf8", self.item.column));
        }
        if self.key_columns().next().is_none() {
            return Some("a row needs an identity column beside the item's".to_owned());
        }
        if let Some(wrong) = self.key_columns().find(|column| column.kind != ColumnKind::Utf8) {
            return Some(format!("identity column {} must be utf8: ids never pass through a number", wrong.name));
        }
        let is_timed = |column: &Column| matches!(column.unit.as_deref(), Some("s" | "ms"));
        let mut times = self.columns.iter().filter(|column| column.kind == ColumnKind::Timestamp);
        if let Some(wrong) = times.find(|column| !is_timed(column)) {
            return Some(format!("column {}: a timestamp needs the unit s or ms", wrong.name));
        }
        if let Some(wrong) = self.columns.iter().find(|column| !column.nullable && column.role != Role::Identity) {
            return Some(format!("column {}: only identity columns can have nullable = false", wrong.name));
        }
        let page = &self.page;
        if page.size_max == 0 || page.first > page.last {
            return Some("page limits are empty".to_owned());
        }
        if !self.path.starts_with('/') || self.success_codes.is_empty() || self.fake.partitions.is_empty() {
            return Some("path, success_codes and fake.partitions must be given".to_owned());
        }
        let sorted = self.sort.iter().flat_map(|sort| sort.fields.keys());
        sorted
            .into_iter()
            .find(|field| !self.columns.iter().any(|column| column.name == **field))
            .map(|field| format!("sort field {field} is no column"))
    }

    /// The partition column.
    ///
    /// # Panics
    /// Never: [`parse`](Self::parse) admits only descriptions with exactly one.
    pub fn partition(&self) -> &Column {
        let found = self.columns.iter().find(|column| column.role == Role::Partition);
        #[expect(clippy::expect_used, reason = "`parse` admits exactly one partition column")]
        found.expect("one partition column")
    }

    /// The columns that tell a row from the others of its item.
    pub fn key_columns(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter().filter(|column| column.role == Role::Identity && column.name != self.item.column)
    }

    /// The columns that make a row's key in the whole output: the item's, then [`key_columns`](Self::key_columns).
    pub fn row_key(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter().filter(|column| column.name == self.item.column).chain(self.key_columns())
    }

    /// The columns whose values hardly ever repeat: keys, what differs at every fetch, and those that say so.
    pub fn unique_columns(&self) -> impl Iterator<Item = &Column> {
        let is_key = |column: &Column| column.role == Role::Identity && column.name != self.item.column;
        let is_unique = move |column: &Column| column.role == Role::Volatile || is_key(column);
        self.columns.iter().filter(move |column| column.unique.unwrap_or_else(|| is_unique(column)))
    }

    /// The columns of text that nobody looks for by its beginning or by a range: unique, and no part of the key.
    pub fn opaque_columns(&self) -> impl Iterator<Item = &Column> {
        self.unique_columns().filter(|column| column.kind == ColumnKind::Utf8 && column.role != Role::Identity)
    }

    /// The description's own fingerprint: 16 hex digits over all that shapes an answer's reading, not comments.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        for column in &self.columns {
            let Column { name, kind, role, nullable, unit, .. } = column;
            hash.update(serde_json::json!([name, kind.as_str(), role.as_str(), nullable, unit]).to_string());
        }
        let (path, item) = (&self.path, &self.item);
        hash.update(serde_json::json!([path, item.param, self.page.first, item.column]).to_string());
        hex(&hash.finalize()).chars().take(16).collect()
    }

    /// The call's fingerprint: 16 hex digits over all that shapes what is asked for, and nothing of how it is read.
    pub fn call_fingerprint(&self) -> String {
        let (page, sort) = (&self.page, &self.sort);
        let mut hash = Sha256::new();
        let item = &self.item.param;
        hash.update(serde_json::json!([self.path, item, page.number_param, page.first, page.size_param]).to_string());
        if let Some(SortParams { field_param, direction_param, ascending, descending, fields }) = sort {
            let fields: Vec<_> = fields.iter().collect(); // in the order of their names
            hash.update(serde_json::json!([field_param, direction_param, ascending, descending, fields]).to_string());
        }
        hex(&hash.finalize()).chars().take(16).collect()
    }

    /// The Arrow schema of the files: `columns` (names kept), without the partition, then pagehaul's own three.
    pub fn file_schema(&self, columns: &[Column]) -> SchemaRef {
        let mut fields: Vec<Field> = columns
            .iter()
            .filter(|column| column.role != Role::Partition)
            .map(|column| Field::new(&column.name, column.kind.data_type(), column.nullable))
            .collect();
        fields.push(Field::new(FETCHED_AT, ColumnKind::Timestamp.data_type(), false));
        fields.push(Field::new(PAGE_NUM, DataType::Int32, false));
        fields.push(Field::new(EXTRA, DataType::Utf8, true));
        Arc::new(Schema::new(fields))
    }
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        if write!(text, "{byte:02x}").is_err() {
            text.clear(); // writing to a String cannot fail; an empty digest would fail every check
        }
        text
    })
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
        let of = |name: &str| endpoint.columns.iter().find(|column| column.name == name).unwrap();
        assert_eq!(of("create_time").kind, ColumnKind::Timestamp);
        assert_eq!(of("data_size").kind, ColumnKind::Int64);
        assert_eq!(of("total_video_sale_gmv_amt").kind, ColumnKind::Float64);
        assert_eq!(of("play_addr").role, Role::Volatile);
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
            ("name = \"user_id\"", "name = \"video_id\"", "column video_id stands twice"),
            ("name = \"user_id\"", "name = \"Video_Id\"", "columns video_id and Video_Id differ only by case"),
            ("name = \"user_id\"", "name = \"REGION\"", "columns REGION and region differ only by case"),
            ("name = \"user_id\"", "name = \"_user\"", "pagehaul's own"),
            ("name = \"user_id\"", "name = \"user\\u001b[2J\"", "is no name"),
            ("name = \"product-videos\"", "name = \"\"", "is no name"),
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
    fn the_form_of_an_id_is_an_expression_and_no_part_of_what_an_export_is() {
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
    fn a_partition_column_s_name_leaves_room_for_any_value_in_the_directory_s() {
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
