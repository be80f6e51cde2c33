//! What a report shows over time: the ledger's intervals as points of charts, their sums, and a row for each run.

use crate::model::attempt::AttemptResult;
use crate::model::latencies::Latencies;
use crate::report::page::units::{as_f64, fraction};
use crate::state::ledger::{DecisionRow, SeriesRow};

/// Points of a chart.
const POINTS: u64 = 240;
/// Runs that keep points of their own, and that are listed.
const RUNS: usize = 20;

/// A stretch of a chart: one interval or several.
#[derive(Clone, Debug)]
pub(crate) struct Point {
    /// Its start and end: seconds of work, without the time between runs.
    pub(crate) from: f64,
    pub(crate) to: f64,
    /// Attempts a second, by how they ended.
    pub(crate) rates: [f64; AttemptResult::ALL.len()],
    /// Requests a second that were allowed at its end.
    pub(crate) allowed: Option<f64>,
    /// Attempts in flight on average.
    pub(crate) in_flight: f64,
    /// Latencies that 50, 90 and 99 % did not exceed, seconds.
    pub(crate) latencies: Option<[f64; 3]>,
}

impl Point {
    pub(crate) fn rate(&self) -> f64 {
        self.rates.iter().sum()
    }
}

/// A run.
#[derive(Clone, Debug)]
pub(crate) struct RunRow {
    pub(crate) sums: SeriesRow,
    /// How it ended, sanitised; none if it was killed, or works still.
    pub(crate) outcome: Option<String>,
}

/// What all runs did.
#[derive(Clone, Debug, Default)]
pub(crate) struct Course {
    pub(crate) points: Vec<Point>,
    /// Where runs start, seconds of work.
    pub(crate) starts: Vec<f64>,
    pub(crate) sums: SeriesRow,
    /// The newest runs, in order.
    pub(crate) runs: Vec<RunRow>,
    /// How many earlier runs there were.
    pub(crate) earlier_runs: u64,
}

impl Course {
    pub(crate) fn new(series: &[SeriesRow], decisions: &[DecisionRow]) -> Self {
        let mut course = Self::default();
        let mut runs: Vec<SeriesRow> = Vec::new();
        for row in series {
            course.sums.extend(row);
            match runs.last_mut().filter(|last| last.run == row.run) {
                Some(last) => last.extend(row),
                None => runs.push(row.clone()),
            }
        }
        // One that sent nothing has no interval.
        let ends = decisions.iter().filter(|decision| decision.kind == "ended");
        for end in ends.filter(|end| series.iter().all(|row| row.run != end.run)) {
            runs.push(SeriesRow { run: end.run, at: end.at, ..SeriesRow::default() });
        }
        runs.sort_by_key(|run| run.run);
        course.points = points(series, (course.sums.millis / POINTS).max(1), runs.len() <= RUNS);
        let mut start = 0;
        for run in runs.iter().filter(|run| run.millis > 0) {
            course.starts.push(fraction(start, 1_000));
            start += run.millis;
        }
        let last = runs.last().map_or(0, |run| run.run);
        let listed = runs.split_off(runs.len().saturating_sub(RUNS));
        let outcome = |run: i64| {
            let end = decisions.iter().rev().find(|decision| decision.run == run && decision.kind == "ended");
            end.map(|end| end.text.clone())
        };
        course.earlier_runs =
            u64::try_from(last).unwrap_or_default().saturating_sub(u64::try_from(listed.len()).unwrap_or_default());
        course.runs = listed.into_iter().map(|sums| RunRow { outcome: outcome(sums.run), sums }).collect();
        course
    }

    pub(crate) fn seconds(&self) -> f64 {
        fraction(self.sums.millis, 1_000)
    }
}

/// Gathers intervals to points of at least so many milliseconds. `apart`: no point is of two runs.
fn points(series: &[SeriesRow], least: u64, apart: bool) -> Vec<Point> {
    let (mut points, mut start) = (Vec::new(), 0);
    let mut gathered: Option<SeriesRow> = None;
    for row in series {
        gathered = Some(match gathered.take() {
            Some(before) if before.millis >= least || apart && before.run != row.run => {
                points.push(point(&before, start));
                start += before.millis;
                row.clone()
            }
            Some(mut before) => {
                before.extend(row);
                before
            }
            None => row.clone(),
        });
    }
    points.extend(gathered.filter(|last| last.millis > 0).map(|last| point(&last, start)));
    points
}

fn point(row: &SeriesRow, start: u64) -> Point {
    let seconds = fraction(row.millis.max(1), 1_000);
    Point {
        from: fraction(start, 1_000),
        to: fraction(start + row.millis, 1_000),
        rates: row.results.map(|count| as_f64(count) / seconds),
        allowed: row.rate.map(|rate| fraction(rate, 1_000)),
        in_flight: fraction(row.waited, 1_000) / seconds,
        latencies: percentiles(&row.latencies),
    }
}

/// The latencies that 50, 90 and 99 % do not exceed, seconds.
pub(crate) fn percentiles(latencies: &Latencies) -> Option<[f64; 3]> {
    let [half, most, nearly_all] = [500, 900, 990].map(|permille| latencies.percentile(permille));
    Some([half?, most?, nearly_all?])
}

#[cfg(test)]
mod tests {
    use super::Course;
    use crate::state::ledger::{DecisionRow, SeriesRow};

    fn row(run: i64, millis: u64, pages: u64) -> SeriesRow {
        SeriesRow { run, millis, results: [pages, 0, 0, 0, 0, 0, 0, 0], rate: Some(50_000), ..SeriesRow::default() }
    }

    #[test]
    fn points_are_few_cover_all_the_time_and_lose_no_request() {
        let series: Vec<SeriesRow> = (0..1_000).map(|at| row(1 + at / 400, 60_000, 3_000)).collect();
        let course = Course::new(&series, &[]);
        assert!((200..=243).contains(&course.points.len()), "{}", course.points.len());
        let requests: f64 = course.points.iter().map(|point| point.rate() * (point.to - point.from)).sum();
        assert!((requests - 3_000_000.0).abs() < 1.0, "{requests}");
        assert!(course.points.windows(2).all(|pair| (pair[0].to - pair[1].from).abs() < 1e-6));
        assert_eq!((course.starts.len(), course.seconds()), (3, 60_000.0));
        assert_eq!((course.runs.len(), course.runs[0].sums.requests(), course.earlier_runs), (3, 1_200_000, 0));
    }

    #[test]
    fn the_newest_runs_are_listed_with_their_outcome_and_the_others_counted() {
        let series: Vec<SeriesRow> = (1..=50).map(|run| row(run, 1_000, 1)).collect();
        let at = crate::model::clock::Utc64(1);
        let (kind, text) = ("ended".to_owned(), "limit: max_credits is reached".to_owned());
        let course = Course::new(&series, &[DecisionRow { run: 50, at, until: at, kind, text, times: 1 }]);
        assert_eq!((course.runs.len(), course.earlier_runs, course.runs[0].sums.run), (20, 30, 31));
        let outcomes: Vec<_> = course.runs.iter().rev().take(2).map(|run| run.outcome.as_deref()).collect();
        assert_eq!(outcomes, [Some("limit: max_credits is reached"), None]);
        let (at, until) = (crate::model::clock::Utc64(9), crate::model::clock::Utc64(9));
        let replay =
            DecisionRow { run: 51, at, until, kind: "ended".to_owned(), text: "complete".to_owned(), times: 1 };
        let course = Course::new(&series, &[replay]);
        let last = course.runs.last().unwrap();
        assert_eq!((last.sums.run, last.outcome.as_deref(), course.starts.len()), (51, Some("complete"), 50));
        let none = Course::new(&[], &[]);
        assert!(none.points.is_empty() && none.runs.is_empty() && none.seconds() < 1e-9);
    }
}
