//! What must survive a crash, on a local disk: the journal of paid responses, the ledger, and the rates that were found.
//!
//! May use `decode`, `endpoint` and `model`. Every durable write of the program goes through [`disk::Disk`].
//! Read first: [`journal::Journal`], then [`ledger::Ledger`].

pub mod disk;
pub(crate) mod free_space;
pub mod journal;
pub mod ledger;
pub(crate) mod lock;
pub(crate) mod rate_cache;
