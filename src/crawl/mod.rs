//! Which page to ask for next, what a failure proves, and when a list has ended.
//!
//! May use `fetch` (what responses say), `state` (the ledger's rows), `decode`, `settings`, `endpoint` and `model`. Decides, and
//! does nothing: no request leaves here and nothing is written.
//! Read first: [`walk::Walk`], then [`frontier::Scheduler`] and [`judgement`].

pub mod backlog;
pub mod end_of_list;
pub mod frontier;
pub(crate) mod judgement;
pub(crate) mod lookahead;
pub(crate) mod lookahead_budget;
pub(crate) mod retry;
pub(crate) mod walk;
