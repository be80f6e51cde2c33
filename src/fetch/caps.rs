//! What a response may hold at most, whatever a server sends.

/// Most fields in an answer's head.
pub const HEADERS: usize = 100;
/// Largest head of an answer, bytes of names and values. hyper gives up on one that it cannot read whole in 408 KiB.
pub const HEAD_CAP: usize = 64 * 1024;
/// Bytes that every body may hold without asking: six times a regular page.
pub(super) const FREE_BYTES: usize = 64 * 1024;
/// Largest body, bytes.
pub const BODY_CAP: usize = 8 * 1024 * 1024;
/// Bytes that all bodies together may hold beyond the free ones: four of the largest at a time.
pub const BODY_POOL: usize = 4 * BODY_CAP;
