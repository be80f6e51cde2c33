//! The disk fails, row by row of the catalogue (L5 to L7): every system call that writes, syncs, renames or
//! opens something of an export fails once or from then on, and the disk is full. The built program under `strace`, and on
//! small file systems of its own, where the machine allows it.
//!
//! What is accepted is exactly: the right output; or a documented exit code with one line that says why, after which the
//! same command ends with the right output, and at most the one page that was in flight was paid for twice.
//!
//! `PAGEHAUL_CASES=20` plays twenty times as many calls.

#![cfg(target_os = "linux")]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::trials;
use crate::common::{
    Api, Home, Run, assert_rows, cases, copy, expected, fewest_requests, files, ids, on_all_cores, rows, run,
    simulator, small,
};
use libtest_mimic::Trial;
use pagehaul::error::{Error, ExitCode};
#[cfg(debug_assertions)]
use pagehaul::model::failpoint::{Failpoint, When};
use pagehaul::model::sanitize::chain;

/// One request in flight at a time, so that it is known what follows what; and more than one segment.
const ONE_BY_ONE: [&str; 4] = ["--max-in-flight", "1", "--segment-size", "1KiB"];

// --- strace --------------------------------------------------------------------------------------------------------

/// Why this machine does not let a test make system calls fail, if it does not.
fn why_no_trace() -> Option<&'static str> {
    let tried =
        Command::new("strace").args(["-qq", "-o", "/dev/null", "-e", "inject=chdir:error=EIO", "true"]).status();
    let may_trace = tried.is_ok_and(|status| status.success());
    (!may_trace).then_some("strace is missing or may not trace here")
}

/// A command under strace, and the path of what it logs: the calls that `select` names, with the paths of their files; only
/// those to certain files, if any are given.
fn traced(command: &Command, directory: &Path, select: &[&str], only: &[PathBuf]) -> (Command, PathBuf) {
    let log = directory.join("strace.log");
    let mut traced = Command::new("strace");
    traced.args(["-D", "-f", "-qq", "-y", "-o"]).arg(&log).args(select.iter().flat_map(|select| ["-e", select]));
    traced.args(only.iter().flat_map(|path| [OsStr::new("-P"), path.as_os_str()]));
    traced.arg("--").arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => traced.env(name, value),
            None => traced.env_remove(name),
        };
    }
    (traced, log)
}

/// The calls in a log, in the order in which they started: the thread that made it, and its text.
fn calls(log: &Path) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(&std::fs::read(log).unwrap()).into_owned();
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    lines
        .map(|(thread, call)| (thread.to_owned(), call.trim().to_owned()))
        .filter(|(_, call)| !call.starts_with("<...") && !call.starts_with("+++") && !call.starts_with("---"))
        .collect()
}

/// For each call the numbers, counted in each thread by itself as strace counts them, at which it touches a directory.
fn numbers(log: &Path, directory: &Path) -> BTreeMap<String, BTreeSet<usize>> {
    let (mut counts, mut found) = (BTreeMap::<(String, String), usize>::new(), BTreeMap::<_, BTreeSet<_>>::new());
    for (thread, text) in calls(log) {
        let name = text.split('(').next().unwrap().to_owned();
        let count = counts.entry((thread, name.clone())).or_default();
        *count += 1;
        if text.contains(directory.to_str().unwrap()) {
            found.entry(name).or_default().insert(*count);
        }
    }
    found
}

/// At most so many of them, evenly spread.
fn spread(numbers: &BTreeSet<usize>, most: usize) -> Vec<usize> {
    let step = numbers.len().div_ceil(most).max(1);
    numbers.iter().copied().skip(step / 2).step_by(step).collect()
}

/// Fails unless a run that met a fault ended as it may, and the same command then ends well.
fn judge(about: &str, home: &Home, api: &Api, faulty: &Run) {
    let message = format!("{about}: {faulty}");
    assert!(!faulty.stderr.contains("bug: ") && !faulty.stderr.contains("panicked"), "{message}");
    match faulty.code {
        None if about.contains("signal=KILL") => {}
        Some(3) => assert_eq!(small::found(&home.out()), small::expected(), "{message}"),
        // SQLite takes a page that cannot be read for a damaged one.
        Some(code @ (2 | 8 | 9)) => {
            let mut lines = faulty.stderr.lines().skip_while(|line| !line.starts_with("error: "));
            assert!(lines.next().is_some_and(|line| line.len() > 20), "{message}");
            assert!(
                lines.next().is_some_and(|line| line.starts_with("  next: ")) && lines.next().is_none(),
                "{message}"
            );
            assert!(code != 2 || api.requests() == 0, "2 says that no request was sent: {message}");
            assert!(code != 9 || about.contains("pread64"), "{message}");
        }
        _ => panic!("{message}"),
    }
    let resumed = run(small::command(home, api, &ONE_BY_ONE));
    assert_eq!(resumed.code, Some(3), "{message}\nand then {resumed}");
    assert_eq!(small::found(&home.out()), small::expected(), "{message}\nand then {resumed}");
    let requested = api.requested();
    let twice: u32 = requested.iter().filter(|((product, _), _)| product != "104").map(|(_, times)| times - 1).sum();
    assert!(twice <= 1, "{twice} pages were paid for twice: {requested:?}: {message}");
    let head = std::fs::read(home.path("out/_pagehaul/ledger.sqlite")).unwrap();
    assert_eq!(head[18..20], [2, 2], "the ledger has no write-ahead log: {message}");
}

/// Plays every fault of a table, each at `each` places of a run.
fn play(faults: &[(&str, &[&str])], started: Option<&Path>, each: usize) {
    let home = || {
        let home = small::home();
        if let Some(directory) = started {
            copy(directory, &home.out());
        }
        home
    };
    let (probe, api) = (home(), small::api(None));
    let all: Vec<&str> = faults.iter().map(|(call, _)| *call).collect();
    let trace = format!("trace={}", all.join(","));
    let (command, log) = traced(&small::command(&probe, &api, &ONE_BY_ONE), &probe.path(""), &[&trace], &[]);
    run(command).ended(3);
    let numbers = numbers(&log, &probe.out());
    let mut plays = Vec::new();
    for (call, errors) in faults {
        let mut numbers = numbers.get(*call).unwrap_or_else(|| panic!("a run never calls {call}")).clone();
        if *call == READ {
            numbers = (1..=numbers.len()).collect();
        }
        for fault in *errors {
            let places = spread(&numbers, each).into_iter().enumerate();
            // Every second fault stays.
            plays.extend(places.map(|(at, number)| (*call, *fault, format!("{number}{}", ["", "+"][at % 2]))));
        }
    }
    let struck = play_at(plays, &home, started.is_some());
    let all = faults.iter().flat_map(|(call, errors)| errors.iter().map(move |fault| format!("{call} {fault}")));
    let missed: Vec<_> = all.filter(|fault| !struck.contains_key(fault)).collect();
    assert!(missed.is_empty(), "never struck: {missed:?}; struck: {struck:?}");
}

/// The call whose number in its thread says nothing, because any thread may be the one that reads a journal: it is counted
/// by the files that are there when a run starts.
const READ: &str = "read";

/// Plays faults, each at its place, and counts those that struck.
fn play_at(
    plays: Vec<(&str, &str, String)>,
    home: &(impl Fn() -> Home + Sync),
    is_started: bool,
) -> BTreeMap<String, usize> {
    let (plays, struck) = (Mutex::new(plays), Mutex::new(BTreeMap::<String, usize>::new()));
    on_all_cores(|| {
        loop {
            let Some((call, fault, when)) = plays.lock().unwrap().pop() else { return };
            let about = format!("inject={call}:{fault}:when={when}");
            let (home, api) = (home(), small::api(None));
            let command = small::command(&home, &api, &ONE_BY_ONE);
            let only = if call == READ { files(&home.out()) } else { Vec::new() };
            let (command, log) = traced(&command, &home.path(""), &[&format!("trace={call}"), &about], &only);
            let faulty = run(command);
            let hit: Vec<_> = calls(&log).into_iter().filter(|(_, text)| text.ends_with("(INJECTED)")).collect();
            // Not the wake-up of a thread, which never fails like this, nor what the loader does before the program starts.
            let is_foreign =
                |text: &String| text.contains("<anon_inode:") || text.contains(".so") || text.contains("socket:");
            if hit.iter().any(|(_, text)| is_foreign(text)) {
                continue;
            }
            if !hit.is_empty() || faulty.code.is_none() {
                *struck.lock().unwrap().entry(format!("{call} {fault}")).or_default() += 1;
            }
            let about = format!("{about}: {hit:?}");
            judge(&about, &home, &api, &faulty);
            let is_left = |(product, page): &(String, u32)| product == "104" || product == "103" && *page > 1;
            assert!(!is_started || api.requested().keys().all(is_left), "{about}: {:?}", api.requested());
        }
    });
    struck.into_inner().unwrap()
}

fn l5_a_disk_that_is_full_or_read_only_or_over_quota_at_any_call_ends_with_8_and_costs_no_row() {
    let faults: [(&str, &[&str]); 4] = [
        ("pwrite64", &["error=ENOSPC", "error=EDQUOT"]),
        ("rename", &["error=ENOSPC", "error=EROFS"]),
        ("mkdir", &["error=ENOSPC", "error=EROFS", "error=EDQUOT"]),
        ("openat", &["error=ENOSPC", "error=EROFS"]),
    ];
    play(&faults, None, cases(8));
}

fn l6_an_error_of_the_disk_at_any_call_ends_with_8_and_costs_no_row() {
    let faults: [(&str, &[&str]); 9] = [
        ("fsync", &["error=EIO", "error=ENOSPC"]),
        ("fdatasync", &["error=EIO"]),
        ("pwrite64", &["error=EIO"]),
        ("ftruncate", &["error=EIO"]),
        ("rename", &["error=EIO"]),
        ("unlink", &["error=EIO"]),
        ("pread64", &["error=EIO"]),
        ("flock", &["error=ENOLCK"]),
        ("statfs", &["error=EIO"]),
    ];
    play(&faults, None, cases(8));
}

fn l6_an_error_of_the_disk_while_an_earlier_run_is_recovered_ends_with_8_and_costs_no_row() {
    let faults: [(&str, &[&str]); 7] = [
        ("fsync", &["error=EIO"]),
        ("pwrite64", &["error=EIO", "error=ENOSPC"]),
        ("pread64", &["error=EIO"]),
        (READ, &["error=EIO"]),
        ("ftruncate", &["error=EIO"]),
        ("rename", &["error=ENOSPC"]),
        ("openat", &["error=EMFILE"]),
    ];
    play(&faults, Some(&small::half_way().out()), cases(5));
}

// --- what is durable before what -----------------------------------------------------------------------------------

/// A call with the lines of the log at which it started and ended.
struct Span {
    started: usize,
    ended: usize,
    text: String,
}

fn spans(log: &Path) -> Vec<Span> {
    let text = String::from_utf8_lossy(&std::fs::read(log).unwrap()).into_owned();
    let (mut spans, mut open) = (Vec::<Span>::new(), BTreeMap::<&str, usize>::new());
    for (at, line) in text.lines().enumerate() {
        let Some((thread, call)) = line.split_once(' ') else { continue };
        let call = call.trim();
        if call.starts_with("<...") {
            spans[open[thread]].ended = at;
        } else {
            open.insert(thread, spans.len());
            spans.push(Span { started: at, ended: at, text: call.to_owned() });
        }
    }
    spans
}

/// The first of these calls that started behind a line, and was done before another one.
fn between(spans: &[Span], behind: usize, before: usize, is_it: impl Fn(&str) -> bool) -> Option<&Span> {
    spans.iter().find(|span| span.started > behind && span.ended < before && is_it(&span.text))
}

fn l5_an_answer_is_in_the_journal_and_then_in_the_ledger_before_the_next_request_and_a_file_is_whole_before_it_is_named()
 {
    let (home, api) = (small::home(), small::api(None));
    let trace = "trace=fsync,fdatasync,rename,sendto,writev,write";
    let (command, log) = traced(&small::command(&home, &api, &ONE_BY_ONE), &home.path(""), &[trace], &[]);
    run(command).ended(3);
    let spans = spans(&log);
    let of = |text: &str, call: &str, file: &str| text.starts_with(call) && text.contains(file);
    let journal = |text: &str| of(text, "fdatasync(", "/_pagehaul/journal/0");
    let ledger = |text: &str| of(text, "fsync(", "/ledger.sqlite-wal>");
    let sends: Vec<usize> =
        spans.iter().filter(|span| span.text.contains("\"GET /v1")).map(|span| span.started).collect();
    assert_eq!(sends.len(), 10);
    assert!(between(&spans, 0, sends[0], ledger).is_some(), "the first intent");
    for send in sends.windows(2) {
        let frame = between(&spans, send[0], send[1], journal).expect("the answer's frame");
        between(&spans, frame.ended, send[1], ledger).expect("the frame and the next intent in the ledger");
    }

    let renames: Vec<(&Span, &str, &str)> = spans
        .iter()
        .filter(|span| span.text.starts_with("rename("))
        .map(|span| {
            let mut paths = span.text.split('"').skip(1).step_by(2);
            (span, paths.next().unwrap(), paths.next().unwrap())
        })
        .collect();
    let (mut files, mut manifest_before) = (0, 0);
    for (manifest, _, _) in renames.iter().filter(|(_, _, to)| to.contains("/_pagehaul/segments/")) {
        let named: Vec<_> = renames
            .iter()
            .filter(|(span, _, to)| {
                to.ends_with(".parquet")
                    && to.contains("/region=")
                    && span.started > manifest_before
                    && span.ended < manifest.started
            })
            .collect();
        for (span, from, to) in &named {
            let whole = between(&spans, manifest_before, span.started, |text| of(text, "fsync(", &format!("<{from}>")));
            let whole = whole.unwrap_or_else(|| panic!("{to} was not durable before it was named"));
            let first = named.iter().map(|(span, _, _)| span.started).min().unwrap();
            assert!(between(&spans, whole.ended, first, ledger).is_some(), "{to} was named before it was decided");
            let directory = Path::new(to).parent().unwrap().to_str().unwrap();
            let synced =
                between(&spans, span.ended, manifest.started, |text| of(text, "fsync(", &format!("<{directory}>")));
            assert!(synced.is_some(), "the manifest names {to}, whose name was not durable");
            files += 1;
        }
        assert!(
            between(&spans, manifest.ended, usize::MAX, |text| of(text, "fsync(", "/_pagehaul/segments>")).is_some()
        );
        manifest_before = manifest.ended;
    }
    assert!(files >= 4, "{files} files were published");
}

// --- a disk that is full -------------------------------------------------------------------------------------------

/// A file system of its own size.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts a disk of so many KiB.
    fn mount(directory: &Path, size: u32) -> Result<Self, String> {
        std::fs::create_dir_all(directory).unwrap();
        let option = format!("size={size}k,mode=700");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &option, "tmpfs"]).arg(directory).output();
        let mounted = mounted.map_err(|error| error.to_string())?;
        let message = String::from_utf8_lossy(&mounted.stderr).into_owned();
        mounted.status.success().then(|| Self(directory.to_owned())).ok_or(message)
    }

    /// Why nothing may be mounted here, if nothing may.
    fn why_none() -> Option<&'static str> {
        let directory = crate::common::scratch();
        Self::mount(&directory.path().join("disk"), 64).is_err().then_some("nothing may be mounted here")
    }

    fn grow(&self, size: u32) {
        let option = format!("remount,size={size}k");
        assert!(Command::new("mount").args(["-o", &option]).arg(&self.0).status().unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Command::new("umount").arg(&self.0).status().ok();
    }
}

fn l5_a_disk_that_fills_up_stops_the_run_and_with_more_room_the_same_command_ends_well() {
    let simulator = simulator("products=60,max_videos=400,seed=2");
    let server = pagehaul::simulator::start(Arc::clone(&simulator)).unwrap();
    let ids = ids(&simulator);
    let (mut paid, fewest) = (0, fewest_requests(&simulator, &ids));
    // A floor of some hundred KiB is more than what eight requests in flight need, one of a KiB is none.
    let floors = [(700, "1KiB", Some(false)), (1_024, "1KiB", Some(false)), (1_024, "200KiB", Some(true))];
    let more = [(2_048, "1KiB", Some(false)), (2_048, "none", None), (2_048, "500KiB", Some(true))];
    for (size, min_free_space, foreseen) in floors.into_iter().chain(more) {
        let home = Home::new(&ids);
        let disk = SmallDisk::mount(&home.out(), size).unwrap();
        let more = ["--min-free-space", min_free_space, "--max-in-flight", "8", "--lookahead", "0"];
        let export = || home.export(&server.base_url(), &more);
        let about = format!("{size} KiB, min_free_space {min_free_space}");
        let full = run(export());
        let json = full.ended(8);
        let error = json["cause"].as_str().unwrap();
        let foresaw = error.contains("min_free_space");
        assert!(foresaw || error.contains("No space left") || error.contains("disk is full"), "{about}: {full}");
        assert!(foreseen.is_none_or(|foreseen| foreseen == foresaw), "{about}: {full}");
        assert!(rows(&home.out()).is_empty() && !home.out().join("_SUCCESS").exists(), "{about}");
        let again = run(export());
        assert_eq!(again.ended(8)["exit_code"], 8, "{about}: {again}");
        disk.grow(65_536);
        let done = run(export());
        done.ended(0);
        assert_rows(&home.out(), &expected(&simulator, &ids, 10));
        let requests = simulator.account().requests - paid;
        assert!(requests <= fewest + 8, "{about}: {requests} requests where {fewest} are enough");
        assert!(!foresaw || requests == fewest, "{about}: {requests} requests where {fewest} are enough");
        paid = simulator.account().requests;
    }
}

// --- the program's own writes --------------------------------------------------------------------------------------

/// A run in a runtime of its own: what is still in flight when it fails ends with it, as with a process.
#[cfg(debug_assertions)]
fn process(out: &Path) -> (Result<ExitCode, Error>, usize) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().start_paused(true).build().unwrap().block_on(small::resume(out, |_| {}))
}

/// Plays a run whose `number`th step of these actions, or every one from it on, is refused; gives whether there was one.
#[cfg(debug_assertions)]
fn refused(
    kind: std::io::ErrorKind,
    number: usize,
    stays: bool,
    is_it: fn(&Failpoint<'_>) -> bool,
) -> (bool, Result<ExitCode, Error>) {
    let directory = crate::common::scratch();
    let out = directory.path().join("out");
    let (count, struck) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let strikes = Arc::clone(&struck);
    let watch = pagehaul::model::failpoint::watch(directory.path(), move |step| {
        if !is_it(step) {
            return Ok(());
        }
        let now = count.fetch_add(1, Ordering::SeqCst) + 1;
        if now != number && !(stays && now > number) {
            return Ok(());
        }
        strikes.fetch_add(1, Ordering::SeqCst);
        Err(kind.into())
    });
    let (ended, first) = process(&out);
    drop(watch);
    let about = format!("{kind:?} at step {number}");
    if ended.is_ok() {
        assert_eq!(small::found(&out), small::expected(), "{about}");
    }
    // Elsewhere: a process that another test starts meanwhile inherits the lock for a blink.
    let (directory, left) = (crate::common::scratch(), out);
    let out = directory.path().join("out");
    copy(&left, &out);
    let (again, billed) = process(&out);
    assert_eq!(again.unwrap(), ExitCode::Partial, "{about}");
    assert_eq!(small::found(&out), small::expected(), "{about}");
    assert!(first + billed <= small::PAGES + 1, "{about}: {} pages were paid for", first + billed);
    (struck.load(Ordering::SeqCst) > 0, ended)
}

#[cfg(debug_assertions)]
fn l5_a_disk_that_refuses_any_step_once_or_for_good_ends_with_8_and_costs_no_row() {
    use std::io::ErrorKind;
    for (kind, stays) in
        [(ErrorKind::StorageFull, false), (ErrorKind::StorageFull, true), (ErrorKind::ReadOnlyFilesystem, true)]
    {
        for number in 1.. {
            let (struck, ended) = refused(kind, number, stays, |_| true);
            if !struck {
                assert!(number > 100, "{number} steps are no run");
                break;
            }
            if let Err(error) = ended {
                assert_eq!(error.exit_code(), ExitCode::Storage, "step {number}: {}", chain(&error));
            }
        }
    }
}

#[cfg(debug_assertions)]
fn l7_a_write_that_is_interrupted_is_repeated_and_nobody_notices() {
    // What has happened is no more interrupted.
    let is_write = |step: &Failpoint<'_>| step.when == When::Before && step.action == "write";
    let mut number = 1;
    while let (true, ended) = refused(std::io::ErrorKind::Interrupted, number, false, is_write) {
        assert_eq!(ended.unwrap(), ExitCode::Partial, "write {number}");
        number += 1;
    }
    assert!(number > 10, "{number} writes are no run");
}

fn l7_a_call_that_is_interrupted_is_repeated_and_nobody_notices() {
    // Calls that a signal may interrupt on a local disk. The program takes signals; a test need not send any.
    for call in ["openat", "pwrite64", "pread64", "ftruncate"] {
        for when in ["60", "5+7"] {
            let (home, api) = (small::home(), small::api(None));
            let select = [format!("trace={call}"), format!("inject={call}:error=EINTR:when={when}")];
            let (command, log) = traced(
                &small::command(&home, &api, &ONE_BY_ONE),
                &home.path(""),
                &select.each_ref().map(String::as_str),
                &[],
            );
            let ended = run(command);
            let hit: Vec<_> = calls(&log).into_iter().filter(|(_, text)| text.ends_with("(INJECTED)")).collect();
            // The loader's, before the program started; and listing a directory, which no local disk interrupts: it ends with 8.
            if hit.iter().any(|(_, text)| text.contains(".so") || text.contains("O_DIRECTORY")) {
                continue;
            }
            ended.ended(3);
            assert_eq!(small::found(&home.out()), small::expected(), "{call}");
        }
    }
}

pub(crate) fn trials() -> Vec<Trial> {
    let (trace, disk) = (why_no_trace(), SmallDisk::why_none());
    #[cfg_attr(not(debug_assertions), expect(unused_mut, reason = "others have failpoints"))]
    let mut trials = trials![
        l5_a_disk_that_is_full_or_read_only_or_over_quota_at_any_call_ends_with_8_and_costs_no_row: trace,
        l6_an_error_of_the_disk_at_any_call_ends_with_8_and_costs_no_row: trace,
        l6_an_error_of_the_disk_while_an_earlier_run_is_recovered_ends_with_8_and_costs_no_row: trace,
        l5_an_answer_is_in_the_journal_and_then_in_the_ledger_before_the_next_request_and_a_file_is_whole_before_it_is_named: trace,
        l5_a_disk_that_fills_up_stops_the_run_and_with_more_room_the_same_command_ends_well: disk,
        l7_a_call_that_is_interrupted_is_repeated_and_nobody_notices: trace,
    ];
    #[cfg(debug_assertions)]
    trials.extend(trials![
        l5_a_disk_that_refuses_any_step_once_or_for_good_ends_with_8_and_costs_no_row: None,
        l7_a_write_that_is_interrupted_is_repeated_and_nobody_notices: None,
    ]);
    trials
}
