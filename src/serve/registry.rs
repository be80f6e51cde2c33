//! Names, units and meanings of all metrics, as they are served. `docs/serve.md` has the same, and a test compares them.

use std::path::PathBuf;
use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::model::attempt::AttemptResult;
use crate::model::clock;
use crate::model::page::Charge;
use crate::settings::Settings;
use crate::state::free_space::free_space;

/// One label with its value.
pub(super) type Label = [(&'static str, &'static str); 1];
pub(super) type NoLabels = [(&'static str, &'static str); 0];

const PREFIX: &str = "pagehaul";
/// Upper bounds of the histogram of response times, seconds: from an API in the same data centre to a long `request_timeout`.
const TIMES: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0];

/// What a page's row became.
pub(super) const ROW_OUTCOMES: [&str; 3] = ["kept", "duplicate", "rejected"];
/// Attempts that cost a credit, or may have.
pub(super) const CHARGES: [Charge; 2] = [Charge::Billed, Charge::InDoubt];
pub(super) const PRODUCT_STATES: [&str; 5] = ["not_started", "started", "complete", "failed", "cut"];

pub(super) type Seconds = Counter<f64, AtomicU64>;
pub(super) type FloatGauge = Gauge<f64, AtomicU64>;

/// The metrics themselves, which the registry shares.
#[derive(Clone, Debug)]
pub(super) struct Parts {
    pub(super) requests: Family<Label, Counter>,
    pub(super) credits: Family<Label, Counter>,
    pub(super) request_time: Histogram,
    pub(super) retries: Counter,
    pub(super) throttle_wait: Seconds,
    pub(super) outages: Counter,
    pub(super) pages: Counter,
    pub(super) rows: Family<Label, Counter>,
    pub(super) published_segments: Counter,
    pub(super) published_files: Counter,
    pub(super) published_rows: Counter,
    pub(super) published_bytes: Counter,
    pub(super) in_flight: Gauge,
    /// Without a limit there is no series.
    pub(super) rate_limit: Family<NoLabels, FloatGauge>,
    pub(super) is_outage: Gauge,
    pub(super) journal: Gauge,
    pub(super) products: Family<Label, Gauge>,
    pub(super) export_pages: Gauge,
    pub(super) export_rows: Gauge,
    pub(super) export_credits: Gauge,
}

impl Parts {
    pub(super) fn new() -> Self {
        Self {
            requests: Family::default(),
            credits: Family::default(),
            request_time: Histogram::new(TIMES),
            retries: Counter::default(),
            throttle_wait: Seconds::default(),
            outages: Counter::default(),
            pages: Counter::default(),
            rows: Family::default(),
            published_segments: Counter::default(),
            published_files: Counter::default(),
            published_rows: Counter::default(),
            published_bytes: Counter::default(),
            in_flight: Gauge::default(),
            rate_limit: Family::default(),
            is_outage: Gauge::default(),
            journal: Gauge::default(),
            products: Family::default(),
            export_pages: Gauge::default(),
            export_rows: Gauge::default(),
            export_credits: Gauge::default(),
        }
    }
}

/// The disks of an export.
#[derive(Debug)]
pub(super) struct Disks {
    directories: Vec<(&'static str, PathBuf)>,
    free: Family<Label, Gauge>,
}

impl Disks {
    pub(super) fn new(settings: &Settings) -> Self {
        let output = settings.out.directory().map(|directory| ("output", directory.to_owned()));
        let directories = output.into_iter().chain([("state", settings.state_dir.clone())]).collect();
        Self { directories, free: Family::default() }
    }

    /// A disk that cannot be measured, or whose directory is not there yet, has no series.
    pub(super) fn measure(&self) {
        for (name, directory) in &self.directories {
            match free_space(directory) {
                Ok(Some((free, _))) => {
                    self.free.get_or_create(&[("disk", *name)]).set(i64::try_from(free).unwrap_or(i64::MAX));
                }
                Ok(None) | Err(_) => drop(self.free.remove(&[("disk", *name)])),
            }
        }
    }
}

/// A registry of all metrics, with every series that has a fixed label.
pub(super) fn register(parts: &Parts, disks: &Disks, max_credits: Option<u64>) -> Registry {
    for result in AttemptResult::ALL {
        drop(parts.requests.get_or_create(&[("result", result.as_str())]));
    }
    for charge in CHARGES {
        drop(parts.credits.get_or_create(&[("charge", charge.as_str())]));
    }
    for outcome in ROW_OUTCOMES {
        drop(parts.rows.get_or_create(&[("outcome", outcome)]));
    }
    for state in PRODUCT_STATES {
        drop(parts.products.get_or_create(&[("state", state)]));
    }
    let mut registry = Registry::with_prefix(PREFIX);
    register_process(&mut registry);
    register_requests(&mut registry, parts);
    register_rows(&mut registry, parts);
    register_export(&mut registry, parts, disks, max_credits);
    registry
}

fn register_process(to: &mut Registry) {
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    to.register("build", "Version of the program as a label; always 1", Info::new(version));
    let start = FloatGauge::default();
    start.set(f64::from(u32::try_from(clock::wall().seconds()).unwrap_or_default()));
    let help = "When this run was started, in seconds since 1970";
    to.register_with_unit("start_time", help, Unit::Seconds, start);
}

fn register_requests(to: &mut Registry, parts: &Parts) {
    let help = "Requests of this run that have ended, by result";
    to.register("requests", help, parts.requests.clone());
    let help = "Time from sending a request to the end of its response";
    to.register_with_unit("request_duration", help, Unit::Seconds, parts.request_time.clone());
    let help = "Requests of this run that are repeated";
    to.register("retries", help, parts.retries.clone());
    let help = "Credits of this run, billed or possibly billed";
    to.register("credits", help, parts.credits.clone());
    let help = "Requests that are in flight or wait for the rate limit";
    to.register("requests_in_flight", help, parts.in_flight.clone());
    let help = "Requests per second that are allowed now; absent while there is no limit";
    to.register("rate_limit_requests_per_second", help, parts.rate_limit.clone());
    let help = "Time that all requests had to wait because of 429 responses";
    to.register_with_unit("throttle_wait", help, Unit::Seconds, parts.throttle_wait.clone());
    let help = "1 while no request succeeds and one at a time is sent, otherwise 0";
    to.register("outage", help, parts.is_outage.clone());
    to.register("outages", "Outages of this run that have begun", parts.outages.clone());
}

fn register_rows(to: &mut Registry, parts: &Parts) {
    to.register("pages", "Pages of this run whose rows were taken", parts.pages.clone());
    let help = "Rows of those pages, by outcome";
    to.register("rows", help, parts.rows.clone());
    let help = "Bytes of the journal whose rows are not published";
    to.register_with_unit("journal_waiting", help, Unit::Bytes, parts.journal.clone());
    let help = "Segments that this run has published";
    to.register("published_segments", help, parts.published_segments.clone());
    to.register("published_files", "Files that this run has published", parts.published_files.clone());
    to.register("published_rows", "Rows that this run has published", parts.published_rows.clone());
    let help = "Size of the files that this run has published";
    to.register_with_unit("published", help, Unit::Bytes, parts.published_bytes.clone());
}

fn register_export(to: &mut Registry, parts: &Parts, disks: &Disks, max_credits: Option<u64>) {
    to.register("products", "Products of the export, by state", parts.products.clone());
    to.register("export_pages", "Pages of the export over all its runs", parts.export_pages.clone());
    let help = "Rows of the export over all its runs, published or to be published";
    to.register("export_rows", help, parts.export_rows.clone());
    let help = "Credits of the export over all its runs, billed or possibly billed";
    to.register("export_credits", help, parts.export_credits.clone());
    if let Some(max) = max_credits {
        let gauge: Gauge = Gauge::default();
        gauge.set(i64::try_from(max).unwrap_or(i64::MAX));
        to.register("export_credits_max", "The value of max_credits; absent if it is not set", gauge);
    }
    let help = "Free space of the disks of the export";
    to.register_with_unit("disk_free", help, Unit::Bytes, disks.free.clone());
}

#[cfg(test)]
mod tests {
    use super::super::metrics::{Metrics, TextFormat};
    use crate::serve::fixture::settings;
    use std::collections::BTreeSet;

    const PAGE: &str = include_str!("../../docs/serve.md");

    /// Every series there is.
    fn everything() -> String {
        let settings = settings(&[("out", "/"), ("state_dir", "/"), ("max_credits", "9")]);
        Metrics::new(&settings, Some(50.0)).text(TextFormat::Prometheus).unwrap()
    }

    #[test]
    fn the_page_about_it_has_every_metric_with_its_type_and_meaning_and_no_other() {
        let text = everything();
        let lines_of =
            |start: &'static str| text.lines().filter_map(move |line| line.strip_prefix(start)?.split_once(' '));
        let rows: BTreeSet<String> = lines_of("# HELP ")
            .zip(lines_of("# TYPE "))
            .map(|((name, help), (_, kind))| format!("| `{name}` | {kind} | {help} |"))
            .collect();
        let in_page = PAGE.lines().filter(|line| line.starts_with("| `pagehaul_"));
        assert_eq!(rows, in_page.map(str::to_owned).collect());
    }

    #[test]
    fn the_page_about_it_has_every_label_with_its_values() {
        let text = everything();
        let labels =
            text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split(['{', '}']).nth(1));
        let labels: BTreeSet<(&str, &str)> = labels.filter_map(|label| label.split_once('=')).collect();
        let described = labels.into_iter().filter(|(name, _)| !["le", "version"].contains(name));
        let mut values = 0;
        for (name, value) in described {
            let row = PAGE.lines().find(|line| line.starts_with(&format!("| `{name}` |"))).unwrap();
            assert!(row.contains(&format!("`{}`", value.trim_matches('"'))), "{name} {value}: {row}");
            values += 1;
        }
        assert_eq!(values, 8 + 2 + 3 + 5 + 2);
    }

    #[test]
    fn names_follow_the_rules_of_prometheus() {
        for line in everything().lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let (name, kind) = line.split_once(' ').unwrap();
            assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
            assert!(name.starts_with("pagehaul_") && !name.contains("_ms") && !name.contains("_count"), "{line}");
        }
    }
}
