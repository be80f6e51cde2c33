//! What the export was expected to cost before its first run, beside what it cost.

use std::fmt;

use indicatif::HumanCount;
use serde::Serialize;

use crate::plan::range::Range;
use crate::plan::{KeptPlan, Source};
use crate::state::ledger::{Ledger, LedgerError};

/// Credits that were expected of the whole export, and those that were billed so far.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct PlanOutcome {
    pub source: Source,
    pub estimate: u64,
    pub low: u64,
    pub high: u64,
    pub actual: u64,
    /// The products that it was of.
    pub products: u64,
    /// Whether products were added since.
    #[serde(skip)]
    has_more: bool,
}

impl PlanOutcome {
    /// None if no plan was kept.
    pub(super) fn from_ledger(ledger: &Ledger, billed: u64) -> Result<Option<Self>, LedgerError> {
        let kept = ledger.kept_plan()?.and_then(|text| serde_json::from_str::<KeptPlan>(&text).ok());
        let items = if kept.is_some() { ledger.totals()?.items } else { 0 };
        Ok(kept.map(|KeptPlan { source, credits: Range { estimate, low, high }, lists }| Self {
            source,
            estimate,
            low,
            high,
            actual: billed,
            products: lists,
            has_more: items > lists,
        }))
    }

    /// Whether it says something: where nothing was known, it was an assumption.
    pub(super) fn is_founded(&self) -> bool {
        self.source != Source::Assumption
    }
}

impl fmt::Display for PlanOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, estimate, low, high, .. } = *self;
        write!(f, "{} credits were expected, {}", Range { estimate, low, high }, source.text())?;
        if self.has_more {
            write!(f, ", for the first {} products alone", HumanCount(self.products))?;
        }
        Ok(())
    }
}
