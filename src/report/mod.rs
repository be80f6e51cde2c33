//! Reports on an export, from the ledger, the manifests and the files: the summary, `products.parquet`, the page, `status`,
//! `verify`, `prune`.
//!
//! May use `plan`, `output`, `crawl`, `input`, `state` and what is below them. Writes nothing except report files.
//! Read first: [`totals::ExportTotals`], then [`summary::Summary`].

pub(crate) mod continued;
pub(crate) mod drift;
pub(crate) mod error;
pub(crate) mod page;
pub(crate) mod planned;
pub(crate) mod products;
pub(crate) mod prune;
pub(crate) mod run_stats;
pub(crate) mod schema;
pub(crate) mod status;
pub mod summary;
pub(crate) mod totals;
pub(crate) mod verify;
pub(crate) mod wait;
