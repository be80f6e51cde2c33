//! What a run works with: its settings, the rate limit, the event sink, and the few numbers that follow from them.

use std::sync::Arc;

use crate::crawl::end_of_list::{ObservedEnd, PagingRules};
use crate::fetch::rate_limit;
use crate::input::size_hints::SizeHints;
use crate::model::event::EventSink;
use crate::model::page::PageNum;
use crate::run::time_limit::TimeLimit;
use crate::run::timeline::TimelineSink;
use crate::settings::RateLimit;
use crate::settings::Settings;

/// How long an intent may wait for the rate limiter, seconds: covers a slow fsync, and bounds what is in doubt after a crash.
const MAX_QUEUE_WAIT: f64 = 0.25;
/// How many intents may wait for an unknown rate limit: enough for two group commits at thousands a second.
const QUEUE_AT_UNKNOWN_RATE: usize = 64;

#[derive(Clone, Debug)]
pub struct RunContext {
    pub settings: Settings,
    pub qps: RateLimit,
    /// Where the sizes of lists are known from.
    pub sizes: Vec<SizeHints>,
    /// Seed of the retries' jitter.
    pub seed: u64,
    /// When the run ends whatever is left.
    pub time_limit: Option<TimeLimit>,
    /// Only a sample of the lists is read, in so many pages at most.
    pub survey: Option<usize>,
    /// Who is told what happens.
    pub events: Arc<dyn EventSink>,
}

impl RunContext {
    /// The same, with a sink for the events that keeps the run's course for a report.
    pub(super) fn with_timeline(&self) -> (Self, Arc<TimelineSink>) {
        let timeline = Arc::new(TimelineSink::new(&self.events, self.qps.per_second(), self.settings.max_credits));
        (Self { events: Arc::<TimelineSink>::clone(&timeline), ..self.clone() }, timeline)
    }

    /// What the walks have in common. `observed` is the ledger's word for what evidence has shown about ends.
    pub fn rules(&self, observed: Option<&str>) -> PagingRules {
        let settings = &self.settings;
        PagingRules {
            first: PageNum(settings.endpoint.page.first),
            last: PageNum(settings.endpoint.page.last),
            page_size: settings.page_size,
            max_pages: settings.max_pages,
            end: settings.end,
            observed: observed.and_then(ObservedEnd::from_word),
        }
    }

    /// How many intents may be committed before the rate limiter lets them go.
    pub fn queue_length(&self) -> usize {
        let most = self.settings.max_in_flight;
        let rate = match self.qps {
            RateLimit::PerSecond(rate) => rate,
            RateLimit::Auto(_) => return most.min(QUEUE_AT_UNKNOWN_RATE),
            RateLimit::Unlimited => return most,
        };
        let wanted =
            (1..most).find(|count| u32::try_from(*count).is_ok_and(|count| f64::from(count) >= rate * MAX_QUEUE_WAIT));
        let burst = usize::try_from(rate_limit::burst(rate).get()).unwrap_or(most);
        wanted.unwrap_or(most).max(burst).min(most)
    }
}
