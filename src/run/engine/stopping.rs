//! How a run stops: unsent requests are recalled, and requests in flight are waited for, because they are paid for.
//!
//! After a signal the wait is `drain_timeout`, after any other reason `request_timeout`.

use tokio::sync::watch;

use super::Engine;
use crate::error::ExitCode;
use crate::fetch::dispatcher::DispatchMode;
use crate::model::event::Event;
use crate::run::stop::Stop;

impl Engine<'_> {
    /// Stops the run for a reason, if there is one. The first reason stays.
    pub(super) fn stop_for(&mut self, reason: impl Into<Option<Stop>>) {
        if self.stop.is_none() {
            self.stop = reason.into();
        }
    }

    /// Takes a signal: it stops the run, or shortens the wait of one that is stopping. The first reason stays the reason.
    pub(super) fn signalled(&mut self, code: ExitCode) {
        self.has_signal = true;
        if let Some(stop) = &self.stop {
            let cause = format!("{stop}; {}", Stop::Signal(code));
            self.context
                .events
                .event(&Event::Stopping { cause: &cause, in_flight: self.frontier.requests_in_flight() });
        }
        self.stop_for(Stop::Signal(code));
    }

    /// Recalls unsent requests, and decides nothing by older ones that are in flight.
    pub(super) fn start_draining(&mut self) {
        self.draining = Some(self.newest_attempt);
    }

    pub(super) fn set_dispatch_mode(&mut self, mode: &watch::Sender<DispatchMode>) {
        self.draining = self.draining.filter(|_| {
            self.frontier.requests_in_flight() > 0 && (self.api_health.is_down() || self.refusals.inquiry.is_some())
        });
        let task = match (&self.stop, self.draining) {
            (Some(_), _) if self.has_signal => DispatchMode::Halt,
            (Some(_), _) => DispatchMode::Finish,
            (None, Some(last)) => DispatchMode::Recall(last),
            (None, None) => DispatchMode::Send,
        };
        let current = *mode.borrow();
        if current == task {
            return;
        }
        if let Some(stop) = self.stop.as_ref().filter(|_| current != DispatchMode::Finish) {
            self.context
                .events
                .event(&Event::Stopping { cause: &stop.to_string(), in_flight: self.frontier.requests_in_flight() });
        }
        mode.send_replace(task);
    }
}
