//! What `--serve` adds to an export: the sinks of its events, and the server.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;

use crate::error::Error;
use crate::model::event::{EventSink, Sinks};
use crate::output::error::OutputError;
use crate::output::read_only::ExportPath;
use crate::serve::{self, Serving};
use crate::settings::Settings;

/// A server that has its address. Nothing is served yet.
pub(super) type Listening = Option<(TcpListener, SocketAddr)>;

pub(super) async fn listen(settings: &Settings) -> Result<Listening, Error> {
    let Some(address) = settings.serve else { return Ok(None) };
    serve::listen(address).await.map(Some).map_err(|source| {
        let busy = if source.kind() == io::ErrorKind::AddrInUse { busy(settings) } else { None };
        busy.unwrap_or(Error::Serve(address, source))
    })
}

/// That another process works on this export, if one does: the address may be that process's.
fn busy(settings: &Settings) -> Option<Error> {
    let Settings { out, store, state_dir, .. } = settings;
    let export = ExportPath { out: out.clone(), store: store.clone(), state: state_dir.clone() };
    let holder = export.lock().ok()?.err()?;
    Some(OutputError::Busy { holder }.into())
}

/// Files that a server may have open.
pub(super) fn open_files(settings: &Settings) -> u64 {
    settings.serve.map_or(0, |_| serve::OPEN_FILES)
}

/// Who gets the events of a run whose rate limit starts at `rate`, and the server, which ends when it is dropped.
pub(super) fn start(
    listening: Listening,
    settings: &Settings,
    rate: Option<f64>,
    reporter: Arc<dyn EventSink>,
) -> (Arc<dyn EventSink>, Option<Serving>) {
    let Some((listener, bound)) = listening else { return (reporter, None) };
    tracing::info!("serving http://{bound}/ (the report), /metrics, /healthz, /readyz and /status.json");
    if !bound.ip().is_loopback() {
        tracing::warn!(
            "--serve: whoever can reach {bound} sees the progress of this export, because there is no password"
        );
    }
    let (serving, sinks) = serve::start((listener, bound), settings, rate);
    let all = std::iter::once(reporter).chain(sinks).collect();
    (Arc::new(Sinks(all)), Some(serving))
}
