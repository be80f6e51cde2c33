//! The list of items into the ledger, and which finished walks are opened again.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

use crate::endpoint::EndRule;
use crate::error::Error;
use crate::input::error::InputError;
use crate::input::item_list::Ids;
use crate::model::event::Event;
use crate::model::page::PageNum;
use crate::output::export_dir::ExportDir;
use crate::output::names::SUCCESS;
use crate::run::engine::seems_empty;
use crate::run::open::OpenExport;
use crate::settings::Settings;
use crate::state::ledger::{AddedItems, Repair};

/// What there is to do that was not there before.
struct Registered {
    added: AddedItems,
    reopened: usize,
    repair: Repair,
}

impl OpenExport<'_> {
    /// Adds the list's items and size hints to the ledger, and opens the walks that this run is to continue with. Takes as long as
    /// the list does: one on a pipe may stall.
    pub(super) async fn register(&self, ids: Ids) -> Result<(), Error> {
        let (dir, settings) = (Arc::clone(&self.dir), self.context.settings.clone());
        let (hints, is_survey) = (self.context.sizes.clone(), self.context.survey.is_some());
        let registered = spawn_blocking(move || {
            let registered = add(&dir, ids, &settings, is_survey)?;
            let mut wrong = 0;
            for hints in hints {
                wrong += hints.read(0, |sizes| Ok(dir.ledger().set_size_hints(&sizes)?))?;
            }
            Ok::<_, Error>((registered, wrong))
        });
        let (registered, wrong_sizes) = registered.await??;
        if wrong_sizes > 0 {
            self.warn(&wrong_sizes_message(wrong_sizes));
        }
        let Registered { added: AddedItems { listed, new, repeated }, reopened, repair } = registered;
        let others = self.dir.ledger().totals()?.items.saturating_sub(listed - repeated);
        let events = &self.context.events;
        events.event(&Event::Registered { listed, new, repeated, reopened, others });
        if self.context.settings.repair {
            let Repair { moved, empty, pages } = repair;
            events.event(&Event::Repair { moved, empty, pages });
        }
        Ok(())
    }
}

pub(super) fn wrong_sizes_message(values: u64) -> String {
    format!("{values} values of the size hint column are not whole numbers; those lists have no size hint")
}

/// Blocks.
fn add(dir: &ExportDir, ids: Ids, settings: &Settings, is_survey: bool) -> Result<Registered, Error> {
    let mut ledger = dir.ledger();
    let ids = ids.map(|id| id.map_err(Error::from));
    let unmark = || Ok::<_, Error>(Handle::current().block_on(dir.store.remove(vec![SUCCESS.to_owned()]))?);
    let added = ledger.add_items(ids, unmark)?;
    if added.listed == 0 {
        return Err(InputError::Empty.into());
    }
    if is_survey && added.new == 0 && dir.export.completed_at.is_some() {
        return Ok(Registered { added, reopened: 0, repair: Repair::default() }); // a plan opens nothing again
    }
    let mut reopened = ledger.reopen_failed(settings.retry_failed)?;
    let (before, identity) = (&dir.export.identity, settings.identity());
    if before.get("end") != identity.get("end") {
        unmark()?;
        ledger.set_completed(None)?;
        reopened += if settings.end == EndRule::EmptyPage { ledger.reopen_short_ends()? } else { 0 };
    }
    if *before != identity {
        ledger.set_identity(&identity)?;
    }
    let mut repair = Repair::default();
    if settings.repair {
        let (first, is_doubtful) = (PageNum(settings.endpoint.page.first), |lists| seems_empty(lists).is_some());
        repair = ledger.repair(first, is_doubtful, unmark)?;
    }
    Ok(Registered { added, reopened, repair })
}
