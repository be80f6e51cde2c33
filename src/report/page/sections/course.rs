//! What runs did over time: rate, latency, attempts by result; the runs and their decisions.

use maud::{Markup, html};

use crate::model::attempt::AttemptResult;
use crate::report::page::charts::{Chart, Line, Scale};
use crate::report::page::course::{Course, Point, percentiles};
use crate::report::page::data::PageData;
use crate::report::page::units::{self, count, duration, latency, percent, rate};

/// Attempts that brought no page, with their classes in the style sheet.
const FAILURES: [(AttemptResult, &str); 7] = [
    (AttemptResult::Throttled, "b"),
    (AttemptResult::ServerError, "c"),
    (AttemptResult::NoResponse, "d"),
    (AttemptResult::NoConnection, "e"),
    (AttemptResult::Unusable, "f"),
    (AttemptResult::Refused, "a"),
    (AttemptResult::Denied, "g"),
];

/// What a result is, in words.
fn meaning(result: AttemptResult) -> (&'static str, &'static str) {
    match result {
        AttemptResult::Page => ("Page", "A page of a list."),
        AttemptResult::Throttled => {
            ("Throttled", "HTTP 429, or a code that means the same. The request is sent again.")
        }
        AttemptResult::ServerError => ("Server error", "HTTP 5xx, 408 or 425. The request is sent again."),
        AttemptResult::NoResponse => {
            ("No response", "A timeout, or a connection that broke. In doubt: it may be billed.")
        }
        AttemptResult::NoConnection => ("No connection", "Nothing was sent."),
        AttemptResult::Unusable => ("Unusable", "A response that is neither a page nor a refusal."),
        AttemptResult::Refused => ("Refused", "The API refused this page or list."),
        AttemptResult::Denied => ("Denied", "The API refused the key, the account or the whole request."),
    }
}

fn of(rates: &[f64], result: AttemptResult) -> f64 {
    AttemptResult::ALL.iter().zip(rates).find(|(known, _)| **known == result).map_or(0.0, |(_, rate)| *rate)
}

pub(crate) fn over_time(data: &PageData) -> Markup {
    let course = &data.course;
    html! {
        section {
            h2 { "Over time" }
            @if course.points.is_empty() { p { "No request was recorded yet." } } @else {
                p.note {
                    "The time axis is time at work: " (duration(course.seconds())) " in all. The time between runs is left out"
                    @if course.starts.len() > 1 { ", and a vertical line is where a run starts" } "."
                }
                (rate_chart(course))
                (latency_chart(course))
                (latency_table(course))
                (failure_chart(course))
                (results(course))
            }
        }
    }
}

fn rate_chart(course: &Course) -> Markup {
    let (points, requests) = (&course.points, course.sums.requests());
    let used: Vec<Option<f64>> = points.iter().map(|point| Some(point.rate())).collect();
    let allowed: Vec<Option<f64>> = points.iter().map(|point| point.allowed).collect();
    let most = used.iter().flatten().copied().fold(0.0, f64::max);
    let mean = units::as_f64(requests) / course.seconds().max(0.001);
    let limit = match points.last().and_then(|point| point.allowed) {
        Some(limit) => format!("the limit is {} at the end", rate(limit)),
        None => "there is no limit".to_owned(),
    };
    let values = used.iter().chain(&allowed).flatten().copied();
    let summary = format!("Requests a second: {} on average, {} at most; {limit}.", rate(mean), rate(most));
    let has_limit = allowed.iter().any(Option::is_some);
    let mut lines = vec![Line { name: "requests".to_owned(), class: "a", values: used.clone() }];
    lines.extend(has_limit.then(|| Line { name: "allowed".to_owned(), class: "b dashed", values: allowed.clone() }));
    let chart = Chart { title: "Requests a second", scale: Scale::linear(values), areas: Vec::new(), lines, summary };
    html! { (chart.draw(course)) p.note { (chart.summary) } }
}

fn latency_chart(course: &Course) -> Markup {
    let line = |at: usize, name: &str, class| Line {
        name: name.to_owned(),
        class,
        values: course.points.iter().map(|point| point.latencies.and_then(|found| found.get(at).copied())).collect(),
    };
    let lines = vec![line(0, "p50", "a"), line(1, "p90", "b dashed"), line(2, "p99", "c dotted")];
    let values: Vec<f64> = lines.iter().flat_map(|line| line.values.iter().flatten().copied()).collect();
    let summary = match percentiles(&course.sums.latencies) {
        Some([half, most, nearly_all]) => format!(
            "Latency over all: {} for half of the attempts, {} for 90 %, {} for 99 % at most.",
            latency(half),
            latency(most),
            latency(nearly_all)
        ),
        None => "No latency was recorded.".to_owned(),
    };
    let scale = Scale::logarithmic(values.into_iter());
    Chart { title: "Latency (logarithmic)", scale, areas: Vec::new(), lines, summary }.draw(course)
}

fn latency_table(course: &Course) -> Markup {
    let most = course.points.iter().map(|point| point.in_flight).fold(0.0, f64::max);
    let mean = units::fraction(course.sums.waited, 1_000) / course.seconds().max(0.001);
    html! {
        @if let Some(found) = percentiles(&course.sums.latencies) {
            div.scroll { table {
                caption { "Latency, from sending a request to its outcome" }
                thead { tr { th scope="col" { "p50" } th scope="col" { "p90" } th scope="col" { "p99" } th scope="col" { "In flight, mean" } th scope="col" { "In flight, most" } } }
                tbody { tr { @for seconds in found { td { (latency(seconds)) } } td { (rate(mean)) } td { (rate(most)) } } }
            } }
            p.note { "p90: 90 % of the attempts took no longer. Percentiles are within 3.2 %." }
        }
    }
}

fn failure_chart(course: &Course) -> Markup {
    let of_kind = |result| course.points.iter().map(move |point: &Point| Some(of(&point.rates, result)));
    let happened = FAILURES.iter().filter(|(result, _)| of_kind(*result).flatten().any(|rate| rate > 0.0));
    let areas = happened.map(|(result, class)| Line {
        name: meaning(*result).0.to_lowercase(),
        class,
        values: of_kind(*result).collect(),
    });
    let areas: Vec<Line> = areas.collect();
    if areas.is_empty() {
        return html! { p { "Every attempt brought a page." } };
    }
    let failures = |point: &Point| point.rate() - of(&point.rates, AttemptResult::Page);
    let scale = Scale::linear(course.points.iter().map(failures));
    let all: u64 = course.sums.requests();
    let pages = course.sums.results.first().copied().unwrap_or_default();
    let summary = format!("{} of {} attempts brought no page.", count(all - pages), count(all));
    Chart { title: "Attempts without a page, a second", scale, areas, lines: Vec::new(), summary }.draw(course)
}

fn results(course: &Course) -> Markup {
    let all = course.sums.requests();
    html! {
        div.scroll { table {
            caption { "Attempts by result" }
            thead { tr { th scope="col" { "Result" } th.number scope="col" { "Attempts" } th.number scope="col" { "Share" } } }
            tbody {
                @for (result, number) in AttemptResult::ALL.into_iter().zip(course.sums.results) {
                    @if number > 0 || result == AttemptResult::Page {
                        tr {
                            th scope="row" { (meaning(result).0) small { (meaning(result).1) } }
                            td.number { (count(number)) } td.number { (percent(number, all)) }
                        }
                    }
                }
            }
        } }
    }
}

pub(crate) fn runs(data: &PageData) -> Markup {
    let course = &data.course;
    html! {
        @if !course.runs.is_empty() {
            section {
                h2 { "Runs" }
                div.scroll { table {
                    caption { "Runs of this export that sent requests or wrote files" }
                    thead { tr {
                        th scope="col" { "Run" } th scope="col" { "Started" } th.number scope="col" { "Time at work" }
                        th.number scope="col" { "Requests" } th.number scope="col" { "Billed" } th.number scope="col" { "Rows" } th scope="col" { "Outcome" }
                    } }
                    tbody {
                        @for run in &course.runs {
                            tr {
                                th scope="row" { (run.sums.run) } td { (units::moment(run.sums.at)) } td.number { (duration(units::fraction(run.sums.millis, 1_000))) }
                                td.number { (count(run.sums.requests())) } td.number { (count(run.sums.billed)) } td.number { (count(run.sums.rows)) }
                                td.id { (run.outcome.as_deref().unwrap_or("none is known: it works still, or was killed")) }
                            }
                        }
                    }
                } }
                @if course.earlier_runs > 0 { p.note { "And " (count(course.earlier_runs)) " earlier ones." } }
            }
        }
    }
}

pub(crate) fn decisions(data: &PageData) -> Markup {
    html! {
        @if !data.decisions.is_empty() {
            section {
                h2 { "Decisions" }
                p.note { "What runs decided and met, in order. Frequent ones of a kind that follow each other are one line." }
                div.scroll { table {
                    caption { "Decisions, with their times" }
                    thead { tr { th scope="col" { "Time" } th scope="col" { "What" } th scope="col" { "Details" } } }
                    tbody {
                        @for decision in &data.decisions {
                            tr {
                                td { (units::moment(decision.at)) small {
                                    @if decision.times > 1 { "until " (units::moment(decision.until)) ", " }
                                    "run " (decision.run)
                                } }
                                td { (decision.kind) @if decision.times > 1 { small { (count(decision.times)) " times" } } }
                                td.long { (decision.text) }
                            }
                        }
                    }
                } }
                @if data.decisions_dropped > 0 { p.note { (count(data.decisions_dropped)) " more were dropped: the ledger keeps a bounded number." } }
            }
        }
    }
}
