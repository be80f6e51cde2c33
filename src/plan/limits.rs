//! Whether the limits that an export was given allow what it will cost.

use std::fmt;
use std::time::Duration;

use indicatif::HumanCount;
use serde::Serialize;

use super::range::Range;

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Limited {
    /// Credits of the export, over all its runs.
    Credits,
    /// Seconds of this run, from now on.
    Seconds,
}

/// Whether a limit is enough, in nine of ten cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Enough {
    Yes,
    Perhaps,
    No,
}

/// A limit that was given, and whether it allows what the export will cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct GivenLimit {
    /// The setting.
    pub name: &'static str,
    pub limited: Limited,
    pub allows: u64,
    pub is_enough: Enough,
}

impl GivenLimit {
    pub(super) fn new((name, limited, allows): (&'static str, Limited, u64), needed: Range) -> Self {
        let is_enough = match allows {
            _ if allows >= needed.high => Enough::Yes,
            _ if allows >= needed.low => Enough::Perhaps,
            _ => Enough::No,
        };
        Self { name, limited, allows, is_enough }
    }

    /// The same, if the range is too low by what is not known.
    pub(super) fn without_rate(self) -> Self {
        Self { is_enough: if self.is_enough == Enough::No { Enough::No } else { Enough::Perhaps }, ..self }
    }
}

impl fmt::Display for GivenLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.limited {
            Limited::Credits => write!(f, "{} of {} credits", self.name, HumanCount(self.allows))?,
            Limited::Seconds => {
                let left = humantime::format_duration(Duration::from_secs(self.allows));
                write!(f, "{} in {left}", self.name)?;
            }
        }
        f.write_str(match self.is_enough {
            Enough::Yes => ": enough",
            Enough::Perhaps => ": PERHAPS NOT ENOUGH; the export ends there with exit code 6, and can be resumed",
            Enough::No => ": NOT ENOUGH; the export ends there with exit code 6, and can be resumed",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Enough, GivenLimit, Limited};
    use crate::plan::range::Range;

    #[test]
    fn a_limit_is_enough_from_the_end_of_the_range_on_and_not_before_its_start() {
        let needed = Range { estimate: 100, low: 50, high: 200 };
        let judge = |allows| GivenLimit::new(("max_credits", Limited::Credits, allows), needed);
        let all = [0, 49, 50, 199, 200, u64::MAX].map(|allows| judge(allows).is_enough);
        assert_eq!(all, [Enough::No, Enough::No, Enough::Perhaps, Enough::Perhaps, Enough::Yes, Enough::Yes]);
        let all = [49, 50, 200].map(|allows| judge(allows).without_rate().is_enough);
        assert_eq!(all, [Enough::No, Enough::Perhaps, Enough::Perhaps]);
    }

    #[test]
    fn the_text_names_the_setting_and_what_follows() {
        let needed = Range::exactly(7_200);
        let text = |limit| GivenLimit::new(limit, needed).to_string();
        assert_eq!(text(("max_credits", Limited::Credits, 10_000)), "max_credits of 10,000 credits: enough");
        assert_eq!(
            text(("deadline", Limited::Seconds, 3_660)),
            "deadline in 1h 1m: NOT ENOUGH; the export ends there with exit code 6, and can be resumed"
        );
    }
}
