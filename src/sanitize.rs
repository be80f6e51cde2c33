//! Text from outside, made safe to show.
//!
//! Whatever a server, a list or a file says may carry terminal escapes, forged log lines or an echoed key. Everything
//! that prints such text goes through [`Sanitized`]; nothing else may.

use std::borrow::Cow;
use std::fmt;
use std::sync::OnceLock;

use bytes::Bytes;
use secrecy::{ExposeSecret, SecretString};

/// Longest text shown, in characters.
const LIMIT: usize = 200;

/// How the provider's keys begin; what follows is hidden.
const KEY_PREFIX: &str = "sk_live_";
/// What stands in its place.
const HIDDEN: &str = "sk_live_***";

/// The key of this process.
static KEY: OnceLock<SecretString> = OnceLock::new();

/// A text from outside that shows itself on one line, without control or direction characters, without keys, and
/// no longer than 200 characters.
#[derive(Clone, Copy, Debug)]
pub struct Sanitized<'a>(pub &'a str);

impl fmt::Display for Sanitized<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        let text = without_key(self.0);
        let mut shown = 0;
        for (at, part) in text.split(KEY_PREFIX).enumerate() {
            let part = if at == 0 {
                part
            } else {
                f.write_str(HIDDEN)?;
                part.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || "_-*".contains(c))
            };
            for c in part.chars() {
                if shown == LIMIT {
                    return f.write_char('…');
                }
                f.write_char(if is_harmless(c) { c } else { '\u{fffd}' })?;
                shown += 1;
            }
        }
        Ok(())
    }
}

/// Hides this key in everything that is sanitised from now on, whatever it looks like. The first one counts.
pub fn hide(key: &SecretString) {
    KEY.set(key.clone()).ok();
}

fn without_key(text: &str) -> Cow<'_, str> {
    match KEY.get().map(ExposeSecret::expose_secret) {
        Some(key) if text.contains(key) => Cow::Owned(text.replace(key, HIDDEN)),
        Some(_) | None => Cow::Borrowed(text),
    }
}

/// A body without the key that a server may have repeated in it: what is kept must not hold it.
pub fn redact(body: Bytes) -> Bytes {
    let key = KEY.get().map(|key| key.expose_secret().as_bytes());
    if key.is_none_or(|key| memchr::memmem::find(&body, key).is_none()) {
        return body;
    }
    let text = String::from_utf8_lossy(&body);
    Bytes::from(without_key(&text).into_owned())
}

/// Not a control character, a line separator or one that turns the direction of text (Unicode UAX 9).
fn is_harmless(c: char) -> bool {
    !(c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'))
}

/// An error and its causes on one line, sanitised. A cause that the text before it ends with is not said twice.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.ends_with(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    sanitize(&text)
}

/// [`Sanitized`] as an owned text, for what is stored and shown later.
pub fn sanitize(text: &str) -> String {
    Sanitized(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::sanitize;

    #[test]
    fn escapes_new_lines_and_direction_marks_do_not_reach_the_terminal() {
        for hostile in ["\u{1b}]52;c;AAAA\u{7}", "a\r\nINFO forged", "\u{9b}31m", "\u{202e}gpj.exe", "x\u{2028}y"] {
            let shown = sanitize(hostile);
            assert!(!shown.chars().any(|c| c.is_control() || c == '\u{202e}' || c == '\u{2028}'), "{shown:?}");
        }
    }

    #[test]
    fn an_echoed_key_is_hidden_and_long_text_is_cut() {
        assert_eq!(sanitize("bad key sk_live_abc-123, sorry"), "bad key sk_live_***, sorry");
        assert_eq!(sanitize(&"x".repeat(500)).chars().count(), 201);
    }
}
