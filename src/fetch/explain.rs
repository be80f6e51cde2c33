//! Explains to a person why a response is not a page: what it is, what it looks like, and what helps.

use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::HashMap;

use crate::decode::envelope::{DATA, Envelope, NotEnvelope, Payload};
use crate::decode::lenient_json;
use crate::fetch::RawResponse;
use crate::model::page::PageNum;
use crate::model::sanitize::{DETAILS, Sanitized, beginning};

/// Characters of a body that are shown.
const BODY_SHOWN: usize = 80;
/// Characters of a content type or encoding that are shown.
const HEADER_SHOWN: usize = 40;

/// The message for a response that is not a page: its kind, then [`DETAILS`] and what differs between responses of one kind.
pub(crate) fn explain(
    response: &RawResponse,
    envelope: &Result<Envelope, NotEnvelope>,
    page: PageNum,
    success: &[i64],
) -> String {
    let (status, wait) = (response.status, wait(response));
    match envelope {
        Ok(Envelope { code: Some(code), data: Payload::None | Payload::Other, .. })
            if (200..=299).contains(&status) && success.contains(code) =>
        {
            format!("HTTP {status}, code {code}: {}{DETAILS}{page}{wait}", data(&response.body))
        }
        Ok(envelope) => {
            let (code, message) = (envelope.code.unwrap_or_default(), Sanitized(&envelope.message));
            let page = if wait.is_empty() { String::new() } else { format!("{DETAILS}{page}") };
            format!("HTTP {status}, code {code}: {message}{page}{wait}")
        }
        Err(NotEnvelope::Compressed) => {
            format!("HTTP {status}: {}{DETAILS}{page}{wait}{}", compressed(response), content_type(response))
        }
        Err(not @ NotEnvelope::Empty) => format!("HTTP {status}: {not}{DETAILS}{page}{wait}"),
        Err(not @ (NotEnvelope::Truncated | NotEnvelope::Foreign)) => {
            let (content_type, begins) = (content_type(response), beginning(&response.body, BODY_SHOWN));
            match coding(response).filter(|_| is_binary(&response.body)) {
                Some(coding) => {
                    format!("HTTP {status}: {}{DETAILS}{page}{wait}{content_type}", with_coding(&coding))
                }
                None => format!("HTTP {status}: {not}{DETAILS}{page}{wait}{content_type}, begins: {begins}"),
            }
        }
    }
}

/// The part of a message before its details.
pub(crate) fn kind(message: &str) -> &str {
    message.split_once(DETAILS).map_or(message, |(kind, _)| kind)
}

fn wait(response: &RawResponse) -> String {
    response.retry_after.map(|wait| format!(", the server asks for a wait of {wait:.0?}")).unwrap_or_default()
}

/// What `data` is instead of a list.
fn data(body: &[u8]) -> String {
    let text = lenient_json::text(body);
    let fields = serde_json::from_str::<HashMap<Cow<'_, str>, &RawValue>>(&text).unwrap_or_default();
    let kind = match fields.get(DATA).and_then(|data| data.get().as_bytes().first()) {
        None => return "no list of rows".to_owned(),
        Some(b'{') => "an object",
        Some(b'"') => "a string",
        Some(b'n') => "null",
        Some(b't' | b'f') => "true or false",
        Some(_) => "a number",
    };
    format!("data is {kind}, not a list of rows")
}

/// What a body that starts like a compressed one is compressed with.
fn compressed(response: &RawResponse) -> String {
    let is_gzip = response.body.starts_with(b"\x1f\x8b");
    let name = if is_gzip { "gzip" } else { "zstd" };
    match coding(response) {
        Some(coding) => with_coding(&coding),
        None => format!("the body is compressed with {name}, which was not requested and which its headers do not say"),
    }
}

/// `Content-Encoding`, in lower case, unless it says that there is none.
fn coding(response: &RawResponse) -> Option<String> {
    let coding = response.content.coding.as_deref()?.trim().to_ascii_lowercase();
    Some(coding).filter(|coding| !coding.is_empty() && coding != "identity")
}

/// Whether a body does not start like text. The label alone does not show that a body is compressed.
fn is_binary(body: &[u8]) -> bool {
    let text = String::from_utf8_lossy(body.get(..BODY_SHOWN.min(body.len())).unwrap_or_default());
    text.trim_end_matches('\u{fffd}').contains(|c: char| c == '\u{fffd}' || c.is_control() && !c.is_whitespace())
}

fn with_coding(coding: &str) -> String {
    let help = match coding {
        "gzip" | "x-gzip" | "zstd" => "run again with --compressed",
        _ => "only gzip and zstd can be read (--compressed)",
    };
    format!(
        "the body is compressed with {}, which was not requested: {help}",
        beginning(coding.as_bytes(), HEADER_SHOWN)
    )
}

/// The content type, for the end of a message.
fn content_type(response: &RawResponse) -> String {
    let kind = response.content.kind.as_deref().unwrap_or_default();
    let kind = beginning(kind.split(';').next().unwrap_or_default().as_bytes(), HEADER_SHOWN);
    if kind.is_empty() { ", no content type".to_owned() } else { format!(", {kind}") }
}

#[cfg(test)]
mod tests {
    use super::{explain, kind};
    use crate::decode::envelope;
    use crate::fetch::{ContentHeaders, RawResponse};
    use crate::model::page::PageNum;
    use std::time::Duration;

    fn message(status: u16, head: (&str, &str, u64), body: &[u8]) -> String {
        let (kind, coding, wait) = head;
        let named = |text: &str| Some(text.into()).filter(|_| !text.is_empty());
        let content = ContentHeaders { kind: named(kind), coding: named(coding) };
        let retry_after = Some(Duration::from_secs(wait)).filter(|wait| !wait.is_zero());
        let body = bytes::Bytes::copy_from_slice(body);
        let answer = RawResponse { status, retry_after, content, body, share: None };
        explain(&answer, &envelope::read(&answer.body), PageNum(3), &[0])
    }

    #[test]
    fn a_foreign_body_is_shown_by_its_type_and_first_characters_with_page_and_wait() {
        let html = b"<!DOCTYPE html>\n  <html>\x1b[2J<head>";
        assert_eq!(
            message(503, ("text/html; charset=utf-8", "", 30), html),
            "HTTP 503: the body is not the documented envelope; page 3, the server asks for a wait of 30s, text/html, \
             begins: <!DOCTYPE html> <html>\u{fffd}[2J<head>"
        );
        let long = message(200, ("", "", 0), "é".repeat(500).as_bytes());
        assert!(long.ends_with(&format!("no content type, begins: {}…", "é".repeat(80))), "{long}");
        let cut = message(200, ("application/json", "", 0), b"{\"code\":0,\"data\":[{\"a\":1");
        assert_eq!(
            cut,
            "HTTP 200: the body is truncated; page 3, application/json, begins: {\"code\":0,\"data\":[{\"a\":1"
        );
        assert_eq!(message(502, ("", "", 0), b""), "HTTP 502: the body is empty; page 3");
    }

    #[test]
    fn a_body_that_is_compressed_unasked_is_said_to_be_so_by_the_name_of_its_coding_and_what_helps() {
        let help = "which was not requested: run again with --compressed; page 3";
        for (coding, magic) in [("gzip", &b"\x1f\x8b\x08"[..]), ("zstd", b"\x28\xb5\x2f\xfd")] {
            let named = message(200, ("application/json", coding, 0), magic);
            assert_eq!(named, format!("HTTP 200: the body is compressed with {coding}, {help}, application/json"));
            let bare = message(200, ("", "", 0), magic);
            assert!(bare.contains(&format!("compressed with {coding}, which was not requested and which")), "{bare}");
        }
        for coding in ["deflate", "br", "x\u{1b}"] {
            let named = message(200, ("", coding, 0), b"\x78\x9c\x00\x01");
            let shown = coding.replace('\u{1b}', "\u{fffd}");
            assert!(named.contains(&format!("compressed with {shown}, which was not requested: only gzip")), "{named}");
        }
        assert!(message(200, ("", "gzip", 0), b"<html> by mistake").ends_with("begins: <html> by mistake"));
    }

    #[test]
    fn what_stands_under_data_instead_of_a_list_is_named() {
        for (data, is) in [
            ("{\"list\":[]}", "an object"),
            ("\"x\"", "a string"),
            ("7", "a number"),
            ("true", "true or false"),
            ("null", "null"),
        ] {
            let message = message(200, ("", "", 0), format!("{{\"code\":0,\"data\":{data}}}").as_bytes());
            assert_eq!(message, format!("HTTP 200, code 0: data is {is}, not a list of rows; page 3"));
        }
        assert_eq!(message(200, ("", "", 0), b"{\"code\":0}"), "HTTP 200, code 0: no list of rows; page 3");
    }

    #[test]
    fn answers_of_one_kind_have_one_kind_whatever_their_page_wait_and_text() {
        let one = message(503, ("text/html", "", 30), b"<html>trace abc");
        let other = message(503, ("", "", 0), b"other words");
        assert_eq!(kind(&one), kind(&other));
        assert_ne!(kind(&one), kind(&message(503, ("", "", 0), b"")));
        assert_eq!(
            kind(&message(429, ("", "", 9), b"{\"code\":429,\"message\":\"slow\"}")),
            "HTTP 429, code 429: slow"
        );
    }
}
