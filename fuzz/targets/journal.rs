#![no_main]
#![allow(dead_code, reason = "each target is one of several")]

#[path = "../patched.rs"]
mod patched;
#[path = "../../tests/runs/fuzz/targets.rs"]
mod targets;

use patched::patched;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::journal(&patched(targets::journal_file(), bytes)));
