//! The directory of one export: rows staged as Parquet files by region, and published under manifests.
//!
//! May use `state`, `decode`, `settings`, `endpoint` and `model`. Data before manifest; a name is given once a file is durable.
//! Read first: [`segment::SegmentWriter`], then [`publisher::Publisher`].

pub mod error;
pub(crate) mod export_dir;
pub mod parquet_file;
pub mod publisher;
pub(crate) mod read_only;
pub mod segment;
pub mod store;
pub(crate) mod worker;
pub(crate) mod writer;
