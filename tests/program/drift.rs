//! Responses that differ from the endpoint's description: counts, warnings, and that a crash changes no count.

use std::process::Command;

use crate::common::{Answer, Api, Home, run};
use serde_json::{Value, json};

/// An endpoint of four columns.
const DESCRIPTION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/endpoint.toml");

fn export(home: &Home, api: &Api, more: &[&str]) -> Command {
    home.export(&api.base_url(), &[&["--endpoint", DESCRIPTION], more].concat())
}

/// An API whose rows differ from their description: of each product's 25 rows, `odd` have an object for a text, and each has
/// the unknown field `new`.
fn api(odd: u32, new: &'static str) -> Api {
    Api::start(move |request| {
        let rows = (request.page - 1) * 10..(request.page * 10).min(25);
        let row = |at: u32| {
            let text = if at < odd { json!({ "text": at }) } else { json!("fine") };
            let mut row = json!({
                "video_id": format!("{}{at:03}", request.product), "product_id": request.product, "region": "ID", "video_desc": text,
            });
            if !new.is_empty() {
                row[new] = at.into();
            }
            row.to_string()
        };
        Answer::page(&rows.map(row).collect::<Vec<_>>())
    })
}

fn home() -> Home {
    Home::new(&(100..108).map(|id: u32| id.to_string()).collect::<Vec<_>>())
}

fn summary_file(home: &Home) -> Value {
    serde_json::from_slice(&std::fs::read(home.path("out/_pagehaul/summary.json")).unwrap()).unwrap()
}

#[test]
fn what_differs_is_counted_over_all_runs_and_one_warning_names_it() {
    let (home, api) = (home(), api(2, "share\u{1b}_cnt"));
    run(export(&home, &api, &["--max-credits", "7"])).ended(6);
    let ended = run(export(&home, &api, &[]));
    let drift = &ended.ended(0)["drift"];
    assert_eq!(drift["misfits"], json!({ "video_desc": 16 }), "{ended}");
    assert_eq!(drift["new_fields"], json!({ "share\u{fffd}_cnt": 200 }), "{ended}");
    assert_eq!((&drift["never_came"], &summary_file(&home)["drift"]), (&json!([]), drift), "{ended}");
    let warnings: Vec<_> = ended.stderr.lines().filter(|line| line.contains("WARN")).collect();
    let message = "values that did not fit: video_desc (16); new fields: share\u{fffd}_cnt (200)";
    assert!(warnings.len() == 1 && warnings[0].contains(message), "{ended}");
    assert!(ended.stderr.contains(&format!("\n  drift     {message}\n")), "{ended}");
    assert!(home.path("out/_SUCCESS").exists());
}

#[test]
fn answers_as_described_or_nearly_so_are_no_reason_for_a_warning() {
    for (odd, misfits) in [(0, json!({})), (1, json!({ "video_desc": 1 }))] {
        let home = Home::new(&["100".to_owned()]);
        // 25 rows: one is more than 1 % of them.
        let api = api(odd, "");
        let ended = run(export(&home, &api, &["--fail-on-drift"]));
        assert_eq!(ended.ended(if odd == 0 { 0 } else { 10 })["drift"]["misfits"], misfits, "{ended}");
        assert_eq!(ended.stderr.contains("drift"), odd > 0, "{ended}");
    }
}

#[test]
fn drift_fails_a_run_only_where_that_is_requested_and_its_output_is_valid_and_published() {
    let (home, api) = (home(), api(9, ""));
    let failed = run(export(&home, &api, &["--fail-on-drift"]));
    let summary = failed.ended(10);
    assert!(summary["cause"].as_str().unwrap().contains("video_desc (72)"), "{failed}");
    assert_eq!((&summary["rows"]["published"], &summary["complete_since"]), (&200.into(), &Value::Null), "{failed}");
    assert!(!home.path("out/_SUCCESS").exists());
    let requested = api.requests();
    run(export(&home, &api, &[])).ended(0);
    assert!(home.path("out/_SUCCESS").exists());
    run(export(&home, &api, &["--fail-on-drift"])).ended(10);
    assert!(!home.path("out/_SUCCESS").exists());
    run(crate::common::pagehaul(["verify", "--out", &home.argument("out")])).ended(0);
    assert_eq!(api.requests(), requested, "nothing was requested again");
}

#[test]
fn a_described_field_that_never_came_is_named_and_a_replay_under_a_right_description_is_content() {
    let (home, api) = (home(), api(0, "caption"));
    let described = std::fs::read_to_string(DESCRIPTION).unwrap();
    let wrong =
        home.file("wrong.toml", described.replace("name = \"video_desc\"", "name = \"video_title\"").as_bytes());
    let caption = "[[column]]\nname = \"caption\"\njson = \"number\"\ntype = \"int64\"\nmeaning = \"A number.\"\nfake = \"{int:1-9}\"\n\n[fake]";
    let right = home.file("right.toml", described.replace("[fake]", caption).as_bytes());
    let export = home.export(&api.base_url(), &["--endpoint", &wrong, "--fail-on-drift", "--segment-size", "1KiB"]);
    let failed = run(export);
    let drift = &failed.ended(10)["drift"];
    assert_eq!(drift["never_came"], json!(["video_title"]), "{failed}");
    assert_eq!(drift["new_fields"], json!({ "caption": 200, "video_desc": 200 }), "{failed}");
    assert!(failed.stderr.contains("never came: video_title"), "{failed}");
    let out = home.argument("out");
    let replayed = run(crate::common::pagehaul(["replay", "--out", &out, "--endpoint", &right, "--fail-on-drift"]));
    assert_eq!(replayed.ended(0)["drift"], json!({ "misfits": {}, "new_fields": {}, "never_came": [] }), "{replayed}");
    assert!(home.path("out/_SUCCESS").exists());
}

#[test]
fn one_value_that_does_not_fit_is_worth_a_warning_in_identity_and_partition() {
    for field in ["region", "video_id"] {
        let api = Api::start(move |request| {
            let row = |at: u32| {
                let mut row = json!({
                    "video_id": format!("{}{}", request.product, request.page * 10 + at), "product_id": request.product,
                    "region": "ID", "video_desc": "fine",
                });
                if request.product == "100" && request.page == 1 && at == 3 {
                    row[field] = json!(["x"]);
                }
                row.to_string()
            };
            Answer::page(&(0..if request.page < 10 { 10 } else { 0 }).map(row).collect::<Vec<_>>())
        });
        let home = home();
        let ended = run(export(&home, &api, &[]));
        assert_eq!(ended.ended(0)["drift"]["misfits"], json!({ field: 1 }), "{ended}");
        assert!(ended.stderr.contains(&format!("values that did not fit: {field} (1)")), "{ended}");
    }
}

#[test]
#[cfg(debug_assertions)]
fn a_kill_at_any_step_changes_no_count() {
    const STRIDE: usize = 5;
    let counted = |home: &Home, api: &Api, step: usize| {
        let more = ["--max-in-flight", "1", "--segment-size", "1KiB", "--page-size", "10"];
        let mut command = export(home, api, &more);
        command.env("TEST_STEP", format!("{step}:kill"));
        let code = run(command).code;
        let ended = run(export(home, api, &more));
        (code, ended.ended(0)["drift"].clone())
    };
    let list: Vec<String> = (100..102).map(|id: u32| id.to_string()).collect();
    let expected = json!({ "misfits": { "video_desc": 8 }, "new_fields": { "new": 50 }, "never_came": [] });
    let mut kills = 0;
    for step in (1..).step_by(STRIDE) {
        let (home, api) = (Home::new(&list), api(4, "new"));
        let (code, drift) = counted(&home, &api, step);
        assert_eq!(drift, expected, "killed at step {step}");
        if code == Some(0) {
            break;
        }
        kills += 1;
    }
    assert!(kills > 20, "{kills} kills show little");
}
