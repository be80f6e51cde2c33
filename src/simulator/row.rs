//! The parts of which a simulated row is made, and how each becomes bytes.
//!
//! A page must cost a few microseconds, or the simulator would be what a benchmark measures. So everything that can be
//! known before is: names, quotation marks and escapes are in the literals, and a row is one pass over a flat list.

use rand_core::Rng;
use rand_xoshiro::SplitMix64;

use super::list::{List, below, count};

/// Digits of hexadecimal text.
const HEX: &[u8; 16] = b"0123456789abcdef";
/// Digits of base 64, in the spelling for addresses.
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// One part of a row. Texts are escaped for JSON.
#[derive(Clone, Debug)]
pub(super) enum Part {
    /// The same in every row.
    Literal(Vec<u8>),
    /// The item's id.
    Item,
    /// One of these texts, by the shares of [`Skewed`].
    Partition(Skewed),
    /// An id that is made of a time and random bits.
    Snowflake(usize),
    /// A time, by rank under a sort field.
    Time(usize),
    /// A count, by rank under a sort field, and the count of rank 0.
    Rank(usize, u32),
    /// So many random decimal digits.
    Digits(usize),
    /// So many random hexadecimal digits.
    Hex(usize),
    /// So many random digits of base 64.
    Base64(usize),
    /// A number from the first on, this many different ones.
    Int(u64, u64),
    /// One of these texts, all equally often.
    Pick(Vec<Vec<u8>>),
    /// So many words of one of these languages.
    Words(usize, Vec<Vec<Vec<u8>>>),
    /// So many of these hash tags.
    Tags(usize, Vec<Vec<u8>>),
}

impl Part {
    /// The sort field that orders this part.
    pub(super) fn field(&self) -> Option<usize> {
        match self {
            Self::Snowflake(field) | Self::Time(field) | Self::Rank(field, _) => Some(*field),
            Self::Literal(_) | Self::Item | Self::Partition(_) | Self::Digits(_) | Self::Hex(_) | Self::Base64(_) => {
                None
            }
            Self::Int(..) | Self::Pick(_) | Self::Words(..) | Self::Tags(..) => None,
        }
    }

    /// Appends this part of a row.
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
            Self::Rank(field, top) => push_number(out, count(list.rank(*field, row), *top)),
            Self::Digits(length) => push_digits(out, *length, rng),
            Self::Hex(length) => push_coded(out, *length, rng, |byte| digit(HEX, byte & 15)),
            Self::Base64(length) => push_coded(out, *length, rng, |byte| digit(BASE64, byte & 63)),
            Self::Int(first, many) => push_number(out, first + below(rng.next_u64(), *many)),
            Self::Pick(texts) => out.extend_from_slice(drawn(texts, rng.next_u64())),
            Self::Words(many, languages) => {
                if let Some(words) = pick(languages, rng.next_u64()) {
                    push_words(out, *many, b"", words, rng);
                }
            }
            Self::Tags(many, tags) => push_words(out, *many, b"#", tags, rng),
        }
    }
}

/// Texts with Zipf-like shares: the second comes half as often as the first, the third a third as often.
#[derive(Clone, Debug)]
pub(super) struct Skewed {
    /// Each text, with the sum of the shares up to it.
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
        let point = below(bits, self.total);
        self.texts.iter().find(|(end, _)| point < *end).map_or(&[], |(_, text)| text)
    }
}

fn pick<T>(from: &[T], bits: u64) -> Option<&T> {
    let many = u64::try_from(from.len()).unwrap_or_default();
    usize::try_from(below(bits, many)).ok().and_then(|index| from.get(index))
}

fn drawn(texts: &[Vec<u8>], bits: u64) -> &[u8] {
    pick(texts, bits).map_or(&[], Vec::as_slice)
}

/// Appends a number in decimal.
fn push_number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    for slot in digits.iter_mut().rev() {
        *slot = decimal(number % 10);
        start -= 1;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(start..).unwrap_or_default());
}

fn decimal(digit: u64) -> u8 {
    b'0' + u8::try_from(digit).unwrap_or_default()
}

fn push_digits(out: &mut Vec<u8>, length: usize, rng: &mut SplitMix64) {
    let mut left = length;
    while left > 0 {
        let mut bits = rng.next_u64();
        let mut digits = [0; 16];
        for slot in &mut digits {
            *slot = decimal(bits % 10);
            bits /= 10;
        }
        left = push_some(out, &digits, left);
    }
}

/// Appends text of which every digit is made from one random byte.
fn push_coded(out: &mut Vec<u8>, length: usize, rng: &mut SplitMix64, code: impl Fn(u8) -> u8) {
    let mut left = length;
    while left > 0 {
        let digits = rng.next_u64().to_le_bytes().map(&code);
        left = push_some(out, &digits, left);
    }
}

fn digit<const N: usize>(digits: &[u8; N], value: u8) -> u8 {
    digits.get(usize::from(value)).copied().unwrap_or(b'0')
}

/// Appends as much of a block as is still wanted, and says how much then is.
fn push_some<const N: usize>(out: &mut Vec<u8>, block: &[u8; N], wanted: usize) -> usize {
    if wanted >= N {
        out.extend_from_slice(block);
        return wanted - N;
    }
    out.extend_from_slice(block.get(..wanted).unwrap_or_default());
    0
}

/// Appends words with a space between them; four words to a draw, because there are few to choose from.
fn push_words(out: &mut Vec<u8>, many: usize, sign: &[u8], words: &[Vec<u8>], rng: &mut SplitMix64) {
    let mut bits = 0;
    for index in 0..many {
        bits = if index % 4 == 0 { rng.next_u64() } else { bits << 16 };
        if index > 0 {
            out.push(b' ');
        }
        out.extend_from_slice(sign);
        out.extend_from_slice(drawn(words, bits));
    }
}

/// Appends 36 digits and hyphens in the manner of a UUID.
pub(super) fn push_uuid(out: &mut Vec<u8>, rng: &mut SplitMix64) {
    for (index, length) in [8, 4, 4, 4, 12].into_iter().enumerate() {
        if index > 0 {
            out.push(b'-');
        }
        push_coded(out, length, rng, |byte| digit(HEX, byte & 15));
    }
}

#[cfg(test)]
mod tests {
    use super::{Part, Skewed, push_number, push_uuid};
    use crate::simulator::list::List;
    use rand_core::SeedableRng;
    use rand_xoshiro::SplitMix64;

    fn made(part: &Part) -> String {
        let mut out = Vec::new();
        part.push(&List::new(1, "7", 10, 0), 0, &mut SplitMix64::seed_from_u64(5), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_are_written_as_the_standard_library_writes_them() {
        for number in [0, 9, 10, 99, 100, 1_729_382_310_407_603_945, u64::MAX] {
            let mut out = Vec::new();
            push_number(&mut out, number);
            assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
        }
    }

    #[test]
    fn random_texts_have_exactly_the_length_that_was_asked_for() {
        for length in [0, 1, 7, 8, 9, 16, 17, 112] {
            assert_eq!(made(&Part::Digits(length)).len(), length);
            assert_eq!(made(&Part::Hex(length)).len(), length);
            assert_eq!(made(&Part::Base64(length)).len(), length);
        }
        let mut out = Vec::new();
        push_uuid(&mut out, &mut SplitMix64::seed_from_u64(1));
        assert_eq!(out.len(), 36);
    }

    #[test]
    fn shares_fall_with_the_place_and_leave_none_out() {
        let skewed = Skewed::new([b"a".to_vec(), b"b".to_vec(), b"c".to_vec()].into_iter());
        let count = |text: &[u8]| (0..1100).filter(|step| skewed.draw(step << 53) == text).count();
        assert_eq!(skewed.draw(u64::MAX), b"c");
        assert!(count(b"a") > count(b"b") && count(b"b") > count(b"c") && count(b"c") > 0);
    }

    #[test]
    fn words_have_one_space_between_them() {
        assert_eq!(made(&Part::Tags(3, vec![b"x".to_vec()])), "#x #x #x");
        assert_eq!(made(&Part::Words(2, vec![vec![b"y".to_vec()]])), "y y");
        assert_eq!(made(&Part::Words(2, Vec::new())), "");
    }
}
