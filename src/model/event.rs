//! Events of a run, for whoever shows or counts them.
//!
//! The engine and its parts send [`Event`]s to an [`EventSink`]. Only the sink decides what a user sees.

use std::fmt::Debug;
use std::time::Duration;

use crate::model::page::{Charge, ItemId, PageNum, SegmentId, StopReason};

/// Something that happened. Events arrive in order.
#[derive(Debug)]
pub enum Event<'a> {
    /// The list was read.
    Registered {
        /// Ids in it.
        listed: u64,
        /// Items that are new to the export.
        new: u64,
        /// Ids that are in it more than once: all but the first.
        repeated: u64,
        /// Items to walk again.
        reopened: usize,
        /// Items of earlier lists that are not in this one. They stay in the export.
        others: u64,
    },
    /// Lists were reopened, as `--repair` requests.
    Repair {
        /// Lists that moved while they were read.
        moved: u64,
        /// Empty lists that are in doubt.
        empty: u64,
        /// The pages they had: a credit each.
        pages: u64,
    },
    /// The ledger was read, before the first request of this run.
    Opened(ProgressSnapshot),
    /// An attempt ended.
    Attempted {
        /// What it cost.
        charge: Charge,
        /// Whether the status was 429.
        throttled: bool,
    },
    /// A page was applied: its rows went to the segment.
    Read {
        /// Whether it is its walk's first.
        first: bool,
        /// Rows that will be published.
        kept: u64,
        /// Rows seen before in the same walk.
        duplicates: u64,
        /// Rows that cannot be decoded.
        rejected: u64,
    },
    /// A page will be requested again.
    Retrying {
        /// The item.
        id: &'a ItemId,
        /// The page.
        page: PageNum,
        /// The delay.
        after: Duration,
        /// Why the attempt failed, sanitised.
        cause: &'a str,
    },
    /// A walk ended.
    Ended {
        /// The item.
        id: &'a ItemId,
        /// Why.
        stop: StopReason,
        /// The error, sanitised; none for a regular end.
        error: Option<&'a str>,
    },
    /// A 429 makes all requests wait.
    Throttled {
        /// For how long from now.
        wait: Duration,
        /// The rate after that, requests per second.
        rate: f64,
    },
    /// The rate has risen, requests per second.
    Rate(f64),
    /// A problem, and what to do about it.
    Warning(&'a str),
    /// No request succeeds: from now on there is one at a time, at growing intervals.
    Outage {
        /// The last error, sanitised.
        cause: &'a str,
    },
    /// The outage is over.
    Recovered,
    /// A published segment is rebuilt from its journal.
    Rebuilding {
        /// The segment.
        segment: SegmentId,
        /// Its number among those to rebuild, from 1.
        nth: usize,
        /// The number of segments to rebuild.
        of: usize,
        /// Why.
        reason: &'a str,
    },
    /// This many more pages were read from the journal.
    Reread(usize),
    /// A segment's files are published.
    Published {
        /// The segment.
        segment: SegmentId,
        /// Its Parquet files.
        files: u64,
        /// Their rows.
        rows: u64,
        /// Their bytes.
        bytes: u64,
    },
    /// No more requests are sent. Responses in flight are still kept.
    Stopping {
        /// Why, sanitised.
        cause: &'a str,
        /// Upper bound of the requests in flight: those that wait for the rate limit are not sent.
        in_flight: usize,
    },
}

/// Counts over all runs of an export, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProgressSnapshot {
    /// Items of the export.
    pub items: u64,
    /// Items whose walk has ended, for any reason.
    pub ended: u64,
    /// Items whose walk has begun, including those that ended.
    pub begun: u64,
    /// Pages in the journal.
    pub pages: u64,
    /// Rows of those pages that are or will be published.
    pub rows: u64,
    /// Credits known to be billed or possibly billed.
    pub credits: u64,
}

/// A receiver of events.
pub trait EventSink: Debug + Send + Sync {
    /// Called on the hot path: must not block.
    fn event(&self, event: &Event<'_>);
}

/// Ignores all events.
#[derive(Clone, Copy, Debug, Default)]
pub struct NullSink;

impl EventSink for NullSink {
    fn event(&self, _event: &Event<'_>) {}
}
