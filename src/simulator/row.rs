//! The parts of a simulated row, and how each becomes bytes.
//!
//! A page must take a few microseconds, or benchmarks would measure the simulator. So names, quotes and escapes are prepared
//! as literals, and a row is one pass over a flat list of parts.

use rand_core::Rng;
use rand_xoshiro::SplitMix64;

use super::list::{List, random_below, zipf_count};

/// Bytes that are copied for each word and then cut to its length: a copy of fixed length is a few instructions, one of
/// variable length is a call.
const WORD_SIZE: usize = 40;

/// One part of a row. Texts are escaped for JSON; a sort field is an index of the list's orders.
#[derive(Clone, Debug)]
pub(super) enum Part {
    Literal(Vec<u8>),
    Item,
    Partition(Skewed),
    /// A time under a sort field, and random bits.
    Snowflake(usize),
    /// Sort field.
    Time(usize),
    /// Sort field, and the count of rank 0.
    Rank(usize, u32),
    /// The number of decimal digits.
    Digits(usize),
    /// The number of hexadecimal digits.
    Hex(usize),
    /// The number of base64 digits.
    Base64(usize),
    /// The first number, and how many there are.
    Int(u64, u64),
    /// The texts, all equally frequent.
    Pick(Vec<Vec<u8>>),
    /// The number of words, and the words of each language.
    Words(usize, Vec<Vec<Word>>),
    /// The number of tags, and the tags.
    Tags(usize, Vec<Word>),
}

impl Part {
    pub(super) fn field(&self) -> Option<usize> {
        match self {
            Self::Snowflake(field) | Self::Time(field) | Self::Rank(field, _) => Some(*field),
            Self::Literal(_) | Self::Item | Self::Partition(_) | Self::Digits(_) | Self::Hex(_) | Self::Base64(_) => {
                None
            }
            Self::Int(..) | Self::Pick(_) | Self::Words(..) | Self::Tags(..) => None,
        }
    }

    pub(super) fn push(&self, list: &List, row: u64, rng: &mut SplitMix64, out: &mut Vec<u8>) {
        match self {
            Self::Literal(text) => out.extend_from_slice(text),
            Self::Item => out.extend_from_slice(&list.item),
            Self::Partition(skewed) => out.extend_from_slice(skewed.draw(rng.next_u64())),
            Self::Snowflake(field) => {
                let time = list.time(list.rank(*field, row));
                push_number(out, (time << 32) | (rng.next_u64() >> 32));
            }
            Self::Time(field) => push_number(out, list.time(list.rank(*field, row))),
            Self::Rank(field, top) => push_number(out, zipf_count(list.rank(*field, row), *top)),
            Self::Digits(length) => push_coded(out, *length, rng, decimal),
            Self::Hex(length) => push_coded(out, *length, rng, hexadecimal),
            Self::Base64(length) => push_coded(out, *length, rng, base64),
            Self::Int(first, number) => push_number(out, first + random_below(rng.next_u64(), *number)),
            Self::Pick(texts) => out.extend_from_slice(pick(texts, rng.next_u64()).map_or(&[], Vec::as_slice)),
            Self::Words(number, languages) => {
                if let Some(words) = pick(languages, rng.next_u64()) {
                    push_words(out, *number, words, rng);
                }
            }
            Self::Tags(number, tags) => push_words(out, *number, tags, rng),
        }
    }
}

/// Texts with shares as in Zipf's law: the second is half as frequent as the first, the third a third.
#[derive(Clone, Debug)]
pub(super) struct Skewed {
    /// Each text with the sum of the shares up to it.
    texts: Vec<(u64, Vec<u8>)>,
    total: u64,
}

impl Skewed {
    pub(super) fn new(texts: impl Iterator<Item = Vec<u8>>) -> Self {
        let mut total = 0;
        let shared = texts.zip(1..).map(|(text, place)| {
            total += 1_000_000 / place;
            (total, text)
        });
        Self { texts: shared.collect(), total }
    }

    fn draw(&self, bits: u64) -> &[u8] {
        let point = random_below(bits, self.total);
        self.texts.iter().find(|(end, _)| point < *end).map_or(&[], |(_, text)| text)
    }
}

fn pick<T>(from: &[T], bits: u64) -> Option<&T> {
    let number = u64::try_from(from.len()).unwrap_or_default();
    usize::try_from(random_below(bits, number)).ok().and_then(|index| from.get(index))
}

fn push_number(out: &mut Vec<u8>, number: u64) {
    serde_json::to_writer(out, &number).ok(); // a Vec takes everything
}

/// Appends `length` digits, each from one random byte; the compiler computes 16 at once.
fn push_coded(out: &mut Vec<u8>, length: usize, rng: &mut SplitMix64, code: impl Fn(u8) -> u8) {
    let mut left = length;
    while left > 0 {
        let bits = (u128::from(rng.next_u64()) << 64) | u128::from(rng.next_u64());
        let mut digits = bits.to_le_bytes();
        for byte in &mut digits {
            *byte = code(*byte);
        }
        out.extend_from_slice(&digits);
        let surplus = digits.len().saturating_sub(left);
        out.truncate(out.len() - surplus);
        left = left.saturating_sub(digits.len());
    }
}

fn decimal(byte: u8) -> u8 {
    let [digit, _] = (u16::from(byte) * 10).to_be_bytes();
    b'0' + digit
}

fn hexadecimal(byte: u8) -> u8 {
    let digit = byte & 15;
    digit + if digit < 10 { b'0' } else { b'a' - 10 }
}

/// The URL-safe alphabet: `A` to `Z`, `a` to `z`, `0` to `9`, `-`, `_`.
fn base64(byte: u8) -> u8 {
    let digit = byte & 63;
    let letter = digit + if digit < 26 { b'A' } else { b'a' - 26 };
    let sign = if digit == 62 { b'-' } else { b'_' };
    let other = if digit < 62 { digit.wrapping_sub(52).wrapping_add(b'0') } else { sign };
    if digit < 52 { letter } else { other }
}

/// A word and a space, escaped for JSON.
#[derive(Clone, Copy, Debug)]
pub(super) struct Word {
    text: [u8; WORD_SIZE],
    length: usize,
}

impl Word {
    /// None if it is too long.
    pub(super) fn new(escaped: &[u8]) -> Option<Self> {
        let mut text = [b' '; WORD_SIZE];
        let length = escaped.len() + 1;
        let (_space, word) = text.get_mut(..length)?.split_last_mut()?;
        word.copy_from_slice(escaped);
        Some(Self { text, length })
    }
}

/// Appends words with a space between them. One random number chooses four words.
fn push_words(out: &mut Vec<u8>, number: usize, words: &[Word], rng: &mut SplitMix64) {
    let mut bits = 0;
    for index in 0..number {
        bits = if index % 4 == 0 { rng.next_u64() } else { bits << 16 };
        let Some(word) = pick(words, bits) else { return };
        let end = out.len() + word.length;
        out.extend_from_slice(&word.text);
        out.truncate(end);
    }
    // The last one has no space.
    if number > 0 {
        out.pop();
    }
}

/// Appends 36 digits and hyphens that look like a UUID.
pub(super) fn push_uuid(out: &mut Vec<u8>, rng: &mut SplitMix64) {
    for (index, length) in [8, 4, 4, 4, 12].into_iter().enumerate() {
        if index > 0 {
            out.push(b'-');
        }
        push_coded(out, length, rng, hexadecimal);
    }
}

#[cfg(test)]
mod tests {
    use super::{Part, Skewed, Word, base64, decimal, hexadecimal, push_uuid};
    use crate::simulator::list::List;
    use rand_core::SeedableRng;
    use rand_xoshiro::SplitMix64;
    use std::collections::BTreeSet;

    fn generated(part: &Part) -> String {
        let mut out = Vec::new();
        part.push(&List::new(1, "7", 10, 0), 0, &mut SplitMix64::seed_from_u64(5), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn random_texts_have_exactly_the_requested_length() {
        for length in [0, 1, 7, 8, 9, 16, 17, 112] {
            assert_eq!(generated(&Part::Digits(length)).len(), length);
            assert_eq!(generated(&Part::Hex(length)).len(), length);
            assert_eq!(generated(&Part::Base64(length)).len(), length);
        }
        let mut out = Vec::new();
        push_uuid(&mut out, &mut SplitMix64::seed_from_u64(1));
        assert_eq!(out.len(), 36);
    }

    #[test]
    fn shares_fall_with_the_position_and_omit_none() {
        let skewed = Skewed::new([b"a".to_vec(), b"b".to_vec(), b"c".to_vec()].into_iter());
        let count = |text: &[u8]| (0..2048).filter(|step| skewed.draw(step << 53) == text).count();
        assert_eq!(skewed.draw(u64::MAX), b"c");
        assert!(count(b"a") > count(b"b") && count(b"b") > count(b"c") && count(b"c") > 0);
    }

    #[test]
    fn every_digit_of_a_base_occurs_and_no_other() {
        let generated = |code: fn(u8) -> u8| (0..=255).map(code).collect::<BTreeSet<u8>>();
        let digits = |text: &str| text.bytes().collect::<BTreeSet<u8>>();
        assert_eq!(generated(decimal), digits("0123456789"));
        assert_eq!(generated(hexadecimal), digits("0123456789abcdef"));
        let letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
        assert_eq!(generated(base64), digits(&format!("{letters}{}0123456789-_", letters.to_lowercase())));
    }

    #[test]
    fn words_have_one_space_between_them() {
        let word = |text: &str| Word::new(text.as_bytes()).unwrap();
        assert_eq!(generated(&Part::Tags(3, vec![word("#x")])), "#x #x #x");
        assert_eq!(generated(&Part::Words(2, vec![vec![word("yes")]])), "yes yes");
        assert_eq!(generated(&Part::Words(2, vec![Vec::new()])), "");
        assert_eq!(generated(&Part::Tags(0, vec![word("x")])), "");
        assert_eq!(generated(&Part::Tags(2, vec![word(&"x".repeat(39))])).len(), 79);
        assert!(Word::new(&[b'x'; 40]).is_none());
        assert_eq!(generated(&Part::Words(2, Vec::new())), "");
    }
}
