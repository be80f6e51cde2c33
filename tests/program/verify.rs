//! `pagehaul verify`: every kind of damage is found and named, whole outputs are not doubted, and nothing is ever changed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::common::{
    Answer, Api, DEADLINE, Home, Program, Run, copy, glob, ids, manifests, pagehaul, run, simulator, tree,
};
use pagehaul::output::manifest::Manifest;
use pagehaul::output::store::Store;
use pagehaul::simulator::Simulator;
use rusqlite::Connection;
use serde_json::Value;

/// The products of an API whose lists repeat rows and have rows that cannot be typed.
fn products(simulator: &Simulator) -> Vec<String> {
    ids(simulator).into_iter().filter(|id| (3..60).contains(&simulator.videos(id))).take(12).collect()
}

/// An API with every kind of row: on a product's later pages the first row has come before, and each first page has a row
/// without identity.
fn untidy(simulator: &Arc<Simulator>) -> Api {
    let simulator = Arc::clone(simulator);
    Api::start(move |request| {
        let first = u64::from(request.page - 1) * 10;
        let row = |position| simulator.row(&request.product, None, position);
        let mut rows: Vec<String> = (first..first + 10).filter_map(row).collect();
        if request.page > 1 && !rows.is_empty() {
            rows[0] = row(0).unwrap();
        }
        if request.page == 1 {
            rows[1] = String::from(r#"{"region":"US"}"#);
        }
        Answer::page(&rows)
    })
}

/// A complete export in two segments.
fn exported(simulator: &Arc<Simulator>) -> Home {
    let (home, api) = (Home::new(&products(simulator)).with_evidence(), untidy(simulator));
    let summary = run(home.export(&api.base_url(), &["--segment-size", "64KiB", "--max-in-flight", "1"])).ended(0);
    assert!(summary["rows"]["duplicates"].as_u64().unwrap() > 3 && summary["rows"]["rejected"] == 12, "{summary}");
    assert_eq!(manifests(&home.out()).len(), 2);
    home
}

fn verify(out: &Path, more: &[&str]) -> Run {
    let mut command = pagehaul(["verify", "--out", out.to_str().unwrap()]);
    command.args(more);
    run(command)
}

/// Fails unless an output is found whole; gives the result.
fn assert_whole(out: &Path, more: &[&str]) -> Value {
    let before = tree(out);
    let run = verify(out, more);
    let json = run.ended(0);
    assert_eq!((&json["status"], &json["differences"]), (&"verified".into(), &0.into()), "{run}");
    assert_eq!(json["rows"]["conserved"], true, "{run}");
    assert!(!run.stderr.contains("difference:"), "{run}");
    assert!(tree(out) == before, "verify changed something");
    json
}

fn ledger(out: &Path) -> Connection {
    // Whoever edits it so knows how to make the checksums right again.
    pagehaul::state::ledger::configure(Connection::open(out.join("_pagehaul/ledger.sqlite")).unwrap()).unwrap()
}

fn sql(out: &Path, statement: &str) {
    assert!(ledger(out).execute(statement, []).unwrap() > 0, "{statement} changes nothing");
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

/// A file of rows of an output; the second kind is another one.
fn data_file(out: &Path, which: usize) -> PathBuf {
    out.join(glob(out).into_iter().nth(which).unwrap())
}

/// Rewrites what the manifest of segment 1 says, in the output and in the ledger alike.
fn forge(out: &Path, change: impl FnOnce(&mut Value)) {
    let path = out.join("_pagehaul/segments/000001.json");
    let mut manifest: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut manifest);
    let text = manifest.to_string();
    fs::write(&path, &text).unwrap();
    ledger(out).execute("UPDATE segments SET manifest = ?1 WHERE id = 1", [text]).unwrap();
}

type Damage = (&'static str, &'static str, fn(&Path));

/// What is done to an output, and a word of the difference that must be named.
const DAMAGES: [Damage; 35] = [
    ("a file is gone", "is missing", |out| fs::remove_file(data_file(out, 0)).unwrap()),
    ("a directory is gone", "is missing", |out| fs::remove_dir_all(data_file(out, 0).parent().unwrap()).unwrap()),
    ("the rejects are gone", "_rejects/", |out| fs::remove_dir_all(out.join("_rejects")).unwrap()),
    ("two files are swapped", "than it was written with", |out| {
        let (one, two) = (data_file(out, 0), data_file(out, 1));
        fs::rename(&one, out.join("x")).unwrap();
        fs::rename(&two, &one).unwrap();
        fs::rename(out.join("x"), &two).unwrap();
    }),
    ("a file is in another region", "is in no manifest", |out| {
        let other = data_file(out, 9).parent().unwrap().join("moved.parquet");
        fs::rename(data_file(out, 0), other).unwrap();
    }),
    ("a file is a directory", "is missing", |out| {
        let path = data_file(out, 0);
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
    }),
    ("a file is a link", "is missing", |out| {
        let path = data_file(out, 0);
        fs::rename(&path, out.join("elsewhere")).unwrap();
        std::os::unix::fs::symlink(out.join("elsewhere"), &path).unwrap();
    }),
    ("a directory is a link", "is missing", |out| {
        let directory = data_file(out, 0).parent().unwrap().to_owned();
        fs::rename(&directory, out.join("elsewhere")).unwrap();
        std::os::unix::fs::symlink(out.join("elsewhere"), &directory).unwrap();
    }),
    ("a file more", "x.parquet is in no manifest", |out| {
        fs::copy(data_file(out, 0), data_file(out, 0).with_file_name("x.parquet")).unwrap();
    }),
    ("a reject file more", "_rejects/x is in no manifest", |out| fs::write(out.join("_rejects/x"), "").unwrap()),
    ("a directory more", "is in no manifest", |out| fs::create_dir_all(out.join("region=ZZ/deeper")).unwrap()),
    ("a manifest is gone", "000001.json is missing", |out| {
        fs::remove_file(out.join("_pagehaul/segments/000001.json")).unwrap();
    }),
    ("a manifest has another byte", "000002.json is not as it was written", |out| {
        change(&out.join("_pagehaul/segments/000002.json"), |bytes| bytes.push(b'\n'));
    }),
    ("a manifest more", "000007.json is of a segment", |out| {
        let directory = out.join("_pagehaul/segments");
        fs::copy(directory.join("000001.json"), directory.join("000007.json")).unwrap();
    }),
    ("a manifest that says less rows", "rows, ", |out| {
        forge(out, |manifest| {
            let rows = manifest["files"][0]["rows"].as_u64().unwrap();
            manifest["files"][0]["rows"] = (rows - 1).into();
        });
    }),
    ("a manifest that forgets a file", "is in no manifest", |out| {
        forge(out, |manifest| drop(manifest["files"].as_array_mut().unwrap().remove(0)));
    }),
    ("a manifest of other columns", "has other columns", |out| {
        forge(out, |manifest| manifest["columns"][0][0] = "vid".into());
    }),
    ("a manifest that names another file", "is not readable", |out| {
        forge(out, |manifest| manifest["files"][0]["path"] = "../../../etc/passwd".into());
    }),
    ("rows of other keys", "are not the ones that the ledger has", |out| {
        // Rows whose item and video have changed places: as many, in a file that its manifest describes.
        forge(out, |manifest| {
            let (item, video) = (manifest["key"][0].clone(), manifest["key"][1].clone());
            manifest["key"] = serde_json::json!([video, item]);
        });
    }),
    ("no badge", "does not name the export", |out| fs::remove_file(out.join("_pagehaul/export.json")).unwrap()),
    ("another badge", "does not name the export", |out| {
        fs::write(out.join("_pagehaul/export.json"), r#"{"export":"other"}"#).unwrap();
    }),
    ("a mark that is not true", "_SUCCESS is there", |out| {
        sql(out, "UPDATE items SET state = 1, stop = NULL WHERE ix = 1");
    }),
    ("a journal is gone", "000001.zst: it is missing", |out| {
        fs::remove_file(out.join("_pagehaul/journal/000001.zst")).unwrap();
    }),
    ("a journal is cut", "000002.zst: ", |out| {
        change(&out.join("_pagehaul/journal/000002.zst"), |bytes| bytes.truncate(bytes.len() - 1));
    }),
    ("a journal is longer", "continues after the last frame", |out| {
        change(&out.join("_pagehaul/journal/000002.zst"), |bytes| bytes.extend(b"more"));
    }),
    ("a journal more", "000009.zst is of a segment", |out| {
        fs::write(out.join("_pagehaul/journal/000009.zst"), "").unwrap();
    }),
    ("a row more was received", "rows, 11 in the ledger", |out| {
        sql(out, "UPDATE pages SET received = received + 1 WHERE attempt = 1");
    }),
    ("a row less was kept", "counts do not fit", |out| sql(out, "UPDATE pages SET kept = kept - 1 WHERE attempt = 1")),
    ("a row more was rejected", "rejects in its files", |out| {
        sql(
            out,
            "UPDATE pages SET rejected = 1, received = received + 1 WHERE attempt = (SELECT max(attempt) FROM pages)",
        );
    }),
    ("a duplicate row was none", "counts do not fit", |out| {
        sql(out, "UPDATE pages SET kept = kept + 1 WHERE kept + rejected < received");
    }),
    ("a key is there twice", "are there twice", |out| {
        let first = "(SELECT keys FROM pages WHERE attempt = 1)";
        sql(
            out,
            &format!(
                "UPDATE pages SET keys = CAST(substr({first}, 1, 16) || substr({first}, 1, length(keys) - 16) AS BLOB) WHERE attempt = 1"
            ),
        );
    }),
    ("a page is forgotten", "is not in the ledger", |out| sql(out, "DELETE FROM pages WHERE attempt = 2")),
    ("a page is another one", "is another one in the ledger", |out| {
        sql(out, "UPDATE pages SET page = 99 WHERE attempt = 2");
    }),
    ("a frame is forgotten", "the ledger names a frame at byte", |out| {
        sql(out, "DELETE FROM frames WHERE segment = 1 AND offset = 0");
    }),
    ("a segment was never published", "has not published", |out| {
        sql(out, "UPDATE segments SET state = 'open', manifest = NULL WHERE id = 2");
    }),
];

#[test]
fn l15_every_edit_of_an_output_its_state_or_its_journal_is_found_and_named_and_nothing_is_changed() {
    let simulator = simulator("products=400,max_videos=70,seed=5");
    let home = exported(&simulator);
    let result = assert_whole(&home.out(), &[]);
    assert_eq!(result["read"]["files"], result["read"]["files_read"]);
    assert!(result["rows"]["rejected"] == 12 && result["rows"]["duplicates"].as_u64().unwrap() > 3, "{result}");
    for (number, (what, word, damage)) in DAMAGES.iter().enumerate() {
        let out = home.path(&format!("copy{number}"));
        copy(&home.out(), &out);
        damage(&out);
        let before = tree(&out);
        let run = verify(&out, &[]);
        let json = run.ended(9);
        assert_eq!(json["status"], "integrity", "{what}: {run}");
        let named: Vec<&str> = json["found"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
        assert!(named.iter().any(|line| line.contains(word)), "{what}: {run}");
        let lines = run.stderr.lines().filter(|line| line.starts_with("difference: ")).count();
        assert_eq!((lines, json["differences"].as_u64()), (named.len(), Some(u64::try_from(lines).unwrap())), "{what}");
        let next: Vec<&str> = json["next"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
        assert!(next.iter().any(|line| line.contains(cure(what))), "{what}: {run}");
        assert!(next.iter().all(|line| run.stderr.contains(&format!("  next      {line}"))), "{what}: {run}");
        assert!(tree(&out) == before, "{what}: verify changed something");
    }
}

/// A word of what helps against a damage.
fn cure(what: &str) -> &'static str {
    match what {
        "a file more" | "a reject file more" | "a directory more" => "move what is not of this export",
        "a mark that is not true" => "finishes it",
        "a manifest more"
        | "a manifest that names another file"
        | "another badge"
        | "a segment was never published" => "put the state directory back",
        _ if what.starts_with("a journal") => "put the state directory back",
        _ if ["received", "kept", "rejected", "duplicate", "key", "page", "frame"]
            .iter()
            .any(|word| what.contains(word)) =>
        {
            if what == "rows of other keys" {
                "pagehaul replay"
            } else {
                "put the state directory back"
            }
        }
        _ => "pagehaul replay",
    }
}

#[test]
fn what_a_replay_cannot_mend_is_not_sent_to_it() {
    let simulator = simulator("products=400,max_videos=70,seed=5");
    let home = exported(&simulator);
    for what in ["a file more", "a journal is gone", "a mark that is not true", "a file is gone"] {
        let out = home.path(&what.replace(' ', "-"));
        copy(&home.out(), &out);
        let (_, _, damage) = DAMAGES.iter().find(|(name, _, _)| *name == what).unwrap();
        damage(&out);
        let json = verify(&out, &[]).ended(9);
        let next = json["next"].as_array().unwrap();
        assert!(next.len() == 1 && next[0].as_str().unwrap().contains(cure(what)), "{what}: {json}");
    }
}

#[test]
fn a_flipped_bit_anywhere_in_a_journal_is_found() {
    let simulator = simulator("products=400,max_videos=70,seed=5");
    let home = exported(&simulator);
    let journal = home.out().join("_pagehaul/journal/000001.zst");
    let whole = fs::read(&journal).unwrap();
    for at in (0..whole.len()).step_by(whole.len() / 12) {
        change(&journal, |bytes| bytes[at] ^= 1 << (at % 8));
        let json = verify(&home.out(), &[]).ended(9);
        assert!(
            json["found"][0].as_str().unwrap().starts_with("journal 000001.zst: damaged at byte"),
            "byte {at}: {json}"
        );
        fs::write(&journal, &whole).unwrap();
    }
    assert_whole(&home.out(), &[]);
}

#[test]
fn l16_a_published_file_cut_anywhere_or_with_any_bit_flipped_is_not_as_it_was_written() {
    let simulator = simulator("products=400,max_videos=70,seed=5");
    let home = exported(&simulator);
    let store = Store::new(&home.out());
    let texts = manifests(&home.out()).into_iter().map(|manifest| manifest.to_string());
    let all: Vec<Manifest> = texts.map(|text| Manifest::parse(text.as_bytes()).unwrap()).collect();
    let entry = all.iter().flat_map(|manifest| &manifest.files).min_by_key(|file| file.bytes).unwrap();
    let path = home.out().join(&entry.path);
    let whole = fs::read(&path).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let fault = || runtime.block_on(entry.fault(&store, None)).unwrap();
    assert_eq!(fault(), None);
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        assert!(fault().is_some(), "cut to {length} bytes");
    }
    let mut bytes = whole.clone();
    for bit in 0..whole.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, &bytes).unwrap();
        assert!(fault().is_some(), "bit {bit}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    // The same through the program, here and there.
    for at in [0, whole.len() / 2, whole.len() - 1] {
        bytes[at] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let run = verify(&home.out(), &[]);
        assert!(run.ended(9)["found"][0].as_str().unwrap().starts_with(&entry.path), "{run}");
        bytes[at] ^= 1;
    }
    fs::write(&path, &whole).unwrap();
    assert_whole(&home.out(), &[]);
}

#[test]
fn a_sample_reads_its_share_and_the_same_one_each_time_and_still_sees_what_is_missing() {
    let simulator = simulator("products=400,max_videos=70,seed=5");
    let home = exported(&simulator);
    let all = assert_whole(&home.out(), &[]);
    let some = assert_whole(&home.out(), &["--sample", "40"]);
    assert_eq!(some, assert_whole(&home.out(), &["--sample", "40"]));
    assert_eq!((&some["sample"], &some["rows"]), (&40.0.into(), &all["rows"]));
    for what in ["files", "frames"] {
        let (whole, read) =
            (some["read"][what].as_u64().unwrap(), some["read"][format!("{what}_read")].as_u64().unwrap());
        assert_eq!(whole, all["read"][what]);
        assert!(0 < read && read < whole, "{read} of {whole} {what}");
    }
    // Whatever the lot says of its content, a file that is not there, or not as long, is seen.
    for which in 0..glob(&home.out()).len() {
        let path = data_file(&home.out(), which);
        let whole = fs::read(&path).unwrap();
        change(&path, |bytes| bytes.push(0));
        verify(&home.out(), &["--sample", "0.001"]).ended(9);
        fs::write(&path, whole).unwrap();
    }
}

#[test]
fn an_output_whose_run_was_stopped_by_a_signal_or_killed_is_whole() {
    for end in ["TERM", "KILL"] {
        let simulator = simulator("products=40,max_videos=90,seed=3");
        let (api, gate, held) = Api::gated(&simulator, 30);
        let home = Home::new(&ids(&simulator)).with_evidence();
        run(home.export(&api.base_url(), &["--max-credits", "12", "--max-in-flight", "4"])).ended(6);
        let mut program = Program::start(home.export(&api.base_url(), &["--max-in-flight", "4"]));
        held.recv_timeout(DEADLINE).unwrap();
        let busy = verify(&home.out(), &[]);
        assert!(
            busy.ended(4)["cause"].as_str().unwrap().contains("another process works on this export: process"),
            "{busy}"
        );
        if end == "KILL" {
            program.kill();
            assert!(home.out().join("_pagehaul/ledger.sqlite-wal").exists());
        } else {
            program.signal(end);
            program.wait_for_line("stopping");
            gate.open();
            program.end().ended(143);
        }
        let result = assert_whole(&home.out(), &[]);
        assert!(result["rows"]["waiting"].as_u64().unwrap() > 0, "{result}");
        gate.open();
        run(home.export(&api.base_url(), &[])).ended(0);
        let result = assert_whole(&home.out(), &[]);
        assert_eq!(result["rows"]["waiting"], 0);
    }
}

#[test]
fn an_output_whose_run_was_killed_at_any_step_is_whole() {
    let simulator = simulator("products=400,max_videos=70,seed=5");
    let (list, api) = (products(&simulator), untidy(&simulator));
    let mut kinds: BTreeMap<&str, u32> = BTreeMap::new();
    for step in (1..).step_by(23) {
        let home = Home::new(&list[..3]).with_evidence();
        let mut export = home.export(&api.base_url(), &[]);
        export.env("TEST_STEP", format!("{step}:kill"));
        let ended = run(export);
        if !home.out().join("_pagehaul/ledger.sqlite").exists() || ledger_is_empty(&home.out()) {
            continue;
        }
        let result = assert_whole(&home.out(), &[]);
        let has_rows = |what: &str| result["rows"][what].as_u64().unwrap() > 0;
        let kind = if has_rows("published") {
            "published"
        } else if has_rows("waiting") {
            "waiting"
        } else {
            "new"
        };
        *kinds.entry(kind).or_default() += 1;
        if ended.code == Some(0) {
            break;
        }
    }
    assert_eq!(kinds.len(), 3, "{kinds:?}");
}

fn ledger_is_empty(out: &Path) -> bool {
    let known: rusqlite::Result<i64> = ledger(out).query_row("SELECT count(*) FROM export", [], |row| row.get(0));
    known.unwrap_or(0) == 0
}

#[test]
fn what_is_no_export_is_not_verified() {
    let simulator = simulator("products=400,max_videos=70,seed=5");
    let home = exported(&simulator);
    fs::create_dir(home.path("empty")).unwrap();
    for (out, more, word) in [
        ("empty", &[][..], "no export"),
        ("missing", &[], "no export"),
        ("out", &["--sample", "0"], "--sample"),
        ("out", &["--sample", "many"], "--sample"),
    ] {
        let run = verify(&home.path(out), more);
        assert!(run.ended(2)["cause"].as_str().unwrap().contains(word), "{run}");
    }
    let elsewhere = home.argument("empty");
    let run = verify(&home.out(), &["--state-dir", &elsewhere]);
    assert!(run.ended(9)["cause"].as_str().unwrap().contains("its ledger is not in"), "{run}");
    assert!(tree(&home.path("empty")).is_empty() && !home.path("missing").exists());
    // With its state elsewhere, an output may be gone altogether.
    fs::rename(home.out().join("_pagehaul"), home.path("state")).unwrap();
    fs::remove_dir_all(home.out()).unwrap();
    let run = verify(&home.out(), &["--state-dir", &home.argument("state")]);
    assert!(run.ended(9)["cause"].as_str().unwrap().contains("is gone"), "{run}");
}
