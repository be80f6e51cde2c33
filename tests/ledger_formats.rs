//! Ledgers of earlier formats, kept under `tests/data/`: each is an export that stopped half way, and is finished here.
//!
//! `cargo test --test ledger_formats -- --ignored` makes the folder of the present format, before the next one replaces it.

#![cfg(unix)]
#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "what helps a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::{Answer, Api, DEADLINE, Gate, Home, Key, Program, rows, run};
use serde_json::json;

/// Products and their rows: pages that are short, full and empty, and a product that is refused.
const LISTS: [(&str, u32); 4] = [("101", 25), ("102", 14), ("103", 30), ("104", 0)];

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}

/// The API that all of these exports were made from.
fn api(gate: Option<Arc<Gate>>) -> Api {
    Api::start(move |asked| {
        if asked.product == "104" {
            return Answer::refusal(400, "no such product");
        }
        let count = LISTS.iter().find(|(id, _)| *id == asked.product).unwrap().1;
        let positions = (asked.page - 1) * 10..(asked.page * 10).min(count);
        let answer = Answer::page(&positions.map(|at| row(&asked.product, at).to_string()).collect::<Vec<_>>());
        if let Some(gate) = &gate {
            gate.pass(); // billed by now
        }
        answer
    })
}

fn row(product: &str, at: u32) -> serde_json::Value {
    let region = if at % 2 == 0 { "ID" } else { "TH" };
    json!({ "video_id": format!("{product}{at:03}"), "product_id": product, "region": region, "video_desc": format!("row {at}") })
}

fn expected() -> BTreeMap<Key, String> {
    let all = LISTS.iter().flat_map(|(id, count)| (0..*count).map(move |at| (*id, at)));
    all.map(|(id, at)| ((id.to_owned(), format!("{id}{at:03}")), format!("row {at}"))).collect()
}

/// An export of the four products.
fn home() -> (Home, [String; 2]) {
    let home = Home::new(&LISTS.map(|(id, _)| id.to_owned()));
    (home, ["--endpoint".to_owned(), data().join("endpoint.toml").to_str().unwrap().to_owned()])
}

fn copy(from: &Path, to: &Path) {
    let copied = std::process::Command::new("cp").arg("-r").args([from, to]).status().unwrap();
    assert!(copied.success(), "{} could not be copied", from.display());
}

#[test]
fn an_export_of_every_earlier_format_goes_on_and_no_page_of_its_journal_is_asked_for_again() {
    let mut formats = 0;
    for folder in std::fs::read_dir(data()).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()) {
        let (home, endpoint) = home();
        copy(&folder, &home.out());
        let api = api(None);
        let summary = run(home.export(&api.base_url(), &endpoint.each_ref().map(String::as_str))).ended(3);
        let found =
            rows(&home.out()).into_iter().map(|(key, row)| (key, row["video_desc"].as_str().unwrap().to_owned()));
        assert_eq!(found.collect::<BTreeMap<_, _>>(), expected(), "{}", folder.display());
        let asked: Vec<_> = api.asked().into_keys().map(|(product, page)| format!("{product} {page}")).collect();
        assert_eq!(asked, ["103 2", "103 3", "103 4", "104 1"], "{}", folder.display());
        assert_eq!(
            (&summary["credits"]["billed"], &summary["credits"]["in_doubt"]),
            (&9.into(), &2.into()),
            "{summary}"
        );
        formats += 1;
    }
    assert!(formats > 0, "nothing is kept");
}

#[test]
#[ignore = "makes the folder of the present format, once"]
fn make_the_folder_of_the_present_format() {
    let (home, endpoint) = home();
    let endpoint = endpoint.each_ref().map(String::as_str);
    let export = |api: &Api, more: &[&str]| home.export(&api.base_url(), &[&endpoint[..], more].concat());
    // One segment is published.
    run(export(&api(None), &["--max-credits", "2", "--max-in-flight", "1"])).ended(6);
    // Two requests are in doubt.
    let (gate, held) = Gate::new(0);
    let held_api = api(Some(gate));
    let program = Program::start(export(&held_api, &["--max-in-flight", "2"]));
    held.recv_timeout(DEADLINE).unwrap();
    held.recv_timeout(DEADLINE).unwrap();
    program.kill();
    // Some pages wait in the journal of the second.
    let (gate, held) = Gate::new(3);
    let held_api = api(Some(Arc::clone(&gate)));
    let mut program = Program::start(export(&held_api, &["--max-in-flight", "2"]));
    held.recv_timeout(DEADLINE).unwrap();
    program.signal("INT");
    program.wait_for_line("stopping");
    gate.open();
    program.end().ended(130);
    copy(&home.out(), &data().join("ledger-new"));
}
