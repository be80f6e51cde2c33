//! Compares a sample of lists that were read whole with what the earlier export had of them: changes before a list's last page
//! may balance, so that this page does not show them.

use std::sync::Arc;

use tokio::task::spawn_blocking;

use super::earlier::Earlier;
use crate::error::Error;
use crate::model::page::{ItemId, ItemIx};
use crate::output::export_dir::ExportDir;
use crate::run::open::OpenExport;
use crate::state::ledger::{LedgerError, Tail};

impl OpenExport<'_> {
    /// Compares the sampled lists that were read to their end.
    pub(in crate::run) async fn compare_sampled(&self, earlier: Earlier) -> Result<(), Error> {
        let sampled = self.dir.ledger().sampled()?;
        if sampled.is_empty() {
            return Ok(());
        }
        let dir = Arc::clone(&self.dir);
        spawn_blocking(move || compare(&earlier, &dir, &sampled)).await?
    }
}

/// Blocks.
fn compare(earlier: &Earlier, dir: &ExportDir, sampled: &[(ItemIx, ItemId, Tail)]) -> Result<(), Error> {
    let one = |(item, id, tail): &(ItemIx, ItemId, Tail)| -> Result<_, LedgerError> {
        let ledger = dir.ledger();
        let is_seen = !ledger.tail_holds(*item, tail)?;
        let is_same = !is_seen && ledger.keys_before(id, tail.page)? == earlier.ledger.keys_before(id, tail.page)?;
        Ok((*item, is_same, is_seen))
    };
    let compared: Vec<_> = sampled.iter().map(one).collect::<Result<_, _>>()?;
    Ok(dir.ledger().set_compared(&compared)?)
}
