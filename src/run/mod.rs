//! A run from its start to its end: `export` and `replay`, the engine between them, recovery after a crash. And `prune`.
//!
//! May use everything but `cli`. It starts the long-lived tasks (dispatcher, writer) and owns their channels.
//! Read first: [`export`], then [`engine::Engine`].

pub(crate) mod apply_pages;
pub mod context;
mod crawl;
pub(crate) mod engine;
pub mod export;
mod finish;
pub(crate) mod group_commit;
mod open;
pub mod plan;
pub mod probe;
pub(crate) mod prune;
pub(crate) mod recovery;
mod register;
pub(crate) mod replay;
mod resume;
mod since;
mod snapshots;
pub(crate) mod stop;
pub mod time_limit;
pub(crate) mod timeline;
