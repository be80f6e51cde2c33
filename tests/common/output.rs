//! What an export has published, read without the program's own code, and what it must have published.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType};
use pagehaul::endpoint::{ColumnKind, EXTRA, FETCHED_AT, PAGE_NUM};
use pagehaul::simulator::Simulator;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Map, Value};

use super::endpoint;

/// Product and video.
pub(crate) type Key = (String, String);
/// A row's values by column, its region among them: texts, numbers, and times as microseconds since 1970.
pub(crate) type Row = Map<String, Value>;

/// Every row that the manifests of an output name. No key may come twice, no column may have another type than the
/// endpoint says, and if there is a `_SUCCESS`, a glob must find the same files.
pub(crate) fn rows(out: &Path) -> BTreeMap<Key, Row> {
    let endpoint = endpoint();
    let known = endpoint.file_schema(&endpoint.columns);
    let mut rows = BTreeMap::new();
    let mut named = BTreeSet::new();
    for file in manifests(out).iter().flat_map(|manifest| manifest["files"].as_array().unwrap()) {
        let path = file["path"].as_str().unwrap();
        assert!(named.insert(path.to_owned()), "two manifests name {path}");
        let region = region_of(path);
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(out.join(path)).unwrap()).unwrap();
        for field in reader.schema().fields() {
            if field.name() == &endpoint.partition().name {
                assert!(field.is_nullable() && *field.data_type() == DataType::Utf8, "{path}");
                continue; // with `--partition-in-files`
            }
            assert_eq!(Some(field.as_ref()), known.field_with_name(field.name()).ok(), "{path}");
        }
        let mut count = 0;
        for batch in reader.build().unwrap() {
            let batch = batch.unwrap();
            count += batch.num_rows();
            for at in 0..batch.num_rows() {
                let mut row = row_at(&batch, at);
                let in_file = row.insert("region".to_owned(), region.clone());
                assert!(in_file.is_none_or(|in_file| in_file == region), "a row of another region is in {path}");
                let text = |name: &str| row[name].as_str().unwrap().to_owned();
                let key = (text("product_id"), text("video_id"));
                let earlier = rows.insert(key, row);
                assert!(earlier.is_none(), "a key is published twice: {earlier:?}");
            }
        }
        assert_eq!(file["rows"], count, "the manifest of {path}");
    }
    if out.join("_SUCCESS").exists() {
        assert_eq!(glob(out), named, "a glob finds other files than the manifests name");
    }
    rows
}

/// The manifests of an output.
pub(crate) fn manifests(out: &Path) -> Vec<Value> {
    let Ok(directory) = std::fs::read_dir(out.join("_pagehaul/segments")) else { return Vec::new() };
    let paths: BTreeSet<PathBuf> = directory.map(|entry| entry.unwrap().path()).collect();
    // A crash may leave an incomplete one under another name.
    paths
        .iter()
        .filter(|path| path.extension().is_some_and(|kind| kind == "json"))
        .map(|path| serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())
        .collect()
}

/// What `region=*/*.parquet` finds in an output.
pub(crate) fn glob(out: &Path) -> BTreeSet<String> {
    let is_region = |path: &&String| path.starts_with("region=") && path.ends_with(".parquet");
    files(out)
        .iter()
        .map(|path| path.strip_prefix(out).unwrap().to_str().unwrap().to_owned())
        .filter(|path| is_region(&path))
        .collect()
}

/// Every file below a directory.
pub(crate) fn files(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Every file below a directory, by its name in it, with its content.
pub(crate) fn tree(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let name = |path: &Path| path.strip_prefix(directory).unwrap().to_str().unwrap().to_owned();
    files(directory).into_iter().map(|path| (name(&path), std::fs::read(&path).unwrap())).collect()
}

/// The files below a directory that contain a text, also if they are compressed.
pub(crate) fn files_that_hold(directory: &Path, text: &str) -> Vec<PathBuf> {
    let holds = |bytes: &[u8]| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    let mut found = files(directory);
    found.retain(|path| {
        let bytes = std::fs::read(path).unwrap();
        let is_packed = path.extension().is_some_and(|kind| kind == "zst");
        holds(&bytes) || is_packed && holds(&zstd::stream::decode_all(bytes.as_slice()).unwrap())
    });
    found
}

/// The partition value of a file's directory.
fn region_of(path: &str) -> Value {
    let directory = path.split('/').next().unwrap();
    match directory.strip_prefix("region=").unwrap() {
        "__HIVE_DEFAULT_PARTITION__" => Value::Null,
        value => Value::from(percent_encoding::percent_decode_str(value).decode_utf8().unwrap().into_owned()),
    }
}

/// A row of a batch by column.
pub(crate) fn row_at(batch: &RecordBatch, at: usize) -> Row {
    let schema = batch.schema();
    let cells = schema.fields().iter().zip(batch.columns());
    cells.map(|(field, column)| (field.name().clone(), value_at(column.as_ref(), at))).collect()
}

fn value_at(column: &dyn Array, at: usize) -> Value {
    if column.is_null(at) {
        return Value::Null;
    }
    match column.data_type() {
        DataType::Utf8 => column.as_string::<i32>().value(at).into(),
        DataType::Int32 => column.as_primitive::<Int32Type>().value(at).into(),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(at).into(),
        DataType::Float64 => column.as_primitive::<Float64Type>().value(at).into(),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            column.as_primitive::<TimestampMicrosecondType>().value(at).into()
        }
        other => panic!("no column may have the type {other}"),
    }
}

/// The rows that an export of these products must have in pages of `page_size`, without `_fetched_at`.
pub(crate) fn expected(simulator: &Simulator, ids: &[String], page_size: u64) -> BTreeMap<Key, Row> {
    let endpoint = endpoint();
    let mut rows = BTreeMap::new();
    for id in ids {
        for position in 0..simulator.videos(id) {
            let text = simulator.row(id, None, position).unwrap();
            let sent: Value = serde_json::from_str(&text).unwrap();
            let columns = endpoint.columns.iter();
            let mut row: Row =
                columns.map(|column| (column.name.clone(), typed(column.kind, &sent[&column.name]))).collect();
            row.insert(PAGE_NUM.to_owned(), (position / page_size + 1).into());
            row.insert(EXTRA.to_owned(), Value::Null);
            let key = (id.clone(), sent["video_id"].as_str().unwrap().to_owned());
            assert!(rows.insert(key, row).is_none(), "the simulator repeats a key");
        }
    }
    rows
}

/// A value in the type of its column, whatever type it was sent in. Times are sent in seconds.
fn typed(kind: ColumnKind, sent: &Value) -> Value {
    let text = sent.as_str().map_or_else(|| sent.to_string(), str::to_owned);
    match kind {
        ColumnKind::Utf8 => text.into(),
        ColumnKind::Int64 => text.parse::<i64>().unwrap().into(),
        ColumnKind::Float64 => text.parse::<f64>().unwrap().into(),
        ColumnKind::Timestamp => (text.parse::<i64>().unwrap() * 1_000_000).into(),
    }
}

/// Fails unless an output has exactly these rows and values.
pub(crate) fn assert_rows(out: &Path, expected: &BTreeMap<Key, Row>) {
    let mut rows = rows(out);
    for (key, row) in &mut rows {
        let fetched_at = row.remove(FETCHED_AT).unwrap();
        assert!(
            fetched_at.as_i64().is_some_and(|at| at > 1_600_000_000_000_000),
            "{key:?} was fetched at {fetched_at}"
        );
    }
    let missing: Vec<_> = expected.keys().filter(|key| !rows.contains_key(*key)).collect();
    let extra: Vec<_> = rows.keys().filter(|key| !expected.contains_key(*key)).collect();
    assert!(
        missing.is_empty() && extra.is_empty(),
        "{} of {} rows are missing, first {:?}; {} are too many, first {:?}",
        missing.len(),
        expected.len(),
        missing.first(),
        extra.len(),
        extra.first()
    );
    for (key, row) in &rows {
        assert_eq!(row, &expected[key], "{key:?}");
    }
}
