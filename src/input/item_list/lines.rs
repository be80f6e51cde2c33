//! A list as text: one id per line, `#` starts a comment.
//!
//! Lines may end with a line feed, a carriage return or both. No line is longer than 64 KiB.

use std::io::{self, BufRead, Read};

use super::Ids;
use super::id::{Position, checked};
use crate::endpoint::id_form::IdPattern;
use crate::input::error::InputError;

/// Longest line, bytes: a line of a binary file can be as long as the file.
const LONGEST: usize = 1 << 16;
/// DOS ended a text with it, and some programs still do.
const END_MARK: u8 = 0x1a;

/// Reads the ids. A comment starts a line or follows white space: `17#2` has none.
pub(super) fn from_text(reader: impl BufRead + Send + 'static, list: String, form: Option<IdPattern>) -> Ids {
    let mut lines = Lines { reader, after_return: false };
    let (mut line, mut bytes, mut is_first) = (0, Vec::new(), true);
    Box::new(std::iter::from_fn(move || {
        loop {
            line += 1;
            let bad = |reason: String| InputError::BadId { list: list.clone(), line, reason };
            match lines.next(&mut bytes) {
                Ok(Line::None) => return None,
                Ok(Line::TooLong) => return Some(Err(bad("the line is longer than 64 KiB".to_owned()))),
                Ok(Line::Whole) => {}
                Err(error) => {
                    return Some(Err(InputError::Unreadable { list: list.clone(), reason: error.to_string() }));
                }
            }
            let comment = bytes.iter().enumerate().position(|(at, byte)| {
                *byte == b'#' && at.checked_sub(1).is_none_or(|before| matches!(bytes.get(before), Some(b' ' | b'\t')))
            });
            bytes.truncate(comment.unwrap_or(bytes.len()));
            match checked(&bytes, Position::Line { is_first }, form.as_ref()) {
                Ok(None) => {}
                Ok(Some(id)) => {
                    is_first = false;
                    return Some(Ok(id));
                }
                Err(reason) => return Some(Err(bad(reason))),
            }
        }
    }))
}

struct Lines<R> {
    reader: R,
    /// Whether the last line ended with a carriage return: then a line feed that follows is part of that end.
    after_return: bool,
}

enum Line {
    Whole,
    TooLong,
    None,
}

impl<R: BufRead> Lines<R> {
    /// The next line, without its end.
    fn next(&mut self, line: &mut Vec<u8>) -> io::Result<Line> {
        line.clear();
        loop {
            let chunk = match self.reader.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                chunk => chunk?,
            };
            if chunk.is_empty() {
                return Ok(if line.is_empty() { Line::None } else { Line::Whole });
            }
            if std::mem::take(&mut self.after_return) && chunk.starts_with(b"\n") {
                self.reader.consume(1);
                continue;
            }
            let end = memchr::memchr2(b'\n', b'\r', chunk);
            let (text, rest) = chunk.split_at(end.unwrap_or(chunk.len()));
            line.extend_from_slice(text);
            self.after_return = rest.starts_with(b"\r");
            let read = text.len() + usize::from(end.is_some());
            self.reader.consume(read);
            if line.len() >= LONGEST {
                return Ok(Line::TooLong);
            }
            if end.is_some() {
                return Ok(Line::Whole);
            }
        }
    }
}

/// A reader that leaves out end marks at the very end of a text.
pub(super) struct WithoutEndMark<R> {
    reader: R,
    /// Marks read so far, which are at the end if nothing follows.
    pending: usize,
}

impl<R: BufRead> WithoutEndMark<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, pending: 0 }
    }
}

impl<R: BufRead> Read for WithoutEndMark<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let chunk = self.reader.fill_buf()?;
            let is_mark = |byte: &&u8| **byte == END_MARK;
            let marks = chunk.iter().take_while(is_mark).count();
            if chunk.is_empty() || buffer.is_empty() {
                return Ok(0);
            }
            if marks == chunk.len() {
                self.pending += marks;
                self.reader.consume(marks);
                continue;
            }
            if self.pending > 0 {
                let count = self.pending.min(buffer.len());
                buffer.iter_mut().take(count).for_each(|byte| *byte = END_MARK);
                self.pending -= count;
                return Ok(count);
            }
            let end = chunk.len() - chunk.iter().rev().take_while(is_mark).count();
            let count = end.min(buffer.len());
            let (text, target) = (chunk.get(..count).unwrap_or_default(), buffer.get_mut(..count).unwrap_or_default());
            target.copy_from_slice(text);
            self.reader.consume(count);
            return Ok(count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{WithoutEndMark, from_text};
    use crate::endpoint::id_form::IdPattern;
    use proptest::prelude::*;
    use std::io::{BufReader, Cursor, Read};

    fn ids(content: &[u8], capacity: usize, form: Option<&str>) -> Result<Vec<String>, String> {
        let reader = BufReader::with_capacity(capacity, Cursor::new(content.to_vec()));
        from_text(reader, "list".to_owned(), form.map(|form| IdPattern::new(form).unwrap()))
            .map(|id| id.map(|id| id.to_string()).map_err(|error| error.to_string()))
            .collect()
    }

    fn text(content: &[u8]) -> Result<Vec<String>, String> {
        ids(content, 1 << 16, None)
    }

    #[test]
    fn comments_blank_lines_windows_line_ends_and_a_missing_last_one_are_fine() {
        assert_eq!(text(b"# head\r\n\r\n 001 # why\r\n2\n\n3").unwrap(), ["001", "2", "3"]);
        assert!(text(b"# nothing\n").unwrap().is_empty());
    }

    #[test]
    fn lines_of_an_old_mac_end_too_and_are_counted_right() {
        for capacity in [1, 2, 3, 1 << 16] {
            assert_eq!(ids(b"1\r2\r\r3", capacity, None).unwrap(), ["1", "2", "3"]);
            assert_eq!(ids(b"1\r\n2\n3\r4\r\n", capacity, None).unwrap(), ["1", "2", "3", "4"]);
            for content in [&b"1\r\r3\x07\r"[..], b"1\r\n\r\n3\x07", b"1\n\n3\x07\n"] {
                assert!(ids(content, capacity, None).unwrap_err().starts_with("list, line 3: "));
            }
        }
        assert_eq!(text(&b"1729382310407603945\r".repeat(10_000)).unwrap().len(), 10_000);
    }

    #[test]
    fn a_hash_inside_an_id_is_no_comment() {
        assert_eq!(text(b"17#2\n#3\n4 #5\n6\t#7#8\n").unwrap(), ["17#2", "4", "6"]);
        assert_eq!(ids(b"17 # two\n18\t# three\n", 64, Some("[0-9]+")).unwrap(), ["17", "18"]);
    }

    #[test]
    fn a_bad_id_is_named_with_its_line() {
        assert_eq!(text(b"1\n2\n3\x07\n").unwrap_err(), "list, line 3: the id has the control character U+0007");
        assert_eq!(text(b"1\n\xff\n").unwrap_err(), "list, line 2: the id is not UTF-8");
        assert!(
            text(b"1\nsk_live_abc\n")
                .unwrap_err()
                .ends_with("line 2: the id looks like an API key, which must not be in a list")
        );
        assert!(text(&[b'7'; 5_000]).unwrap_err().contains("line 1: the id is longer"));
        assert!(text(&b"7".repeat(1 << 16)).unwrap_err().contains("line 1: the line is longer than 64 KiB"));
    }

    #[test]
    fn only_the_first_line_that_is_no_comment_can_be_a_header() {
        let digits = Some("[0-9]+");
        let header = ids(b"\n# ids\nproduct_id\n17\n", 64, digits).unwrap_err();
        assert!(header.starts_with("list, line 3: `product_id` ") && header.contains("header"), "{header}");
        assert!(!ids(b"17\nproduct_id\n", 64, digits).unwrap_err().contains("header"));
    }

    fn without_end_mark(content: &[u8], capacity: usize) -> Vec<u8> {
        let mut read = Vec::new();
        WithoutEndMark::new(BufReader::with_capacity(capacity, content)).read_to_end(&mut read).unwrap();
        read
    }

    proptest! {
        #[test]
        fn marks_go_from_the_very_end_and_from_nowhere_else(
            content in proptest::collection::vec(prop_oneof![Just(0x1a_u8), Just(b'7'), Just(b'\n')], 0..40),
            capacity in 1_usize..9,
        ) {
            let end = content.iter().rposition(|byte| *byte != 0x1a).map_or(0, |at| at + 1);
            prop_assert_eq!(without_end_mark(&content, capacity), &content[..end]);
        }
    }
}
