//! One export against one model: as many runs as a test needs, each checked by the oracle.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pagehaul::error::{Error, ExitCode};
use pagehaul::model::event::{Event, EventSink};
use pagehaul::report::summary::Summary;

use super::oracle::{self, Product};
pub(crate) use crate::common::evidence;
use crate::common::scripted::{Sent, run_job};
use crate::common::world::{World, id, place};
use crate::common::{context, scratch};

/// Virtual time in which every run ends.
const LONGEST: Duration = Duration::from_secs(7 * 86_400);

/// What a person would read.
#[derive(Debug, Default)]
struct Notes {
    warnings: Mutex<Vec<String>>,
}

impl EventSink for Notes {
    fn event(&self, event: &Event<'_>) {
        if let Event::Repair { moved, empty, pages } = event {
            self.warnings.lock().unwrap().push(format!("repair {moved} {empty} {pages}"));
        }
        if let Event::Warning(text) = event {
            // The rows of the models are slim: most described fields never come.
            if !text.contains("differ from the endpoint's description") {
                self.warnings.lock().unwrap().push((*text).to_owned());
            }
        }
    }
}

/// An export.
pub(crate) struct Play {
    pub(crate) world: Arc<World>,
    directory: tempfile::TempDir,
    settings: BTreeMap<&'static str, String>,
    qps: Option<f64>,
    about: String,
}

/// A run that has ended.
pub(crate) struct Ended {
    about: String,
    pub(crate) summary: Summary,
    /// Its requests.
    pub(crate) sent: Vec<Sent>,
    pub(crate) warnings: Vec<String>,
    pub(crate) products: BTreeMap<usize, Product>,
    /// The most requests that were in flight at a time.
    pub(crate) most_in_flight: usize,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} requests, warnings {:?}\n{}", self.about, self.sent.len(), self.warnings, self.summary)
    }
}

impl Play {
    /// An export of all items of a model, at 50 requests a second.
    pub(crate) fn new(world: World) -> Self {
        Self {
            world: Arc::new(world),
            directory: scratch(),
            settings: BTreeMap::new(),
            qps: Some(50.0),
            about: String::new(),
        }
    }

    /// With a setting.
    #[expect(clippy::needless_pass_by_value, reason = "a number or a text, as a test has it at hand")]
    pub(crate) fn with(mut self, key: &'static str, value: impl ToString) -> Self {
        self.set(key, value.to_string());
        self
    }

    /// Which case of a test it is, for the message of one that fails.
    pub(crate) fn about(self, about: String) -> Self {
        Self { about, ..self }
    }

    /// From now on with a setting.
    pub(crate) fn set(&mut self, key: &'static str, value: impl Into<String>) {
        self.settings.insert(key, value.into());
    }

    /// At another rate; none: as fast as answers come.
    pub(crate) fn at(self, qps: Option<f64>) -> Self {
        Self { qps, ..self }
    }

    /// From now on without a setting.
    pub(crate) fn unset(&mut self, key: &str) {
        self.settings.remove(key);
    }

    /// The output.
    pub(crate) fn out(&self) -> PathBuf {
        self.directory.path().join("out")
    }

    /// Against another model of the same lists: an API that was repaired, or that broke.
    pub(crate) fn against(self, world: World) -> Self {
        world.inherit(&self.world);
        Self { world: Arc::new(world), ..self }
    }

    /// Writes a file beside the export and gives its path.
    pub(crate) fn file(&self, name: &str, content: &str) -> String {
        let path = self.directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// A run.
    pub(crate) async fn run(&self) -> Ended {
        self.run_until(usize::MAX).await
    }

    /// A run that is complete and has every row there is.
    pub(crate) async fn completes(&self) -> Ended {
        self.run().await.completes(self)
    }

    /// Runs at most this often, until one ends in another way.
    pub(crate) async fn run_while(&self, exit: ExitCode, times: usize) -> Ended {
        let mut ended = self.run().await;
        for _ in 1..times {
            if ended.summary.exit == exit {
                ended = self.run().await;
            }
        }
        ended
    }

    /// A run that gets a signal when it sends request number `stop_at`.
    pub(crate) async fn run_until(&self, stop_at: usize) -> Ended {
        self.try_run(stop_at).await.unwrap_or_else(|error| panic!("{}", pagehaul::model::sanitize::chain(&error)))
    }

    /// A run; where it stops before it pays for evidence and names the price, another one that may.
    pub(crate) async fn run_at_any_price(&mut self) -> Ended {
        let ended = self.run().await;
        if ended.summary.exit != ExitCode::Limit {
            return ended;
        }
        let ended = ended.says(&["max-evidence"]);
        assert_eq!(ended.summary.totals.products.failed, 0, "{ended}");
        self.set("max_evidence", "100");
        self.run().await
    }

    /// A run that the oracle does not check: the test says why.
    pub(crate) async fn run_unjudged(&self) -> Ended {
        self.run_unjudged_until(usize::MAX).await
    }

    /// The same, which gets a signal when it sends request number `stop_at`.
    pub(crate) async fn run_unjudged_until(&self, stop_at: usize) -> Ended {
        self.go(stop_at, false).await.unwrap_or_else(|error| panic!("{}", pagehaul::model::sanitize::chain(&error)))
    }

    /// The same, where the run may be refused.
    pub(crate) async fn try_run(&self, stop_at: usize) -> Result<Ended, Error> {
        self.go(stop_at, true).await
    }

    async fn go(&self, stop_at: usize, is_judged: bool) -> Result<Ended, Error> {
        let own = self.settings.iter().map(|(key, value)| (*key, value.as_str()));
        let settings: Vec<(&str, &str)> = std::iter::once(("end", "auto")).chain(own).collect();
        let mut context = context(&self.out(), self.qps, &settings);
        let notes = Arc::new(Notes::default());
        context.events = Arc::clone(&notes) as Arc<dyn EventSink>;
        let api = self.world.serve(stop_at);
        let list = self.world.ids();
        let running = tokio::time::timeout(LONGEST, run_job(&context, &api, &list));
        let summary = running.await.unwrap_or_else(|elapsed| panic!("it does not end: {elapsed}"))?;
        if is_judged {
            oracle::check(&self.world, &self.out(), &summary, context.settings.max_pages);
        }
        let warnings = std::mem::take(&mut *notes.warnings.lock().unwrap());
        Ok(Ended {
            about: self.about.clone(),
            summary,
            sent: api.sent().clone(),
            warnings,
            products: oracle::products(&self.out()),
            most_in_flight: api.most_in_flight(),
        })
    }

    /// What reading all lists may cost at most: the pages, the evidence, and what looking ahead may waste.
    pub(crate) fn most_credits(&self) -> u64 {
        let max_pages = self.settings.get("max_pages").map(|pages| pages.parse().unwrap());
        let fewest = self.world.lists.fewest(max_pages);
        let ahead =
            if self.settings.get("lookahead").is_some_and(|share| share == "0") { 0 } else { fewest.div_ceil(100) };
        let is_auto = self.settings.get("end").is_none_or(|end| end == "auto");
        fewest + ahead + if is_auto { evidence(fewest) } else { 0 }
    }
}

impl Ended {
    /// Fails unless it ended like this.
    #[track_caller]
    pub(crate) fn is(self, exit: ExitCode) -> Self {
        assert_eq!(self.summary.exit, exit, "{self}");
        self
    }

    /// Fails unless it is complete and has every row there is.
    #[track_caller]
    pub(crate) fn completes(self, play: &Play) -> Self {
        let ended = self.is(ExitCode::Complete);
        let rows = &ended.summary.totals.rows;
        assert!(rows.published >= play.world.lists.rows() as u64 || play.settings.contains_key("max_pages"), "{ended}");
        assert_eq!(rows.waiting, 0, "{ended}");
        ended
    }

    /// Fails unless it is complete but for these items, each named with these words.
    #[track_caller]
    pub(crate) fn completes_but(self, items: &[usize], words: &str) -> Self {
        let ended = self.is(ExitCode::Partial);
        let lacking: Vec<usize> =
            ended.products.iter().filter(|(_, product)| !product.complete).map(|(item, _)| *item).collect();
        assert_eq!(lacking, items, "{ended}");
        for item in items {
            let product = &ended.products[item];
            assert!(product.stop == "failed" && product.error.contains(words), "{product:?}: {ended}");
            assert!(
                items.len() > 10 || ended.summary.totals.failures.iter().any(|failure| failure.product == id(*item)),
                "{} is not named: {ended}",
                id(*item)
            );
        }
        ended
    }

    /// Fails unless billed and doubtful credits are at most so many.
    #[track_caller]
    pub(crate) fn costs_at_most(self, most: u64) -> Self {
        let credits = &self.summary.totals.credits;
        assert!(credits.billed + credits.in_doubt <= most, "at most {most} credits: {self}");
        self
    }

    /// Fails unless it sent at most so many requests.
    #[track_caller]
    pub(crate) fn sent_at_most(self, most: usize) -> Self {
        assert!(self.sent.len() <= most, "at most {most} requests: {self}");
        self
    }

    /// Fails unless it warned exactly so many times.
    #[track_caller]
    pub(crate) fn warned(self, times: usize) -> Self {
        assert_eq!(self.warnings.len(), times, "{self}");
        self
    }

    /// Fails unless the reason why it stopped contains one of these texts.
    #[track_caller]
    pub(crate) fn says(self, words: &[&str]) -> Self {
        let cause = self.summary.cause.clone().unwrap_or_default();
        assert!(words.iter().any(|word| cause.contains(word)), "none of {words:?} in {cause:?}: {self}");
        self
    }

    /// Fails unless these items ended for this reason.
    #[track_caller]
    pub(crate) fn ended_as(self, stop: &str, items: impl IntoIterator<Item = usize>) -> Self {
        let others: Vec<_> = items.into_iter().filter(|item| self.products[item].stop != stop).collect();
        let found = others.first().map(|item| &self.products[item]);
        assert!(others.is_empty(), "{} items did not end as {stop}, such as {found:?}: {self}", others.len());
        self
    }

    /// Fails unless it took at most so long.
    #[track_caller]
    pub(crate) fn took_at_most(self, most: Duration) -> Self {
        assert!(self.summary.run.seconds <= most.as_secs_f64(), "at most {most:?}: {self}");
        self
    }

    /// How often an item was requested.
    pub(crate) fn requests_for(&self, item: usize) -> usize {
        self.sent.iter().filter(|sent| place(&sent.id) == item).count()
    }

    /// Requests for pages of these items.
    pub(crate) fn requests_where(&self, is: impl Fn(usize) -> bool) -> usize {
        self.sent.iter().filter(|sent| is(place(&sent.id))).count()
    }
}
