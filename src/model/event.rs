//! Events of a run, for whoever shows or counts them.
//!
//! The engine and its parts send [`Event`]s to an [`EventSink`]. Only the sink decides what a user sees.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use crate::model::attempt::AttemptResult;
use crate::model::page::{Charge, ItemId, PageNum, SegmentId, StopReason};

/// Something that happened. Events arrive in order.
#[derive(Debug)]
pub enum Event<'a> {
    Registered {
        listed: u64,
        /// Items that are new to the export.
        new: u64,
        /// Ids that are in it more than once: all but the first.
        repeated: u64,
        reopened: usize,
        /// Items of earlier lists that are not in this one. They stay in the export.
        others: u64,
    },
    /// The export continues an earlier one.
    Continued {
        /// Which one, sanitised.
        since: &'a str,
        /// How many lists of it, and why not others.
        lists: &'a str,
    },
    /// Lists were reopened, as `--repair` requests.
    Repair {
        moved: u64,
        /// Empty lists that are in doubt.
        empty: u64,
        /// The pages they had: a credit each.
        pages: u64,
    },
    /// The ledger was read, before the first request of this run.
    Opened(ProgressSnapshot),
    /// The ledger was read once more, at the end: what all lists together show may have changed how single ones ended.
    Recounted(ProgressSnapshot),
    /// The engine has taken what came, and sends what is next.
    Ticked {
        /// Requests that are in flight or wait for the rate limit.
        in_flight: usize,
        /// Bytes of the journal that are not published.
        journal: u64,
    },
    /// An attempt ended. One that was not sent is none.
    Attempted {
        charge: Charge,
        result: AttemptResult,
        /// From the moment it was sent.
        latency: Duration,
    },
    /// A page was applied: its rows went to the segment.
    Read {
        /// Whether it is its walk's first.
        first: bool,
        /// Rows that will be published.
        kept: u64,
        /// Rows seen before in the same walk.
        duplicates: u64,
        rejected: u64,
    },
    Retrying {
        id: &'a ItemId,
        page: PageNum,
        after: Duration,
        /// Why the attempt failed, sanitised.
        cause: &'a str,
    },
    Ended {
        id: &'a ItemId,
        stop: StopReason,
        /// The error, sanitised; none for a regular end.
        error: Option<&'a str>,
    },
    /// So many complete lists are read on: they continue behind the page that seemed to be their last.
    Reopened(usize),
    /// A 429 makes all requests wait.
    Throttled {
        /// For how long from now.
        wait: Duration,
        /// Afterwards, requests per second.
        rate: f64,
    },
    /// The rate has risen, requests per second.
    Rate(f64),
    /// What this engine has spent on other things than rows, credits. It falls where a page turns out to have new ones.
    Overhead {
        /// On pages behind the ends of lists.
        evidence: u64,
        /// On pages requested ahead that no list has.
        ahead: u64,
    },
    /// A problem, and what to do about it.
    Warning(&'a str),
    /// No request succeeds: from now on there is one at a time, at growing intervals.
    Outage {
        /// The last error, sanitised.
        cause: &'a str,
    },
    Recovered,
    Rebuilding {
        segment: SegmentId,
        /// Its number among those to rebuild, from 1.
        nth: usize,
        of: usize,
        reason: &'a str,
    },
    /// This many more pages were read from the journal.
    Reread(usize),
    /// A segment's files are being published.
    Publishing(SegmentId),
    Published {
        segment: SegmentId,
        files: u64,
        rows: u64,
        bytes: u64,
    },
    /// What happened to a snapshot of the dataset, or to several.
    Snapshots(&'a str),
    /// A probe has ended as it should; why.
    Probed(&'a str),
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
    pub items: u64,
    /// Items whose walk has ended, for any reason.
    pub ended: u64,
    /// Of those, items that failed for good.
    pub failed: u64,
    /// Of those, items that are incomplete for another reason.
    pub cut: u64,
    /// Items whose walk has started, including those that ended.
    pub begun: u64,
    /// Pages that were requested and are in the journal.
    pub pages: u64,
    /// Rows of those pages that are or will be published.
    pub rows: u64,
    /// Credits known to be billed or possibly billed.
    pub credits: u64,
}

pub trait EventSink: Debug + Send + Sync {
    /// Called on the hot path: must not block.
    fn event(&self, event: &Event<'_>);
}

/// Passes each event on to several sinks, in this order.
#[derive(Debug)]
pub struct Sinks(pub Vec<Arc<dyn EventSink>>);

impl EventSink for Sinks {
    fn event(&self, event: &Event<'_>) {
        for sink in &self.0 {
            sink.event(event);
        }
    }
}

/// Ignores all events.
#[derive(Clone, Copy, Debug, Default)]
pub struct NullSink;

impl EventSink for NullSink {
    fn event(&self, _event: &Event<'_>) {}
}
