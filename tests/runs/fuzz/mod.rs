//! Fuzzing on the stable compiler: saved inputs are mutated, and their readers must not panic.
//!
//! Each target starts from `tests/corpus/<target>/`, or from a file that the program writes. A default run takes some
//! seconds and is deterministic; `PAGEHAUL_CASES=100 cargo test --test runs fuzz` tries a hundred times as many cases. An input that
//! found a bug belongs into the corpus. With cargo-fuzz, which follows the coverage, the same targets run for as long as one
//! likes, on the stable compiler too: `cargo fuzz run --sanitizer none response fuzz/corpus tests/corpus/response`.

mod targets;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

// --- the mutator ---------------------------------------------------------------------------------------------------

/// A change to an input.
#[derive(Clone, Debug)]
enum Mutation {
    /// Flips bits of a byte.
    Flip(Index, u8),
    /// Removes a part.
    Cut(Index, Index),
    /// Removes everything after a byte.
    Break(Index),
    /// Inserts bytes.
    Insert(Index, Vec<u8>),
    /// Repeats a part.
    Duplicate(Index, Index, usize),
    /// Continues with another input of the corpus.
    Splice(Index, Index, Index),
    /// Replaces a run of digits.
    Number(Index, &'static str),
    /// Replaces four bytes by a number at a boundary.
    Word(Index, u32),
}

/// Numbers at boundaries of types.
const BOUNDARIES: [&str; 18] = [
    "0",
    "-1",
    "00",
    "1e400",
    "1e-400",
    "0.0",
    "1.5",
    "255",
    "256",
    "65536",
    "2147483648",
    "4294967296",
    "9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775809",
    "99999999999999999999999",
    "NaN",
];

fn mutation() -> impl Strategy<Value = Mutation> {
    let place = any::<Index>;
    prop_oneof![
        (place(), 1_u8..).prop_map(|(at, bits)| Mutation::Flip(at, bits)),
        (place(), place()).prop_map(|(from, to)| Mutation::Cut(from, to)),
        place().prop_map(Mutation::Break),
        (place(), proptest::collection::vec(any::<u8>(), 1..9)).prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        (
            place(),
            prop_oneof![
                Just("{"),
                Just("]"),
                Just("\""),
                Just("\\ud83d"),
                Just("\\"),
                Just("\0"),
                Just("\n"),
                Just(","),
                Just("\u{202e}")
            ]
        )
            .prop_map(|(at, text)| Mutation::Insert(at, text.as_bytes().to_vec())),
        (place(), place(), 2_usize..6).prop_map(|(from, to, times)| Mutation::Duplicate(from, to, times)),
        (place(), place(), place()).prop_map(|(other, at, from)| Mutation::Splice(other, at, from)),
        (place(), proptest::sample::select(BOUNDARIES.as_slice()))
            .prop_map(|(at, number)| Mutation::Number(at, number)),
        (place(), proptest::sample::select([0, 1, 0x7fff_ffff, 0x8000_0000, u32::MAX, 0x4000_0000].as_slice()))
            .prop_map(|(at, word)| Mutation::Word(at, word)),
    ]
}

impl Mutation {
    fn apply(&self, bytes: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let place = |index: &Index| index.index(bytes.len() + 1);
        let range = |one: &Index, other: &Index| place(one).min(place(other))..place(one).max(place(other));
        match self {
            Self::Flip(at, bits) => {
                let at = place(at);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= bits;
                }
            }
            Self::Cut(from, to) => drop(bytes.drain(range(from, to))),
            Self::Break(at) => bytes.truncate(place(at)),
            Self::Insert(at, new) => drop(bytes.splice(place(at)..place(at), new.iter().copied())),
            Self::Duplicate(from, to, times) => {
                let range = range(from, to);
                let part = bytes[range.clone()].repeat(*times);
                drop(bytes.splice(range, part));
            }
            Self::Splice(other, at, from) => {
                let other = &corpus[other.index(corpus.len())];
                bytes.truncate(place(at));
                bytes.extend_from_slice(&other[from.index(other.len() + 1)..]);
            }
            Self::Number(at, number) => {
                let starts: Vec<usize> = (0..bytes.len())
                    .filter(|at| bytes[*at].is_ascii_digit() && (*at == 0 || !bytes[at - 1].is_ascii_digit()))
                    .collect();
                if let Some(start) = starts.get(at.index(starts.len() + 1)).copied() {
                    let digits = bytes[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
                    drop(bytes.splice(start..start + digits, number.bytes()));
                }
            }
            Self::Word(at, word) => {
                let at = place(at);
                if let Some(four) = bytes.get_mut(at..at + 4) {
                    four.copy_from_slice(&word.to_le_bytes());
                }
            }
        }
    }
}

/// An input, shown as a byte string that can be pasted into a file.
struct Input(Vec<u8>);

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "b\"{}\"", self.0.escape_ascii())
    }
}

/// The saved inputs of a target, in the order of their names.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(target);
    let paths = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path());
    let files: BTreeMap<PathBuf, Vec<u8>> = paths.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
    assert!(!files.is_empty(), "{} is empty", directory.display());
    files.into_values().collect()
}

/// Tries so many mutated inputs, times `PAGEHAUL_CASES`, the same ones in every run. The saved ones come first, as they are.
fn fuzz(corpus: &[Vec<u8>], cases: u32, check: impl Fn(&[u8])) {
    for input in corpus {
        check(input);
    }
    let times = std::env::var("PAGEHAUL_CASES").map_or(1, |times| times.parse().unwrap());
    let config =
        Config { cases: cases * times, failure_persistence: None, max_shrink_iters: 4_096, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let mutated = (any::<Index>(), proptest::collection::vec(mutation(), 1..6)).prop_map(|(at, mutations)| {
        let mut bytes = corpus[at.index(corpus.len())].clone();
        for mutation in mutations {
            mutation.apply(&mut bytes, corpus);
        }
        Input(bytes)
    });
    let ended = runner.run(&mutated, |Input(bytes)| {
        check(&bytes);
        Ok(())
    });
    if let Err(failure) = ended {
        panic!("{failure}");
    }
}

// --- the targets ---------------------------------------------------------------------------------------------------

#[test]
fn no_response_makes_the_decoder_panic_or_lose_a_row_that_has_an_identity() {
    fuzz(&corpus("response"), 10_000, targets::response);
}

#[test]
fn no_retry_after_makes_its_reader_panic() {
    fuzz(&corpus("retry_after"), 10_000, targets::retry_after_header);
}

#[test]
fn no_config_file_makes_the_settings_panic_and_every_refusal_is_one_line() {
    fuzz(&corpus("config"), 2_000, targets::config);
}

#[test]
fn no_list_makes_its_reader_panic_and_whatever_it_gives_is_an_id() {
    fuzz(&corpus("list"), 6_000, targets::list);
}

#[test]
fn no_ledger_file_makes_the_ledger_panic() {
    fuzz(&[targets::ledger_file()], 500, targets::ledger);
}

#[test]
fn no_journal_file_makes_its_reader_panic_or_believe_an_answer_that_was_never_written() {
    fuzz(&[targets::journal_file()], 10_000, targets::journal);
}

#[test]
fn no_manifest_makes_its_reader_panic_or_leads_out_of_the_output() {
    fuzz(&corpus("manifest"), 2_000, targets::manifest);
}
