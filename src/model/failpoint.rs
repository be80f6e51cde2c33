//! Counted moments before and after each durable operation: where tests crash a run, make the disk fail, or look at it.
//!
//! Under debug assertions only; a release build holds nothing of it. A child process is told by `TEST_STEP=N:ACTION`
//! to kill itself, to send itself SIGTERM or to panic at its Nth step, so that a harness can count N up until a run passes
//! clean and new steps are covered by themselves. A test in the same process watches the directories of its own run, and may
//! refuse an operation as a broken disk would.

/// Counts a step: `failpoint!(Before, "sync", path)`. Gives an `io::Result<()>`: the error is one that a test asked for.
macro_rules! failpoint {
    ($when:ident, $action:expr, $path:expr) => {{
        #[cfg(debug_assertions)]
        let reached = $crate::model::failpoint::reach(&$crate::model::failpoint::Failpoint {
            when: $crate::model::failpoint::When::$when,
            action: $action,
            path: $path,
        });
        #[cfg(not(debug_assertions))]
        let reached = {
            let _: (&str, &std::path::Path) = ($action, $path);
            std::io::Result::<()>::Ok(())
        };
        reached
    }};
}
pub(crate) use failpoint;

#[cfg(debug_assertions)]
pub use counted::{Failpoint, FailpointObserver, When, fixed_wall, reach, watch};

#[cfg(debug_assertions)]
mod counted {
    use std::io;
    use std::path::{Path, PathBuf};
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
    use std::sync::{Arc, LazyLock, Mutex, PoisonError};

    /// On which side of the operation.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum When {
        /// It has not happened.
        Before,
        /// It has happened, and its caller does not know yet.
        After,
    }

    /// A moment around a durable operation.
    #[derive(Clone, Copy, Debug)]
    pub struct Failpoint<'a> {
        /// On which side of it.
        pub when: When,
        /// The operation, as a verb.
        pub action: &'static str,
        /// The file or directory that it is done to.
        pub path: &'a Path,
    }

    type Look = Arc<dyn Fn(&Failpoint<'_>) -> io::Result<()> + Send + Sync>;

    static COUNT: AtomicU64 = AtomicU64::new(0);
    static WATCHED: AtomicUsize = AtomicUsize::new(0);
    static WATCHES: Mutex<Vec<(usize, PathBuf, Look)>> = Mutex::new(Vec::new());
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    static PLAN: LazyLock<Option<(u64, String)>> = LazyLock::new(|| {
        let plan = std::env::var("TEST_STEP").ok()?;
        let (number, action) = plan.split_once(':')?;
        Some((number.parse().ok()?, action.to_owned()))
    });
    static WALL: LazyLock<Option<i64>> = LazyLock::new(|| std::env::var("TEST_WALL").ok()?.parse().ok());

    /// The wall clock's now in microseconds since 1970, if a test fixed it by `TEST_WALL`: files of two runs can then be
    /// compared byte for byte.
    pub fn fixed_wall() -> Option<i64> {
        *WALL
    }

    /// Watches the steps of everything below a directory until it is dropped.
    #[derive(Debug)]
    pub struct FailpointObserver(usize);

    /// Calls `look` at every step below `root`; of several watches there the first. Its error becomes the operation's.
    pub fn watch(
        root: &Path,
        look: impl Fn(&Failpoint<'_>) -> io::Result<()> + Send + Sync + 'static,
    ) -> FailpointObserver {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        WATCHES.lock().unwrap_or_else(PoisonError::into_inner).push((number, root.to_owned(), Arc::new(look)));
        WATCHED.fetch_add(1, Ordering::Release);
        FailpointObserver(number)
    }

    impl Drop for FailpointObserver {
        fn drop(&mut self) {
            WATCHES.lock().unwrap_or_else(PoisonError::into_inner).retain(|(number, ..)| *number != self.0);
            WATCHED.fetch_sub(1, Ordering::Release);
        }
    }

    /// Counts a step and does what was asked for there.
    pub fn reach(step: &Failpoint<'_>) -> io::Result<()> {
        if let Some((number, action)) = &*PLAN
            && COUNT.fetch_add(1, Ordering::Relaxed) + 1 == *number
        {
            trigger(action);
        }
        if WATCHED.load(Ordering::Acquire) == 0 {
            return Ok(());
        }
        let look = {
            let watches = WATCHES.lock().unwrap_or_else(PoisonError::into_inner);
            watches.iter().find(|(_, root, _)| step.path.starts_with(root)).map(|(_, _, look)| Arc::clone(look))
        };
        look.map_or(Ok(()), |look| look(step))
    }

    /// Ends this process as asked. SIGTERM is left to the program to answer.
    #[cfg(unix)]
    #[expect(clippy::panic, reason = "the harness asked for it")]
    fn trigger(action: &str) {
        use rustix::process::{Signal, getpid, kill_process};
        match action {
            "kill" => kill_process(getpid(), Signal::KILL).unwrap_or_default(),
            "term" => kill_process(getpid(), Signal::TERM).unwrap_or_default(),
            _ => std::panic::panic_any("a panic that a test asked for"),
        }
    }

    #[cfg(not(unix))]
    fn trigger(_: &str) {
        std::process::abort();
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::{Failpoint, When, watch};
    use std::path::Path;
    use std::sync::{Arc, Mutex};

    #[test]
    fn a_watch_sees_the_steps_below_its_directory_and_may_refuse_them() {
        let log = Arc::new(Mutex::new(Vec::new()));
        let (root, sees) = (Path::new("/nowhere/a"), Arc::clone(&log));
        let watch = watch(root, move |step: &Failpoint<'_>| {
            sees.lock().unwrap().push((step.when, step.action));
            if step.action == "sync" { Err(std::io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        });
        assert!(failpoint!(Before, "write", &root.join("x")).is_ok());
        assert!(failpoint!(After, "sync", &root.join("x")).is_err());
        assert!(failpoint!(After, "sync", Path::new("/nowhere/b")).is_ok());
        drop(watch);
        assert!(failpoint!(After, "sync", &root.join("x")).is_ok());
        assert_eq!(*log.lock().unwrap(), [(When::Before, "write"), (When::After, "sync")]);
    }
}
