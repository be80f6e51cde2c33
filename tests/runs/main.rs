//! Whole runs in this process, in virtual time: production code from the list to the published files, an API behind the port
//! that sends requests, tokio's clock paused. Hours take milliseconds.
//!
//! No test here starts a process: a child keeps the locks of its parent until it has become another program, and an export
//! in the same directory would find it busy. Tests of the built program are in `tests/program`.

#![expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "what helps a test fails by panicking, and its files need not survive a crash"
)]

#[path = "../common/mod.rs"]
mod common;
mod deep;
mod export;
mod faults_api;
mod fuzz;
mod judgement;
mod metrics;
mod pacing;
mod plan;
mod scenarios;
mod since;
mod snapshots;
mod stopping;
mod tail;
mod time_limit;
