//! Dirty data: rows D1 to D16 of the fault catalogue, and a page that has all of it at once.
//!
//! What is claimed of each: no page is lost, no row is lost that has an identity, what did not fit its column is in
//! `_extra` as JSON that every reader takes, what has no identity is in `_rejects` with its raw text and a reason, and
//! the counts of the summary add up.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;
use std::process::Command;

use crate::common::{
    Answer, Api, Home, Row, Run, endpoint, manifests, pagehaul, row_at, rows, run, run_with, simulator,
};
use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use pagehaul::decode::envelope::{self, NotEnvelope, Payload};
use pagehaul::decode::{self, Decoded, Decoder, MOST_ROWS, NESTING};
use pagehaul::endpoint::{BUILT_IN, ColumnKind, EXTRA, Role};
use pagehaul::model::clock::Utc64;
use pagehaul::model::page::{AttemptId, ItemId, ItemIx, PageNum, Request};
use pagehaul::model::partition;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};

/// The product that is requested.
const ID: &str = "1729382310407603945";

// --- helpers -------------------------------------------------------------------------------------------------------

/// Decodes a page that must be one.
fn decode(body: &[u8]) -> Decoded {
    let envelope = envelope::read(body).unwrap();
    assert_eq!((envelope.code, envelope.data), (Some(0), Payload::Rows));
    let (attempt, item, page) = (AttemptId(1), ItemIx(1), PageNum(1));
    let answer = decode::Response {
        request: Request { attempt, item, id: ItemId::new(ID), page },
        at: Utc64(9),
        body: body.to_vec().into(),
    };
    let decoded = Decoder::new(&endpoint(), |_| true).decode(&[answer]).unwrap();
    let page = &decoded.pages[0];
    assert_eq!(page.received, page.keys.len() + page.rejects.len(), "received = rows + rejects");
    assert_eq!((decoded.rows.num_rows(), decoded.partitions.len()), (page.keys.len(), page.keys.len()));
    decoded
}

fn body_of(rows: &str) -> Vec<u8> {
    format!(r#"{{"code":0,"message":"success","data":[{rows}],"requestId":"x"}}"#).into_bytes()
}

fn decode_rows(rows: &str) -> Decoded {
    decode(&body_of(rows))
}

/// Decodes a row that has its identity and these fields.
fn row_with(fields: &str) -> Row {
    let decoded = decode_rows(&format!(r#"{{"video_id":"7",{fields}}}"#));
    assert_eq!(decoded.pages[0].keys.len(), 1, "{fields}");
    typed_row(&decoded, 0)
}

/// A row with its region among its cells.
fn typed_row(decoded: &Decoded, at: usize) -> Row {
    let mut row = row_at(&decoded.rows, at);
    row.insert("region".to_owned(), decoded.partitions[at].as_deref().into());
    row
}

/// What a row keeps of a field beside its column; none if nothing.
fn kept(row: &Row, field: &str) -> Option<Value> {
    let extra: Value = serde_json::from_str(row[EXTRA].as_str()?).expect("_extra is JSON for a strict reader");
    extra.get(field).cloned()
}

/// What is in `_rejects` of an output: item, reason and raw text.
fn rejects(out: &Path) -> Vec<(String, String, String)> {
    let mut all = Vec::new();
    for path in manifests(out).iter().filter_map(|manifest| manifest["rejects"]["path"].as_str()) {
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(out.join(path)).unwrap()).unwrap();
        for batch in reader.build().unwrap() {
            let batch = batch.unwrap();
            for row in (0..batch.num_rows()).map(|at| row_at(&batch, at)) {
                let text = |name: &str| row[name].as_str().unwrap().to_owned();
                all.push((text("item"), text("reason"), text("raw")));
            }
        }
    }
    all
}

/// Fails unless the counts of a summary add up, and gives received, published, duplicate and rejected rows.
fn counts(summary: &Value) -> [u64; 4] {
    let count = |name: &str| summary["rows"][name].as_u64().unwrap();
    let [received, published, duplicates, rejected] = ["received", "published", "duplicates", "rejected"].map(count);
    assert_eq!((received, count("waiting")), (published + duplicates + rejected, 0), "{summary}");
    [received, published, duplicates, rejected]
}

/// An API that has one list: these pages, then empty ones.
fn api_of(pages: Vec<Vec<u8>>) -> Api {
    Api::start(move |request| {
        let page = usize::try_from(request.page).unwrap().checked_sub(1).and_then(|at| pages.get(at));
        Answer::new(200, page.cloned().unwrap_or_else(|| body_of("")))
    })
}

/// Exports one product from these pages with the built program, and has the program check what came of it.
fn export_pages(pages: Vec<Vec<u8>>, more: &[&str]) -> (Home, Value) {
    let (home, api) = (Home::new(&[ID.to_owned()]), api_of(pages));
    let summary = run(home.export(&api.base_url(), &[&["--end", "empty-page"], more].concat())).ended(0);
    run(pagehaul(["verify", "--out", &home.argument("out")])).ended(0);
    (home, summary)
}

// --- D1 to D5: bytes, texts, keys, nesting, numbers ----------------------------------------------------------------

/// A page of three rows, as the simulator makes them.
fn page_of_three() -> Vec<u8> {
    let simulator = simulator("products=1,max_videos=40");
    let rows: Vec<String> = (0..3).map(|at| simulator.row(ID, None, at).unwrap()).collect();
    body_of(&rows.join(","))
}

/// The places in a body inside the strings of its rows.
fn inside_strings(body: &[u8]) -> Vec<usize> {
    let (mut places, mut open) = (Vec::new(), false);
    let start = body.iter().position(|byte| *byte == b'[').unwrap();
    let end = body.iter().rposition(|byte| *byte == b']').unwrap();
    for (at, byte) in body.iter().enumerate().take(end).skip(start) {
        match byte {
            b'"' => open = !open,
            b'\\' => panic!("the page holds escapes"),
            _ if open => places.push(at),
            _ => {}
        }
    }
    places
}

#[test]
fn d1_a_byte_that_is_no_utf8_costs_neither_the_page_nor_a_row_and_can_be_read_again_from_extra() {
    let whole = page_of_three();
    let clean: Vec<Row> = {
        let decoded = decode(&whole);
        (0..3).map(|at| typed_row(&decoded, at)).collect()
    };
    let mut rejected = 0;
    for at in inside_strings(&whole) {
        let mut body = whole.clone();
        body[at] = 0xff;
        let decoded = decode(&body);
        let page = &decoded.pages[0];
        // Where the name of the identity or the id of the product itself is hit, the row is nobody's.
        let nobodys = page.rejects.iter().all(|reject| reject.raw.contains("udcff"));
        assert!(page.received == 3 && page.rejects.len() <= 1 && nobodys, "byte {at}: {:?}", page.rejects);
        let rows: Vec<Row> = (0..page.keys.len()).map(|at| typed_row(&decoded, at)).collect();
        rejected += page.rejects.len();
        let untouched = rows.iter().filter(|row| clean.contains(row)).count();
        assert_eq!(untouched, 2, "byte {at}: the other rows are as they were");
        for row in rows.iter().filter(|row| !clean.contains(row)) {
            let extra = row[EXTRA].as_str().expect("the damage is on record");
            assert!(extra.contains("udcff") || extra.contains('\u{fffd}'), "byte {at}: {extra}");
            kept(row, "");
        }
    }
    assert_eq!(rejected, 3 * ("video_id".len() + ID.len()));
}

#[test]
fn d1_no_flipped_byte_makes_the_decoder_panic_or_lose_an_entry() {
    let whole = page_of_three();
    for at in 0..whole.len() {
        for flip in [0x01, 0x20, 0x80, 0xff, whole[at]] {
            let mut body = whole.clone();
            body[at] ^= flip;
            let Ok(envelope) = envelope::read(&body) else { continue }; // kept as evidence, and requested again
            if (envelope.code, envelope.data) == (Some(0), Payload::Rows) {
                let received = decode(&body).pages[0].received;
                assert_eq!(received, 3, "byte {at} flipped by {flip:#x}");
            }
        }
    }
}

#[test]
fn d2_half_a_surrogate_pair_costs_nothing_wherever_it_is() {
    let halves = [r"\ud83d", r"\ude00", r"cut \ud83d", r"\ud83dx", r"\ude00\ud83d", r"\ud83d\ud83d\ude00", r"\uD83D\n"];
    for half in halves {
        for column in endpoint().columns.iter().filter(|column| column.role != Role::Identity) {
            let row = row_with(&format!(r#""{}":"{half}""#, column.name));
            assert_eq!(kept(&row, &column.name).unwrap(), format!("\"{half}\""), "its JSON text, exactly");
            let shown = &row[&column.name];
            if column.kind == ColumnKind::Utf8 && column.role != Role::Partition {
                assert!(shown.as_str().unwrap().contains('\u{fffd}'), "{column:?}: {shown}");
            } else {
                assert!(shown.is_null(), "{column:?}: {shown}");
            }
        }
        let row = row_with(&format!(r#""new {half}":1"#));
        assert_eq!(kept(&row, &format!("\"new {half}\"")).unwrap(), 1, "under its JSON text, exactly");
    }
    let whole = row_with(r#""video_desc":"\ud83d\ude00 \u00e9""#);
    assert_eq!((whole["video_desc"].as_str(), &whole[EXTRA]), (Some("😀 é"), &Value::Null));
}

#[test]
fn d2_ids_that_look_the_same_only_because_both_are_damaged_stay_two_rows() {
    let halves: Vec<String> = [r"\ud83d", r"\ude00", r"\ufffd"].map(|id| format!(r#"{{"video_id":"{id}"}}"#)).into();
    let bytes = [b"{\"video_id\":\"\xff\"}".as_slice(), b"{\"video_id\":\"\xfe\"}", halves.join(",").as_bytes()]
        .join(&b","[..]);
    let body = [b"{\"code\":0,\"data\":[".as_slice(), &bytes, b"]}"].concat();
    let decoded = decode(&body);
    let keys: BTreeSet<_> = decoded.pages[0].keys.iter().collect();
    assert_eq!(keys.len(), 5, "five ids, five keys");
    let (home, summary) = export_pages(vec![body], &[]);
    assert_eq!(counts(&summary), [5, 5, 0, 0]);
    let ids: BTreeSet<String> = rows(&home.out()).into_keys().map(|(_, video)| video).collect();
    let texts = [r#""\udcfe""#, r#""\udcff""#, r#""\ud83d""#, r#""\ude00""#, "\u{fffd}"];
    assert_eq!(ids, texts.map(str::to_owned).into(), "readers see five, too: damaged ids as their JSON text");
}

#[test]
fn d3_of_a_field_that_comes_twice_the_last_counts_and_the_others_are_kept() {
    let decoded = decode_rows(
        r#"{"video_id":"6","video_id":"7","region":"ID","region":"TH","duration":1,"duration":2,"duration":3,"new":1,"new":[2]}"#,
    );
    let row = typed_row(&decoded, 0);
    assert_eq!((&row["video_id"], &row["region"], &row["duration"]), (&json!("7"), &json!("TH"), &json!(3)));
    let extra: Value = serde_json::from_str(row[EXTRA].as_str().unwrap()).unwrap();
    assert_eq!(extra, json!({"video_id": "6", "region": "ID", "duration": [1, 2], "new": [1, [2]]}));
    let misfit = row_with(r#""height":5,"height":"tall""#);
    assert_eq!((&misfit["height"], kept(&misfit, "height")), (&Value::Null, Some(json!([5, "tall"]))));
}

#[test]
fn d3_rows_under_a_key_that_comes_twice_are_all_there() {
    for data in
        [r#""data":[ROW7],"data":[ROW8]"#, r#""data":[ROW7,ROW8],"data":null"#, r#""data":{},"d\u0061ta":[ROW7,ROW8]"#]
    {
        let data = data.replace("ROW7", r#"{"video_id":"7"}"#).replace("ROW8", r#"{"video_id":"8"}"#);
        assert_eq!(decode(format!("{{\"code\":0,{data}}}").as_bytes()).pages[0].keys.len(), 2, "{data}");
    }
}

#[test]
fn d4_nesting_of_any_depth_costs_no_stack_no_page_and_no_row() {
    let deep = |levels: usize, open: &str, close: &str| open.repeat(levels) + "1" + &close.repeat(levels);
    let work = move || {
        for value in [deep(100_000, "[", "]"), deep(100_000, "{\"a\":", "}"), deep(NESTING + 1, "[", "]")] {
            let row = row_with(&format!(r#""new":{value},"video_desc":{value},"region":{value},"duration":{value}"#));
            for field in ["new", "video_desc", "region", "duration"] {
                assert_eq!(kept(&row, field).unwrap(), value.as_str(), "its JSON text, as a text");
            }
            let decoded = decode_rows(&format!(r#"{value},{{"video_id":{value}}},{{"video_id":"8"}}"#));
            assert_eq!((decoded.pages[0].keys.len(), decoded.pages[0].rejects.len()), (1, 2));
            let around = format!(r#"{{"before":{value},"code":0,"data":[{{"video_id":"7"}}],"message":{value}}}"#);
            assert_eq!(decode(around.as_bytes()).pages[0].keys.len(), 1);
        }
        let row = row_with(&format!(r#""new":{}"#, deep(NESTING, "[", "]")));
        assert!(kept(&row, "new").unwrap().is_array(), "as deep as readers can follow it stays nested");
        let open = format!("{{\"code\":0,\"data\":{}", "[".repeat(1_000_000));
        assert_eq!(envelope::read(open.as_bytes()), Err(NotEnvelope::Truncated));
    };
    // A stack on which a recursion of some hundred levels would end.
    std::thread::Builder::new().stack_size(256 << 10).spawn(work).unwrap().join().unwrap();
}

#[test]
fn d5_numbers_stand_exactly_or_their_text_is_kept() {
    // The number as it is sent, what an integer column has, what a decimal column has.
    let table: [(&str, Option<i64>, Option<f64>); 30] = [
        ("0", Some(0), Some(0.0)),
        ("-0", Some(0), Some(0.0)),
        ("17", Some(17), Some(17.0)),
        ("-17", Some(-17), Some(-17.0)),
        ("1.0", Some(1), Some(1.0)),
        ("1e3", Some(1_000), Some(1e3)),
        ("1E+3", Some(1_000), Some(1e3)),
        ("12.50e1", Some(125), Some(125.0)),
        ("1.5", None, Some(1.5)),
        ("0.1", None, Some(0.1)),
        ("1e-7", None, Some(1e-7)),
        ("1.00000000000000000001", None, Some(1.0)),
        ("9007199254740992", Some(9_007_199_254_740_992), Some(9_007_199_254_740_992.0)),
        ("9007199254740993", Some(9_007_199_254_740_993), None),
        ("9007199254740993.0", Some(9_007_199_254_740_993), None),
        ("9223372036854775807", Some(i64::MAX), None),
        ("-9223372036854775808", Some(i64::MIN), Some(-9_223_372_036_854_775_808.0)),
        ("9223372036854775808", None, Some(9_223_372_036_854_775_808.0)),
        ("-9223372036854775809", None, None),
        ("18446744073709551616", None, Some(18_446_744_073_709_551_616.0)),
        ("123456789012345678901234567890", None, None),
        ("1e400", None, None),
        ("-1e400", None, None),
        ("1e-400", None, None),
        ("1e99999999999999999999", None, None),
        ("NaN", None, None),
        ("Infinity", None, None),
        ("-Infinity", None, None),
        ("007", Some(7), Some(7.0)),
        ("0x10", None, None),
    ];
    for (text, whole, decimal) in table {
        for raw in [text.to_owned(), format!("\"{text}\"")] {
            let row = row_with(&format!(r#""height":{raw},"total_video_sale_gmv_amt":{raw}"#));
            assert_eq!(row["height"].as_i64(), whole, "{raw}");
            assert_eq!(
                row["total_video_sale_gmv_amt"].as_f64().map(f64::to_bits),
                decimal.map(f64::to_bits).map(|bits| if text == "-0" { (-0.0_f64).to_bits() } else { bits }),
                "{raw}"
            );
            for (column, fits) in [("height", whole.is_some()), ("total_video_sale_gmv_amt", decimal.is_some())] {
                let is_kept = row[EXTRA]
                    .as_str()
                    .is_some_and(|extra| extra.contains(&format!("\"{column}\":")) && extra.contains(text));
                assert_eq!(is_kept, !fits, "{column} {raw}: {}", row[EXTRA]);
            }
            kept(&row, "");
        }
        // An id is its digits, whatever they are.
        let decoded = decode_rows(&format!(r#"{{"video_id":"{text}"}}"#));
        assert_eq!(typed_row(&decoded, 0)["video_id"], text);
    }
    let numbers = decode_rows(r#"{"video_id":6994372454948900122},{"video_id":123456789012345678901234567890}"#);
    let ids = [0, 1].map(|at| typed_row(&numbers, at)["video_id"].clone());
    assert_eq!(ids, ["6994372454948900122", "123456789012345678901234567890"]);
}

// --- D6: every column and every JSON type --------------------------------------------------------------------------

/// What is sent in a cell.
const SENT: [Option<&str>; 9] = [
    Some("\"text\""),
    Some("\"12\""),
    Some("12"),
    Some("1.5"),
    Some("true"),
    Some("null"),
    Some("[1]"),
    Some("{\"a\":1}"),
    None,
];

/// What becomes of it, in the order of [`SENT`].
///
/// * `=` the value is in its column only (a partition value: in the directory's name)
/// * `x` the column is null (of the partition: the default directory), and its JSON text is in `_extra`
/// * `.` the column is null (of the partition: the default directory), and nothing is in `_extra`
/// * `a` the column has the requested product, and its JSON text is in `_extra`
/// * `A` the column has the requested product, and nothing is in `_extra`
/// * `r` the row has no identity: a reject
/// * `n` its identity is a number that may be rounded: a reject
/// * `f` the row belongs to another product: a reject
const BECOMES: [(&str, &str); 21] = [
    // "text" "12" 12 1.5 true null [1] {"a":1} missing
    ("video_id", "===nrrrrr"),
    ("product_id", "fffnaAaaA"),
    ("user_id", "====x.xx."),
    ("region", "====x.xx."),
    ("create_time", "x==xx.xx."),
    ("video_desc", "====x.xx."),
    ("hash_tag", "====x.xx."),
    ("duration", "x==xx.xx."),
    ("height", "x==xx.xx."),
    ("width", "x==xx.xx."),
    ("ratio", "====x.xx."),
    ("data_size", "x==xx.xx."),
    ("total_views_cnt", "x==xx.xx."),
    ("total_digg_cnt", "x==xx.xx."),
    ("total_comments_cnt", "x==xx.xx."),
    ("total_favorites_cnt", "x==xx.xx."),
    ("total_shares_cnt", "x==xx.xx."),
    ("total_video_sale_cnt", "x==xx.xx."),
    ("total_video_sale_gmv_amt", "x===x.xx."),
    ("reflow_cover", "====x.xx."),
    ("play_addr", "====x.xx."),
];

/// What a column has of a number or a text that fits it.
fn cell_of(kind: ColumnKind, sent: &str) -> Value {
    let text = sent.trim_matches('"');
    match kind {
        ColumnKind::Utf8 => text.into(),
        ColumnKind::Int64 => text.parse::<i64>().unwrap().into(),
        ColumnKind::Float64 => text.parse::<f64>().unwrap().into(),
        ColumnKind::Timestamp => (text.parse::<i64>().unwrap() * 1_000_000).into(),
    }
}

#[test]
fn d6_every_column_takes_every_json_type_and_loses_nothing() {
    let endpoint = endpoint();
    assert_eq!(
        BECOMES.map(|(name, _)| name).as_slice(),
        endpoint.columns.iter().map(|column| &*column.name).collect::<Vec<_>>()
    );
    for (column, (name, becomes)) in endpoint.columns.iter().zip(BECOMES) {
        for (sent, becomes) in SENT.into_iter().zip(becomes.chars()) {
            let identity = if name == "video_id" { "" } else { r#","video_id":"7""# };
            let cell = sent.map(|sent| format!(r#","{name}":{sent}"#)).unwrap_or_default();
            let raw = format!(r#"{{"other":0{identity}{cell}}}"#);
            let decoded = decode_rows(&raw);
            if "rnf".contains(becomes) {
                let [reject] = decoded.pages[0].rejects.as_slice() else { panic!("{raw} is no reject") };
                let reason = match becomes {
                    'r' => "no identity",
                    'n' => "an exponent or a fraction",
                    _ => "belongs to",
                };
                assert!(reject.reason.contains(reason) && reject.raw == raw, "{reject:?}");
                continue;
            }
            let row = typed_row(&decoded, 0);
            let wanted = match becomes {
                '=' => cell_of(column.kind, sent.unwrap()),
                'a' | 'A' => ID.into(),
                _ => Value::Null,
            };
            assert_eq!(row[name], wanted, "{raw}");
            let text = sent.filter(|_| "xa".contains(becomes)).map(|sent| serde_json::from_str(sent).unwrap());
            assert_eq!(kept(&row, name), text, "{raw}");
        }
    }
}

#[test]
fn d6_ids_may_be_texts_or_numbers_and_keep_every_digit_and_zero() {
    let decoded = decode_rows(&format!(
        r#"{{"video_id":"007","product_id":{ID}}},{{"video_id":7,"product_id":"{ID}"}},{{"video_id":"7"}}"#
    ));
    let ids: Vec<_> = (0..3).map(|at| typed_row(&decoded, at)["video_id"].clone()).collect();
    assert_eq!(ids, ["007", "7", "7"]);
    let keys = &decoded.pages[0].keys;
    assert!(keys[1] == keys[2] && keys[0] != keys[1], "7 and \"7\" are one video, 007 is another");
}

// --- D7 to D9: times, characters, identity -------------------------------------------------------------------------

#[test]
fn d7_a_time_that_cannot_be_meant_is_null_and_its_text_is_kept() {
    let table = [
        ("1628504241", Some(1_628_504_241_000_000)),
        ("\"1628504241\"", Some(1_628_504_241_000_000)),
        ("1.628504241e9", Some(1_628_504_241_000_000)),
        ("1", Some(1_000_000)),
        ("4102444799", Some(4_102_444_799_000_000)),
        ("4102444800", None),
        ("1628504241000", None),
        ("0", None),
        ("-1", None),
        ("292277026596", None),
        ("9223372036854775807", None),
        ("-9223372036854775808", None),
        ("1628504241.5", None),
        ("\"2021-08-09T10:17:21Z\"", Some(1_628_504_241_000_000)),
        ("\"2021-08-09 12:17:21.5+02:00\"", Some(1_628_504_241_500_000)),
        ("\"2021-08-09T10:17:21\"", None),
        ("\"2021-08-09T10:17:21.1234567Z\"", None),
        ("\"2100-01-01T00:00:00Z\"", None),
        ("\"\"", None),
    ];
    for (raw, micros) in table {
        let row = row_with(&format!(r#""create_time":{raw}"#));
        assert_eq!(row["create_time"].as_i64(), micros, "{raw}");
        let text = micros.is_none().then(|| serde_json::from_str(raw).unwrap());
        assert_eq!(kept(&row, "create_time"), text, "{raw}");
    }
}

#[test]
fn d8_every_character_and_a_megabyte_of_them_come_back_from_the_files() {
    let controls: String = (0..0xa0_u8).map(char::from).collect();
    let strange = "\u{200d}👩\u{200d}👩\u{200d}👧 \u{202e}evil\u{202c} \u{2066}x\u{2069} \u{feff}\u{ad}\u{2028}\u{e0041}\u{10ffff}\u{fffe} e\u{301}";
    let long = "é\"\\\n".repeat(200_000); // a megabyte
    let texts = [controls.as_str(), strange, long.as_str(), "", "null", "\u{fffd}"];
    let mut rows_sent: Vec<String> = texts
        .iter()
        .enumerate()
        .map(|(at, text)| json!({"video_id": at.to_string(), "video_desc": text}).to_string())
        .collect();
    // The same controls as they are, which is no JSON by the letter.
    let bare: String = controls.chars().filter(|c| !"\"\\".contains(*c)).collect();
    rows_sent.push(format!("{{\"video_id\":\"bare\",\"video_desc\":\"{bare}\"}}"));
    let (home, summary) = export_pages(vec![body_of(&rows_sent.join(","))], &[]);
    assert_eq!(counts(&summary), [7, 7, 0, 0]);
    let rows = rows(&home.out());
    for (at, text) in texts.iter().enumerate() {
        assert!(rows[&(ID.to_owned(), at.to_string())]["video_desc"] == *text, "text {at} differs");
    }
    assert_eq!(rows[&(ID.to_owned(), "bare".to_owned())]["video_desc"], bare);
    assert!(rows.values().all(|row| row[EXTRA].is_null()));
}

#[test]
fn d9_rows_without_identity_are_rejects_with_reason_and_raw_text_and_cost_no_other_row() {
    let bad = [
        (r#"{"video_id": null, "region":"ID"}"#, "the row has no identity"),
        (r#"{"region":"TH"}"#, "the row has no identity"),
        (r#"{"video_id":""}"#, "the row has no identity"),
        (r#"{"video_id":{"a":"\ud83d"}}"#, "the row has no identity"),
        (r#"{"video_id":1.0}"#, "the identity is a number with an exponent or a fraction, which may be rounded"),
        ("17", "the row is not a JSON object"),
        ("null", "the row is not a JSON object"),
        (r#"["video_id","9"]"#, "the row is not a JSON object"),
        ("\"\\ud83d\"", "the row is not a JSON object"),
        (r#"{"video_id":"9","product_id":"99"}"#, "the row belongs to 99"),
        ("{\"video_id\":\"9\",\"product_id\":\"\u{1b}[2J\"}", "the row belongs to \u{fffd}[2J"),
    ];
    let good = ["1", "2", "3"].map(|id| format!(r#"{{"video_id":"{id}"}}"#));
    let sent: Vec<&str> = bad.iter().map(|(raw, _)| *raw).chain(good.iter().map(String::as_str)).collect();
    let (home, summary) = export_pages(vec![body_of(&sent.join(" , "))], &[]);
    assert_eq!(counts(&summary), [14, 3, 0, 11]);
    let wanted = bad.map(|(raw, reason)| (ID.to_owned(), reason.to_owned(), raw.to_owned()));
    assert_eq!(rejects(&home.out()), wanted);
    assert_eq!(rows(&home.out()).len(), 3);
}

#[test]
fn d9_rows_beyond_what_a_page_may_have_are_one_reject_that_keeps_them_all() {
    let numbered: Vec<String> = (0..MOST_ROWS + 3).map(|id| format!(r#"{{"video_id":"{id}"}}"#)).collect();
    let decoded = decode_rows(&numbered.join(","));
    let page = &decoded.pages[0];
    assert_eq!((page.keys.len(), page.rejects.len()), (MOST_ROWS, 1));
    assert_eq!(page.rejects[0].raw, numbered[MOST_ROWS..].join(","));
    assert!(page.rejects[0].reason.contains("beyond the first 100000"));
    let exactly = decode_rows(&numbered[..MOST_ROWS].join(","));
    assert_eq!((exactly.pages[0].keys.len(), exactly.pages[0].rejects.len()), (MOST_ROWS, 0));
}

// --- D10, D11: regions ---------------------------------------------------------------------------------------------

/// Regions that fit a directory's name, however hostile.
const REGIONS: [&str; 26] = [
    "ID",
    "id",
    "Id",
    "../../etc/x",
    "a=b/c",
    "a/b",
    ".",
    "..",
    "CON",
    "NUL",
    "a.",
    " ",
    "a b",
    "%2F",
    "é",
    "e\u{301}",
    "\u{202e}",
    "\0",
    "\n",
    "/etc/passwd",
    "C:\\x",
    "region=ID",
    "null",
    "_SUCCESS",
    "👍",
    "_rejects",
];

#[test]
fn d10_no_region_leaves_the_output_and_none_is_mistaken_for_another() {
    let long = "x".repeat(300);
    let unfit = ["", long.as_str(), partition::DEFAULT];
    let sent: Vec<String> = REGIONS
        .iter()
        .chain(&unfit)
        .enumerate()
        .map(|(at, region)| json!({"video_id": at.to_string(), "region": region}).to_string())
        .chain(
            [
                r#"{"video_id":"null","region":null}"#,
                r#"{"video_id":"none"}"#,
                r#"{"video_id":"half","region":"\ud83d"}"#,
            ]
            .map(str::to_owned),
        )
        .collect();
    let (home, summary) = export_pages(vec![body_of(&sent.join(","))], &[]);
    let all = u64::try_from(sent.len()).unwrap();
    assert_eq!(counts(&summary), [all, all, 0, 0]);
    let rows = rows(&home.out());
    let row = |id: &str| &rows[&(ID.to_owned(), id.to_owned())];
    for (at, region) in REGIONS.iter().enumerate() {
        let row = row(&at.to_string());
        assert_eq!((&row["region"], &row[EXTRA]), (&json!(region), &Value::Null));
    }
    for (at, region) in unfit.iter().enumerate() {
        let row = row(&(REGIONS.len() + at).to_string());
        assert_eq!((&row["region"], kept(row, "region")), (&Value::Null, Some(json!(region))));
    }
    for (id, text) in [("null", None), ("none", None), ("half", Some(json!(r#""\ud83d""#)))] {
        assert_eq!((&row(id)["region"], kept(row(id), "region")), (&Value::Null, text));
    }
    let directories: BTreeSet<_> =
        std::fs::read_dir(home.out()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let is_ours = |name: &str| name.starts_with("region=") || ["_SUCCESS", "_pagehaul", "_rejects"].contains(&name);
    assert!(directories.iter().all(|name| is_ours(name.to_str().unwrap())), "{directories:?}");
    assert_eq!(summary["regions"], REGIONS.len() + 1);
    let beside: BTreeSet<_> =
        std::fs::read_dir(home.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(beside, ["list.txt", "out"].map(Into::into).into(), "nothing lies beside the output");
}

#[test]
fn d10_directories_beyond_the_most_share_the_default_one_and_their_text_is_kept() {
    let most = partition::MAX_DIRECTORIES;
    let decoder = Decoder::new(&endpoint(), |_| true);
    let answer = |regions: std::ops::Range<usize>| {
        let rows: Vec<String> = regions.map(|at| format!(r#"{{"video_id":"{at}","region":"r{at}"}}"#)).collect();
        let (attempt, item, page) = (AttemptId(1), ItemIx(1), PageNum(1));
        decode::Response {
            request: Request { attempt, item, id: ItemId::new(ID), page },
            at: Utc64(9),
            body: body_of(&rows.join(",")).into(),
        }
    };
    let full: Vec<_> = (0..most).step_by(MOST_ROWS).map(|from| answer(from..(from + MOST_ROWS).min(most))).collect();
    assert!(decoder.decode(&full).unwrap().partitions.iter().all(Option::is_some));
    let beyond = decoder.clone().decode(&[answer(most - 1..most + 2)]).unwrap();
    assert_eq!(beyond.partitions[0].as_deref(), Some(format!("r{}", most - 1).as_str()));
    for at in 1..3 {
        let row = typed_row(&beyond, at);
        assert_eq!((&row["region"], kept(&row, "region")), (&Value::Null, Some(format!("r{}", most - 1 + at).into())));
    }
}

#[test]
fn d11_ten_thousand_regions_need_no_more_than_128_open_files() {
    let pages: Vec<Vec<u8>> = (0..4)
        .map(|page| {
            let rows =
                (page * 2_500..(page + 1) * 2_500).map(|at| format!(r#"{{"video_id":"{at}","region":"r{at}"}}"#));
            body_of(&rows.collect::<Vec<_>>().join(","))
        })
        .collect();
    let (home, api) = (Home::new(&[ID.to_owned()]), api_of(pages));
    let export = home.export(
        &api.base_url(),
        &["--end", "empty-page", "--max-in-flight", "4", "--row-group-memory", "1MiB", "--columns", "duration"],
    );
    let summary = run(limited("ulimit -n 128", &export)).ended(0);
    assert_eq!(counts(&summary), [10_000, 10_000, 0, 0]);
    assert_eq!((&summary["regions"], &summary["files"]), (&10_000.into(), &10_000.into()));
    let rows = rows(&home.out());
    assert_eq!(rows.len(), 10_000);
    assert!(rows.iter().all(|((_, id), row)| row["region"] == format!("r{id}")));
}

/// A command below a limit of the shell.
fn limited(limit: &str, command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{limit}; exec \"$0\" \"$@\"")]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell
}

// --- D12, D13: the list --------------------------------------------------------------------------------------------

#[test]
fn d12_ids_reach_the_api_exactly_as_the_list_has_them() {
    let ids = [
        "a&b=c",
        "a#b",
        "a b",
        "100%",
        "%2F",
        "+1",
        "\"q\"",
        "'",
        "00017",
        "0",
        "é",
        "e\u{301}",
        "👍🏽",
        "../x",
        "a;b?c",
        "<x>",
        "\\",
        "a\u{a0}b",
        "\u{202e}x",
        "x\u{200d}y",
        "{}",
        "[1]",
        "null",
        "product_id=1&page_num=9",
    ];
    let longest = "7".repeat(256);
    let ids: Vec<String> = ids.iter().map(|id| (*id).to_owned()).chain([longest]).collect();
    let api = Api::start(|request| {
        assert!(request.query.is_ascii() && !request.query.contains([' ', '"', '#', '<']), "{}", request.query);
        let row = json!({"video_id": "1", "product_id": request.product}).to_string();
        Answer::page(if request.page == 1 { std::slice::from_ref(&row) } else { &[] })
    });
    let home = Home::new(&ids);
    let summary = run(home.export(&api.base_url(), &["--end", "empty-page", &home.any_id()])).ended(0);
    assert_eq!(counts(&summary), [25, 25, 0, 0]);
    let requested: BTreeSet<String> = api.requested().into_keys().map(|(product, _)| product).collect();
    assert_eq!(requested, ids.iter().cloned().collect());
    let published: BTreeSet<String> = rows(&home.out()).into_keys().map(|(product, _)| product).collect();
    assert_eq!(published, requested);
}

#[test]
fn d12_an_id_that_is_too_long_is_refused_with_its_line_before_any_request() {
    let api = api_of(Vec::new());
    for length in [257, 10_240] {
        let home = Home::new(&["1".to_owned(), "7".repeat(length)]);
        let refused = run(home.export(&api.base_url(), &[]));
        let cause = refused.ended(2)["cause"].as_str().unwrap().to_owned();
        assert!(cause.contains("line 2") && cause.contains("longer than 256 bytes"), "{cause}");
    }
    assert_eq!(api.requests(), 0);
}

/// What a list must come to: the code, the ids that are requested, and words of the reason.
type ListCase<'a> = (&'a str, &'a [u8], i32, &'a [&'a str], &'a [&'a str]);

#[test]
fn d13_a_list_in_any_form_is_read_or_refused_by_name_before_any_request() {
    let wide = |unit: fn(u16) -> [u8; 2]| "\u{feff}17\n18\n".encode_utf16().flat_map(unit).collect::<Vec<u8>>();
    let (little, big) = (wide(u16::to_le_bytes), wide(u16::to_be_bytes));
    let (bare_little, bare_big) = (little[2..].to_vec(), big[2..].to_vec());
    let binary = vec![0x80; 70_000];
    let table: [ListCase; 18] = [
        ("empty", b"", 2, &[], &["no id"]),
        ("comments alone", b"# a\n  # b\n\n", 2, &[], &["no id"]),
        ("UTF-16, little end first", &little, 2, &[], &["UTF-16", "UTF-8"]),
        ("UTF-16, big end first", &big, 2, &[], &["UTF-16", "UTF-8"]),
        ("UTF-16 without a mark", &bare_little, 2, &[], &["UTF-16"]),
        ("UTF-16 without a mark, big end first", &bare_big, 2, &[], &["UTF-16"]),
        ("no UTF-8", b"17\n\xe9\n", 2, &[], &["line 2", "UTF-8"]),
        ("escape", b"17\n18\n\x1b[2J\n", 2, &[], &["line 3", "U+001B"]),
        ("binary", &binary, 2, &[], &["line 1", "64 KiB"]),
        ("Parquet without a column", b"PAR1xxxxPAR1", 2, &[], &["--product-column"]),
        ("byte order mark", b"\xef\xbb\xbf17\n18\n", 0, &["17", "18"], &[]),
        ("made on Windows", b"17\r\n\r\n18\r\n", 0, &["17", "18"], &[]),
        ("last line without an end", b"17\n18", 0, &["17", "18"], &[]),
        ("blanks, comments and duplicates", b"# head\n 17 # one\n\n17\n\t18\n17\n", 0, &["17", "18"], &[]),
        ("line ends of an old Mac", b"17\r18\r", 0, &["17", "18"], &[]),
        ("the end mark of DOS", b"17\r\n18\r\n\x1a", 0, &["17", "18"], &[]),
        ("characters without width", "\u{200b}17\n1\u{200d}8\u{feff}\n".as_bytes(), 0, &["17", "18"], &[]),
        ("a comment without a space", b"17#2\n", 2, &[], &["line 1", "`17#2`", "comment"]),
    ];
    let api = Api::start(|_| Answer::page(&[]));
    for (name, content, code, ids, words) in table {
        for on_stdin in [false, true] {
            let before = api.requests();
            let home = Home::new(&[]);
            let path = home.file("list.txt", content);
            let mut command = home.bare_export(&api.base_url(), &[]);
            command.args(["--products", if on_stdin { "-" } else { &path }]);
            let summary = run_with(command, if on_stdin { content } else { b"" }).ended(code);
            let cause = summary["cause"].as_str().unwrap_or_default();
            assert!(words.iter().all(|word| cause.contains(word)), "{name}: {cause}");
            assert_eq!(api.requests() - before, ids.len(), "{name}");
            assert!(
                ids.iter().all(|id| api.requested().contains_key(&((*id).to_owned(), 1))),
                "{name}: {:?}",
                api.requested()
            );
        }
    }
}

#[test]
fn d13_a_directory_and_a_closed_standard_input_are_no_lists() {
    let api = api_of(Vec::new());
    let home = Home::new(&[]);
    let listed = |list: &str| {
        let mut command = home.bare_export(&api.base_url(), &[]);
        command.args(["--products", list]);
        command
    };
    let cause = |run: Run| run.ended(2)["cause"].as_str().unwrap().to_owned();
    assert!(cause(run(listed(&home.argument("")))).contains("it is a directory"));
    assert!(cause(run(limited("exec 0<&-", &listed("-")))).contains("no id"));
    assert_eq!(api.requests(), 0);
}

#[test]
fn d13_a_parquet_list_that_makes_its_decoder_fail_is_refused_like_any_other() {
    let api = api_of(Vec::new());
    let home = Home::new(&[]);
    let damaged = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/list/negative_start.parquet");
    let mut command = home.bare_export(&api.base_url(), &["--product-column", "product_id"]);
    let refused = run({
        command.arg("--products").arg(damaged);
        command
    });
    assert!(refused.ended(2)["cause"].as_str().unwrap().contains("damaged"), "{refused}");
    assert_eq!((refused.stderr.lines().count(), api.requests()), (2, 0), "{refused}");
}

#[test]
fn d13_a_mark_that_comes_byte_by_byte_is_still_a_mark() {
    let api = Api::start(|_| Answer::page(&[]));
    let home = Home::new(&[]);
    let mut command = home.bare_export(&api.base_url(), &[]);
    command.args(["--products", "-"]);
    // dd passes on a byte at a time, and so does the pipe behind it as far as its reader keeps up.
    let list = home.file("list.txt", b"\xef\xbb\xbf17\n");
    let shell = limited(&format!("dd if='{list}' bs=1 2>/dev/null | {{ exec \"$0\" \"$@\"; }}; exit $?"), &command);
    run(shell).ended(0);
    assert_eq!(api.requested().into_keys().collect::<Vec<_>>(), [("17".to_owned(), 1)]);
}

#[test]
fn d13_a_million_duplicates_are_one_product() {
    let api = Api::start(|_| Answer::page(&[]));
    let home = Home::new(&[]);
    home.file("list.txt", &b"1729382310407603945\n".repeat(1_000_000));
    let summary = run(home.export(&api.base_url(), &[])).ended(0);
    assert_eq!((&summary["products"]["total"], api.requests()), (&1.into(), 1));
}

// --- D14 to D16: what an output says of itself ---------------------------------------------------------------------

#[test]
fn d14_a_product_without_rows_is_complete_and_counted() {
    let home = Home::new(&["1".to_owned(), "2".to_owned()]);
    let api = Api::start(|request| {
        Answer::page(
            if request.product == "2" { vec![r#"{"video_id":"7"}"#.to_owned()] } else { Vec::new() }.as_slice(),
        )
    });
    let summary = run(home.export(&api.base_url(), &[])).ended(0);
    assert_eq!((&summary["products"]["complete"], counts(&summary)), (&2.into(), [1, 1, 0, 0]));
    let file = File::open(home.out().join("_pagehaul/products.parquet")).unwrap();
    let batch = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap().next().unwrap().unwrap();
    let column = |name: &str| batch.column_by_name(name).unwrap();
    let (products, rows) = (column("product").as_string::<i32>(), column("rows").as_primitive::<Int64Type>());
    let of: BTreeMap<_, _> = (0..batch.num_rows()).map(|at| (products.value(at), rows.value(at))).collect();
    assert_eq!(of, [("1", 0), ("2", 1)].into());
    assert!((0..2).all(|at| column("complete").as_boolean().value(at)));
}

#[test]
fn d15_a_column_that_is_null_in_a_whole_file_has_its_type_all_the_same() {
    // `rows` compares each file's schema with the endpoint's table.
    let (home, _) =
        export_pages(vec![body_of(r#"{"video_id":"1","region":"A"},{"video_id":"2","region":"B","duration":3}"#)], &[]);
    let rows = rows(&home.out());
    let nulls = |id: &str| rows[&(ID.to_owned(), id.to_owned())].values().filter(|value| value.is_null()).count();
    assert_eq!((nulls("1"), nulls("2")), (19, 18), "all but ids, region, and our own columns");
}

#[test]
fn d16_one_output_never_has_two_schemas() {
    let home = Home::new(&[ID.to_owned(), "2".to_owned()]);
    let api =
        Api::start(|request| Answer::page(&[json!({"video_id": "7", "product_id": request.product}).to_string()]));
    let other = BUILT_IN.replace("name = \"hash_tag\"", "name = \"hash_tags\"");
    let retyped = BUILT_IN.replace(
        "name = \"duration\"\njson = \"integer\"\ntype = \"int64\"",
        "name = \"duration\"\njson = \"integer\"\ntype = \"float64\"",
    );
    assert!(other != BUILT_IN && retyped != BUILT_IN);
    let described = |text: &str| home.file("endpoint.toml", text.as_bytes());
    run(home.export(&api.base_url(), &["--max-credits", "1"])).ended(6);
    let manifest = &manifests(&home.out())[0];
    let columns: Vec<&str> =
        manifest["columns"].as_array().unwrap().iter().map(|column| column[0].as_str().unwrap()).collect();
    assert_eq!(columns.len(), 23, "the manifest names the columns of its files: {columns:?}");
    for text in [other, retyped] {
        let path = described(&text);
        let refused = run(home.export(&api.base_url(), &["--endpoint", &path])).ended(9);
        assert!(refused["cause"].as_str().unwrap().contains("endpoint was"), "{refused}");
        assert_eq!(api.requests(), 1);
    }
    // The same table in another file, with other comments, is the same schema.
    let path = described(&format!("# another comment\n{BUILT_IN}"));
    run(home.export(&api.base_url(), &["--endpoint", &path])).ended(0);
    assert_eq!(rows(&home.out()).len(), 2);
    let imprints: BTreeSet<String> =
        manifests(&home.out()).iter().map(|manifest| manifest["columns"].to_string()).collect();
    assert_eq!(imprints.len(), 1);
}

// --- all of it at once ---------------------------------------------------------------------------------------------

/// Cells of every kind of dirt, a field of a row each.
fn dirty_fields() -> Vec<String> {
    let deep = "[".repeat(50_000) + &"]".repeat(50_000);
    let mut fields: Vec<String> = [
        r#""x":NaN"#,
        r#""x":1e400"#,
        r#""video_desc":"\ud83d""#,
        r#""video_desc":"\u0000""#,
        r#""duration":9223372036854775808"#,
        r#""duration":1,"duration":2"#,
        r#""region":null"#,
        r#""region":"""#,
        r#""region":"../../etc/x""#,
        r#""region":"a=b/c""#,
        r#""create_time":-1"#,
    ]
    .map(str::to_owned)
    .into();
    fields.extend([format!(r#""region":"{}""#, "x".repeat(300)), format!(r#""x":{deep}"#)]);
    for column in endpoint().columns.iter().filter(|column| column.role != Role::Identity) {
        fields.extend(SENT.into_iter().flatten().map(|sent| format!(r#""{}":{sent}"#, column.name)));
    }
    fields
}

#[test]
fn a_page_that_has_all_of_it_at_once_loses_nothing() {
    let fields = dirty_fields();
    let ids = [b"\"a\xff\"".as_slice(), b"\"a\xfe\"", b"6994372454948900122", b"\"1.5\""];
    let bad = [
        r#"{"video_id":null}"#,
        r#"{"video_id":1.5}"#,
        "{}",
        "7",
        "null",
        "NaN",
        "[]",
        "\"\\ud83d\"",
        r#"{"video_id":"1","product_id":"2"}"#,
    ];
    let numbered =
        fields.iter().enumerate().map(|(at, field)| format!(r#"{{"video_id":"{at}",{field}}}"#).into_bytes());
    let damaged = ids.map(|id| [b"{\"video_id\":", id, b",\"video_desc\":\"raw \x00\x1b\t\xf0\x9f\"}"].concat());
    let regions = (0..500).map(|at| format!(r#"{{"video_id":"r{at}","region":"r{at}"}}"#).into_bytes());
    let mut entries: Vec<Vec<u8>> = numbered.chain(damaged).chain(regions).collect();
    let usable = entries.len() + 1; // one more is on the next page
    entries.extend(bad.map(|raw| raw.as_bytes().to_vec()));
    entries.push(br#"{"video_id":"1"}"#.to_vec()); // seen before
    let body = [
        b"\xef\xbb\xbf{\"requestId\":\"\xff\",\"code\":0.0,\"message\":\"\\ud83d\x07\",\"data\":[".as_slice(),
        &entries.join(&b" ,\n"[..]),
        b"],\"data\":null}",
    ]
    .concat();
    let (home, summary) = export_pages(vec![body, body_of(r#"{"video_id":"last"}"#)], &[]);
    assert_eq!(counts(&summary).map(usize::try_from).map(Result::unwrap), [entries.len() + 1, usable, 1, bad.len()]);
    assert_eq!(rejects(&home.out()).into_iter().map(|(_, _, raw)| raw).collect::<Vec<_>>(), bad);
    let rows = rows(&home.out());
    assert_eq!(rows.len(), usable);
    for (at, field) in fields.iter().enumerate() {
        let row = &rows[&(ID.to_owned(), at.to_string())];
        let (name, sent) = field.split_once(':').unwrap();
        let name = name.trim_matches('"');
        let is_there = row.get(name).is_some_and(|value| !value.is_null());
        assert!(is_there || sent == "null" || kept(row, name).is_some(), "{field}: {row:?}");
    }
    for id in [r#""a\udcff""#, r#""a\udcfe""#] {
        let row = &rows[&(ID.to_owned(), id.to_owned())];
        assert_eq!(row["video_desc"], "raw \0\u{1b}\t\u{fffd}\u{fffd}");
        assert_eq!(kept(row, "video_id"), Some(json!(id)));
    }
}
