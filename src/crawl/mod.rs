//! Which page to request next, what a failure proves, and when a list has ended.
//!
//! May use `fetch` (what responses claim), `state` (the ledger's rows), `decode`, `settings`, `endpoint` and `model`. It decides
//! and does nothing else: no request is sent here, and nothing is written.
//! Read first: [`walk::Walk`], then [`frontier::Frontier`] and [`judgement`].

pub mod backlog;
pub mod end_of_list;
pub mod frontier;
pub(crate) mod judgement;
pub(crate) mod lookahead;
pub(crate) mod retry;
pub(crate) mod survey;
pub(crate) mod walk;
