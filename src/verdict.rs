//! What an attempt's outcome means: one pure function over HTTP status, envelope and transport error.
//!
//! Nothing else in the program decides whether to retry, give up or stop. The API answers errors both by status and by
//! `code` inside a 200, and the two can differ: the stricter one wins.

use std::time::Duration;

use crate::envelope::{Envelope, NotEnvelope, Payload};
use crate::page::Charge;

/// What came back from one attempt.
#[derive(Debug)]
pub enum Outcome<'a> {
    /// Bytes under an HTTP status; the envelope if they are one.
    Answer {
        /// HTTP status.
        status: u16,
        /// The frame of the body.
        envelope: &'a Result<Envelope, NotEnvelope>,
        /// The server's wish, already parsed.
        retry_after: Option<Duration>,
    },
    /// No whole answer.
    Lost(Lost),
}

/// Why there is no whole answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// The request never left: the run stopped before its turn.
    Unsent,
    /// No connection was made: name, route, refused, or too slow.
    Connect,
    /// The server's identity could not be verified.
    Tls,
    /// The proxy did not accept its credentials.
    Proxy,
    /// The connection broke after the request was sent.
    Transport,
    /// No whole answer in time.
    Timeout,
    /// What came is no HTTP: a head too large or malformed, chunks that are none, two lengths.
    Unreadable,
    /// The body is larger than the cap.
    TooLarge,
    /// An answer that points elsewhere.
    Redirect,
}

/// What to do about an outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is a page: keep it.
    Page,
    /// It never left: forget the attempt.
    Unsent,
    /// Ask again after a back-off.
    Retry,
    /// Ask again, once: it may have been billed.
    RetryOnce,
    /// Every walk waits; the server's wish where it has one.
    Throttled(Option<Duration>),
    /// This item will not work; the others go on.
    GiveUp,
    /// Nothing will work: stop the run.
    Stop(StopCause),
}

/// Why nothing will work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopCause {
    /// The key is not accepted, its credits are used up, or the server is not who it should be.
    Account,
    /// The API is not the described one.
    Contract,
}

/// Whose failure it may be. One page cannot tell; several together can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// Nobody's: a page, a wait, a request that was not sent, the end of the run.
    Nobody,
    /// The way to the API. No page can be the cause.
    Route,
    /// The API for a while, or this page.
    Api,
    /// The same, but given as an answer: what is told to many items is told to all.
    Answer,
    /// This item's.
    Item,
}

/// An outcome's meaning and its price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// What to do.
    pub verdict: Verdict,
    /// Whose failure it may be.
    pub blame: Blame,
    /// What it cost.
    pub charge: Charge,
}

/// Judges one outcome. `success` are the envelope codes that mean success.
pub fn judge(outcome: &Outcome<'_>, success: &[i64]) -> Judged {
    match outcome {
        Outcome::Lost(lost) => judge_lost(*lost),
        Outcome::Answer { status, envelope: Err(_), retry_after } => judge_bare(*status, *retry_after),
        Outcome::Answer { status, envelope: Ok(envelope), retry_after } => {
            judge_envelope(*status, envelope, *retry_after, success)
        }
    }
}

fn judge_lost(lost: Lost) -> Judged {
    let (verdict, blame, charge) = match lost {
        Lost::Unsent => (Verdict::Unsent, Blame::Nobody, Charge::Free),
        Lost::Connect => (Verdict::Retry, Blame::Route, Charge::Free),
        Lost::Tls | Lost::Proxy => (Verdict::Stop(StopCause::Account), Blame::Nobody, Charge::Free),
        Lost::Transport | Lost::Timeout => (Verdict::Retry, Blame::Api, Charge::InDoubt),
        Lost::Unreadable => (Verdict::RetryOnce, Blame::Answer, Charge::InDoubt),
        Lost::TooLarge => (Verdict::RetryOnce, Blame::Item, Charge::InDoubt),
        Lost::Redirect => (Verdict::Stop(StopCause::Contract), Blame::Nobody, Charge::InDoubt),
    };
    Judged { verdict, blame, charge }
}

/// A body that is no envelope: only the status speaks. All but a 429 may have been billed (promise P5).
fn judge_bare(status: u16, retry_after: Option<Duration>) -> Judged {
    let verdict =
        if (200..=299).contains(&status) { Verdict::RetryOnce } else { unsure(by_status(status, retry_after)) };
    let blame = if verdict == Verdict::Retry { Blame::Api } else { blame(&verdict) };
    let charge = if status == 429 { Charge::Free } else { Charge::InDoubt };
    Judged { verdict, blame, charge }
}

/// An envelope: success needs status 200, a success code and a list; a code that is no success is never billed.
fn judge_envelope(status: u16, envelope: &Envelope, retry_after: Option<Duration>, success: &[i64]) -> Judged {
    let code = envelope.code.unwrap_or_default();
    if success.contains(&code) {
        let (verdict, charge) = match (status, envelope.data) {
            (200, Payload::Rows) => (Verdict::Page, Charge::Billed),
            (200..=299, _) => {
                return Judged { verdict: Verdict::RetryOnce, blame: Blame::Item, charge: Charge::InDoubt };
            }
            _ => (unsure(by_status(status, retry_after)), Charge::InDoubt),
        };
        return Judged { blame: blame(&verdict), verdict, charge };
    }
    // A code is a number of HTTP where it says what went wrong; a redirect it cannot be. Others are the API's own.
    let by_code = u16::try_from(code).ok().filter(|code| (400..=599).contains(code));
    let numbers = [Some(status), by_code];
    let is_failure = numbers.iter().flatten().any(|number| *number >= 500) && !numbers.contains(&Some(429));
    if is_failure && says_used_up(&envelope.message) {
        return Judged { verdict: Verdict::Stop(StopCause::Account), blame: Blame::Nobody, charge: Charge::Free };
    }
    let (inner, outer) = (by_code.map(|code| by_status(code, retry_after)), by_status(status, retry_after));
    let verdict = match inner {
        _ if status == 200 => inner.unwrap_or(Verdict::GiveUp),
        Some(inner) if severity(&inner) >= severity(&outer) => inner,
        Some(_) | None => outer,
    };
    let passes = numbers.into_iter().flatten().any(|number| matches!(number, 408 | 425 | 502..=504));
    let blame = if passes && verdict == Verdict::Retry { Blame::Api } else { blame(&verdict) };
    Judged { verdict, blame, charge: Charge::Free }
}

/// Whose failure an answer may be that led to this verdict.
fn blame(verdict: &Verdict) -> Blame {
    match verdict {
        Verdict::Page | Verdict::Unsent | Verdict::Throttled(_) | Verdict::Stop(_) => Blame::Nobody,
        Verdict::Retry | Verdict::RetryOnce => Blame::Answer,
        Verdict::GiveUp => Blame::Item,
    }
}

/// A refusal that does not have the API's form may be another server's: it is asked for once more.
fn unsure(verdict: Verdict) -> Verdict {
    if verdict == Verdict::GiveUp { Verdict::RetryOnce } else { verdict }
}

/// Which of two verdicts on one answer is the stricter.
fn severity(verdict: &Verdict) -> u8 {
    match verdict {
        Verdict::Page | Verdict::Unsent => 0,
        Verdict::Retry => 1,
        Verdict::RetryOnce => 2,
        Verdict::GiveUp => 3,
        Verdict::Throttled(_) => 4,
        Verdict::Stop(_) => 5,
    }
}

fn by_status(status: u16, retry_after: Option<Duration>) -> Verdict {
    match status {
        401..=403 | 407 => Verdict::Stop(StopCause::Account),
        429 => Verdict::Throttled(retry_after),
        408 | 425 | 500..=599 => Verdict::Retry,
        300..=399 => Verdict::Stop(StopCause::Contract),
        400..=499 => Verdict::GiveUp,
        _ => Verdict::RetryOnce,
    }
}

/// A sister service reports an empty quota as a 500 with such words.
fn says_used_up(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    ["usage limit", "quota is not enough", "quota exceeded", "insufficient credit", "not enough credit"]
        .iter()
        .any(|words| message.contains(words))
}

#[cfg(test)]
mod tests {
    use super::{Blame, Judged, Lost, Outcome, StopCause, Verdict, judge};
    use crate::envelope::{Envelope, NotEnvelope, Payload};
    use crate::page::Charge;

    fn on(status: u16, code: i64, message: &str, data: Payload) -> Judged {
        let envelope = Ok(Envelope { code: Some(code), message: message.to_owned(), data });
        judge(&Outcome::Answer { status, envelope: &envelope, retry_after: None }, &[0])
    }

    fn bare(status: u16) -> Judged {
        judge(&Outcome::Answer { status, envelope: &Err(NotEnvelope::Foreign), retry_after: None }, &[0])
    }

    #[test]
    fn only_status_200_with_a_success_code_and_a_list_is_a_page() {
        let page = Judged { verdict: Verdict::Page, blame: Blame::Nobody, charge: Charge::Billed };
        assert_eq!(on(200, 0, "success", Payload::Rows), page);
        for (status, code, data) in
            [(200, 0, Payload::None), (204, 0, Payload::Rows), (500, 0, Payload::Rows), (200, 7, Payload::Rows)]
        {
            assert_ne!(on(status, code, "", data).verdict, Verdict::Page, "{status} {code}");
        }
    }

    /// What a refusal by this number means, written down a second time: as an envelope, and as a bare status.
    fn meant(number: u16) -> [(Verdict, Blame); 2] {
        let both = |verdict, blame| [(Verdict::clone(&verdict), blame), (verdict, blame)];
        match number {
            401 | 402 | 403 | 407 => both(Verdict::Stop(StopCause::Account), Blame::Nobody),
            429 => both(Verdict::Throttled(None), Blame::Nobody),
            408 | 425 | 502 | 503 | 504 => both(Verdict::Retry, Blame::Api),
            500.. => [(Verdict::Retry, Blame::Answer), (Verdict::Retry, Blame::Api)],
            400..=499 => [(Verdict::GiveUp, Blame::Item), (Verdict::RetryOnce, Blame::Answer)],
            300..=399 => both(Verdict::Stop(StopCause::Contract), Blame::Nobody),
            _ => both(Verdict::RetryOnce, Blame::Answer),
        }
    }

    #[test]
    fn a4_every_refusal_has_a_meaning_for_its_item_for_the_api_or_for_the_run() {
        for status in [404, 405, 410, 413, 414, 418, 451] {
            let refused = on(status, i64::from(status), "", Payload::None);
            let meant = Judged { verdict: Verdict::GiveUp, blame: Blame::Item, charge: Charge::Free };
            assert_eq!(refused, meant, "{status} in the API's words is that item's end, and free");
            let meant = Judged { verdict: Verdict::RetryOnce, blame: Blame::Answer, charge: Charge::InDoubt };
            assert_eq!(bare(status), meant, "{status} without them may be another server's");
        }
        for status in [401, 402, 403] {
            assert_eq!(bare(status).verdict, Verdict::Stop(StopCause::Account));
            assert_eq!(on(status, 0, "", Payload::None).verdict, Verdict::Stop(StopCause::Account));
        }
    }

    #[test]
    fn a11_every_status_from_100_to_599_has_its_meaning_with_and_without_an_envelope() {
        for status in 100..=599 {
            let [enveloped, without] = meant(status);
            let judged = on(status, i64::from(status), "", Payload::None);
            // A code that is no HTTP status inside a 200 is a refusal, whatever it means.
            let enveloped = if status == 200 { (Verdict::GiveUp, Blame::Item) } else { enveloped };
            assert_eq!(
                (judged.verdict, judged.blame, judged.charge),
                (enveloped.0, enveloped.1, Charge::Free),
                "{status}"
            );
            let judged = bare(status);
            let charge = if status == 429 { Charge::Free } else { Charge::InDoubt };
            assert_eq!((judged.verdict, judged.blame, judged.charge), (without.0, without.1, charge), "bare {status}");
        }
    }

    #[test]
    fn a12_of_the_status_and_the_code_in_the_body_the_stricter_wins() {
        // By strictness, the mildest first. Inside a 200 the code alone speaks.
        let numbers = [200, 500, 502, 503, 400, 404, 429, 401, 402, 403];
        let rank = |number: u16| match number {
            500.. => 1,
            429 => 3,
            401..=403 => 4,
            400 | 404 => 2,
            _ => 0,
        };
        for status in numbers {
            for code in numbers {
                let judged = on(status, i64::from(code), "", Payload::None);
                let stricter = if rank(code) >= rank(status) { code } else { status };
                let meant = if code == 200 && status == 200 { Verdict::GiveUp } else { meant(stricter)[0].0.clone() };
                assert_eq!((judged.verdict, judged.charge), (meant, Charge::Free), "HTTP {status}, code {code}");
            }
        }
    }

    #[test]
    fn a13_an_answer_without_a_list_is_asked_for_once_more_and_may_have_been_billed() {
        let judged = on(200, 0, "success", Payload::None);
        assert_eq!(judged, Judged { verdict: Verdict::RetryOnce, blame: Blame::Item, charge: Charge::InDoubt });
    }

    #[test]
    fn a_500_that_speaks_of_a_used_up_quota_stops_the_run() {
        assert_eq!(on(500, 500, "Usage Limit Exceeded", Payload::None).verdict, Verdict::Stop(StopCause::Account));
        assert_eq!(
            on(200, 500, "apiKey quota is not enough", Payload::None).verdict,
            Verdict::Stop(StopCause::Account)
        );
    }

    #[test]
    fn words_of_a_used_up_quota_are_no_end_of_a_key_in_a_429_or_under_a_code_of_the_api_s_own() {
        for (status, code) in [(429, 429), (429, 500), (429, 10_005), (200, 429), (500, 429)] {
            assert_eq!(on(status, code, "QPS quota exceeded", Payload::None).verdict, Verdict::Throttled(None));
        }
        for code in [10_005, 600, 499_001] {
            let refused = on(200, code, "quota exceeded", Payload::None);
            assert_eq!((refused.verdict, refused.blame), (Verdict::GiveUp, Blame::Item), "{code}");
        }
    }

    #[test]
    fn a_code_below_400_inside_a_200_is_a_refusal_of_that_item_and_no_redirect() {
        for code in [1, 100, 204, 300, 302, 399] {
            assert_eq!(on(200, code, "see other", Payload::None).verdict, Verdict::GiveUp, "{code}");
        }
        assert_eq!(on(302, 302, "moved", Payload::None).verdict, Verdict::Stop(StopCause::Contract));
    }

    #[test]
    fn a_200_without_an_envelope_is_asked_for_once_more_whatever_it_holds() {
        for (not, verdict) in [
            (NotEnvelope::Foreign, Verdict::RetryOnce),
            (NotEnvelope::Empty, Verdict::RetryOnce),
            (NotEnvelope::Truncated, Verdict::RetryOnce),
        ] {
            let judged = judge(&Outcome::Answer { status: 200, envelope: &Err(not), retry_after: None }, &[0]);
            assert_eq!(judged.verdict, verdict);
        }
    }

    #[test]
    fn what_never_left_is_free_and_what_may_have_arrived_is_in_doubt() {
        let charge = |lost| judge(&Outcome::Lost(lost), &[0]).charge;
        for lost in [Lost::Unsent, Lost::Connect, Lost::Tls, Lost::Proxy] {
            assert_eq!(charge(lost), Charge::Free, "{lost:?}");
        }
        for lost in [Lost::Transport, Lost::Timeout, Lost::Unreadable, Lost::TooLarge, Lost::Redirect] {
            assert_eq!(charge(lost), Charge::InDoubt, "{lost:?}");
        }
    }
}
