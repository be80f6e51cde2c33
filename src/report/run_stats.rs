//! The counts of one run, in its summary.

use std::fmt;
use std::time::Duration;

use indicatif::{HumanCount, HumanFloatCount};
use serde::Serialize;

use crate::report::totals::Count;

#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct RunStats {
    pub requests: u64,
    /// Responses that are pages.
    pub pages: u64,
    /// Attempts that were followed by another one.
    pub retries: u64,
    pub throttled: u64,
    /// Pages requested ahead that are behind the end of a list or repeat others, and lost ones that may have been billed.
    pub wasted: u64,
    /// Credits spent on pages behind the ends of lists, to see whether they are ends, or whether the API serves.
    pub evidence: u64,
    /// From the first request to the last response, seconds.
    pub seconds: f64,
    /// Requests a second. The summary sets it.
    pub rate: f64,
    /// The rate limit that the user set; none without a number. The summary sets it.
    pub allowed: Option<f64>,
    /// The time of a response, smoothed; zero before the first.
    #[serde(skip)]
    pub latency: Duration,
    /// The rate limit that 429s have shown, requests a second.
    pub found: Option<f64>,
}

impl RunStats {
    /// Of this part of a run and the next one.
    #[must_use]
    pub(crate) fn and(self, next: Self) -> Self {
        Self {
            requests: self.requests + next.requests,
            pages: self.pages + next.pages,
            retries: self.retries + next.retries,
            throttled: self.throttled + next.throttled,
            wasted: self.wasted + next.wasted,
            evidence: self.evidence + next.evidence,
            seconds: self.seconds + next.seconds,
            found: next.found.or(self.found),
            ..next
        }
    }

    /// With the rates, and rounded to thousandths.
    pub(super) fn completed(self, allowed: Option<f64>) -> Self {
        let requests = u32::try_from(self.requests).map_or(f64::INFINITY, f64::from);
        let rate = if self.seconds > 0.0 { requests / self.seconds } else { 0.0 };
        let round = |number: f64| (number * 1_000.0).round() / 1_000.0;
        Self { seconds: round(self.seconds), rate: round(rate), allowed, found: self.found.map(round), ..self }
    }
}

impl fmt::Display for RunStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.requests == 0 {
            return Ok(());
        }
        write!(f, "\n  this run  {} in {:.1} s", Count(self.requests, "request"), HumanFloatCount(self.seconds))?;
        // In less than two seconds most of the time is the first burst and the last response.
        if self.seconds >= 2.0 {
            write!(f, ", {:.1} a second", HumanFloatCount(self.rate))?;
            if let Some(allowed) = self.allowed {
                write!(f, " of {:.*} allowed", usize::from(allowed.fract() > 0.0), HumanFloatCount(allowed))?;
            }
            if let Some(found) = self.found {
                write!(f, "; the server allows about {:.1}", HumanFloatCount(found))?;
            }
        }
        if self.retries > 0 {
            write!(f, "\n  retries   {}", HumanCount(self.retries))?;
        }
        if self.throttled > 0 {
            write!(f, ", {} of them after a 429", HumanCount(self.throttled))?;
        }
        if self.wasted > 0 {
            write!(f, "\n  ahead     {} on pages behind the end of a list", Count(self.wasted, "credit"))?;
        }
        if self.evidence > 0 {
            write!(f, "\n  evidence  {} to see whether lists had ended or moved", Count(self.evidence, "credit"))?;
        }
        Ok(())
    }
}
