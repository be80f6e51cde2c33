//! What came of a run, in numbers, and whether each is in the range that was expected.

use std::fmt;
use std::time::Duration;

use pagehaul::report::summary::Summary;
use serde::Deserialize;

use crate::common::world::{Seen, World};

/// A number that says how a run went.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Figure {
    /// The exit code. Of the whole run only, as are those down to `Billed`.
    Exit,
    /// Virtual seconds from the first request to the last answer.
    Seconds,
    /// Products that were read to the end.
    Complete,
    /// Products that were given up.
    Failed,
    /// Requests beyond the fewest that read all lists.
    Extra,
    /// Attempts that were followed by another one.
    Retries,
    /// Credits billed or in doubt.
    Credits,
    /// Requests that left.
    Requests,
    /// Requests that left, a second.
    Rate,
    /// Requests that passed the limit, as a share of those that it permitted.
    Used,
    /// Answers 429, as a share of the requests that left.
    Throttled,
    /// Requests in flight, on average over time.
    InFlight,
    /// The most requests in flight at a time.
    MostInFlight,
}

/// The numbers that will do: one, or from the first to the second.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Range {
    Exactly(f64),
    Within([f64; 2]),
}

/// What a sum of many times may be off by.
const ROUNDING: f64 = 1e-6;

impl Range {
    pub(crate) fn holds(self, number: f64) -> bool {
        let (from, to) = match self {
            Self::Exactly(number) => (number, number),
            Self::Within([from, to]) => (from, to),
        };
        (from - ROUNDING..=to + ROUNDING).contains(&number)
    }
}

/// A run that has ended.
pub(crate) struct Ended<'a> {
    pub(crate) world: &'a World,
    pub(crate) seen: Vec<Seen>,
    /// The fewest requests that read all lists to their ends.
    pub(crate) fewest: u64,
    pub(crate) summary: Summary,
}

impl Ended<'_> {
    /// When the last request was over.
    pub(crate) fn end(&self) -> Duration {
        self.seen.iter().filter_map(|seen| seen.ended).max().unwrap_or_default()
    }

    /// A figure of a part of the run. Not a number: there is no such figure of it.
    pub(crate) fn figure(&self, figure: Figure, from: Duration, until: Duration) -> f64 {
        let is_in = |at: Duration| (from..until).contains(&at);
        let left = || self.seen.iter().filter(|seen| is_in(seen.left));
        let count = |like: &dyn Fn(&&Seen) -> bool| number(left().filter(like).count());
        let (summary, seconds) = (&self.summary, until.saturating_sub(from).as_secs_f64());
        match figure {
            Figure::Exit => f64::from(summary.exit_code),
            Figure::Seconds => summary.run.seconds,
            Figure::Complete => as_f64(summary.totals.products.complete),
            Figure::Failed => as_f64(summary.totals.products.failed),
            Figure::Extra => as_f64(summary.run.requests) - as_f64(self.fewest),
            Figure::Retries => as_f64(summary.run.retries),
            Figure::Credits => as_f64(summary.totals.credits.billed + summary.totals.credits.in_doubt),
            Figure::Requests => count(&|_| true),
            Figure::Rate => count(&|_| true) / seconds,
            Figure::Used => {
                let passed = self.seen.iter().filter(|seen| seen.was_admitted && seen.came.is_some_and(is_in)).count();
                self.world.permitted(from, until).map_or(f64::NAN, |permitted| number(passed) / permitted)
            }
            Figure::Throttled => count(&|seen| seen.status == Some(429)) / count(&|_| true),
            Figure::InFlight => {
                let in_flight = self.seen.iter().map(|seen| {
                    let end = seen.ended.unwrap_or(Duration::MAX).min(until);
                    end.saturating_sub(seen.left.max(from)).as_secs_f64()
                });
                in_flight.sum::<f64>() / seconds
            }
            Figure::MostInFlight => self.most_in_flight(from, until),
        }
    }

    fn most_in_flight(&self, from: Duration, until: Duration) -> f64 {
        let is_in = |seen: &&Seen| seen.left < until && seen.ended.is_none_or(|ended| ended > from);
        let mut steps: Vec<(Duration, i32)> = Vec::new();
        for seen in self.seen.iter().filter(is_in) {
            steps.push((seen.left, 1));
            steps.extend(seen.ended.map(|ended| (ended, -1)));
        }
        steps.sort_unstable(); // who ends makes room for who leaves at the same moment
        let in_flight = steps.iter().scan(0, |count, (_, step)| {
            *count += step;
            Some(*count)
        });
        f64::from(in_flight.max().unwrap_or_default())
    }

    /// Pages a second over the run, as bars of a height each, the highest for the best part.
    pub(crate) fn course(&self) -> String {
        const PARTS: usize = 24;
        let mut pages = [0_usize; PARTS];
        let end = self.end().as_secs_f64();
        for came in self.seen.iter().filter(|seen| seen.status == Some(200)).filter_map(|seen| seen.came) {
            let part = (0..PARTS).rfind(|part| came.as_secs_f64() >= end * number(*part) / number(PARTS));
            pages[part.unwrap_or_default()] += 1;
        }
        let best = pages.iter().copied().max().unwrap_or_default().max(1);
        let bars = ['·', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
        pages.iter().map(|pages| bars[(pages * 8).div_ceil(best)]).collect()
    }
}

fn number(count: usize) -> f64 {
    as_f64(u64::try_from(count).unwrap())
}

fn as_f64(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap())
}

/// A number as the table shows it.
pub(crate) fn shown(figure: Figure, number: f64) -> String {
    match figure {
        Figure::Exit | Figure::Complete | Figure::Failed | Figure::Extra | Figure::Retries | Figure::Credits => {
            format!("{number:.0}")
        }
        Figure::Requests | Figure::MostInFlight => format!("{number:.0}"),
        Figure::Seconds => format!("{number:.0} s"),
        Figure::Rate => format!("{number:.1}/s"),
        Figure::InFlight => format!("{number:.1}"),
        Figure::Used | Figure::Throttled => format!("{:.1} %", number * 100.0),
    }
}

/// A range as the table shows it.
pub(crate) fn shown_range(figure: Figure, range: Range) -> String {
    let bare = |number: f64| match figure {
        Figure::Used | Figure::Throttled => format!("{}", (number * 1_000.0).round() / 10.0),
        _ => format!("{number}"),
    };
    let unit = match figure {
        Figure::Seconds => " s",
        Figure::Rate => "/s",
        Figure::Used | Figure::Throttled => " %",
        _ => "",
    };
    match range {
        Range::Exactly(number) => format!("{}{unit}", bare(number)),
        Range::Within([from, to]) => format!("{} to {}{unit}", bare(from), bare(to)),
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exit => "exit",
            Self::Seconds => "time",
            Self::Complete => "complete",
            Self::Failed => "failed",
            Self::Extra => "requests beyond the fewest",
            Self::Retries => "retries",
            Self::Credits => "credits",
            Self::Requests => "requests",
            Self::Rate => "rate",
            Self::Used => "used",
            Self::Throttled => "429",
            Self::InFlight => "in flight",
            Self::MostInFlight => "most in flight",
        })
    }
}
