//! A small export that is always the same: four products with a list each, an endpoint with few columns, two regions.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pagehaul::error::{Error, ExitCode};
use pagehaul::output::error::OutputError;
use serde_json::json;

use super::scripted::{Scripted, run_job};
use super::{Answer, Api, DEADLINE, Gate, Home, Key, Program, context, rows, run};

/// Products and their rows: pages that are short, full and empty, and a product that is refused.
pub(crate) const LISTS: [(&str, u32); 4] = [("101", 25), ("102", 14), ("103", 30), ("104", 0)];

/// Where the endpoint's description is.
pub(crate) fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}

/// The API that serves the products.
pub(crate) fn api(gate: Option<Arc<Gate>>) -> Api {
    Api::start(move |request| {
        let answer = answer(&request.product, request.page);
        if let Some(gate) = gate.as_ref().filter(|_| answer.status == 200) {
            gate.pass(); // billed by now
        }
        answer
    })
}

/// Its response to a request.
pub(crate) fn answer(product: &str, page: u32) -> Answer {
    let Some((_, count)) = LISTS.iter().find(|(id, count)| *id == product && *count > 0) else {
        return Answer::refusal(400, "no such product");
    };
    let positions = (page - 1) * 10..(page * 10).min(*count);
    Answer::page(&positions.map(|at| row(product, at).to_string()).collect::<Vec<_>>())
}

fn row(product: &str, at: u32) -> serde_json::Value {
    let region = if at.is_multiple_of(2) { "ID" } else { "TH" };
    json!({ "video_id": format!("{product}{at:03}"), "product_id": product, "region": region, "video_desc": format!("row {at}") })
}

/// The rows that an export must have, each with its text.
pub(crate) fn expected() -> BTreeMap<Key, String> {
    let all = LISTS.iter().flat_map(|(id, count)| (0..*count).map(move |at| (*id, at)));
    all.map(|(id, at)| ((id.to_owned(), format!("{id}{at:03}")), format!("row {at}"))).collect()
}

/// The rows of an output.
pub(crate) fn found(out: &Path) -> BTreeMap<Key, String> {
    rows(out).into_iter().map(|(key, row)| (key, row["video_desc"].as_str().unwrap().to_owned())).collect()
}

/// A directory, in memory if possible, for an export of the four products.
pub(crate) fn home() -> Home {
    Home::new(&LISTS.map(|(id, _)| id.to_owned()))
}

/// The endpoint's flag.
pub(crate) fn endpoint() -> String {
    format!("--endpoint={}", data().join("endpoint.toml").display())
}

/// An export of the four products; it ends with 3, because one of them is refused.
pub(crate) fn command(home: &Home, api: &Api, more: &[&str]) -> Command {
    home.export(&api.base_url(), &[&[endpoint().as_str()][..], more].concat())
}

/// An export that stopped half way: one segment is published, two requests are in doubt, and pages wait in the journal of the
/// second segment.
pub(crate) fn half_way() -> Home {
    let home = home();
    let export = |api: &Api, more: &[&str]| command(&home, api, more);
    run(export(&api(None), &["--max-credits", "2", "--max-in-flight", "1"])).ended(6);
    let (gate, waiting) = Gate::new(1);
    let gated_api = api(Some(Arc::clone(&gate)));
    let program = Program::start(export(&gated_api, &["--max-in-flight", "2"]));
    waiting.recv_timeout(DEADLINE).unwrap();
    waiting.recv_timeout(DEADLINE).unwrap();
    program.kill();
    gate.open();
    let (gate, waiting) = Gate::new(3);
    let gated_api = api(Some(Arc::clone(&gate)));
    let mut program = Program::start(export(&gated_api, &["--max-in-flight", "2"]));
    waiting.recv_timeout(DEADLINE).unwrap();
    program.signal("INT");
    program.wait_for_line("stopping");
    gate.open();
    program.end().ended(130);
    home
}

/// Pages of a whole export.
pub(crate) const PAGES: usize = 9;

/// How an export in this process ended, in virtual time, and how many pages it was billed. `before` is called before each
/// response, with the number of pages billed so far.
pub(crate) async fn resume(
    out: &Path,
    before: impl Fn(usize) + Send + Sync + 'static,
) -> (Result<ExitCode, Error>, usize) {
    let before = Arc::new(before);
    loop {
        let (ended, billed) = resume_once(out, Arc::clone(&before)).await;
        // A child that another test is starting shares the locks of this process until its exec.
        if !matches!(ended, Err(Error::Output(OutputError::Busy { .. }))) {
            return (ended, billed);
        }
    }
}

async fn resume_once(
    out: &Path,
    before: Arc<impl Fn(usize) + Send + Sync + 'static>,
) -> (Result<ExitCode, Error>, usize) {
    let endpoint = data().join("endpoint.toml");
    let more = [("endpoint", endpoint.to_str().unwrap()), ("max_in_flight", "1"), ("segment_size", "1KiB")];
    let billed = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&billed);
    let api = Scripted::new(move |sent| {
        before(counter.load(Ordering::SeqCst));
        let answer = answer(&sent.id, sent.page);
        counter.fetch_add(usize::from(answer.status == 200), Ordering::SeqCst);
        answer.into()
    });
    let ended = run_job(&context(out, None, &more), &api, &LISTS.map(|(id, _)| id.to_owned())).await;
    (ended.map(|summary| summary.exit), billed.load(Ordering::SeqCst))
}
