//! The signals that stop a run: the first cleanly, the second at once.

use tokio::sync::watch;

use crate::error::{Error, ExitCode};

/// Counts signals and says what the last one means. The first stops a run cleanly, the second at once.
pub type Signals = watch::Receiver<(u32, ExitCode)>;

/// Listens for SIGINT and SIGTERM; SIGHUP counts as SIGTERM.
pub fn listen_for_signals() -> Result<Signals, Error> {
    let (sender, signals) = watch::channel((0, ExitCode::Complete));
    let mut next = next_signal()?;
    let listening = async move {
        while let Some(code) = next.recv().await {
            sender.send_modify(|(count, last)| (*count, *last) = (*count + 1, code));
        }
    };
    #[expect(clippy::disallowed_methods, reason = "it lives as long as the process and holds nothing")]
    drop(tokio::spawn(listening));
    Ok(signals)
}

/// Resolves when the `count`th signal came.
pub async fn signal(mut signals: Signals, count: u32) -> ExitCode {
    let came = signals.wait_for(|(came, _)| *came >= count).await.map(|came| came.1);
    match came {
        Ok(code) => code,
        Err(_) => std::future::pending().await,
    }
}

/// The signals that stop a run.
struct StopSignals {
    #[cfg(unix)]
    all: [(tokio::signal::unix::Signal, ExitCode); 3],
}

#[cfg(unix)]
fn next_signal() -> Result<StopSignals, Error> {
    use tokio::signal::unix::{SignalKind, signal};
    let on = |kind| signal(kind).map_err(|source| Error::System { action: "listen for signals", source });
    let all = [
        (on(SignalKind::interrupt())?, ExitCode::Interrupted),
        (on(SignalKind::terminate())?, ExitCode::Terminated),
        (on(SignalKind::hangup())?, ExitCode::Terminated),
    ];
    Ok(StopSignals { all })
}

#[cfg(unix)]
impl StopSignals {
    async fn recv(&mut self) -> Option<ExitCode> {
        let [(one, a), (two, b), (three, c)] = &mut self.all;
        tokio::select! {
            came = one.recv() => came.map(|()| *a),
            came = two.recv() => came.map(|()| *b),
            came = three.recv() => came.map(|()| *c),
        }
    }
}

#[cfg(not(unix))]
fn next_signal() -> Result<StopSignals, Error> {
    Ok(StopSignals {})
}

#[cfg(not(unix))]
impl StopSignals {
    async fn recv(&mut self) -> Option<ExitCode> {
        tokio::signal::ctrl_c().await.ok().map(|()| ExitCode::Interrupted)
    }
}
