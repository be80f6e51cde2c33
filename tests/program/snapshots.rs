//! Many exports in one output: snapshots beside each other.

use std::collections::BTreeSet;
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
    for command in ["export", "status", "verify"] {
        let simulate = if command == "export" { &["--simulate"][..] } else { &[] };
        let refused = run(pagehaul([&[command, "--out", &out], simulate].concat()));
        assert_eq!(refused.code, Some(9), "{refused}");
        assert!(refused.stderr.contains("holds snapshots: name one with --snapshot"), "{refused}");
    }
    assert!(tree(&home.path("out/snapshot=a")) == before, "the snapshot is as it was");
    assert_eq!(with_rows(&home.out()), labels(&["a"]));
}
