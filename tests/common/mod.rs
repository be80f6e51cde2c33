//! What tests share: the built program, APIs to run against, and the rows of an output.
//!
//! No test sleeps. Tests wait for events, each wait at most for `DEADLINE`, so that a program that hangs fails its test and does
//! not stop the suite.

#![expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "what helps a test fails by panicking, and its files need not survive a crash"
)]
#![allow(dead_code, unused_imports, reason = "each test binary uses a part of it, and which part differs")]

mod api;
mod home;
pub(crate) mod hostile;
mod output;
mod program;
pub(crate) mod scripted;
pub(crate) mod small;
pub(crate) mod world;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pagehaul::model::event::NullSink;
use pagehaul::run::context::RunContext;
use pagehaul::run::time_limit::TimeLimit;
use pagehaul::settings::{Layers, Origin, RateLimit, Settings};

pub(crate) use self::api::*;
pub(crate) use self::home::*;
pub(crate) use self::output::*;
pub(crate) use self::program::*;

/// The API key of every run. It must appear nowhere.
pub(crate) const KEY: &str = "sk_live_CANARY0123";

/// The longest wait of a test. Only a program that hangs takes as long.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// The rule for the end of a list where an export names none. The built-in rule, `auto`, pays for evidence, which tests of exact
/// counts of requests and steps avoid.
const END: &str = "short-page";

/// A directory, in memory where possible: an fsync there costs nothing.
pub(crate) fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

/// Whether every step and every pair is played (`PAGEHAUL_GRID=whole`), not a sample of them where that takes long.
pub(crate) fn is_whole_grid() -> bool {
    std::env::var("PAGEHAUL_GRID").is_ok_and(|grid| grid == "whole")
}

/// Copies a directory. Does nothing if there is none.
pub(crate) fn copy(from: &Path, to: &Path) {
    if !from.exists() {
        return;
    }
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The number of cases of a sample: `usual`, times `PAGEHAUL_CASES` if it is set.
pub(crate) fn cases(usual: usize) -> usize {
    usual * std::env::var("PAGEHAUL_CASES").map_or(1, |times| times.parse().unwrap())
}

/// Runs the same function on every core at once.
pub(crate) fn on_all_cores(work: impl Fn() + Sync) {
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, std::num::NonZero::get) {
            scope.spawn(&work);
        }
    });
}

/// Locks, also after a failed test has poisoned the lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The most credits that evidence of where lists end may cost in an export of this many pages.
pub(crate) fn evidence(pages: u64) -> u64 {
    (pages * 3 / 1_000).max(3)
}

/// A run in virtual time, with settings as flags; nothing listens at its address.
pub(crate) fn context(out: &Path, qps: Option<f64>, more: &[(&str, &str)]) -> RunContext {
    let mut layers = Layers::built_in().unwrap();
    let out = out.to_str().unwrap();
    let own = [("out", out), ("base_url", "http://127.0.0.1:1"), ("end", END)];
    for (key, value) in own.iter().chain(more) {
        layers.set(key, (*value).to_owned(), &Origin::Flag).unwrap();
    }
    let settings = Settings::resolve(&layers).unwrap();
    let qps = if settings.qps == Some(RateLimit::Auto(None)) { RateLimit::Auto(None) } else { qps.into() };
    let time_limit = TimeLimit::from_settings(&settings);
    RunContext { settings, qps, sizes: Vec::new(), seed: 7, time_limit, survey: None, events: Arc::new(NullSink) }
}

/// The same with the built-in rule for the end of a list, unless the settings name another.
pub(crate) fn built_in_context(out: &Path, qps: Option<f64>, more: &[(&str, &str)]) -> RunContext {
    context(out, qps, &[&[("end", "auto")], more].concat())
}

/// The same, its rate among the settings.
pub(crate) fn context_from(out: &Path, settings: &[(&str, String)]) -> RunContext {
    let settings: Vec<(&str, &str)> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let mut context = built_in_context(out, None, &settings);
    if let Some(RateLimit::PerSecond(rate)) = context.settings.qps {
        context.qps = Some(rate).into();
    }
    context
}
