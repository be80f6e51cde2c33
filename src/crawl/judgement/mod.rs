//! This item, or the API? The one place that decides it.
//!
//! One answer proves little. A failure is *ambiguous* until it is known what other items are answered to requests that
//! left after it arrived: one that left before proves nothing, because whatever happened may have happened between. Requests
//! are numbered as they are decided on, so a request with a larger number than the last one before the arrival left after it.
//!
//! | failure | others are served after it | others fail alike after it | nothing else can be asked |
//! |---|---|---|---|
//! | no route | asked again, for ever | outage | outage |
//! | 5xx, lost, late, `retry_codes` | its own; fails after `retry_attempts` | outage: waits, then exit 5 | its own after three, if a control request was served |
//! | 429, `throttle_codes` | its own if 20 others passed, three times running; fails after three more | all wait | as above |
//! | 401, 402, 403, 407, `stop_codes` | its own; fails after three | two of them: exit 7 | as above; without one: exit 7, in the second run the item fails |
//! | redirect | its own; fails after three | two of them: exit 10 | as above |
//! | unknown code | its own; fails after three | outage; exit 5 | as above |
//! | unknown code with rows | its own; asked for twice, then it fails | two of them: exit 10, naming `success_codes` | as above |
//! | 400, 404, 410, 422 in the API's form | fails at once, or its list ends there | twenty in a row: two others are asked, refused alike: exit 5 | fails, if anything was served in this run |
//! | `end_of_list_codes` | its list ends there | the same | the same |
//! | another refusal, or one not in the API's form | its own; fails after three | outage | as above |
//! | null in the middle of a list | its list ends there, unless rows come behind it | the same | the same |
//! | a success that cannot be used | asked for once more, then it fails | waits aside until others are served | waits aside |
//!
//! *Served* is a page, or a refusal of another item in the API's own form: the API works and knows the key. Whether there are
//! credits only a page shows: an API may look for the page first. A *control request* asks for the page behind a complete
//! list's end, which was never journaled; at most three a run. A success without a list is an answer to it, too.

pub(crate) mod ending;
pub(crate) mod throttle;

use std::collections::BTreeSet;

use crate::fetch::classify::{Failure, StopCause, Verdict};
use crate::model::page::{AttemptId, ItemIx, PageNum};

/// Failures of a page that must each be followed by service to others before it is given up, unless it is one that may
/// pass by itself.
pub(crate) const PROOFS: u32 = 3;
/// Requests for pages of others that must be refused alike before a refusal is the API's.
pub(crate) const PROBES: u32 = 2;
/// Control requests of a run.
pub(crate) const CONTROLS: u32 = 3;
/// Items in a row that are refused in the API's own form, with no page between, before others are asked.
pub(crate) const REFUSED_IN_A_ROW: usize = 20;

/// Who was served last: as much as is needed to tell whether anyone but a given item was served after a given moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Served {
    /// The last request among those that were served.
    latest: Option<(AttemptId, ItemIx)>,
    /// The last one among those for other items than that one.
    other: Option<(AttemptId, ItemIx)>,
}

impl Served {
    /// A request for an item was served.
    pub(crate) fn note(&mut self, item: ItemIx, attempt: AttemptId) {
        match self.latest {
            Some((_, known)) if known == item => self.latest = self.latest.max(Some((attempt, item))),
            Some((last, _)) if last > attempt => self.other = self.other.max(Some((attempt, item))),
            _ => (self.latest, self.other) = (Some((attempt, item)), self.latest),
        }
    }

    /// Whether a request for another item was served that came after `last`, the last one when a failure arrived.
    pub(crate) fn others_since(&self, last: AttemptId, item: ItemIx) -> bool {
        let is_later = |served: Option<(AttemptId, ItemIx)>| served.is_some_and(|(at, by)| at > last && by != item);
        is_later(self.latest) || is_later(self.other)
    }
}

/// Whether an outcome shows that the API serves.
pub(crate) fn serves(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Page | Verdict::Failed(Failure::NoSuchPage | Failure::EndOfList))
}

/// What may be done about a failure of one page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureAction {
    /// Ask again after a wait, as long as it lacks proofs.
    AskAgain,
    /// Ask again after a wait; until then, and until others have shown whose fault it is, ask for nothing but their pages.
    AskOthers(RefusalScope),
    /// Ask for it no more: it fails as soon as anyone else is served.
    SetAside,
    /// Its list ends before it, unless what is behind it says otherwise.
    EndList,
}

/// Why a run stops if others are refused alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RefusalScope {
    /// The key, its credits, or the server is another one.
    Cause(StopCause),
    /// A code that may mean success.
    UnknownCode,
    /// Every item is refused in the API's own form.
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
pub(crate) fn course(failure: Failure, facts: Facts) -> FailureAction {
    match failure {
        Failure::EndOfList => FailureAction::EndList,
        Failure::NoSuchPage if facts.may_end => FailureAction::EndList,
        Failure::MissingList if facts.may_end && !facts.asked_again => FailureAction::EndList,
        Failure::Unusual if facts.may_end && facts.failed_before => FailureAction::EndList,
        Failure::NoSuchPage => FailureAction::SetAside,
        Failure::UnknownCode { with_rows: true } | Failure::Unusable | Failure::MissingList if facts.asked_again => {
            FailureAction::SetAside
        }
        Failure::UnknownCode { with_rows: true } => FailureAction::AskOthers(RefusalScope::UnknownCode),
        Failure::Refused(cause) if !facts.is_own => FailureAction::AskOthers(RefusalScope::Cause(cause)),
        Failure::NoRoute
        | Failure::Unavailable
        | Failure::Throttled(_)
        | Failure::Unusual
        | Failure::UnknownCode { with_rows: false }
        | Failure::Refused(_)
        | Failure::Unusable
        | Failure::MissingList => FailureAction::AskAgain,
    }
}

/// Whether a failure that is proven to be a page's own may be the end of its list, if the pages before it came.
pub(crate) fn ends_list(failure: Failure) -> bool {
    matches!(failure, Failure::NoSuchPage | Failure::EndOfList | Failure::Unusual | Failure::UnknownCode { .. })
}

/// How many failures of a page must be proven to be its own before it is given up. `alone`: nothing else is left to be
/// asked for, so that proofs cost credits.
pub(crate) fn proofs(failure: Failure, attempts: u32, alone: bool) -> u32 {
    match failure {
        // Whether these are final does not depend on how often they were proven.
        Failure::NoRoute | Failure::Unusable | Failure::MissingList | Failure::UnknownCode { with_rows: true } => {
            u32::MAX
        }
        Failure::Unavailable if alone => PROOFS.min(attempts),
        Failure::Unavailable => attempts,
        Failure::Throttled(_) if alone => PROOFS,
        Failure::Throttled(_) => 2 * PROOFS,
        Failure::Refused(_) | Failure::UnknownCode { with_rows: false } | Failure::Unusual => PROOFS,
        Failure::NoSuchPage | Failure::EndOfList => 1,
    }
}

/// How often a page must have failed before it is given up, whatever is proven. `gave_up_before`: an earlier run gave its
/// item up.
pub(crate) fn tries(failure: Failure, attempts: u32, gave_up_before: bool) -> u32 {
    if failure == Failure::Unavailable && !gave_up_before {
        attempts
    } else if matches!(failure, Failure::Throttled(_)) && !gave_up_before {
        2 * PROOFS
    } else {
        PROOFS.min(attempts)
    }
}

/// Whether the same command is to try an item again that failed like this.
pub(crate) fn is_transient(failure: Failure) -> bool {
    match failure {
        Failure::NoRoute | Failure::Unavailable | Failure::Throttled(_) | Failure::UnknownCode { .. } => true,
        Failure::Refused(_)
        | Failure::NoSuchPage
        | Failure::EndOfList
        | Failure::Unusual
        | Failure::Unusable
        | Failure::MissingList => false,
    }
}

/// A refusal that may be meant for all: until pages of others have shown whether it is, nothing else is sent.
#[derive(Debug)]
pub(crate) struct Question {
    /// What it means if it is for all.
    pub refusal: RefusalScope,
    /// The last request when it arrived.
    pub since: AttemptId,
    /// What was said last.
    pub message: String,
    /// The items that were refused.
    refused: BTreeSet<ItemIx>,
    /// Requests that left after it arrived, for other items, and were refused alike.
    alike: u32,
    /// Such a request that is on its way.
    pub asked: Option<(ItemIx, PageNum)>,
    /// Whether a control request came to an answer that tells nothing about it: so would the next one.
    pub is_mute: bool,
}

impl Question {
    /// The question that a refusal of an item raises.
    pub(crate) fn new(refusal: RefusalScope, item: ItemIx, since: AttemptId, message: String) -> Self {
        Self { refusal, since, message, refused: BTreeSet::from([item]), alike: 0, asked: None, is_mute: false }
    }

    /// How many others were refused alike.
    pub(crate) fn alike(&self) -> u32 {
        self.alike
    }

    /// The items that were refused.
    pub(crate) fn refused(&self) -> &BTreeSet<ItemIx> {
        &self.refused
    }

    /// Another refusal. True: it is for all.
    pub(crate) fn add(&mut self, item: ItemIx, attempt: AttemptId, message: &str) -> bool {
        let is_new = self.refused.insert(item);
        self.alike += u32::from(is_new && attempt > self.since);
        message.clone_into(&mut self.message);
        self.alike >= PROBES
    }

    /// Whether a served request answers it: others are not refused.
    pub(crate) fn is_answered_by(&self, item: ItemIx, attempt: AttemptId) -> bool {
        attempt > self.since && !self.refused.contains(&item)
    }
}

#[cfg(test)]
mod tests {
    use super::{Facts, FailureAction, Question, RefusalScope, Served, course, is_transient, proofs};
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
            (Failure::NoRoute, "aaaa aaaa aaaa aaaa", None, [u32::MAX; 2], true),
            (Failure::Unavailable, "aaaa aaaa aaaa aaaa", None, [8, 3], true),
            (Failure::Throttled(None), "aaaa aaaa aaaa aaaa", None, [6, 3], true),
            (ACCOUNT, "oaoa oaoa oaoa oaoa", cause(StopCause::Account), [3; 2], false),
            (CONTRACT, "oaoa oaoa oaoa oaoa", cause(StopCause::Contract), [3; 2], false),
            (Failure::UnknownCode { with_rows: false }, "aaaa aaaa aaaa aaaa", None, [3; 2], true),
            (FOREIGN, "ooss ooss ooss ooss", Some(RefusalScope::UnknownCode), [u32::MAX; 2], true),
            (Failure::NoSuchPage, "ssss eeee ssss eeee", None, [1; 2], false),
            (Failure::EndOfList, "eeee eeee eeee eeee", None, [1; 2], false),
            (Failure::Unusual, "aaaa aaaa aaaa eeee", None, [3; 2], false),
            (Failure::Unusable, "aass aass aass aass", None, [u32::MAX; 2], false),
            (Failure::MissingList, "aass eess aass eess", None, [u32::MAX; 2], false),
        ];
        for (failure, actions, scope, needed, transient) in table {
            for (bits, expected) in actions.chars().filter(|letter| *letter != ' ').enumerate() {
                let [is_own, asked_again, may_end, failed_before] = [1, 2, 4, 8].map(|bit| bits & bit > 0);
                let facts = Facts { is_own, asked_again, may_end, failed_before };
                let (action, others) = match course(failure, facts) {
                    FailureAction::AskAgain => ('a', scope),
                    FailureAction::AskOthers(others) => ('o', Some(others)),
                    FailureAction::SetAside => ('s', scope),
                    FailureAction::EndList => ('e', scope),
                };
                assert_eq!((action, others), (expected, scope), "{failure:?} {facts:?}");
            }
            assert_eq!([false, true].map(|alone| proofs(failure, 8, alone)), needed, "{failure:?}");
            assert_eq!(is_transient(failure), transient, "{failure:?}");
        }
    }

    #[test]
    fn only_another_item_s_request_that_left_after_the_failure_arrived_proves_anything() {
        let mut served = Served::default();
        let note = |served: &mut Served, item, attempt| served.note(ItemIx(item), AttemptId(attempt));
        let since = |served: &Served, last, item| served.others_since(AttemptId(last), ItemIx(item));
        assert!(!since(&served, 0, 1));
        note(&mut served, 2, 3);
        let table = [(2, 1, true), (3, 1, false), (2, 2, false)];
        for (failed, item, proves) in table {
            assert_eq!(since(&served, failed, item), proves, "{item} failed at {failed}");
        }
        // Another one that left earlier, and then the same one again: the one that helps is not forgotten.
        note(&mut served, 3, 2);
        assert!(since(&served, 1, 2) && !since(&served, 2, 2));
        note(&mut served, 2, 9);
        assert!(since(&served, 1, 2) && !since(&served, 2, 2));
        note(&mut served, 4, 10);
        assert!(since(&served, 8, 4) && since(&served, 9, 2));
    }

    #[test]
    fn a_refusal_is_for_all_when_two_others_were_asked_after_it_and_refused_alike() {
        let mut question = Question::new(RefusalScope::SamePage, ItemIx(1), AttemptId(5), String::new());
        let add = |question: &mut Question, item, attempt| question.add(ItemIx(item), AttemptId(attempt), "");
        assert!(!add(&mut question, 2, 4), "it left before");
        assert!(!add(&mut question, 1, 6), "the same item");
        assert!(!add(&mut question, 3, 7));
        let is_answered =
            |question: &Question, item, attempt| question.is_answered_by(ItemIx(item), AttemptId(attempt));
        assert!(!is_answered(&question, 3, 9) && !is_answered(&question, 4, 5) && is_answered(&question, 4, 6));
        assert!(add(&mut question, 5, 8));
    }
}
