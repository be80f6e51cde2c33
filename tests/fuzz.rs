//! Fuzzing on the stable compiler: saved inputs are mutated byte by byte, and whatever reads them must not panic.
//!
//! Each target starts from `tests/corpus/<target>/`, or from a file that the program itself writes. A default run is some
//! seconds and always the same; `PAGEHAUL_CASES=100 cargo test --test fuzz` tries a hundred times as many cases. An input that
//! found a bug belongs into the corpus.

#![expect(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "what helps a test fails by panicking, and its files need not survive a crash"
)]

mod common;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use common::{endpoint, scratch};
use pagehaul::clock::Utc64;
use pagehaul::commit::{MANIFESTS, manifests};
use pagehaul::decode::{Answer, Decoder};
use pagehaul::disk::Disk;
use pagehaul::endpoint::EXTRA;
use pagehaul::envelope::{self, Payload};
use pagehaul::journal::{Entry, Journal, JournalReader, Next, file_name};
use pagehaul::ledger::{EndRow, ExportRow, FailedRow, Group, Ledger, PageRow, ReadRow};
use pagehaul::lenient;
use pagehaul::page::{AttemptId, Charge, ItemId, ItemIx, PageNum, Request, SegmentId, StopReason};
use pagehaul::plan::List;
use pagehaul::sanitize::chain;
use pagehaul::settings::{Layers, Settings};
use pagehaul::store::Store;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use reqwest::header::{DATE, HeaderMap, HeaderValue, RETRY_AFTER};
use serde_json::value::RawValue;

// --- the mutator ---------------------------------------------------------------------------------------------------

/// Something done to an input.
#[derive(Clone, Debug)]
enum Mutation {
    /// Changes bits of a byte.
    Flip(Index, u8),
    /// Removes a part.
    Cut(Index, Index),
    /// Removes everything behind a byte.
    Break(Index),
    /// Puts bytes in.
    Insert(Index, Vec<u8>),
    /// Repeats a part some times.
    Duplicate(Index, Index, usize),
    /// Goes on with another input of the corpus.
    Splice(Index, Index, Index),
    /// Replaces a run of digits.
    Number(Index, &'static str),
    /// Replaces four bytes by a number that files like to hold.
    Word(Index, u32),
}

/// Numbers at which programs stumble.
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
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(target);
    let files: BTreeMap<PathBuf, Vec<u8>> = common::files(&folder)
        .into_iter()
        .map(|path| {
            let content = std::fs::read(&path).unwrap();
            (path, content)
        })
        .collect();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    files.into_values().collect()
}

/// Tries so many mutated inputs, times `PAGEHAUL_CASES`, the same ones in every run. The saved ones come first, as they are.
fn fuzz(corpus: &[Vec<u8>], cases: u32, check: impl Fn(&[u8]) -> Result<(), TestCaseError>) {
    for input in corpus {
        check(input).unwrap();
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
    let ended = runner.run(&mutated, |Input(bytes)| check(&bytes));
    if let Err(failure) = ended {
        panic!("{failure}");
    }
}

// --- the targets ---------------------------------------------------------------------------------------------------

const ID: &str = "1729382310407603945";

/// How many entries the list of an answer has, and how many of them have an identity, by the standard parser. None where it
/// cannot say.
fn counted(body: &[u8]) -> Option<(usize, usize)> {
    let text = lenient::mended(&lenient::text(body));
    if text.contains("\\u") || text.matches("\"data\"").count() != 1 {
        return None; // the key may be spelled in another way, or stand there twice
    }
    let frame: HashMap<String, &RawValue> = serde_json::from_str(&text).ok()?;
    let entries: Vec<serde_json::Value> = serde_json::from_str(frame.get("data")?.get()).ok()?;
    let is_id = |value: &serde_json::Value| value.is_number() || value.as_str().is_some_and(|text| !text.is_empty());
    let own = |value: Option<&serde_json::Value>| value.is_none_or(|value| value == ID || !is_id(value));
    let usable =
        entries.iter().filter(|entry| entry.get("video_id").is_some_and(is_id) && own(entry.get("product_id")));
    Some((entries.len(), usable.count()))
}

#[test]
fn no_answer_makes_the_decoder_panic_or_lose_a_row_that_has_an_identity() {
    let decoder = Decoder::new(&endpoint(), |_| true);
    fuzz(&corpus("answer"), 10_000, |body| {
        let (attempt, item, page) = (AttemptId(1), ItemIx(1), PageNum(1));
        let answer = Answer { attempt, item, id: ItemId::new(ID), page, at: Utc64(9), body: body.to_vec().into() };
        let read = decoder.decode(&[answer]).unwrap();
        let page = &read.pages[0];
        prop_assert_eq!(page.received, page.keys.len() + page.rejects.len());
        prop_assert_eq!(read.rows.num_rows(), page.keys.len());
        let extras = read.rows.column_by_name(EXTRA).unwrap();
        for extra in arrow::array::AsArray::as_string::<i32>(extras.as_ref()).iter().flatten() {
            prop_assert!(serde_json::from_str::<serde_json::Value>(extra).is_ok(), "_extra is {extra}");
        }
        let Ok(frame) = envelope::read(body) else { return Ok(()) };
        if let (Payload::Rows, Some((entries, usable))) = (frame.data, counted(body)) {
            prop_assert_eq!(page.received, entries);
            prop_assert_eq!(page.keys.len(), usable);
        }
        Ok(())
    });
}

#[test]
fn no_retry_after_makes_its_reader_panic() {
    let date = HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT");
    fuzz(&corpus("retry_after"), 10_000, |bytes| {
        let Ok(value) = HeaderValue::from_bytes(bytes) else { return Ok(()) };
        for date in [None, Some(&date), Some(&value)] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, value.clone());
            headers.extend(date.map(|date| (DATE, date.clone())));
            pagehaul::api::retry_after(&headers);
        }
        Ok(())
    });
}

#[test]
fn no_config_file_makes_the_settings_panic_and_every_refusal_is_one_line() {
    let folder = scratch();
    let path = folder.path().join("config.toml");
    fuzz(&corpus("config"), 2_000, |bytes| {
        std::fs::write(&path, bytes).unwrap();
        let mut layers = Layers::built_in().unwrap();
        if let Err(error) = layers.add_file(&path).and_then(|()| Settings::resolve(&layers).map(drop)) {
            prop_assert!(!chain(&error).contains(char::is_control));
        }
        Ok(())
    });
}

#[test]
fn no_list_makes_its_reader_panic_and_whatever_it_gives_is_an_id() {
    let folder = scratch();
    let path = folder.path().join("list");
    fuzz(&corpus("list"), 6_000, |bytes| {
        std::fs::write(&path, bytes).unwrap();
        for column in [None, Some("product_id")] {
            let ids = match List::File(path.clone()).open(column) {
                Ok(ids) => ids,
                Err(error) => {
                    prop_assert!(!chain(&error).contains(char::is_control));
                    continue;
                }
            };
            for id in ids {
                let Ok(id) = id else { break };
                let text = id.as_str();
                prop_assert!(!text.is_empty() && text.len() <= 256 && !text.contains(char::is_control), "{text:?}");
            }
        }
        Ok(())
    });
}

/// A ledger with something in every table.
fn write_ledger(path: &Path) -> Vec<u8> {
    let mut ledger = Ledger::open(path).unwrap();
    let identity = [("page_size".to_owned(), "10".to_owned())].into();
    ledger
        .begin(&ExportRow { id: "0123456789".to_owned(), created_at: Utc64(1), completed_at: None, identity })
        .unwrap();
    let ids = (0..40).map(|id| Ok::<_, pagehaul::ledger::LedgerError>(ItemId::new(&format!("17293823104076{id:05}"))));
    ledger.add_items(ids).unwrap();
    let segment = ledger.begin_segment().unwrap().id;
    for at in 1..20 {
        let (attempt, item, page) = (AttemptId(at), ItemIx(at), PageNum(1));
        let request = |attempt| Request { attempt, item, id: ItemId::new("x"), page };
        let intents = vec![request(attempt), request(AttemptId(at + 100)), request(AttemptId(at + 200))];
        ledger.commit(&Group { intents, ..Group::default() }, Utc64(2)).unwrap();
        let cause = "HTTP 500".to_owned();
        let group = Group {
            frame: Some((segment, u64::try_from(at).unwrap() * 100, 100)),
            pages: vec![PageRow { attempt, item, page, at: Utc64(3) }],
            failed: vec![FailedRow { attempt: AttemptId(at + 100), charge: Charge::Free, cause }],
            read: vec![ReadRow { attempt, item, received: 3, rejected: 1, keys: vec![[7; 16], [8; 16]] }],
            ended: vec![EndRow { item, stop: StopReason::ShortPage, error: None, transient: false }],
            ..Group::default()
        };
        ledger.commit(&group, Utc64(3)).unwrap();
    }
    drop(ledger); // the last connection takes the write-ahead log into the file
    std::fs::read(path).unwrap()
}

#[test]
fn no_ledger_file_makes_the_ledger_panic() {
    let folder = scratch();
    let corpus = vec![write_ledger(&folder.path().join("first")), write_ledger(&folder.path().join("second"))];
    let path = folder.path().join("ledger.sqlite");
    fuzz(&corpus, 500, |bytes| {
        for end in ["", "-wal", "-shm", "-journal"] {
            std::fs::remove_file(path.with_extension(format!("sqlite{end}"))).ok();
        }
        std::fs::write(&path, bytes).unwrap();
        // What cannot be opened or read is an error; a panic is a bug.
        if let Ok(mut ledger) = Ledger::open(&path) {
            work(&mut ledger);
        }
        Ok(())
    });
}

/// Everything that a run does with a ledger.
fn work(ledger: &mut Ledger) {
    let _known = ledger.export();
    let _summed = (ledger.totals().is_ok(), ledger.credits().is_ok(), ledger.standing().is_ok());
    let _open = (ledger.walking(ItemIx(0), 100).is_ok(), ledger.fresh(ItemIx(0), 100).is_ok());
    let _pages = (ledger.pages(ItemIx(1)).is_ok(), ledger.keys(ItemIx(1), SegmentId(i64::MAX)).is_ok());
    let _ends = (ledger.has_full_page(10).is_ok(), ledger.short_ends().is_ok(), ledger.failures(20).is_ok());
    let _items = ledger.each_item(|_| Ok::<_, pagehaul::ledger::LedgerError>(()));
    let _segments = (ledger.decided().is_ok(), ledger.open_segment().is_ok(), ledger.last_attempt().is_ok());
    let _begun = ledger.begin_segment();
    let _settled = ledger.doubt_open_attempts();
    let (attempt, item, page) = (AttemptId(900), ItemIx(30), PageNum(1));
    let intents = vec![Request { attempt, item, id: ItemId::new("x"), page }];
    let _committed = ledger.commit(&Group { intents, ..Group::default() }, Utc64(5));
}

#[test]
fn no_journal_file_makes_its_reader_panic_or_believe_an_answer_that_was_never_written() {
    let folder = scratch();
    let segment = SegmentId(1);
    let entry = |attempt: i64, body: &str| Entry {
        attempt: AttemptId(attempt),
        id: ItemId::new(ID),
        page: PageNum(1),
        at: Utc64(5),
        status: 200,
        is_page: true,
        body: body.to_owned().into(),
    };
    let written =
        [vec![entry(1, "{\"code\":0}\n"), entry(2, "")], vec![entry(3, &"x".repeat(300))], vec![entry(4, "\0")]];
    let mut journal = Journal::open(Disk, folder.path(), segment, 0).unwrap();
    for group in &written {
        journal.append(group).unwrap();
    }
    let path = folder.path().join(file_name(segment));
    let whole = std::fs::read(&path).unwrap();
    fuzz(&[whole], 10_000, |bytes| {
        std::fs::write(&path, bytes).unwrap();
        let mut reader = JournalReader::open(folder.path(), segment).unwrap().unwrap();
        loop {
            match reader.next_frame().unwrap() {
                Next::Frame(frame, entries) => {
                    prop_assert!(written.contains(&entries), "an answer out of nowhere: {entries:?}");
                    prop_assert!(frame.end() <= u64::try_from(bytes.len()).unwrap());
                }
                Next::End | Next::Torn(_) => return Ok(()),
            }
        }
    });
}

#[test]
fn no_manifest_makes_its_reader_panic_or_leads_out_of_the_output() {
    let folder = scratch();
    let store = Store::open(folder.path(), Disk).unwrap();
    let path = folder.path().join(MANIFESTS).join("000001.json");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    fuzz(&corpus("manifest"), 4_000, |bytes| {
        std::fs::write(&path, bytes).unwrap();
        match runtime.block_on(manifests(&store)) {
            Err(error) => prop_assert!(!chain(&error).contains(char::is_control)),
            Ok(read) => {
                for file in read.iter().flat_map(|manifest| manifest.files.iter().chain(&manifest.rejects)) {
                    prop_assert!(!folder.path().join(&file.path).components().any(|part| part.as_os_str() == ".."));
                    prop_assert!(folder.path().join(&file.path).starts_with(folder.path()));
                }
            }
        }
        Ok(())
    });
}
