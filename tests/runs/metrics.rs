//! What `--serve` shows of a run is what its summary says, to the last request, whatever happens in the run.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::common::scripted::{Reply, run_job};
use crate::common::world::{Call, World, every_size, internal_error, refusal, text_of, throttled};
use crate::common::{built_in_context, scratch};
use pagehaul::error::ExitCode;
use pagehaul::fetch::FetchErrorKind;
use pagehaul::model::event::{Event, EventSink, NullSink, Sinks};
use pagehaul::report::summary::Summary;
use pagehaul::serve::metrics::{Metrics, TextFormat};

/// The metrics of a run, when it has ended.
struct Shown(String);

impl Shown {
    /// The sum of all series that begin like this.
    fn sum(&self, name: &str) -> f64 {
        let is_of = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']));
        let values = self.0.lines().filter(is_of).map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap());
        values.sum()
    }

    /// One series.
    fn of(&self, name: &str, label: &str, value: &str) -> f64 {
        let series = format!("pagehaul_{name}{{{label}=\"{value}\"}}");
        assert!(self.0.contains(&series), "{series}");
        let line = self.0.lines().find(|line| line.starts_with(&series)).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    fn counter(&self, name: &str) -> f64 {
        self.sum(&format!("pagehaul_{name}_total"))
    }

    fn gauge(&self, name: &str) -> f64 {
        self.sum(&format!("pagehaul_{name}"))
    }
}

/// Counts the lists that are read on.
#[derive(Debug, Default)]
struct Reopened(AtomicUsize);

impl EventSink for Reopened {
    fn event(&self, event: &Event<'_>) {
        if let Event::Reopened(lists) = event {
            self.0.fetch_add(*lists, Ordering::Relaxed);
        }
    }
}

async fn run(world: &Arc<World>, out: &std::path::Path, more: &[(&str, &str)]) -> (Summary, Shown) {
    run_with(world, out, more, Arc::new(NullSink)).await
}

async fn run_with(
    world: &Arc<World>,
    out: &std::path::Path,
    more: &[(&str, &str)],
    sink: Arc<dyn EventSink>,
) -> (Summary, Shown) {
    let mut context = built_in_context(out, Some(50.0), more);
    let metrics = Arc::new(Metrics::new(&context.settings, Some(50.0)));
    context.events = Arc::new(Sinks(vec![sink, Arc::<Metrics>::clone(&metrics)]));
    let summary = run_job(&context, &world.serve(usize::MAX), &world.ids()).await.unwrap();
    (summary, Shown(metrics.text(TextFormat::Prometheus).unwrap()))
}

/// Fails unless both say the same about this run, and about the export.
#[expect(clippy::float_cmp, reason = "whole numbers")]
fn assert_same(summary: &Summary, shown: &Shown) {
    let (totals, run) = (&summary.totals, &summary.run);
    let products = |state| shown.of("products", "state", state);
    let of_run = [
        ("requests", shown.counter("requests"), run.requests),
        ("responses", shown.gauge("request_duration_seconds_count"), run.requests),
        ("pages", shown.of("requests_total", "result", "page"), run.pages),
        ("throttled", shown.of("requests_total", "result", "throttled"), run.throttled),
        ("retries", shown.counter("retries"), run.retries),
    ];
    let of_export = [
        ("complete", products("complete"), totals.products.complete),
        ("failed", products("failed"), totals.products.failed),
        ("cut", products("cut"), totals.products.cut),
        ("open", products("not_started") + products("started"), totals.products.open),
        ("credits", shown.gauge("export_credits"), totals.credits.billed + totals.credits.in_doubt),
        ("all pages", shown.gauge("export_pages"), totals.pages.journaled),
        ("all rows", shown.gauge("export_rows"), totals.rows.published + totals.rows.waiting),
    ];
    for (what, shown, summed) in of_run.into_iter().chain(of_export) {
        assert_eq!(shown, summed as f64, "{what}: {summary}");
    }
    assert_eq!((shown.gauge("requests_in_flight"), shown.gauge("outage")), (0.0, 0.0));
}

/// The same for what counts once only, in the first run of an export.
#[expect(clippy::float_cmp, reason = "whole numbers")]
fn assert_same_in_the_first_run(summary: &Summary, shown: &Shown) {
    assert_same(summary, shown);
    let totals = &summary.totals;
    let table = [
        ("billed", shown.of("credits_total", "charge", "billed"), totals.credits.billed),
        ("in doubt", shown.of("credits_total", "charge", "in_doubt"), totals.credits.in_doubt),
        ("pages", shown.counter("pages"), totals.pages.journaled),
        ("kept", shown.of("rows_total", "outcome", "kept"), totals.rows.published + totals.rows.waiting),
        ("duplicates", shown.of("rows_total", "outcome", "duplicate"), totals.rows.duplicates),
        ("rejected", shown.of("rows_total", "outcome", "rejected"), totals.rows.rejected),
        ("published rows", shown.counter("published_rows"), totals.rows.published),
        ("files", shown.counter("published_files"), totals.files),
        ("bytes", shown.counter("published_bytes"), totals.bytes),
    ];
    for (what, shown, summed) in table {
        assert_eq!(shown, summed as f64, "{what}: {summary}");
    }
}

/// Every kind of end that an attempt has, rows that are rejected, and a product that is refused.
fn faulty() -> World {
    let lost = |call: &Call| match call.number {
        number if number.is_multiple_of(23) => Some(Reply::lost(FetchErrorKind::Disconnected)),
        number if number.is_multiple_of(29) => Some(Reply::lost(FetchErrorKind::Connect)),
        _ => None,
    };
    let fault = |call: &Call| match call.number {
        _ if call.item == 7 => Some(refusal(400, "no such product")),
        number if number % 17 == 3 => Some(internal_error()),
        number if number % 19 == 5 => Some(throttled(1)),
        _ => None,
    };
    let row = |item, row| if row == 4 { "{\"video_desc\":\"no id\"}".to_owned() } else { text_of(item, row) };
    World::new(every_size(60, 70)).losing(lost).but(fault).with_rows(row)
}

#[tokio::test(start_paused = true)]
async fn metrics_and_summary_say_the_same_of_a_run_in_which_much_fails() {
    let directory = scratch();
    let (summary, shown) = run(&Arc::new(faulty()), directory.path(), &[]).await;
    assert_eq!((summary.exit, summary.totals.products.failed), (ExitCode::Partial, 1), "{summary}");
    assert!(summary.run.throttled > 5 && summary.run.retries > 20, "{summary}");
    assert!(summary.totals.credits.in_doubt > 3 && summary.totals.rows.rejected > 10, "{summary}");
    assert_same_in_the_first_run(&summary, &shown);
    assert!(shown.counter("throttle_wait_seconds") >= 5.0);
}

#[tokio::test(start_paused = true)]
async fn a_second_run_counts_from_zero_and_shows_the_whole_export() {
    let (directory, world) = (scratch(), Arc::new(faulty()));
    let (summary, shown) = run(&world, directory.path(), &[("max_credits", "90")]).await;
    assert_eq!(summary.exit, ExitCode::Limit, "{summary}");
    assert_same_in_the_first_run(&summary, &shown);
    world.restart();
    let (summary, shown) = run(&world, directory.path(), &[]).await;
    assert_eq!(summary.exit, ExitCode::Partial, "{summary}");
    assert_same(&summary, &shown);
    assert!(shown.counter("requests") < shown.gauge("export_credits"), "the first run's are not counted");
}

#[tokio::test(start_paused = true)]
async fn lists_that_turn_out_to_continue_are_not_counted_twice() {
    let world = World::new(every_size(120, 200)).hiding_one_in_some_pages(30, 5);
    let (directory, reopened) = (scratch(), Arc::new(Reopened::default()));
    let sink = Arc::<Reopened>::clone(&reopened);
    let (summary, shown) = run_with(&Arc::new(world), directory.path(), &[], sink).await;
    assert_eq!(summary.exit, ExitCode::Complete, "{summary}");
    assert!(reopened.0.load(Ordering::Relaxed) > 0, "{summary}");
    assert_same_in_the_first_run(&summary, &shown);
}
