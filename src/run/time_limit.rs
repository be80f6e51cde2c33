//! When a run ends whatever is left to do: `max_duration` or `deadline`, whichever comes first.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::Error;
use crate::model::clock::{self, Utc64};
use crate::settings::{Settings, table};

/// How long a run whose moment had passed may take to find out whether anything is left to do.
const LATE: Duration = Duration::from_secs(60);

#[derive(Clone, Debug)]
pub struct TimeLimit {
    pub at: Instant,
    /// The same on the wall clock, as far as it is known at the start of the run.
    shown: Utc64,
    /// Which setting it is from.
    pub setting: &'static str,
    /// Whether it had passed when the run started. Then nothing is requested.
    pub has_passed: bool,
}

impl TimeLimit {
    /// Counts from now on.
    pub fn from_settings(settings: &Settings) -> Option<Self> {
        let wall = clock::wall();
        let duration = settings.max_duration.and_then(|time| {
            let micros = i64::try_from(time.as_micros()).ok()?;
            let shown = Utc64(wall.0.saturating_add(micros));
            Some(Self {
                at: clock::now().checked_add(time)?,
                shown,
                setting: table::MAX_DURATION.info.key,
                has_passed: false,
            })
        });
        let deadline = settings.deadline.and_then(|shown| {
            let has_passed = shown <= wall;
            let at = if has_passed { clock::now().checked_add(LATE)? } else { clock::at(shown)? };
            Some(Self { at, shown, setting: table::DEADLINE.info.key, has_passed })
        });
        duration.into_iter().chain(deadline).min_by_key(|limit| (!limit.has_passed, limit.at))
    }

    /// Whole seconds from now on. 0: it has passed.
    pub(crate) fn seconds_left(&self) -> u64 {
        if self.has_passed { 0 } else { self.at.saturating_duration_since(clock::now()).as_secs() }
    }

    /// Completes when the time is over, with the cause that the run ends for. Never without a limit.
    pub(crate) async fn reached(limit: Option<&Self>) -> String {
        let Some(limit) = limit else { return std::future::pending().await };
        tokio::time::sleep_until(limit.at).await;
        limit.cause()
    }

    /// Fails if it had passed when the run started.
    pub(crate) fn refuse_late(limit: Option<&Self>) -> Result<(), Error> {
        limit.filter(|limit| limit.has_passed).map_or(Ok(()), |limit| Err(Error::Late(limit.cause())))
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
