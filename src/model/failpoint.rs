//! Failpoints before and after each durable operation, where tests crash a run, make the disk fail, or inspect it.
//!
//! Only with debug assertions: a release build has none of it. `TEST_STEP=N:ACTION` makes a child process kill itself, send
//! itself SIGTERM or panic at its Nth failpoint. A test counts N up until a run completes, so new failpoints are covered
//! without a list. A test in the same process observes the directories of its own run, and may fail an operation as a broken
//! disk would.

/// Reaches a failpoint: `failpoint!(Before, "sync", path)`. An `io::Result<()>` whose error is a test's.
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

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum When {
        Before,
        /// The operation has happened; its caller does not know yet.
        After,
    }

    #[derive(Clone, Copy, Debug)]
    pub struct Failpoint<'a> {
        pub when: When,
        /// The operation, as a verb.
        pub action: &'static str,
        pub path: &'a Path,
    }

    type Hook = Arc<dyn Fn(&Failpoint<'_>) -> io::Result<()> + Send + Sync>;

    static COUNT: AtomicU64 = AtomicU64::new(0);
    static HOOKS: Mutex<Vec<(usize, PathBuf, Hook)>> = Mutex::new(Vec::new());
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    static TRIGGER: LazyLock<Option<(u64, String)>> = LazyLock::new(|| {
        let trigger = std::env::var("TEST_STEP").ok()?;
        let (number, action) = trigger.split_once(':')?;
        Some((number.parse().ok()?, action.to_owned()))
    });
    static WALL: LazyLock<Option<i64>> = LazyLock::new(|| std::env::var("TEST_WALL").ok()?.parse().ok());

    /// The wall clock's time in microseconds since 1970 if `TEST_WALL` sets it, so that a test can compare the files of two
    /// runs byte by byte.
    pub fn fixed_wall() -> Option<i64> {
        *WALL
    }

    /// Observes the failpoints below a directory until it is dropped.
    #[derive(Debug)]
    pub struct FailpointObserver(usize);

    /// Calls `hook` at every failpoint below `root`. Its error becomes the operation's. Of several hooks the first one counts.
    pub fn watch(
        root: &Path,
        hook: impl Fn(&Failpoint<'_>) -> io::Result<()> + Send + Sync + 'static,
    ) -> FailpointObserver {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        HOOKS.lock().unwrap_or_else(PoisonError::into_inner).push((number, root.to_owned(), Arc::new(hook)));
        FailpointObserver(number)
    }

    impl Drop for FailpointObserver {
        fn drop(&mut self) {
            HOOKS.lock().unwrap_or_else(PoisonError::into_inner).retain(|(number, ..)| *number != self.0);
        }
    }

    /// Counts a failpoint and does what tests want there.
    pub fn reach(failpoint: &Failpoint<'_>) -> io::Result<()> {
        if let Some((number, action)) = &*TRIGGER
            && COUNT.fetch_add(1, Ordering::Relaxed) + 1 == *number
        {
            trigger(action);
        }
        let hook = {
            let hooks = HOOKS.lock().unwrap_or_else(PoisonError::into_inner);
            hooks.iter().find(|(_, root, _)| failpoint.path.starts_with(root)).map(|(_, _, hook)| Arc::clone(hook))
        };
        hook.map_or(Ok(()), |hook| hook(failpoint))
    }

    /// Ends this process. The program handles SIGTERM itself.
    #[cfg(unix)]
    #[expect(clippy::panic, reason = "the test wants it")]
    fn trigger(action: &str) {
        use rustix::process::{Signal, getpid, kill_process};
        match action {
            "kill" => kill_process(getpid(), Signal::KILL).unwrap_or_default(),
            "term" => kill_process(getpid(), Signal::TERM).unwrap_or_default(),
            _ => std::panic::panic_any("a panic that a test wants"),
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
    fn an_observer_sees_the_failpoints_below_its_directory_and_may_fail_them() {
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
