//! Outputs in buckets, as far as they need no store: what cannot work ends before the first request, and secrets are shown nowhere.
//! `tests/stores.sh` exports into real stores.

use std::time::{Duration, Instant};

use crate::common::{Home, Run, files_that_hold, pagehaul, run};

const SECRET: &str = "CANARYsecret0123";
/// Nothing listens there.
const NOWHERE: &str = "http://127.0.0.1:1";

/// A run of a simulated export into a bucket, with credentials, an address where nothing listens, and these flags instead.
fn export(home: &Home, flags: &[&str], variables: &[(&str, &str)]) -> Run {
    let state = home.argument("state");
    let has = |name: &str| flags.contains(&name);
    let mut command = pagehaul(["export", "--simulate=products=3", "--qps", "unlimited"].iter().chain(flags));
    if !has("--state-dir") {
        command.args(["--state-dir", &state]);
    }
    if !has("--endpoint-url") {
        command.args(["--endpoint-url", NOWHERE]);
    }
    command.env("AWS_REGION", "us-east-1").env("AWS_METADATA_ENDPOINT", NOWHERE);
    command.envs(variables.iter().copied());
    run(command)
}

const KEYS: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "CANARYkey"), ("AWS_SECRET_ACCESS_KEY", SECRET)];

fn assert_ends(about: &str, run: &Run, code: i32, words: &[&str]) {
    let cause = run.ended(code)["cause"].as_str().unwrap().to_owned();
    assert!(words.iter().all(|word| cause.contains(word)), "{about}: {run}");
    assert!(run.stderr.contains("  next: "), "{about}: {run}");
    assert!(!format!("{}{}", run.stdout, run.stderr).contains("CANARY"), "{about}: {run}");
}

/// Flags, variables, the exit code, and words of the cause.
type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], i32, &'a [&'a str]);

#[test]
fn what_cannot_work_in_a_bucket_ends_soon_with_its_code_and_the_next_step() {
    let started = Instant::now();
    let table: [Case<'_>; 8] = [
        (&["--out", "ftp://b/p"], &KEYS, 2, &["s3://, gs://, az:// or file://"]),
        (&["--out", "s3:///p"], &KEYS, 2, &["name a bucket"]),
        (&["--out", "s3://CANARY:CANARY@b/p"], &KEYS, 2, &["without credentials"]),
        (&["--out", "s3://b/p", "--store-option", "CANARY"], &KEYS, 2, &["NAME=VALUE"]),
        (&["--out", "s3://b/p", "--store-option", "aws_regin=CANARY"], &KEYS, 2, &["no option aws_regin"]),
        (&["--out", "s3://b/p", "--endpoint-url", "http://store.invalid"], &KEYS, 2, &["plain http", "allow_http"]),
        (&["--out", "s3://b/p"], &[], 7, &["no usable credentials for s3://b/p"]),
        (&["--out", "s3://b/p"], &KEYS, 5, &["s3://b/p/_pagehaul/export.json", "Connection refused"]),
    ];
    for (flags, variables, code, words) in table {
        let home = Home::new(&[]);
        assert_ends(&format!("{flags:?}"), &export(&home, flags, variables), code, words);
        assert!(files_that_hold(&home.path(""), "CANARY").is_empty(), "{flags:?}");
    }
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
}

#[test]
fn a_bucket_needs_a_state_directory_and_says_why() {
    let home = Home::new(&[]);
    let mut command = pagehaul(["export", "--simulate", "--out", "s3://b/p"]);
    command.current_dir(home.path(""));
    assert_ends("no state directory", &run(command), 2, &["state_dir", "local disk"]);
}

#[test]
fn options_of_a_store_are_shown_without_their_values() {
    let option = format!("aws_secret_access_key={SECRET},aws_region=eu-west-1");
    let shown = run(pagehaul(["config", "show", "--store-option", &option]));
    assert!(shown.stdout.contains("store_option = \"aws_secret_access_key=...,aws_region=...\""), "{shown}");
    assert!(!shown.stdout.contains("CANARY") && !shown.stderr.contains("CANARY"), "{shown}");
}

#[test]
fn the_status_of_an_export_into_a_bucket_needs_no_store() {
    let home = Home::new(&[]);
    let mut command = pagehaul(["status", "--out", "s3://b/p", "--state-dir", &home.argument("state")]);
    command.env("AWS_METADATA_ENDPOINT", NOWHERE);
    let status = run(command);
    assert!(status.code == Some(2) && status.stderr.contains("there is no export"), "{status}");
}
