//! `products.parquet`: the outcome of each product, one row each, in the order of the list.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use parquet::errors::ParquetError;

use crate::model::clock::Utc64;
use crate::model::page::StopReason;
use crate::output::export_dir::ExportDir;
use crate::output::parquet_file::{ParquetFile, ParquetOptions};
use crate::report::error::ReportError;
use crate::report::page::ItemsOverview;
use crate::state::ledger::ItemRow;

pub(crate) const PRODUCTS: &str = "_pagehaul/products.parquet";
/// Rows that are gathered before they are written.
const BATCH: usize = 8_192;

/// Writes the file, and sums up the products for the report.
pub(crate) async fn write_products(export_dir: &ExportDir) -> Result<ItemsOverview, ReportError> {
    let mut overview = ItemsOverview::default();
    let schema = rows(&[])?.schema();
    let mut file = ParquetFile::create(Vec::new(), &schema, &ParquetOptions::default())?;
    let mut items = Vec::new();
    export_dir.ledger().for_each_item(|item| {
        overview.add(&item);
        items.push(item);
        if items.len() < BATCH {
            return Ok(());
        }
        Ok::<_, ReportError>(file.write(&rows(&std::mem::take(&mut items))?)?)
    })?;
    file.write(&rows(&items)?)?;
    let (content, _) = file.finish()?;
    export_dir.store.put(PRODUCTS, content).await?;
    Ok(overview)
}

fn rows(items: &[ItemRow]) -> Result<RecordBatch, ParquetError> {
    fn numbers(items: &[ItemRow], number: fn(&ItemRow) -> i64) -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(items.iter().map(number)))
    }
    fn flags(items: &[ItemRow], flag: fn(&ItemRow) -> bool) -> ArrayRef {
        Arc::new(items.iter().map(flag).map(Some).collect::<BooleanArray>())
    }
    fn texts(items: &[ItemRow], text: fn(&ItemRow) -> Option<&str>) -> ArrayRef {
        Arc::new(items.iter().map(text).collect::<StringArray>())
    }
    fn times(items: &[ItemRow], time: fn((Utc64, Utc64)) -> Utc64) -> ArrayRef {
        let times = items.iter().map(|item| item.fetched.map(|fetched| time(fetched).0));
        Arc::new(times.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
    }
    let (required, nullable) = (false, true);
    Ok(RecordBatch::try_from_iter_with_nullable([
        ("product", texts(items, |item| Some(&item.id)), required),
        ("pages", numbers(items, |item| item.pages), required),
        ("rows", numbers(items, |item| item.rows), required),
        ("duplicates", numbers(items, |item| item.duplicates), required),
        ("moved", flags(items, |item| item.is_moved), required),
        ("complete", flags(items, |item| item.stop.is_some_and(StopReason::is_complete)), required),
        ("stop_reason", texts(items, |item| item.stop.map(StopReason::as_str)), nullable),
        ("error", texts(items, |item| item.error.as_deref()), nullable),
        ("first_fetched_at", times(items, |fetched| fetched.0), nullable),
        ("last_fetched_at", times(items, |fetched| fetched.1), nullable),
        ("credits", numbers(items, |item| item.pages - item.pages_taken_over + item.in_doubt), required),
        ("since", texts(items, |item| item.since.as_deref()), nullable),
    ])?)
}
