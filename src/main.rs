//! Entry: parse, run, print, end. The library does everything else.

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use pagehaul::cli::log;
use pagehaul::cli::{self, CommandOutput};
use pagehaul::error::{self, Error};
use pagehaul::model::sanitize::Sanitized;

/// Groups of a megabyte come and go between three threads: jemalloc gives their memory back to itself, where glibc's
/// allocator gives it to the kernel and takes it anew (`docs/core.md`).
#[cfg(all(unix, not(target_os = "macos")))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|panic| {
        let message = format!("bug: {}", Sanitized(&panic.to_string()));
        complain(&if log::speaks_json() { log::json_line("ERROR", &message, None) } else { message + "\n" });
    }));
    let run = || cli::parse(std::env::args_os()).and_then(|matches| cli::run(&matches));
    // A panic here unwinds past everything that is open, as one in a task does: both are bugs that end with 1.
    match std::panic::catch_unwind(run).unwrap_or(Err(Error::Bug)) {
        Ok(CommandOutput::Text(text)) | Err(Error::Answer(text)) => print(&text, error::ExitCode::Complete),
        Ok(CommandOutput::Ended { message, printed, exit }) => {
            complain(&message);
            print(&printed, exit)
        }
        Err(error) => {
            complain(&cli::complaint(&error));
            let has_result = cli::has_result(std::env::args_os());
            let result = has_result.then(|| cli::error_json(&error) + "\n");
            print(&result.unwrap_or_default(), error.exit_code())
        }
    }
}

/// Prints the result, and gives the code to end with. A reader that has gone away has what it wanted; a result that could
/// not be written is no success.
fn print(text: &str, exit: error::ExitCode) -> ExitCode {
    let mut out = std::io::stdout();
    let printed = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    match printed {
        Err(error) if error.kind() != ErrorKind::BrokenPipe && exit == error::ExitCode::Complete => {
            complain(&format!("error: write the result to standard output: {error}\n"));
            ExitCode::from(error::ExitCode::Storage.number())
        }
        Ok(()) | Err(_) => ExitCode::from(exit.number()),
    }
}

fn complain(text: &str) {
    std::io::stderr().write_all(text.as_bytes()).ok();
}
