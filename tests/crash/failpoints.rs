//! Crash points: the built program ends itself at its first step around a durable operation, its second, its third, until a
//! run passes clean; after each the same command must end with the same rows, and have paid for at most one page twice.
//!
//! One request is in flight at a time and the wall clock does not move, so that published files can be compared byte for
//! byte. `PAGEHAUL_GRID=whole` plays every pair of a crash and a crash in its recovery, not a sample of them.

#![cfg(all(debug_assertions, unix))]

use std::collections::BTreeMap;
#[cfg(feature = "delta")]
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::trials;
use crate::common::{
    assert_no_page_billed_twice, assert_rows, billed, copy, expected, fewest_requests, ids, is_whole_grid, manifests,
    on_all_cores, rows, simulator,
};
use libtest_mimic::Trial;
use pagehaul::simulator::{self, Server, Simulator};
use rand_core::{Rng, SeedableRng};
use rand_xoshiro::SplitMix64;

/// A small world that needs two segments: its journal is larger than the segment size.
const WORLD: &str = "products=3,max_videos=28";
const OPTIONS: [&str; 8] =
    ["--max-in-flight", "1", "--segment-size", "6KiB", "--qps", "unlimited", "--progress", "none"];
/// The same with several requests in flight, pages of one row, and far ahead.
const AHEAD: [&str; 14] = [
    "--max-in-flight",
    "4",
    "--segment-size",
    "6KiB",
    "--qps",
    "unlimited",
    "--progress",
    "none",
    "--page-size",
    "1",
    "--lookahead",
    "100",
    "--lookahead-saves",
    "0s",
];
/// The small world, its journal removed as it is published.
const WITHOUT_JOURNAL: [&str; 10] = [
    "--max-in-flight",
    "1",
    "--segment-size",
    "6KiB",
    "--qps",
    "unlimited",
    "--progress",
    "none",
    "--journal",
    "until-published",
];
/// The small world, continued from an export of it in which its longest list was shorter, and so another one.
const CONTINUED: [&str; 14] = [
    "--max-in-flight",
    "1",
    "--segment-size",
    "6KiB",
    "--qps",
    "unlimited",
    "--progress",
    "none",
    "--sort",
    "create_time:asc",
    "--since",
    "./earlier",
    "--since-check",
    "0",
];
const EARLIER_WORLD: &str = "products=8,max_videos=24";
const CONTINUED_WORLD: &str = "products=8,max_videos=40,record=true";
/// One step in so many is a crash, where not all are played.
const STRIDE: usize = 17;
/// Pairs of crashes that are played when nobody requests all.
const PAIRS: usize = 2_000;

/// One case: a directory, the API that it is exported from, and how often the program had to end itself.
struct Case {
    directory: tempfile::TempDir,
    server: Server,
    simulator: Arc<Simulator>,
    options: &'static [&'static str],
}

impl Case {
    fn new() -> Self {
        Self::in_world(WORLD, &OPTIONS)
    }

    fn ahead() -> Self {
        Self { options: &AHEAD, ..Self::new() }
    }

    fn without_journal() -> Self {
        Self { options: &WITHOUT_JOURNAL, ..Self::new() }
    }

    fn in_world(world: &str, options: &'static [&'static str]) -> Self {
        let simulator = simulator(world);
        let server = simulator::start(Arc::clone(&simulator)).unwrap();
        Self { directory: crate::common::scratch(), server, simulator, options }
    }

    /// With the earlier export beside it.
    fn continued(earlier: &Path) -> Self {
        let case = Self::in_world(CONTINUED_WORLD, &CONTINUED);
        copy(earlier, &case.directory.path().join("earlier"));
        case
    }

    /// The state that a crash left, again: for another way to continue from it.
    fn copy_of(crashed: &Path) -> Self {
        let case = Self::new();
        if crashed.exists() {
            copy(crashed, &case.out()); // otherwise it ended before there was anything
        }
        case
    }

    fn out(&self) -> PathBuf {
        self.directory.path().join("out")
    }

    /// Runs the program to its end, or to the step at which it ends itself: how it ended, and what it printed.
    fn run(&self, step: Option<(usize, &str)>) -> (Option<i32>, String) {
        let list = self.directory.path().join("list.txt");
        std::fs::write(&list, ids(&self.simulator).join("\n")).unwrap();
        let (url, out) = (self.server.base_url(), self.out());
        let mut command: Command = crate::common::pagehaul(["export", "--base-url", &url]);
        command.arg("--out").arg(&out).arg("--products").arg(&list).args(self.options);
        command.current_dir(self.directory.path());
        command.env("KEYAPI_TOKEN", crate::common::KEY).env("TEST_WALL", "1700000000000000");
        if let Some((step, action)) = step {
            command.env("TEST_STEP", format!("{step}:{action}"));
        }
        let ended = command.stdin(Stdio::null()).output().unwrap();
        (ended.status.code(), String::from_utf8_lossy(&ended.stderr).into_owned())
    }

    /// The same command again must end well, with every row once.
    fn resume(&self, about: &str) {
        let (code, message) = self.run(None);
        assert_eq!(code, Some(0), "{about}: {message}");
        let page_size = if self.options.contains(&"--page-size") { 1 } else { 10 };
        assert_rows(&self.out(), &expected(&self.simulator, &ids(&self.simulator), page_size));
    }

    /// Pages that were paid for twice in this case, or in an earlier life whose pages are given.
    fn paid_twice(&self, before: &Billed) -> u32 {
        let mut pages = before.clone();
        for (page, times) in billed(&[&self.simulator]) {
            *pages.entry(page).or_default() += times;
        }
        pages.values().map(|times| times - 1).sum()
    }
}

/// Hashes of the files of each published segment, by region. Every listed file must be there.
fn published(out: &Path) -> BTreeMap<i64, BTreeMap<String, String>> {
    let manifests = manifests(out);
    let files = |manifest: &serde_json::Value| {
        let files = manifest["files"].as_array().unwrap().iter();
        let hashes = files.map(|file| {
            let path = file["path"].as_str().unwrap();
            let length = std::fs::metadata(out.join(path)).unwrap().len();
            assert_eq!(file["bytes"], length, "{path}");
            (path.split('/').next().unwrap().to_owned(), file["sha256"].as_str().unwrap().to_owned())
        });
        hashes.collect()
    };
    manifests.iter().map(|manifest| (manifest["segment"].as_i64().unwrap(), files(manifest))).collect()
}

/// Plays every number from 1 until one passes clean, on all cores; gives what the cases that struck left behind.
fn count_up<T: Send>(trigger: impl Fn(usize) -> Option<T> + Sync) -> BTreeMap<usize, T> {
    let (next, end) = (AtomicUsize::new(1), AtomicUsize::new(usize::MAX));
    let struck = Mutex::new(BTreeMap::new());
    on_all_cores(|| {
        loop {
            let number = next.fetch_add(1, Ordering::SeqCst);
            if number >= end.load(Ordering::SeqCst) {
                return;
            }
            match trigger(number) {
                Some(left) => drop(struck.lock().unwrap().insert(number, left)),
                None => drop(end.fetch_min(number, Ordering::SeqCst)),
            }
        }
    });
    struck.into_inner().unwrap()
}

/// Credits that evidence about the ends of lists may cost.
const EVIDENCE: u64 = 3;

fn l1_a_kill_at_any_step_and_at_any_step_of_the_recovery_costs_one_page_at_most_and_no_row() {
    let reference = Case::new();
    reference.resume("without a crash");
    let regular = published(&reference.out());
    assert!(regular.len() > 1, "one segment shows less than two");
    let fewest = fewest_requests(&reference.simulator, &ids(&reference.simulator));

    let crashed = count_up(|step| {
        let case = Case::new();
        let (code, message) = case.run(Some((step, "kill")));
        if code.is_some() {
            assert_eq!(code, Some(0), "{message}");
            return None;
        }
        let left = crate::common::scratch();
        copy(&case.out(), left.path());
        let (before, paid) = (published(&case.out()), billed(&[&case.simulator]));
        case.resume(&format!("killed at step {step}"));
        assert!(case.simulator.account().requests <= fewest + 1 + EVIDENCE, "killed at step {step}");
        let after = published(&case.out());
        for (segment, files) in before {
            assert_eq!(files, after[&segment], "a published segment never changes: step {step}");
            assert_eq!(files, regular[&segment], "no crash fell into it: step {step}");
        }
        Some((left, paid))
    });
    assert!(crashed.len() > 80, "{} steps", crashed.len());
    crash_in_recovery(&crashed);
}

/// How often each page was billed.
type Billed = BTreeMap<(String, u32), u32>;
/// What a crash left: the directory, and what was billed until then.
type Left = (tempfile::TempDir, Billed);

/// Kills the recovery too: a sample of all pairs, or all of them.
fn crash_in_recovery(crashed: &BTreeMap<usize, Left>) {
    let recover = |first: usize, second: usize| {
        let (left, paid) = &crashed[&first];
        let case = Case::copy_of(left.path());
        let about = format!("killed at step {first} and again at step {second}");
        let (code, message) = case.run(Some((second, "kill")));
        if code.is_some() {
            assert_eq!(code, Some(0), "{about}: {message}");
            return None;
        }
        case.resume(&about);
        assert!(case.paid_twice(paid) <= 2, "{about}");
        Some(())
    };
    if is_whole_grid() {
        for first in crashed.keys() {
            count_up(|second| recover(*first, second));
        }
        return;
    }
    let (played, dice) = (AtomicUsize::new(0), Mutex::new(SplitMix64::seed_from_u64(3)));
    let steps = crashed.len();
    on_all_cores(|| {
        while played.fetch_add(1, Ordering::SeqCst) < PAIRS {
            let below = |most: usize| usize::try_from(dice.lock().unwrap().next_u64()).unwrap() % most;
            let (first, second) = (1 + below(steps), 1 + below(steps));
            recover(first, second);
        }
    });
}

fn l2_a_sigterm_at_any_step_pays_for_nothing_twice_and_loses_no_row() {
    let struck = count_up(|step| {
        let case = Case::new();
        let (code, message) = case.run(Some((step, "term")));
        assert!(matches!(code, None | Some(0 | 143)), "step {step}: {message}");
        let about = format!("SIGTERM at step {step}");
        case.resume(&about);
        assert_no_page_billed_twice(&[&case.simulator]);
        (code != Some(0)).then_some(())
    });
    assert!(struck.len() > 40, "{} steps", struck.len());
}

fn l27_a_panic_at_any_step_ends_with_1_and_the_same_command_resumes() {
    let struck = count_up(|step| {
        let case = Case::new();
        let (code, message) = case.run(Some((step, "panic")));
        if code == Some(0) {
            return None;
        }
        assert_eq!(code, Some(1), "step {step}: {message}");
        assert!(message.contains("bug") && !message.contains("RUST_BACKTRACE"), "step {step}: {message}");
        case.resume(&format!("a panic at step {step}"));
        assert!(case.paid_twice(&BTreeMap::new()) <= 1, "step {step}");
        Some(())
    });
    assert!(struck.len() > 80, "{} steps", struck.len());
}

fn a_kill_at_any_step_of_a_run_that_looks_ahead_costs_no_more_pages_than_were_in_flight_and_no_row() {
    let struck = count_up(|number| {
        let case = Case::ahead();
        let about = format!("killed at step {}", 1 + STRIDE * (number - 1));
        let (code, message) = case.run(Some((1 + STRIDE * (number - 1), "kill")));
        if code == Some(0) {
            return None;
        }
        assert_eq!(code, None, "{about}: {message}");
        case.resume(&about);
        let twice = case.paid_twice(&Billed::new());
        assert!(twice <= 4, "{about}: {twice} pages were paid for twice");
        Some(())
    });
    assert!(struck.len() > 20, "{} kills show little", struck.len());
}

fn a_kill_at_any_step_of_a_run_that_removes_its_journal_costs_one_page_at_most_and_no_row() {
    let fewest = {
        let case = Case::new();
        fewest_requests(&case.simulator, &ids(&case.simulator))
    };
    let stride = if is_whole_grid() { 1 } else { 3 };
    let crashed = count_up(|number| {
        let step = 1 + stride * (number - 1);
        let case = Case::without_journal();
        let (code, message) = case.run(Some((step, "kill")));
        if code.is_some() {
            assert_eq!(code, Some(0), "{message}");
            return None;
        }
        let about = format!("killed at step {step}");
        case.resume(&about);
        assert!(case.simulator.account().requests <= fewest + 1 + EVIDENCE, "{about}");
        let journal = std::fs::read_dir(case.out().join("_pagehaul/journal")).unwrap();
        let left: u64 = journal.map(|file| file.unwrap().metadata().unwrap().len()).sum();
        assert_eq!(left, 0, "{about}: what is published needs no journal");
        let verified = crate::common::pagehaul(["verify", "--out", case.out().to_str().unwrap()]).output().unwrap();
        assert_eq!(verified.status.code(), Some(0), "{about}: {}", String::from_utf8_lossy(&verified.stderr));
        Some(())
    });
    assert!(crashed.len() > 90 / stride, "{} steps", crashed.len());
}

fn a_kill_at_any_step_of_a_run_that_continues_an_earlier_export_costs_one_page_at_most_and_no_row() {
    let before = Case::in_world(EARLIER_WORLD, CONTINUED.split_at(10).0);
    let (code, message) = before.run(None);
    assert_eq!(code, Some(0), "{message}");
    let earlier = before.out();
    let reference = Case::continued(&earlier);
    let (code, message) = reference.run(None);
    assert_eq!(code, Some(0), "{message}");
    let (expected, fewest) = (rows(&reference.out()), reference.simulator.account().requests);
    let summary = std::fs::read_to_string(reference.out().join("_pagehaul/summary.json")).unwrap();
    let summary: serde_json::Value = serde_json::from_str(&summary).unwrap();
    assert!(summary["continued"]["kept"] != 0 && summary["continued"]["whole"] != 0, "{summary}");

    let stride = if is_whole_grid() { 1 } else { 2 * STRIDE };
    let crashed = count_up(|number| {
        let step = 1 + stride * (number - 1);
        let case = Case::continued(&earlier);
        let about = format!("killed at step {step}");
        let (code, message) = case.run(Some((step, "kill")));
        if code.is_some() {
            assert_eq!(code, Some(0), "{message}");
            return None;
        }
        let (code, message) = case.run(None);
        assert_eq!(code, Some(0), "{about}: {message}");
        assert_eq!(rows(&case.out()), expected, "{about}");
        assert!(case.simulator.account().requests <= fewest + 1 + EVIDENCE, "{about}");
        let verified = crate::common::pagehaul(["verify", "--out", case.out().to_str().unwrap()]).output().unwrap();
        assert_eq!(verified.status.code(), Some(0), "{about}: {}", String::from_utf8_lossy(&verified.stderr));
        Some(())
    });
    assert!(crashed.len() > 8, "{} kills show little", crashed.len());
}

/// The options of a run whose output is a Delta table.
#[cfg(feature = "delta")]
const TABLE: [&str; 10] =
    ["--max-in-flight", "1", "--segment-size", "6KiB", "--qps", "unlimited", "--progress", "none", "--table", "delta"];

/// The files that the log of a Delta table says are live. Each must be there.
#[cfg(feature = "delta")]
fn live(out: &Path) -> BTreeSet<String> {
    let Ok(entries) = std::fs::read_dir(out.join("_delta_log")) else { return BTreeSet::new() };
    let versions: BTreeSet<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    let mut live = BTreeSet::new();
    for version in versions.iter().filter(|path| path.extension().is_some_and(|kind| kind == "json")) {
        for line in std::fs::read_to_string(version).unwrap().lines() {
            let action: serde_json::Value = serde_json::from_str(line).unwrap();
            let path = |action: &str, value: &serde_json::Value| {
                let path = value.get(action)?["path"].as_str().unwrap().to_owned();
                Some(percent_encoding::percent_decode_str(&path).decode_utf8().unwrap().into_owned())
            };
            if let Some(path) = path("remove", &action) {
                assert!(live.remove(&path), "{path} is removed and was not there");
            }
            if let Some(path) = path("add", &action) {
                assert!(live.insert(path.clone()), "{path} is added twice");
            }
        }
    }
    assert!(live.iter().all(|path: &String| out.join(path).is_file()), "{live:?}");
    live
}

/// The files of rows of the published segments, a set for each.
#[cfg(feature = "delta")]
fn segments(out: &Path) -> Vec<BTreeSet<String>> {
    let of = |manifest: &serde_json::Value| {
        let files = manifest["files"].as_array().unwrap().iter();
        files.map(|file| file["path"].as_str().unwrap().to_owned()).collect()
    };
    manifests(out).iter().map(of).collect()
}

#[cfg(feature = "delta")]
fn a_kill_at_any_step_leaves_whole_segments_in_the_table_and_the_same_command_brings_the_others() {
    let struck = count_up(|step| {
        let case = Case { options: &TABLE, ..Case::new() };
        let (code, message) = case.run(Some((step, "kill")));
        let about = format!("killed at step {step}");
        if code == Some(0) {
            return None;
        }
        assert_eq!(code, None, "{about}: {message}");
        let (found, whole) = (live(&case.out()), segments(&case.out()));
        let present = whole.iter().filter(|files| files.is_subset(&found));
        assert_eq!(found, present.flatten().cloned().collect(), "{about}: part of a segment is in the table");
        case.resume(&about);
        assert_eq!(live(&case.out()), segments(&case.out()).into_iter().flatten().collect(), "{about}");
        Some(found.len())
    });
    let sizes: BTreeSet<usize> = struck.values().copied().collect();
    assert!(struck.len() > 80 && sizes.len() > 1, "{} steps, tables of {sizes:?} files", struck.len());
}

pub(crate) fn trials() -> Vec<Trial> {
    #[cfg_attr(not(feature = "delta"), expect(unused_mut, reason = "only a table adds some"))]
    let mut trials = trials![
        l1_a_kill_at_any_step_and_at_any_step_of_the_recovery_costs_one_page_at_most_and_no_row: None,
        l2_a_sigterm_at_any_step_pays_for_nothing_twice_and_loses_no_row: None,
        l27_a_panic_at_any_step_ends_with_1_and_the_same_command_resumes: None,
        a_kill_at_any_step_of_a_run_that_looks_ahead_costs_no_more_pages_than_were_in_flight_and_no_row: None,
        a_kill_at_any_step_of_a_run_that_removes_its_journal_costs_one_page_at_most_and_no_row: None,
        a_kill_at_any_step_of_a_run_that_continues_an_earlier_export_costs_one_page_at_most_and_no_row: None,
    ];
    #[cfg(feature = "delta")]
    trials.extend(trials![
        a_kill_at_any_step_leaves_whole_segments_in_the_table_and_the_same_command_brings_the_others: None,
    ]);
    trials
}
