//! Compares a sample of lists that were read whole with what the earlier export had of them: changes before a list's last page
//! may balance, so that this page does not show them.

use std::path::Path;
use std::sync::Arc;

use tokio::task::spawn_blocking;

use super::earlier::Earlier;
use crate::error::Error;
use crate::model::page::{ItemId, ItemIx};
use crate::model::sanitize::chain;
use crate::output::export_dir::ExportDir;
use crate::run::open::OpenExport;
use crate::state::ledger::{EarlierExport, LedgerError, Tail};

impl OpenExport<'_> {
    /// Compares the sampled lists that were read to their end. Where the earlier export is gone, that is a warning.
    pub(in crate::run) async fn compare_sampled(&self) -> Result<(), Error> {
        let (about, sampled) = {
            let ledger = self.dir.ledger();
            (ledger.earlier()?, ledger.sampled()?)
        };
        let Some(about) = about.filter(|_| !sampled.is_empty()) else { return Ok(()) };
        let (dir, identity) = (Arc::clone(&self.dir), self.context.settings.identity());
        let compared = spawn_blocking(move || {
            let earlier = Earlier::open(Path::new(&about.state), &about.name, &identity)?;
            compare(&earlier, &about, &dir, &sampled)
        });
        if let Err(error) = compared.await? {
            self.warn(&format!("the sample of --since-check cannot be compared: {}", chain(&error)));
        }
        Ok(())
    }
}

/// Blocks.
fn compare(
    earlier: &Earlier,
    about: &EarlierExport,
    dir: &ExportDir,
    sampled: &[(ItemIx, ItemId, Tail)],
) -> Result<(), Error> {
    if earlier.about.id != about.id {
        return Ok(()); // another export is there now
    }
    let one = |(item, id, tail): &(ItemIx, ItemId, Tail)| -> Result<_, LedgerError> {
        let ledger = dir.ledger();
        let is_seen = !ledger.tail_holds(*item, tail)?;
        let is_same = !is_seen && ledger.keys_before(id, tail.page)? == earlier.ledger.keys_before(id, tail.page)?;
        Ok((*item, is_same, is_seen))
    };
    let compared: Vec<_> = sampled.iter().map(one).collect::<Result<_, _>>()?;
    Ok(dir.ledger().set_compared(&compared)?)
}
