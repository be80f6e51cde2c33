//! The output in an object store: conditional writes of small objects, uploads of staged files, the check before the first run.
//!
//! An object appears whole or not at all, and there is no rename. Uses `state` for what a crash may leave. Read first: [`Bucket`].

mod client;
mod error;
#[cfg(test)]
mod fake;
mod objects;
mod probe;
mod upload;

pub use error::BucketError;
pub(crate) use error::BucketFailure;
pub(crate) use objects::Bucket;
pub(crate) use upload::LeftoverLog;
