//! How the numbers of a run are arranged on a terminal of any width.

use indicatif::HumanCount;

use super::live_lines::MARGIN;

const INDENT: &str = "  ";
const GAP: &str = "  ";
/// Columns of a bar.
const LONGEST_BAR: usize = 30;
/// A shorter bar says nothing.
const SHORTEST_BAR: usize = 10;

/// Each group of fields on a line of its own, and on further ones where it is too long. Fields are never divided.
pub(super) fn arranged(groups: &[Vec<String>], width: usize) -> Vec<String> {
    let columns = width.saturating_sub(MARGIN);
    let mut lines = Vec::new();
    for group in groups {
        let mut line = String::new();
        for field in group {
            if line.is_empty() {
                line = format!("{INDENT}{field}");
            } else if line.len() + GAP.len() + field.len() <= columns {
                line = format!("{line}{GAP}{field}");
            } else {
                lines.push(std::mem::replace(&mut line, format!("{INDENT}{field}")));
            }
        }
        lines.push(line);
    }
    lines
}

/// How many of the products have ended, with a bar if there is room for it.
pub(super) fn bar(ended: u64, items: u64, elapsed: String, width: usize) -> Vec<String> {
    let counts = format!("{}/{} products", HumanCount(ended), HumanCount(items));
    let others = INDENT.len() + 2 * GAP.len() + counts.len() + elapsed.len();
    let room = width.saturating_sub(MARGIN + others).min(LONGEST_BAR);
    if room < SHORTEST_BAR {
        return vec![counts, elapsed];
    }
    let share = |columns: u64| columns.saturating_mul(ended.min(items)) / items.max(1);
    let filled = usize::try_from(share(u64::try_from(room).unwrap_or(0))).unwrap_or(0);
    let arrow = if filled < room { ">" } else { "" };
    vec![format!("{:<room$}", "=".repeat(filled) + arrow), counts, elapsed]
}

#[cfg(test)]
mod tests {
    use super::{arranged, bar};

    #[test]
    fn a_group_that_is_too_long_is_continued_on_the_next_line_between_two_fields() {
        let groups = [vec!["a".repeat(20), "b".repeat(20), "c".repeat(20)], vec!["d".to_owned(), "e".to_owned()]];
        let at = |width| arranged(&groups, width);
        assert_eq!(at(80).len(), 2);
        assert_eq!(at(80)[1], "  d  e");
        assert_eq!(
            at(50),
            [format!("  {}  {}", groups[0][0], groups[0][1]), format!("  {}", "c".repeat(20)), "  d  e".into()]
        );
        assert!(at(60).iter().all(|line| line.len() <= 57));
        assert_eq!(at(1).len(), 5, "a field is never divided here");
    }

    #[test]
    fn a_bar_takes_the_room_that_there_is_or_is_left_out() {
        let line = |ended, width| arranged(&[bar(ended, 2_000, "00:00:06".into(), width)], width);
        assert_eq!(line(1_000, 80), ["  ===============>                1,000/2,000 products  00:00:06"]);
        assert_eq!(line(0, 50), ["  >                  0/2,000 products  00:00:06"]);
        assert_eq!(line(2_000, 40), ["  2,000/2,000 products  00:00:06"]);
        assert_eq!(line(2_000, 80)[0].matches('=').count(), 30);
        assert_eq!(line(5_000, 80)[0].matches('=').count(), 30, "more than all is all");
        assert_eq!(arranged(&[bar(0, 0, "0".into(), 80)], 80).len(), 1);
    }
}
