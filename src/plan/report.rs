//! The plan as it is printed, and as the ledger keeps it.

use std::fmt;
use std::time::Duration;

use bytesize::ByteSize;
use indicatif::HumanCount;
use serde::{Deserialize, Serialize};

use crate::model::exit_code::ExitCode;

use super::limits::{GivenLimit, Limited};
use super::lists::Lists;
use super::range::{Range, real};
use super::work::{Bound, Conditions, DiskPlan, Work};

/// What the number of pages comes from: the best of what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// Lists that were read: by a probe, or by the export itself.
    Pages,
    /// Sizes in the list of products, or of an earlier export.
    Sizes,
    /// Nothing is known.
    Assumption,
}

impl Source {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Pages => "from lists that were read",
            Self::Sizes => "from known sizes and earlier exports",
            Self::Assumption => "ASSUMED: 5 pages a list, a tenth to ten times of it; --probe N reads a sample",
        }
    }
}

/// Lists by what is known of them.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ListCounts {
    pub total: u64,
    /// Some of their pages came.
    pub read: u64,
    /// Their size is known.
    pub sized: u64,
    /// They continue an earlier export.
    pub continued: u64,
    pub unknown: u64,
}

/// A probe that was made.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Probed {
    /// Pages that it may have cost at most, with those that were there before.
    pub allowed: u64,
    /// Credits that it cost now.
    pub credits: u64,
}

/// What an export will cost. Ranges have the outcome in nine of ten cases.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    pub status: &'static str,
    pub exit_code: u8,
    pub source: Source,
    pub lists: ListCounts,
    /// Credits that were spent already: billed or in doubt.
    pub spent: u64,
    /// Pages that are left.
    pub pages: Range,
    /// Credits that are left.
    pub credits: Range,
    /// Those and what was spent.
    pub credits_in_all: Range,
    pub seconds: Range,
    pub bound: Bound,
    /// False: no rate limit was given, so that the time does not count one.
    pub is_rate_known: bool,
    /// Rows of the largest page, if no page had as many as requested and many lists ended on one as large: those may continue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub doubted_page_size: Option<u32>,
    /// Whether the time of a response was measured.
    pub is_latency_measured: bool,
    /// Limits that were given, if anything is left to do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<GivenLimit>,
    /// Bytes of the whole export.
    pub disk: DiskPlan,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probe: Option<Probed>,
}

/// What of a plan the ledger keeps, to be compared with the outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptPlan {
    pub source: Source,
    /// Credits of the whole export.
    pub credits: Range,
    /// The lists that it had then.
    #[serde(default)]
    pub lists: u64,
}

impl Plan {
    /// The same lists and conditions give the same plan.
    pub fn new(lists: &Lists, conditions: &Conditions, (spent, seed): (u64, u64)) -> Self {
        let work = Work::new(&lists.cases(seed), conditions, seed);
        let count = |lists: &mut dyn Iterator<Item = &u64>| lists.sum::<u64>();
        let (read, sized) = (count(&mut lists.read.values()), count(&mut lists.sized.values()));
        let source = if lists.unknown + lists.open() > 0 && !lists.has_sample() {
            Source::Assumption
        } else if lists.unknown > 0 && lists.has_read_sample() || read > 0 && sized + lists.continued == 0 {
            Source::Pages
        } else {
            Source::Sizes
        };
        let total = read + sized + lists.continued + lists.unknown;
        Self {
            status: ExitCode::Complete.as_str(),
            exit_code: ExitCode::Complete.number(),
            source,
            lists: ListCounts { total, read, sized, continued: lists.continued, unknown: lists.unknown },
            spent,
            pages: work.pages,
            credits: work.credits,
            credits_in_all: work.credits.plus(spent),
            seconds: work.seconds,
            bound: work.bound,
            is_rate_known: conditions.rate.is_some() || conditions.is_rate_chosen,
            doubted_page_size: lists.doubted_page_size,
            is_latency_measured: conditions.latency.is_some(),
            limits: Vec::new(),
            disk: work.disk,
            probe: None,
        }
    }

    /// Beside limits of the export: its credits over all runs, and seconds from now on, each with the setting's name.
    #[must_use]
    pub fn limited_by(mut self, credits: Option<(&'static str, u64)>, seconds: Option<(&'static str, u64)>) -> Self {
        if self.credits.high == 0 {
            return self;
        }
        let credits = credits.map(|(name, most)| GivenLimit::new((name, Limited::Credits, most), self.credits_in_all));
        let seconds = seconds.map(|(name, most)| GivenLimit::new((name, Limited::Seconds, most), self.seconds));
        let seconds = seconds.map(|limit| if self.is_rate_known { limit } else { limit.without_rate() });
        self.limits = credits.into_iter().chain(seconds).collect();
        self
    }

    pub fn kept(&self) -> KeptPlan {
        KeptPlan { source: self.source, credits: self.credits_in_all, lists: self.lists.total }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ListCounts { total, read, sized, continued, unknown } = self.lists;
        write!(f, "plan: estimates, and the range of nine cases in ten")?;
        write!(f, "\n  products  {}", HumanCount(total))?;
        for (lists, what) in
            [(read, "read or begun"), (sized, "of known size"), (continued, "continued"), (unknown, "unknown")]
        {
            if lists > 0 {
                write!(f, ", {} {what}", HumanCount(lists))?;
            }
        }
        if let Some(probe) = self.probe {
            write!(
                f,
                "\n  probe     {} credits now, {} allowed in all",
                HumanCount(probe.credits),
                HumanCount(probe.allowed)
            )?;
        }
        if self.spent > 0 {
            write!(f, "\n  spent     {} credits", HumanCount(self.spent))?;
        }
        write!(f, "\n  pages     {}, {}", self.pages, self.source.text())?;
        if let Some(rows) = self.doubted_page_size {
            write!(
                f,
                "\n            ENDS ARE NOT PROVEN: no page had page_size rows, and many lists end on {rows}: the API may return no more a page"
            )?;
        }
        if self.lists.read > 0 && self.probe.is_none() && self.pages.high > 0 {
            write!(f, "\n            once the export itself has begun, ranges are not calibrated and mostly too high")?;
        }
        write!(f, "\n  credits   {}", self.credits)?;
        if self.spent > 0 {
            write!(f, ", in all {}", self.credits_in_all)?;
        }
        self.write_time(f)?;
        for (place, limit) in self.limits.iter().enumerate() {
            write!(f, "\n  {:9} {limit}", if place == 0 { "limits" } else { "" })?;
        }
        write!(f, "\n  disk      {} of Parquet files", Bytes(self.disk.parquet))?;
        write!(f, "\n            {} of journal", Bytes(self.disk.journal))?;
        write!(f, "\n            {} in all, at most at a time", Bytes(self.disk.peak))
    }
}

impl Plan {
    fn write_time(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n  time      {}", Spans(self.seconds))?;
        if self.credits.high == 0 {
            return Ok(()); // nothing is left that anything could bound
        }
        write!(f, ", bound by {}", self.bound.text())?;
        if !self.is_latency_measured && self.bound != Bound::Rate {
            write!(f, " (ASSUMED: 0.3 s a response)")?;
        }
        if !self.is_rate_known {
            write!(f, "\n            NO RATE LIMIT WAS GIVEN: the time does not count one; give --qps")?;
        }
        Ok(())
    }
}

struct Bytes(Range);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Range { estimate, low, high } = self.0;
        write!(f, "{} ({} to {})", ByteSize(estimate), ByteSize(low), ByteSize(high))
    }
}

/// Times in seconds.
struct Spans(Range);

impl fmt::Display for Spans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let span = |seconds: u64| humantime::format_duration(Duration::from_secs(rounded(seconds))).to_string();
        let Range { estimate, low, high } = self.0;
        write!(f, "{} ({} to {})", span(estimate), span(low), span(high))
    }
}

/// Seconds without the small ones of a long time.
fn rounded(seconds: u64) -> u64 {
    let unit = match seconds {
        0..600 => 1,
        600..36_000 => 60,
        _ => 3_600,
    };
    super::range::whole(real(seconds) / real(unit)) * unit
}
