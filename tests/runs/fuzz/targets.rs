//! The targets: each function panics if a promise is broken for an input. The mutators of `mod.rs` call them,
//! and so do the targets of cargo-fuzz in `fuzz/`.

use std::collections::HashMap;
use std::path::Path;
use std::sync::LazyLock;

use arrow::array::AsArray;
use pagehaul::decode::envelope::{self, Payload};
use pagehaul::decode::lenient_json;
use pagehaul::decode::{Decoder, Response};
use pagehaul::endpoint::id_form::IdPattern;
use pagehaul::endpoint::{BUILT_IN, EXTRA, Endpoint};
use pagehaul::fetch::retry_after;
use pagehaul::input::item_list::ItemList;
use pagehaul::model::clock::Utc64;
use pagehaul::model::page::{AttemptId, Charge, ItemId, ItemIx, PageNum, Request, SegmentId, StopReason};
use pagehaul::model::sanitize::chain;
use pagehaul::output::manifest::manifests;
use pagehaul::output::names::MANIFESTS;
use pagehaul::output::store::Store;
use pagehaul::settings::{Layers, Settings};
use pagehaul::state::disk::Disk;
use pagehaul::state::journal::{Journal, JournalEntry, JournalReader, NextFrame, file_name};
use pagehaul::state::ledger::{AppliedRow, EndRow, ExportRow, FailedRow, Group, Ledger, LedgerError, PageRow};
use reqwest::header::{DATE, HeaderMap, HeaderValue, RETRY_AFTER};
use serde_json::value::RawValue;

const ID: &str = "1729382310407603945";
const SEGMENT: SegmentId = SegmentId(1);

/// A directory in memory if possible: a file for each case is too slow on a disk.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Fails unless an error is one line without control characters.
fn assert_plain(error: &dyn std::error::Error) {
    let shown = chain(error);
    assert!(!shown.contains(char::is_control), "{shown:?}");
}

/// A response: no panic, a row or a reject for each entry, no row with an identity lost, `_extra` valid JSON.
pub(crate) fn response(body: &[u8]) {
    static DECODER: LazyLock<Decoder> = LazyLock::new(|| Decoder::new(&Endpoint::parse(BUILT_IN).unwrap(), |_| true));
    let (attempt, item, page) = (AttemptId(1), ItemIx(1), PageNum(1));
    let response = Response {
        request: Request { attempt, item, id: ItemId::new(ID), page },
        at: Utc64(9),
        body: body.to_vec().into(),
    };
    let read = DECODER.decode(&[response]).unwrap();
    let page = &read.pages[0];
    assert_eq!(page.received, page.keys.len() + page.rejects.len());
    assert_eq!(read.rows.num_rows(), page.keys.len());
    for extra in read.rows.column_by_name(EXTRA).unwrap().as_string::<i32>().iter().flatten() {
        assert!(serde_json::from_str::<serde_json::Value>(extra).is_ok(), "_extra is {extra}");
    }
    let is_page = envelope::read(body).is_ok_and(|frame| frame.data == Payload::Rows);
    if let Some((entries, usable)) = counted(body).filter(|_| is_page) {
        assert_eq!((page.received, page.keys.len()), (entries, usable));
    }
}

/// The number of entries in a response's list, and of those with an identity, by `serde_json`. None if it cannot tell.
fn counted(body: &[u8]) -> Option<(usize, usize)> {
    let text = lenient_json::repaired(&lenient_json::text(body));
    if text.contains("\\u") || text.matches("\"data\"").count() != 1 {
        return None; // the field may be escaped, or come twice
    }
    let frame: HashMap<String, &RawValue> = serde_json::from_str(&text).ok()?;
    let entries: Vec<serde_json::Value> = serde_json::from_str(frame.get("data")?.get()).ok()?;
    // A number with an exponent or a fraction is not an identity; here it may be a double, or a repaired text.
    let is_doubtful = |value: &serde_json::Value| {
        let is_like = |text: &str| text.starts_with(['-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']);
        value.is_f64() || value.as_str().is_some_and(|text| is_like(text) && text.contains(['.', 'e', 'E']))
    };
    let ids = entries.iter().flat_map(|entry| [entry.get("video_id"), entry.get("product_id")]);
    if ids.flatten().any(is_doubtful) {
        return None;
    }
    let is_id = |value: &serde_json::Value| value.is_number() || value.as_str().is_some_and(|text| !text.is_empty());
    let own = |value: Option<&serde_json::Value>| value.is_none_or(|value| value == ID || !is_id(value));
    let has_identity =
        |entry: &&serde_json::Value| entry.get("video_id").is_some_and(is_id) && own(entry.get("product_id"));
    Some((entries.len(), entries.iter().filter(has_identity).count()))
}

/// The value of a `Retry-After` header, and of the `Date` beside it.
pub(crate) fn retry_after_header(bytes: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(bytes) else { return };
    for date in [None, Some(HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT")), Some(value.clone())] {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, value.clone());
        headers.extend(date.map(|date| (DATE, date)));
        retry_after(&headers);
    }
}

/// A config file: settings, or a refusal on one line.
pub(crate) fn config(bytes: &[u8]) {
    let directory = scratch();
    let path = directory.path().join("config.toml");
    std::fs::write(&path, bytes).unwrap();
    let mut layers = Layers::built_in().unwrap();
    if let Err(error) = layers.add_file(&path).and_then(|()| Settings::resolve(&layers).map(drop)) {
        assert_plain(&error);
    }
}

/// A list of products: ids that may be requested, or a refusal on one line.
pub(crate) fn list(bytes: &[u8]) {
    let directory = scratch();
    let path = directory.path().join("list");
    std::fs::write(&path, bytes).unwrap();
    let digits = IdPattern::new("[0-9]{1,32}").unwrap();
    for (column, form) in
        [(None, None), (Some("product_id"), None), (None, Some(&digits)), (Some("product_id"), Some(&digits))]
    {
        let opened =
            ItemList::File(path.clone()).open(column, form, std::sync::Arc::new(pagehaul::model::event::NullSink));
        let ids = match opened {
            Ok(ids) => ids,
            Err(error) => return assert_plain(&error),
        };
        for id in ids {
            match id {
                Ok(id) => {
                    let text = id.as_str();
                    assert!(!text.is_empty() && text.len() <= 256 && !text.contains(char::is_control), "{text:?}");
                }
                Err(error) => {
                    assert_plain(&error);
                    break;
                }
            }
        }
    }
}

/// A ledger with something in every table.
pub(crate) fn ledger_file() -> Vec<u8> {
    let directory = scratch();
    let path = directory.path().join("ledger.sqlite");
    let mut ledger = Ledger::open(&path).unwrap();
    let identity = [("page_size".to_owned(), "10".to_owned())].into();
    let export = ExportRow {
        id: "0123456789".to_owned(),
        created_at: Utc64(1),
        completed_at: None,
        removal: None,
        out: "o".to_owned(),
        identity,
    };
    ledger.create_export(&export).unwrap();
    let ids = (0..40).map(|id| Ok::<_, LedgerError>(ItemId::new(&format!("17293823104076{id:05}"))));
    ledger.add_items(ids, || Ok(())).unwrap();
    let segment = ledger.start_segment().unwrap().id;
    for at in 1..20 {
        let (attempt, item, page) = (AttemptId(at), ItemIx(at), PageNum(1));
        let request = |attempt| Request { attempt, item, id: ItemId::new("x"), page };
        let intents = vec![request(attempt), request(AttemptId(at + 100)), request(AttemptId(at + 200))];
        ledger.commit(&Group { intents, ..Group::default() }, Utc64(2)).unwrap();
        let cause = "HTTP 500".to_owned();
        let group = Group {
            frame: Some((segment, u64::try_from(at).unwrap() * 100, 100)),
            pages: vec![PageRow { attempt, item, page, at: Utc64(3) }],
            failed: vec![FailedRow {
                attempt: AttemptId(at + 100),
                charge: Charge::Free,
                cause,
                may_become_page: at % 2 == 0,
            }],
            applied: vec![AppliedRow {
                attempt,
                item,
                received: 3,
                rejected: 1,
                is_list: true,
                keys: vec![[7; 16], [8; 16]],
                again: Vec::new(),
            }],
            ended: vec![EndRow::new(item, StopReason::ShortPage)],
            ..Group::default()
        };
        ledger.commit(&group, Utc64(3)).unwrap();
    }
    drop(ledger); // the last connection takes the write-ahead log into the file
    std::fs::read(path).unwrap()
}

/// A ledger file: what cannot be opened or read is an error.
pub(crate) fn ledger(bytes: &[u8]) {
    let directory = scratch();
    let path = directory.path().join("ledger.sqlite");
    std::fs::write(&path, bytes).unwrap();
    match Ledger::open(&path) {
        Ok(mut ledger) => work(&mut ledger),
        Err(error) => assert_plain(&error),
    }
}

/// Everything that a run does with a ledger.
fn work(ledger: &mut Ledger) {
    let _known = ledger.export();
    let _summed = (ledger.totals().is_ok(), ledger.credits().is_ok(), ledger.progress().is_ok());
    let none = std::collections::BTreeSet::new();
    let _open =
        (ledger.walking_items(ItemIx(0), &none, 100).is_ok(), ledger.unstarted_items(ItemIx(0), &none, 100).is_ok());
    let _pages =
        (ledger.pages(ItemIx(1), SegmentId(i64::MAX)).is_ok(), ledger.row_keys(ItemIx(1), SegmentId(i64::MAX)).is_ok());
    let _ends = (
        ledger.short_evidence(10).is_ok(),
        ledger.largest_page().is_ok(),
        ledger.count_short_ends(None).is_ok(),
        ledger.failed_items(20).is_ok(),
    );
    let _lists =
        (ledger.end_rule().is_ok(), ledger.empty_lists(PageNum(1)).is_ok(), ledger.ended_item(ItemIx(9)).is_ok());
    let _items = ledger.for_each_item(|_| Ok::<_, LedgerError>(()));
    let _segments = (ledger.decided_segments().is_ok(), ledger.open_segment().is_ok(), ledger.last_attempt().is_ok());
    let _learned = ledger.set_end_rule("empty-page", None);
    let _begun = ledger.start_segment();
    let _settled = ledger.mark_in_doubt();
    let (attempt, item, page) = (AttemptId(900), ItemIx(30), PageNum(1));
    let intents = vec![Request { attempt, item, id: ItemId::new("x"), page }];
    let _committed = ledger.commit(&Group { intents, ..Group::default() }, Utc64(5));
}

/// The groups of answers in the journal of [`journal_file`].
fn groups() -> [Vec<JournalEntry>; 3] {
    let entry = |attempt: i64, body: &str| JournalEntry {
        attempt: AttemptId(attempt),
        id: ItemId::new(ID),
        page: PageNum(1),
        at: Utc64(5),
        status: 200,
        is_page: true,
        body: body.to_owned().into(),
    };
    [vec![entry(1, "{\"code\":0}\n"), entry(2, "")], vec![entry(3, &"x".repeat(300))], vec![entry(4, "\0")]]
}

/// A journal of three frames.
pub(crate) fn journal_file() -> Vec<u8> {
    let directory = scratch();
    let mut journal = Journal::open(Disk, directory.path(), SEGMENT, 0).unwrap();
    for group in groups() {
        journal.append(&group).unwrap();
    }
    std::fs::read(directory.path().join(file_name(SEGMENT))).unwrap()
}

/// A journal file: no answer comes out of it that was never written.
pub(crate) fn journal(bytes: &[u8]) {
    let directory = scratch();
    std::fs::write(directory.path().join(file_name(SEGMENT)), bytes).unwrap();
    let mut reader = JournalReader::open(directory.path(), SEGMENT).unwrap().unwrap();
    while let NextFrame::Frame(frame, entries) = reader.next_frame().unwrap() {
        assert!(groups().contains(&entries), "an answer out of nowhere: {entries:?}");
        assert!(frame.end() <= u64::try_from(bytes.len()).unwrap());
    }
}

/// A manifest: a refusal on one line, or files inside of the output.
pub(crate) fn manifest(bytes: &[u8]) {
    let directory = scratch();
    let store = Store::new(directory.path());
    std::fs::create_dir_all(directory.path().join(MANIFESTS)).unwrap();
    std::fs::write(directory.path().join(MANIFESTS).join("000001.json"), bytes).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    match runtime.block_on(manifests(&store)) {
        Err(error) => assert_plain(&error),
        Ok(read) => {
            for file in read.iter().flat_map(|manifest| manifest.files.iter().chain(&manifest.rejects)) {
                let path = Path::new(&file.path);
                assert!(path.is_relative() && !path.iter().any(|part| part == ".."), "{}", path.display());
            }
        }
    }
}
