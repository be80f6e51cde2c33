//! Whose fault is a failure: this item's, or the API's? The one place that decides it.
//!
//! One response proves little. A failure is *ambiguous* until it is known how other items fare with requests that were sent after
//! it arrived. A request that was sent before proves nothing, because something may have happened in between. Attempts are
//! numbered in the order of the decisions, so an attempt with a larger number than the last one before the arrival was sent after it.
//!
//! | failure | others are served after it | others fail alike after it | nothing else can be requested |
//! |---|---|---|---|
//! | no connection | requested again, without limit | outage | outage |
//! | 5xx, lost, late, `retry_codes` | its own; fails after `retry_attempts` | outage: waits, then exit 5 | its own after three, if a control request was served |
//! | 429, `throttle_codes` | its own if 20 others passed, three times in a row; fails after three more | all wait | the same, with a control request in place of the 20 |
//! | 401, 402, 403, 407, `stop_codes` | its own; fails after three | two of them: exit 7 | as above; without one: exit 7, in the second run the item fails |
//! | redirect | its own; fails after three | two of them: exit 10 | as above |
//! | unknown code | its own; fails after three | outage; exit 5 | as above |
//! | unknown code with rows | its own; requested twice, then it fails | two of them: exit 10, naming `success_codes` | as above |
//! | 400, 404, 410, 422 in an envelope | fails at once, or its list ends there | twenty in a row: two others are asked, refused alike: exit 5 | fails, if anything was served in this run |
//! | `end_of_list_codes` | its list ends there | the same | the same |
//! | another refusal, or one without an envelope | its own; fails after three | outage | as above |
//! | null in the middle of a list | its list ends there, unless rows come behind it | the same | the same |
//! | a success that cannot be used | requested once more, then it fails | waits until others are served | waits |
//!
//! *Served* is a page, or a refusal of another item in an envelope: the API works and accepts the key. Only a page shows that there
//! are credits: an API may look for the page first. A *control request* asks for the page behind the end of a complete list, which
//! was never journaled; there are at most three in a run. A success without a list counts as a response to it, too.

pub(crate) mod end_evidence;
pub(crate) mod inquiry;
pub(crate) mod last_served;
pub(crate) mod throttled_pages;

use crate::fetch::classify::{Failure, StopCause, Verdict};

/// Failures of a page that must each be followed by service to another item before the page is given up, unless they may pass.
pub(crate) const PROOFS: u32 = 3;
pub(crate) const CONTROLS: u32 = 3;
/// Items in a row that are refused in an envelope, with no page in between, before others are requested.
pub(crate) const REFUSED_IN_A_ROW: usize = 20;

/// Whether an outcome shows that the API serves.
pub(crate) fn serves(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Page | Verdict::Failed(Failure::NoSuchPage | Failure::EndOfList))
}

/// What to do about a failure of one page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureAction {
    /// Request it again after a wait, until its failures are proven to be its own.
    Retry,
    /// Request it again after a wait. Until other items have shown whose fault it is, request nothing but their pages.
    Inquire(RefusalScope),
    /// Do not request it again: it fails as soon as another item is served.
    Defer,
    /// Its list ends before it, unless pages behind it show otherwise.
    EndList,
}

/// Why a run stops if others are refused alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RefusalScope {
    /// The key, its credits, or the server.
    Cause(StopCause),
    /// A code that may mean success.
    UnknownCode,
    /// Every item is refused in an envelope.
    SamePage,
}

/// What is known when a page fails.
#[derive(Clone, Copy, Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one fact of its own; the test goes through all combinations"
)]
pub(crate) struct Facts {
    /// Whether failures of this page were proven to be its own.
    pub is_own: bool,
    /// Whether it was requested once more after a success that could not be used.
    pub was_repeated: bool,
    /// Whether its list may end before it.
    pub may_end: bool,
    /// Whether it failed before.
    pub failed_before: bool,
}

/// What to do about a failure of a page.
pub(crate) fn action_for(failure: Failure, facts: Facts) -> FailureAction {
    match failure {
        Failure::EndOfList => FailureAction::EndList,
        Failure::NoSuchPage if facts.may_end => FailureAction::EndList,
        Failure::MissingList if facts.may_end && !facts.was_repeated => FailureAction::EndList,
        Failure::OtherRefusal if facts.may_end && facts.failed_before => FailureAction::EndList,
        Failure::NoSuchPage => FailureAction::Defer,
        Failure::UnknownCode { with_rows: true } | Failure::Unusable | Failure::MissingList if facts.was_repeated => {
            FailureAction::Defer
        }
        Failure::UnknownCode { with_rows: true } => FailureAction::Inquire(RefusalScope::UnknownCode),
        Failure::Refused(cause) if !facts.is_own => FailureAction::Inquire(RefusalScope::Cause(cause)),
        Failure::NoConnection
        | Failure::Unavailable
        | Failure::Throttled(_)
        | Failure::OtherRefusal
        | Failure::UnknownCode { with_rows: false }
        | Failure::Refused(_)
        | Failure::Unusable
        | Failure::MissingList => FailureAction::Retry,
    }
}

/// Whether a failure that is proven to be a page's own may be the end of its list, if the pages before it arrived.
pub(crate) fn ends_list(failure: Failure) -> bool {
    matches!(failure, Failure::NoSuchPage | Failure::EndOfList | Failure::OtherRefusal | Failure::UnknownCode { .. })
}

/// How many failures of a page must be proven to be its own before it is given up. `alone`: nothing else is left to request, so
/// that proofs cost credits.
pub(crate) fn required_proofs(failure: Failure, attempts: u32, alone: bool) -> u32 {
    match failure {
        // These are given up for other reasons than the number of proofs.
        Failure::NoConnection | Failure::Unusable | Failure::MissingList | Failure::UnknownCode { with_rows: true } => {
            u32::MAX
        }
        Failure::Unavailable if alone => PROOFS.min(attempts),
        Failure::Unavailable => attempts,
        Failure::Throttled(_) if alone => PROOFS,
        Failure::Throttled(_) => 2 * PROOFS,
        Failure::Refused(_) | Failure::UnknownCode { with_rows: false } | Failure::OtherRefusal => PROOFS,
        Failure::NoSuchPage | Failure::EndOfList => 1,
    }
}

/// How often a page must have failed before it is given up, whatever is proven. `gave_up_before`: an earlier run gave its item
/// up.
pub(crate) fn required_failures(failure: Failure, attempts: u32, gave_up_before: bool) -> u32 {
    if failure == Failure::Unavailable && !gave_up_before {
        attempts
    } else if matches!(failure, Failure::Throttled(_)) && !gave_up_before {
        2 * PROOFS
    } else {
        PROOFS.min(attempts)
    }
}

/// Whether the next run is to try an item again that failed like this.
pub(crate) fn is_transient(failure: Failure) -> bool {
    match failure {
        Failure::NoConnection | Failure::Unavailable | Failure::Throttled(_) | Failure::UnknownCode { .. } => true,
        Failure::Refused(_)
        | Failure::NoSuchPage
        | Failure::EndOfList
        | Failure::OtherRefusal
        | Failure::Unusable
        | Failure::MissingList => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{Facts, FailureAction, RefusalScope, action_for, is_transient, required_proofs};
    use crate::fetch::classify::{Failure, StopCause};

    const ACCOUNT: Failure = Failure::Refused(StopCause::Account);

    /// What follows from a failure: a letter for each combination of facts, which are the bits of its place from 0 to 15
    /// (1 `is_own`, 2 `was_repeated`, 4 `may_end`, 8 `failed_before`): `r` retry, `i` inquire, `d` defer, `e` end the
    /// list. Then which others, the proofs it takes of eight with and without other work, and whether the same command tries again.
    #[test]
    fn the_truth_table_of_failures_holds_for_every_combination_of_facts() {
        const CONTRACT: Failure = Failure::Refused(StopCause::Contract);
        const FOREIGN: Failure = Failure::UnknownCode { with_rows: true };
        let cause = |cause| Some(RefusalScope::Cause(cause));
        let table = [
            (Failure::NoConnection, "rrrr rrrr rrrr rrrr", None, [u32::MAX; 2], true),
            (Failure::Unavailable, "rrrr rrrr rrrr rrrr", None, [8, 3], true),
            (Failure::Throttled(None), "rrrr rrrr rrrr rrrr", None, [6, 3], true),
            (ACCOUNT, "irir irir irir irir", cause(StopCause::Account), [3; 2], false),
            (CONTRACT, "irir irir irir irir", cause(StopCause::Contract), [3; 2], false),
            (Failure::UnknownCode { with_rows: false }, "rrrr rrrr rrrr rrrr", None, [3; 2], true),
            (FOREIGN, "iidd iidd iidd iidd", Some(RefusalScope::UnknownCode), [u32::MAX; 2], true),
            (Failure::NoSuchPage, "dddd eeee dddd eeee", None, [1; 2], false),
            (Failure::EndOfList, "eeee eeee eeee eeee", None, [1; 2], false),
            (Failure::OtherRefusal, "rrrr rrrr rrrr eeee", None, [3; 2], false),
            (Failure::Unusable, "rrdd rrdd rrdd rrdd", None, [u32::MAX; 2], false),
            (Failure::MissingList, "rrdd eedd rrdd eedd", None, [u32::MAX; 2], false),
        ];
        for (failure, actions, scope, needed, transient) in table {
            for (bits, expected) in actions.chars().filter(|letter| *letter != ' ').enumerate() {
                let [is_own, was_repeated, may_end, failed_before] = [1, 2, 4, 8].map(|bit| bits & bit > 0);
                let facts = Facts { is_own, was_repeated, may_end, failed_before };
                let (action, others) = match action_for(failure, facts) {
                    FailureAction::Retry => ('r', scope),
                    FailureAction::Inquire(others) => ('i', Some(others)),
                    FailureAction::Defer => ('d', scope),
                    FailureAction::EndList => ('e', scope),
                };
                assert_eq!((action, others), (expected, scope), "{failure:?} {facts:?}");
            }
            assert_eq!([false, true].map(|alone| required_proofs(failure, 8, alone)), needed, "{failure:?}");
            assert_eq!(is_transient(failure), transient, "{failure:?}");
        }
    }
}
