//! A run from its start to its end: `export` and `replay`, the engine between them, recovery after a crash.
//!
//! May use everything but `cli`. The only place that starts tasks and owns channels.
//! Read first: [`export`], then [`engine::Engine`].

pub(crate) mod apply_pages;
pub mod context;
pub(crate) mod engine;
pub mod export;
pub(crate) mod group_commit;
pub(crate) mod rebuild;
pub(crate) mod recovery;
pub(crate) mod rejudge;
pub(crate) mod stop;
