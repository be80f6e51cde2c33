//! How a run stops: what has not left is recalled, and what is in flight is waited for, because it is paid for.
//!
//! A signal wants a quick end and waits for `drain_timeout`; every other reason waits for whole answers, up to `request_timeout`.

use tokio::sync::watch;

use super::Engine;
use crate::error::ExitCode;
use crate::fetch::dispatcher::DispatchMode;
use crate::model::event::Event;
use crate::run::stop::Stop;

impl Engine<'_> {
    /// A signal came. It stops the run, or shortens the wait of one that stops already; the first reason stays the reason.
    pub(super) fn signalled(&mut self, code: ExitCode) {
        self.has_signal = true;
        if let Some(stop) = &self.stop {
            let cause = format!("{stop}; {}", Stop::Signal(code));
            self.context.events.event(&Event::Stopping { cause: &cause, in_flight: self.in_flight });
        }
        self.stop.get_or_insert(Stop::Signal(code));
    }

    /// Tells the dispatcher what to do, if it does not know.
    pub(super) fn set_dispatch_mode(&mut self, mode: &watch::Sender<DispatchMode>) {
        self.draining =
            self.draining.filter(|_| self.in_flight > 0 && (self.outages.is_down() || self.question.is_some()));
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
            self.context.events.event(&Event::Stopping { cause: &stop.to_string(), in_flight: self.in_flight });
        }
        mode.send_replace(task);
    }
}
