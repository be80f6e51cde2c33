//! Where the responses of a whole export differ from the endpoint's description: what is counted, and what deserves a warning.
//!
//! Nothing is lost where they differ: values that do not fit and new fields are in `_extra`. But a column that turned into
//! nulls looks like data, so the user must know.

use std::collections::BTreeMap;
use std::fmt;

use indicatif::HumanCount;
use serde::Serialize;

use crate::endpoint::{Endpoint, Role};
use crate::model::sanitize::Sanitized;
use crate::state::ledger::{Ledger, LedgerError};

/// One row in this many may differ before it deserves a warning.
const TOLERATED: u64 = 100;
/// Names of each kind that the text lists.
const LISTED: usize = 5;

/// How the responses of an export differ from the endpoint's description.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ExportDrift {
    /// Values that did not fit their column, by column.
    pub misfits: BTreeMap<String, u64>,
    /// How often each field came that no column describes.
    pub new_fields: BTreeMap<String, u64>,
    /// Such fields beyond the names that are counted one by one.
    #[serde(skip_serializing_if = "is_zero")]
    pub other_new_fields: u64,
    /// Described columns whose field never came in any row.
    pub never_came: Vec<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl ExportDrift {
    /// Compares what the ledger counted with this description.
    pub fn from_ledger(ledger: &Ledger, endpoint: &Endpoint) -> Result<Self, LedgerError> {
        let counted = ledger.drift()?;
        let never = |name: &&String| !counted.seen.contains(*name);
        let names = endpoint.columns.iter().map(|column| &column.name);
        Ok(Self {
            // Without a row nothing could come.
            never_came: if ledger.totals()?.received > 0 { names.filter(never).cloned().collect() } else { Vec::new() },
            misfits: counted.misfits.into_iter().collect(),
            new_fields: counted.unknown.into_iter().collect(),
            other_new_fields: counted.others,
        })
    }

    /// The part that deserves a warning, if any: more than 1 % of the rows, or anything in an identity or partition column.
    pub fn serious(&self, rows: u64, endpoint: &Endpoint) -> Option<Self> {
        let is_much = |cells: u64| cells.saturating_mul(TOLERATED) > rows;
        let strict = endpoint.columns.iter().filter(|column| matches!(column.role, Role::Identity | Role::Partition));
        let mut serious = self.clone();
        serious.misfits.retain(|name, cells| is_much(*cells) || strict.clone().any(|column| column.name == *name));
        serious.new_fields.retain(|_, cells| is_much(*cells));
        serious.other_new_fields = Some(self.other_new_fields).filter(|cells| is_much(*cells)).unwrap_or_default();
        Some(serious).filter(|serious| !serious.is_empty())
    }

    /// Whether the responses are as described.
    pub fn is_empty(&self) -> bool {
        self.misfits.is_empty()
            && self.new_fields.is_empty()
            && self.other_new_fields == 0
            && self.never_came.is_empty()
    }
}

impl fmt::Display for ExportDrift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by_count = |counts: &BTreeMap<String, u64>| {
            let mut counts: Vec<(String, u64)> = counts.iter().map(|(name, cells)| (name.clone(), *cells)).collect();
            counts.sort_by_key(|(_, cells)| std::cmp::Reverse(*cells));
            counts.into_iter().map(|(name, cells)| format!("{} ({})", Sanitized(&name), HumanCount(cells))).collect()
        };
        let never: Vec<String> = self.never_came.iter().map(|name| Sanitized(name).to_string()).collect();
        let mut new: Vec<String> = by_count(&self.new_fields);
        if self.other_new_fields > 0 {
            new.push(format!("others ({})", HumanCount(self.other_new_fields)));
        }
        let kinds = [("values that did not fit", by_count(&self.misfits)), ("new fields", new), ("never came", never)];
        let shown = |(what, names): (&str, Vec<String>)| {
            let more = names.len().saturating_sub(LISTED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            format!("{what}: {}{more}", names.get(..LISTED).unwrap_or(&names).join(", "))
        };
        let kinds = kinds.into_iter().filter(|(_, names)| !names.is_empty()).map(shown);
        f.write_str(&kinds.collect::<Vec<_>>().join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::ExportDrift;
    use crate::endpoint::{BUILT_IN, Endpoint};

    fn counts(of: &[(&str, u64)]) -> std::collections::BTreeMap<String, u64> {
        of.iter().map(|(name, cells)| ((*name).to_owned(), *cells)).collect()
    }

    #[test]
    fn more_than_one_row_in_a_hundred_is_worth_a_warning_and_any_in_identity_and_partition() {
        let endpoint = Endpoint::parse(BUILT_IN).unwrap();
        let serious = |misfits: &[(&str, u64)], new: &[(&str, u64)], never: &[&str]| {
            let never_came = never.iter().map(|name| (*name).to_owned()).collect();
            let drift =
                ExportDrift { misfits: counts(misfits), new_fields: counts(new), never_came, ..ExportDrift::default() };
            drift.serious(1_000, &endpoint).map(|drift| drift.to_string()).unwrap_or_default()
        };
        assert_eq!(serious(&[("duration", 10)], &[("new", 10)], &[]), "");
        assert_eq!(serious(&[("duration", 11)], &[("new", 1)], &[]), "values that did not fit: duration (11)");
        assert_eq!(
            serious(&[("height", 1), ("region", 1), ("video_id", 1)], &[], &[]),
            "values that did not fit: region (1), video_id (1)"
        );
        assert_eq!(serious(&[], &[("new", 1_000)], &["hash_tag"]), "new fields: new (1,000); never came: hash_tag");
    }

    #[test]
    fn a_person_is_shown_the_most_frequent_names_and_how_many_more_there_are() {
        let new: Vec<(String, u64)> = (0..9).map(|at| (format!("f\u{1b}{at}"), at)).collect();
        let drift =
            ExportDrift { new_fields: new.into_iter().collect(), other_new_fields: 7_000, ..ExportDrift::default() };
        assert_eq!(
            drift.to_string(),
            "new fields: f\u{fffd}8 (8), f\u{fffd}7 (7), f\u{fffd}6 (6), f\u{fffd}5 (5), f\u{fffd}4 (4) and 5 more"
        );
    }
}
