//! Parses the command line, runs the command, prints its result, exits. The library does everything else.

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use pagehaul::cli::{self, CommandOutput, log};
use pagehaul::error::{self, Error};
use pagehaul::model::sanitize::Sanitized;

/// Groups of a megabyte pass between three threads: jemalloc reuses their memory, but glibc's allocator returns it to the
/// kernel and requests it again (`docs/core.md`).
#[cfg(all(unix, not(target_os = "macos")))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|panic| {
        let message = format!("bug: {}", Sanitized(&panic.to_string()));
        print_error(&if log::is_json() { log::json_line("ERROR", &message, None) } else { message + "\n" });
    }));
    // A panic here unwinds past everything that is open, as one in a task does: both are bugs that end with 1.
    let result = std::panic::catch_unwind(|| cli::run(std::env::args_os())).unwrap_or(Err(Error::Bug));
    let output = result.unwrap_or_else(|error| CommandOutput::failed(&error, std::env::args_os()));
    print_error(&output.message);
    print(&output.printed, output.exit)
}

/// Prints the result and returns the exit code. A reader that has gone away is not an error; any other failure to write the
/// result is.
fn print(text: &str, exit: error::ExitCode) -> ExitCode {
    let mut out = std::io::stdout();
    let printed = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    match printed {
        Err(error) if error.kind() != ErrorKind::BrokenPipe && exit == error::ExitCode::Complete => {
            print_error(&format!("error: cannot write the result to stdout: {error}\n"));
            ExitCode::from(error::ExitCode::Storage.number())
        }
        Ok(()) | Err(_) => ExitCode::from(exit.number()),
    }
}

fn print_error(text: &str) {
    std::io::stderr().write_all(text.as_bytes()).ok();
}
