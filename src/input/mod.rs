//! The inputs of a run: the list of items, hints of their lists' sizes, and the API key.
//!
//! May use `state`, `settings`, `endpoint` and `model`. Checks everything before a credit is spent.
//! Read first: [`item_list::ItemList`].

pub(crate) mod api_key;
pub(crate) mod error;
pub(crate) mod foreign_parquet;
pub mod item_list;
pub mod size_hints;
