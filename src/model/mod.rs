//! What every folder shares: ids and page numbers, time, events, exit codes, text that is safe to show.
//!
//! Plain values, the clock, connections and the failpoints of tests. Uses nothing else of the crate, and knows no file format, no HTTP
//! and no settings.
//! Read first: [`page::Request`], [`page::StopReason`], [`event::Event`].

pub mod attempt;
pub mod clock;
pub(crate) mod connections;
pub mod event;
pub(crate) mod exit_code;
pub mod failpoint;
pub mod latencies;
pub mod page;
pub mod partition;
pub mod sanitize;
pub(crate) mod tls;
