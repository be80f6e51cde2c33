//! A file's statistics for the log, from its footer: rows, and of each column nulls and bounds.
//!
//! As `PROTOCOL.md` of Delta says under "Per-file Statistics", text is cut off at a length: Parquet's own bounds are, so that a
//! bound may be below the smallest value or above the largest one. Times there have milliseconds: an upper bound is rounded up.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, PrimitiveArray, StringArray, StructArray, UInt64Array};
use arrow::compute::{concat, max, max_string, min, min_string};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Field, FieldRef, Float64Type, Int32Type, Int64Type, SchemaRef,
    TimestampMicrosecondType,
};
use arrow::error::ArrowError;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;

/// What the log has of one column of one file. Each array has one entry, which is null where nothing is known.
#[derive(Debug)]
struct Column {
    nulls: ArrayRef,
    least: ArrayRef,
    most: ArrayRef,
}

/// The statistics of one file.
#[derive(Debug)]
pub(super) struct FileStatistics {
    rows: i64,
    columns: Vec<Column>,
}

impl FileStatistics {
    /// Those of these columns.
    pub(super) fn from_footer(footer: &ParquetMetaData, columns: &SchemaRef) -> Result<Self, ParquetError> {
        let of = |field: &FieldRef| column(footer, columns, field);
        let columns = columns.fields().iter().map(of).collect::<Result<_, _>>()?;
        Ok(Self { rows: footer.file_metadata().num_rows(), columns })
    }

    pub(super) fn rows(&self) -> i64 {
        self.rows
    }
}

/// The statistics of several files, as the kernel writes them into the log.
pub(super) fn as_array(files: &[FileStatistics], columns: &SchemaRef) -> Result<StructArray, ArrowError> {
    let rows: Int64Array = files.iter().map(|file| Some(file.rows)).collect();
    let group = |of: fn(&Column) -> &ArrayRef, kind: fn(&FieldRef) -> DataType| {
        let mut fields = Vec::with_capacity(columns.fields().len());
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(columns.fields().len());
        for (at, field) in columns.fields().iter().enumerate() {
            let entries: Vec<&dyn Array> =
                files.iter().filter_map(|file| file.columns.get(at)).map(|column| &**of(column)).collect();
            fields.push(Arc::new(Field::new(field.name(), kind(field), true)));
            arrays.push(concat(&entries)?);
        }
        Ok::<ArrayRef, ArrowError>(Arc::new(StructArray::try_new_with_length(
            fields.into(),
            arrays,
            None,
            files.len(),
        )?))
    };
    let nulls = group(|column| &column.nulls, |_| DataType::Int64)?;
    let least = group(|column| &column.least, |field| field.data_type().clone())?;
    let most = group(|column| &column.most, |field| field.data_type().clone())?;
    let named = |name: &str, array: ArrayRef| (Arc::new(Field::new(name, array.data_type().clone(), true)), array);
    Ok(StructArray::from(vec![
        named("numRecords", Arc::new(rows)),
        named("nullCount", nulls),
        named("minValues", least),
        named("maxValues", most),
    ]))
}

fn column(footer: &ParquetMetaData, columns: &SchemaRef, field: &FieldRef) -> Result<Column, ParquetError> {
    let of = StatisticsConverter::try_new(field.name(), columns, footer.file_metadata().schema_descr())?
        .with_missing_null_counts_as_zero(false);
    let groups = || footer.row_groups().iter();
    let nulls = of.row_group_null_counts(groups())?;
    let rows: Vec<u64> = groups().map(|group| u64::try_from(group.num_rows()).unwrap_or_default()).collect();
    let (least, most) = (of.row_group_mins(groups())?, of.row_group_maxes(groups())?);
    let known = |bounds: &ArrayRef| are_known(bounds, &nulls, &rows);
    let total = (nulls.null_count() == 0).then(|| nulls.iter().flatten().sum::<u64>());
    Ok(Column {
        nulls: Arc::new(Int64Array::from(vec![total.and_then(|total| i64::try_from(total).ok())])),
        least: outermost(&least, known(&least), Outermost::Least),
        most: outermost(&most, known(&most), Outermost::Most),
    })
}

/// Whether each row group has a bound, or no value that would need one.
fn are_known(bounds: &ArrayRef, nulls: &UInt64Array, rows: &[u64]) -> bool {
    rows.iter().enumerate().all(|(at, rows)| bounds.is_valid(at) || nulls.is_valid(at) && nulls.value(at) == *rows)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outermost {
    Least,
    Most,
}

/// The outermost of several bounds as an array of one entry; null if not all are known, or for a kind of value that has none.
fn outermost(bounds: &ArrayRef, is_known: bool, which: Outermost) -> ArrayRef {
    let is_least = which == Outermost::Least;
    let up = |time: i64| time.checked_add(999).map_or(time, |time| time.div_euclid(1_000) * 1_000);
    let number_of = |bounds: &ArrayRef| {
        number::<Int32Type>(bounds, is_least, |value| value)
            .or_else(|| number::<Int64Type>(bounds, is_least, |value| value))
            .or_else(|| number::<Float64Type>(bounds, is_least, |value| value))
            .or_else(|| {
                number::<TimestampMicrosecondType>(bounds, is_least, |time| if is_least { time } else { up(time) })
            })
    };
    let bound: Option<ArrayRef> = match bounds.as_string_opt::<i32>() {
        Some(texts) => {
            let text = if is_least { min_string(texts) } else { max_string(texts) };
            Some(Arc::new(StringArray::from(vec![text])))
        }
        None => number_of(bounds),
    };
    bound.filter(|_| is_known).unwrap_or_else(|| arrow::array::new_null_array(bounds.data_type(), 1))
}

/// The outermost of several numbers; none if they are of another kind.
fn number<T: ArrowPrimitiveType>(
    bounds: &ArrayRef,
    is_least: bool,
    rounded: impl Fn(T::Native) -> T::Native,
) -> Option<ArrayRef> {
    let bounds = bounds.as_primitive_opt::<T>()?;
    let outermost = if is_least { min(bounds) } else { max(bounds) };
    let array = PrimitiveArray::<T>::from_iter([outermost.map(rounded)]);
    Some(Arc::new(array.with_data_type(bounds.data_type().clone())))
}

#[cfg(test)]
mod tests {
    use super::{FileStatistics, as_array};
    use crate::output::parquet_file::{ParquetFile, ParquetOptions};
    use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
    use parquet::file::metadata::ParquetMetaDataReader;
    use std::sync::Arc;

    fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
    }

    /// The statistics of a file with a row group for each of these batches, as JSON.
    fn statistics(groups: &[RecordBatch], no_statistics: &[&str]) -> serde_json::Value {
        let schema = groups[0].schema();
        let parquet = ParquetOptions {
            no_statistics: no_statistics.iter().map(|name| (*name).to_owned()).collect(),
            ..ParquetOptions::default()
        };
        let mut file = ParquetFile::create(Vec::new(), &schema, &parquet).unwrap();
        for rows in groups {
            file.write(rows).unwrap();
            file.flush().unwrap();
        }
        let bytes = bytes::Bytes::from(file.finish().unwrap().0);
        let footer = ParquetMetaDataReader::new().parse_and_finish(&bytes).unwrap();
        assert_eq!(footer.num_row_groups(), groups.len());
        let file = FileStatistics::from_footer(&footer, &schema).unwrap();
        let array = as_array(&[file], &schema).unwrap();
        let json = delta_kernel::engine::arrow_expression::evaluate_expression::to_json(&array).unwrap();
        serde_json::from_str(arrow::array::AsArray::as_string::<i32>(&json).value(0)).unwrap()
    }

    #[test]
    fn bounds_and_nulls_are_those_of_all_row_groups() {
        let group = |numbers: Vec<Option<i64>>, texts: Vec<Option<&str>>| {
            let times: Vec<Option<i64>> = numbers.iter().map(|n| n.map(|n| n * 1_001)).collect();
            let floats: Float64Array =
                numbers.iter().map(|n| n.map(|n| f64::from(i32::try_from(n).unwrap()) / 2.0)).collect();
            let numbers: ArrayRef = Arc::new(Int64Array::from(numbers));
            batch(vec![
                ("n", numbers),
                ("t", Arc::new(StringArray::from(texts))),
                ("at", Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC"))),
                ("f", Arc::new(floats)),
            ])
        };
        let groups = [
            group(vec![Some(7), None, Some(-1)], vec![Some("b"), Some("c"), None]),
            group(vec![None, None, None], vec![None, None, None]),
            group(vec![Some(9)], vec![Some("a")]),
        ];
        let expected = serde_json::json!({
            "numRecords": 7,
            "nullCount": {"n": 4, "t": 4, "at": 4, "f": 4},
            "minValues": {"n": -1, "t": "a", "at": "1969-12-31T23:59:59.998Z", "f": -0.5},
            "maxValues": {"n": 9, "t": "c", "at": "1970-01-01T00:00:00.010Z", "f": 4.5},
        });
        assert_eq!(statistics(&groups, &[]), expected);
    }

    #[test]
    fn long_text_is_cut_off_to_bounds_that_hold_and_what_has_no_statistics_has_no_bounds() {
        let long = "m".repeat(500);
        let texts = || -> ArrayRef { Arc::new(StringArray::from(vec![long.as_str()])) };
        let found = statistics(&[batch(vec![("a", texts()), ("b", texts())])], &["b"]);
        let bound = |which: &str| found[which]["a"].as_str().unwrap().to_owned();
        let (least, most) = (bound("minValues"), bound("maxValues"));
        assert!(least.as_str() <= long.as_str() && long.as_str() <= most.as_str(), "{least} {most}");
        assert!(least.len() < 100 && most.len() < 100);
        assert_eq!(
            (&found["minValues"]["b"], &found["nullCount"]["b"]),
            (&serde_json::Value::Null, &serde_json::Value::Null)
        );
    }
}
