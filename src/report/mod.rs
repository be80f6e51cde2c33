//! What an export came to, from the ledger, the manifests and the files: the summary, `products.parquet`, `status`, `verify`.
//!
//! May use `output`, `crawl`, `input`, `state` and what is below them. Changes nothing but its own report files.
//! Read first: [`totals::Figures`], then [`summary::Summary`].

pub mod drift;
pub mod error;
pub mod products;
pub mod run_stats;
pub mod status;
pub mod summary;
pub mod totals;
pub mod verify;
