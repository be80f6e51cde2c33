//! `--serve`: metrics, health and status of a running export over HTTP. Reads events and the ledger, changes nothing.
//!
//! May use `report` and everything below it. Nothing that happens here may delay or end the run.
//! Read first: [`start`], then [`metrics::Metrics`].

mod cached;
#[cfg(test)]
mod fixture;
mod hosts;
pub mod metrics;
pub(crate) mod readiness;
mod registry;
mod respond;
mod server;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use tokio::net::TcpListener;

use crate::model::event::EventSink;
use crate::model::sanitize::{chain, json};
use crate::output::read_only::ExportPath;
use crate::report::error::ReportError;
use crate::report::page::{self, PageData};
use crate::report::status;
use crate::settings::Settings;
use cached::{Cached, Made};
use hosts::Hosts;
use metrics::Metrics;
use readiness::Readiness;
use respond::Site;
pub(crate) use server::{OPEN_FILES, Serving, listen};

/// Serves a run whose rate limit starts at `rate` requests per second. Whatever is sent to the sinks is seen there.
pub(crate) fn start(
    (listener, bound): (TcpListener, SocketAddr),
    settings: &Settings,
    rate: Option<f64>,
) -> (Serving, [Arc<dyn EventSink>; 2]) {
    let (metrics, readiness) = (Arc::new(Metrics::new(settings, rate)), Arc::new(Readiness::new(settings, rate)));
    let sinks: [Arc<dyn EventSink>; 2] = [Arc::<Metrics>::clone(&metrics), Arc::<Readiness>::clone(&readiness)];
    let Settings { out, store, state_dir, .. } = settings;
    let export = ExportPath { out: out.clone(), store: store.clone(), state: state_dir.clone() };
    let of_report = export.clone();
    let status = Cached::new("status", move || status_json(&export));
    let report = Cached::new("report", move || report_page(&of_report));
    (server::start(listener, Arc::new(Site { metrics, readiness, status, report, hosts: Hosts::new(bound) })), sinks)
}

/// What `pagehaul status --json` prints. Blocks.
fn status_json(export: &ExportPath) -> Made {
    block_on(status::status(export)).map(|status| Bytes::from(json(&status) + "\n"))
}

/// The page that `pagehaul report` writes, as of now. Blocks.
fn report_page(export: &ExportPath) -> Made {
    block_on(PageData::read(export)).map(|data| Bytes::from(page::render(&data)))
}

/// Reads an export on a thread that has no runtime.
fn block_on<T>(read: impl Future<Output = Result<T, ReportError>>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(|error| error.to_string())?;
    runtime.block_on(read).map_err(|error| chain(&error))
}
