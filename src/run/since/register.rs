//! Which lists may be continued: noted before the first request, once in an export's life.

use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use tokio::task::spawn_blocking;

use indicatif::HumanCount;

use super::earlier::{Earlier, refused};
use crate::error::Error;
use crate::model::event::Event;
use crate::model::page::{ItemId, PageNum};
use crate::model::sanitize::{Sanitized, chain};
use crate::output::error::OutputError;
use crate::run::open::OpenExport;
use crate::settings::{Settings, Since, SincePlace};
use crate::state::ledger::{EarlierExport, Ledger, Tail, TailFault};

/// How many lists can be continued, and why others cannot.
#[derive(Clone, Copy, Debug, Default)]
struct Continued {
    lists: u64,
    sampled: u64,
    incomplete: u64,
    irregular: u64,
    pruned: u64,
    one_page: u64,
}

impl OpenExport<'_> {
    /// Notes which lists continue those of the earlier export, if the settings name one and this export is new. Later runs go on
    /// with what was noted. Without `--since` a later run reads whole what is not taken over yet. Returns the earlier export, locked,
    /// while something of it is needed.
    pub(in crate::run) async fn continue_earlier(&self) -> Result<Option<Earlier>, Error> {
        let (known, has_begun) = {
            let ledger = self.dir.ledger();
            (ledger.earlier()?, ledger.last_attempt()?.0 > 0)
        };
        let Some(since) = self.context.settings.since.clone() else {
            let forgotten = self.dir.ledger().forget_earlier()?;
            if forgotten > 0 {
                let lists = HumanCount(u64::try_from(forgotten).unwrap_or(u64::MAX));
                self.warn(&format!("--since is not given any more: {lists} products are read whole"));
            }
            return Ok(None);
        };
        match known {
            Some(about) => self.reopen_earlier(about, &since).await,
            None if has_begun => {
                self.warn("this export was started without --since, which has no effect on it");
                Ok(None)
            }
            None => self.register_lists(since).await,
        }
    }

    async fn register_lists(&self, since: Since) -> Result<Option<Earlier>, Error> {
        let (dir, settings) = (Arc::clone(&self.dir), self.context.settings.clone());
        let registered = spawn_blocking(move || {
            let found = Earlier::find(&since, &settings.state_dir, &settings.identity())?;
            let Some(earlier) = found else { return Ok(None) };
            let continued = register(&earlier, &mut dir.ledger(), (since.check, &dir.export.id), &settings)?;
            Ok::<_, Error>(Some((earlier, continued)))
        });
        let Some((earlier, continued)) = registered.await?? else {
            self.warn("--since latest: there is no complete snapshot yet, so that every list is read whole");
            return Ok(None);
        };
        let (name, text) = (Sanitized(&earlier.about.name).to_string(), continued.to_string());
        self.context.events.event(&Event::Continued { since: &name, lists: &text });
        Ok(Some(earlier))
    }

    /// Opens the earlier export of an earlier run again, if anything of it is still needed. Fails, before a request, where it is not
    /// as it was: lists that cannot be taken over would be paid for.
    async fn reopen_earlier(&self, about: EarlierExport, since: &Since) -> Result<Option<Earlier>, Error> {
        let counts = self.dir.ledger().since_counts()?;
        if counts.waiting + counts.sampled == 0 {
            return Ok(None);
        }
        if about.name != since.name && matches!(since.place, SincePlace::States(_)) {
            let (was, now) = (Sanitized(&about.name), Sanitized(&since.name));
            self.warn(&format!("--since {now} has no effect: this export continues {was}"));
        }
        let (dir, identity) = (Arc::clone(&self.dir), self.context.settings.identity());
        let (first, size) = (PageNum(self.context.settings.endpoint.page.first), self.context.settings.page_size);
        let opened = spawn_blocking(move || {
            let earlier =
                Earlier::open(Path::new(&about.state), &about.name, &identity).map_err(|error| gone(&about, error))?;
            if earlier.about.id != about.id {
                return Err(refused(&about.name, "is another export now than the one that this export continues"));
            }
            let mut lost = 0_u64;
            earlier.ledger.for_each_tail((first, size), |id, tail| {
                let waiting = dir.ledger().waiting_tail(id)?;
                lost +=
                    u64::from(waiting.is_some_and(|(page, digest)| {
                        !tail.is_ok_and(|tail| tail.page == page && tail.digest == digest)
                    }));
                Ok::<_, Error>(())
            })?;
            if lost == 0 {
                return Ok(earlier);
            }
            let what = format!(
                "is not as it was: {} products cannot be taken over any more (its journal was pruned, or it went on)",
                HumanCount(lost)
            );
            Err(refused(&about.name, &what))
        });
        match opened.await? {
            Err(error) if counts.waiting == 0 => {
                self.warn(&format!("the sample of --since-check cannot be compared: {}", chain(&error)));
                Ok(None)
            }
            opened => opened.map(Some),
        }
    }
}

/// Notes in a ledger without a file which lists an export with these settings would continue. Blocks.
pub(in crate::run) fn note_lists(ledger: &mut Ledger, settings: &Settings) -> Result<(), Error> {
    let Some(since) = &settings.since else { return Ok(()) };
    if let Some(earlier) = Earlier::find(since, &settings.state_dir, &settings.identity())? {
        register(&earlier, ledger, (since.check, ""), settings)?;
    }
    Ok(())
}

/// An export that this one needs cannot be opened. One that a process works on can later.
fn gone(about: &EarlierExport, error: Error) -> Error {
    if matches!(error, Error::Output(OutputError::Busy { .. })) {
        return error;
    }
    refused(&about.name, &format!("cannot be read any more: {}", chain(&error)))
}

/// Blocks. Fails, and then notes nothing, where nothing can be continued because journal files were removed: every list would be
/// paid for again.
fn register(
    earlier: &Earlier,
    ledger: &mut Ledger,
    (check, export): (f64, &str),
    settings: &Settings,
) -> Result<Continued, Error> {
    let (first, size) = (PageNum(settings.endpoint.page.first), settings.page_size);
    let mut continued = Continued::default();
    if earlier.ledger.repeats_pages()? {
        let what = "cannot be continued: the API shows rows again behind the end of a list, so that a last page proves nothing";
        return Err(refused(&earlier.about.name, what));
    }
    ledger.continue_from(&earlier.about, |note| {
        let mut first_noted: Option<(ItemId, Tail)> = None;
        earlier.ledger.for_each_tail((first, size), |id, tail| {
            match tail {
                Ok(tail) => {
                    let is_sampled = is_in_sample(export, id, check);
                    if note(id, tail, is_sampled)? {
                        continued.lists += 1;
                        continued.sampled += u64::from(is_sampled);
                        first_noted.get_or_insert_with(|| (id.clone(), tail));
                    }
                }
                Err(TailFault::OnePage) => continued.one_page += 1,
                Err(TailFault::Incomplete) => continued.incomplete += 1,
                Err(TailFault::Irregular) => continued.irregular += 1,
                Err(TailFault::Pruned) => continued.pruned += 1,
            }
            Ok::<_, Error>(())
        })?;
        // At least one list is compared.
        if let Some((id, tail)) = first_noted.filter(|_| continued.sampled == 0 && check > 0.0) {
            continued.sampled += u64::from(note(&id, tail, true)?);
        }
        if continued.lists == 0 && continued.pruned > 0 {
            let what = "has no journal any more (prune, --journal), and pages are taken over from it: keep that of the newest snapshot for the next one";
            return Err(refused(&earlier.about.name, what));
        }
        Ok(())
    })?;
    Ok(continued)
}

/// Whether a list is one of the sample: by a hash, so that each export has another sample.
fn is_in_sample(export: &str, id: &ItemId, percent: f64) -> bool {
    let hash = Sha256::digest(format!("{export} {}", id.as_str()));
    let number = hash.first_chunk::<4>().copied().map(u32::from_le_bytes).unwrap_or_default();
    f64::from(number) < percent / 100.0 * f64::from(u32::MAX)
}

impl std::fmt::Display for Continued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { lists, sampled, incomplete, irregular, pruned, one_page } = *self;
        write!(f, "{} products continue at their last page there", HumanCount(lists - sampled))?;
        let others = [
            (sampled, "are read whole to compare them"),
            (incomplete, "were not complete"),
            (irregular, "moved or repeated rows"),
            (pruned, "have no journal any more"),
            (one_page, "have one page at most"),
        ];
        others
            .iter()
            .filter(|(count, _)| *count > 0)
            .try_for_each(|(count, what)| write!(f, "; {} {what}", HumanCount(*count)))
    }
}

#[cfg(test)]
mod tests {
    use super::is_in_sample;
    use crate::model::page::ItemId;

    #[test]
    fn a_sample_has_about_its_share_of_the_lists_and_each_export_has_another_one() {
        let sample = |export: &str, percent| {
            (0..10_000).filter(|id| is_in_sample(export, &ItemId::new(&format!("p{id}")), percent)).collect::<Vec<_>>()
        };
        let (one, other) = (sample("a", 1.0), sample("b", 1.0));
        assert!((60..=140).contains(&one.len()) && one != other, "{}", one.len());
        assert_eq!((sample("a", 0.0).len(), sample("a", 100.0).len()), (0, 10_000));
    }
}
