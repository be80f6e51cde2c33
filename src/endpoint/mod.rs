//! The described list call: its URL, its pages, the form of its ids, and every column of its rows.
//!
//! May use `model`. Nothing else in the crate names a column.
//! Read first: [`Endpoint`]. To add a column: `config/endpoints/*.toml`, and the tests in `description.rs` that count and pin the
//! columns. Unfinished exports with other columns are refused until `replay` has rebuilt them.

mod codes;
mod description;
pub mod id_form;
mod names;

pub use codes::{Codes, EndRule};
pub use description::{BUILT_IN, Column, ColumnKind, EXTRA, Endpoint, EndpointError, FETCHED_AT, PAGE_NUM, Role, hex};
pub(crate) use description::{JsonType, SortParams, at_line, file_schema};
