//! Faults of the machine, L3 to L30: signals, locks, directories, clocks, outputs that are closed, and other hands.
//! Ledgers are in `faults_ledger`, disks in `disk_faults`, crashes in `crash`, verify and replay in tests of their own.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use crate::common::{
    Api, DEADLINE, Home, KEY, Program, Served, assert_no_page_billed_twice, assert_rows, expected, ids, pagehaul, run,
    simulator,
};
use pagehaul::fetch::rate_limit::{RateLimiter, burst};
use pagehaul::model::clock;
use pagehaul::simulator::{Server, Simulator};

/// A small world that is served.
fn world() -> (Arc<Simulator>, Server, Home) {
    let Served { simulator, server, home, .. } = Served::start("products=4,max_videos=30");
    (simulator, server, home)
}

fn assert_whole(simulator: &Simulator, home: &Home) {
    assert_rows(&home.out(), &expected(simulator, &ids(simulator), 10));
}

/// The same command by way of a shell that does something first.
fn by_shell(first: &str, command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("{first}; exec \"$0\" \"$@\"")).arg(command.get_program()).args(command.get_args());
    shell.env("KEYAPI_TOKEN", KEY);
    shell
}

#[test]
fn l4_a_hangup_stops_like_sigterm_and_a_run_that_was_halted_continues() {
    let simulator = simulator("products=4,max_videos=30");
    let (api, gate, held) = Api::gated(&simulator, 3);
    let home = Home::new(&ids(&simulator));
    let mut program = Program::start(home.export(&api.base_url(), &[]));
    held.recv_timeout(DEADLINE).unwrap();
    program.signal("STOP");
    program.signal("CONT");
    program.signal("HUP");
    program.wait_for_line("stopping");
    gate.open();
    program.end().ended(143);
    run(home.export(&api.base_url(), &[])).ended(0);
    assert_whole(&simulator, &home);
    assert_no_page_billed_twice(&[&simulator]);
}

#[test]
fn l8_too_few_descriptors_are_reported_before_the_first_request_and_few_make_fewer_requests_go_out() {
    let (simulator, server, home) = world();
    for most in [12, 16, 32, 64, 104] {
        let short = run(by_shell(&format!("ulimit -n {most}"), &home.export(&server.base_url(), &[])));
        short.ended(2);
        assert!(
            short.stderr.contains("raise the limit (ulimit -n)") && short.stderr.contains("next: fix the cause"),
            "{most}: {short}"
        );
        assert_eq!(simulator.account().requests, 0, "{most}: {short}");
    }
    let few = run(by_shell("ulimit -n 107", &home.export(&server.base_url(), &["--max-in-flight", "64"])));
    few.ended(0);
    assert!(few.stderr.contains("at most 3 concurrent requests"), "{few}");
    assert_whole(&simulator, &home);
    assert_no_page_billed_twice(&[&simulator]);
}

#[test]
fn a_soft_limit_of_descriptors_is_raised_and_no_core_dump_can_show_the_key() {
    let simulator = simulator("products=4,max_videos=30");
    let (api, gate, held) = Api::gated(&simulator, 1);
    let home = Home::new(&ids(&simulator));
    let command = home.export(&api.base_url(), &["--max-in-flight", "64"]);
    let program = Program::start(by_shell("ulimit -S -n 64; ulimit -S -c unlimited", &command));
    held.recv_timeout(DEADLINE).unwrap();
    if cfg!(target_os = "linux") {
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", program.id())).unwrap();
        let of =
            |name: &str| limits.lines().find_map(|line| line.strip_prefix(name)).unwrap().split_whitespace().next();
        assert_eq!(of("Max open files"), Some("168"), "{limits}");
        assert_eq!(of("Max core file size"), Some("0"), "{limits}");
    }
    gate.open();
    let ended = program.end();
    ended.ended(0);
    assert!(!ended.stderr.contains("concurrent requests"), "{ended}");
    assert_whole(&simulator, &home);
}

#[test]
fn l12_what_a_dead_process_wrote_into_its_lock_blocks_nobody() {
    let (simulator, server, home) = world();
    std::fs::create_dir_all(home.out().join("_pagehaul")).unwrap();
    // The number of a process that lives: this one.
    let about = format!("process {}, since 2020-01-01T00:00:00.000Z", std::process::id());
    std::fs::write(home.out().join("_pagehaul/lock"), about).unwrap();
    run(home.export(&server.base_url(), &[])).ended(0);
    assert_whole(&simulator, &home);
}

#[cfg(debug_assertions)]
#[test]
fn l19_a_wall_clock_that_is_wrong_or_jumps_between_runs_changes_stamps_only() {
    for (first, then) in
        [("0", "7289564400000000"), ("7289564400000000", "1"), ("1711846799000000", "1711846800000000")]
    {
        let (simulator, server, home) = world();
        let run_at = |at: &str, more: &[&str], code| {
            let mut command = home.export(&server.base_url(), more);
            run({
                command.env("TEST_WALL", at);
                command
            })
            .ended(code)
        };
        run_at(first, &["--max-credits", "2"], 6);
        let summary = run_at(then, &[], 0);
        assert!(summary["run"]["seconds"].as_f64().unwrap() >= 0.0, "{summary}");
        assert_no_page_billed_twice(&[&simulator]);
    }
}

#[tokio::test(start_paused = true)]
async fn l20_after_a_suspend_of_eight_hours_no_burst_follows() {
    for rate in [2.0, 50.0, 500.0] {
        let quota = RateLimiter::new(Some(rate));
        for _ in 0..20 {
            quota.acquire().await;
        }
        tokio::time::advance(Duration::from_secs(8 * 3_600)).await;
        let (woken, mut at_once) = (clock::now(), 0_u32);
        loop {
            quota.acquire().await;
            if clock::now() > woken {
                break;
            }
            at_once += 1;
        }
        assert!(at_once <= burst(rate).get(), "{at_once} permits at once at {rate} a second");
    }
}

#[test]
fn l23_files_of_other_hands_are_never_touched_and_leftovers_of_ours_are_gone() {
    let (simulator, server, home) = world();
    let foreign = [
        "notes.txt",
        "a.tmp",
        "region=ID#1",
        "_rejects/theirs.parquet",
        "_pagehaul/theirs.json",
        "_pagehaul/staging/theirs.parquet",
        "_pagehaul/staging/0123456789-s000001-1-0.parquet",
        "_pagehaul/journal/readme",
        "_pagehaul/segments/notes.txt",
        "other/file",
    ];
    let write = |name: &str| {
        let path = home.out().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, name).unwrap();
    };
    // Where there are rows or rejects without an export, none is started: files that look like them come later.
    let (like_ours, others): (Vec<&str>, Vec<&str>) =
        foreign.iter().partition(|name| name.starts_with("_rejects/") || name.starts_with("region="));
    others.into_iter().for_each(write);
    run(home.export(&server.base_url(), &["--max-credits", "1"])).ended(6);
    like_ours.into_iter().for_each(write);
    run(home.export(&server.base_url(), &[])).ended(0);
    for name in foreign {
        assert_eq!(std::fs::read_to_string(home.out().join(name)).unwrap(), name);
    }
    assert_whole(&simulator, &home);
    let staged = std::fs::read_dir(home.out().join("_pagehaul/staging")).unwrap().count();
    assert_eq!(staged, 2, "the two foreign ones");
}

#[test]
fn l28_outputs_that_are_closed_or_full_and_odd_terminals_lose_no_row() {
    for (about, first, codes) in [
        ("closed stdout", "exec 1>&-", &[0, 8][..]),
        ("closed stderr", "exec 2>&-", &[0]),
        ("both closed", "exec 1>&- 2>&-", &[0, 8]),
        ("full stdout", "exec 1>/dev/full", &[8]),
        ("full stderr", "exec 2>/dev/full", &[0]),
        ("no terminal worth the name", "export TERM=dumb NO_COLOR=1 COLUMNS=0 LINES=0", &[0]),
    ] {
        let (simulator, server, home) = world();
        let command = home.export(&server.base_url(), &["--log-format", "json"]);
        let ended = by_shell(first, &command).stdin(Stdio::null()).output().unwrap();
        assert!(ended.status.code().is_some_and(|code| codes.contains(&code)), "{about}: {ended:?}");
        assert_whole(&simulator, &home);
        assert_no_page_billed_twice(&[&simulator]);
    }
}

#[test]
fn l30_an_empty_environment_and_a_directory_that_is_gone_are_no_hindrance() {
    let (simulator, server, home) = world();
    let mut command = home.export(&server.base_url(), &[]);
    command.env_clear().env("KEYAPI_TOKEN", KEY);
    run(command).ended(0);
    assert_whole(&simulator, &home);

    let (simulator, server, home) = world();
    let gone = home.path("gone");
    std::fs::create_dir(&gone).unwrap();
    let command = home.export(&server.base_url(), &[]);
    let first = format!("cd '{}' && rmdir '{}'", gone.display(), gone.display());
    let ended = run(by_shell(&first, &command));
    assert_eq!(ended.code, Some(0), "{ended}");
    assert_whole(&simulator, &home);
    assert!(run(pagehaul(["schema"])).stdout.contains("video_id"));
}
