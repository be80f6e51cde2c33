//! The built program, and its client against servers on loopback.

#![cfg(unix)]
#![expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "what helps a test fails by panicking, and its files need not survive a crash"
)]

mod api_key;
mod buckets;
mod cli;
#[path = "../common/mod.rs"]
mod common;
mod drift;
mod end_of_list;
mod export_dir;
mod failures;
mod faults_data;
mod faults_ledger;
mod faults_machine;
mod faults_network;
mod faults_together;
mod formats;
mod hostile_text;
mod plan;
mod prune;
mod refused;
mod replay;
mod report;
mod schema;
mod serve;
mod since;
mod snapshots;
mod status;
mod table;
mod terminal;
mod time_limit;
mod verify;
