//! Many exports in one output: snapshots beside each other, and the removal of older ones.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;

use crate::common::{Home, Run, copy, files, manifests, pagehaul, run, tree};

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
    for (command, code) in [("export", 9), ("status", 2), ("report", 2), ("verify", 2)] {
        let simulate = if command == "export" { &["--simulate"][..] } else { &[] };
        let refused = run(pagehaul([&[command, "--out", &out], simulate].concat()));
        assert_eq!(refused.code, Some(code), "{refused}");
        assert!(refused.stderr.contains("holds snapshots: name one with --snapshot"), "{refused}");
        assert_eq!(refused.stderr.contains("for example a\n"), code == 2, "{refused}");
    }
    assert!(tree(&home.path("out/snapshot=a")) == before, "the snapshot is as it was");
    assert_eq!(with_rows(&home.out()), labels(&["a"]));
    for (flags, words) in [(&["--keep", "2"][..], "give --snapshot"), (&["--keep", "0", "--snapshot", "b"], "from 1")] {
        let refused = run(pagehaul([&["export", "--simulate", "--out", &out], flags].concat()));
        assert!(refused.ended(2)["cause"].as_str().unwrap().contains(words), "{refused}");
    }
}

/// Snapshots with these labels, the first one the oldest.
fn dataset(labels: &[&str]) -> Home {
    let home = Home::new(&[]);
    for label in labels {
        snapshot(&home, label, &[]).ended(0);
    }
    home
}

/// A command about a snapshot that exists.
fn about(home: &Home, command: &str, label: &str) -> Run {
    run(pagehaul([command, "--out", &home.argument("out"), "--snapshot", label, "--json"]))
}

/// What is in a snapshot beside its state.
fn output(home: &Home, label: &str) -> Vec<String> {
    let names = tree(&home.path(&format!("out/snapshot={label}"))).into_keys();
    names.filter(|name| !name.starts_with("_pagehaul/") || name.starts_with("_pagehaul/segments/")).collect()
}

#[test]
fn older_complete_snapshots_go_by_their_time_and_their_journals_and_ledgers_stay() {
    let home = dataset(&["z", "partial", "b", "c"]);
    fs::remove_file(home.path("out/snapshot=partial/_SUCCESS")).unwrap();
    let state = |label: &str| {
        let state = home.path(&format!("out/snapshot={label}/_pagehaul"));
        let names = ["journal/000001.zst", "summary.json", "products.parquet", "report.html", "export.json"];
        names.map(|name| fs::read(state.join(name)).unwrap())
    };
    let before = ["z", "b"].map(state);
    let last = snapshot(&home, "a", &["--keep", "2"]);
    assert!(last.ended(0)["run"]["requests"].as_u64().unwrap() > 0, "{last}");
    for line in [
        "removed the files of snapshot=z (11 files); its ledger and journal stay",
        "removed the files of snapshot=b",
        "complete snapshots with their files: snapshot=a, snapshot=c",
        "incomplete snapshots stay and do not count: snapshot=partial",
    ] {
        assert!(last.stderr.contains(line), "{line}: {last}");
    }
    assert_eq!(with_rows(&home.out()), labels(&["a", "c", "partial"]));
    for label in ["z", "b"] {
        assert_eq!(output(&home, label), [""; 0], "{label}");
        let directories = fs::read_dir(home.path(&format!("out/snapshot={label}"))).unwrap();
        assert_eq!(directories.count(), 1, "an empty directory is no region");
    }
    assert!(["z", "b"].map(state) == before);
    // A rerun of a complete snapshot does the same: there is nothing to do, and then something.
    let again = snapshot(&home, "a", &["--keep", "2"]);
    assert!(again.ended(0)["run"]["requests"] == 0 && !again.stderr.contains("removed"), "{again}");
    let fewer = snapshot(&home, "a", &["--keep", "1"]);
    assert!(
        fewer.ended(0)["run"]["requests"] == 0 && fewer.stderr.contains("removed the files of snapshot=c"),
        "{fewer}"
    );
    assert_eq!(with_rows(&home.out()), labels(&["a", "partial"]));
}

#[test]
fn the_snapshot_of_the_run_keeps_its_files_also_if_it_is_the_oldest_one() {
    let home = dataset(&["a", "b", "c"]);
    snapshot(&home, "a", &["--keep", "1"]).ended(0);
    assert_eq!(with_rows(&home.out()), labels(&["a"]));
}

#[test]
fn a_removed_snapshot_says_so_everywhere_and_replay_brings_it_back_as_old_as_it_was() {
    let home = dataset(&["a", "b"]);
    let since = about(&home, "status", "a").ended(0)["complete_since"].clone();
    snapshot(&home, "b", &["--keep", "1"]).ended(0);
    let content = || {
        let mut tree = tree(&home.path("out/snapshot=a"));
        // The lock names the last process. A ledger that was opened may have an empty log.
        tree.retain(|name, _| !name.ends_with("lock") && !name.contains("ledger.sqlite-"));
        tree
    };
    let before = content();
    let status = about(&home, "status", "a").ended(0);
    assert_eq!((&status["status"], &status["files"]), (&"removed".into(), &0.into()), "{status}");
    assert!(status["complete_since"].is_null() && status["next"].as_str().unwrap().contains("replay"), "{status}");
    for refused in [about(&home, "verify", "a"), snapshot(&home, "a", &[]), snapshot(&home, "a", &["--repair"])] {
        let end = refused.ended(9);
        assert!(end["cause"].as_str().unwrap().contains("snapshot=a were removed"), "{refused}");
        assert!(end["next"].as_str().unwrap().contains("another --snapshot"), "{refused}");
    }
    assert!(content() == before, "nothing is changed where nothing is done");
    about(&home, "replay", "a").ended(0);
    assert_eq!(with_rows(&home.out()), labels(&["a", "b"]));
    about(&home, "verify", "a").ended(0);
    assert_eq!(about(&home, "status", "a").ended(0)["complete_since"], since);
    snapshot(&home, "b", &["--keep", "2"]).ended(0);
    assert_eq!(with_rows(&home.out()), labels(&["a", "b"]));
}

#[test]
fn without_its_journal_a_removed_snapshot_stays_removed() {
    let home = Home::new(&[]);
    snapshot(&home, "a", &["--journal", "until-published"]).ended(0);
    snapshot(&home, "b", &["--keep", "1"]).ended(0);
    let replay = about(&home, "replay", "a");
    assert!(replay.ended(9)["cause"].as_str().unwrap().contains("journal files"), "{replay}");
    assert_eq!(about(&home, "status", "a").ended(0)["status"], "removed");
}

#[test]
fn a_run_that_is_not_complete_removes_nothing() {
    let home = dataset(&["a", "b"]);
    snapshot(&home, "c", &["--keep", "1", "--max-credits", "1"]).ended(6);
    assert_eq!(with_rows(&home.out()), labels(&["a", "b", "c"]));
}

#[test]
fn a_snapshot_that_a_process_works_on_stays_and_those_after_it_go() {
    let home = dataset(&["a", "b", "c", "d"]);
    let lock = File::open(home.path("out/snapshot=b/_pagehaul/lock")).unwrap();
    lock.try_lock().unwrap();
    let busy = snapshot(&home, "d", &["--keep", "1"]);
    busy.ended(0);
    assert!(
        busy.stderr.contains("snapshot=b stays and does not count: another process works on this export"),
        "{busy}"
    );
    assert_eq!(with_rows(&home.out()), labels(&["b", "d"]));
    drop(lock);
    snapshot(&home, "d", &["--keep", "1"]).ended(0);
    assert_eq!(with_rows(&home.out()), labels(&["d"]));
}

#[test]
fn a_snapshot_of_another_list_of_another_directory_or_of_no_known_state_stays_and_takes_no_place() {
    let home = dataset(&["a", "renamed", "damaged", "foreign", "copied", "b"]);
    let out = home.out();
    let other = ["--simulate=products=3,max_videos=30,seed=99"];
    run(pagehaul(["export", other[0], "--out", out.to_str().unwrap(), "--snapshot", "other", "--qps", "unlimited"]))
        .ended(0);
    fs::rename(out.join("snapshot=renamed"), out.join("snapshot=new-name")).unwrap();
    copy(&out.join("snapshot=copied"), &out.join("snapshot=copy"));
    fs::write(out.join("snapshot=damaged/_pagehaul/ledger.sqlite"), "damage").unwrap();
    fs::write(out.join("snapshot=foreign/_pagehaul/export.json"), "{\"export\":\"0123456789\"}").unwrap();
    fs::create_dir_all(out.join("snapshot=empty/region=ID")).unwrap();
    fs::write(out.join("snapshot=empty/region=ID/mine.parquet"), "mine").unwrap();
    let kept = snapshot(&home, "b", &["--keep", "3"]);
    kept.ended(0);
    for (name, reason) in [
        ("snapshot=other", "it is of another list: base_url is simulator seed=99"),
        ("snapshot=new-name", "it was copied or renamed"),
        ("snapshot=copy", "it was copied or renamed"),
        ("snapshot=damaged", "ledger"),
        ("snapshot=foreign", "its output does not name the export of its ledger"),
        ("snapshot=empty", "there is no export"),
    ] {
        let line = kept.stderr.lines().find(|line| line.contains(&format!("{name} stays and does not count: ")));
        assert!(line.is_some_and(|line| line.contains(reason)), "{name}: {kept}");
    }
    assert!(!kept.stderr.contains("removed"), "{kept}");
    snapshot(&home, "b", &["--keep", "1"]).ended(0);
    let left = ["b", "copy", "damaged", "empty", "foreign", "new-name", "other"];
    assert_eq!(with_rows(&out), labels(&left));
}

#[cfg(debug_assertions)]
#[test]
fn a_snapshot_that_is_complete_since_no_time_in_the_past_stays_and_takes_no_place() {
    let home = dataset(&["a", "b"]);
    for (label, wall) in [("ahead", "4000000000000000"), ("never", "0")] {
        let mut wrong = command(&home, label, &[]);
        run_at(&mut wrong, wall).ended(0);
    }
    let kept = snapshot(&home, "b", &["--keep", "2"]);
    kept.ended(0);
    assert_eq!(kept.stderr.matches("which is not a time in the past").count(), 2, "{kept}");
    snapshot(&home, "b", &["--keep", "1"]).ended(0);
    assert_eq!(with_rows(&home.out()), labels(&["ahead", "b", "never"]));
    // A run whose own clock is behind knows of no older snapshot.
    let home = dataset(&["a", "b"]);
    run_at(&mut command(&home, "c", &["--keep", "1"]), "1000000").ended(0);
    assert_eq!(with_rows(&home.out()), labels(&["a", "b", "c"]));
}

/// Runs a command with a clock that stays at this time.
fn run_at(command: &mut std::process::Command, wall: &str) -> Run {
    command.env("TEST_WALL", wall);
    run(std::mem::replace(command, pagehaul(["--help"])))
}

#[cfg(unix)]
#[test]
fn only_files_of_the_export_itself_go_and_none_through_a_symbolic_link() {
    use std::os::unix::fs::symlink;
    let home = dataset(&["a", "b"]);
    let old = home.path("out/snapshot=a");
    let own = files(&old).into_iter().find(|path| path.to_str().unwrap().contains("region=ID/")).unwrap();
    let elsewhere = home.path("elsewhere");
    fs::create_dir_all(&elsewhere).unwrap();
    // Names like those of the export: behind a link, in another directory, and with a word more.
    let name = own.file_name().unwrap().to_str().unwrap();
    fs::write(elsewhere.join(name), "not yours").unwrap();
    symlink(&elsewhere, old.join("region=XX")).unwrap();
    fs::create_dir_all(old.join("region=ID/deep")).unwrap();
    let mine = [
        "region=ID/notes.txt".to_owned(),
        format!("region=ID/{name}.bak"),
        format!("region=ID/deep/{name}"),
        format!("notes/{name}"),
    ];
    fs::create_dir_all(old.join("notes")).unwrap();
    for name in &mine {
        fs::write(old.join(name), "mine").unwrap();
    }
    // A manifest that names what it should not.
    let manifest = old.join("_pagehaul/segments/000001.json");
    let text = fs::read_to_string(&manifest).unwrap();
    let mut changed: serde_json::Value = serde_json::from_str(&text).unwrap();
    for (file, path) in [(0, "region=ID/notes.txt"), (1, "_pagehaul/ledger.sqlite")] {
        changed["files"][file]["path"] = path.into();
    }
    fs::write(&manifest, changed.to_string()).unwrap();
    // The whole snapshot of somebody else is a link, too.
    symlink(&elsewhere, home.path("out/snapshot=link")).unwrap();
    let last = snapshot(&home, "b", &["--keep", "1"]);
    last.ended(0);
    assert_eq!(fs::read_to_string(elsewhere.join(name)).unwrap(), "not yours");
    assert!(old.join("region=XX").is_symlink() && old.join("_pagehaul/ledger.sqlite").exists());
    for name in &mine {
        assert_eq!(fs::read_to_string(old.join(name)).unwrap(), "mine", "{name}");
    }
    let warning = last.stderr.lines().find(|line| line.contains("snapshot=a still has what is not of its export"));
    for name in ["region=XX", "region=ID/notes.txt", "region=ID/deep"] {
        assert!(warning.is_some_and(|warning| warning.contains(name)), "{name}: {last}");
    }
    assert!(!own.exists() && !old.join("_SUCCESS").exists() && !manifest.exists());
    assert_eq!(about(&home, "status", "a").ended(0)["status"], "removed");
}

#[test]
fn the_state_of_each_snapshot_is_found_in_the_state_directory_of_the_run() {
    let home = Home::new(&[]);
    let state = home.argument("state");
    for label in ["a", "b"] {
        snapshot(&home, label, &["--state-dir", &state]).ended(0);
    }
    snapshot(&home, "inside", &[]).ended(0);
    let last = snapshot(&home, "c", &["--state-dir", &state, "--keep", "1"]);
    last.ended(0);
    assert!(last.stderr.contains("snapshot=inside stays and does not count: "), "{last}");
    assert_eq!(with_rows(&home.out()), labels(&["c", "inside"]));
    assert!(home.path("state/snapshot=a/journal/000001.zst").exists());
}

#[cfg(all(debug_assertions, unix))]
#[test]
fn a_removal_that_was_killed_at_any_step_is_finished_by_the_next_run_and_never_says_complete() {
    let start = dataset(&["a", "b"]);
    let mut killed = 0;
    for step in 1.. {
        let home = Home::new(&[]);
        copy(&start.out(), &home.out());
        let mut dying = command(&home, "b", &["--keep", "1"]);
        dying.env("TEST_STEP", format!("{step}:kill"));
        if run(dying).code == Some(0) {
            break;
        }
        killed += 1;
        let is_whole = output(&home, "a") == output(&start, "a");
        let status = about(&home, "status", "a").ended(0)["status"].clone();
        assert!(is_whole || status == "removed", "step {step}: {status}");
        if status == "removed" {
            snapshot(&home, "a", &[]).ended(9);
            about(&home, "verify", "a").ended(9);
        }
        let again = Home::new(&[]);
        copy(&home.out(), &again.out());
        about(&again, "replay", "a").ended(0);
        about(&again, "verify", "a").ended(0);
        assert_eq!(about(&again, "status", "a").ended(0)["status"], "complete", "step {step}");
        // Also if more of them are to be kept by now: what is started is finished.
        let keep = if status == "removed" { "2" } else { "1" };
        snapshot(&home, "b", &["--keep", keep]).ended(0);
        assert_eq!(output(&home, "a"), [""; 0], "step {step}");
        assert_eq!(about(&home, "status", "a").ended(0)["status"], "removed");
        about(&home, "verify", "b").ended(0);
    }
    assert!(killed > 30, "{killed} steps");
}

#[cfg(all(debug_assertions, unix))]
#[test]
fn a_sigterm_while_older_snapshots_go_leaves_the_export_complete_and_the_next_run_removes_the_rest() {
    let start = dataset(&["a", "b", "c"]);
    for step in (1..200).step_by(11) {
        let home = Home::new(&[]);
        copy(&start.out(), &home.out());
        let mut signaled = command(&home, "c", &["--keep", "1"]);
        signaled.env("TEST_STEP", format!("{step}:term"));
        let signaled = run(signaled);
        assert!(matches!(signaled.code, Some(0 | 143)), "step {step}: {signaled}");
        assert_eq!(about(&home, "status", "c").ended(0)["status"], "complete", "step {step}");
        snapshot(&home, "c", &["--keep", "1"]).ended(0);
        assert_eq!(with_rows(&home.out()), labels(&["c"]), "step {step}");
    }
}
