//! The built program dies at each step around a durable operation, and its disk fails at each system call.

#![cfg(unix)]
#![expect(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "what helps a test fails by panicking, and its files need not survive a crash"
)]

#[path = "../common/mod.rs"]
mod common;
mod disk_faults;
mod failpoints;
