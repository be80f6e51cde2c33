//! The table `drift`: where rows differ from the endpoint's description, counted by segment, so that a rebuilt segment's
//! counts are replaced.

use std::collections::BTreeSet;

use rusqlite::{OptionalExtension, Transaction, params};

use super::{Ledger, LedgerError, signed, unsigned};
use crate::decode::{MOST_NAMES, PageDrift};
use crate::model::page::SegmentId;
use crate::model::sanitize::sanitize;

/// A field whose name is empty, as it is shown. In the table an empty name is that of the fields beyond the bound.
const UNNAMED: &str = "\"\"";

/// The drift of a whole export.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DriftCounts {
    /// Columns that some values did not fit, and how many.
    pub misfits: Vec<(String, u64)>,
    /// Fields without a column, sanitised, and how often each came, the most frequent first.
    pub unknown: Vec<(String, u64)>,
    /// How often other such fields came, beyond [`MOST_NAMES`].
    pub others: u64,
    /// Columns whose field came.
    pub seen: BTreeSet<String>,
}

/// Adds counts to those of the open segment, or replaces those of a segment whose pages were all applied again.
pub(super) fn write(
    transaction: &Transaction<'_>,
    drift: &PageDrift,
    again: Option<SegmentId>,
) -> rusqlite::Result<()> {
    if let Some(segment) = again {
        transaction.execute("DELETE FROM drift WHERE segment = ?1", [segment.0])?;
    } else if drift.seen().next().is_none() && drift.misfits().next().is_none() && drift.unknown().next().is_none() {
        return Ok(());
    }
    let open = "SELECT id FROM segments WHERE state = 'open'";
    let segment = match again {
        Some(segment) => Some(segment.0),
        None => transaction.prepare_cached(open)?.query_row([], |row| row.get(0)).optional()?,
    };
    let Some(segment) = segment else { return Ok(()) };
    // A column that arrived before changes nothing, so that most groups write no page of this table.
    let sql = "INSERT INTO drift (segment, kind, name, cells) VALUES (?1, ?2, ?3, ?4)
               ON CONFLICT DO UPDATE SET cells = cells + excluded.cells WHERE kind <> 'seen'";
    let mut add = transaction.prepare_cached(sql)?;
    let mut count = |kind: &str, name: &str, cells: u64| add.execute(params![segment, kind, name, signed(cells)]);
    for name in drift.seen() {
        count("seen", name, 1)?;
    }
    for (name, cells) in drift.misfits() {
        count("misfit", name, cells)?;
    }
    for (name, cells) in drift.unknown() {
        count("unknown", &kept_name(transaction, segment, name)?, cells)?;
    }
    Ok(())
}

/// The name under which an unknown field is counted: its own, unless a segment has as many as are kept.
fn kept_name(transaction: &Transaction<'_>, segment: i64, name: Option<&str>) -> rusqlite::Result<String> {
    let name = name.map_or_else(String::new, |name| if name.is_empty() { UNNAMED.to_owned() } else { sanitize(name) });
    let sql = "SELECT EXISTS (SELECT 1 FROM drift WHERE segment = ?1 AND kind = 'unknown' AND name = ?2)
                 OR (SELECT count(*) FROM drift WHERE segment = ?1 AND kind = 'unknown' AND name <> '') < ?3";
    let mut query = transaction.prepare_cached(sql)?;
    let is_kept: bool = query.query_row(params![segment, name, signed(MOST_NAMES)], |row| row.get(0))?;
    Ok(if is_kept { name } else { String::new() })
}

impl Ledger {
    /// The drift over all segments.
    pub(crate) fn drift(&self) -> Result<DriftCounts, LedgerError> {
        let sql = "SELECT kind, name, sum(cells) FROM drift GROUP BY kind, name ORDER BY kind, sum(cells) DESC, name";
        let rows =
            self.rows(sql, [], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, unsigned(row, 2)?)))?;
        let mut drift = DriftCounts::default();
        for (kind, name, cells) in rows {
            match (kind.as_str(), name.as_str()) {
                ("seen", _) => drift.seen.extend([name]),
                ("misfit", _) => drift.misfits.push((name, cells)),
                (_, "") => drift.others += cells,
                _ if drift.unknown.len() < MOST_NAMES => drift.unknown.push((name, cells)),
                _ => drift.others += cells,
            }
        }
        Ok(drift)
    }
}

#[cfg(test)]
mod tests {
    use crate::decode::{Decoder, MOST_NAMES, PageDrift, Response};
    use crate::endpoint::{BUILT_IN, Endpoint};
    use crate::model::clock::Utc64;
    use crate::model::page::{AttemptId, ItemId, ItemIx, PageNum, Request, SegmentId};
    use crate::state::ledger::fixture::ledger;
    use crate::state::ledger::{Group, Ledger};

    /// What a page of one row counts that has these fields beside its identity.
    fn counted(fields: &[String]) -> PageDrift {
        let fields = fields.iter().fold(String::new(), |text, name| text + &format!(",\"{name}\":1"));
        of_row(&format!(r#""video_id":"1","product_id":"17"{fields}"#))
    }

    /// What a page of one row counts.
    fn of_row(fields: &str) -> PageDrift {
        let body = format!(r#"{{"code":0,"data":[{{{fields}}}]}}"#);
        let request = Request { attempt: AttemptId(1), item: ItemIx(1), id: ItemId::new("17"), page: PageNum(1) };
        let response = Response { request, at: Utc64(1), body: body.into() };
        let decoder = Decoder::new(&Endpoint::parse(BUILT_IN).unwrap(), |_| true);
        decoder.decode(&[response]).unwrap().pages.remove(0).drift
    }

    fn commit(ledger: &mut Ledger, drift: PageDrift, reapplied: Option<SegmentId>) {
        ledger.commit(&Group { drift, reapplied, ..Group::default() }, Utc64(1)).unwrap();
    }

    #[test]
    fn counts_add_up_over_groups_and_segments_and_those_of_a_segment_that_is_applied_again_are_replaced() {
        let (_directory, mut ledger) = ledger::<&str>(&[]);
        let one = ledger.start_segment().unwrap().id;
        let new = || counted(&["new".to_owned(), String::new()]);
        commit(&mut ledger, new(), None);
        commit(&mut ledger, new(), None);
        ledger.decide_segment(one, "{}").unwrap();
        ledger.start_segment().unwrap();
        commit(&mut ledger, new(), None);
        let drift = ledger.drift().unwrap();
        assert_eq!(drift.unknown, [("\"\"".to_owned(), 3), ("new".to_owned(), 3)]);
        assert_eq!(drift.seen.iter().collect::<Vec<_>>(), ["product_id", "video_id"]);
        commit(&mut ledger, counted(&["region".to_owned()]), Some(one));
        let drift = ledger.drift().unwrap();
        assert_eq!(drift.unknown, [("\"\"".to_owned(), 1), ("new".to_owned(), 1)]);
        assert_eq!(drift.seen.len(), 3);
        assert_eq!(ledger.contradictions().unwrap(), []);
    }

    #[test]
    fn names_of_unknown_fields_stay_bounded_however_many_groups_bring_new_ones() {
        let (_directory, mut ledger) = ledger::<&str>(&[]);
        ledger.start_segment().unwrap();
        for group in 0..5 {
            let names: Vec<String> = (0..40).map(|at| format!("field_{group}_{at}")).collect();
            commit(&mut ledger, counted(&names), None);
        }
        let drift = ledger.drift().unwrap();
        assert_eq!((drift.unknown.len(), drift.others), (MOST_NAMES, 5 * 40 - u64::try_from(MOST_NAMES).unwrap()));
        let again: Vec<String> = (0..40).map(|at| format!("field_0_{at}")).collect();
        commit(&mut ledger, counted(&again), None);
        let drift = ledger.drift().unwrap();
        assert_eq!(drift.unknown.iter().filter(|(_, cells)| *cells == 2).count(), 40, "known names go on");
    }

    #[test]
    fn counts_have_these_words_in_the_ledger() {
        let (_directory, mut ledger) = ledger::<&str>(&[]);
        ledger.start_segment().unwrap();
        let fields = |from: usize, to: usize| (from..to).map(|at| format!("new_{at}")).collect::<Vec<_>>();
        commit(&mut ledger, counted(&fields(0, MOST_NAMES)), None);
        commit(&mut ledger, counted(&fields(MOST_NAMES, MOST_NAMES + 2)), None);
        commit(&mut ledger, of_row(r#""video_id":"1","region":[]"#), None);
        let sql =
            "SELECT kind || ' ' || name || ' ' || cells FROM drift WHERE name NOT LIKE 'new_%' ORDER BY kind, name";
        let rows: Vec<String> = ledger.rows(sql, [], |row| row.get(0)).unwrap();
        assert_eq!(rows, ["misfit region 1", "seen product_id 1", "seen region 1", "seen video_id 1", "unknown  2"]);
    }
}
