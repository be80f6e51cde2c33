//! A small export that is always the same: four products with a list each, an endpoint of few columns and two regions.
//!
//! The exports of earlier formats under `tests/data/` were made from it, so its rows must not change.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pagehaul::api::{Fetch, FetchError, RawAnswer};
use pagehaul::error::{Error, ExitCode};
use pagehaul::export::export;
use pagehaul::page::{ItemId, Request};
use serde_json::json;

use crate::common::{Answer, Api, Gate, Home, Key, job, rows};

/// Products and their rows: pages that are short, full and empty, and a product that is refused.
pub(crate) const LISTS: [(&str, u32); 4] = [("101", 25), ("102", 14), ("103", 30), ("104", 0)];

/// Where what is kept lies.
pub(crate) fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}

/// The API that all of these exports were made from.
pub(crate) fn api(gate: Option<Arc<Gate>>) -> Api {
    Api::start(move |asked| {
        let answer = answer(&asked.product, asked.page);
        if let Some(gate) = gate.as_ref().filter(|_| answer.status == 200) {
            gate.pass(); // billed by now
        }
        answer
    })
}

/// What it answers.
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

/// The rows that an export must have: one text of each.
pub(crate) fn expected() -> BTreeMap<Key, String> {
    let all = LISTS.iter().flat_map(|(id, count)| (0..*count).map(move |at| (*id, at)));
    all.map(|(id, at)| ((id.to_owned(), format!("{id}{at:03}")), format!("row {at}"))).collect()
}

/// The rows that an output has.
pub(crate) fn found(out: &Path) -> BTreeMap<Key, String> {
    rows(out).into_iter().map(|(key, row)| (key, row["video_desc"].as_str().unwrap().to_owned())).collect()
}

/// A folder, in memory if possible, for an export of the four products.
pub(crate) fn home() -> Home {
    Home::in_memory(&LISTS.map(|(id, _)| id.to_owned()))
}

/// The endpoint's flag.
pub(crate) fn endpoint() -> String {
    format!("--endpoint={}", data().join("endpoint.toml").display())
}

/// An export of the four products; it ends with 3, because one of them is refused.
pub(crate) fn command(home: &Home, api: &Api, more: &[&str]) -> Command {
    home.export(&api.base_url(), &[&[endpoint().as_str()][..], more].concat())
}

/// Pages of a whole export.
pub(crate) const PAGES: usize = 9;

/// The API of the kept exports without a socket, that a function looks at before each answer: it is told how many pages
/// were billed.
struct Watched<F> {
    before: F,
    billed: AtomicUsize,
}

impl<F: Fn(usize) + Send + Sync + 'static> Fetch for Watched<F> {
    async fn fetch(&self, request: &Request) -> Result<RawAnswer, FetchError> {
        (self.before)(self.billed.load(Ordering::SeqCst));
        let Answer { status, body } = answer(request.id.as_str(), request.page.0);
        self.billed.fetch_add(usize::from(status == 200), Ordering::SeqCst);
        Ok(RawAnswer { status, retry_after: None, body: body.into(), share: None })
    }
}

/// How an export in this process ended, and how many pages it was billed.
pub(crate) async fn go_on(
    out: &Path,
    before: impl Fn(usize) + Send + Sync + 'static,
) -> (Result<ExitCode, Error>, usize) {
    let endpoint = data().join("endpoint.toml");
    let more = [("endpoint", endpoint.to_str().unwrap()), ("max_in_flight", "1"), ("segment_size", "1KiB")];
    let list = LISTS.map(|(id, _)| Ok(ItemId::new(id)));
    let api = Arc::new(Watched { before, billed: AtomicUsize::new(0) });
    let ended =
        export(&job(out, None, &more), Box::new(list.into_iter()), Arc::clone(&api), std::future::pending()).await;
    (ended.map(|summary| summary.exit), api.billed.load(Ordering::SeqCst))
}
