//! What an export will cost before it is paid for: pages, credits, time and disk, each with a range that has the outcome in nine of
//! ten cases.
//!
//! May use `crawl` (the rules for the end of a list), `settings` and `model`. It computes: no file, no request, no clock.
//! Read first: [`Plan`], then [`lists`] and [`tail`]. The method and what it was tested on: `docs/plan.md`.

pub mod limits;
pub mod lists;
mod random;
pub mod range;
mod report;
mod tail;
#[cfg(test)]
mod tests;
pub mod work;

pub use report::{KeptPlan, Plan, Probed, Source};
