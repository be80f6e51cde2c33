//! `schema --for`: the table of an export's files in the dialect of an engine, with the statement that loads them.
//!
//! [`FileTable`] is what all engines have in common. `engines.rs` has a table entry for each SQL engine, `sql.rs` prints the
//! definition from it, `load.rs` the statement that loads the files; `documents.rs` prints what is not SQL, `shell.rs` the command
//! that shows some rows.

mod documents;
mod engines;
mod load;
mod redshift_manifest;
mod shell;
mod sql;

use crate::endpoint::{ColumnKind, EXTRA, Endpoint, FETCHED_AT, PAGE_NUM, Role};
use crate::settings::OutputLocation;

pub(crate) use redshift_manifest::redshift_manifest;
pub(crate) use shell::{read_files, read_table};

/// The type of a column's values, in the files and in every engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CellType {
    Text,
    Int32,
    Int64,
    Float64,
    /// A moment in UTC, microseconds.
    Timestamp,
}

impl From<ColumnKind> for CellType {
    fn from(kind: ColumnKind) -> Self {
        match kind {
            ColumnKind::Utf8 => Self::Text,
            ColumnKind::Int64 => Self::Int64,
            ColumnKind::Float64 => Self::Float64,
            ColumnKind::Timestamp => Self::Timestamp,
        }
    }
}

#[derive(Debug)]
struct TableColumn {
    name: String,
    kind: CellType,
    is_nullable: bool,
    meaning: String,
}

/// The table that the files of an export make.
#[derive(Debug)]
pub(crate) struct FileTable {
    /// The endpoint's name as a name that every engine accepts.
    name: String,
    /// In the order of the files. The partition column has its place among them, whether it is in the files or not.
    columns: Vec<TableColumn>,
    /// Names of the columns that identify a row.
    key: Vec<String>,
    partition: String,
    /// Whether the partition column is in the files, too.
    is_partition_in_files: bool,
    /// Where the files are; none: not known yet.
    out: Option<OutputLocation>,
}

impl FileTable {
    /// The table of files with these columns of the endpoint, and of the names of their directories.
    pub(crate) fn new(endpoint: &Endpoint, columns: &[String], out: Option<OutputLocation>) -> Self {
        let partition = endpoint.partition().name.clone();
        let is_part = |role: Role, name: &String| role == Role::Partition || columns.contains(name);
        let described = endpoint.columns.iter().filter(|column| is_part(column.role, &column.name));
        let mut table: Vec<TableColumn> = described
            .map(|column| TableColumn {
                name: column.name.clone(),
                kind: column.kind.into(),
                is_nullable: column.nullable || column.role == Role::Partition,
                meaning: column.meaning_with_unit(),
            })
            .collect();
        let own = |name: &str, kind, is_nullable, meaning: &str| TableColumn {
            name: name.to_owned(),
            kind,
            is_nullable,
            meaning: meaning.to_owned(),
        };
        table.push(own(FETCHED_AT, CellType::Timestamp, false, "When the row was fetched."));
        table.push(own(PAGE_NUM, CellType::Int32, false, "Page that the row was on."));
        table.push(own(EXTRA, CellType::Text, true, "JSON of unknown fields and of values of another type."));
        Self {
            name: plain_name(&endpoint.name),
            columns: table,
            key: endpoint.row_key().map(|column| column.name.clone()).collect(),
            is_partition_in_files: columns.contains(&partition),
            partition,
            out,
        }
    }

    fn is_partition(&self, column: &TableColumn) -> bool {
        column.name == self.partition
    }

    /// The columns in the files, in their order.
    fn in_files(&self) -> impl Iterator<Item = &TableColumn> {
        self.columns.iter().filter(|column| self.is_partition_in_files || !self.is_partition(column))
    }

    /// The columns in the files, then the partition column if only the directories' names have it.
    fn partition_last(&self) -> impl Iterator<Item = &TableColumn> {
        let missing = self.columns.iter().filter(|column| !self.is_partition_in_files && self.is_partition(column));
        self.in_files().chain(missing)
    }
}

/// Small letters, digits and underscores: what is a table's name in every engine.
fn plain_name(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect()
}

/// What prints a table for one reader.
type Print = fn(&FileTable) -> String;

/// The names that `--for` accepts.
const TARGETS: [(&str, Print); 10] = [
    ("duckdb", |table| sql::print(table, &engines::DUCKDB)),
    ("postgres", |table| sql::print(table, &engines::POSTGRES)),
    ("clickhouse", |table| sql::print(table, &engines::CLICKHOUSE)),
    ("spark", |table| sql::print(table, &engines::SPARK)),
    ("bigquery", |table| sql::print(table, &engines::BIGQUERY)),
    ("snowflake", |table| sql::print(table, &engines::SNOWFLAKE)),
    ("redshift", |table| sql::print(table, &engines::REDSHIFT)),
    ("athena", |table| sql::print(table, &engines::ATHENA)),
    ("json-schema", documents::json_schema),
    ("arrow", documents::arrow),
];

/// The names that [`print()`] knows.
pub(crate) fn targets() -> impl Iterator<Item = &'static str> {
    TARGETS.iter().map(|(name, _)| *name)
}

/// The table for the reader of this name; none if there is no such name.
pub(crate) fn print(table: &FileTable, target: &str) -> Option<String> {
    TARGETS.iter().find(|(name, _)| *name == target).map(|(_, print)| print(table))
}
