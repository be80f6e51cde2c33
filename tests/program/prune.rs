//! `pagehaul prune` and `--journal until-published`: journal files go when nothing but a replay would read them again, and nothing
//! else changes.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{
    Answer, Api, DEADLINE, Gate, Home, Program, Run, Served, assert_no_page_billed_twice, assert_rows, copy, expected,
    files, ids, manifests, pagehaul, run, simulator, tree,
};
use serde_json::{Value, json};

const WORLD: &str = "products=8,max_videos=28";
/// Flags that make several segments of it.
const SMALL: [&str; 4] = ["--max-in-flight", "1", "--segment-size", "4KiB"];
const UNTIL_PUBLISHED: [&str; 2] = ["--journal", "until-published"];

/// The journal files of an export, without that of a segment that has no page yet.
fn journals(out: &Path) -> BTreeSet<String> {
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    let has_pages = |path: &&PathBuf| fs::metadata(path).unwrap().len() > 0;
    files(&out.join("_pagehaul/journal")).iter().filter(has_pages).map(|path| name(path)).collect()
}

/// A command of the program about an export.
fn about(home: &Home, command: &str, more: &[&str]) -> Command {
    let mut command = pagehaul([command, "--out", &home.argument("out")]);
    command.args(more);
    command
}

fn prune(home: &Home, older_than: &str, more: &[&str]) -> Run {
    run(about(home, "prune", &[&["--older-than", older_than], more].concat()))
}

/// A report of `verify` that finds nothing, with this number of pruned segments.
fn assert_sound(home: &Home, pruned: usize) {
    let verified = run(about(home, "verify", &[]));
    let report = verified.ended(0);
    assert_eq!((&report["differences"], &report["rows"]["conserved"]), (&0.into(), &true.into()), "{verified}");
    assert_eq!(report["read"]["pruned"], pruned, "{verified}");
    assert_eq!(verified.stderr.contains("without journal"), pruned > 0, "{verified}");
}

/// What is in an output and the journal: all but the lock and SQLite's files.
fn content(home: &Home) -> std::collections::BTreeMap<String, Vec<u8>> {
    let mut tree = tree(&home.out());
    tree.retain(|name, _| !name.contains("ledger.sqlite") && !name.ends_with("/lock"));
    tree
}

/// The same without the journal.
fn published(home: &Home) -> std::collections::BTreeMap<String, Vec<u8>> {
    let mut content = content(home);
    content.retain(|name, _| !name.contains("/journal/"));
    content
}

/// A complete export in several segments, and their number.
fn exported(more: &[&str]) -> (Served, usize) {
    let served = Served::start(WORLD);
    run(served.home.export(&served.server.base_url(), &[&SMALL, more].concat())).ended(0);
    let segments = manifests(&served.home.out()).len();
    assert!(segments > 2, "few segments show little");
    (served, segments)
}

/// The same command again: it must send nothing.
fn assert_still_complete(served: &Served, more: &[&str]) {
    let sent = served.simulator.account().requests;
    let again = run(served.home.export(&served.server.base_url(), &[&SMALL, more].concat())).ended(0);
    assert!(again["complete_since"].is_string() && served.simulator.account().requests == sent, "{again}");
    assert_rows(&served.home.out(), &expected(&served.simulator, &served.ids, 10));
}

#[test]
fn a_complete_export_without_its_journal_is_sound_and_complete_and_says_what_ended() {
    let (served, segments) = exported(&[]);
    let home = &served.home;
    let (before, bytes) = (content(home), files(&home.out().join("_pagehaul/journal")));
    let bytes: u64 = bytes.iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    let all: Vec<usize> = (1..=segments).collect();

    let dry = prune(home, "0s", &["--dry-run"]);
    let report = dry.ended(0);
    assert_eq!((&report["status"], &report["dry_run"]), (&"would_prune".into(), &true.into()), "{dry}");
    assert!(dry.stderr.contains("nothing is removed") && content(home) == before, "{dry}");
    let young = prune(home, "30d", &[]);
    let nothing = young.ended(0);
    assert_eq!((&nothing["status"], &nothing["files"]), (&"nothing_to_prune".into(), &0.into()), "{young}");
    assert_eq!((&nothing["kept"], &nothing["ends"]), (&json!({ "recent": segments }), &Value::Null), "{young}");
    assert!(young.stderr.starts_with("nothing to prune\n") && content(home) == before, "{young}");

    let pruned = prune(home, "0s", &[]);
    let report = pruned.ended(0);
    assert_eq!((&report["status"], &report["exit_code"]), (&"pruned".into(), &0.into()), "{pruned}");
    assert_eq!((&report["files"], &report["bytes"]), (&segments.into(), &bytes.into()), "{pruned}");
    assert_eq!((&report["segments"], &report["kept"]), (&json!(all), &json!({})), "{pruned}");
    assert!(report["ends"].as_str().unwrap().contains("replay"), "{pruned}");
    assert!(pruned.stderr.contains(&format!("  segments  1-{segments}\n")), "{pruned}");
    assert!(journals(&home.out()).is_empty());
    assert_sound(home, segments);
    let status = run(about(home, "status", &["--json"])).ended(0);
    assert_eq!((&status["status"], &status["segments"]["pruned"]), (&"complete".into(), &segments.into()));
    let text = run(about(home, "status", &[])).stdout;
    assert!(text.contains(&format!("{segments} published ({segments} without journal)")), "{text}");
    assert_still_complete(&served, &[]);
    let again = prune(home, "0s", &[]).ended(0);
    assert_eq!((&again["status"], &again["pruned_before"]), (&"nothing_to_prune".into(), &segments.into()));
    assert_still_complete(&served, &UNTIL_PUBLISHED);
    assert_no_page_billed_twice(&[&served.simulator]);
}

#[test]
fn a_replay_that_needs_a_removed_file_is_refused_before_anything_is_changed_and_any_other_works() {
    let (served, segments) = exported(&[]);
    let home = &served.home;
    prune(home, "0s", &[]).ended(0);
    let before = content(home);
    for more in [&["--all"][..], &["--drop-columns", "ratio"], &["--partition-in-files"]] {
        let refused = run(about(home, "replay", more));
        let cause = refused.ended(9)["cause"].as_str().unwrap().to_owned();
        assert!(cause.contains("were removed") && cause.contains(&format!("1-{segments}")), "{refused}");
        assert!(refused.stderr.contains("  next: nothing was changed; keep the columns"), "{refused}");
        assert!(content(home) == before, "{more:?}");
    }
    assert_eq!(run(about(home, "replay", &[])).ended(0)["rebuilt"], 0, "all files are right");
    // A manifest is in the ledger, too.
    let manifest = home.out().join("_pagehaul/segments/000001.json");
    fs::remove_file(&manifest).unwrap();
    run(about(home, "replay", &[])).ended(0);
    assert!(manifest.exists());

    let file = manifests(&home.out())[1]["files"][0]["path"].as_str().unwrap().to_owned();
    fs::write(home.out().join(&file), "PAR1").unwrap();
    let before = content(home);
    let refused = run(about(home, "replay", &[]));
    let cause = refused.ended(9)["cause"].as_str().unwrap().to_owned();
    assert!(cause.contains("segment 2 must be rebuilt") && cause.contains(&file), "{refused}");
    assert!(content(home) == before);
    let found = run(about(home, "verify", &[]));
    let report = found.ended(9);
    let next = report["next"].as_array().unwrap();
    assert!(next.len() == 1 && next[0].as_str().unwrap().contains("journal files of these segments"), "{found}");
}

#[test]
fn a_product_that_failed_is_retried_and_a_later_one_is_added_without_the_journal_of_the_others() {
    let simulator = simulator(WORLD);
    let list = ids(&simulator);
    let dead = list[2].clone();
    let refused =
        Api::but(&simulator, move |request| (request.product == dead).then(|| Answer::refusal(400, "no such product")));
    let home = Home::new(&list[..4]);
    run(home.export(&refused.base_url(), &SMALL)).ended(3);
    let published = manifests(&home.out()).len();
    let report = prune(&home, "0s", &[]).ended(0);
    assert_eq!(report["files"], published, "a refusal without rows is judged: {report}");
    assert_sound(&home, published);
    let api = Api::from_simulator(&simulator);
    run(home.export(&api.base_url(), &SMALL)).ended(3);
    assert_eq!(api.requests(), 0, "what failed for good fails without a request");
    home.file("list.txt", list.join("\n").as_bytes());
    run(home.export(&api.base_url(), &[&SMALL[..], &["--retry-failed"]].concat())).ended(0);
    assert_rows(&home.out(), &expected(&simulator, &list, 10));
    assert_no_page_billed_twice(&[&simulator]);
    assert_sound(&home, published);
    let left = journals(&home.out()).len();
    assert!(left > 0);
    assert_eq!(prune(&home, "0s", &[]).ended(0)["files"], left);
    assert_sound(&home, manifests(&home.out()).len());
}

#[test]
fn the_journal_of_an_export_that_was_stopped_goes_as_far_as_it_is_published_and_the_rest_resumes() {
    let served = Served::start(WORLD);
    let (home, url) = (&served.home, served.server.base_url());
    let (gate, waiting) = Gate::new(9);
    let gated = {
        let (simulator, gate) = (std::sync::Arc::clone(&served.simulator), std::sync::Arc::clone(&gate));
        Api::but(&simulator, move |_| {
            gate.pass();
            None
        })
    };
    let program = Program::start(home.export(&gated.base_url(), &SMALL));
    waiting.recv_timeout(DEADLINE).unwrap();
    let busy = prune(home, "0s", &[]);
    assert!(busy.ended(4)["cause"].as_str().unwrap().contains("another process works on this export"), "{busy}");
    assert!(prune(home, "0s", &["--dry-run"]).ended(4)["cause"].is_string());
    program.kill();
    gate.open();
    let (before, published) = (journals(&home.out()), manifests(&home.out()).len());
    assert!(published > 0 && before.len() == published + 1, "{before:?}");
    let report = prune(home, "0s", &[]).ended(0);
    assert_eq!((&report["files"], &report["kept"]), (&published.into(), &json!({ "unpublished": 1 })));
    assert_eq!(journals(&home.out()).len(), 1, "the open one stays");
    assert_sound(home, published);
    run(home.export(&url, &SMALL)).ended(0);
    assert_rows(&home.out(), &expected(&served.simulator, &served.ids, 10));
    assert_sound(home, published);
}

#[test]
fn a_response_with_rows_under_an_unknown_code_keeps_its_journal_until_its_page_has_come() {
    let simulator = simulator(WORLD);
    let list = ids(&simulator);
    let odd = list[1].clone();
    let unknown = Api::but(&simulator, {
        let simulator = std::sync::Arc::clone(&simulator);
        move |request| {
            (request.product == odd && request.page == 1).then(|| {
                let whole = Answer::from_simulator(&simulator, request).body;
                let body = String::from_utf8(whole).unwrap();
                Answer::new(200, body.replacen("\"code\":0", "\"code\":7", 1))
            })
        }
    });
    let home = Home::new(&list);
    let ended = run(home.export(&unknown.base_url(), &[&SMALL[..], &UNTIL_PUBLISHED].concat()));
    assert!(matches!(ended.code, Some(3 | 10)), "{ended}");
    let kept = journals(&home.out()).len();
    assert!(kept > 0, "{ended}");
    let report = prune(&home, "0s", &[]).ended(0);
    assert_eq!(report["files"], 0, "{report}");
    let endpoint = pagehaul::endpoint::BUILT_IN.replace("success_codes = [0]", "success_codes = [0, 7]");
    let endpoint = format!("--endpoint={}", home.file("endpoint.toml", endpoint.as_bytes()));
    let api = Api::from_simulator(&simulator);
    run(home.export(&api.base_url(), &[&SMALL[..], &UNTIL_PUBLISHED, &[&endpoint, "--retry-failed"]].concat()))
        .ended(0);
    assert_rows(&home.out(), &expected(&simulator, &list, 10));
    assert!(!api.requested().contains_key(&(list[1].clone(), 1)), "it was paid for");
    assert!(journals(&home.out()).is_empty(), "its page has come");
    assert_sound(&home, manifests(&home.out()).len());
}

#[test]
fn a_journal_stays_where_files_were_changed_or_it_is_damaged_itself_and_a_missing_one_stays_damage() {
    let (served, segments) = exported(&[]);
    let home = &served.home;
    let journal = |segment: usize| home.out().join(format!("_pagehaul/journal/{segment:06}.zst"));
    let file = manifests(&home.out())[0]["files"][0]["path"].as_str().unwrap().to_owned();
    let mut bytes = fs::read(home.out().join(&file)).unwrap();
    bytes[9] ^= 1;
    fs::write(home.out().join(&file), bytes).unwrap();
    let cut = fs::read(journal(2)).unwrap();
    fs::write(journal(2), &cut[..cut.len() - 1]).unwrap();
    let whole = fs::read(journal(3)).unwrap();
    fs::remove_file(journal(3)).unwrap();
    let report = prune(home, "0s", &[]).ended(0);
    assert_eq!(report["kept"], json!({ "output_modified": 1, "journal_damaged": 2 }), "{report}");
    assert_eq!(report["files"], segments - 3);
    assert_eq!(run(about(home, "verify", &[])).ended(9)["differences"], 3, "none of it is called pruned");
    fs::write(journal(2), cut).unwrap();
    fs::write(journal(3), whole).unwrap();
    assert_eq!(run(about(home, "replay", &[])).ended(0)["rebuilt"], 1, "the journal had the rows");
    assert_eq!(prune(home, "0s", &[]).ended(0)["files"], 3);
    assert_sound(home, segments);
    assert_still_complete(&served, &[]);
}

#[test]
fn a_journal_file_that_was_put_back_stays_where_the_output_is_damaged() {
    let (served, segments) = exported(&[]);
    let backup = served.home.path("backup");
    copy(&served.home.out().join("_pagehaul/journal"), &backup);
    prune(&served.home, "0s", &[]).ended(0);
    let path = manifests(&served.home.out())[0]["files"][0]["path"].as_str().unwrap().to_owned();
    fs::remove_file(served.home.out().join(&path)).unwrap();
    fs::copy(backup.join("000001.zst"), served.home.out().join("_pagehaul/journal/000001.zst")).unwrap();
    let kept = prune(&served.home, "0s", &[]);
    kept.ended(0);
    assert!(journals(&served.home.out()).contains("000001.zst"), "{segments} segments: {kept}");
}

#[test]
fn the_age_of_a_segment_is_since_it_was_decided_and_a_clock_that_was_ahead_keeps_the_journal() {
    for (wall, is_removed) in [("1700000000000000", true), ("4000000000000000", false)] {
        let served = Served::start(WORLD);
        let mut command = served.home.export(&served.server.base_url(), &SMALL);
        command.env("TEST_WALL", wall);
        run(command).ended(0);
        let report = prune(&served.home, "30d", &[]).ended(0);
        assert_eq!(report["files"] != 0, is_removed, "{wall}: {report}");
        assert_eq!(journals(&served.home.out()).is_empty(), is_removed, "{wall}");
    }
}

#[test]
fn where_there_is_no_export_or_no_age_prune_says_so_and_makes_nothing() {
    let home = Home::new(&[]);
    let none = prune(&home, "0s", &[]);
    assert!(none.ended(2)["cause"].as_str().unwrap().contains("there is no export"), "{none}");
    for more in [&[][..], &["--older-than", "30"], &["--older-than", "1M"]] {
        let wrong = run(about(&home, "prune", more));
        assert!(wrong.code == Some(2) && wrong.stderr.contains("--older-than <TIME>"), "{wrong}");
    }
    assert!(!home.out().exists());
}

#[test]
fn an_export_removes_its_journal_as_it_is_published_whichever_run_began_it() {
    let (served, segments) = exported(&UNTIL_PUBLISHED);
    assert!(journals(&served.home.out()).is_empty());
    assert_sound(&served.home, segments);
    assert_still_complete(&served, &[]);

    // The export's identity does not include it.
    let served = Served::start(WORLD);
    let url = served.server.base_url();
    let export = |more: &[&str]| run(served.home.export(&url, &[&SMALL, more].concat()));
    export(&["--max-credits", "6"]).ended(6);
    assert!(!journals(&served.home.out()).is_empty());
    export(&[&["--max-credits", "8"][..], &UNTIL_PUBLISHED].concat()).ended(6);
    assert!(journals(&served.home.out()).is_empty(), "those of earlier runs, too");
    export(&[]).ended(0);
    let kept = journals(&served.home.out()).len();
    assert!(kept > 0);
    assert_sound(&served.home, manifests(&served.home.out()).len() - kept);
    assert_still_complete(&served, &UNTIL_PUBLISHED);
    assert!(journals(&served.home.out()).is_empty(), "a run that finds nothing to do removes them");
    assert_no_page_billed_twice(&[&served.simulator]);
}

/// Runs a command that kills itself at a step.
fn killed_at(step: usize, mut command: Command) -> Run {
    command.env("TEST_STEP", format!("{step}:kill"));
    run(command)
}

/// A copy of an export in a directory of its own.
fn copy_of(home: &Home) -> Home {
    let other = Home::new(&[]);
    copy(&home.out(), &other.out());
    other
}

#[test]
fn a_prune_that_is_killed_at_any_step_is_finished_by_the_next_one() {
    let (served, segments) = exported(&[]);
    let before = published(&served.home);
    for step in 1.. {
        let home = copy_of(&served.home);
        let ended = killed_at(step, about(&home, "prune", &["--older-than", "0s"]));
        let left = journals(&home.out()).len();
        let status = run(about(&home, "status", &["--json"])).ended(0);
        let noted = status["segments"]["pruned"].as_u64().unwrap();
        assert!(usize::try_from(noted).unwrap() + left >= segments, "step {step}: a file is gone without a note");
        assert_sound(&home, noted.try_into().unwrap());
        let again = prune(&home, "0s", &[]).ended(0);
        assert_eq!(again["files"], left, "step {step}: {again}");
        assert!(journals(&home.out()).is_empty() && published(&home) == before, "step {step}");
        assert_sound(&home, segments);
        if ended.code == Some(0) {
            assert!(step > 4 * segments, "{step} steps");
            break;
        }
    }
}

#[test]
fn a_replay_into_other_columns_that_was_killed_keeps_the_journal_that_it_needs_to_be_finished() {
    let (served, _) = exported(&[]);
    let mut kept = BTreeSet::new();
    for step in (1..).step_by(41) {
        let home = copy_of(&served.home);
        let replay = ["--drop-columns", "ratio"];
        let ended = killed_at(step, about(&home, "replay", &replay));
        let report = prune(&home, "0s", &["--dry-run"]).ended(0);
        let needed = report["kept"]["replay_unfinished"].as_u64().unwrap_or_default();
        kept.insert(needed);
        if needed > 0 {
            prune(&home, "0s", &[]).ended(0);
            run(about(&home, "replay", &replay)).ended(0);
            let columns = |manifest: &Value| !manifest["columns"].to_string().contains("\"ratio\"");
            assert!(manifests(&home.out()).iter().all(columns), "step {step}");
            run(about(&home, "verify", &[])).ended(0);
        }
        if ended.code == Some(0) {
            break;
        }
    }
    assert!(kept.len() > 2, "some were rebuilt and some were not: {kept:?}");
}
