//! Entry: parse, run, print, end. The library does everything else.

use std::io::Write;
use std::process::ExitCode;

use pagehaul::cli::{self, Done};

fn main() -> ExitCode {
    let matches = match cli::command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => {
            // Help and version are answers, not errors; a closed pipe is nobody's fault.
            error.print().ok();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(1));
        }
    };
    match cli::run(&matches) {
        Ok(Done::Text(text)) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Ok(Done::Summary(summary)) => {
            complain(&format!("{summary}\n"));
            print(&format!("{}\n", summary.json()));
            ExitCode::from(summary.exit.number())
        }
        Err(error) => {
            let (code, chain) = (error.exit_code(), error.chain());
            complain(&format!("error: {chain}\n"));
            if let Some(next) = code.next_step() {
                complain(&format!("  next: {next}\n"));
            }
            if matches!(matches.subcommand_name(), Some("export" | "replay")) {
                print(&format!("{}\n", cli::error_json(code, &chain)));
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
