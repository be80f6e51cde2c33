//! Response bodies into Arrow rows: the envelope before anything is durable, the rows afterwards.
//!
//! May use `endpoint` and `model`. The same pages in the same order give the same rows, live, after a crash and in a replay.
//! Nothing here knows of HTTP, files or the ledger.
//! Read first: [`envelope::Envelope`], then [`Decoder`].

mod cells;
mod decoder;
mod drift;
pub mod envelope;
mod extra;
pub mod lenient_json;
pub(crate) mod number;
mod time;
mod value;

pub use cells::key_of;
pub use decoder::{Decoded, DecodedPage, Decoder, Key, MOST_ROWS, Reject, Response, received};
pub use drift::{MOST_NAMES, PageDrift};
pub use extra::NESTING;

#[cfg(test)]
mod tests;
