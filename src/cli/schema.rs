//! `schema`: the columns of the files, and the table that they make in another engine.

use std::path::Path;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgMatches, Command};

use super::arguments::{config, layers, switch, with_settings};
use super::{CommandOutput, block_on};
use crate::endpoint::{Column, ColumnKind, EXTRA, Endpoint, FETCHED_AT, PAGE_NUM, Role};
use crate::error::Error;
use crate::model::sanitize::Sanitized;
use crate::output::store::Store;
use crate::report::schema::{self, FileTable, redshift_manifest};
use crate::settings::{self, Layers, SettingInfo, StoreOptions, table};

const SQL: &str = "sql";
const FOR: &str = "for";
/// Beside the engines: the files of an export, as Redshift wants them listed.
const REDSHIFT_MANIFEST: &str = "redshift-manifest";

const OWN: &[SettingInfo] = &[
    table::ENDPOINT.info,
    table::OUT.info,
    table::COLUMNS.info,
    table::DROP_COLUMNS.info,
    table::PARTITION_IN_FILES.info,
    table::STORE_OPTION.info,
    table::ENDPOINT_URL.info,
];

pub(super) fn command() -> Command {
    let names = PossibleValuesParser::new(schema::targets().chain([REDSHIFT_MANIFEST]));
    let target = Arg::new(FOR).long(FOR).value_name("ENGINE").value_parser(names).conflicts_with(SQL);
    with_settings(Command::new("schema"), OWN)
        .about("Print the columns of the files")
        .arg(switch(SQL, "Print a CREATE TABLE statement"))
        .arg(target.help("Print the table and its load statement for an engine"))
        .arg(config())
}

pub(super) fn run(flags: &ArgMatches) -> Result<CommandOutput, Error> {
    let layers = layers(flags)?;
    let target = flags.get_one::<String>(FOR).map(String::as_str);
    if target == Some(REDSHIFT_MANIFEST) {
        return manifest(&layers);
    }
    let mut endpoint = settings::endpoint(&layers)?;
    let written = settings::written_columns(&layers, &endpoint)?;
    if let Some(target) = target {
        let table = FileTable::new(&endpoint, &written, layers.find(table::OUT)?);
        return Ok(CommandOutput::text(schema::print(&table, target).unwrap_or_default()));
    }
    endpoint.columns.retain(|column| column.role == Role::Partition || written.contains(&column.name));
    Ok(CommandOutput::text(if flags.get_flag(SQL) { sql(&endpoint) } else { text(&endpoint) }))
}

fn manifest(layers: &Layers) -> Result<CommandOutput, Error> {
    let out = layers.find(table::OUT)?;
    let out = out.ok_or(Error::Usage("a manifest lists the files of an export: name it with --out".into()))?;
    let options = StoreOptions::from_layers(layers)?;
    let (text, is_complete) = block_on(async {
        let store = Store::open_first(&out, &options, Path::new("")).await?;
        redshift_manifest(&store, &out).await
    })?;
    let warning = if is_complete { "" } else { "warning: the export is not complete: there is no _SUCCESS\n" };
    Ok(CommandOutput { message: warning.to_owned(), ..CommandOutput::text(text) })
}

fn text(endpoint: &Endpoint) -> String {
    let line = |name: &str, kind: &str, null: bool, role: &str, meaning: &str| {
        let null = if null { "yes" } else { "no" };
        format!("{name:<26} {kind:<26} {null:<5} {role:<10} {}\n", Sanitized(meaning))
    };
    let mut lines = vec![format!("{:<26} {:<26} {:<5} {:<10} {}\n", "column", "type", "null", "role", "meaning")];
    for column in &endpoint.columns {
        let kind = column.kind.data_type().to_string();
        lines.push(line(&column.name, &kind, column.nullable, column.role.as_str(), &column.meaning_with_unit()));
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
