//! What follows the columns, and the statement that loads the files.

use super::TableColumn;
use super::sql::Sql;
use crate::model::partition::DEFAULT;

/// DuckDB's table function for files of this pattern, with the partition as a column.
pub(super) fn read_parquet(files: &str, partition: &str, is_partition_in_files: bool) -> String {
    let options = if is_partition_in_files {
        "hive_partitioning = false".to_owned()
    } else {
        format!("hive_partitioning = true, hive_types = {{'{partition}': VARCHAR}}")
    };
    format!("read_parquet('{}', {options})", files.replace('\'', "''"))
}

fn read_all(sql: &Sql<'_>) -> String {
    read_parquet(&sql.files(), &sql.table.partition, sql.table.is_partition_in_files)
}

pub(super) fn duckdb(sql: &Sql<'_>) -> String {
    format!("INSERT INTO {} BY NAME\nSELECT * FROM {};\n", sql.table_name(), read_all(sql))
}

/// One line, as `\copy` must be. duckdb gives the columns in the order of the files, then the partition.
pub(super) fn postgres(sql: &Sql<'_>) -> String {
    let query = format!("COPY (FROM {}) TO '/dev/stdout' (FORMAT csv, HEADER false)", read_all(sql));
    let mut word = String::new();
    for c in query.chars() {
        if matches!(c, '"' | '$' | '`' | '\\') {
            word.push('\\'); // the shell would read it inside double quotes
        }
        word.push(c);
    }
    let program = sql.literal(&format!("duckdb -c \"{word}\""));
    let names = sql.names(sql.table.partition_last());
    format!("\\copy {} ({names}) FROM PROGRAM {program} (FORMAT csv)\n", sql.table_name())
}

pub(super) fn clickhouse(sql: &Sql<'_>) -> String {
    let table = sql.table;
    let value = |column: &TableColumn| {
        if table.is_partition_in_files || !table.is_partition(column) {
            return format!("  {}", sql.quoted(&column.name));
        }
        let path = format!("decodeURLComponent(extract(_path, '/{}=([^/]*)/'))", table.partition);
        format!("  nullIf({path}, '{DEFAULT}')")
    };
    let values: Vec<String> = table.columns.iter().map(value).collect();
    let function = if sql.out.contains("://") { "s3" } else { "file" };
    format!(
        "INSERT INTO {} ({})\nSELECT\n{}\nFROM {function}({}, 'Parquet')\nSETTINGS use_hive_partitioning = 0;\n",
        sql.table_name(),
        sql.names(table.columns.iter()),
        values.join(",\n"),
        sql.literal(&sql.files()),
    )
}

pub(super) fn spark_options(sql: &Sql<'_>) -> String {
    let out = sql.out.strip_prefix("s3://").map_or_else(|| sql.out.clone(), |rest| format!("s3a://{rest}"));
    let partition = sql.quoted(&sql.table.partition);
    format!("\nUSING parquet\nPARTITIONED BY ({partition})\nLOCATION {}", sql.literal(&out))
}

pub(super) fn athena_options(sql: &Sql<'_>) -> String {
    let (partition, text) = (sql.quoted(&sql.table.partition), sql.engine.types.text);
    let out = sql.literal(&format!("{}/", sql.out));
    format!("\nPARTITIONED BY ({partition} {text})\nSTORED AS PARQUET\nLOCATION {out}")
}

/// Finds the directories of the partitions.
pub(super) fn repair(sql: &Sql<'_>) -> String {
    format!("MSCK REPAIR TABLE {};\n", sql.table_name())
}

/// The keys of directories' names cannot be columns of the files, so that only one of the two is read.
pub(super) fn bigquery(sql: &Sql<'_>) -> String {
    let (table, partition) = (sql.table, sql.quoted(&sql.table.partition));
    let uris = sql.literal(&format!("{}/{}=*", sql.out, table.partition));
    let (prefix, with) = if table.is_partition_in_files {
        (String::new(), String::new())
    } else {
        let prefix = format!(",\n  hive_partition_uri_prefix = {}", sql.literal(&sql.out));
        (prefix, format!("\nWITH PARTITION COLUMNS ({partition} {})", sql.engine.types.text))
    };
    format!(
        "LOAD DATA INTO {}\nFROM FILES (\n  format = 'PARQUET',\n  uris = [{uris}]{prefix}\n){with};\n",
        sql.table_name()
    )
}

pub(super) fn snowflake(sql: &Sql<'_>) -> String {
    let table = sql.table;
    let url = sql.out.strip_prefix("gs://").map_or_else(|| sql.out.clone(), |rest| format!("gcs://{rest}"));
    let stage = sql.quoted(&format!("{}_files", table.name));
    let value = |column: &TableColumn| {
        let kind = sql.engine.types.of(column.kind);
        if table.is_partition_in_files || !table.is_partition(column) {
            return format!("    $1:{}::{kind}", sql.quoted(&column.name));
        }
        let name = format!("SPLIT_PART(SPLIT_PART(METADATA$FILENAME, '{}=', 2), '/', 1)", table.partition);
        format!("    NULLIF({name}, '{DEFAULT}')")
    };
    let values: Vec<String> = table.columns.iter().map(value).collect();
    format!(
        "CREATE STAGE {stage}\n  URL = {}\n  STORAGE_INTEGRATION = INTEGRATION\n  \
         FILE_FORMAT = (TYPE = PARQUET USE_LOGICAL_TYPE = TRUE);\n\n\
         ALTER SESSION SET TIMEZONE = 'UTC';\n\n\
         COPY INTO {} ({})\nFROM (\n  SELECT\n{}\n  FROM @{stage}\n)\nPATTERN = '.*{}=[^/]*/[^/]*[.]parquet';\n",
        sql.literal(&format!("{url}/")),
        sql.table_name(),
        sql.names(table.columns.iter()),
        values.join(",\n"),
        table.partition,
    )
}

pub(super) fn redshift(sql: &Sql<'_>) -> String {
    let manifest = sql.literal(&format!("{}/_pagehaul/redshift.manifest", sql.out));
    format!("COPY {}\nFROM {manifest}\nIAM_ROLE default\nFORMAT AS PARQUET\nMANIFEST;\n", sql.table_name())
}
