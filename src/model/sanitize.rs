//! Makes text from outside safe to show.
//!
//! Text of a server, a list or a file may contain terminal escapes, forged log lines or an echoed API key. Whatever prints
//! such text uses [`Sanitized`], or [`json`] where a program needs the exact text.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::sync::OnceLock;

use bytes::Bytes;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

/// Longest text shown, characters.
pub const LIMIT: usize = 200;
/// Longest error shown with its causes, characters: one may have several paths, and a list of columns.
pub const LONGEST_ERROR: usize = 1_000;
/// Bytes to search for keys where only a beginning is shown.
const SEARCHED: usize = 4_096;
/// Separates the details of one response in a message. The text before it is the same for all responses of one kind.
pub const DETAILS: &str = "; page ";
/// Maximum marks on one letter. Scripts that stack them need at most three.
const MAX_MARKS: usize = 3;

/// How the provider's keys start; what follows is hidden.
pub const KEY_PREFIX: &str = "sk_live_";
/// The text that replaces a key.
const HIDDEN: &str = "sk_live_***";

/// Minimum characters of a key that is hidden. A shorter one, as of a test's server, may be in data by chance: hiding `x` would
/// change every row with an `x`. Random keys of this length do not occur by chance.
pub const SHORTEST_HIDDEN: usize = 12;

/// The key of this process.
static KEY: OnceLock<SecretString> = OnceLock::new();

/// A text from outside that shows itself on one line, without control, format or direction characters, without keys, and
/// no longer than [`LIMIT`] characters.
#[derive(Clone, Copy, Debug)]
pub struct Sanitized<'a>(pub &'a str);

impl fmt::Display for Sanitized<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(self.0, LIMIT, f)
    }
}

/// Writes at most `limit` characters of a text. Characters that are not harmless become U+FFFD, white space a space.
fn show(text: &str, limit: usize, to: &mut impl fmt::Write) -> fmt::Result {
    let text = without_key(text);
    let mut marks = 0;
    for (at, c) in text.chars().enumerate() {
        if at == limit {
            return to.write_char('…');
        }
        let kind = Kind::new(c);
        marks = if kind == Kind::Mark { marks + 1 } else { 0 };
        to.write_char(match kind {
            Kind::Plain => c,
            Kind::Mark if marks <= MAX_MARKS && at > 0 => c,
            Kind::Space => ' ',
            Kind::Mark | Kind::Hidden => '\u{fffd}',
        })?;
    }
    Ok(())
}

/// What a character does to the text around it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Shown as it is.
    Plain,
    /// Shown on the character before it.
    Mark,
    /// White space other than a plain space.
    Space,
    /// A control, format, private or unassigned character, or an invisible one.
    Hidden,
}

impl Kind {
    /// `escape_debug` of the standard library leaves printable characters as they are. It escapes a mark only if there is no
    /// character before it.
    fn new(c: char) -> Self {
        if matches!(c, '\'' | '"' | '\\') || c.escape_debug().len() == 1 {
            return Self::Plain;
        }
        let mut on_a_letter = String::from("a");
        on_a_letter.push(c);
        if on_a_letter.escape_debug().count() == 2 {
            Self::Mark
        } else if c.is_whitespace() && !c.is_control() {
            Self::Space
        } else {
            Self::Hidden
        }
    }
}

/// A value as JSON on one line. Its texts are exact; characters that affect a terminal or a log are escaped.
pub fn json(value: &impl Serialize) -> String {
    struct Escaping;
    impl Formatter for Escaping {
        fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
            for c in fragment.chars() {
                if Kind::new(c) == Kind::Plain {
                    write!(writer, "{c}")?;
                } else {
                    c.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| write!(writer, "\\u{unit:04x}"))?;
                }
            }
            Ok(())
        }
    }
    let mut text = Vec::new();
    let written = value.serialize(&mut Serializer::with_formatter(&mut text, Escaping));
    // Fails only for a map whose keys are not texts.
    if written.is_err() { "null".to_owned() } else { String::from_utf8_lossy(&text).into_owned() }
}

/// Hides this key in all text that is sanitised from now on, unless it is shorter than [`SHORTEST_HIDDEN`]. A process has one
/// key: later calls have no effect.
pub fn hide(key: &SecretString) {
    if key.expose_secret().len() >= SHORTEST_HIDDEN {
        KEY.set(key.clone()).ok();
    }
}

/// A text without this process's key.
fn without_own_key(text: &str) -> Cow<'_, str> {
    match KEY.get().map(ExposeSecret::expose_secret) {
        Some(key) if text.contains(key) => Cow::Owned(text.replace(key, HIDDEN)),
        Some(_) | None => Cow::Borrowed(text),
    }
}

/// A text without this process's key, and without anything else that looks like a key.
fn without_key(text: &str) -> Cow<'_, str> {
    let text = without_own_key(text);
    if !text.contains(KEY_PREFIX) {
        return text;
    }
    let mut parts = text.split(KEY_PREFIX);
    let first = parts.next().unwrap_or_default().to_owned();
    let is_of_key = |c: char| c.is_ascii_alphanumeric() || "_-*".contains(c);
    Cow::Owned(parts.fold(first, |text, part| text + HIDDEN + part.trim_start_matches(is_of_key)))
}

/// A body without the key, which a server may have echoed: no file may contain it.
pub fn redact(body: Bytes) -> Bytes {
    let key = KEY.get().map(|key| key.expose_secret().as_bytes());
    if key.is_none_or(|key| memchr::memmem::find(&body, key).is_none()) {
        return body;
    }
    let text = String::from_utf8_lossy(&body);
    Bytes::from(without_own_key(&text).into_owned())
}

/// An error and its causes on one line, sanitised. A cause that the text before it ends with is not repeated.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.ends_with(&message) {
            text = format!("{text}: {message}");
        }
        cause = error.source();
    }
    shown(&text, LONGEST_ERROR)
}

/// The first characters of bytes from outside, sanitised, with one space for any white space.
pub fn beginning(bytes: &[u8], characters: usize) -> String {
    // More bytes are searched than shown, so that no key is cut before it is found.
    let text = String::from_utf8_lossy(bytes.get(..SEARCHED.min(bytes.len())).unwrap_or_default());
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    shown(&text, characters)
}

fn shown(text: &str, limit: usize) -> String {
    let mut shown = String::new();
    show(text, limit, &mut shown).ok(); // writing to a String cannot fail
    shown
}

/// [`Sanitized`] as an owned text, for what is stored and shown later.
pub fn sanitize(text: &str) -> String {
    Sanitized(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::{HIDDEN, LIMIT, LONGEST_ERROR, chain, json, sanitize};
    use proptest::prelude::*;

    #[test]
    fn text_that_people_write_is_shown_as_it_is() {
        let texts = [
            "Promo ☺ #été",
            "\"C:\\x\" 'y'",
            "ราคาที่ดีที่สุด",
            "देवनागरी",
            "العربية",
            "日本語",
            "e\u{301}",
            "👍🏽 ok",
            "Tiếng Việt",
        ];
        for text in texts {
            assert_eq!(sanitize(text), text);
        }
        assert_eq!(sanitize("a\u{a0}b\u{3000}c\u{2028}d"), "a b c d");
    }

    #[test]
    fn marks_are_shown_on_a_letter_and_no_more_of_them_than_a_script_needs() {
        assert_eq!(sanitize("a\u{301}\u{302}\u{303}\u{304}\u{305}b"), "a\u{301}\u{302}\u{303}\u{fffd}\u{fffd}b");
        assert_eq!(sanitize("\u{301}a"), "\u{fffd}a");
    }

    #[test]
    fn an_echoed_key_is_hidden_and_long_text_is_cut_however_many_keys_it_holds() {
        assert_eq!(sanitize("bad key sk_live_abc-123, sorry"), "bad key sk_live_***, sorry");
        assert_eq!(sanitize(&"x".repeat(500)).chars().count(), LIMIT + 1);
        let many = sanitize(&"sk_live_a ".repeat(500));
        assert!(many.starts_with(HIDDEN) && many.chars().count() == LIMIT + 1);
    }

    #[test]
    fn an_error_with_its_causes_is_one_line_that_ends() {
        let inner = std::io::Error::other("\u{1b}[2J\n".repeat(LONGEST_ERROR));
        let shown = chain(&crate::state::disk::DiskError { action: "write", path: "a\nb".into(), source: inner });
        assert!(
            shown.starts_with("write a\u{fffd}b: \u{fffd}[2J\u{fffd}") && shown.chars().count() == LONGEST_ERROR + 1
        );
    }

    #[test]
    fn json_is_exact_and_has_nothing_that_a_terminal_acts_on() {
        let text = "a\u{1b}\u{7f}\u{9b}\u{202e}\u{e0041}\u{2028}é\"\\\n👍";
        let shown = json(&[text]);
        assert_eq!(shown, "[\"a\\u001b\\u007f\\u009b\\u202e\\udb40\\udc41\\u2028é\\\"\\\\\\n👍\"]");
        assert_eq!(serde_json::from_str::<Vec<String>>(&shown).unwrap(), [text]);
    }

    proptest! {
        #[test]
        fn whatever_comes_in_one_line_without_controls_goes_out(text in any::<String>(), repeat in 1_usize..50) {
            let text = text.repeat(repeat);
            let shown = sanitize(&text);
            prop_assert!(shown.chars().count() <= LIMIT + 1);
            prop_assert!(!shown.chars().any(char::is_control));
            prop_assert_eq!(sanitize(&shown).chars().count(), shown.chars().count());
            let exact = json(&text);
            prop_assert!(!exact.chars().any(char::is_control));
            prop_assert_eq!(serde_json::from_str::<String>(&exact).unwrap(), text);
        }
    }
}
