//! `pagehaul replay`: the output built again from the journal, under the same columns or others, whatever became of it in
//! between, and never a request for it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use crate::common::{
    Answer, Api, Home, Run, assert_no_page_billed_twice, assert_rows, copy, evidence, expected, fewest_requests, files,
    ids, manifests, pagehaul, rows, run, tree,
};
use pagehaul::endpoint::{BUILT_IN, Endpoint};
use pagehaul::simulator::{self, Server, Simulator};
use serde_json::Value;

/// The simulated products of most tests here: some pages, two regions.
const WORLD: &str = "products=5,max_videos=28,record=true";
/// Flags that make several segments of it.
const SMALL: [&str; 4] = ["--max-in-flight", "1", "--segment-size", "8KiB"];

/// An API, a directory, and an export of the one into the other.
struct Case {
    home: Home,
    simulator: Arc<Simulator>,
    server: Server,
}

impl Case {
    fn new(world: &str) -> Self {
        let all = BUILT_IN.lines().find(|line| line.starts_with("partitions = ")).unwrap();
        let few = BUILT_IN.replace(all, "partitions = [\"ID\", \"TH\"]");
        let simulator = Arc::new(Simulator::new(&Endpoint::parse(&few).unwrap(), world.parse().unwrap()).unwrap());
        let server = simulator::start(Arc::clone(&simulator)).unwrap();
        Self { home: Home::new(&ids(&simulator)).with_evidence(), simulator, server }
    }

    /// The same with a complete export in several segments.
    fn exported(more: &[&str]) -> Self {
        let case = Self::new(WORLD);
        run(case.export(&[&SMALL, more].concat())).ended(0);
        assert!(manifests(&case.home.out()).len() > 1, "one segment shows nothing");
        case
    }

    fn export(&self, more: &[&str]) -> Command {
        self.home.export(&self.server.base_url(), more)
    }

    fn replay(&self, more: &[&str]) -> Command {
        let out = self.home.argument("out");
        let mut command = pagehaul(["replay", "--out", &out, "--progress", "none"]);
        command.args(more);
        command
    }

    /// Fails unless the output has exactly the rows of the API, as a fresh export would have them, each requested once.
    fn assert_complete(&self) {
        let list = ids(&self.simulator);
        assert!(self.home.out().join("_SUCCESS").exists());
        assert_rows(&self.home.out(), &expected(&self.simulator, &list, 10));
        self.assert_sound();
        assert_no_page_billed_twice(&[&self.simulator]);
        let fewest = fewest_requests(&self.simulator, &list);
        assert!((fewest..=fewest + evidence(fewest)).contains(&self.simulator.account().requests));
    }

    fn assert_sound(&self) {
        run(pagehaul(["verify", "--out", &self.home.argument("out")])).ended(0);
    }
}

/// What is done to an output or a journal.
type Spoil<'a> = &'a dyn Fn(&Path);

/// The description of an endpoint, changed.
fn endpoint(home: &Home, name: &str, changes: &[(&str, &str)]) -> String {
    let mut text = BUILT_IN.to_owned();
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    home.file(name, text.as_bytes())
}

/// The built-in columns but one, and one of another type.
fn older(home: &Home) -> String {
    let ratio = BUILT_IN.split("[[column]]").find(|column| column.contains("name = \"ratio\"")).unwrap();
    let height = BUILT_IN.split("[[column]]").find(|column| column.contains("name = \"height\"")).unwrap();
    let (without, text) = (format!("[[column]]{ratio}"), height.replace("type = \"int64\"", "type = \"utf8\""));
    endpoint(home, "older.toml", &[(&without, ""), (height, &text)])
}

/// What is in `_pagehaul` and the journal that a replay may not change when it is refused: all but the lock and SQLite's files.
fn untouched(out: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut tree = tree(out);
    tree.retain(|name, _| !name.contains("ledger.sqlite") && !name.ends_with("/lock"));
    tree
}

/// The content of the files of rows, by segment and region.
fn contents(out: &Path) -> BTreeMap<(i64, String), Vec<u8>> {
    let of = |manifest: Value| {
        let segment = manifest["segment"].as_i64().unwrap();
        let files = manifest["files"].as_array().unwrap().clone();
        files.into_iter().map(move |file| {
            let path = file["path"].as_str().unwrap();
            ((segment, path.split('/').next().unwrap().to_owned()), fs::read(out.join(path)).unwrap())
        })
    };
    manifests(out).into_iter().flat_map(of).collect()
}

#[test]
fn an_export_read_again_into_other_columns_has_the_rows_of_a_fresh_one_without_a_request() {
    let case = Case::new(WORLD);
    let (old, new) = (older(&case.home), endpoint(&case.home, "newer.toml", &[]));
    run(case.export(&[&SMALL[..], &["--endpoint", &old]].concat())).ended(0);
    let segments = manifests(&case.home.out()).len();
    assert!(segments > 1, "one segment shows nothing");
    let ratio = |manifest: &Value| manifest["columns"].to_string().contains("\"ratio\"");
    assert!(!manifests(&case.home.out()).iter().any(ratio));
    // A column more, out of `_extra`; a column of another type.
    let summary = run(case.replay(&["--endpoint", &new])).ended(0);
    assert_eq!((&summary["rebuilt"], &summary["run"]["requests"]), (&segments.into(), &0.into()));
    assert!(manifests(&case.home.out()).iter().all(ratio));
    case.assert_complete();
    // A column less, and what is dropped stays dropped until it is requested again.
    let has = |name: &str| rows(&case.home.out()).values().any(|row| row.contains_key(name));
    run(case.replay(&["--endpoint", &new, "--drop-columns", "play_addr,ratio"])).ended(0);
    assert!(!has("play_addr") && !has("ratio") && has("height"));
    case.assert_sound();
    let summary = run(case.replay(&["--endpoint", "none"])).ended(0);
    assert_eq!(summary["rebuilt"], 0, "the file says what the built-in endpoint says");
    run(case.replay(&["--columns", "duration"])).ended(0);
    assert!(has("duration") && !has("height"));
    case.assert_sound();
    run(case.replay(&["--drop-columns", "none"])).ended(0);
    case.assert_complete();
}

#[test]
fn the_partition_column_is_in_the_files_of_an_export_that_asked_for_it_and_a_replay_keeps_it_or_rebuilds_without_it() {
    let case = Case::exported(&["--partition-in-files"]);
    let has_region = || {
        let mut has = manifests(&case.home.out())
            .into_iter()
            .map(|manifest| manifest["columns"].to_string().contains("\"region\""));
        let first = has.next().unwrap();
        assert!(has.all(|other| other == first), "segments of two kinds");
        first
    };
    assert!(has_region());
    case.assert_complete();
    let refused = run(case.export(&SMALL)).ended(9);
    assert!(refused["cause"].as_str().unwrap().contains("columns was with region, now without"), "{refused}");
    run(case.replay(&["--all"])).ended(0);
    assert!(has_region(), "a replay takes it from the ledger");
    let mut without = case.replay(&[]);
    without.env("PAGEHAUL_PARTITION_IN_FILES", "false");
    run(without).ended(0);
    assert!(!has_region());
    case.assert_complete();
    let refused = run(case.export(&[&SMALL[..], &["--partition-in-files"]].concat())).ended(9);
    assert!(refused["cause"].as_str().unwrap().contains("columns was without region, now with"), "{refused}");
    run(case.replay(&["--partition-in-files"])).ended(0);
    assert!(has_region());
    case.assert_complete();
}

#[test]
fn an_export_continues_under_the_columns_of_its_replay_and_no_longer_under_the_old_ones() {
    let case = Case::new(WORLD);
    let old = older(&case.home);
    run(case.export(&[&SMALL[..], &["--endpoint", &old, "--max-credits", "6"]].concat())).ended(6);
    let before = untouched(&case.home.out());
    let refused = run(case.replay(&[]));
    assert!(refused.ended(9)["cause"].as_str().unwrap().contains("--endpoint FILE"), "{refused}");
    assert!(untouched(&case.home.out()) == before, "no other columns unasked");
    let unfinished = run(case.replay(&["--endpoint", "none"]));
    let summary = unfinished.ended(3);
    assert_eq!(summary["cause"], "the export is not finished", "{unfinished}");
    assert!(summary["next"].as_str().unwrap().contains("pagehaul export"), "{unfinished}");
    assert!(!case.home.out().join("_SUCCESS").exists());
    let written = fs::read(case.home.out().join("_pagehaul/summary.json")).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&written).unwrap(), summary, "the same beside the output");
    let refused = run(case.export(&["--endpoint", &old]));
    assert!(refused.ended(9)["cause"].as_str().unwrap().contains("endpoint was"), "{refused}");
    run(case.export(&[])).ended(0);
    case.assert_complete();
    let again = run(case.export(&[])).ended(0);
    assert!(again["complete_since"].is_string());
}

#[test]
fn l15_what_is_deleted_or_edited_in_an_output_is_built_again_to_the_byte_without_a_credit() {
    let whole = Case::exported(&[]);
    let before = contents(&whole.home.out());
    let first = |out: &Path| out.join(manifests(out)[0]["files"][0]["path"].as_str().unwrap());
    let spoil: [(&str, u64, Spoil<'_>); 7] = [
        ("a directory of rows", 2, &|out| fs::remove_dir_all(out.join("region=ID")).unwrap()),
        ("a file", 1, &|out| fs::remove_file(first(out)).unwrap()),
        ("a byte of a file", 1, &|out| {
            let mut bytes = fs::read(first(out)).unwrap();
            bytes[100] ^= 1;
            fs::write(first(out), bytes).unwrap();
        }),
        ("a manifest", 0, &|out| fs::remove_file(out.join("_pagehaul/segments/000001.json")).unwrap()),
        ("the text of a manifest", 0, &|out| fs::write(out.join("_pagehaul/segments/000001.json"), "{").unwrap()),
        ("a manifest and its files", 2, &|out| {
            fs::write(out.join("_pagehaul/segments/000002.json"), "").unwrap();
            fs::remove_dir_all(out.join("region=TH")).unwrap();
        }),
        ("the badge", 0, &|out| fs::remove_file(out.join("_pagehaul/export.json")).unwrap()),
    ];
    let sent = whole.simulator.account().requests;
    for (what, rebuilt, spoil) in spoil {
        let case = Case { home: Home::new(&[]).with_evidence(), ..Case::new(WORLD) };
        copy(&whole.home.out(), &case.home.out());
        spoil(&case.home.out());
        run(pagehaul(["verify", "--out", &case.home.argument("out")])).ended(9);
        let replayed = run(case.replay(&[]));
        let summary = replayed.ended(0);
        assert!(summary["rebuilt"].as_u64().unwrap() >= rebuilt, "{what}: {replayed}");
        assert_eq!(summary["rebuilt"] == 0, rebuilt == 0, "{what}: {replayed}");
        assert_eq!(contents(&case.home.out()), before, "{what}");
        assert!(case.home.out().join("_SUCCESS").exists(), "{what}");
        case.assert_sound();
        assert_eq!((case.simulator.account().requests, whole.simulator.account().requests), (0, sent), "{what}");
        let again = run(case.replay(&[])).ended(0);
        assert_eq!(again["rebuilt"], 0, "{what}: nothing is left to do");
    }
}

/// What is done to files: where they were staged, and the names that they should get.
type SpoilFiles<'a> = &'a dyn Fn(&[(PathBuf, PathBuf)]);

/// Puts a published segment back to the moment after its decision: its files staged, its manifest not there.
fn undecide(out: &Path, segment: i64) -> Vec<(PathBuf, PathBuf)> {
    let manifest = manifests(out).into_iter().find(|manifest| manifest["segment"] == segment).unwrap();
    fs::remove_file(out.join(format!("_pagehaul/segments/{segment:06}.json"))).unwrap();
    let ledger = rusqlite::Connection::open(out.join("_pagehaul/ledger.sqlite")).unwrap();
    let ledger = pagehaul::state::ledger::configure(ledger).unwrap();
    ledger.execute("UPDATE segments SET state = 'decided' WHERE id = ?1", [segment]).unwrap();
    fs::remove_file(out.join("_SUCCESS")).unwrap();
    let of = |file: &Value| {
        let staged = out.join("_pagehaul/staging").join(file["staged"].as_str().unwrap());
        let named = out.join(file["path"].as_str().unwrap());
        fs::rename(&named, &staged).unwrap();
        (staged, named)
    };
    manifest["files"].as_array().unwrap().iter().map(of).collect()
}

#[test]
fn a_decided_segment_whose_files_are_gone_or_there_twice_is_published_by_the_same_command_without_a_request() {
    let whole = Case::exported(&[]);
    let before = contents(&whole.home.out());
    let spoil: [(&str, u64, SpoilFiles<'_>); 5] = [
        ("nothing", 0, &|_| {}),
        ("all staged files are gone", 1, &|files| {
            for (staged, _) in files {
                fs::remove_file(staged).unwrap();
            }
        }),
        ("one staged file is gone", 1, &|files| fs::remove_file(&files[1].0).unwrap()),
        ("a copy was put back: both are there", 0, &|files| {
            fs::copy(&files[0].0, &files[0].1).unwrap();
        }),
        ("half a file has the name", 1, &|files| fs::write(&files[0].1, "PAR1").unwrap()),
    ];
    for (what, rebuilt, spoil) in spoil {
        for command in ["export", "replay", "replay --all"] {
            let case = Case { home: Home::new(&ids(&whole.simulator)).with_evidence(), ..Case::new(WORLD) };
            copy(&whole.home.out(), &case.home.out());
            spoil(&undecide(&case.home.out(), 2));
            let all = u64::try_from(manifests(&whole.home.out()).len()).unwrap();
            let (ended, rebuilt) = match command {
                "export" => (run(case.export(&SMALL)), Value::Null),
                "replay" => (run(case.replay(&[])), rebuilt.into()),
                _ => (run(case.replay(&["--all"])), all.into()),
            };
            assert_eq!(ended.ended(0)["rebuilt"], rebuilt, "{what}, {command}: {ended}");
            assert_eq!(contents(&case.home.out()), before, "{what}, {command}");
            assert_eq!(files(&case.home.out().join("_pagehaul/staging")).len(), 0, "{what}, {command}");
            assert!(case.home.out().join("_SUCCESS").exists(), "{what}, {command}");
            case.assert_sound();
            assert_eq!(case.simulator.account().requests, 0, "{what}, {command}");
        }
    }
}

#[test]
fn a_decided_segment_that_is_built_again_may_be_killed_at_any_step_of_it() {
    let whole = Case::exported(&[]);
    let rows_of = expected(&whole.simulator, &ids(&whole.simulator), 10);
    for (staged, _) in undecide(&whole.home.out(), 1) {
        fs::remove_file(staged).unwrap();
    }
    for step in (1..).step_by(5) {
        let case = Case { home: Home::new(&[]).with_evidence(), ..Case::new(WORLD) };
        copy(&whole.home.out(), &case.home.out());
        let ended = replay_until(&case, step, &[]);
        let is_over = ended.code == Some(0);
        run(case.replay(&[])).ended(0);
        assert_rows(&case.home.out(), &rows_of);
        assert_eq!(files(&case.home.out().join("_pagehaul/staging")).len(), 0, "step {step}");
        case.assert_sound();
        if is_over {
            assert!(step > 30, "{step} steps");
            break;
        }
    }
}

#[test]
fn l15_an_output_that_is_gone_altogether_comes_back_from_a_state_that_is_elsewhere() {
    let case = Case::new(WORLD);
    let state = case.home.argument("state");
    run(case.export(&[&SMALL[..], &["--state-dir", &state]].concat())).ended(0);
    fs::remove_dir_all(case.home.out()).unwrap();
    run(case.replay(&["--state-dir", &state])).ended(0);
    assert_rows(&case.home.out(), &expected(&case.simulator, &ids(&case.simulator), 10));
    run(pagehaul(["verify", "--out", &case.home.argument("out"), "--state-dir", &state])).ended(0);
}

#[test]
fn an_export_does_not_call_an_output_complete_that_lacks_a_file_or_a_manifest_and_a_replay_brings_it_back() {
    let whole = Case::exported(&[]);
    let spoil: [(&str, Spoil<'_>); 4] = [
        ("region=ID/", &|out| fs::remove_dir_all(out.join("region=ID")).unwrap()),
        ("segments/000001.json", &|out| fs::remove_file(out.join("_pagehaul/segments/000001.json")).unwrap()),
        ("segments/000002.json", &|out| {
            let path = out.join("_pagehaul/segments/000002.json");
            fs::write(&path, fs::read_to_string(&path).unwrap() + "\n").unwrap();
        }),
        ("segments/000002.json|segment 2", &|out| fs::write(out.join("_pagehaul/segments/000002.json"), "{").unwrap()),
    ];
    for (word, spoil) in spoil {
        for mark in [true, false] {
            let case = Case { home: Home::new(&ids(&whole.simulator)).with_evidence(), ..Case::new(WORLD) };
            copy(&whole.home.out(), &case.home.out());
            spoil(&case.home.out());
            if !mark {
                fs::remove_file(case.home.out().join("_SUCCESS")).unwrap();
            }
            let refused = run(case.export(&[]));
            let json = refused.ended(9);
            let message = json["cause"].as_str().unwrap();
            assert!(word.split('|').any(|word| message.contains(word)), "{refused}");
            assert!(json["next"].as_str().unwrap().contains("pagehaul replay"), "{refused}");
            assert!(!case.home.out().join("_SUCCESS").exists(), "{word}: the mark is not true any more");
            run(case.replay(&[])).ended(0);
            run(case.export(&[])).ended(0);
            assert_eq!(contents(&case.home.out()), contents(&whole.home.out()));
            assert!(case.home.out().join("_SUCCESS").exists(), "{word}");
            case.assert_sound();
        }
    }
}

#[test]
fn the_reports_and_the_mark_of_a_complete_export_are_no_part_of_what_is_verified_and_come_back_by_an_export() {
    let case = Case::exported(&[]);
    for name in ["_SUCCESS", "_pagehaul/summary.json", "_pagehaul/products.parquet", "_pagehaul/report.html"] {
        let path = case.home.out().join(name);
        let before = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        case.assert_sound();
        assert!(run(case.export(&[])).ended(0)["complete_since"].is_string(), "{name}");
        assert!(path.exists(), "{name}");
        if name.ends_with("parquet") {
            assert_eq!(fs::read(&path).unwrap(), before);
        }
    }
    case.assert_complete();
}

#[test]
fn a_replay_into_other_directories_leaves_none_of_the_old_ones_files() {
    let case = Case::exported(&[]);
    let swap = [
        (
            "name = \"region\"\njson = \"string\"\ntype = \"utf8\"\nrole = \"partition\"",
            "name = \"region\"\njson = \"string\"\ntype = \"utf8\"",
        ),
        (
            "name = \"ratio\"\njson = \"string\"\ntype = \"utf8\"",
            "name = \"ratio\"\njson = \"string\"\ntype = \"utf8\"\nrole = \"partition\"",
        ),
    ];
    let by_ratio = endpoint(&case.home, "ratio.toml", &swap);
    let begins = |prefix: &str| tree(&case.home.out()).keys().filter(|name| name.starts_with(prefix)).count();
    assert!(begins("region=") > 0);
    run(case.replay(&["--endpoint", &by_ratio])).ended(0);
    assert!(begins("region=") == 0 && begins("ratio=") > 0, "a reader of the directory would see rows twice");
    case.assert_sound();
    // One that a crash or an older version left there is a difference.
    let left = case.home.out().join("region=ID");
    fs::create_dir_all(&left).unwrap();
    fs::write(left.join("x.parquet"), "").unwrap();
    run(pagehaul(["verify", "--out", &case.home.argument("out")])).ended(9);
}

#[test]
fn all_builds_every_segment_again_and_gives_the_same_bytes_under_new_names() {
    let case = Case::exported(&[]);
    let (before, names) = (contents(&case.home.out()), files(&case.home.out().join("region=ID")));
    let summary = run(case.replay(&["--all"])).ended(0);
    assert_eq!(summary["rebuilt"], manifests(&case.home.out()).len());
    assert_eq!(contents(&case.home.out()), before);
    assert!(
        files(&case.home.out().join("region=ID")).iter().all(|name| !names.contains(name)),
        "a name is never used twice"
    );
    case.assert_complete();
}

#[test]
fn rows_that_came_before_in_an_earlier_segment_are_duplicates_again() {
    let world = "products=60,max_videos=40,record=true";
    let source = crate::common::simulator(world);
    let list: Vec<String> = ids(&source).into_iter().filter(|id| source.videos(id) > 22).take(4).collect();
    let api = Api::start({
        let source = Arc::clone(&source);
        move |request| {
            let first = u64::from(request.page - 1) * 10;
            let mut rows: Vec<String> =
                (first..first + 10).filter_map(|at| source.row(&request.product, None, at)).collect();
            if request.page > 1 && !rows.is_empty() {
                rows[0] = source.row(&request.product, None, 0).unwrap();
            }
            Answer::page(&rows)
        }
    });
    let home = Home::new(&list).with_evidence();
    // A segment a page: what came before came in another one.
    let flags = ["--max-in-flight", "1", "--segment-size", "1KiB"];
    let exported = run(home.export(&api.base_url(), &flags)).ended(0);
    assert!(manifests(&home.out()).len() > 8 && exported["rows"]["duplicates"].as_u64().unwrap() > 8, "{exported}");
    let (before, requested) = (rows(&home.out()), api.requests());
    let out = home.argument("out");
    let replayed = run(pagehaul(["replay", "--out", &out, "--all", "--progress", "none"])).ended(0);
    assert_eq!(replayed["rows"], exported["rows"]);
    assert_eq!((rows(&home.out()), api.requests()), (before, requested));
    run(pagehaul(["verify", "--out", &out])).ended(0);
}

#[test]
fn rows_that_no_column_table_could_use_are_usable_with_the_right_one_and_cost_nothing_more() {
    let case = Case::new("products=5,max_videos=70,seed=2,record=true");
    assert!(ids(&case.simulator).iter().any(|id| case.simulator.videos(id) > 40), "a walk of barren pages is given up");
    // An identity that no row has: every row becomes a reject, and every walk ends.
    let wrong = endpoint(&case.home, "wrong.toml", &[("name = \"video_id\"", "name = \"video_key\"")]);
    let summary = run(case.export(&[&SMALL[..], &["--endpoint", &wrong]].concat())).ended(3);
    assert_eq!((&summary["rows"]["published"], &summary["products"]["complete"]), (&0.into(), &0.into()));
    let received = summary["rows"]["received"].clone();
    let summary = run(case.replay(&["--endpoint", "none"])).ended(3);
    assert_eq!((&summary["rows"]["published"], &summary["rows"]["rejected"]), (&received, &0.into()));
    assert!(summary["products"]["open"].as_u64().unwrap() > 0, "walks that had ended for it go on: {summary}");
    case.assert_sound();
    run(case.export(&SMALL)).ended(0);
    case.assert_complete();
}

#[test]
fn a_journal_that_is_missing_or_damaged_is_named_and_the_old_output_is_left_as_it_is() {
    let whole = Case::exported(&[]);
    let spoil: [(&str, Spoil<'_>); 3] = [
        ("is missing", &|journal| fs::remove_file(journal).unwrap()),
        ("is damaged at byte 0", &|journal| {
            let mut bytes = fs::read(journal).unwrap();
            bytes[40] ^= 1;
            fs::write(journal, bytes).unwrap();
        }),
        ("is damaged at byte", &|journal| {
            let bytes = fs::read(journal).unwrap();
            fs::write(journal, &bytes[..bytes.len() - 1]).unwrap();
        }),
    ];
    for (word, spoil) in spoil {
        let case = Case { home: Home::new(&[]).with_evidence(), ..Case::new(WORLD) };
        copy(&whole.home.out(), &case.home.out());
        spoil(&case.home.out().join("_pagehaul/journal/000002.zst"));
        // The output is whole: nothing needs the journal, until all is to be built again.
        assert_eq!(run(case.replay(&[])).ended(0)["rebuilt"], 0);
        let before = untouched(&case.home.out());
        for flags in [&["--all"][..], &["--drop-columns", "play_addr"]] {
            let refused = run(case.replay(flags));
            let json = refused.ended(9);
            let message = json["cause"].as_str().unwrap();
            assert!(message.starts_with("segment 2 must be rebuilt (") && message.contains(word), "{refused}");
            assert!(json["next"].as_str().unwrap().contains("nothing was changed"), "{refused}");
            assert!(untouched(&case.home.out()) == before, "{word}: something was changed");
        }
        run(case.replay(&[])).ended(0);
    }
}

#[test]
fn another_call_is_no_other_column_table_and_is_refused_with_what_differs() {
    let case = Case::exported(&[]);
    let before = untouched(&case.home.out());
    let table: [(&str, &[(&str, &str)]); 5] = [
        ("path.toml", &[("path = \"/v1/tiktok/product/videos/analytics\"", "path = \"/v1/tiktok/product/videos\"")]),
        ("param.toml", &[("param = \"product_id\"", "param = \"id\"")]),
        ("page.toml", &[("number_param = \"page_num\"", "number_param = \"page\"")]),
        ("first.toml", &[("first = 1", "first = 0")]),
        ("name.toml", &[("name = \"product-videos\"", "name = \"others\"")]),
    ];
    for (name, changes) in table {
        let refused = run(case.replay(&["--endpoint", &endpoint(&case.home, name, changes)]));
        let message = refused.ended(9)["cause"].as_str().unwrap().to_owned();
        assert!(message.contains("other settings: call was product-videos "), "{refused}");
        assert!(untouched(&case.home.out()) == before, "{name}");
    }
    let unknown = run(case.replay(&["--drop-columns", "play_adr"]));
    assert!(unknown.ended(2)["cause"].as_str().unwrap().contains("did you mean play_addr?"), "{unknown}");
    case.assert_complete();
}

#[test]
fn a_ledger_that_was_emptied_is_damage_to_a_replay_too() {
    let case = Case::exported(&[]);
    for content in [&b""[..], b"no ledger"] {
        fs::write(case.home.out().join("_pagehaul/ledger.sqlite"), content).unwrap();
        let refused = run(case.replay(&[]));
        assert!(refused.ended(9)["cause"].as_str().unwrap().contains("ledger.sqlite is damaged"), "{refused}");
    }
}

#[test]
fn a_directory_whose_name_starts_like_an_address_is_a_directory_and_an_unknown_address_is_refused() {
    let case = Case::new(WORLD);
    for out in ["file:out", "file:out?mode=memory"] {
        let mut export =
            pagehaul(["export", "--base-url", &case.server.base_url(), "--progress", "none", "--out", out]);
        export.args(["--products", &case.home.argument("list.txt")]).env("KEYAPI_TOKEN", "a-key-of-a-test");
        export.current_dir(case.home.path(""));
        run(export).ended(0);
        assert!(case.home.path(out).join("_pagehaul/ledger.sqlite").metadata().unwrap().len() > 0, "{out}");
        for command in ["replay", "verify"] {
            let mut command = pagehaul([command, "--out", out]);
            command.current_dir(case.home.path(""));
            run(command).ended(0);
        }
    }
    let before = tree(&case.home.path(""));
    for (out, says) in [("ftp://host/videos", "must be a directory"), ("s3://bucket/videos", "state_dir")] {
        let refused = run(pagehaul(["export", "--simulate", "--out", out]));
        assert!(refused.ended(2)["cause"].as_str().unwrap().contains(says), "{refused}");
    }
    assert!(tree(&case.home.path("")) == before);
}

#[test]
fn an_output_that_is_newer_than_its_ledger_is_left_alone() {
    let case = Case::exported(&[]);
    let state = case.home.path("out/_pagehaul");
    fs::copy(state.join("ledger.sqlite"), case.home.path("older")).unwrap();
    run(case.replay(&["--all"])).ended(0);
    fs::copy(case.home.path("older"), state.join("ledger.sqlite")).unwrap();
    let before = untouched(&case.home.out());
    let refused = run(case.replay(&[]));
    assert!(refused.ended(9)["cause"].as_str().unwrap().contains("newer than its ledger"), "{refused}");
    assert!(untouched(&case.home.out()) == before);
}

/// Ends a replay at a step of its own and says how it ended.
fn replay_until(case: &Case, step: u32, flags: &[&str]) -> Run {
    let mut command = case.replay(flags);
    command.env("TEST_STEP", format!("{step}:kill")).env("TEST_WALL", "1700000000000000");
    run(command)
}

#[test]
fn a_replay_killed_at_any_step_leaves_each_key_once_and_continues_to_the_same_output() {
    let whole = Case::exported(&["--drop-columns", "play_addr"]);
    let flags = ["--drop-columns", "none"];
    let (mut step, mut mixed) = (0, 0);
    let rows_of = expected(&whole.simulator, &ids(&whole.simulator), 10);
    loop {
        step += 1;
        let case = Case { home: Home::new(&ids(&whole.simulator)).with_evidence(), ..Case::new(WORLD) };
        copy(&whole.home.out(), &case.home.out());
        let ended = replay_until(&case, step, &flags);
        if ended.code == Some(0) {
            break;
        }
        assert_eq!(ended.code, None, "step {step}: {ended}");
        // Readers of the manifests see whole files and each key once, whichever attempt it is of.
        let left = rows(&case.home.out());
        assert!(left.keys().eq(rows_of.keys()), "step {step}: {} of {} rows", left.len(), rows_of.len());
        let renewed = left.values().filter(|row| row.contains_key("play_addr")).count();
        mixed += u32::from(0 < renewed && renewed < left.len());
        let started = !case.home.out().join("_SUCCESS").exists();
        assert!(started || renewed == 0 || renewed == left.len(), "step {step}: a mixture is marked as complete");
        // The same command continues, and so does an export under the new columns, once they are the export's.
        let summary = if step % 2 == 0 { run(case.replay(&flags)) } else { run(case.export(&[])) };
        let summary = if summary.code == Some(9) {
            assert!(summary.json()["cause"].as_str().unwrap().contains("columns was"), "step {step}: {summary}");
            run(case.replay(&flags)).ended(0)
        } else {
            summary.ended(0)
        };
        assert_eq!(summary["run"]["requests"], 0, "step {step}");
        assert!(case.home.out().join("_SUCCESS").exists(), "step {step}");
        assert_rows(&case.home.out(), &rows_of);
        assert_eq!(files(&case.home.out().join("_pagehaul/staging")).len(), 0, "step {step}");
        case.assert_sound();
    }
    assert!(mixed > 10 && step > 50, "{mixed} of {step} steps were between two segments");
}
