//! `pagehaul status`: what is done, left, failed and in doubt, while a run continues and after, with nothing changed for it.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use crate::common::{Answer, Api, DEADLINE, Gate, Home, Program, Run, ids, pagehaul, run, simulator, tree};
use pagehaul::model::page::SegmentId;
use pagehaul::state::ledger::Ledger;
use rusqlite::Connection;
use serde_json::Value;

fn status(out: &Path, more: &[&str]) -> Run {
    let mut command = pagehaul(["status", "--out", out.to_str().unwrap()]);
    command.args(more);
    run(command)
}

/// What it says as JSON. The text must say the same, and whole, since nobody's terminal cuts it; and nothing may be changed.
fn status_of(out: &Path) -> Value {
    let before = tree(out);
    let (json, text) = (status(out, &["--json"]), status(out, &[]));
    assert!(tree(out) == before, "status changed something");
    let value = json.ended(0);
    assert_eq!((json.stderr.as_str(), json.stdout.lines().count()), ("", 1));
    assert_eq!((text.code, text.stderr.as_str()), (Some(0), ""), "{text}");
    let lines: Vec<&str> = text.stdout.lines().collect();
    assert!(lines.len() <= 24, "{text}");
    assert!(lines.contains(&format!("  output    {}", out.display()).as_str()), "{text}");
    let next = value["next"].as_str().map(|next| format!("  next      {next}"));
    assert!(next.is_none_or(|next| next.len() <= 80 && lines.contains(&next.as_str())), "{text}");
    for reason in value["reasons"].as_array().unwrap() {
        assert!(text.stdout.contains(reason["error"].as_str().unwrap_or_default()), "{text}");
    }
    assert!(lines[0].starts_with(value["status"].as_str().unwrap()), "{text}");
    assert!(!text.stdout.chars().any(|c| c.is_control() && c != '\n'), "{text}");
    value
}

/// An export that does not move: 30 pages are in its journal, and the API keeps back the six requests that are in flight.
struct Waiting {
    home: Home,
    api: Api,
    gate: Arc<Gate>,
    program: Program,
}

fn waiting() -> Waiting {
    let simulator = simulator("products=40,max_videos=90,seed=3");
    let (api, gate, waiting) = Api::gated(&simulator, 30);
    let home = Home::new(&ids(&simulator));
    let program = Program::start(home.export(&api.base_url(), &["--max-in-flight", "6"]));
    for _ in 0..6 {
        waiting.recv_timeout(DEADLINE).unwrap();
    }
    // What the last answers brought becomes known right after the requests that they led to have left.
    let ledger = Ledger::open_read_only(&home.out().join("_pagehaul/ledger.sqlite")).unwrap();
    while ledger.segment_sums(SegmentId(1)).unwrap().unread > 0 {}
    Waiting { home, api, gate, program }
}

#[test]
fn a_running_export_is_seen_with_its_process_and_its_requests_and_continues_undisturbed() {
    let Waiting { home, api: _api, gate, program } = waiting();
    // All six slots wait: nothing moves until the gate opens, and so nothing may change while it is checked.
    let value = status_of(&home.out());
    assert_eq!(
        (&value["status"], &value["in_flight"], &value["credits"]["in_doubt"]),
        (&"running".into(), &6.into(), &0.into())
    );
    assert!(value["holder"].as_str().unwrap().starts_with("process "), "{value}");
    assert_eq!((&value["products"]["total"], &value["pages"]["journaled"]), (&40.into(), &30.into()));
    assert_eq!((&value["credits"]["billed"], &value["pages"]["waiting"]), (&30.into(), &30.into()));
    assert!(value["walking"].as_u64().unwrap() > 0 && value["segments"]["open_bytes"].as_u64().unwrap() > 0, "{value}");
    gate.open();
    let summary = program.end().ended(0);
    assert_same_words(&status_of(&home.out()), &summary);
}

/// Fails unless a status says the same as a summary wherever both say something.
fn assert_same_words(status: &Value, summary: &Value) {
    for word in ["export", "out", "products", "pages", "rows", "regions", "files", "bytes", "failures"] {
        assert_eq!(status[word], summary[word], "{word}");
    }
    for word in ["billed", "free", "in_doubt"] {
        assert_eq!(status["credits"][word], summary["credits"][word], "{word}");
    }
}

#[test]
fn attempts_of_a_killed_run_are_in_doubt_before_anybody_has_resumed_it() {
    let Waiting { home, api, gate, program } = waiting();
    program.kill();
    assert!(home.out().join("_pagehaul/ledger.sqlite-wal").exists(), "the ledger was not closed");
    let value = status_of(&home.out());
    assert_eq!(
        (&value["status"], &value["holder"], &value["in_flight"]),
        (&"unfinished".into(), &Value::Null, &0.into())
    );
    assert_eq!((&value["credits"]["in_doubt"], &value["credits"]["billed"]), (&6.into(), &30.into()));
    assert!(value["next"].as_str().unwrap().contains("resumes"), "{value}");
    assert!(value["complete_since"].is_null(), "{value}");
    gate.open();
    let summary = run(home.export(&api.base_url(), &[])).ended(0);
    let value = status_of(&home.out());
    assert_eq!((&value["status"], &value["credits"]["in_doubt"]), (&"complete".into(), &6.into()));
    assert!(value["complete_since"].is_string() && value["next"].is_null(), "{value}");
    assert_eq!(value["complete_since"], summary["complete_since"], "the run that completes an export says when");
    assert_same_words(&value, &summary);
}

#[test]
fn a_log_whose_index_is_gone_is_read_all_the_same_and_only_the_index_is_made() {
    let Waiting { home, api: _api, gate, program } = waiting();
    program.kill();
    gate.open();
    let index = home.out().join("_pagehaul/ledger.sqlite-shm");
    fs::remove_file(&index).unwrap();
    let before = tree(&home.out());
    let value = status(&home.out(), &["--json"]).ended(0);
    assert_eq!(value["pages"]["journaled"], 30);
    let mut after = tree(&home.out());
    after.remove("_pagehaul/ledger.sqlite-shm");
    assert!(after == before);
}

#[test]
fn waiting_ends_when_the_run_has_ended_and_takes_over_its_exit_code() {
    let Waiting { home, api: _api, gate, program } = waiting();
    let mut waiting = Program::start(pagehaul(["status", "--out", &home.argument("out"), "--wait", "--json"]));
    waiting.wait_for_line("waiting for process ");
    gate.open();
    let (summary, waited) = (program.end().ended(0), waiting.end());
    assert_eq!((waited.ended(0)["status"].as_str(), waited.stdout.lines().count()), (Some("complete"), 1));
    assert_same_words(&waited.json(), &summary);
    assert_eq!(status(&home.out(), &["--wait", "1h"]).code, Some(0), "nothing is left to wait for");
}

#[test]
fn waiting_ends_after_its_time_with_4_and_at_a_signal_with_its_code_and_the_run_continues() {
    let Waiting { home, api: _api, gate, program } = waiting();
    let value = status(&home.out(), &["--json", "--wait", "10ms"]).ended(4);
    assert_eq!((&value["status"], &value["in_flight"]), (&"running".into(), &6.into()));
    let text = status(&home.out(), &["--wait", "10ms"]);
    assert!(text.code == Some(4) && text.stdout.starts_with("running, process "), "{text}");
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let mut waiting = Program::start(pagehaul(["status", "--out", &home.argument("out"), "--wait", "--json"]));
        waiting.wait_for_line("waiting for process ");
        waiting.signal(signal);
        waiting.end().ended(code);
    }
    gate.open();
    program.end().ended(0);
}

#[test]
fn what_is_waited_for_after_a_crash_is_unknown_and_a_summary_of_an_earlier_run_says_nothing_about_it() {
    let Waiting { home, api, gate, program } = waiting();
    program.kill();
    assert_eq!(status(&home.out(), &["--wait", "--json"]).ended(5)["status"], "unfinished");
    gate.open();
    run(home.export(&api.base_url(), &["--max-credits", "50"])).ended(6);
    assert_eq!(status(&home.out(), &["--wait", "--json"]).ended(6)["status"], "unfinished");
    let mut command = home.export(&api.base_url(), &[]);
    command.env("TEST_STEP", "30:kill");
    assert_eq!(run(command).code, None, "it was killed");
    status(&home.out(), &["--wait", "--json"]).ended(5);
    run(home.export(&api.base_url(), &[])).ended(0);
    status(&home.out(), &["--wait", "--json"]).ended(0);
}

#[test]
fn products_that_failed_are_counted_by_reason_and_what_a_server_says_is_harmless_to_show() {
    let simulator = simulator("products=12,max_videos=25");
    let list = ids(&simulator);
    let (one, others) = (list[3].clone(), list[6..9].to_vec());
    let api = Api::start({
        let simulator = Arc::clone(&simulator);
        move |request| match &request.product {
            product if *product == one => Answer::refusal(
                400,
                "\u{1b}]0;pwned\u{7}\nnot\u{202e} found ☺字字字字字字字字字字字字字字字字字字字字字",
            ),
            product if others.contains(product) => Answer::refusal(400, "no such product"),
            _ => Answer::from_simulator(&simulator, request),
        }
    });
    let home = Home::new(&list);
    let summary = run(home.export(&api.base_url(), &[])).ended(3);
    let value = status_of(&home.out());
    assert_eq!((&value["status"], &value["products"]["failed"]), (&"partial".into(), &4.into()));
    status(&home.out(), &["--json", "--wait"]).ended(3);
    assert_same_words(&value, &summary);
    let reasons = value["reasons"].as_array().unwrap();
    assert_eq!((reasons.len(), &reasons[0]["products"], &reasons[0]["first"]), (2, &3.into(), &list[6].clone().into()));
    assert_eq!((&reasons[1]["products"], &reasons[1]["stop_reason"]), (&1.into(), &"failed".into()));
    let text = status(&home.out(), &[]).stdout;
    assert!(text.contains("3 × failed") && text.contains("no such product"), "{text}");
    assert!(!text.contains('\u{202e}') && !text.contains('\u{1b}'), "{text}");
}

#[test]
fn where_there_is_no_export_it_says_so_and_makes_nothing() {
    let home = Home::new(&[]);
    fs::create_dir(home.path("empty")).unwrap();
    for (out, more) in
        [("missing", &[][..]), ("empty", &[]), ("empty", &["--json"]), ("missing", &["--json", "--wait"])]
    {
        let run = status(&home.path(out), more);
        assert_eq!(run.code, Some(2), "{run}");
        assert!(run.stderr.starts_with("error: there is no export in that directory"), "{run}");
        assert_eq!(run.stdout.is_empty(), more.is_empty(), "{run}");
    }
    assert_eq!(run(pagehaul(["status"])).code, Some(2));
    assert!(!home.path("missing").exists() && tree(&home.path("empty")).is_empty());
}

#[test]
fn a_damaged_ledger_is_exit_9_and_left_as_it_is() {
    let simulator = simulator("products=4,max_videos=25");
    let server = pagehaul::simulator::start(Arc::clone(&simulator)).unwrap();
    let home = Home::new(&ids(&simulator));
    run(home.export(&server.base_url(), &[])).ended(0);
    let path = home.out().join("_pagehaul/ledger.sqlite");
    let whole = fs::read(&path).unwrap();
    let mut damaged =
        vec![whole[..5_000].to_vec(), b"no database at all, but longer than a header".repeat(9), Vec::new()];
    let mut zeroed = whole.clone();
    zeroed[4_096..].fill(0);
    damaged.push(zeroed);
    for bytes in damaged {
        fs::write(&path, &bytes).unwrap();
        let before = tree(&home.out());
        let run = status(&home.out(), &["--json"]);
        assert!(run.ended(9)["cause"].is_string(), "{run}");
        assert!(tree(&home.out()) == before);
    }
    fs::write(&path, &whole).unwrap();
    let newer = Connection::open(&path).unwrap();
    newer.execute_batch("PRAGMA user_version = 99").unwrap();
    drop(newer);
    let run = status(&home.out(), &["--json"]);
    assert!(run.ended(9)["cause"].as_str().unwrap().contains("format 99"), "{run}");
}
