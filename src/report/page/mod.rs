//! The report: one HTML page about a whole export, without a script and without anything from elsewhere.
//!
//! [`PageData`] is what the page says, read from the ledger and the manifests it has; [`render()`] makes the page of it and reads nothing.
//! Text from outside is sanitised where it is read, and escaped where it is written, by the template.

mod charts;
mod course;
mod data;
mod files;
mod items;
mod render;
mod sections;
#[cfg(test)]
mod tests;
mod units;

pub(crate) use data::PageData;
pub(crate) use items::ItemsOverview;
pub(crate) use render::render;

/// The page's name in the output.
pub(crate) const PAGE: &str = "_pagehaul/report.html";
