//! What is printed without an export: columns and settings.

use super::{CommandOutput, DEFAULTS};
use crate::endpoint::{Column, ColumnKind, EXTRA, Endpoint, FETCHED_AT, PAGE_NUM, Role};
use crate::error::Error;
use crate::model::sanitize::Sanitized;
use crate::settings::{Layers, Origin, Settings};
use crate::simulator;

/// `config show`: all of them, and the first that cannot hold. One that is only missing is no error here.
pub(super) fn settings(layers: &Layers) -> CommandOutput {
    let text = layers.shown().fold(String::new(), |text, (key, value, origin)| {
        let value = crate::model::sanitize::sanitize(value);
        text + &format!("{:<40} # {origin}\n", format!("{key} = {value:?}"))
    });
    match check(layers.clone()) {
        Ok(()) => CommandOutput::Text(text),
        Err(error) => {
            CommandOutput::Ended { message: super::complaint(&error), printed: text, exit: error.exit_code() }
        }
    }
}

fn check(mut layers: Layers) -> Result<(), Error> {
    if layers.given("out").is_none() {
        layers.set("out", "anywhere".to_owned(), &Origin::BuiltIn)?;
    }
    let settings = Settings::resolve(&layers)?;
    let spec =
        settings.simulate.filter(|spec| spec != DEFAULTS).map(|spec| spec.parse::<simulator::SimulatorSettings>());
    spec.transpose().map(drop).map_err(Error::Spec)
}

/// `schema`.
pub(super) fn schema(endpoint: &Endpoint) -> String {
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
    lines.push(line(PAGE_NUM, "Int32", false, "own", "Page on which it stood."));
    lines.push(line(EXTRA, "Utf8", true, "own", "JSON of unknown fields and of values that did not fit."));
    lines.concat()
}

/// `schema --sql`.
pub(super) fn sql(endpoint: &Endpoint) -> String {
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

/// A name as SQL writes it.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
