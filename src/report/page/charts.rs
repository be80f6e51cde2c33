//! Charts as SVG, drawn by the template. The drawing is stretched to the width of the page, so all text is beside it, as text.

use std::fmt::Write;

use maud::{Markup, html};

use crate::report::page::course::Course;
use crate::report::page::units;

const WIDTH: f64 = 1_000.0;
const HEIGHT: f64 = 200.0;
/// Runs whose starts are drawn.
const STARTS: usize = 40;

/// A line of a chart: a value for each point of the course, or none.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) name: String,
    /// Its class in the style sheet: `a` to `f`.
    pub(crate) class: &'static str,
    pub(crate) values: Vec<Option<f64>>,
}

#[derive(Debug)]
pub(crate) struct Chart<'a> {
    pub(crate) title: &'a str,
    /// What it shows, in words, for whoever does not see it.
    pub(crate) summary: String,
    pub(crate) scale: Scale,
    /// Areas that are stacked, the first at the bottom.
    pub(crate) areas: Vec<Line>,
    pub(crate) lines: Vec<Line>,
}

/// How values become heights.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scale {
    /// From 0 to a maximum.
    Linear(f64),
    /// Latencies in seconds, from one power of ten to another.
    Logarithmic(f64, f64),
}

impl Scale {
    /// A scale with place for all of these values.
    pub(crate) fn linear(values: impl Iterator<Item = f64>) -> Self {
        let most = values.fold(0.0, f64::max);
        let magnitude = 10_f64.powf(most.max(1e-6).log10().floor());
        let steps = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0];
        Self::Linear(steps.into_iter().map(|step| step * magnitude).find(|top| *top >= most).unwrap_or(most))
    }

    pub(crate) fn logarithmic(values: impl Iterator<Item = f64>) -> Self {
        let (least, most) =
            values.fold((f64::MAX, 0.000_1), |(least, most), value| (value.min(least), value.max(most)));
        let least = least.clamp(0.000_1, most).log10().floor();
        Self::Logarithmic(10_f64.powf(least), 10_f64.powf(most.log10().ceil().max(least + 1.0)))
    }

    /// The height of a value, from 0 to 1.
    fn height(self, value: f64) -> f64 {
        match self {
            Self::Linear(top) => value / top,
            Self::Logarithmic(bottom, top) => (value / bottom).log10() / (top / bottom).log10(),
        }
        .clamp(0.0, 1.0)
    }

    /// Heights with their labels.
    fn ticks(self) -> Vec<(f64, String)> {
        match self {
            Self::Linear(top) => [0.0, 0.5, 1.0].map(|part| (part, units::rate(part * top))).to_vec(),
            Self::Logarithmic(bottom, top) => {
                let is_short = top / bottom < 101.0;
                let within_one = if is_short { &[1.0, 2.0, 5.0][..] } else { &[1.0] };
                let values =
                    (0..8).flat_map(|decade| within_one.iter().map(move |step| step * bottom * 10_f64.powi(decade)));
                let within = values.take_while(|value| *value <= top * 1.001);
                within.map(|value| (self.height(value), units::latency(value))).collect()
            }
        }
    }
}

impl Chart<'_> {
    pub(crate) fn draw(&self, course: &Course) -> Markup {
        let seconds = course.seconds();
        html! {
            figure {
                figcaption { (self.title) }
                ul.legend {
                    @for line in self.areas.iter().rev().chain(&self.lines) { li { i class=(line.class) {} (line.name) } }
                }
                div.plot {
                    div.scale {
                        @for (height, label) in self.scale.ticks() {
                            span style={ "bottom:" (format!("{:.1}", height * 100.0)) "%" } { (label) }
                        }
                    }
                    svg viewBox="0 0 1000 200" preserveAspectRatio="none" role="img" aria-label=(self.summary) {
                        title { (self.title) }
                        path.grid d=(self.grid(course)) {}
                        @for (class, path) in self.stack(course) { path class={ "area " (class) } d=(path) {} }
                        @for line in &self.lines { path class={ "line " (line.class) } d=(self.steps(line, course)) {} }
                    }
                }
                div.time {
                    @for part in [0.0, 0.25, 0.5, 0.75, 1.0] { span { (units::duration(part * seconds)) } }
                }
            }
        }
    }

    /// Lines at the ticks, and where runs start.
    fn grid(&self, course: &Course) -> String {
        let ticks = self.scale.ticks().into_iter().map(|(height, _)| format!("M0 {:.1}H1000", HEIGHT * (1.0 - height)));
        let starts = course.starts.iter().filter(|start| **start > 0.0 && course.starts.len() <= STARTS);
        ticks.chain(starts.map(|start| format!("M{:.1} 0V200", x(*start, course)))).collect()
    }

    /// A line that is level over each point.
    fn steps(&self, line: &Line, course: &Course) -> String {
        let (mut path, mut is_down) = (String::new(), false);
        for (point, value) in course.points.iter().zip(&line.values) {
            let Some(value) = value else {
                is_down = false;
                continue;
            };
            let y = HEIGHT * (1.0 - self.scale.height(*value));
            let start = if is_down { format!("V{y:.1}") } else { format!("M{:.1} {y:.1}", x(point.from, course)) };
            write!(path, "{start}H{:.1}", x(point.to, course)).ok(); // writing to a String cannot fail
            is_down = true;
        }
        path
    }

    /// The areas, each from the top of the one below it.
    fn stack(&self, course: &Course) -> Vec<(&'static str, String)> {
        let mut floors = vec![0.0; course.points.len()];
        let mut paths = Vec::new();
        for area in &self.areas {
            let mut path = String::new();
            for ((point, value), floor) in course.points.iter().zip(&area.values).zip(&mut floors) {
                let value = value.unwrap_or_default();
                if value > 0.0 {
                    let (left, right) = (x(point.from, course), x(point.to, course));
                    let [bottom, top] = [*floor, *floor + value].map(|sum| HEIGHT * (1.0 - self.scale.height(sum)));
                    write!(path, "M{left:.1} {bottom:.1}V{top:.1}H{right:.1}V{bottom:.1}z").ok();
                    *floor += value;
                }
            }
            paths.push((area.class, path));
        }
        paths
    }
}

fn x(seconds: f64, course: &Course) -> f64 {
    WIDTH * seconds / course.seconds().max(0.001)
}

/// A table of classes with a bar for each: what it is, how many, and how many in words.
pub(crate) fn bars(caption: &str, what: [&str; 2], classes: &[(String, u64)]) -> Markup {
    let most = classes.iter().map(|(_, number)| *number).max().unwrap_or_default();
    html! {
        div.scroll { table.bars {
            caption { (caption) }
            thead { tr { th scope="col" { (what[0]) } th.number scope="col" { (what[1]) } th.wide { span.hidden { "share" } } } }
            tbody {
                @for (name, number) in classes {
                    tr { th scope="row" { (name) } td.number { (units::count(*number)) } td.wide { (bar(*number, most)) } }
                }
            }
        } }
    }
}

/// A bar whose length is the part of the whole.
pub(crate) fn bar(part: u64, whole: u64) -> Markup {
    html! { div.bar aria-hidden="true" { div style={ "width:" (format!("{:.1}", units::fraction(part, whole) * 100.0)) "%" } {} } }
}

#[cfg(test)]
mod tests {
    use super::Scale;

    #[test]
    fn a_scale_has_place_for_all_values_and_labels_that_are_round() {
        let linear = Scale::linear([3.0, 4.7, 1.2].into_iter());
        assert_eq!(linear.ticks(), [(0.0, "0".to_owned()), (0.5, "2.5".to_owned()), (1.0, "5.0".to_owned())]);
        assert!((linear.height(2.5) - 0.5).abs() < 1e-9);
        let scale = Scale::logarithmic([0.02, 0.4, 3.0].into_iter());
        let labels: Vec<String> = scale.ticks().into_iter().map(|(_, label)| label).collect();
        assert_eq!(labels, ["10 ms", "100 ms", "1.0 s", "10 s"]);
        assert!(scale.height(0.000_001) < 1e-9 && scale.height(1e9) > 1.0 - 1e-9);
        for scale in [Scale::linear([].into_iter()), Scale::logarithmic([].into_iter())] {
            assert!(scale.ticks().iter().all(|(height, _)| (0.0..=1.0).contains(height)), "{scale:?}");
        }
    }
}
