//! Removes journal files that no later run would read: all that are old enough, for `prune`, or each as soon as it may go, in an
//! export that keeps its journal only until then. [`Retention`] says which.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::error::Error;
use crate::model::clock;
use crate::output::error::OutputError;
use crate::output::exclusive::ExclusiveExport;
use crate::output::read_only::ExportPath;
use crate::output::retention::{Retention, Scope};
use crate::report::prune::PruneReport;
use crate::run::open::OpenExport;
use crate::settings::JournalRetention;

/// Removes the journal files of segments that were decided at least so long ago. A dry run says what it would remove.
pub(crate) async fn prune(path: &ExportPath, older_than: Duration, is_dry_run: bool) -> Result<PruneReport, Error> {
    let scope = Scope { only: None, decided_until: Some(clock::wall().minus(older_than)), reads_files: true };
    let (sorted, export) = if is_dry_run {
        let _locks = path.lock()?.map_err(|holder| OutputError::Busy { holder })?;
        let opened = path.open().await?;
        let (ledger, store) = (Arc::new(Mutex::new(opened.ledger)), path.reach().await?);
        let retention = Retention { ledger, store, journal: path.journal(), identity: opened.export.identity };
        (retention.sort(scope).await?, opened.export.id)
    } else {
        let opened = ExclusiveExport::open(path).await?;
        let sorted = opened.retention.sort(scope).await?;
        opened.retention.remove(&sorted.expendable).await?;
        (sorted, opened.export.id)
    };
    Ok(PruneReport::new(&sorted, (export, path.out.to_string()), older_than, is_dry_run))
}

impl OpenExport<'_> {
    /// What removes journal files, if the export keeps them only until they are published.
    pub(super) fn retention(&self) -> Option<Retention> {
        let (settings, dir) = (&self.context.settings, &self.dir);
        let retention = || Retention {
            ledger: Arc::clone(&dir.ledger),
            store: dir.store.clone(),
            journal: dir.journal.clone(),
            identity: settings.identity(),
        };
        (settings.journal == JournalRetention::UntilPublished).then(retention)
    }

    /// Removes the journal files that may go by now, also those of earlier runs.
    pub(super) async fn prune(&self) -> Result<(), Error> {
        if let Some(retention) = self.retention() {
            retention.remove(&retention.sort(Scope::default()).await?.expendable).await?;
        }
        Ok(())
    }
}
