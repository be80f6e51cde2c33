//! Whose fault is a failure: this item's, or the API's? The one place that decides it.
//!
//! One response proves little. A failure is *ambiguous* until it is known how other items fare with requests that were sent after
//! it arrived. A request that was sent before proves nothing, because something may have happened in between. Attempts are
//! numbered in the order of the decisions, so an attempt with a larger number than the last one before the arrival was sent after it.
//!
//! | failure | others are served after it | others fail alike after it | nothing else can be asked for |
//! |---|---|---|---|
//! | no connection | asked for again, without limit | outage | outage |
//! | 5xx, lost, late, `retry_codes` | its own; fails after `retry_attempts` | outage: waits, then exit 5 | its own after three, if a control request was served |
//! | 429, `throttle_codes` | its own if 20 others passed, three times in a row; fails after three more | all wait | as above |
//! | 401, 402, 403, 407, `stop_codes` | its own; fails after three | two of them: exit 7 | as above; without one: exit 7, in the second run the item fails |
//! | redirect | its own; fails after three | two of them: exit 10 | as above |
//! | unknown code | its own; fails after three | outage; exit 5 | as above |
//! | unknown code with rows | its own; asked for twice, then it fails | two of them: exit 10, naming `success_codes` | as above |
//! | 400, 404, 410, 422 in an envelope | fails at once, or its list ends there | twenty in a row: two others are asked, refused alike: exit 5 | fails, if anything was served in this run |
//! | `end_of_list_codes` | its list ends there | the same | the same |
//! | another refusal, or one without an envelope | its own; fails after three | outage | as above |
//! | null in the middle of a list | its list ends there, unless rows come behind it | the same | the same |
//! | a success that cannot be used | asked for once more, then it fails | waits until others are served | waits |
//!
//! *Served* is a page, or a refusal of another item in an envelope: the API works and accepts the key. Only a page shows that there
//! are credits: an API may look for the page first. A *control request* asks for the page behind the end of a complete list, which
//! was never journaled; there are at most three in a run. A success without a list counts as a response to it, too.

pub(crate) mod end_evidence;
pub(crate) mod throttled_pages;

use std::collections::BTreeSet;

use crate::fetch::classify::{Failure, StopCause, Verdict};
use crate::model::page::{AttemptId, ItemIx, PageNum};

/// Failures of a page that must each be followed by service to another item before the page is given up, unless they may pass.
pub(crate) const PROOFS: u32 = 3;
/// Requests for other items that must be refused alike before a refusal is for all.
pub(crate) const MIN_ALIKE: u32 = 2;
/// Maximum number of control requests in a run.
pub(crate) const CONTROLS: u32 = 3;
/// Items in a row that are refused in an envelope, with no page in between, before others are asked for.
pub(crate) const REFUSED_IN_A_ROW: usize = 20;

/// Who was served last: just enough to know whether any other item than a given one was served after a given attempt.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Served {
    /// The newest attempt that was served.
    latest: Option<(AttemptId, ItemIx)>,
    /// The newest one for another item than that one.
    other: Option<(AttemptId, ItemIx)>,
}

impl Served {
    /// Records that a request for an item was served.
    pub(crate) fn record(&mut self, item: ItemIx, attempt: AttemptId) {
        match self.latest {
            Some((_, known)) if known == item => self.latest = self.latest.max(Some((attempt, item))),
            Some((last, _)) if last > attempt => self.other = self.other.max(Some((attempt, item))),
            _ => (self.latest, self.other) = (Some((attempt, item)), self.latest),
        }
    }

    /// Whether a request for another item was served whose attempt is newer than `last`, the last one when a failure arrived.
    pub(crate) fn others_since(&self, last: AttemptId, item: ItemIx) -> bool {
        let is_later = |served: Option<(AttemptId, ItemIx)>| served.is_some_and(|(at, by)| at > last && by != item);
        is_later(self.latest) || is_later(self.other)
    }
}

/// Whether an outcome shows that the API serves.
pub(crate) fn serves(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Page | Verdict::Failed(Failure::NoSuchPage | Failure::EndOfList))
}

/// What to do about a failure of one page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureAction {
    /// Ask for it again after a wait, until its failures are proven to be its own.
    AskAgain,
    /// Ask for it again after a wait. Until other items have shown whose fault it is, ask for nothing but their pages.
    AskOthers(RefusalScope),
    /// Do not ask for it again: it fails as soon as another item is served.
    SetAside,
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
    /// Whether it was asked for once more after a success that could not be used.
    pub asked_again: bool,
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
        Failure::MissingList if facts.may_end && !facts.asked_again => FailureAction::EndList,
        Failure::OtherRefusal if facts.may_end && facts.failed_before => FailureAction::EndList,
        Failure::NoSuchPage => FailureAction::SetAside,
        Failure::UnknownCode { with_rows: true } | Failure::Unusable | Failure::MissingList if facts.asked_again => {
            FailureAction::SetAside
        }
        Failure::UnknownCode { with_rows: true } => FailureAction::AskOthers(RefusalScope::UnknownCode),
        Failure::Refused(cause) if !facts.is_own => FailureAction::AskOthers(RefusalScope::Cause(cause)),
        Failure::NoConnection
        | Failure::Unavailable
        | Failure::Throttled(_)
        | Failure::OtherRefusal
        | Failure::UnknownCode { with_rows: false }
        | Failure::Refused(_)
        | Failure::Unusable
        | Failure::MissingList => FailureAction::AskAgain,
    }
}

/// Whether a failure that is proven to be a page's own may be the end of its list, if the pages before it came.
pub(crate) fn ends_list(failure: Failure) -> bool {
    matches!(failure, Failure::NoSuchPage | Failure::EndOfList | Failure::OtherRefusal | Failure::UnknownCode { .. })
}

/// How many failures of a page must be proven to be its own before it is given up. `alone`: nothing else is left to ask for, so
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

/// A refusal that may be for all items. Until pages of other items have shown whether it is, nothing else is sent.
#[derive(Debug)]
pub(crate) struct Question {
    /// What it means if it is for all.
    pub refusal: RefusalScope,
    /// The last attempt when it arrived.
    pub since: AttemptId,
    /// The last message.
    pub message: String,
    /// The items that were refused.
    refused: BTreeSet<ItemIx>,
    /// Requests for other items that were sent after it arrived and were refused alike.
    alike: u32,
    /// Such a request that is in flight.
    pub asked: Option<(ItemIx, PageNum)>,
    /// Whether a control request showed nothing about it: the next one would not either.
    pub is_inconclusive: bool,
}

impl Question {
    pub(crate) fn new(refusal: RefusalScope, item: ItemIx, since: AttemptId, message: String) -> Self {
        Self { refusal, since, message, refused: BTreeSet::from([item]), alike: 0, asked: None, is_inconclusive: false }
    }

    pub(crate) fn alike(&self) -> u32 {
        self.alike
    }

    pub(crate) fn refused(&self) -> &BTreeSet<ItemIx> {
        &self.refused
    }

    /// Records another refusal. True: it is for all.
    pub(crate) fn add(&mut self, item: ItemIx, attempt: AttemptId, message: &str) -> bool {
        let is_new = self.refused.insert(item);
        self.alike += u32::from(is_new && attempt > self.since);
        message.clone_into(&mut self.message);
        self.alike >= MIN_ALIKE
    }

    /// Whether a served request shows that it is not for all.
    pub(crate) fn is_answered_by(&self, item: ItemIx, attempt: AttemptId) -> bool {
        attempt > self.since && !self.refused.contains(&item)
    }
}

#[cfg(test)]
mod tests {
    use super::{Facts, FailureAction, Question, RefusalScope, Served, action_for, is_transient, required_proofs};
    use crate::fetch::classify::{Failure, StopCause};
    use crate::model::page::{AttemptId, ItemIx};

    const ACCOUNT: Failure = Failure::Refused(StopCause::Account);

    /// What follows from a failure: a letter for each combination of facts, which are the bits of its place from 0 to 15
    /// (1 `is_own`, 2 `asked_again`, 4 `may_end`, 8 `failed_before`): `a` ask again, `o` ask others, `s` set aside, `e` end the
    /// list. Then which others, the proofs it takes of eight with and without other work, and whether the same command tries again.
    #[test]
    fn the_truth_table_of_failures_holds_for_every_combination_of_facts() {
        const CONTRACT: Failure = Failure::Refused(StopCause::Contract);
        const FOREIGN: Failure = Failure::UnknownCode { with_rows: true };
        let cause = |cause| Some(RefusalScope::Cause(cause));
        let table = [
            (Failure::NoConnection, "aaaa aaaa aaaa aaaa", None, [u32::MAX; 2], true),
            (Failure::Unavailable, "aaaa aaaa aaaa aaaa", None, [8, 3], true),
            (Failure::Throttled(None), "aaaa aaaa aaaa aaaa", None, [6, 3], true),
            (ACCOUNT, "oaoa oaoa oaoa oaoa", cause(StopCause::Account), [3; 2], false),
            (CONTRACT, "oaoa oaoa oaoa oaoa", cause(StopCause::Contract), [3; 2], false),
            (Failure::UnknownCode { with_rows: false }, "aaaa aaaa aaaa aaaa", None, [3; 2], true),
            (FOREIGN, "ooss ooss ooss ooss", Some(RefusalScope::UnknownCode), [u32::MAX; 2], true),
            (Failure::NoSuchPage, "ssss eeee ssss eeee", None, [1; 2], false),
            (Failure::EndOfList, "eeee eeee eeee eeee", None, [1; 2], false),
            (Failure::OtherRefusal, "aaaa aaaa aaaa eeee", None, [3; 2], false),
            (Failure::Unusable, "aass aass aass aass", None, [u32::MAX; 2], false),
            (Failure::MissingList, "aass eess aass eess", None, [u32::MAX; 2], false),
        ];
        for (failure, actions, scope, needed, transient) in table {
            for (bits, expected) in actions.chars().filter(|letter| *letter != ' ').enumerate() {
                let [is_own, asked_again, may_end, failed_before] = [1, 2, 4, 8].map(|bit| bits & bit > 0);
                let facts = Facts { is_own, asked_again, may_end, failed_before };
                let (action, others) = match action_for(failure, facts) {
                    FailureAction::AskAgain => ('a', scope),
                    FailureAction::AskOthers(others) => ('o', Some(others)),
                    FailureAction::SetAside => ('s', scope),
                    FailureAction::EndList => ('e', scope),
                };
                assert_eq!((action, others), (expected, scope), "{failure:?} {facts:?}");
            }
            assert_eq!([false, true].map(|alone| required_proofs(failure, 8, alone)), needed, "{failure:?}");
            assert_eq!(is_transient(failure), transient, "{failure:?}");
        }
    }

    #[test]
    fn only_another_item_s_request_that_was_sent_after_the_failure_arrived_proves_anything() {
        let mut served = Served::default();
        let record = |served: &mut Served, item, attempt| served.record(ItemIx(item), AttemptId(attempt));
        let since = |served: &Served, last, item| served.others_since(AttemptId(last), ItemIx(item));
        assert!(!since(&served, 0, 1));
        record(&mut served, 2, 3);
        let table = [(2, 1, true), (3, 1, false), (2, 2, false)];
        for (failed, item, proves) in table {
            assert_eq!(since(&served, failed, item), proves, "{item} failed at {failed}");
        }
        // Another one that was sent earlier, and then the same one again: the one that helps is not forgotten.
        record(&mut served, 3, 2);
        assert!(since(&served, 1, 2) && !since(&served, 2, 2));
        record(&mut served, 2, 9);
        assert!(since(&served, 1, 2) && !since(&served, 2, 2));
        record(&mut served, 4, 10);
        assert!(since(&served, 8, 4) && since(&served, 9, 2));
    }

    #[test]
    fn a_refusal_is_for_all_when_two_others_were_asked_after_it_and_refused_alike() {
        let mut question = Question::new(RefusalScope::SamePage, ItemIx(1), AttemptId(5), String::new());
        let add = |question: &mut Question, item, attempt| question.add(ItemIx(item), AttemptId(attempt), "");
        assert!(!add(&mut question, 2, 4), "it was sent before");
        assert!(!add(&mut question, 1, 6), "the same item");
        assert!(!add(&mut question, 3, 7));
        let is_answered =
            |question: &Question, item, attempt| question.is_answered_by(ItemIx(item), AttemptId(attempt));
        assert!(!is_answered(&question, 3, 9) && !is_answered(&question, 4, 5) && is_answered(&question, 4, 6));
        assert!(add(&mut question, 5, 8));
    }
}
