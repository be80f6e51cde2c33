//! The built program dies at each step around a durable operation, and its disk fails at each system call.
//!
//! Some tests need what a machine may not have (`strace`, the right to mount). There they are ignored, which the summary line
//! counts; where `CI=true` they fail instead. `cargo test` has no such tests, hence the harness.

#![cfg_attr(
    unix,
    expect(
        clippy::disallowed_methods,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used,
        reason = "what helps a test fails by panicking, and its files need not survive a crash"
    )
)]

#[cfg(unix)]
#[path = "../common/mod.rs"]
mod common;
mod disk_faults;
mod failpoints;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

/// Tests by their names, each with what it needs: a reason why this machine does not have it, or none.
macro_rules! trials {
    ($($name:ident: $missing:expr),* $(,)?) => {
        vec![$(crate::trial(concat!(module_path!(), "::", stringify!($name)), $missing, $name)),*]
    };
}
use trials;

fn trial(path: &str, missing: Option<&'static str>, test: fn()) -> Trial {
    let name = path.trim_start_matches("crash::");
    let trial = Trial::test(name, move || {
        if let Some(missing) = missing {
            return Err(missing.into());
        }
        test();
        Ok(())
    });
    let is_ci = std::env::var("CI").is_ok_and(|value| value == "true");
    trial.with_kind(missing.unwrap_or_default()).with_ignored_flag(missing.is_some() && !is_ci)
}

fn main() -> ExitCode {
    let mut trials: Vec<Trial> = Vec::new();
    #[cfg(all(debug_assertions, unix))]
    trials.extend(failpoints::trials());
    #[cfg(target_os = "linux")]
    trials.extend(disk_faults::trials());
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
