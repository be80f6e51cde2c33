//! The table's definition in SQL, from an engine's entry.

use super::{CellType, FileTable, TableColumn};
use crate::model::partition::DEFAULT;
use crate::model::sanitize::Sanitized;
use crate::settings::OutputLocation;

/// What an engine calls the types of the files' columns.
#[derive(Debug)]
pub(super) struct TypeNames {
    pub(super) text: &'static str,
    pub(super) int32: &'static str,
    pub(super) int64: &'static str,
    pub(super) float64: &'static str,
    pub(super) timestamp: &'static str,
}

impl TypeNames {
    pub(super) fn of(&self, kind: CellType) -> &'static str {
        match kind {
            CellType::Text => self.text,
            CellType::Int32 => self.int32,
            CellType::Int64 => self.int64,
            CellType::Float64 => self.float64,
            CellType::Timestamp => self.timestamp,
        }
    }
}

/// How a definition says that a column may be null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nulls {
    /// `NOT NULL` where it may not.
    NotNull,
    /// `Nullable(T)` where it may.
    Wrapped,
    /// Every column may.
    Always,
}

/// Where the definition has the partition column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PartitionPlace {
    /// Among the others.
    Column,
    /// The last one.
    LastColumn,
    /// In a clause behind the columns, in any case.
    Clause,
    /// Among the others if it is in the files, otherwise nowhere.
    OnlyFromFiles,
}

/// A quote or backslash inside a text literal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Escape {
    /// `''`; a backslash is itself.
    Doubled,
    /// `\'` and `\\`.
    Backslash,
}

/// What differs from engine to engine.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) name: &'static str,
    pub(super) types: TypeNames,
    pub(super) quote: char,
    pub(super) escape: Escape,
    pub(super) nulls: Nulls,
    pub(super) partition: PartitionPlace,
    /// What the locations that it reads begin with; a local path begins with nothing.
    pub(super) schemes: &'static [&'static str],
    /// A location, where none that it reads is known.
    pub(super) placeholder: &'static str,
    /// What a user must know before the load, a line each.
    pub(super) notes: &'static [&'static str],
    /// The same, where the load reads the partition from the names of directories.
    pub(super) path_notes: &'static [&'static str],
    pub(super) create: &'static str,
    /// What precedes the table's name.
    pub(super) namespace: &'static str,
    /// What follows the columns, with a line break in front.
    pub(super) options: fn(&Sql<'_>) -> String,
    /// The statement that loads the files.
    pub(super) load: fn(&Sql<'_>) -> String,
}

/// A table in one engine's words.
#[derive(Debug)]
pub(super) struct Sql<'a> {
    pub(super) table: &'a FileTable,
    pub(super) engine: &'a Engine,
    /// Where the files are, without a slash at the end, as the engine writes it.
    pub(super) out: String,
}

pub(super) fn print(table: &FileTable, engine: &Engine) -> String {
    let (out, unreadable) = location(table, engine);
    let sql = Sql { table, engine, out };
    let notes = sql.notes(unreadable.as_deref());
    let columns: Vec<String> = sql.defined().map(|column| format!("  {}", sql.definition(column))).collect();
    let create =
        format!("{} {} (\n{}\n){};\n", engine.create, sql.table_name(), columns.join(",\n"), (engine.options)(&sql));
    format!("{notes}{create}\n{}", (engine.load)(&sql))
}

/// Where the files are, and what the user gave if the engine does not read it.
fn location(table: &FileTable, engine: &Engine) -> (String, Option<String>) {
    let Some(out) = &table.out else { return (engine.placeholder.to_owned(), None) };
    let text = out.to_string();
    let is_read = match out {
        OutputLocation::Directory(_) => engine.schemes.contains(&""),
        OutputLocation::Bucket(_) => {
            engine.schemes.iter().any(|scheme| !scheme.is_empty() && text.starts_with(*scheme))
        }
    };
    if is_read { (text.trim_end_matches('/').to_owned(), None) } else { (engine.placeholder.to_owned(), Some(text)) }
}

impl Sql<'_> {
    /// The columns in the parentheses of the definition.
    fn defined(&self) -> Box<dyn Iterator<Item = &TableColumn> + '_> {
        let table = self.table;
        match self.engine.partition {
            PartitionPlace::Column => Box::new(table.columns.iter()),
            PartitionPlace::LastColumn => Box::new(table.partition_last()),
            PartitionPlace::Clause => Box::new(table.columns.iter().filter(|column| !table.is_partition(column))),
            PartitionPlace::OnlyFromFiles => Box::new(table.in_files()),
        }
    }

    fn definition(&self, column: &TableColumn) -> String {
        let (name, kind) = (self.quoted(&column.name), self.engine.types.of(column.kind));
        match (self.engine.nulls, column.is_nullable) {
            (Nulls::NotNull, false) => format!("{name} {kind} NOT NULL"),
            (Nulls::Wrapped, true) => format!("{name} Nullable({kind})"),
            (Nulls::NotNull, true) | (Nulls::Wrapped, false) | (Nulls::Always, _) => format!("{name} {kind}"),
        }
    }

    fn notes(&self, unreadable: Option<&str>) -> String {
        let partition = &self.table.partition;
        let mut lines =
            vec![format!("{}: the table of the export's files. Load them when _SUCCESS exists.", self.engine.name)];
        lines.push(if self.table.is_partition_in_files {
            format!("{partition} is in the files and in the names of their directories.")
        } else {
            format!("{partition} is in the names of the directories, percent-encoded, and not in the files.")
        });
        lines.push(format!("Rows without a {partition} are in {partition}={DEFAULT}."));
        let of_paths = self.engine.path_notes.iter().filter(|_| !self.table.is_partition_in_files);
        lines.extend(of_paths.chain(self.engine.notes).map(|note| (*note).to_owned()));
        if let Some(out) = unreadable {
            let schemes: Vec<&str> = self.engine.schemes.iter().copied().filter(|scheme| !scheme.is_empty()).collect();
            let names = if schemes.is_empty() { "a local directory".to_owned() } else { schemes.join(", ") };
            lines.push(format!("The files are in {}; copy them to {names} first.", Sanitized(out)));
        }
        format!("-- {}\n", lines.join("\n-- "))
    }

    pub(super) fn table_name(&self) -> String {
        format!("{}{}", self.engine.namespace, self.quoted(&self.table.name))
    }

    pub(super) fn quoted(&self, name: &str) -> String {
        let quote = self.engine.quote;
        format!("{quote}{}{quote}", name.replace(quote, &format!("{quote}{quote}")))
    }

    /// A text literal.
    pub(super) fn literal(&self, text: &str) -> String {
        let text = match self.engine.escape {
            Escape::Doubled => text.replace('\'', "''"),
            Escape::Backslash => text.replace('\\', "\\\\").replace('\'', "\\'"),
        };
        format!("'{text}'")
    }

    /// The names of columns, quoted, with commas.
    pub(super) fn names<'b>(&self, columns: impl Iterator<Item = &'b TableColumn>) -> String {
        columns.map(|column| self.quoted(&column.name)).collect::<Vec<_>>().join(", ")
    }

    /// The pattern of the data files' names.
    pub(super) fn files(&self) -> String {
        format!("{}/{}=*/*.parquet", self.out, self.table.partition)
    }
}
