//! The SQL engines. Each entry cites the page of the vendor's documentation that its types and options are from.

use super::load;
use super::sql::{Engine, Escape, Nulls, PartitionPlace, TypeNames};

/// <https://duckdb.org/docs/stable/data/partitioning/hive_partitioning>
pub(super) const DUCKDB: Engine = Engine {
    name: "DuckDB",
    types: TypeNames {
        text: "VARCHAR",
        int32: "INTEGER",
        int64: "BIGINT",
        float64: "DOUBLE",
        timestamp: "TIMESTAMP WITH TIME ZONE",
    },
    quote: '"',
    escape: Escape::Doubled,
    nulls: Nulls::NotNull,
    partition: PartitionPlace::Column,
    schemes: &["", "s3://", "gs://", "az://"],
    placeholder: "s3://BUCKET/PREFIX",
    notes: &[],
    path_notes: &["DuckDB reads that name as null."],
    create: "CREATE TABLE",
    namespace: "",
    options: |_| String::new(),
    load: load::duckdb,
};

/// <https://www.postgresql.org/docs/current/app-psql.html> (`\copy`)
pub(super) const POSTGRES: Engine = Engine {
    name: "PostgreSQL",
    types: TypeNames {
        text: "text",
        int32: "integer",
        int64: "bigint",
        float64: "double precision",
        timestamp: "timestamp with time zone",
    },
    quote: '"',
    escape: Escape::Doubled,
    nulls: Nulls::NotNull,
    partition: PartitionPlace::Column,
    schemes: &["", "s3://", "gs://", "az://"],
    placeholder: "s3://BUCKET/PREFIX",
    notes: &[
        "PostgreSQL reads no Parquet: psql starts duckdb, which reads the files and writes CSV for COPY.",
        "A text with the character U+0000 ends the load: no text of PostgreSQL can have it.",
    ],
    path_notes: &[],
    create: "CREATE TABLE",
    namespace: "",
    options: |_| String::new(),
    load: load::postgres,
};

/// <https://clickhouse.com/docs/sql-reference/table-functions/s3>,
/// <https://clickhouse.com/docs/sql-reference/data-types/datetime64>
pub(super) const CLICKHOUSE: Engine = Engine {
    name: "ClickHouse",
    types: TypeNames {
        text: "String",
        int32: "Int32",
        int64: "Int64",
        float64: "Float64",
        timestamp: "DateTime64(6, 'UTC')",
    },
    quote: '`',
    escape: Escape::Backslash,
    nulls: Nulls::Wrapped,
    partition: PartitionPlace::Column,
    schemes: &["", "s3://", "gs://"],
    placeholder: "s3://BUCKET/PREFIX",
    notes: &[],
    path_notes: &[
        "ClickHouse does not decode names, does not know the one of null, and guesses types: the load takes the path.",
    ],
    create: "CREATE TABLE",
    namespace: "",
    options: |sql| {
        let key: Vec<String> = sql.table.key.iter().map(|name| sql.quoted(name)).collect();
        format!("\nENGINE = MergeTree\nORDER BY ({})", key.join(", "))
    },
    load: load::clickhouse,
};

/// <https://spark.apache.org/docs/latest/sql-ref-syntax-ddl-create-table-datasource.html>,
/// <https://spark.apache.org/docs/latest/sql-ref-syntax-ddl-repair-table.html>
pub(super) const SPARK: Engine = Engine {
    name: "Spark",
    types: TypeNames { text: "STRING", int32: "INT", int64: "BIGINT", float64: "DOUBLE", timestamp: "TIMESTAMP" },
    quote: '`',
    escape: Escape::Backslash,
    nulls: Nulls::NotNull,
    partition: PartitionPlace::LastColumn,
    schemes: &["", "s3://", "gs://", "abfss://"],
    placeholder: "s3a://BUCKET/PREFIX",
    notes: &[
        "Spark reads that name as null, and each byte of an encoded character that is not ASCII as a character.",
        "The table reads the files where they are: repair it after each export.",
    ],
    path_notes: &[],
    create: "CREATE TABLE",
    namespace: "",
    options: load::spark_options,
    load: load::repair,
};

/// <https://cloud.google.com/bigquery/docs/hive-partitioned-loads-gcs>,
/// <https://cloud.google.com/bigquery/docs/reference/standard-sql/load-statements>
pub(super) const BIGQUERY: Engine = Engine {
    name: "BigQuery",
    types: TypeNames { text: "STRING", int32: "INT64", int64: "INT64", float64: "FLOAT64", timestamp: "TIMESTAMP" },
    quote: '`',
    escape: Escape::Backslash,
    nulls: Nulls::NotNull,
    partition: PartitionPlace::LastColumn,
    schemes: &["gs://"],
    placeholder: "gs://BUCKET/PREFIX",
    notes: &["Replace DATASET. This follows BigQuery's documentation; pagehaul's tests do not run it."],
    path_notes: &["BigQuery may keep that name as a value, and encoded ones: read the column with NULLIF."],
    create: "CREATE TABLE",
    namespace: "`DATASET`.",
    options: |_| String::new(),
    load: load::bigquery,
};

/// <https://docs.snowflake.com/en/user-guide/data-load-transform>,
/// <https://docs.snowflake.com/en/user-guide/querying-metadata>,
/// <https://docs.snowflake.com/en/sql-reference/sql/create-file-format>
pub(super) const SNOWFLAKE: Engine = Engine {
    name: "Snowflake",
    types: TypeNames {
        text: "VARCHAR",
        int32: "INTEGER",
        int64: "BIGINT",
        float64: "DOUBLE",
        timestamp: "TIMESTAMP_NTZ(6)",
    },
    quote: '"',
    escape: Escape::Backslash,
    nulls: Nulls::NotNull,
    partition: PartitionPlace::Column,
    schemes: &["s3://", "gs://"],
    placeholder: "s3://BUCKET/PREFIX",
    path_notes: &["Encoded names stay encoded."],
    notes: &[
        "Times are in UTC, and so is the session that loads them.",
        "Replace INTEGRATION. This follows Snowflake's documentation; pagehaul's tests do not run it.",
    ],
    create: "CREATE TABLE",
    namespace: "",
    options: |_| String::new(),
    load: load::snowflake,
};

/// <https://docs.aws.amazon.com/redshift/latest/dg/copy-usage_notes-copy-from-columnar.html>,
/// <https://docs.aws.amazon.com/redshift/latest/dg/loading-data-files-using-manifest.html>
pub(super) const REDSHIFT: Engine = Engine {
    name: "Redshift",
    types: TypeNames {
        text: "VARCHAR(65535)",
        int32: "INTEGER",
        int64: "BIGINT",
        float64: "DOUBLE PRECISION",
        timestamp: "TIMESTAMP",
    },
    quote: '"',
    escape: Escape::Doubled,
    nulls: Nulls::NotNull,
    partition: PartitionPlace::OnlyFromFiles,
    schemes: &["s3://"],
    placeholder: "s3://BUCKET/PREFIX",
    notes: &[
        "COPY reads columns by their order, and no names of directories: the export needs --partition-in-files.",
        "Times are in UTC. The manifest is what `pagehaul schema --for redshift-manifest --out OUT` prints.",
        "This follows Redshift's documentation; pagehaul's tests do not run it.",
    ],
    path_notes: &[],
    create: "CREATE TABLE",
    namespace: "",
    options: |_| String::new(),
    load: load::redshift,
};

/// <https://docs.aws.amazon.com/athena/latest/ug/create-table.html>,
/// <https://docs.aws.amazon.com/athena/latest/ug/msck-repair-table.html>
pub(super) const ATHENA: Engine = Engine {
    name: "Athena",
    types: TypeNames { text: "string", int32: "int", int64: "bigint", float64: "double", timestamp: "timestamp" },
    quote: '`',
    escape: Escape::Backslash,
    nulls: Nulls::Always,
    partition: PartitionPlace::Clause,
    schemes: &["s3://"],
    placeholder: "s3://BUCKET/PREFIX",
    notes: &[
        "Times are in UTC. The table reads the files where they are: repair it after each export.",
        "This follows Athena's documentation; pagehaul's tests do not run it.",
    ],
    path_notes: &[],
    create: "CREATE EXTERNAL TABLE",
    namespace: "",
    options: load::athena_options,
    load: load::repair,
};
