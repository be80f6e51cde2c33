//! What the data plane tells the outside world while it works.
//!
//! Flow and conduct report [`Event`]s to a [`EventSink`]; only the face decides what a person sees of them.

use std::fmt::Debug;
use std::time::Duration;

use crate::model::page::{Charge, ItemId, PageNum, SegmentId, StopReason};

/// Something that happened, in the order in which it did.
#[derive(Debug)]
pub enum Event<'a> {
    /// The list was read.
    Registered {
        /// Ids in it.
        listed: u64,
        /// Items that the export did not know.
        new: u64,
        /// Ids that stood in it before.
        repeated: u64,
        /// Items that are walked again.
        reopened: usize,
        /// Items of earlier lists that are not in this one: they stay in the export.
        others: u64,
    },
    /// Lists were opened to be read once more, as was asked for.
    Repair {
        /// Lists that moved while they were read.
        moved: u64,
        /// Empty lists that are in doubt.
        empty: u64,
        /// Pages that they had, a credit each.
        pages: u64,
    },
    /// The ledger was read: what is there before the first request of this run.
    Opened(ProgressSnapshot),
    /// An attempt ended.
    Attempted {
        /// What it cost.
        charge: Charge,
        /// Whether the API answered 429.
        throttled: bool,
    },
    /// A page was read and its rows went to the segment.
    Read {
        /// Whether it is its walk's first.
        first: bool,
        /// Rows that will be published.
        kept: u64,
        /// Rows seen before in the same walk.
        duplicates: u64,
        /// Rows that could not be typed.
        rejected: u64,
    },
    /// A page will be asked for again.
    Retrying {
        /// The item whose page it is.
        id: &'a ItemId,
        /// The page.
        page: PageNum,
        /// How long it waits.
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
        /// What the API or the decoder said, sanitised; none for a regular end.
        error: Option<&'a str>,
    },
    /// A 429 made every walk wait.
    Held {
        /// For how long from now.
        wait: Duration,
        /// The rate allowed afterwards, requests a second.
        rate: f64,
    },
    /// The allowed rate has climbed back.
    Rate(f64),
    /// Something that may go wrong later, and what to do about it.
    Warning(&'a str),
    /// Nothing succeeds: from now on one request at a time, at growing intervals.
    Outage {
        /// What was said last, sanitised.
        cause: &'a str,
    },
    /// The outage is over.
    Recovered,
    /// A published segment's files are built again from its journal.
    Rebuilding {
        /// The segment.
        segment: SegmentId,
        /// The how manieth of those that are built again, from 1.
        nth: usize,
        /// How many are built again.
        of: usize,
        /// What is not as it should be.
        reason: &'a str,
    },
    /// Pages were read from the journal again.
    Reread(usize),
    /// A segment's files are published.
    Published {
        /// The segment.
        segment: SegmentId,
        /// Parquet files in it.
        files: u64,
        /// Rows in them.
        rows: u64,
        /// Bytes in them.
        bytes: u64,
    },
    /// No more requests are sent; what is under way is still kept.
    Stopping {
        /// Why, sanitised.
        cause: &'a str,
        /// Requests still under way, at most: those that wait for the quota will not be sent.
        in_flight: usize,
    },
}

/// Counts at one moment, over all runs of an export.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProgressSnapshot {
    /// Items of the export.
    pub items: u64,
    /// Items whose walk has ended, in whatever way.
    pub ended: u64,
    /// Items whose walk has begun, those that ended among them.
    pub begun: u64,
    /// Pages in the journal.
    pub pages: u64,
    /// Rows of those pages that are or will be published.
    pub rows: u64,
    /// Credits known to be billed or possibly billed.
    pub credits: u64,
}

/// Whoever wants to know.
pub trait EventSink: Debug + Send + Sync {
    /// Takes note of an event. Called on the hot path: it must not block.
    fn event(&self, event: &Event<'_>);
}

/// A monitor that nobody looks at.
#[derive(Clone, Copy, Debug, Default)]
pub struct NullSink;

impl EventSink for NullSink {
    fn event(&self, _event: &Event<'_>) {}
}
