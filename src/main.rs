//! Entry: parse, run, print, end. The library does everything else.

use std::io::Write;
use std::process::ExitCode;

use pagehaul::cli::{self, Done};
use pagehaul::error::Error;
use pagehaul::sanitize::{Sanitized, chain};

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|panic| complain(&format!("bug: {}\n", Sanitized(&panic.to_string())))));
    let run = || cli::parse(std::env::args_os()).and_then(|matches| cli::run(&matches));
    // A panic here unwinds past everything that is open, as one in a task does: both are bugs that end with 1.
    match std::panic::catch_unwind(run).unwrap_or(Err(Error::Bug)) {
        Ok(Done::Text(text)) | Err(Error::Answer(text)) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Ok(Done::Ended { said, json, exit }) => {
            complain(&said);
            print(&format!("{json}\n"));
            ExitCode::from(exit.number())
        }
        Err(error) => {
            let (code, chain, next) = (error.exit_code(), chain(&error), error.next_step());
            complain(&format!("error: {chain}\n"));
            if let Some(next) = next {
                complain(&format!("  next: {next}\n"));
            }
            if cli::has_result(std::env::args_os()) {
                print(&format!("{}\n", cli::error_json(code, &chain, next)));
            }
            ExitCode::from(code.number())
        }
    }
}

/// A reader that has gone away has what it wanted.
fn print(text: &str) {
    std::io::stdout().write_all(text.as_bytes()).ok();
}

fn complain(text: &str) {
    std::io::stderr().write_all(text.as_bytes()).ok();
}
