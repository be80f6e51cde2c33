//! What a run is given from outside: the list of items, hints of how long their lists are, and the API key.
//!
//! May use `state`, `settings`, `endpoint` and `model`. Everything is checked here, before a credit is spent.
//! Read first: [`item_list::ItemList`].

pub(crate) mod api_key;
pub(crate) mod error;
pub(crate) mod foreign_parquet;
pub mod item_list;
pub mod size_hints;
