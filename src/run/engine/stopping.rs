//! How a run stops: unsent requests are recalled, and requests in flight are waited for, because they are paid for.
//!
//! After a signal the wait is `drain_timeout`, after any other reason `request_timeout`.

use tokio::sync::watch;

use super::Engine;
use crate::error::ExitCode;
use crate::fetch::dispatcher::DispatchMode;
use crate::model::clock;
use crate::model::event::Event;
use crate::run::stop::Stop;

impl Engine<'_> {
    /// Stops the run for a reason, if there is one. The first reason stays.
    pub(super) fn stop_for(&mut self, reason: impl Into<Option<Stop>>) {
        if self.stop.is_none() {
            self.stop = reason.into();
        }
    }

    /// Stops the run when its time is over. What it waits for then is only what was sent before.
    pub(super) fn stop_if_time_is_over(&mut self) {
        if let Some(limit) = self.context.time_limit.as_ref().filter(|limit| limit.at <= clock::now()) {
            self.stop_for(Stop::Time(limit.cause()));
        }
    }

    /// Stops a survey that has no page left, though its lists are not read to the end.
    pub(super) fn stop_if_surveyed(&mut self, is_applied: bool) {
        let is_over = self.context.survey.is_some() && is_applied && self.is_idle() && self.backlog.is_empty();
        let has_page = self.frontier.has_survey_page() || self.frontier.has_delayed() || self.frontier.has_check();
        if is_over && !has_page && self.group.is_empty() {
            self.stop_for(Stop::Surveyed);
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
            let (cause, in_flight) = (stop.to_string(), self.frontier.requests_in_flight());
            let event = match stop {
                Stop::Credits if self.context.survey.is_some() => Event::Probed("its credits are spent"),
                Stop::Surveyed => Event::Probed(&cause),
                Stop::Credits
                | Stop::Signal(_)
                | Stop::Cause(..)
                | Stop::Temporary(_)
                | Stop::Same(_)
                | Stop::NoPage(..)
                | Stop::Time(_)
                | Stop::Evidence { .. }
                | Stop::EmptyLists { .. }
                | Stop::Room(_) => Event::Stopping { cause: &cause, in_flight },
            };
            self.context.events.event(&event);
        }
        mode.send_replace(task);
    }
}
