//! Which lists may be continued: noted before the first request, once in an export's life.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use tokio::task::spawn_blocking;

use indicatif::HumanCount;

use super::earlier::Earlier;
use crate::error::Error;
use crate::model::event::Event;
use crate::model::page::{ItemId, PageNum};
use crate::model::sanitize::Sanitized;
use crate::output::error::OutputError;
use crate::run::open::OpenExport;
use crate::settings::Settings;
use crate::state::ledger::{Ledger, Tail, TailFault};

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
    /// with what was noted. Without `--since` a later run reads whole what is not taken over yet.
    pub(in crate::run) async fn continue_earlier(&self) -> Result<(), Error> {
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
            return Ok(());
        };
        match known {
            Some(_) => return Ok(()),
            None if has_begun => {
                self.warn("this export was started without --since, which has no effect on it");
                return Ok(());
            }
            None => {}
        }
        let (dir, settings) = (Arc::clone(&self.dir), self.context.settings.clone());
        let continued = spawn_blocking(move || {
            let Some(earlier) = Earlier::find(&since, &settings.identity())? else { return Ok(None) };
            let export = &dir.export.id;
            let continued = register(&earlier, &mut dir.ledger(), (since.check, export), &settings)?;
            Ok::<_, Error>(Some((earlier.about.name, continued)))
        });
        match continued.await?? {
            None => self.warn("--since latest: there is no complete snapshot yet, so that every list is read whole"),
            Some((name, continued)) => {
                let text = continued.to_string();
                self.context.events.event(&Event::Continued { since: &Sanitized(&name).to_string(), lists: &text });
            }
        }
        Ok(())
    }
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
    ledger.continue_from(&earlier.about, |note| {
        let mut sample: Option<(ItemId, Tail)> = None;
        earlier.ledger.for_each_tail((first, size), |id, tail| {
            match tail {
                Ok(tail) => {
                    let is_sampled = is_in_sample(export, id, check);
                    if sample.is_none() && !is_sampled && check > 0.0 {
                        sample = Some((id.clone(), tail));
                        return Ok(());
                    }
                    continued.add(note(id, tail, is_sampled)?, is_sampled);
                }
                Err(TailFault::OnePage) => continued.one_page += 1,
                Err(TailFault::Incomplete) => continued.incomplete += 1,
                Err(TailFault::Irregular) => continued.irregular += 1,
                Err(TailFault::Pruned) => continued.pruned += 1,
            }
            Ok::<_, Error>(())
        })?;
        // At least one list is compared.
        if let Some((id, tail)) = sample {
            let is_sampled = continued.sampled == 0 && continued.lists > 0;
            continued.add(note(&id, tail, is_sampled)?, is_sampled);
        }
        if continued.lists == 0 && continued.pruned > 0 {
            return Err(pruned(&earlier.about.name));
        }
        Ok(())
    })?;
    Ok(continued)
}

fn pruned(name: &str) -> Error {
    OutputError::Mismatch(format!(
        "--since {}: its journal files were removed (prune, --journal), and pages are taken over from them. Leave --since out to \
         read every list whole, and keep the journal of the newest snapshot for the next one",
        Sanitized(name)
    ))
    .into()
}

/// Whether a list is one of the sample: by a hash, so that each export has another sample.
fn is_in_sample(export: &str, id: &ItemId, percent: f64) -> bool {
    let hash = Sha256::digest(format!("{export} {}", id.as_str()));
    let number = hash.first_chunk::<4>().copied().map(u32::from_le_bytes).unwrap_or_default();
    f64::from(number) < percent / 100.0 * f64::from(u32::MAX)
}

impl Continued {
    /// `is_listed`: this export has the item, too.
    fn add(&mut self, is_listed: bool, is_sampled: bool) {
        self.lists += u64::from(is_listed);
        self.sampled += u64::from(is_listed && is_sampled);
    }
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
