//! Continuing an earlier export: of each list only the last page it had there is requested again, and what is behind it.
//!
//! `register` notes which lists that may hold for, before the first request; the engine walks them from there on. `take_over`
//! decides by the pages that came and copies the others from the earlier journal, as if they had been received here before a
//! crash: recovery decodes and publishes them. `compare` looks at a sample.
//! Read first: `register`, then `take_over`.

mod compare;
mod copy;
pub(super) mod earlier;
mod register;
mod take_over;

pub(super) use register::note_lists;
