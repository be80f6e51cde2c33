//! Power loss: what is left of a run when a crash drops unsynced bytes and unsynced names, any subset of them.
//!
//! A run is watched at each of its steps. Bytes count as durable from the file's fsync on, names from the fsync of their
//! directory on; the ledger is SQLite's business and is taken as its last commit. Then the machine is brought up again
//! from every step, with all that was durable and a part of what was not, and the same command must end well.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use pagehaul::model::failpoint::{Failpoint, When, watch};

use crate::plan::{Dice, End, OddPages, Plan};
use crate::server::World;
use crate::{Outcome, live, oracle};

/// Random subsets of what was not durable, for each step.
const SUBSETS: usize = 200;

type File = usize;

/// What is not durable yet.
#[derive(Clone, Debug)]
enum Pending {
    Directory(PathBuf),
    Name(PathBuf, File),
    Rename(PathBuf, PathBuf, File),
    Removal(PathBuf),
    Bytes(File, Vec<u8>),
}

/// How much of something that was not durable a crash keeps. Of names there is no half.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kept {
    Nothing,
    Torn,
    Whole,
}

/// A disk as a crash may find it.
#[derive(Clone, Debug, Default)]
struct Durable {
    directories: BTreeSet<PathBuf>,
    names: BTreeMap<PathBuf, File>,
    bytes: BTreeMap<File, Vec<u8>>,
    ledger: Vec<(PathBuf, Vec<u8>)>,
}

/// The moment of one step.
#[derive(Clone, Debug)]
struct Moment {
    durable: Durable,
    pending: Vec<Pending>,
    billed: BTreeMap<(usize, u32), u32>,
    about: String,
}

/// Follows a run step by step.
#[derive(Debug, Default)]
struct Follower {
    durable: Durable,
    pending: Vec<Pending>,
    names: BTreeMap<PathBuf, File>,
    files: File,
    moments: Vec<Moment>,
}

impl Follower {
    fn follow(&mut self, step: &Failpoint<'_>, world: &World) {
        let path = step.path;
        if step.when == When::Before {
            if step.action == "rename to" {
                return;
            }
        } else {
            self.happened(step.action, path);
        }
        self.moments.push(Moment {
            durable: self.durable.clone(),
            pending: self.pending.clone(),
            billed: world.api.served(),
            about: format!("{:?} {} {}", step.when, step.action, path.display()),
        });
    }

    fn happened(&mut self, action: &str, path: &Path) {
        match action {
            "make directory" => self.pending.push(Pending::Directory(path.to_owned())),
            "create" | "open" => drop(self.file(path)),
            "write" | "append to" | "truncate" => {
                let file = self.file(path);
                self.pending.push(Pending::Bytes(file, std::fs::read(path).unwrap()));
            }
            "sync" => {
                let file = self.file(path);
                self.pending.retain(|pending| !matches!(pending, Pending::Bytes(of, _) if *of == file));
                self.durable.bytes.insert(file, std::fs::read(path).unwrap());
            }
            "rename to" => {
                // The only name that is gone from the disk and still known here is the one that it had.
                let from = self.names.keys().find(|name| !name.exists()).cloned().unwrap();
                let file = self.names.remove(&from).unwrap();
                self.names.insert(path.to_owned(), file);
                self.pending.push(Pending::Rename(from, path.to_owned(), file));
            }
            "remove" => {
                self.names.remove(path);
                self.pending.push(Pending::Removal(path.to_owned()));
            }
            "sync directory" => self.sync_directory(path),
            _ if path.extension().is_some_and(|kind| kind == "sqlite") => self.keep_ledger(path),
            _ => panic!("a step that nobody understands: {action} {}", path.display()),
        }
    }

    fn file(&mut self, path: &Path) -> File {
        if let Some(file) = self.names.get(path) {
            return *file;
        }
        self.files += 1;
        self.names.insert(path.to_owned(), self.files);
        self.pending.push(Pending::Name(path.to_owned(), self.files));
        self.files
    }

    fn sync_directory(&mut self, directory: &Path) {
        let within = |path: &Path| path.parent() == Some(directory);
        let (synced, rest) = std::mem::take(&mut self.pending).into_iter().partition(|pending| match pending {
            Pending::Directory(path)
            | Pending::Name(path, _)
            | Pending::Rename(_, path, _)
            | Pending::Removal(path) => within(path),
            Pending::Bytes(..) => false,
        });
        self.pending = rest;
        let synced: Vec<Pending> = synced;
        for pending in &synced {
            self.durable.apply(pending);
        }
    }

    fn keep_ledger(&mut self, path: &Path) {
        let files = ["", "-wal"].map(|end| PathBuf::from(format!("{}{end}", path.display())));
        self.durable.ledger =
            files.into_iter().filter_map(|path| Some((path.clone(), std::fs::read(path).ok()?))).collect();
    }
}

impl Durable {
    fn apply(&mut self, pending: &Pending) {
        match pending {
            Pending::Directory(path) => drop(self.directories.insert(path.clone())),
            Pending::Name(path, file) => drop(self.names.insert(path.clone(), *file)),
            Pending::Rename(from, to, file) => {
                self.names.remove(from);
                self.names.insert(to.clone(), *file);
            }
            Pending::Removal(path) => drop(self.names.remove(path)),
            Pending::Bytes(file, bytes) => drop(self.bytes.insert(*file, bytes.clone())),
        }
    }

    /// Writes it down below another root. A name in a directory that is not there cannot be reached.
    fn bring_up(&self, from: &Path, root: &Path) {
        let moved = |path: &Path| root.join(path.strip_prefix(from).unwrap());
        for directory in &self.directories {
            std::fs::create_dir(moved(directory)).ok();
        }
        for (path, file) in &self.names {
            let bytes = self.bytes.get(file).map(Vec::as_slice).unwrap_or_default();
            std::fs::write(moved(path), bytes).ok();
        }
        for (path, bytes) in &self.ledger {
            std::fs::write(moved(path), bytes).ok();
        }
    }
}

/// A world small enough to lose power at every moment of it.
fn plan() -> Plan {
    let mut plan = Plan::new(1); // one whose rows wait in memory
    plan.lists = vec![7, 2];
    (plan.page_size, plan.max_in_flight, plan.segment_size) = (3, 1, 2_000);
    (plan.qps, plan.limit, plan.max_pages, plan.max_credits, plan.credits) = (None, None, None, None, None);
    (plan.faults, plan.dead, plan.refused, plan.outage, plan.deaths) = (Vec::new(), None, None, None, Vec::new());
    (plan.end, plan.odd) = (End::Auto, OddPages::default());
    plan
}

/// Every moment of a regular run, with the directory that it ran in.
fn moments() -> (tempfile::TempDir, Vec<Moment>) {
    let directory = crate::common::scratch();
    let out = directory.path().join("out");
    let (world, follower) = (Arc::new(World::new(plan(), Path::new(""))), Arc::new(Mutex::new(Follower::default())));
    let (seen, follows) = (Arc::clone(&world), Arc::clone(&follower));
    let watch = watch(directory.path(), move |step: &Failpoint<'_>| {
        follows.lock().unwrap().follow(step, &seen);
        Ok::<(), io::Error>(())
    });
    let Outcome::Ended(_) = live(&world, &out, None, true) else { panic!("it crashed by itself") };
    drop(watch);
    let moments = std::mem::take(&mut follower.lock().unwrap().moments);
    (directory, moments)
}

/// What may be left of a moment: everything durable, and of the rest each prefix and some random subsets.
fn leftovers(moment: &Moment, dice: &mut Dice) -> Vec<Durable> {
    let all = 0..moment.pending.len();
    let mut choices: BTreeSet<Vec<Kept>> = (0..=all.end)
        .map(|count| all.clone().map(|at| if at < count { Kept::Whole } else { Kept::Nothing }).collect())
        .collect();
    for _ in 0..SUBSETS {
        choices.insert(all.clone().map(|_| dice.pick(&[Kept::Nothing, Kept::Torn, Kept::Whole])).collect());
    }
    let leave = |choice: Vec<Kept>| {
        let mut left = moment.durable.clone();
        for (pending, kept) in moment.pending.iter().zip(choice) {
            match (kept, pending) {
                (Kept::Nothing, _) => {}
                (Kept::Torn, Pending::Bytes(file, bytes)) => {
                    let known = left.bytes.get(file).map_or(0, Vec::len);
                    let half = known + bytes.len().saturating_sub(known) / 2;
                    left.bytes.insert(*file, bytes[..half.min(bytes.len())].to_vec());
                }
                (Kept::Torn | Kept::Whole, _) => left.apply(pending),
            }
        }
        left
    };
    choices.into_iter().map(leave).collect()
}

/// Brings the machine up from what is left: nothing listed may be broken, and the same command ends well.
fn come_back(from: &Path, left: &Durable, moment: &Moment) {
    let directory = crate::common::scratch();
    let out = directory.path().join("out");
    left.bring_up(from, directory.path());
    oracle::check_files(&out);
    let world = Arc::new(World::new(plan(), Path::new("")));
    world.remember(&moment.billed);
    let Outcome::Ended(summary) = live(&world, &out, None, true) else { panic!("it crashed by itself") };
    assert_eq!(summary.exit.number(), 0, "{summary}");
    oracle::check_files(&out);
    oracle::check_rows(&out);
    oracle::check_complete(&world, &out);
    let twice: u32 = world.api.served().values().map(|times| times - 1).sum();
    assert!(twice <= 1, "{twice} pages paid for twice, one was in flight");
}

#[test]
fn a_power_loss_at_any_step_that_keeps_any_part_of_what_was_not_synced_costs_no_row() {
    let (directory, moments) = moments();
    assert!(moments.len() > 80, "{} moments", moments.len());
    let mut dice = Dice::new(11);
    let mut cases = Vec::new();
    let mut known = BTreeSet::new();
    for moment in &moments {
        for left in leftovers(moment, &mut dice) {
            if known.insert(format!("{left:?}")) {
                cases.push((moment, left));
            }
        }
    }
    let every = if crate::common::is_whole_grid() { 1 } else { 1 + cases.len() / 2_500 };
    println!("{} moments, {} distinct states, one in {every} is brought up", moments.len(), cases.len());
    let cases: Vec<_> = cases.into_iter().step_by(every).collect();
    crate::on_all_cores(cases.len(), |at| {
        let (moment, left) = &cases[at];
        let about = &moment.about;
        let outcome =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| come_back(directory.path(), left, moment)));
        assert!(outcome.is_ok(), "power lost at: {about}\nleft were {:?}", left.names);
    });
}
