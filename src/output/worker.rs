//! A thread that does all work of one kind, one piece at a time.
//!
//! The allocator keeps a pool of memory a thread. Row groups that are encoded on whatever thread is free leave a row group's
//! worth of freed memory in the pool of each; on one thread the next one takes what the last one freed. With 1,000 regions a run
//! peaks at 132 instead of 145 MiB (medians of seven in turns, 141 and 167 at most); with 21 regions there is no difference.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::{io, thread};

/// The way to the thread. It ends when this is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Worker(SyncSender<Box<dyn FnOnce() + Send>>);

impl Worker {
    pub(crate) fn start(name: &str) -> io::Result<Self> {
        let (orders, ordered) = sync_channel::<Box<dyn FnOnce() + Send>>(1);
        let work = move || ordered.into_iter().for_each(|order| order());
        thread::Builder::new().name(name.to_owned()).spawn(work)?;
        Ok(Self(orders))
    }

    /// Has a piece of work done there, and waits for it. A panic of it is a panic here.
    pub(crate) fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
        let (reply, done) = sync_channel(1);
        let order = move || {
            reply.send(catch_unwind(AssertUnwindSafe(work))).ok(); // the one who asked waits below
        };
        let ended = || io::Error::other("the thread has ended");
        self.0.send(Box::new(order)).map_err(|_| ended())?;
        match done.recv() {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(panic)) => resume_unwind(panic),
            Err(_) => Err(ended()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Worker;

    #[test]
    fn all_work_is_done_on_one_thread_and_a_panic_comes_back_to_who_asked() {
        let worker = Worker::start("worker").unwrap();
        let on = || std::thread::current().id();
        let first = worker.run(on).unwrap();
        assert_ne!(first, on());
        let asked = std::panic::AssertUnwindSafe(&worker);
        assert!(std::panic::catch_unwind(|| asked.run(|| panic!("of a test"))).is_err());
        assert_eq!(worker.run(on).unwrap(), first);
    }
}
