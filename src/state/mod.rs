//! What must survive a crash, on a local disk: the journal of paid responses, the ledger, and the rates that were found.
//!
//! May use `decode`, `endpoint` and `model`. Every durable write goes through [`disk::Disk`], except SQLite's.
//! Beside them: the lock of an export, and the free space of its disks.
//! Read first: [`journal::Journal`], then [`ledger::Ledger`].

pub mod disk;
pub(crate) mod free_space;
pub mod journal;
pub mod ledger;
pub(crate) mod lock;
pub(crate) mod rate_cache;
