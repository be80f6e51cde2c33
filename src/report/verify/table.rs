//! The table of an output against its manifests: each published segment's files are in the table, and nothing else of the export.

use super::Audit;
use super::report::{Remedy, VerifiedTable};
use crate::output::delta;
use crate::output::manifest::Manifest;
use crate::report::error::ReportError;
use crate::state::ledger::SegmentState;

pub(super) async fn compare(audit: &mut Audit<'_>) -> Result<(), ReportError> {
    if !audit.table.is_there().await? {
        return Ok(());
    }
    let published = audit.segments.iter().filter(|row| row.state == SegmentState::Published);
    // A manifest that cannot be read is a difference already.
    let published = published.filter_map(|row| Manifest::parse(row.manifest.as_deref()?.as_bytes()).ok()).collect();
    let Some(found) = delta::audit(audit.table, audit.opened.export.id.clone(), published).await? else {
        audit.read.table = Some(VerifiedTable::default());
        return Ok(());
    };
    let (committed, uncommitted) = (found.committed, found.uncommitted);
    audit.read.table = Some(VerifiedTable { is_compared: true, committed, uncommitted });
    for difference in found.differences {
        audit.differs(Remedy::Table, difference);
    }
    Ok(())
}
