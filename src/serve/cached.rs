//! A document that costs a query of the ledger: made on a thread of its own, one at a time, and kept for a while.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Mutex, oneshot};
use tokio::time::Instant;

use crate::model::clock;

/// The shortest time for which a document is kept.
const MIN_AGE: Duration = Duration::from_secs(1);
/// It is kept this many times as long as it took to make, so that a large export is queried for at most a tenth of the time.
const AGE_PER_TIME: u32 = 9;

/// A document, or why there is none.
pub(crate) type Made = Result<Bytes, String>;
type Make = dyn Fn() -> Made + Send + Sync;

pub(crate) struct Cached {
    name: &'static str,
    make: Arc<Make>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The last one, and until when it is kept.
    made: Option<(Made, Instant)>,
    /// The one that is being made, and since when. A request that goes away leaves it to the next one.
    running: Option<(oneshot::Receiver<Made>, Instant)>,
}

impl fmt::Debug for Cached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cached").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Cached {
    /// `make` may block: it runs on a thread of this name.
    pub(crate) fn new(name: &'static str, make: impl Fn() -> Made + Send + Sync + 'static) -> Self {
        Self { name, make: Arc::new(make), state: Mutex::default() }
    }

    pub(crate) async fn get(&self) -> Made {
        let state = &mut *self.state.lock().await;
        if let Some((made, until)) = &state.made
            && clock::now() < *until
        {
            return made.clone();
        }
        if state.running.is_none() {
            state.running = Some((self.start()?, clock::now()));
        }
        let Some((result, since)) = &mut state.running else { return Err(self.failed()) };
        let made = result.await.unwrap_or_else(|_| Err(self.failed()));
        let now = clock::now();
        let age = (now.saturating_duration_since(*since) * AGE_PER_TIME).max(MIN_AGE);
        *state = State { made: Some((made.clone(), now + age)), running: None };
        made
    }

    fn failed(&self) -> String {
        format!("the thread `{}` failed (a bug)", self.name)
    }

    fn start(&self) -> Result<oneshot::Receiver<Made>, String> {
        let (sender, result) = oneshot::channel();
        let make = Arc::clone(&self.make);
        let thread = std::thread::Builder::new().name(self.name.to_owned());
        let started = thread.spawn(move || {
            sender.send(make()).ok(); // the run may have ended meanwhile
        });
        started.map(|_| result).map_err(|error| format!("cannot start a thread: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::Cached;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use bytes::Bytes;
    use futures_util::FutureExt;

    /// Gives the number of times it was made.
    fn counting(made: &Arc<AtomicU32>) -> Cached {
        let made = Arc::clone(made);
        Cached::new("count", move || Ok(Bytes::from((made.fetch_add(1, Ordering::SeqCst) + 1).to_string())))
    }

    #[tokio::test(start_paused = true)]
    async fn a_document_is_made_at_most_once_a_second_however_many_ask() {
        let count = Arc::new(AtomicU32::new(0));
        let cached = counting(&count);
        for _ in 0..20 {
            assert_eq!(cached.get().await.unwrap(), "1");
        }
        tokio::time::advance(Duration::from_millis(999)).await;
        assert_eq!(cached.get().await.unwrap(), "1");
        tokio::time::advance(Duration::from_millis(2)).await;
        let both = tokio::join!(cached.get(), cached.get());
        assert_eq!(both, (Ok("2".into()), Ok("2".into())));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_took_long_is_kept_longer_and_nobody_starts_a_second_one_meanwhile() {
        let (started, starts) = channel();
        let (go, wait) = channel::<()>();
        let wait = std::sync::Mutex::new(wait);
        let cached = Cached::new("slow", move || {
            started.send(()).unwrap();
            wait.lock().unwrap().recv().unwrap();
            Ok(Bytes::from_static(b"done"))
        });
        assert!(cached.get().now_or_never().is_none(), "it is being made; this request goes away");
        starts.recv().unwrap();
        tokio::time::advance(Duration::from_secs(4)).await;
        assert!(cached.get().now_or_never().is_none(), "the same one is still being made");
        assert!(starts.try_recv().is_err(), "only one was started");
        go.send(()).unwrap();
        assert_eq!(cached.get().await.unwrap(), "done");
        tokio::time::advance(Duration::from_secs(35)).await;
        assert_eq!(cached.get().await.unwrap(), "done");
        assert!(starts.try_recv().is_err(), "it took four seconds and is kept for 36");
    }

    #[tokio::test]
    async fn a_panic_in_it_is_an_error_and_the_next_one_is_tried() {
        let cached = Cached::new("bad", || panic!("no"));
        assert!(cached.get().await.unwrap_err().contains("a bug"));
    }
}
