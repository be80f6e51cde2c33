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
    /// The connection broke after the request was sent.
    Transport,
    /// No whole answer in time.
    Timeout,
    /// The body is larger than the cap.
    TooLarge,
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

/// An outcome's meaning and its price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// What to do.
    pub verdict: Verdict,
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
    let (verdict, charge) = match lost {
        Lost::Unsent => (Verdict::Unsent, Charge::Free),
        Lost::Connect => (Verdict::Retry, Charge::Free),
        Lost::Tls => (Verdict::Stop(StopCause::Account), Charge::Free),
        Lost::Transport | Lost::Timeout => (Verdict::Retry, Charge::InDoubt),
        Lost::TooLarge => (Verdict::RetryOnce, Charge::InDoubt),
    };
    Judged { verdict, charge }
}

/// A body that is no envelope: only the status speaks. All but a 429 may have been billed (promise P5).
fn judge_bare(status: u16, retry_after: Option<Duration>) -> Judged {
    let verdict = if (200..=299).contains(&status) { Verdict::RetryOnce } else { by_status(status, retry_after) };
    let charge = if status == 429 { Charge::Free } else { Charge::InDoubt };
    Judged { verdict, charge }
}

/// An envelope: success needs status 200, a success code and a list; a code that is no success is never billed.
fn judge_envelope(status: u16, envelope: &Envelope, retry_after: Option<Duration>, success: &[i64]) -> Judged {
    let code = envelope.code.unwrap_or_default();
    if success.contains(&code) {
        return match (status, envelope.data) {
            (200, Payload::Rows) => Judged { verdict: Verdict::Page, charge: Charge::Billed },
            (200..=299, _) => Judged { verdict: Verdict::RetryOnce, charge: Charge::InDoubt },
            _ => Judged { verdict: by_status(status, retry_after), charge: Charge::InDoubt },
        };
    }
    if says_used_up(&envelope.message) && (status >= 500 || code >= 500) {
        return Judged { verdict: Verdict::Stop(StopCause::Account), charge: Charge::Free };
    }
    let by_code = u16::try_from(code).ok().filter(|code| (300..=599).contains(code));
    let (inner, outer) = (by_code.map(|code| by_status(code, retry_after)), by_status(status, retry_after));
    let verdict = match inner {
        _ if status == 200 => inner.unwrap_or(Verdict::GiveUp),
        Some(inner) if severity(&inner) >= severity(&outer) => inner,
        Some(_) | None => outer,
    };
    Judged { verdict, charge: Charge::Free }
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
    use super::{Judged, Lost, Outcome, StopCause, Verdict, judge};
    use crate::envelope::{Envelope, NotEnvelope, Payload};
    use crate::page::Charge;

    fn on(status: u16, code: i64, message: &str, data: Payload) -> Judged {
        let envelope = Ok(Envelope { code: Some(code), message: message.to_owned(), data });
        judge(&Outcome::Answer { status, envelope: &envelope, retry_after: None }, &[0])
    }

    #[test]
    fn only_status_200_with_a_success_code_and_a_list_is_a_page() {
        assert_eq!(on(200, 0, "success", Payload::Rows), Judged { verdict: Verdict::Page, charge: Charge::Billed });
        for (status, code, data) in
            [(200, 0, Payload::None), (204, 0, Payload::Rows), (500, 0, Payload::Rows), (200, 7, Payload::Rows)]
        {
            assert_ne!(on(status, code, "", data).verdict, Verdict::Page, "{status} {code}");
        }
    }

    #[test]
    fn the_documented_errors_mean_the_same_as_a_status_and_as_a_code_inside_a_200() {
        let stop = || Verdict::Stop(StopCause::Account);
        let table = [
            (400, Verdict::GiveUp),
            (401, stop()),
            (402, stop()),
            (403, stop()),
            (429, Verdict::Throttled(None)),
            (500, Verdict::Retry),
        ];
        for (number, verdict) in table {
            for status in [number, 200] {
                let judged = on(status, i64::from(number), "", Payload::None);
                assert_eq!(judged, Judged { verdict: verdict.clone(), charge: Charge::Free }, "{status} {number}");
            }
        }
    }

    #[test]
    fn where_status_and_code_differ_the_stricter_wins() {
        assert_eq!(on(500, 402, "", Payload::None).verdict, Verdict::Stop(StopCause::Account));
        assert_eq!(on(401, 500, "", Payload::None).verdict, Verdict::Stop(StopCause::Account));
        assert_eq!(on(500, 429, "", Payload::None).verdict, Verdict::Throttled(None));
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
    fn every_status_without_an_envelope_has_a_verdict_and_all_but_429_are_in_doubt() {
        for status in 100..=599 {
            let bare = Err(NotEnvelope::Foreign);
            let judged = judge(&Outcome::Answer { status, envelope: &bare, retry_after: None }, &[0]);
            assert_ne!(judged.verdict, Verdict::Page);
            assert_eq!(judged.charge == Charge::Free, status == 429, "{status}");
        }
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
        assert_eq!([charge(Lost::Unsent), charge(Lost::Connect), charge(Lost::Tls)], [Charge::Free; 3]);
        assert_eq!([charge(Lost::Transport), charge(Lost::Timeout), charge(Lost::TooLarge)], [Charge::InDoubt; 3]);
    }
}
