//! The largest response that is read, whatever a server sends.

/// Maximum number of header fields.
pub const HEADERS: usize = 100;
/// Maximum size of all header names and values, bytes. hyper itself gives up after 408 KiB.
pub const HEAD_CAP: usize = 64 * 1024;
/// Bytes that each body may use without a share of the pool: six times a regular page.
pub(super) const FREE_BYTES: usize = 64 * 1024;
/// Maximum size of a body, bytes.
pub const BODY_CAP: usize = 8 * 1024 * 1024;
/// Bytes that all bodies together may use beyond their free ones: four bodies of the maximum size.
pub const BODY_POOL: usize = 4 * BODY_CAP;
