//! The form of an id: a regular expression that the whole id must match.
//!
//! A request for something that cannot be an id costs a credit and returns nothing, so each entry of a list is checked while
//! the list is read. The form is not part of an export's identity.

use std::fmt;

use regex::bytes::{Regex, RegexBuilder};
use serde::Deserialize;

#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct IdPattern {
    text: String,
    whole: Regex,
}

impl IdPattern {
    /// Compiles an expression. Classes are ASCII only: `\d` is 0 to 9. The error is one line.
    pub fn new(text: &str) -> Result<Self, String> {
        // Compiled alone first, so that it cannot close the group around it.
        compile(text)?;
        Ok(Self { text: text.to_owned(), whole: compile(&format!(r"\A(?:{text})\z"))? })
    }

    /// Whether the whole id matches.
    pub fn fits(&self, id: &str) -> bool {
        self.whole.is_match(id.as_bytes())
    }
}

impl fmt::Display for IdPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for IdPattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::new(&text)
    }
}

fn compile(text: &str) -> Result<Regex, String> {
    RegexBuilder::new(text).unicode(false).build().map_err(|error| {
        let error = error.to_string(); // several lines, with the reason on the last one
        let reason = error.lines().last().unwrap_or_default().trim();
        format!("form is not a regular expression: {}", reason.strip_prefix("error: ").unwrap_or(reason))
    })
}

#[cfg(test)]
mod tests {
    use super::IdPattern;

    #[test]
    fn a_whole_id_must_match() {
        let digits = IdPattern::new("[0-9]{1,32}").unwrap();
        for id in ["0", "1729382310407603945", &"7".repeat(32)] {
            assert!(digits.fits(id), "{id}");
        }
        for id in ["", "17 ", " 17", "17\n", "17x", "x17", "1.7e18", "١٧", &"7".repeat(33)] {
            assert!(!digits.fits(id), "{id:?}");
        }
        let either = IdPattern::new("a|ab").unwrap();
        assert!(either.fits("a") && either.fits("ab") && !either.fits("abb"));
        assert!(IdPattern::new(r"\d+").unwrap().fits("17") && !IdPattern::new(r"\d+").unwrap().fits("١٧"));
        assert!(IdPattern::new("é+").unwrap().fits("éé") && IdPattern::new("(?i)[a-f]+").unwrap().fits("Ab"));
        assert_eq!(either.to_string(), "a|ab");
    }

    #[test]
    fn an_invalid_expression_is_refused_in_one_line_with_the_reason() {
        for (text, reason) in [
            ("[0-9", "unclosed character class"),
            ("a)|(b", "unopened group"),
            ("*", "repetition operator missing expression"),
            ("(?x)a # b", "unclosed group"),
            (r"(a)\1", "backreferences are not supported"),
            ("[0-9]{1,999}{1,999}", "size limit"),
        ] {
            let error = IdPattern::new(text).unwrap_err();
            assert!(error.starts_with("form is not a regular expression: ") && error.contains(reason), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
