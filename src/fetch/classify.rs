//! What one outcome of an attempt claims: one pure function of HTTP status, envelope and transport error.
//!
//! It says what was claimed and what it cost, and nothing more: one response cannot show whether a failure is the item's or the
//! API's (see `judgement`). The API reports errors both by status and by `code` inside a 200. Where the two differ, the stricter
//! one wins.

use std::time::Duration;

use crate::decode::envelope::{Envelope, NotEnvelope, Payload};
use crate::endpoint::Codes;
use crate::fetch::FetchErrorKind;
use crate::model::page::Charge;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Page,
    /// A success whose data is null, `{}`, `""` or false instead of a list: an empty page, or a hidden failure.
    NoList,
    Unsent,
    Failed(Failure),
}

/// What a failure claims. Whether it is this item's or everyone's, `judgement` decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No connection to the API: no page can be the cause.
    NoConnection,
    /// A failure that may pass: 5xx, 408, 425, a lost or late response, a code from `retry_codes`.
    Unavailable,
    /// 429, or a code from `throttle_codes`; the wait that the server asks for.
    Throttled(Option<Duration>),
    /// The key, its credits, or the server: 401, 402, 403, 407, a redirect, a code from `stop_codes`.
    Refused(StopCause),
    /// A code of the API that no list of codes names. With rows, it may be a success code.
    UnknownCode {
        /// Whether `data` is a list.
        with_rows: bool,
    },
    /// An envelope that says that there is no such item or page: 400, 404, 410, 422.
    NoSuchPage,
    /// An envelope with a code from `end_of_list_codes`: the list has ended.
    EndOfList,
    /// Another refusal, or one without an envelope, which may be another server's.
    OtherRefusal,
    /// [`Verdict::NoList`] right after a full page: the end of its list, or a hidden failure.
    MissingList,
    /// Not usable, though it may have been billed: a success without an envelope, or something that is not HTTP.
    Unusable,
}

/// Why no further request can succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopCause {
    /// The key is not accepted, its credits are used up, or the server is not the right one.
    Account,
    /// The API is not as the endpoint file describes it.
    Contract,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Classification {
    pub verdict: Verdict,
    pub charge: Charge,
    /// Whether nothing about the failure suggests that it passes by itself: if many items get it, all will.
    pub is_permanent: bool,
}

impl Classification {
    pub fn failed(failure: Failure, charge: Charge) -> Self {
        Self { verdict: Verdict::Failed(failure), charge, is_permanent: false }
    }

    pub const PAGE: Self = Self { verdict: Verdict::Page, charge: Charge::Billed, is_permanent: false };
}

/// Classifies a whole response. `codes` are the envelope codes that the endpoint file lists.
pub fn classify(
    status: u16,
    envelope: &Result<Envelope, NotEnvelope>,
    retry_after: Option<Duration>,
    codes: &Codes,
) -> Classification {
    match envelope {
        Ok(envelope) => classify_envelope(status, envelope, retry_after, codes),
        Err(_) => classify_bare(status, retry_after),
    }
}

/// Whether other success codes would make a page of this response. The journal keeps it until that page is there.
pub fn may_become_page(status: u16, envelope: &Result<Envelope, NotEnvelope>) -> bool {
    let code = envelope.as_ref().ok().and_then(|envelope| envelope.code).unwrap_or_default();
    let codes = Codes { success: vec![code], ..Codes::default() };
    classify(status, envelope, None, &codes).verdict == Verdict::Page
}

/// Classifies an attempt without a whole response.
pub fn classify_error(kind: FetchErrorKind) -> Classification {
    let (failure, charge) = match kind {
        FetchErrorKind::Unsent => {
            return Classification { verdict: Verdict::Unsent, charge: Charge::Free, is_permanent: false };
        }
        FetchErrorKind::Connect => (Failure::NoConnection, Charge::Free),
        FetchErrorKind::Tls | FetchErrorKind::Proxy => (Failure::Refused(StopCause::Account), Charge::Free),
        FetchErrorKind::Disconnected | FetchErrorKind::Timeout => (Failure::Unavailable, Charge::InDoubt),
        FetchErrorKind::Malformed | FetchErrorKind::TooLarge => (Failure::Unusable, Charge::InDoubt),
        FetchErrorKind::Redirect => (Failure::Refused(StopCause::Contract), Charge::InDoubt),
    };
    let is_permanent = failure == Failure::Unusable && kind != FetchErrorKind::TooLarge;
    Classification { is_permanent, ..Classification::failed(failure, charge) }
}

/// A body that is not an envelope: only the status counts. Everything except a 429 may have been billed (promise P5).
fn classify_bare(status: u16, retry_after: Option<Duration>) -> Classification {
    let by_status = by_status(status, retry_after);
    let failure = if by_status == Failure::NoSuchPage { Failure::OtherRefusal } else { by_status };
    let is_permanent = matches!(failure, Failure::Unusable | Failure::OtherRefusal);
    let charge = if status == 429 { Charge::Free } else { Charge::InDoubt };
    Classification { is_permanent, ..Classification::failed(failure, charge) }
}

/// An envelope: a page needs status 200, a success code and a list. A code that is not a success is never billed.
fn classify_envelope(status: u16, envelope: &Envelope, retry_after: Option<Duration>, codes: &Codes) -> Classification {
    let code = envelope.code.unwrap_or_default();
    if codes.success.contains(&code) {
        return match (status, envelope.data) {
            (200, Payload::Rows) => Classification::PAGE,
            (200, Payload::None) => {
                Classification { verdict: Verdict::NoList, charge: Charge::InDoubt, is_permanent: false }
            }
            (200..=299, _) => Classification::failed(Failure::Unusable, Charge::InDoubt),
            _ => classify_bare(status, retry_after),
        };
    }
    let failure =
        listed(code, codes, retry_after).unwrap_or_else(|| by_status_and_code(status, code, envelope, retry_after));
    let passes = [i64::from(status), code].iter().any(|number| matches!(number, 408 | 425 | 502..=504));
    let is_permanent = !passes && !matches!(failure, Failure::Throttled(_));
    // With rows it may be a success whose code the endpoint file does not list.
    let with_rows = failure == Failure::UnknownCode { with_rows: true };
    let charge = if with_rows { Charge::InDoubt } else { Charge::Free };
    Classification { is_permanent, ..Classification::failed(failure, charge) }
}

/// What the endpoint file says about a code, if it lists it.
fn listed(code: i64, codes: &Codes, retry_after: Option<Duration>) -> Option<Failure> {
    let table = [
        (&codes.stop, Failure::Refused(StopCause::Account)),
        (&codes.throttle, Failure::Throttled(retry_after)),
        (&codes.end_of_list, Failure::EndOfList),
        (&codes.retry, Failure::Unavailable),
    ];
    table.into_iter().find(|(codes, _)| codes.contains(&code)).map(|(_, failure)| failure)
}

/// A code from 400 to 599 means the same as the HTTP status. All others are the API's own.
fn by_status_and_code(status: u16, code: i64, envelope: &Envelope, retry_after: Option<Duration>) -> Failure {
    let by_code = u16::try_from(code).ok().filter(|code| (400..=599).contains(code));
    let numbers = [Some(status), by_code];
    let is_failure = numbers.iter().flatten().any(|number| *number >= 500) && !numbers.contains(&Some(429));
    if is_failure && says_credits_used_up(&envelope.message) {
        return Failure::Refused(StopCause::Account);
    }
    let inner = by_code.map(|code| by_status(code, retry_after));
    if status == 200 {
        return inner.unwrap_or(Failure::UnknownCode { with_rows: envelope.data == Payload::Rows });
    }
    let outer = by_status(status, retry_after);
    inner.filter(|inner| severity(*inner) >= severity(outer)).unwrap_or(outer)
}

/// Orders the failures that status and code of one response may claim: the larger is the stricter.
fn severity(failure: Failure) -> u8 {
    match failure {
        Failure::NoConnection | Failure::Unavailable => 1,
        Failure::Unusable | Failure::MissingList | Failure::UnknownCode { .. } => 2,
        Failure::NoSuchPage | Failure::EndOfList | Failure::OtherRefusal => 3,
        Failure::Throttled(_) => 4,
        Failure::Refused(_) => 5,
    }
}

fn by_status(status: u16, retry_after: Option<Duration>) -> Failure {
    match status {
        401..=403 | 407 => Failure::Refused(StopCause::Account),
        429 => Failure::Throttled(retry_after),
        408 | 425 | 500..=599 => Failure::Unavailable,
        300..=399 => Failure::Refused(StopCause::Contract),
        400 | 404 | 410 | 422 => Failure::NoSuchPage,
        400..=499 => Failure::OtherRefusal,
        _ => Failure::Unusable,
    }
}

/// A related service reports used-up credits as a 500 with such words.
fn says_credits_used_up(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    ["usage limit", "quota is not enough", "quota exceeded", "insufficient credit", "not enough credit"]
        .iter()
        .any(|words| message.contains(words))
}

#[cfg(test)]
mod tests {
    use std::ops::RangeInclusive;

    use super::{Classification, Failure, StopCause, Verdict, classify, classify_error, may_become_page};
    use crate::decode::envelope::{Envelope, NotEnvelope, Payload};
    use crate::endpoint::Codes;
    use crate::fetch::FetchErrorKind;
    use crate::model::page::Charge;

    const ACCOUNT: Failure = Failure::Refused(StopCause::Account);
    const CONTRACT: Failure = Failure::Refused(StopCause::Contract);

    fn codes() -> Codes {
        Codes { success: vec![0], ..Codes::default() }
    }

    fn on(status: u16, code: i64, message: &str, data: Payload) -> Classification {
        let envelope = Ok(Envelope { code: Some(code), message: message.to_owned(), data });
        regardless_of_permanence(classify(status, &envelope, None, &codes()))
    }

    fn bare(status: u16) -> Classification {
        regardless_of_permanence(classify(status, &Err(NotEnvelope::Foreign), None, &codes()))
    }

    /// Without the field that has a test of its own.
    fn regardless_of_permanence(classification: Classification) -> Classification {
        Classification { is_permanent: false, ..classification }
    }

    #[test]
    fn only_a_200_with_a_list_may_become_a_page_under_other_success_codes() {
        let may = |status, code, data| {
            may_become_page(status, &Ok(Envelope { code: Some(code), message: "limit".to_owned(), data }))
        };
        for code in [0, 1, 7, 400, 429, 500, -3] {
            assert!(may(200, code, Payload::Rows), "{code}");
            assert!(!may(200, code, Payload::None) && !may(200, code, Payload::Other), "{code}");
            assert!(!may(400, code, Payload::Rows) && !may(500, code, Payload::Rows), "{code}");
        }
        assert!(!may_become_page(200, &Err(NotEnvelope::Foreign)));
    }

    #[test]
    fn a_failure_is_permanent_unless_its_status_or_code_says_that_it_passes() {
        let envelope = |code| Ok(Envelope { code: Some(code), ..Envelope::default() });
        let is_permanent_with =
            |status, envelope: &Result<Envelope, NotEnvelope>| classify(status, envelope, None, &codes()).is_permanent;
        for (status, code, is_permanent) in
            [(500, 500, true), (200, 500, true), (503, 503, false), (200, 503, false), (504, 1, false), (200, 7, true)]
        {
            assert_eq!(is_permanent_with(status, &envelope(code)), is_permanent, "HTTP {status}, code {code}");
        }
        assert!(
            is_permanent_with(200, &Err(NotEnvelope::Foreign)) && !is_permanent_with(500, &Err(NotEnvelope::Foreign))
        );
        assert!(!is_permanent_with(429, &envelope(429)));
    }

    fn free(failure: Failure) -> Classification {
        Classification::failed(failure, Charge::Free)
    }

    fn in_doubt(failure: Failure) -> Classification {
        Classification::failed(failure, Charge::InDoubt)
    }

    #[test]
    fn only_status_200_with_a_success_code_and_a_list_is_a_page() {
        assert_eq!(on(200, 0, "success", Payload::Rows), Classification::PAGE);
        for (status, code, data) in
            [(200, 0, Payload::None), (204, 0, Payload::Rows), (500, 0, Payload::Rows), (200, 7, Payload::Rows)]
        {
            assert_ne!(on(status, code, "", data).verdict, Verdict::Page, "{status} {code}");
        }
    }

    /// What a refusal by a status claims, in the envelope and without it: each status once.
    const CLAIMS: [(RangeInclusive<u16>, [Failure; 2]); 18] = {
        const ITEM: [Failure; 2] = [Failure::NoSuchPage, Failure::OtherRefusal];
        const OTHER: [Failure; 2] = [Failure::OtherRefusal; 2];
        [
            (100..=299, [Failure::Unusable; 2]),
            (300..=399, [CONTRACT; 2]),
            (400..=400, ITEM),
            (401..=403, [ACCOUNT; 2]),
            (404..=404, ITEM),
            (405..=406, OTHER),
            (407..=407, [ACCOUNT; 2]),
            (408..=408, [Failure::Unavailable; 2]),
            (409..=409, OTHER),
            (410..=410, ITEM),
            (411..=421, OTHER),
            (422..=422, ITEM),
            (423..=424, OTHER),
            (425..=425, [Failure::Unavailable; 2]),
            (426..=428, OTHER),
            (429..=429, [Failure::Throttled(None); 2]),
            (430..=499, OTHER),
            (500..=599, [Failure::Unavailable; 2]),
        ]
    };

    #[test]
    fn a4_every_refusal_claims_something_of_its_item_of_the_api_or_of_the_run() {
        for status in [400, 404, 410, 422] {
            let refused = on(status, i64::from(status), "", Payload::None);
            assert_eq!(refused, free(Failure::NoSuchPage), "{status} in the API's words is that item's end, and free");
            assert_eq!(bare(status), in_doubt(Failure::OtherRefusal), "{status} without them may be another server's");
        }
        for status in [405, 413, 414, 418, 451] {
            assert_eq!(on(status, i64::from(status), "", Payload::None), free(Failure::OtherRefusal));
        }
        for status in [401, 402, 403] {
            assert_eq!(bare(status), in_doubt(ACCOUNT));
            assert_eq!(on(status, 0, "", Payload::None), in_doubt(ACCOUNT));
        }
    }

    #[test]
    fn a11_every_status_from_100_to_599_has_its_meaning_with_and_without_an_envelope() {
        let statuses = CLAIMS.into_iter().flat_map(|(statuses, claims)| statuses.map(move |status| (status, claims)));
        assert!(statuses.clone().map(|(status, _)| status).eq(100..=599));
        for (status, [enveloped, without]) in statuses {
            // A code that is not an HTTP status inside a 200 is the API's own.
            let enveloped = if status == 200 { Failure::UnknownCode { with_rows: false } } else { enveloped };
            assert_eq!(on(status, i64::from(status), "", Payload::None), free(enveloped), "{status}");
            let charge = if status == 429 { Charge::Free } else { Charge::InDoubt };
            assert_eq!(bare(status), Classification::failed(without, charge), "bare {status}");
        }
    }

    #[test]
    fn a12_of_the_status_and_the_code_in_the_body_the_stricter_wins() {
        // A row for each status, a column for each code in this order: `k` an unknown code, `u` unavailable, `n` no such page,
        // `t` throttled, `a` the account. Inside a 200 the code alone counts.
        let numbers = [200, 500, 502, 503, 400, 404, 429, 401, 402, 403];
        let table = [
            "kuuunntaaa",
            "uuuunntaaa",
            "uuuunntaaa",
            "uuuunntaaa",
            "nnnnnntaaa",
            "nnnnnntaaa",
            "tttttttaaa",
            "aaaaaaaaaa",
            "aaaaaaaaaa",
            "aaaaaaaaaa",
        ];
        for (status, row) in numbers.into_iter().zip(table) {
            for (code, letter) in numbers.into_iter().zip(row.chars()) {
                let claim = match letter {
                    'k' => Failure::UnknownCode { with_rows: false },
                    'u' => Failure::Unavailable,
                    'n' => Failure::NoSuchPage,
                    't' => Failure::Throttled(None),
                    _ => ACCOUNT,
                };
                assert_eq!(on(status, i64::from(code), "", Payload::None), free(claim), "HTTP {status}, code {code}");
            }
        }
    }

    #[test]
    fn a13_a_success_without_a_list_may_have_been_billed_and_null_may_be_an_empty_page() {
        let no_list = Classification { verdict: Verdict::NoList, charge: Charge::InDoubt, is_permanent: false };
        assert_eq!(on(200, 0, "success", Payload::None), no_list);
        assert_eq!(on(200, 0, "success", Payload::Other), in_doubt(Failure::Unusable));
    }

    #[test]
    fn a_500_that_speaks_of_a_used_up_quota_claims_that_the_credits_are_spent() {
        assert_eq!(on(500, 500, "Usage Limit Exceeded", Payload::None), free(ACCOUNT));
        assert_eq!(on(200, 500, "apiKey quota is not enough", Payload::None), free(ACCOUNT));
    }

    #[test]
    fn words_of_a_used_up_quota_say_nothing_of_the_key_in_a_429_or_under_a_code_of_the_api_s_own() {
        for (status, code) in [(429, 429), (429, 500), (429, 10_005), (200, 429), (500, 429)] {
            assert_eq!(on(status, code, "QPS quota exceeded", Payload::None), free(Failure::Throttled(None)));
        }
        for code in [10_005, 600, 499_001] {
            let refused = on(200, code, "quota exceeded", Payload::None);
            assert_eq!(refused, free(Failure::UnknownCode { with_rows: false }), "{code}");
        }
    }

    #[test]
    fn a_code_below_400_inside_a_200_is_a_code_of_the_api_s_own_and_no_redirect() {
        for code in [1, 100, 200, 204, 300, 302, 399] {
            let unknown = in_doubt(Failure::UnknownCode { with_rows: true });
            assert_eq!(on(200, code, "see other", Payload::Rows), unknown, "{code}");
        }
        assert_eq!(on(302, 302, "moved", Payload::None), free(CONTRACT));
    }

    #[test]
    fn a_code_that_the_endpoint_lists_claims_what_it_is_listed_for_whatever_the_status() {
        let codes = Codes { retry: vec![7], throttle: vec![8], stop: vec![9], end_of_list: vec![10, 404], ..codes() };
        let table = [
            (7, Failure::Unavailable),
            (8, Failure::Throttled(None)),
            (9, ACCOUNT),
            (10, Failure::EndOfList),
            (404, Failure::EndOfList),
            (11, Failure::UnknownCode { with_rows: false }),
        ];
        for (code, failure) in table {
            let envelope = Ok(Envelope { code: Some(code), ..Envelope::default() });
            let on = |status| regardless_of_permanence(classify(status, &envelope, None, &codes));
            assert_eq!(on(200), free(failure), "{code}");
            if code != 11 {
                assert_eq!(on(400), free(failure), "{code} under HTTP 400");
            }
        }
    }

    #[test]
    fn a_200_without_an_envelope_may_have_been_billed_whatever_it_holds() {
        for not in [NotEnvelope::Foreign, NotEnvelope::Empty, NotEnvelope::Truncated] {
            let found = classify(200, &Err(not), None, &codes());
            assert_eq!(regardless_of_permanence(found), in_doubt(Failure::Unusable));
        }
    }

    #[test]
    fn what_was_not_sent_is_free_and_what_may_have_arrived_is_in_doubt() {
        let charge = |kind| classify_error(kind).charge;
        for kind in [FetchErrorKind::Unsent, FetchErrorKind::Connect, FetchErrorKind::Tls, FetchErrorKind::Proxy] {
            assert_eq!(charge(kind), Charge::Free, "{kind:?}");
        }
        for kind in [
            FetchErrorKind::Disconnected,
            FetchErrorKind::Timeout,
            FetchErrorKind::Malformed,
            FetchErrorKind::TooLarge,
            FetchErrorKind::Redirect,
        ] {
            assert_eq!(charge(kind), Charge::InDoubt, "{kind:?}");
        }
    }
}
