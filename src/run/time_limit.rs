//! When a run ends whatever is left to do: `max_duration` or `deadline`, whichever comes first.

use std::fmt;

use tokio::time::Instant;

use crate::model::clock::{self, Utc64};
use crate::settings::{Settings, table};

#[derive(Clone, Debug)]
pub struct TimeLimit {
    pub at: Instant,
    /// The same on the wall clock, as far as it is known at the start of the run.
    shown: Utc64,
    setting: &'static str,
}

impl TimeLimit {
    /// Counts from now on.
    pub fn from_settings(settings: &Settings) -> Option<Self> {
        let wall = clock::wall();
        let duration = settings.max_duration.and_then(|time| {
            let micros = i64::try_from(time.as_micros()).ok()?;
            let shown = Utc64(wall.0.saturating_add(micros));
            Some(Self { at: clock::now().checked_add(time)?, shown, setting: table::MAX_DURATION.info.key })
        });
        let deadline = settings
            .deadline
            .and_then(|shown| Some(Self { at: clock::at(shown)?, shown, setting: table::DEADLINE.info.key }));
        duration.into_iter().chain(deadline).min_by_key(|limit| limit.at)
    }

    /// Completes when the time is over, with the cause that the run ends for. Never without a limit.
    pub(crate) async fn reached(limit: Option<&Self>) -> String {
        let Some(limit) = limit else { return std::future::pending().await };
        tokio::time::sleep_until(limit.at).await;
        limit.cause()
    }

    pub(crate) fn cause(&self) -> String {
        format!("{} is reached: it was {}", self.setting, self.shown)
    }
}

impl fmt::Display for TimeLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.shown, self.setting)
    }
}
