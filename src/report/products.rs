//! `products.parquet`: the outcome of each product, one row each, in the order of the list.

use std::sync::Arc;

use arrow::array::{BooleanBuilder, Int64Builder, RecordBatch, StringBuilder, TimestampMicrosecondBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use parquet::errors::ParquetError;

use crate::endpoint::ColumnKind;
use crate::model::page::StopReason;
use crate::output::export_dir::ExportDir;
use crate::output::parquet_file::{ParquetFile, ParquetOptions};
use crate::report::error::ReportError;
use crate::state::ledger::ItemRow;

pub(crate) const PRODUCTS: &str = "_pagehaul/products.parquet";
/// Rows that are gathered before they are written.
const BATCH: usize = 8_192;

pub(crate) async fn write_products(export_dir: &ExportDir) -> Result<(), ReportError> {
    let failed = |source| ReportError::Write { name: PRODUCTS, source };
    let mut file = ParquetFile::create(Vec::new(), &schema(), &ParquetOptions::default()).map_err(failed)?;
    let mut columns = Columns::default();
    export_dir.ledger().for_each_item(|item| {
        columns.push(&item);
        if columns.rows >= BATCH { write(&mut file, &mut columns).map_err(failed) } else { Ok(()) }
    })?;
    write(&mut file, &mut columns).map_err(failed)?;
    let (content, _) = file.finish().map_err(failed)?;
    Ok(export_dir.store.put(PRODUCTS, content).await?)
}

fn write(file: &mut ParquetFile<Vec<u8>>, columns: &mut Columns) -> Result<(), ParquetError> {
    let rows = std::mem::take(columns).finish()?;
    file.write(&rows)
}

#[derive(Default)]
struct Columns {
    product: StringBuilder,
    pages: Int64Builder,
    rows_published: Int64Builder,
    duplicates: Int64Builder,
    moved: BooleanBuilder,
    complete: BooleanBuilder,
    stop: StringBuilder,
    error: StringBuilder,
    first: TimestampMicrosecondBuilder,
    last: TimestampMicrosecondBuilder,
    credits: Int64Builder,
    rows: usize,
}

fn schema() -> SchemaRef {
    let field = |name: &str, kind: DataType, nullable| Field::new(name, kind, nullable);
    let time = ColumnKind::Timestamp.data_type();
    Arc::new(Schema::new(vec![
        field("product", DataType::Utf8, false),
        field("pages", DataType::Int64, false),
        field("rows", DataType::Int64, false),
        field("duplicates", DataType::Int64, false),
        field("moved", DataType::Boolean, false),
        field("complete", DataType::Boolean, false),
        field("stop_reason", DataType::Utf8, true),
        field("error", DataType::Utf8, true),
        field("first_fetched_at", time.clone(), true),
        field("last_fetched_at", time, true),
        field("credits", DataType::Int64, false),
    ]))
}

impl Columns {
    fn push(&mut self, item: &ItemRow) {
        self.rows += 1;
        self.product.append_value(&item.id);
        self.pages.append_value(item.pages);
        self.rows_published.append_value(item.rows);
        self.duplicates.append_value(item.duplicates);
        self.moved.append_value(item.is_moved);
        self.complete.append_value(item.stop.is_some_and(StopReason::is_complete));
        self.stop.append_option(item.stop.map(StopReason::as_str));
        self.error.append_option(item.error.as_deref());
        self.first.append_option(item.fetched.map(|(first, _)| first.0));
        self.last.append_option(item.fetched.map(|(_, last)| last.0));
        self.credits.append_value(item.pages + item.in_doubt);
    }

    fn finish(mut self) -> Result<RecordBatch, ParquetError> {
        Ok(RecordBatch::try_new(
            schema(),
            vec![
                Arc::new(self.product.finish()),
                Arc::new(self.pages.finish()),
                Arc::new(self.rows_published.finish()),
                Arc::new(self.duplicates.finish()),
                Arc::new(self.moved.finish()),
                Arc::new(self.complete.finish()),
                Arc::new(self.stop.finish()),
                Arc::new(self.error.finish()),
                Arc::new(self.first.finish().with_timezone("UTC")),
                Arc::new(self.last.finish().with_timezone("UTC")),
                Arc::new(self.credits.finish()),
            ],
        )?)
    }
}
