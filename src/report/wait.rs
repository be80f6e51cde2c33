//! `status --wait`: waits until no process works on an export, and says how the last run of it ended.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::model::exit_code::ExitCode;
use crate::output::export_dir::LOCK;
use crate::output::read_only::ExportPath;
use crate::report::error::ReportError;
use crate::report::status::ExportStatus;
use crate::report::summary::SUMMARY;

/// Time between two looks at the lock. A look takes it only if no process has it, and for a moment, so that a process that
/// starts then finds it free at its second try.
const POLL: Duration = Duration::from_millis(500);

/// Waits at most for this time.
pub(crate) async fn wait(export: &ExportPath, limit: Option<Duration>) -> Result<(), ReportError> {
    let waiting = async {
        while export.lock()?.is_err() {
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    };
    match limit {
        Some(limit) => tokio::time::timeout(limit, waiting).await.unwrap_or(Ok(())),
        None => waiting.await,
    }
}

/// The exit code of the last run, as far as it is known.
pub(crate) fn last_exit(export: &ExportPath, status: &ExportStatus) -> ExitCode {
    match status.status {
        "running" => ExitCode::Busy,
        "complete" | "removed" => written_exit(export).unwrap_or(ExitCode::Complete),
        "partial" => written_exit(export).unwrap_or(ExitCode::Partial),
        // A run that left no summary was killed, or failed before it could write one: the same command resumes.
        _ => written_exit(export).unwrap_or(ExitCode::Temporary),
    }
}

/// The exit code in the summary, if the last run wrote that: it is not older than the lock, which each run writes at its start.
/// A summary in a bucket is not read.
fn written_exit(export: &ExportPath) -> Option<ExitCode> {
    let summary = export.out.directory()?.join(SUMMARY);
    if modified(&summary)? < modified(&export.state.join(LOCK))? {
        return None;
    }
    let value: Value = serde_json::from_slice(&fs::read(summary).ok()?).ok()?;
    let number = value.get("exit_code")?.as_u64()?;
    ExitCode::ALL.into_iter().find(|code| u64::from(code.number()) == number)
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).ok()?.modified().ok()
}
