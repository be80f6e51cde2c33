//! The time at which a run ends: a time of day, or a moment.

use crate::model::clock::{self, Utc64};

/// A day in microseconds.
const DAY: i64 = 24 * 3600 * 1_000_000;
/// The length of `06:00`.
const TIME_OF_DAY: usize = 5;

/// Reads an RFC 3339 time, or a time of day with an offset or in UTC: the next time that a clock there shows it.
pub(super) fn deadline(text: &str) -> Result<Utc64, String> {
    deadline_after(clock::wall(), text).ok_or_else(|| {
        "must be a time of day such as 06:00 (UTC) or 06:00+01:00, or a time such as 2026-11-28T06:00:00Z".to_owned()
    })
}

fn deadline_after(now: Utc64, text: &str) -> Option<Utc64> {
    let Some((time, offset)) = text.split_at_checked(TIME_OF_DAY).filter(|(time, _)| time.contains(':')) else {
        return Utc64::from_rfc_3339(text);
    };
    let offset = if offset.is_empty() { "Z" } else { offset };
    let on_day = |days: i64| {
        let day: String = Utc64(now.0 + days * DAY).to_string().chars().take_while(|c| *c != 'T').collect();
        Utc64::from_rfc_3339(&format!("{day}T{time}:00{offset}"))
    };
    // The date there may be another than in UTC.
    (-1..=2).filter_map(on_day).find(|at| *at > now)
}

#[cfg(test)]
mod tests {
    use super::deadline_after;
    use crate::model::clock::Utc64;

    fn after(now: &str, text: &str) -> Option<String> {
        deadline_after(Utc64::from_rfc_3339(now).unwrap(), text).map(|at| at.to_string())
    }

    #[test]
    fn a_time_of_day_is_the_next_time_that_a_clock_shows_it() {
        let table = [
            ("2026-11-28T00:40:00Z", "06:00", "2026-11-28T06:00:00.000Z"),
            ("2026-11-28T05:59:59.999Z", "06:00Z", "2026-11-28T06:00:00.000Z"),
            ("2026-11-28T06:00:00Z", "06:00", "2026-11-29T06:00:00.000Z"),
            ("2026-11-28T06:00:30Z", "06:00", "2026-11-29T06:00:00.000Z"),
            ("2026-12-31T23:30:00Z", "00:15", "2027-01-01T00:15:00.000Z"),
            ("2026-11-28T00:40:00Z", "06:00+01:00", "2026-11-28T05:00:00.000Z"),
            ("2026-11-28T22:30:00Z", "00:00+01:00", "2026-11-28T23:00:00.000Z"),
            ("2026-11-28T23:30:00Z", "00:00+01:00", "2026-11-29T23:00:00.000Z"),
            ("2026-11-28T01:00:00Z", "18:00-08:00", "2026-11-28T02:00:00.000Z"),
            ("2026-11-28T11:00:00Z", "13:00+14:00", "2026-11-28T23:00:00.000Z"),
        ];
        for (now, text, at) in table {
            assert_eq!(after(now, text).as_deref(), Some(at), "{text} at {now}");
        }
    }

    #[test]
    fn a_moment_is_taken_as_it_is_also_if_it_has_passed() {
        for (text, at) in [
            ("2026-11-28T06:00:00Z", "2026-11-28T06:00:00.000Z"),
            ("2020-01-01T00:00:00+02:00", "2019-12-31T22:00:00.000Z"),
        ] {
            assert_eq!(after("2026-11-28T00:40:00Z", text).as_deref(), Some(at), "{text}");
        }
    }

    #[test]
    fn other_texts_are_no_deadline() {
        let wrong = [
            "",
            "6",
            "6:00",
            "06:60",
            "24:00",
            "0600",
            "06:00:00",
            "06:00 ",
            "06:00+1",
            "06:00+99:99",
            "6am",
            "tomorrow",
            "2026-11-28",
            "2026-11-28T06:00",
            "é6:00",
            "06:0é",
            "-6:00",
            "+6:00",
        ];
        for text in wrong {
            assert_eq!(after("2026-11-28T00:40:00Z", text), None, "{text}");
        }
    }
}
