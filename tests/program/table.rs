//! `--table delta`: what of an output goes into its table, when, and what is refused.

#[cfg(feature = "delta")]
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
#[cfg(feature = "delta")]
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

#[cfg(feature = "delta")]
use crate::common::manifests;
use crate::common::{Home, ids, is_whole_grid, pagehaul, run, simulator};
use pagehaul::simulator::{self, Server, Simulator};

/// An API, and a directory for what comes of it.
struct Case {
    home: Home,
    simulator: Arc<Simulator>,
    server: Server,
}

impl Case {
    fn new() -> Self {
        let simulator = simulator("products=4,max_videos=28");
        let server = simulator::start(Arc::clone(&simulator)).unwrap();
        Self { home: Home::new(&ids(&simulator)).with_evidence(), simulator, server }
    }

    fn export(&self, more: &[&str]) -> Command {
        let several = ["--max-in-flight", "1", "--segment-size", "8KiB"];
        self.home.export(&self.server.base_url(), &[&several, more].concat())
    }

    fn replay(&self, more: &[&str]) -> Command {
        let mut command = pagehaul(["replay", "--progress", "none", "--out"]);
        command.arg(self.home.out()).args(more);
        command
    }

    fn requests(&self) -> u64 {
        self.simulator.account().requests
    }
}

#[cfg(not(feature = "delta"))]
#[test]
fn a_build_without_tables_says_how_to_make_one_with_them() {
    let case = Case::new();
    let refused = run(case.export(&["--table", "delta"]));
    refused.ended(2);
    assert!(refused.stderr.contains("--features delta"), "{}", refused.stderr);
    assert_eq!((case.requests(), case.home.out().exists()), (0, false));
}

#[test]
fn a_run_without_the_table_of_an_output_that_has_one_changes_nothing() {
    let case = Case::new();
    run(case.export(&[])).ended(0);
    let log = case.home.out().join("_delta_log");
    fs::create_dir(&log).unwrap();
    fs::write(log.join("00000000000000000000.json"), "{}").unwrap();
    let before = case.requests();
    for refused in [run(case.export(&[])), run(case.replay(&["--all"]))] {
        refused.ended(9);
        assert!(refused.stderr.contains("--table delta"), "{}", refused.stderr);
    }
    assert_eq!(case.requests(), before);
}

/// The live files of the table, by its log.
#[cfg(feature = "delta")]
fn live(out: &Path) -> BTreeSet<String> {
    let versions: BTreeSet<PathBuf> =
        fs::read_dir(out.join("_delta_log")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let mut live = BTreeSet::new();
    for version in versions.iter().filter(|path| path.extension().is_some_and(|kind| kind == "json")) {
        for line in fs::read_to_string(version).unwrap().lines() {
            let action: serde_json::Value = serde_json::from_str(line).unwrap();
            let path = |value: &serde_json::Value| {
                let path = value["path"].as_str().unwrap();
                percent_encoding::percent_decode_str(path).decode_utf8().unwrap().into_owned()
            };
            if let Some(remove) = action.get("remove") {
                assert!(live.remove(&path(remove)));
            }
            if let Some(add) = action.get("add") {
                assert!(live.insert(path(add)));
            }
        }
    }
    live
}

/// The files of rows of all manifests.
#[cfg(feature = "delta")]
fn published(out: &Path) -> BTreeSet<String> {
    let manifests = manifests(out);
    let files = manifests.iter().flat_map(|manifest| manifest["files"].as_array().unwrap());
    files.map(|file| file["path"].as_str().unwrap().to_owned()).collect()
}

#[cfg(feature = "delta")]
#[test]
fn a_complete_export_becomes_a_table_without_a_request_and_a_replay_replaces_its_segments_there() {
    let case = Case::new();
    let out = case.home.out();
    run(case.export(&[])).ended(0);
    let (before, first) = (case.requests(), published(&out));
    for _ in 0..2 {
        run(case.export(&["--table", "delta"])).ended(0);
        assert_eq!((live(&out), case.requests()), (first.clone(), before));
    }
    run(case.replay(&["--all", "--table", "delta"])).ended(0);
    let second = published(&out);
    assert!(second.is_disjoint(&first));
    assert_eq!((live(&out), case.requests()), (second, before));
    // Readers of the table's older versions still find their files, and `verify` knows why they are there.
    assert!(first.iter().all(|path| out.join(path).is_file()));
    run(pagehaul(["verify".as_ref(), "--out".as_ref(), out.as_os_str()])).ended(0);
}

#[cfg(feature = "delta")]
#[test]
fn a_partition_column_that_is_in_the_files_too_is_one_column_of_the_table() {
    let case = Case::new();
    let out = case.home.out();
    run(case.export(&["--table", "delta", "--partition-in-files"])).ended(0);
    assert_eq!(live(&out), published(&out));
    let first = fs::read_to_string(out.join("_delta_log/00000000000000000000.json")).unwrap();
    assert_eq!(first.matches(r#"\"name\":\"region\""#).count(), 1, "{first}");
}

/// What the snapshots of a dataset published, with names relative to the dataset.
#[cfg(feature = "delta")]
fn published_in(dataset: &Path, labels: &[&str]) -> BTreeSet<String> {
    let of = |label: &&str| {
        let snapshot = format!("snapshot={label}");
        published(&dataset.join(&snapshot)).into_iter().map(move |path| format!("{snapshot}/{path}"))
    };
    labels.iter().flat_map(of).collect()
}

#[cfg(feature = "delta")]
#[test]
fn the_snapshots_of_a_dataset_are_one_table_and_a_replay_of_one_leaves_the_others_as_they_are() {
    let case = Case::new();
    let out = case.home.out();
    for label in ["2026-11-26", "2026-11-27"] {
        run(case.export(&["--table", "delta", "--snapshot", label])).ended(0);
    }
    let labels = ["2026-11-26", "2026-11-27"];
    let first = published_in(&out, &labels);
    assert_eq!(live(&out), first);
    let text = fs::read_to_string(out.join("_delta_log/00000000000000000000.json")).unwrap();
    assert!(text.contains(r#""partitionColumns":["snapshot","region"]"#), "{text}");
    let text = fs::read_to_string(out.join("_delta_log/00000000000000000001.json")).unwrap();
    assert!(text.contains(r#""snapshot":"2026-11-26""#) && text.contains(r#""region":"#), "{text}");

    let before = case.requests();
    run(case.replay(&["--all", "--table", "delta", "--snapshot", labels[1]])).ended(0);
    let second = published_in(&out, &labels);
    assert_eq!((live(&out), case.requests()), (second.clone(), before));
    let is_old = |path: &&String| path.starts_with("snapshot=2026-11-26/");
    assert_eq!(first.iter().filter(is_old).collect::<Vec<_>>(), second.iter().filter(is_old).collect::<Vec<_>>());
    assert!(first.intersection(&second).all(|path| is_old(&path)));

    // Nothing is left without the table, whether the snapshot is old or new.
    for label in [labels[0], "2026-11-28"] {
        let refused = run(case.export(&["--snapshot", label]));
        refused.ended(9);
        assert!(refused.stderr.contains("give --table delta"), "{}", refused.stderr);
    }
    assert_eq!(case.requests(), before);
    for label in labels {
        run(pagehaul(["verify", "--snapshot", label, "--out", out.to_str().unwrap()])).ended(0);
    }
}

#[cfg(feature = "delta")]
#[test]
fn a_snapshot_that_is_not_kept_leaves_the_table_before_its_files_go_and_a_replay_brings_it_back() {
    let case = Case::new();
    let out = case.home.out();
    let labels = ["a", "b", "c"];
    for label in labels {
        run(case.export(&["--table", "delta", "--snapshot", label, "--keep", "2"])).ended(0);
    }
    assert_eq!(live(&out), published_in(&out, &labels[1..]));
    assert!(!live(&out).is_empty() && published_in(&out, &labels[..1]).is_empty());
    let status = run(pagehaul(["status", "--snapshot", "a", "--out", out.to_str().unwrap(), "--json"]));
    assert_eq!(status.ended(0)["status"], "removed");
    run(case.replay(&["--table", "delta", "--snapshot", "a"])).ended(0);
    assert_eq!(live(&out), published_in(&out, &labels));
    for label in labels {
        run(pagehaul(["verify", "--snapshot", label, "--out", out.to_str().unwrap()])).ended(0);
    }
}

#[cfg(feature = "delta")]
#[test]
fn a_table_without_snapshots_takes_none_and_one_of_snapshots_takes_nothing_else() {
    let (alone, dataset) = (Case::new(), Case::new());
    run(alone.export(&["--table", "delta"])).ended(0);
    run(dataset.export(&["--table", "delta", "--snapshot", "a"])).ended(0);
    let cases: [(&Case, &[&str], &str); 2] = [
        (&alone, &["--table", "delta", "--snapshot", "b"], "partitioned by region, the export by snapshot, region"),
        (&dataset, &["--table", "delta"], "partitioned by snapshot, region, the export by region"),
    ];
    for (other, options, says) in cases {
        let fresh = Case::new();
        fs::create_dir_all(fresh.home.out()).unwrap();
        crate::common::copy(&other.home.out().join("_delta_log"), &fresh.home.out().join("_delta_log"));
        let refused = run(fresh.export(options));
        refused.ended(9);
        assert!(refused.stderr.contains(says), "{}", refused.stderr);
        assert_eq!((fresh.requests(), live(&fresh.home.out())), (0, live(&other.home.out())));
    }
}

#[cfg(feature = "delta")]
#[test]
fn exports_of_two_snapshots_at_the_same_time_lose_no_commit_of_each_other() {
    let case = Case::new();
    let labels = ["a", "b", "c"];
    let start = |label: &&str| {
        let mut command = case.export(&["--table", "delta", "--snapshot", label]);
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap()
    };
    let runs: Vec<_> = labels.iter().map(start).collect();
    for mut run in runs {
        assert_eq!(run.wait().unwrap().code(), Some(0));
    }
    let out = case.home.out();
    assert_eq!(live(&out), published_in(&out, &labels));
    let added = live(&out).len();
    for label in labels {
        run(case.export(&["--table", "delta", "--snapshot", label])).ended(0);
    }
    assert_eq!(live(&out).len(), added);
}

#[cfg(feature = "delta")]
#[test]
fn removed_files_go_once_the_table_keeps_them_no_longer() {
    let case = Case::new();
    let out = case.home.out();
    run(case.export(&["--table", "delta"])).ended(0);
    let first = published(&out);
    let version = out.join("_delta_log/00000000000000000000.json");
    let text = fs::read_to_string(&version).unwrap();
    let kept = text.replace(
        "\"configuration\":{}",
        "\"configuration\":{\"delta.deletedFileRetentionDuration\":\"interval 0 seconds\"}",
    );
    assert_ne!(kept, text);
    fs::write(&version, kept).unwrap();
    run(case.replay(&["--all", "--table", "delta"])).ended(0);
    assert!(first.iter().all(|path| !out.join(path).exists()), "{first:?}");
    assert_eq!(live(&out), published(&out));
}

#[cfg(feature = "delta")]
#[test]
fn a_table_with_other_columns_ends_a_run_before_its_first_request_unless_it_may_change() {
    let case = Case::new();
    let out = case.home.out();
    run(case.export(&["--table", "delta", "--drop-columns", "hash_tag"])).ended(0);
    let before = case.requests();
    let refused = run(case.replay(&["--columns", "all", "--table", "delta"]));
    refused.ended(9);
    assert!(refused.stderr.contains("no column hash_tag (--evolve allows this)"), "{}", refused.stderr);
    run(case.replay(&["--columns", "all", "--table", "delta", "--evolve"])).ended(0);
    assert_eq!((live(&out), case.requests()), (published(&out), before));
    run(case.export(&["--table", "delta"])).ended(0);

    let fresh = Case::new();
    fs::create_dir_all(fresh.home.out()).unwrap();
    crate::common::copy(&out.join("_delta_log"), &fresh.home.out().join("_delta_log"));
    let refused = run(fresh.export(&["--table", "delta", "--drop-columns", "hash_tag"]));
    refused.ended(9);
    assert!(refused.stderr.contains("has a column hash_tag and the export has not"), "{}", refused.stderr);
    assert_eq!(fresh.requests(), 0);
}

/// As OPTIMIZE of another writer does: the rows of a published file are in another one.
#[cfg(feature = "delta")]
fn rewrite(out: &Path, path: &str) {
    let region = path.split('/').next().unwrap().strip_prefix("region=").unwrap();
    let other = format!("region={region}/other.parquet");
    fs::copy(out.join(path), out.join(&other)).unwrap();
    let bytes = fs::metadata(out.join(path)).unwrap().len();
    let action = |name: &str, path: &str| {
        let file = serde_json::json!({
            "path": path, "partitionValues": {"region": region}, "size": bytes, "dataChange": false,
            "modificationTime": 1, "deletionTimestamp": 1,
        });
        serde_json::json!({ name: file }).to_string()
    };
    let next = fs::read_dir(out.join("_delta_log")).unwrap().count();
    let text = [action("remove", path), action("add", &other)].join("\n");
    fs::write(out.join(format!("_delta_log/{next:020}.json")), text).unwrap();
}

#[cfg(feature = "delta")]
#[test]
fn verify_compares_the_table_with_the_manifests() {
    let case = Case::new();
    let out = case.home.out();
    let verify = || run(pagehaul(["verify".as_ref(), "--out".as_ref(), out.as_os_str()]));
    run(case.export(&["--table", "delta"])).ended(0);
    let verified = verify();
    verified.ended(0);
    let versions = fs::read_dir(out.join("_delta_log")).unwrap().count();
    let segments = versions - 1;
    assert!(verified.stderr.contains(&format!("{segments} segments committed\n")), "{verified}");

    // As a crash between the manifest and the commit of the last segment leaves it.
    let last = out.join(format!("_delta_log/{segments:020}.json"));
    let text = fs::read(&last).unwrap();
    fs::remove_file(&last).unwrap();
    let behind = verify();
    behind.ended(0);
    assert!(behind.stderr.contains("committed, 1 not yet: the next run does it"), "{behind}");
    fs::write(&last, text).unwrap();

    let moved = published(&out).into_iter().next().unwrap();
    rewrite(&out, &moved);
    let differs = verify();
    differs.ended(9);
    assert!(differs.stderr.contains(&format!("{moved} is not in the Delta table")), "{differs}");
    // A second file with rows of the export, under a name of its own.
    let extra = moved.replace("-0.parquet", "-9.parquet");
    fs::copy(out.join(&moved), out.join(&extra)).unwrap();
    let add = serde_json::json!({"add": {
        "path": extra, "partitionValues": {"region": "ID"}, "size": 1, "dataChange": true, "modificationTime": 1,
    }});
    fs::write(out.join(format!("_delta_log/{:020}.json", versions + 1)), add.to_string()).unwrap();
    let differs = verify();
    differs.ended(9);
    assert!(differs.stderr.contains(&format!("{extra} is in the Delta table and in no manifest")), "{differs}");
}

#[cfg(feature = "delta")]
#[test]
fn a_replay_of_rows_that_another_writer_has_moved_is_refused_before_it_changes_anything() {
    let case = Case::new();
    let out = case.home.out();
    run(case.export(&["--table", "delta"])).ended(0);
    let before = published(&out);
    rewrite(&out, before.iter().find(|path| path.contains("-s000001-")).unwrap());
    let table = live(&out);
    let refused = run(case.replay(&["--all", "--table", "delta"]));
    refused.ended(9);
    assert!(refused.stderr.contains("is not in it any more"), "{}", refused.stderr);
    assert_eq!((published(&out), live(&out)), (before, table));
    // The export goes on as if nothing had been asked for.
    run(case.export(&["--table", "delta"])).ended(0);
}

/// The live files by segment: `EXPORT-sSEGMENT-ATTEMPT` is in each name.
#[cfg(feature = "delta")]
fn by_attempt(files: &BTreeSet<String>) -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for path in files {
        let name = path.rsplit('/').next().unwrap();
        let attempt = name.rsplit_once('-').unwrap().0;
        found.entry(attempt.to_owned()).or_default().insert(path.clone());
    }
    found
}

#[cfg(feature = "delta")]
#[test]
fn a_replay_killed_at_any_step_leaves_one_whole_attempt_at_each_segment_in_the_table() {
    let case = Case::new();
    run(case.export(&["--table", "delta"])).ended(0);
    let first = published(&case.home.out());
    let segments = by_attempt(&first).len();
    let regions_of = |attempt: &str, files: &BTreeSet<String>| {
        let segment = attempt.rsplit_once('-').unwrap().0.to_owned();
        let regions = files.iter().map(|path| path.split('/').next().unwrap().to_owned());
        (segment, regions.collect::<BTreeSet<String>>())
    };
    let expected: BTreeMap<_, _> = by_attempt(&first).iter().map(|(name, files)| regions_of(name, files)).collect();
    // Steps are in pairs, one before and one after: every third one is before as often as after.
    let stride = if is_whole_grid() { 1 } else { 3 };
    let (mut step, mut mixed) = (0, 0);
    loop {
        step += stride;
        let killed = crate::common::scratch();
        let out = killed.path().join("out");
        crate::common::copy(&case.home.out(), &out);
        let replay = || {
            let mut command = pagehaul(["replay", "--all", "--progress", "none", "--table", "delta", "--out"]);
            command.arg(&out);
            command
        };
        let mut command = replay();
        command.env("TEST_STEP", format!("{step}:kill"));
        let ended = run(command);
        if ended.code == Some(0) {
            break;
        }
        assert_eq!(ended.code, None, "step {step}: {ended}");
        let left = by_attempt(&live(&out));
        assert_eq!(left.len(), segments, "step {step}: {left:?}");
        let found: BTreeMap<_, _> = left.iter().map(|(name, files)| regions_of(name, files)).collect();
        assert_eq!(found, expected, "step {step}");
        let kept = live(&out).intersection(&first).count();
        mixed += u32::from(0 < kept && kept < first.len());
        run(replay()).ended(0);
        assert_eq!(live(&out), published(&out), "step {step}");
    }
    assert!(mixed * stride > 5 && step > 50, "{mixed} of {step} steps were between two segments");
}
