//! The tables `series` and `decisions`: what runs did over time, for a report. A group commit adds to them.
//!
//! Both are bounded, whatever an export's age and number of runs: [`MAX_ROWS`] intervals, of which the shortest neighbours become
//! one, and [`MAX_DECISIONS`] decisions, of which the oldest of the least important kinds are dropped.

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};

use super::{Doing, Ledger, LedgerError, signed, unsigned};
use crate::model::attempt::AttemptResult;
use crate::model::clock::Utc64;
use crate::model::latencies::Latencies;

/// Intervals of all runs that the ledger keeps: 17 hours by the minute, or a month by the three quarters of an hour.
const MAX_ROWS: usize = 1_000;
const MAX_DECISIONS: usize = 400;
/// Kinds of decisions that come often and are dropped first. Consecutive ones are one row.
const FREQUENT: [&str; 5] = ["throttled", "published", "failed", "moved", "rebuilt"];

/// The kind of the decision whose text is the run's limit of credits.
pub(crate) const MAX_CREDITS: &str = "max_credits";

/// What is to be written of a run's timeline.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    pub run: i64,
    pub interval: Option<SeriesRow>,
    pub decisions: Vec<DecisionRow>,
}

impl Timeline {
    pub fn is_empty(&self) -> bool {
        self.interval.is_none() && self.decisions.is_empty()
    }
}

/// An interval of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SeriesRow {
    pub run: i64,
    pub at: Utc64,
    pub millis: u64,
    /// Attempts by how they ended, in the order of [`AttemptResult::ALL`].
    pub results: [u64; AttemptResult::ALL.len()],
    pub billed: u64,
    pub free: u64,
    pub in_doubt: u64,
    /// Credits; below 0 where what was bought as evidence turned out to be pages of a list.
    pub evidence: i64,
    pub ahead: i64,
    /// Rows that are or will be published.
    pub rows: u64,
    /// Requests in 1,000 seconds that were allowed at its end; none: no limit.
    pub rate: Option<u64>,
    /// The attempts' latencies together, milliseconds.
    pub waited: u64,
    pub latencies: Latencies,
}

impl SeriesRow {
    /// Adds an interval that follows.
    pub fn extend(&mut self, next: &Self) {
        (self.run, self.rate) = (next.run, next.rate);
        for (count, more) in self.results.iter_mut().zip(next.results) {
            *count = count.saturating_add(more);
        }
        let sums = [
            (&mut self.millis, next.millis),
            (&mut self.billed, next.billed),
            (&mut self.free, next.free),
            (&mut self.in_doubt, next.in_doubt),
            (&mut self.rows, next.rows),
            (&mut self.waited, next.waited),
        ];
        for (sum, more) in sums {
            *sum = sum.saturating_add(more);
        }
        self.evidence = self.evidence.saturating_add(next.evidence);
        self.ahead = self.ahead.saturating_add(next.ahead);
        self.latencies.add(&next.latencies);
    }

    pub fn requests(&self) -> u64 {
        self.results.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }
}

/// Something that a run decided or met, or several of a kind in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecisionRow {
    pub run: i64,
    pub at: Utc64,
    /// When the last of them was.
    pub until: Utc64,
    pub kind: String,
    /// Of the first of them, sanitised.
    pub text: String,
    pub times: u64,
}

impl DecisionRow {
    /// Whether another one is counted with it.
    pub fn may_include(&self, next: &Self) -> bool {
        self.run == next.run && self.kind == next.kind && FREQUENT.contains(&self.kind.as_str())
    }
}

/// Columns of `series` behind `id`, in the order of [`values`].
fn columns() -> String {
    let results = AttemptResult::ALL.map(AttemptResult::as_str).join(", ");
    format!("run, at, millis, {results}, billed, free, in_doubt, evidence, ahead, rows, rate, waited, latencies")
}

fn values(row: &SeriesRow) -> Vec<Value> {
    let mut numbers = vec![row.run, row.at.0, signed(row.millis)];
    numbers.extend(row.results.map(signed));
    numbers.extend([row.billed, row.free, row.in_doubt].map(signed));
    numbers.extend([row.evidence, row.ahead, signed(row.rows)]);
    let mut values: Vec<Value> = numbers.into_iter().map(Value::from).collect();
    values.push(row.rate.map(signed).into());
    values.push(signed(row.waited).into());
    values.push(row.latencies.to_bytes().into());
    values
}

fn read(row: &Row<'_>) -> rusqlite::Result<SeriesRow> {
    let mut results = [0; AttemptResult::ALL.len()];
    for (at, count) in results.iter_mut().enumerate() {
        *count = unsigned(row, 3 + at)?;
    }
    let behind = 3 + results.len();
    Ok(SeriesRow {
        run: row.get(0)?,
        at: Utc64(row.get(1)?),
        millis: unsigned(row, 2)?,
        results,
        billed: unsigned(row, behind)?,
        free: unsigned(row, behind + 1)?,
        in_doubt: unsigned(row, behind + 2)?,
        evidence: row.get(behind + 3)?,
        ahead: row.get(behind + 4)?,
        rows: unsigned(row, behind + 5)?,
        rate: row.get::<_, Option<i64>>(behind + 6)?.and_then(|rate| u64::try_from(rate).ok()),
        waited: unsigned(row, behind + 7)?,
        latencies: Latencies::from_bytes(&row.get::<_, Vec<u8>>(behind + 8)?),
    })
}

/// Writes what is to be kept of a run's timeline, in a transaction that is open.
pub(super) fn write(db: &Connection, timeline: &Timeline) -> rusqlite::Result<()> {
    if let Some(interval) = &timeline.interval {
        make_room(db)?;
        let values = values(&SeriesRow { run: timeline.run, ..interval.clone() });
        let marks = vec!["?"; values.len()].join(", ");
        let sql = format!(
            "INSERT INTO series (id, {}) VALUES ((SELECT coalesce(max(id), 0) + 1 FROM series), {marks})",
            columns()
        );
        db.prepare_cached(&sql)?.execute(params_from_iter(values))?;
    }
    for decision in &timeline.decisions {
        decide(db, &DecisionRow { run: timeline.run, ..decision.clone() })?;
    }
    Ok(())
}

/// Makes one interval of the two neighbours that are the shortest together, until there is place for another one. Neighbours of
/// one run go first.
fn make_room(db: &Connection) -> rusqlite::Result<()> {
    let count = |db: &Connection| db.query_row("SELECT count(*) FROM series", [], |row| row.get::<_, i64>(0));
    while count(db)? >= signed(MAX_ROWS) {
        let sql =
            "SELECT id, next FROM (SELECT id, run, millis, lead(id) OVER near AS next, lead(run) OVER near AS next_run,
                     lead(millis) OVER near AS more FROM series WINDOW near AS (ORDER BY id))
                   WHERE next IS NOT NULL ORDER BY run <> next_run, millis + more, id LIMIT 1";
        let (id, next): (i64, i64) = db.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let sql = format!("SELECT {} FROM series WHERE id = ?1", columns());
        let find = |id: i64| db.query_row(&sql, [id], read);
        let mut both = find(id)?;
        both.extend(&find(next)?);
        db.execute("DELETE FROM series WHERE id = ?1", [next])?;
        let mut values = values(&both);
        values.push(id.into());
        let marks = vec!["?"; values.len() - 1].join(", ");
        db.execute(&format!("UPDATE series SET ({}) = ({marks}) WHERE id = ?", columns()), params_from_iter(values))?;
    }
    Ok(())
}

fn decide(db: &Connection, decision: &DecisionRow) -> rusqlite::Result<()> {
    let sql = "SELECT id, run, at, until, kind, text, times FROM decisions ORDER BY id DESC LIMIT 1";
    let last = db.query_row(sql, [], |row| Ok((row.get::<_, i64>(0)?, read_decision(row)?))).optional()?;
    let id = match last {
        Some((id, last)) if last.may_include(decision) => {
            let sql = "UPDATE decisions SET until = ?2, times = times + ?3 WHERE id = ?1";
            db.execute(sql, params![id, decision.until.0, signed(decision.times)])?;
            return Ok(());
        }
        last => last.map_or(1, |(id, _)| id + 1),
    };
    let DecisionRow { run, at, until, kind, text, times } = decision;
    let sql = "INSERT INTO decisions (id, run, at, until, kind, text, times) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    db.execute(sql, params![id, run, at.0, until.0, kind, text, signed(*times)])?;
    let frequent = FREQUENT.map(|kind| format!("'{kind}'")).join(", ");
    let sql = format!(
        "DELETE FROM decisions WHERE id IN (SELECT id FROM decisions WHERE id < ?1 ORDER BY kind NOT IN ({frequent}), id
           LIMIT max(0, (SELECT count(*) FROM decisions) - {MAX_DECISIONS}))"
    );
    db.execute(&sql, [id]).map(drop)
}

fn read_decision(row: &Row<'_>) -> rusqlite::Result<DecisionRow> {
    Ok(DecisionRow {
        run: row.get(1)?,
        at: Utc64(row.get(2)?),
        until: Utc64(row.get(3)?),
        kind: row.get(4)?,
        text: row.get(5)?,
        times: unsigned(row, 6)?,
    })
}

impl Ledger {
    /// Writes what is to be kept of a run's timeline, by itself.
    pub(crate) fn write_timeline(&mut self, timeline: &Timeline) -> Result<(), LedgerError> {
        if timeline.is_empty() {
            return Ok(());
        }
        self.transaction("write the timeline of a run", |transaction| write(transaction, timeline))
    }

    /// The number that the next run has.
    pub(crate) fn next_run(&self) -> Result<i64, LedgerError> {
        let sql =
            "SELECT 1 + max(coalesce((SELECT max(run) FROM series), 0), coalesce((SELECT max(run) FROM decisions), 0))";
        self.value(sql, [], "number a run")
    }

    /// The intervals of all runs, in order.
    pub(crate) fn series(&self) -> Result<Vec<SeriesRow>, LedgerError> {
        let sql = format!("SELECT {} FROM series ORDER BY id LIMIT {MAX_ROWS}", columns());
        self.rows(&sql, [], read)
    }

    /// The limit of credits that the newest run has.
    pub(crate) fn max_credits(&self) -> Result<Option<u64>, LedgerError> {
        let sql = "SELECT text FROM decisions WHERE kind = ?1 AND run = (SELECT max(run) FROM decisions) LIMIT 1";
        let text = self.rows(sql, [MAX_CREDITS], |row| row.get::<_, String>(0))?;
        Ok(text.first().and_then(|text| text.parse().ok()))
    }

    /// The decisions of all runs, in order, and how many more there were.
    pub(crate) fn decisions(&self) -> Result<(Vec<DecisionRow>, u64), LedgerError> {
        let sql =
            format!("SELECT id, run, at, until, kind, text, times FROM decisions ORDER BY id LIMIT {MAX_DECISIONS}");
        let rows = self.rows(&sql, [], read_decision)?;
        let sql = "SELECT coalesce(max(id), 0) - count(*) FROM decisions";
        Ok((rows, self.row(sql, [], |row| unsigned(row, 0)).doing("count decisions")?))
    }
}

#[cfg(test)]
mod tests {
    use super::{DecisionRow, MAX_DECISIONS, MAX_ROWS, SeriesRow, Timeline, write};
    use crate::model::clock::Utc64;
    use crate::model::latencies::Latencies;
    use crate::state::ledger::Ledger;
    use crate::state::ledger::fixture::ledger;
    use std::time::Duration;

    const MINUTE: u64 = 60_000;

    fn interval(at: i64, millis: u64) -> SeriesRow {
        let mut latencies = Latencies::default();
        (1..20).for_each(|tenth| latencies.record(Duration::from_millis(10 * tenth)));
        SeriesRow {
            at: Utc64(at),
            millis,
            results: [19, 2, 0, 1, 0, 0, 0, 0],
            billed: 19,
            free: 2,
            in_doubt: 1,
            evidence: -1,
            ahead: 1,
            rows: 190,
            rate: Some(50_000),
            waited: 1_900,
            latencies,
            ..SeriesRow::default()
        }
    }

    fn decision(kind: &str, at: i64) -> DecisionRow {
        DecisionRow {
            run: 0,
            at: Utc64(at),
            until: Utc64(at),
            kind: kind.to_owned(),
            text: "because".to_owned(),
            times: 1,
        }
    }

    fn add(ledger: &mut Ledger, timelines: impl Iterator<Item = Timeline>) {
        let work = |transaction: &rusqlite::Transaction<'_>| {
            for timeline in timelines {
                write(transaction, &timeline)?;
            }
            Ok(())
        };
        ledger.transaction("test", work).unwrap();
    }

    #[test]
    fn an_interval_and_a_decision_are_read_as_they_were_written() {
        let (_directory, mut ledger) = ledger::<&str>(&[]);
        assert_eq!(ledger.next_run().unwrap(), 1);
        let (row, made) = (interval(7, MINUTE), decision("outage", 8));
        ledger
            .write_timeline(&Timeline { run: 3, interval: Some(row.clone()), decisions: vec![made.clone()] })
            .unwrap();
        assert_eq!(ledger.series().unwrap(), [SeriesRow { run: 3, ..row }]);
        assert_eq!(ledger.decisions().unwrap(), (vec![DecisionRow { run: 3, ..made }], 0));
        assert_eq!((ledger.next_run().unwrap(), ledger.find_damage().unwrap()), (4, None));
    }

    #[test]
    fn the_series_of_a_long_run_stays_bounded_even_and_whole() {
        let (_directory, mut ledger) = ledger::<&str>(&[]);
        let minutes = 3 * i64::try_from(MAX_ROWS).unwrap() / 2;
        let timeline = |at| Timeline { run: 1, interval: Some(interval(at, MINUTE)), ..Timeline::default() };
        add(&mut ledger, (0..minutes).map(timeline));
        let rows = ledger.series().unwrap();
        assert_eq!(rows.len(), MAX_ROWS);
        let minutes = u64::try_from(minutes).unwrap();
        assert_eq!(rows.iter().map(SeriesRow::requests).sum::<u64>(), 22 * minutes);
        assert_eq!(rows.iter().map(|row| row.latencies.count()).sum::<u64>(), 19 * minutes);
        assert!(rows.iter().all(|row| row.millis <= 4 * MINUTE), "the longest has at most twice the mean");
        assert!(rows.is_sorted_by_key(|row| row.at));
        assert_eq!(ledger.find_damage().unwrap(), None);
    }

    #[test]
    fn intervals_of_different_runs_stay_apart_as_long_as_there_are_others() {
        let (_directory, mut ledger) = ledger::<&str>(&[]);
        let runs = i64::try_from(MAX_ROWS).unwrap() * 3 / 4;
        let of_run =
            |run| (0..2).map(move |at| Timeline { run, interval: Some(interval(at, 1_000)), ..Timeline::default() });
        add(&mut ledger, (1..=runs / 2).flat_map(of_run));
        let mut of: Vec<i64> = ledger.series().unwrap().iter().map(|row| row.run).collect();
        of.dedup();
        assert_eq!(i64::try_from(of.len()).unwrap(), runs / 2);
        add(&mut ledger, (runs / 2..=runs).flat_map(of_run));
        let rows = ledger.series().unwrap();
        assert_eq!((rows.len(), rows.last().unwrap().run), (MAX_ROWS, runs));
    }

    #[test]
    fn frequent_decisions_that_follow_each_other_are_one_and_are_dropped_before_others() {
        let (_directory, mut ledger) = ledger::<&str>(&[]);
        let decisions = |kinds: &[&str]| Timeline {
            run: 1,
            interval: None,
            decisions: kinds.iter().zip(1..).map(|(kind, at)| decision(kind, at)).collect(),
        };
        ledger.write_timeline(&decisions(&["started", "throttled", "throttled", "throttled", "outage"])).unwrap();
        let (rows, dropped) = ledger.decisions().unwrap();
        let found: Vec<_> = rows.iter().map(|row| (row.kind.as_str(), row.times, row.at.0, row.until.0)).collect();
        assert_eq!(found, [("started", 1, 1, 1), ("throttled", 3, 2, 4), ("outage", 1, 5, 5)]);
        assert_eq!(dropped, 0);
        add(&mut ledger, (0..MAX_DECISIONS).map(|_| decisions(&["throttled", "recovered"])));
        let (rows, dropped) = ledger.decisions().unwrap();
        assert_eq!((rows.len(), dropped), (MAX_DECISIONS, 403));
        assert!(rows.iter().all(|row| row.kind != "throttled"));
        assert_eq!(rows.last().unwrap().kind, "recovered");
    }

    /// A minute: `cargo test --lib -- --ignored --nocapture a_month`.
    #[test]
    #[ignore = "takes a minute"]
    fn a_month_by_the_minute_takes_no_more_than_a_day() {
        let (directory, mut ledger) = ledger::<&str>(&[]);
        let size = || std::fs::metadata(directory.path().join("ledger.sqlite")).unwrap().len();
        let timeline =
            |at| Timeline { run: 1, interval: Some(interval(at, MINUTE)), decisions: vec![decision("outage", at)] };
        let mut sizes = Vec::new();
        for day in 0..30 {
            add(&mut ledger, (day * 1_440..(day + 1) * 1_440).map(timeline));
            ledger.db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
            sizes.push(size());
        }
        println!("bytes of the ledger after each day: {sizes:?}");
        assert!(sizes[29] < sizes[0] + 100_000, "{sizes:?}");
        assert_eq!(ledger.series().unwrap().len(), MAX_ROWS);
    }
}
