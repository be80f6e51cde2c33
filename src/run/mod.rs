//! A run from its start to its end: `export` and `replay`, the engine between them, recovery after a crash.
//!
//! May use everything but `cli`. The only place that starts tasks and owns channels.
//! Read first: [`export`], then [`engine::Rounds`].

pub mod apply_pages;
pub mod context;
pub mod engine;
pub mod export;
pub mod group_commit;
pub mod rebuild;
pub mod recovery;
pub mod rejudge;
pub mod stop;
