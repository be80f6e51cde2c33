//! The signals that stop a run: the first one cleanly, the second one at once.

#[cfg(unix)]
use std::task::{Context, Poll};

use tokio::sync::watch;

use crate::error::{Error, ExitCode};

/// The number of signals so far, and the exit code for the last one.
pub(crate) type Signals = watch::Receiver<(u32, ExitCode)>;

/// Listens for SIGINT and SIGTERM; SIGHUP counts as SIGTERM, unless the process started with it ignored (`nohup`).
pub(crate) fn listen_for_signals() -> Result<Signals, Error> {
    let (sender, signals) = watch::channel((0, ExitCode::Complete));
    let mut next = next_signal()?;
    let listening = async move {
        while let Some(code) = next.recv().await {
            sender.send_modify(|(count, last)| (*count, *last) = (*count + 1, code));
        }
    };
    #[expect(clippy::disallowed_methods, reason = "it lives as long as the process and owns nothing")]
    drop(tokio::spawn(listening));
    Ok(signals)
}

/// Waits for the `count`th signal.
pub(crate) async fn signal(mut signals: Signals, count: u32) -> ExitCode {
    let code = signals.wait_for(|(number, _)| *number >= count).await.map(|last| last.1);
    match code {
        Ok(code) => code,
        Err(_) => std::future::pending().await,
    }
}

struct StopSignals {
    #[cfg(unix)]
    all: Vec<(tokio::signal::unix::Signal, ExitCode)>,
}

#[cfg(unix)]
fn next_signal() -> Result<StopSignals, Error> {
    use tokio::signal::unix::{SignalKind, signal};
    let on = |(kind, code)| match signal(kind) {
        Ok(signal) => Ok((signal, code)),
        Err(source) => Err(Error::System("listen for signals", source)),
    };
    let hangup = SignalKind::hangup();
    // A script's shell starts a command before `&` with SIGINT ignored. A SIGINT sent to it is meant all the same.
    let always = [(SignalKind::interrupt(), ExitCode::Interrupted), (SignalKind::terminate(), ExitCode::Terminated)];
    let unless_ignored =
        Some((hangup, ExitCode::Terminated)).filter(|_| ignored() >> (hangup.as_raw_value() - 1) & 1 == 0);
    Ok(StopSignals { all: always.into_iter().chain(unless_ignored).map(on).collect::<Result<_, _>>()? })
}

/// The signals that this process ignores, one bit each; zero if unknown.
#[cfg(unix)]
fn ignored() -> u64 {
    ignored_in(&std::fs::read_to_string("/proc/self/status").unwrap_or_default())
}

#[cfg(unix)]
fn ignored_in(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
}

#[cfg(unix)]
impl StopSignals {
    async fn recv(&mut self) -> Option<ExitCode> {
        let came = |context: &mut Context<'_>| {
            let mut all = self.all.iter_mut();
            match all.find_map(|(signal, code)| signal.poll_recv(context).is_ready().then_some(*code)) {
                Some(code) => Poll::Ready(Some(code)),
                None => Poll::Pending,
            }
        };
        std::future::poll_fn(came).await
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

#[cfg(all(test, unix))]
mod tests {
    use super::ignored_in;

    #[test]
    fn what_the_system_says_of_ignored_signals_is_read_and_nonsense_ignores_none() {
        let status = "Name:\tpagehaul\nSigBlk:\tffffffffffffffff\nSigIgn:\t0000000000001003\nSigCgt:\t0\n";
        assert_eq!(ignored_in(status), 0x1003);
        assert_eq!([ignored_in(""), ignored_in("SigIgn:\tmany\n")], [0, 0]);
    }
}
