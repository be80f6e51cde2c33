//! A list call as data: where it is, how it pages, what its ids look like, and every column of its rows.
//!
//! May use `model`. Nothing else in the crate names a column; whoever needs one asks here.
//! Read first: [`Endpoint`].

mod codes;
mod description;
pub mod id_form;
mod names;

pub use codes::{Codes, EndRule};
pub(crate) use description::at_line;
pub use description::{
    BUILT_IN, Column, ColumnKind, EXTRA, Endpoint, EndpointError, FETCHED_AT, Fake, ItemParam, JsonType, PAGE_NUM,
    PageParams, Role, SortParams, hex,
};
