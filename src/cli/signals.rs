//! The signals that stop a run: the first one cleanly, the second one at once.
//!
//! GNU `timeout` and some supervisors send a signal to the process and then to its group. What arrives twice like this is one signal.

use std::io;
use std::time::Duration;

#[cfg(unix)]
use tokio::signal::unix::{self, Signal, SignalKind};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::error::{Error, ExitCode};
use crate::model::clock;

/// Time in which the same signal is the same request to stop: longer than one takes through a group, shorter than a person takes.
const ECHO: Duration = Duration::from_millis(100);

/// The number of signals so far, and the exit code for the last one.
pub(crate) type Signals = watch::Receiver<(u32, ExitCode)>;

/// Listens for SIGINT and SIGTERM; SIGHUP counts as SIGTERM, unless the process started with it ignored (`nohup`).
pub(crate) fn listen_for_signals() -> Result<Signals, Error> {
    let (sender, signals) = watch::channel((0, ExitCode::Complete));
    let mut next = StopSignals::listen().map_err(|source| Error::System("listen for signals", source))?;
    let listening = async move {
        let mut newest = None;
        while let Some(code) = next.recv().await {
            let now = clock::now();
            if !is_echo(newest, (code, now)) {
                newest = Some((code, now));
                sender.send_modify(|(count, last)| (*count, *last) = (*count + 1, code));
            }
        }
    };
    #[expect(clippy::disallowed_methods, reason = "it lives as long as the process and owns nothing")]
    drop(tokio::spawn(listening));
    Ok(signals)
}

/// Whether a signal is the last one that counted, sent twice.
fn is_echo(last: Option<(ExitCode, Instant)>, (code, at): (ExitCode, Instant)) -> bool {
    last.is_some_and(|(last, since)| last == code && at.duration_since(since) < ECHO)
}

/// Waits for the `count`th signal.
pub(crate) async fn signal(mut signals: Signals, count: u32) -> ExitCode {
    let code = signals.wait_for(|(number, _)| *number >= count).await.map(|last| last.1);
    match code {
        Ok(code) => code,
        Err(_) => std::future::pending().await,
    }
}

/// Waits for the next signal that stops a run.
#[cfg(unix)]
struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    is_hangup_ignored: bool,
}

#[cfg(unix)]
impl StopSignals {
    fn listen() -> io::Result<Self> {
        let hangup = SignalKind::hangup();
        let is_hangup_ignored = ignored() >> (hangup.as_raw_value() - 1) & 1 == 1;
        // A script's shell starts a command before `&` with SIGINT ignored. A SIGINT sent to it is meant all the same.
        let (interrupt, terminate) = (unix::signal(SignalKind::interrupt())?, unix::signal(SignalKind::terminate())?);
        Ok(Self { interrupt, terminate, hangup: unix::signal(hangup)?, is_hangup_ignored })
    }

    async fn recv(&mut self) -> Option<ExitCode> {
        tokio::select! {
            signal = self.interrupt.recv() => signal.map(|()| ExitCode::Interrupted),
            signal = self.terminate.recv() => signal.map(|()| ExitCode::Terminated),
            signal = self.hangup.recv(), if !self.is_hangup_ignored => signal.map(|()| ExitCode::Terminated),
        }
    }
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

#[cfg(not(unix))]
struct StopSignals;

#[cfg(not(unix))]
impl StopSignals {
    #[expect(clippy::unnecessary_wraps, reason = "as on Unix")]
    fn listen() -> io::Result<Self> {
        Ok(Self)
    }

    async fn recv(&mut self) -> Option<ExitCode> {
        tokio::signal::ctrl_c().await.ok().map(|()| ExitCode::Interrupted)
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::time::Duration;

    use super::{ignored_in, is_echo};
    use crate::error::ExitCode::{Interrupted, Terminated};
    use crate::model::clock;

    #[test]
    fn the_same_signal_within_a_tenth_of_a_second_is_the_same_request_and_another_signal_or_a_later_one_is_not() {
        let now = clock::now();
        let after = |milliseconds| now + Duration::from_millis(milliseconds);
        let first = Some((Terminated, now));
        assert!(is_echo(first, (Terminated, now)) && is_echo(first, (Terminated, after(99))));
        assert!(!is_echo(first, (Terminated, after(100))) && !is_echo(first, (Interrupted, after(1))));
        assert!(!is_echo(None, (Interrupted, now)));
    }

    #[test]
    fn what_the_system_says_of_ignored_signals_is_read_and_nonsense_ignores_none() {
        let status = "Name:\tpagehaul\nSigBlk:\tffffffffffffffff\nSigIgn:\t0000000000001003\nSigCgt:\t0\n";
        assert_eq!(ignored_in(status), 0x1003);
        assert_eq!([ignored_in(""), ignored_in("SigIgn:\tmany\n")], [0, 0]);
    }
}
