//! What a commit adds and removes: files, as rows of the kernel's own tables.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::builder::{MapBuilder, MapFieldNames, StringBuilder};
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use delta_kernel::engine::arrow_data::ArrowEngineData;
use delta_kernel::{FilteredEngineData, KernelResult};
use percent_encoding::percent_decode_str;

use super::location::in_the_log;
use super::statistics::{FileStatistics, as_array};
use crate::model::partition;

/// A file that a commit adds.
#[derive(Debug)]
pub(super) struct NewFile {
    /// Its name, relative to the table's root.
    pub(super) path: String,
    pub(super) bytes: u64,
    /// Milliseconds since 1970.
    pub(super) modified: i64,
    pub(super) statistics: FileStatistics,
}

/// Files to add, as the kernel takes them. `statistics`: the columns that these are of.
pub(super) fn added(files: Vec<NewFile>, statistics: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let paths: StringArray = files.iter().map(|file| Some(in_the_log(&file.path))).collect();
    let sizes: Int64Array = files.iter().map(|file| i64::try_from(file.bytes).ok()).collect();
    let times: Int64Array = files.iter().map(|file| Some(file.modified)).collect();
    let names = MapFieldNames { entry: "key_value".to_owned(), key: "key".to_owned(), value: "value".to_owned() };
    let mut values = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new());
    for file in &files {
        for (column, value) in partition_values(&file.path) {
            values.keys().append_value(column);
            values.values().append_option(value);
        }
        values.append(true)?;
    }
    let known: Vec<FileStatistics> = files.into_iter().map(|file| file.statistics).collect();
    let columns: [(&str, ArrayRef); 5] = [
        ("path", Arc::new(paths)),
        ("partitionValues", Arc::new(values.finish())),
        ("size", Arc::new(sizes)),
        ("modificationTime", Arc::new(times)),
        ("stats", Arc::new(as_array(&known, statistics)?)),
    ];
    let field = |(name, array): &(&str, ArrayRef)| Field::new(*name, array.data_type().clone(), *name == "stats");
    let schema = Schema::new(columns.iter().map(field).collect::<Vec<_>>());
    RecordBatch::try_new(Arc::new(schema), columns.into_iter().map(|(_, array)| array).collect())
}

/// The values that the directories of a file's name say: null for the default partition, otherwise decoded.
fn partition_values(path: &str) -> BTreeMap<String, Option<String>> {
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let value = |text: &str| (text != partition::DEFAULT).then(|| decoded(text));
    let directories = path.rsplit_once('/').map_or("", |(directories, _)| directories);
    let named = directories.split('/').filter_map(|directory| directory.split_once('='));
    named.map(|(column, text)| (decoded(column), value(text))).collect()
}

/// The live files of a scan that are to be removed, if there are any, and their names. The kernel takes them with all that the
/// log says about them.
pub(super) fn removed(
    live: FilteredEngineData,
    is_removed: impl Fn(&str) -> bool,
) -> KernelResult<Option<(FilteredEngineData, Vec<String>)>> {
    let (data, mut selected) = live.into_parts();
    let data = ArrowEngineData::try_from_engine_data(data)?;
    let rows = data.record_batch();
    // Rows beyond the vector's end are selected.
    selected.resize(rows.num_rows(), true);
    let paths = rows.column_by_name("path").filter(|column| *column.data_type() == DataType::Utf8);
    let Some(paths) = paths.map(|column| column.as_string::<i32>().clone()) else {
        return Err(delta_kernel::KernelError::generic("a scan has no paths"));
    };
    let mut names = Vec::new();
    for (path, is_selected) in paths.iter().zip(&mut selected) {
        let name = path.map(|path| percent_decode_str(path).decode_utf8_lossy().into_owned()).unwrap_or_default();
        *is_selected &= is_removed(&name);
        if *is_selected {
            names.push(name);
        }
    }
    let kept = FilteredEngineData::try_new(data, selected)?;
    Ok((!names.is_empty()).then_some((kept, names)))
}

#[cfg(test)]
mod tests {
    use super::partition_values;
    use crate::model::partition::directory;
    use std::collections::BTreeMap;

    #[test]
    fn a_file_s_partition_values_are_what_its_directories_mean() {
        for value in [None, Some("ID"), Some("a/b=c%"), Some("é"), Some("x y"), Some("__hive_default_partition__")] {
            let path = format!("snapshot=2026%2D11/{}/f.parquet", directory("region", value));
            let expected = [("snapshot", Some("2026-11")), ("region", value)];
            let expected = expected.map(|(column, value)| (column.to_owned(), value.map(str::to_owned)));
            assert_eq!(partition_values(&path), BTreeMap::from(expected), "{path}");
        }
        assert!(partition_values("f.parquet").is_empty());
    }
}
