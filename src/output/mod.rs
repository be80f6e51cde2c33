//! The directory of one export: rows staged as Parquet files by region, and published under manifests.
//!
//! May use `state`, `decode`, `settings`, `endpoint` and `model`. Data before manifest; a file gets its name once it is durable;
//! only [`store::Store`] touches published names, the segment writer only its staging directory.
//! Read first: [`segment::SegmentWriter`], then [`publisher::Publisher`].

pub mod bucket;
#[cfg(feature = "delta")]
pub(crate) mod delta;
#[cfg(not(feature = "delta"))]
#[path = "no_delta.rs"]
pub(crate) mod delta;
pub(crate) mod differences;
pub mod error;
pub(crate) mod exclusive;
pub(crate) mod export_dir;
pub mod file_entry;
mod local_store;
pub mod manifest;
pub mod names;
pub(crate) mod owner;
pub mod parquet_file;
pub(crate) mod publisher;
pub(crate) mod read_only;
pub(crate) mod removal;
pub(crate) mod retention;
pub mod segment;
pub(crate) mod sibling;
pub mod store;
pub(crate) mod stored;
pub(crate) mod table_root;
pub(crate) mod worker;
pub(crate) mod writer;
