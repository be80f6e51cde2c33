//! Many exports in one output: snapshots beside each other, and older ones that go.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::common::{Home, Run, files, manifests, pagehaul, run, tree};

/// Exports a few products of the embedded simulator as a snapshot.
fn snapshot(home: &Home, label: &str, flags: &[&str]) -> Run {
    run(command(home, label, flags))
}

fn command(home: &Home, label: &str, flags: &[&str]) -> std::process::Command {
    let out = home.argument("out");
    let mut command =
        pagehaul(["export", "--simulate=products=3,max_videos=30", "--qps", "unlimited", "--progress", "none"]);
    command.args(["--out", &out, "--snapshot", label]).args(flags);
    command
}

/// The labels of the snapshots that have files of rows.
fn with_rows(out: &Path) -> BTreeSet<String> {
    let names = files(out).into_iter().filter(|path| path.extension().is_some_and(|kind| kind == "parquet"));
    let inside = names.map(|path| path.strip_prefix(out).unwrap().to_str().unwrap().to_owned());
    let of_rows = inside.filter(|name| name.contains("/region="));
    of_rows.map(|name| name.split('/').next().unwrap().to_owned()).collect()
}

fn labels(labels: &[&str]) -> BTreeSet<String> {
    labels.iter().map(|label| format!("snapshot={label}")).collect()
}

#[test]
fn snapshots_lie_beside_each_other_and_a_finished_one_costs_nothing() {
    let home = Home::new(&[]);
    snapshot(&home, "a", &[]).ended(0);
    let before = tree(&home.path("out/snapshot=a"));
    let second = snapshot(&home, "b", &[]);
    assert!(second.ended(0)["run"]["requests"].as_u64().unwrap() > 0, "{second}");
    assert!(tree(&home.path("out/snapshot=a")) == before, "another snapshot touches none");
    assert_eq!(with_rows(&home.out()), labels(&["a", "b"]));
    let again = snapshot(&home, "a", &[]);
    assert_eq!(again.ended(0)["run"]["requests"], 0, "{again}");
    let out = home.argument("out");
    for command in ["verify", "replay"] {
        run(pagehaul([command, "--out", &out, "--snapshot", "b"])).ended(0);
    }
    let status = run(pagehaul(["status", "--out", &out, "--snapshot", "b"]));
    assert!(status.code == Some(0) && status.stdout.contains("snapshot=b"), "{status}");
    let exports = [manifests(&home.path("out/snapshot=a")), manifests(&home.path("out/snapshot=b"))];
    assert_ne!(exports[0][0]["export"], exports[1][0]["export"]);
}

#[test]
fn a_dataset_is_no_export_and_a_wrong_label_is_refused_with_what_it_must_be() {
    let home = Home::new(&[]);
    snapshot(&home, "a", &[]).ended(0);
    let (before, out) = (tree(&home.path("out/snapshot=a")), home.argument("out"));
    for label in [" -a", "a/b", "..", "a=b"] {
        let refused = snapshot(&home, label, &[]);
        assert!(refused.ended(2)["cause"].as_str().unwrap().contains("the name of a directory"), "{refused}");
    }
    let export = home.argument("out/snapshot=a");
    let inside = run(pagehaul(["export", "--simulate", "--out", &export, "--snapshot", "a"]));
    assert!(inside.ended(9)["cause"].as_str().unwrap().contains("an export without snapshots"), "{inside}");
    let keep = run(pagehaul(["export", "--simulate", "--out", &out, "--keep", "2"]));
    assert!(keep.ended(2)["cause"].as_str().unwrap().contains("give --snapshot"), "{keep}");
    for command in ["export", "status", "verify"] {
        let simulate = if command == "export" { &["--simulate"][..] } else { &[] };
        let refused = run(pagehaul([&[command, "--out", &out], simulate].concat()));
        assert_eq!(refused.code, Some(9), "{refused}");
        assert!(refused.stderr.contains("holds snapshots: name one with --snapshot"), "{refused}");
    }
    assert!(tree(&home.path("out/snapshot=a")) == before, "the snapshot is as it was");
    assert_eq!(with_rows(&home.out()), labels(&["a"]));
}

#[test]
fn older_complete_snapshots_go_and_replay_brings_them_back() {
    let home = Home::new(&[]);
    for label in ["z", "partial", "b", "c"] {
        snapshot(&home, label, &[]).ended(0);
    }
    // One that is not complete stays, and so does what is not pagehaul's.
    fs::remove_file(home.path("out/snapshot=partial/_SUCCESS")).unwrap();
    fs::write(home.path("out/snapshot=z/region=ID/notes.txt"), "mine").unwrap();
    let last = snapshot(&home, "a", &["--keep", "2"]);
    last.ended(0);
    assert!(last.stderr.contains("removed the files of snapshot=z") && last.stderr.contains("snapshot=b"), "{last}");
    assert_eq!(with_rows(&home.out()), labels(&["a", "c", "partial"]));
    for name in ["_pagehaul/ledger.sqlite", "_pagehaul/journal/000001.zst", "region=ID/notes.txt"] {
        assert!(home.path("out/snapshot=z").join(name).exists(), "{name}");
    }
    assert!(!home.path("out/snapshot=b/region=ID").exists(), "an empty directory is no region");
    // Once more, there is nothing to remove.
    let again = snapshot(&home, "a", &["--keep", "2"]);
    assert!(again.ended(0)["run"]["requests"] == 0 && !again.stderr.contains("removed"), "{again}");
    run(pagehaul(["replay", "--out", &home.argument("out"), "--snapshot", "b"])).ended(0);
    assert_eq!(with_rows(&home.out()), labels(&["a", "b", "c", "partial"]));
    run(pagehaul(["verify", "--out", &home.argument("out"), "--snapshot", "b"])).ended(0);
}

#[cfg(debug_assertions)]
#[test]
fn a_removal_that_was_killed_at_any_step_is_finished_by_the_next_run() {
    let start = Home::new(&[]);
    for label in ["a", "b"] {
        snapshot(&start, label, &[]).ended(0);
    }
    let mut killed = 0;
    for step in 1.. {
        let home = Home::new(&[]);
        crate::common::copy(&start.out(), &home.out());
        let mut dying = command(&home, "b", &["--keep", "1"]);
        dying.env("TEST_STEP", format!("{step}:kill"));
        if run(dying).code == Some(0) {
            break;
        }
        killed += 1;
        snapshot(&home, "b", &["--keep", "1"]).ended(0);
        assert_eq!(with_rows(&home.out()), labels(&["b"]), "step {step}");
        assert!(!home.path("out/snapshot=a/_pagehaul/removal.json").exists(), "step {step}");
        assert!(manifests(&home.path("out/snapshot=a")).is_empty(), "step {step}");
    }
    assert!(killed > 10, "{killed} steps");
}
