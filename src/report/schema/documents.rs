//! What is not SQL: a JSON Schema of a row, and the Arrow schema as Python.

use serde_json::{Map, Value, json};

use super::{CellType, FileTable, TableColumn};
use crate::model::partition::DEFAULT;
use crate::model::sanitize::sanitize;

/// A row as a JSON object. <https://json-schema.org/draft/2020-12/json-schema-validation>
pub(super) fn json_schema(table: &FileTable) -> String {
    let properties: Map<String, Value> =
        table.columns.iter().map(|column| (column.name.clone(), property(column))).collect();
    let required: Vec<&str> = table.columns.iter().map(|column| column.name.as_str()).collect();
    let partition = &table.partition;
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$comment": format!("{partition} is the name of a row's directory; {partition}={DEFAULT} means null."),
        "title": table.name,
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    });
    format!("{schema:#}\n")
}

fn property(column: &TableColumn) -> Value {
    let (kind, format) = match column.kind {
        CellType::Text => ("string", None),
        CellType::Int32 | CellType::Int64 => ("integer", None),
        CellType::Float64 => ("number", None),
        CellType::Timestamp => ("string", Some("date-time")),
    };
    let mut property = Map::new();
    let of_type = if column.is_nullable { json!([kind, "null"]) } else { json!(kind) };
    property.insert("type".to_owned(), of_type);
    property.extend(format.map(|format| ("format".to_owned(), json!(format))));
    property.insert("description".to_owned(), json!(sanitize(&column.meaning)));
    Value::Object(property)
}

/// <https://arrow.apache.org/docs/python/dataset.html>
pub(super) fn arrow(table: &FileTable) -> String {
    let field = |column: &TableColumn| {
        let kind = match column.kind {
            CellType::Text => "pa.string()",
            CellType::Int32 => "pa.int32()",
            CellType::Int64 => "pa.int64()",
            CellType::Float64 => "pa.float64()",
            CellType::Timestamp => "pa.timestamp(\"us\", tz=\"UTC\")",
        };
        let nullable = if column.is_nullable { "" } else { ", nullable=False" };
        format!("        pa.field({}, {kind}{nullable}),\n", json!(column.name))
    };
    let fields: String = table.columns.iter().map(field).collect();
    let (out, partition) = (table.out.as_ref().map(ToString::to_string), json!(table.partition));
    let out = json!(out.as_deref().map_or("s3://BUCKET/PREFIX", |out| out.trim_end_matches('/')));
    format!(
        "# Arrow: the table of the export's files. Read them when _SUCCESS exists.\n\
         # Rows without a {} are in {}={DEFAULT}, which is read as null.\n\
         import pyarrow as pa\nimport pyarrow.dataset as ds\n\n\
         schema = pa.schema(\n    [\n{fields}    ]\n)\n\
         partitioning = ds.partitioning(pa.schema([({partition}, pa.string())]), flavor=\"hive\")\n\
         dataset = ds.dataset({out}, schema=schema, format=\"parquet\", partitioning=partitioning)\n",
        table.partition, table.partition,
    )
}
