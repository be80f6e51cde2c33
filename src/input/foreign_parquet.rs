//! Reads Parquet files of other programs, or that may be damaged: the decoder panics on some of them.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

thread_local! {
    /// Whether a panic of this thread is expected, and prints nothing.
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Reads from a file that may be damaged. None: the decoder panicked; nothing is printed then.
pub(crate) fn quietly<T>(read: impl FnOnce() -> T) -> Option<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !IS_QUIET.get() {
                print(panic);
            }
        }));
    });
    IS_QUIET.set(true);
    let result = catch_unwind(AssertUnwindSafe(read));
    IS_QUIET.set(false);
    result.ok()
}

#[cfg(test)]
mod tests {
    use super::quietly;

    #[test]
    fn a_decoder_that_panics_returns_nothing_and_the_next_read_works() {
        assert_eq!(quietly::<()>(|| panic!("of a test")), None);
        assert_eq!(quietly(|| 7), Some(7));
    }
}
