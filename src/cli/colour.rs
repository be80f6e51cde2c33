//! The one word of a text that has a colour, on a terminal that shows colours. `NO_COLOR` and `CLICOLOR_FORCE` decide otherwise.

use std::io::{stderr, stdout};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};

use crate::model::exit_code::ExitCode;

/// How something ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    Good,
    Incomplete,
    Bad,
}

impl From<ExitCode> for Mood {
    fn from(code: ExitCode) -> Self {
        match code {
            ExitCode::Complete => Self::Good,
            ExitCode::Partial
            | ExitCode::Busy
            | ExitCode::Temporary
            | ExitCode::Limit
            | ExitCode::Interrupted
            | ExitCode::Terminated => Self::Incomplete,
            ExitCode::Internal
            | ExitCode::Usage
            | ExitCode::Account
            | ExitCode::Storage
            | ExitCode::Integrity
            | ExitCode::Contract => Self::Bad,
        }
    }
}

impl Mood {
    fn style(self) -> Style {
        let colour = match self {
            Self::Good => AnsiColor::Green,
            Self::Incomplete => AnsiColor::Yellow,
            Self::Bad => AnsiColor::Red,
        };
        colour.on_default().bold()
    }
}

/// A text for stderr. The word is coloured if the text begins with it.
pub(super) fn on_stderr(text: String, word: &str, mood: Mood) -> String {
    if AutoStream::choice(&stderr()) == ColorChoice::Never { text } else { coloured(text, word, mood) }
}

/// The same for stdout.
pub(super) fn on_stdout(text: String, word: &str, mood: Mood) -> String {
    if AutoStream::choice(&stdout()) == ColorChoice::Never { text } else { coloured(text, word, mood) }
}

fn coloured(text: String, word: &str, mood: Mood) -> String {
    let style = mood.style();
    let rest = text.strip_prefix(word).filter(|_| !word.is_empty());
    rest.map(|rest| format!("{style}{word}{style:#}{rest}")).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::{Mood, coloured};

    #[test]
    fn only_the_first_word_has_a_colour_and_only_if_it_is_the_expected_one() {
        let text = || "complete\n  products  1".to_owned();
        assert_eq!(coloured(text(), "complete", Mood::Good), "\x1b[1m\x1b[32mcomplete\x1b[0m\n  products  1");
        assert_eq!(coloured(text(), "partial", Mood::Incomplete), text());
        assert_eq!(coloured(text(), "", Mood::Bad), text());
    }
}
