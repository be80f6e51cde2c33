//! In place of `delta/` in a build without the feature: there is no table, so that only [`audit`] and [`check_built`] are ever called.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;

use crate::model::event::EventSink;
use crate::output::error::OutputError;
use crate::output::manifest::Manifest;
use crate::output::table_root::{TableAudit, TableRoot};

/// The columns that a table would have.
#[derive(Clone, Debug)]
pub(crate) struct TableColumns {
    #[expect(dead_code, reason = "there is no table")]
    pub(crate) files: SchemaRef,
    #[expect(dead_code, reason = "there is no table")]
    pub(crate) partition: Vec<String>,
    #[expect(dead_code, reason = "there is no table")]
    pub(crate) may_change: bool,
}

/// A table that cannot exist: the settings refuse one before anything is opened.
#[derive(Clone, Debug)]
pub(crate) enum DeltaTable {}

#[expect(clippy::unused_async, reason = "a table would wait")]
impl DeltaTable {
    pub(crate) fn new(_: TableRoot, _: TableColumns, _: Arc<dyn EventSink>) -> Option<Self> {
        None
    }

    pub(crate) async fn open(&self) -> Result<(), OutputError> {
        match *self {}
    }

    pub(crate) async fn missing(&self, _: Vec<Manifest>) -> Result<Vec<Manifest>, OutputError> {
        match *self {}
    }

    pub(crate) async fn commit(&self, _: Manifest) -> Result<(), OutputError> {
        match *self {}
    }

    pub(crate) async fn check(&self, _: Manifest) -> Result<(), OutputError> {
        match *self {}
    }

    pub(crate) async fn retention(&self) -> Result<Duration, OutputError> {
        match *self {}
    }
}

/// None: this build cannot read a table.
#[expect(clippy::unused_async, reason = "a table would wait")]
pub(crate) async fn audit(_: &TableRoot, _: String, _: Vec<Manifest>) -> Result<Option<TableAudit>, OutputError> {
    Ok(None)
}

/// Fails: this build cannot write to a table.
pub(crate) fn check_built() -> Result<(), OutputError> {
    Err(OutputError::Mismatch(
        "its files are in a Delta table, which this build of pagehaul cannot write: install it with --features delta"
            .to_owned(),
    ))
}

/// Never called: [`check_built`] comes first.
#[expect(clippy::unused_async, reason = "a table would wait")]
pub(crate) async fn forget(_: &TableRoot, _: String) -> Result<(), OutputError> {
    check_built()
}
