//! What must be true after every run, found out from the output alone and compared with what the API knows.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use arrow::array::AsArray;
use pagehaul::error::ExitCode;
use pagehaul::report::summary::Summary;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::common::rows;
use crate::common::world::{World, id, place};

/// What `products.parquet` says about an item.
#[derive(Clone, Debug)]
pub(crate) struct Product {
    /// Whether it counts as complete.
    pub(crate) complete: bool,
    /// Why its walk ended; empty if it has not.
    pub(crate) stop: String,
    /// The message about it.
    pub(crate) error: String,
    /// Whether its list moved, and rows of it that came more than once.
    pub(crate) moved: bool,
    pub(crate) duplicates: i64,
}

/// The report on items, by their place.
pub(crate) fn products(out: &Path) -> BTreeMap<usize, Product> {
    let file = File::open(out.join("_pagehaul/products.parquet")).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
    let mut products = BTreeMap::new();
    for batch in reader {
        let batch = batch.unwrap();
        let texts = |name: &str| batch.column_by_name(name).unwrap().as_string::<i32>().clone();
        let (ids, stops, errors) = (texts("product"), texts("stop_reason"), texts("error"));
        let complete = batch.column_by_name("complete").unwrap().as_boolean();
        let moved = batch.column_by_name("moved").unwrap().as_boolean();
        let duplicates = batch.column_by_name("duplicates").unwrap().as_primitive::<arrow::datatypes::Int64Type>();
        for at in 0..batch.num_rows() {
            let text = |of: &arrow::array::StringArray| of.iter().nth(at).flatten().unwrap_or_default().to_owned();
            let product = Product {
                complete: complete.value(at),
                stop: text(&stops),
                error: text(&errors),
                moved: moved.value(at),
                duplicates: duplicates.value(at),
            };
            products.insert(place(ids.value(at)), product);
        }
    }
    products
}

/// Rows that are published of each item. No key is published twice, or reading them fails.
fn published(out: &Path) -> BTreeMap<usize, Vec<u64>> {
    let mut published: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
    for (product, video) in rows(out).into_keys() {
        published.entry(place(&product)).or_default().push(video.trim_start_matches('v').parse().unwrap());
    }
    published
}

/// Fails where a run says what is not so: `complete` of an item or of the export while a row is missing that the API has, a
/// row that the API never had.
pub(crate) fn check(world: &World, out: &Path, summary: &Summary, max_pages: Option<u32>) {
    let (products, published) = (products(out), published(out));
    let of = |item: usize| published.get(&item).map_or(&[][..], Vec::as_slice);
    let (mut owed, mut missing, mut first) = (0, 0, None);
    // What a run that was interrupted has journaled is published by the next one.
    assert!(summary.totals.rows.waiting == 0 || summary.exit != ExitCode::Complete, "rows wait: {summary}");
    // And what a run that stopped early calls the end of a list may still turn out to be none.
    let is_final = matches!(summary.exit, ExitCode::Complete | ExitCode::Partial);
    let is_published = |product: &Product| product.complete && is_final;
    for (item, _) in products.iter().filter(|(_, product)| is_published(product)) {
        for row in world.lists.owed(*item, max_pages) {
            let is_missing = !of(*item).contains(&row);
            owed += 1;
            missing += usize::from(is_missing);
            first = first.or_else(|| is_missing.then_some((*item, row)));
        }
    }
    if let Some((item, row)) = first {
        let stop = &products[&item].stop;
        panic!(
            "a lie: {missing} of {owed} rows of complete products are missing, first row {row} of {} ({stop}): {summary}",
            id(item)
        );
    }
    for (item, rows) in &published {
        assert!(rows.iter().all(|row| world.lists.knows(*item, *row)), "{} has rows that are not its own", id(*item));
    }
    let is_complete = summary.exit == ExitCode::Complete;
    assert_eq!(is_complete, out.join("_SUCCESS").exists(), "the mark of a complete export: {summary}");
    assert!(!is_complete || products.values().all(|product| product.complete), "exit 0 with open products: {summary}");
    check_account(world, summary);
}

/// The run's account fits the API's, and no page was paid for twice.
fn check_account(world: &World, summary: &Summary) {
    let counts = &summary.totals.rows;
    assert_eq!(counts.received, counts.published + counts.waiting + counts.duplicates + counts.rejected, "{summary}");
    let (credits, served) = (&summary.totals.credits, world.served());
    let charged: u64 = served.values().map(|times| u64::from(*times)).sum();
    assert!(credits.billed <= charged && charged <= credits.billed + credits.in_doubt, "{charged} served: {summary}");
    if credits.in_doubt == 0 {
        let twice: Vec<_> = served.iter().filter(|(_, times)| **times > 1).collect();
        let again: u64 = twice.iter().map(|(_, times)| u64::from(**times - 1)).sum();
        assert!(again <= summary.totals.pages.outdated, "paid for twice, of lists that did not move: {twice:?}");
    }
}
