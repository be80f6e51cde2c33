//! The tasks and channels of a run: the engine between the dispatcher and the writer.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use crate::crawl::retry::Retry;
use crate::error::{Error, ExitCode};
use crate::fetch::Fetch;
use crate::fetch::dispatcher::{DispatchMode, Dispatcher};
use crate::fetch::rate_limit::RateLimiter;
use crate::report::run_stats::RunStats;
use crate::run::engine::{Channels, Engine};
use crate::run::group_commit::GroupCommitter;
use crate::run::open::OpenExport;
use crate::run::resume::Resumed;
use crate::run::stop::Stop;

impl OpenExport<'_> {
    /// Requests pages until there is nothing left to do or a reason to stop, and publishes what arrived.
    pub(super) async fn crawl<F: Fetch>(
        &self,
        resumed: Resumed,
        api: Arc<F>,
        stopped: impl Future<Output = ExitCode>,
    ) -> Result<(Option<Stop>, RunStats), Error> {
        let (context, settings) = (self.context, &self.context.settings);
        let Resumed { writer, segment, .. } = resumed;
        let limiter = Arc::new(RateLimiter::new(context.qps));
        let (mode, modes) = watch::channel(DispatchMode::Send);
        let (to_dispatch, requests) = mpsc::channel(context.queue_length());
        let (outcome, outcomes) = mpsc::channel(settings.max_in_flight);
        let dispatcher = Dispatcher {
            api,
            rate_limiter: Arc::clone(&limiter),
            timeout: settings.request_timeout,
            drain_timeout: settings.drain_timeout,
            codes: Arc::new(settings.endpoint.codes()),
            mode: modes,
        };
        let committer = GroupCommitter::open(
            Arc::clone(&self.dir.ledger),
            self.dir.journal.clone(),
            segment.id,
            segment.journaled,
            Arc::clone(&self.timeline),
        )?;
        #[expect(clippy::disallowed_methods, reason = "run/ owns the tasks")]
        let dispatching = tokio::spawn(dispatcher.run(requests, outcome));

        let retry = Retry::new(settings.retry, context.seed, settings.max_in_flight);
        let parts = (committer, self.decoder.clone());
        let engine = Engine::new(context, Arc::clone(&self.dir), parts, retry, Arc::clone(&limiter))?;
        let channels = Channels { to_dispatch, outcomes, writer: writer.orders.clone(), mode };
        let (ended, mut stats) = engine.run(channels, stopped).await;
        stats.found = limiter.discovered();
        if ended.is_err() {
            self.dir.ledger().write_timeline(&self.timeline.take_rest(None)).ok(); // the run fails for another reason
        }
        if let Err(panic) = dispatching.await.flatten() {
            return writer.end(Err(panic.into())).await; // the writer's own failure comes first
        }
        stats.latency = limiter.latency();
        let may_publish =
            context.survey.is_none() && matches!(&ended, Ok(stop) if stop.as_ref().is_none_or(Stop::publishes));
        let published = if may_publish && self.has_waiting()? { writer.publish().await } else { Ok(()) };
        writer.end(published).await?;
        Ok((ended?, stats))
    }
}
