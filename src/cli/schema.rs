//! `schema`: the columns of the files.

use clap::{ArgMatches, Command};

use super::CommandOutput;
use super::arguments::{layers, switch, with_settings};
use crate::endpoint::{Column, ColumnKind, EXTRA, Endpoint, FETCHED_AT, PAGE_NUM, Role};
use crate::error::Error;
use crate::model::sanitize::Sanitized;
use crate::settings::{self, table};

const SQL: &str = "sql";

pub(super) fn command() -> Command {
    with_settings(Command::new("schema"), &[table::ENDPOINT.info])
        .about("Print the columns of the files")
        .arg(switch(SQL, "Print a CREATE TABLE statement"))
}

pub(super) fn run(flags: &ArgMatches) -> Result<CommandOutput, Error> {
    let endpoint = settings::endpoint(&layers(flags)?)?;
    Ok(CommandOutput::text(if flags.get_flag(SQL) { sql(&endpoint) } else { text(&endpoint) }))
}

fn text(endpoint: &Endpoint) -> String {
    let line = |name: &str, kind: &str, null: bool, role: &str, meaning: &str| {
        let null = if null { "yes" } else { "no" };
        format!("{name:<26} {kind:<26} {null:<5} {role:<10} {}\n", Sanitized(meaning))
    };
    let mut lines = vec![format!("{:<26} {:<26} {:<5} {:<10} {}\n", "column", "type", "null", "role", "meaning")];
    for column in &endpoint.columns {
        let unit = column.unit.as_ref().map(|unit| format!(" [{unit}]")).unwrap_or_default();
        let kind = column.kind.data_type().to_string();
        lines.push(line(&column.name, &kind, column.nullable, column.role.as_str(), &(column.meaning.clone() + &unit)));
    }
    let time = ColumnKind::Timestamp.data_type().to_string();
    lines.push(line(FETCHED_AT, &time, false, "own", "When the row was fetched."));
    lines.push(line(PAGE_NUM, "Int32", false, "own", "Page that the row was on."));
    lines.push(line(EXTRA, "Utf8", true, "own", "JSON of unknown fields and of values of another type."));
    lines.concat()
}

fn sql(endpoint: &Endpoint) -> String {
    let field = |column: &Column| {
        let null = if column.nullable || column.role == Role::Partition { "" } else { " NOT NULL" };
        format!("  {} {}{null}", quoted(&column.name), column.kind.sql_type())
    };
    let mut fields: Vec<String> = endpoint.columns.iter().map(field).collect();
    fields.push(format!("  \"{FETCHED_AT}\" {} NOT NULL", ColumnKind::Timestamp.sql_type()));
    fields.push(format!("  \"{PAGE_NUM}\" INTEGER NOT NULL"));
    fields.push(format!("  \"{EXTRA}\" VARCHAR"));
    format!("CREATE TABLE {} (\n{}\n);\n", quoted(&endpoint.name), fields.join(",\n"))
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
