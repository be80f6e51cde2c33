//! What a run writes for others, and for later runs: names of files, keys of JSON objects in their order, columns, words.
//!
//! Everything here is literal, and the built program makes it: a name that changes inside the program changes none of it. What
//! the ledger and a journal's frames contain is pinned beside their code.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File};
use std::path::Path;

use crate::common::{Answer, Api, Home, Program, Run, manifests, pagehaul, run, tree};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::Deserializer;
use serde::de::{Deserialize, MapAccess, SeqAccess, Visitor};
use serde_json::{Value, json};

/// An endpoint of four columns.
const DESCRIPTION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/endpoint.toml");

/// The keys of a JSON text, in the order in which it has them: `{key,key{key},key[{key}]}`. Elements of a list that look alike
/// are one.
struct Keys(String);

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(KeysVisitor)
    }
}

struct KeysVisitor;

impl<'de> Visitor<'de> for KeysVisitor {
    type Value = Keys;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
        let mut keys = Vec::new();
        while let Some((key, Keys(below))) = map.next_entry::<String, Keys>()? {
            keys.push(key + &below);
        }
        Ok(Keys(format!("{{{}}}", keys.join(","))))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Keys, A::Error> {
        let mut kinds = BTreeSet::new();
        while let Some(Keys(element)) = list.next_element()? {
            kinds.insert(element);
        }
        Ok(Keys(format!("[{}]", kinds.into_iter().collect::<Vec<_>>().join("|"))))
    }

    fn visit_unit<E>(self) -> Result<Keys, E> {
        Ok(Keys(String::new()))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Keys, E> {
        Ok(Keys(String::new()))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Keys, E> {
        Ok(Keys(String::new()))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Keys, E> {
        Ok(Keys(String::new()))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Keys, E> {
        Ok(Keys(String::new()))
    }

    fn visit_str<E>(self, _: &str) -> Result<Keys, E> {
        Ok(Keys(String::new()))
    }
}

/// The keys of a JSON text on one line.
fn keys(json: &str) -> String {
    serde_json::from_str::<Keys>(json).unwrap().0
}

/// The keys of the last line of what a program printed.
fn printed(run: &Run) -> String {
    keys(run.stdout.lines().last().unwrap())
}

/// An export of three products: one with rows that are new, repeated, odd, or no rows, one that is refused, and one without rows.
fn exported(more: &[&str]) -> (Home, Api, Run) {
    let row = |at: u32| format!(r#"{{"video_id":"{at}","product_id":"1","region":"ID","video_desc":"some"}}"#);
    let api = Api::start(move |request| match (request.product.as_str(), request.page) {
        ("1", 1) => Answer::page(&(0..10).map(row).collect::<Vec<_>>()),
        ("1", 2) => {
            let odd = r#"{"video_id":"10","product_id":"1","region":"TH","video_desc":{},"new":1}"#;
            Answer::page(&[row(3), r#"{"region":"ID"}"#.to_owned(), odd.to_owned()])
        }
        ("2", _) => Answer::refusal(400, "no such product"),
        _ => Answer::page(&[]),
    });
    let home = Home::new(&["1", "2", "3"].map(str::to_owned));
    let mut command = home.export(&api.base_url(), &["--endpoint", DESCRIPTION, "--max-in-flight", "1"]);
    command.args(more);
    let ended = run(command);
    ended.ended(3);
    (home, api, ended)
}

/// The columns of a Parquet file with their types; `?` where a value may be null.
fn columns(path: &Path) -> Vec<String> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    let by = reader.metadata().file_metadata().created_by().unwrap().to_owned();
    assert_eq!(by, concat!("pagehaul ", env!("CARGO_PKG_VERSION")));
    let fields = reader.schema().fields().iter();
    let of = fields.map(|field| {
        let null = if field.is_nullable() { "?" } else { "" };
        format!("{} {}{null}", field.name(), field.data_type())
    });
    of.collect()
}

#[test]
fn an_output_has_these_files() {
    let (home, _api, _) = exported(&[]);
    let badge = fs::read_to_string(home.path("out/_pagehaul/export.json")).unwrap();
    let id = serde_json::from_str::<Value>(&badge).unwrap()["export"].as_str().unwrap().to_owned();
    assert_eq!(badge, format!("{{\"export\":\"{id}\"}}"));
    assert!(id.len() == 10 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    let names: Vec<String> = tree(&home.out()).into_keys().map(|name| name.replace(&id, "ID")).collect();
    let expected = [
        "_pagehaul/export.json",
        "_pagehaul/journal/000001.zst",
        "_pagehaul/ledger.sqlite",
        "_pagehaul/lock",
        "_pagehaul/products.parquet",
        "_pagehaul/report.html",
        "_pagehaul/segments/000001.json",
        "_pagehaul/summary.json",
        "_rejects/ID-s000001-1.parquet",
        "region=ID/ID-s000001-1-0.parquet",
        "region=TH/ID-s000001-1-0.parquet",
    ];
    assert_eq!(names, expected);
}

/// What the summary of a run and `status` say of it in the same words.
const PRODUCTS: &str = "products{total,complete,failed,cut,open,moved},pages{journaled,waiting,outdated},\
    rows{received,published,waiting,duplicates,rejected}";
const CREDITS: &str = "credits{billed,free,in_doubt,max},regions,files,bytes";
const FAILURES: &str = "failures[{product,stop_reason,error}]";

#[test]
fn the_reports_of_a_run_have_these_keys_in_this_order() {
    let (home, _api, ended) = exported(&[]);
    let expected = |rebuilt: &str| {
        format!(
            "{{status,exit_code,cause,next,{rebuilt}complete_since,export,out,{PRODUCTS},{CREDITS},{FAILURES},\
             plan{{source,estimate,low,high,actual,products}},drift{{misfits{{video_desc,video_id}},new_fields{{new}},never_came[]}},columns,\
             run{{requests,pages,retries,throttled,wasted,evidence,seconds,rate,allowed,found}}}}"
        )
    };
    assert_eq!(printed(&ended), expected(""));
    let summary = fs::read_to_string(home.path("out/_pagehaul/summary.json")).unwrap();
    assert_eq!(summary, ended.stdout, "the file is what is printed");
    let out = home.argument("out");
    let replayed = run(pagehaul(["replay", "--all", "--progress", "none", "--out", &out, "--endpoint", DESCRIPTION]));
    assert_eq!(printed(&replayed), expected("rebuilt,"), "{replayed}");
    let refused = run(pagehaul(["export", "--nonsense"]));
    assert_eq!((refused.code, printed(&refused).as_str()), (Some(2), "{cause,exit_code,next,status}"));
}

#[test]
fn each_key_of_a_report_says_what_its_name_does() {
    let (_home, _api, ended) = exported(&[]);
    let json = ended.json();
    let expected = json!({
        "status": "partial",
        "cause": null,
        "complete_since": null,
        "products": { "total": 3, "complete": 2, "failed": 1, "cut": 0, "open": 0, "moved": 1 },
        "pages": { "journaled": 3, "waiting": 0, "outdated": 0 },
        "rows": { "received": 13, "published": 11, "waiting": 0, "duplicates": 1, "rejected": 1 },
        "drift": { "misfits": { "video_desc": 1, "video_id": 1 }, "new_fields": { "new": 1 }, "never_came": [] },
        "credits": { "billed": 3, "free": 1, "in_doubt": 0, "max": null },
        "regions": 2,
        "files": 2,
        "columns": 6,
        "failures": [{ "product": "2", "stop_reason": "failed", "error": "HTTP 400, code 400: no such product" }],
    });
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&json[key], value, "{key}: {ended}");
    }
    assert_eq!(
        (&json["run"]["requests"], &json["run"]["pages"], &json["run"]["retries"]),
        (&4.into(), &3.into(), &0.into())
    );
}

#[test]
fn what_is_reported_of_an_export_has_these_keys_in_this_order() {
    let (home, _api, _) = exported(&[]);
    let out = home.argument("out");
    let status = run(pagehaul(["status", "--json", "--out", &out]));
    let expected = format!(
        "{{status,exit_code,export,out,begun_at,complete_since,holder,in_flight,walking,{PRODUCTS},{CREDITS},{FAILURES},\
         segments{{published,decided,pruned,open_bytes}},reasons[{{stop_reason,error,products,first}}],next}}"
    );
    assert_eq!(printed(&status), expected);
    let verified = run(pagehaul(["verify", "--json", "--out", &out]));
    let expected = "{status,exit_code,export,out,differences,found[],next[],sample,\
        rows{received,published,waiting,duplicates,rejected,conserved},\
        read{files,files_read,bytes_read,frames,frames_read,pages,decided,pruned}}";
    assert_eq!(printed(&verified), expected);
    assert_eq!((&status.json()["status"], &verified.json()["status"]), (&"partial".into(), &"verified".into()));
}

#[test]
fn the_account_of_the_embedded_api_has_these_keys_in_this_order() {
    let mut program = Program::start(pagehaul(["simulate", "--listen", "127.0.0.1:0"]));
    program.wait_for_line("serving");
    program.signal("TERM");
    let expected =
        r#"{"requests":0,"pages":0,"throttled":0,"errors":0,"unauthorized":0,"invalid":0,"unpaid":0,"not_found":0}"#;
    assert_eq!(program.end().stdout, format!("{expected}\n"));
}

#[test]
fn a_manifest_names_these_columns_and_types() {
    let (home, _api, _) = exported(&[]);
    let manifest = &manifests(&home.out())[0];
    let columns = json!([
        ["video_id", "Utf8"],
        ["product_id", "Utf8"],
        ["video_desc", "Utf8"],
        ["_fetched_at", "Timestamp(µs, \"UTC\")"],
        ["_page_num", "Int32"],
        ["_extra", "Utf8"],
    ]);
    assert_eq!((&manifest["endpoint"], &manifest["columns"]), (&"kept f17e25e1e175718f".into(), &columns));
    assert_eq!((&manifest["key"], &manifest["partition"]), (&json!(["product_id", "video_id"]), &"region".into()));
    assert_eq!((&manifest["format"], &manifest["journal"]), (&1.into(), &"000001.zst".into()));
}

#[test]
fn the_files_have_these_columns() {
    let (home, _api, _) = exported(&[]);
    let manifest = &manifests(&home.out())[0];
    let of = |entry: &Value| columns(&home.out().join(entry["path"].as_str().unwrap()));
    let rows = [
        "video_id Utf8",
        "product_id Utf8",
        "video_desc Utf8?",
        "_fetched_at Timestamp(µs, \"UTC\")",
        "_page_num Int32",
        "_extra Utf8?",
    ];
    assert_eq!(of(&manifest["files"][0]), rows);
    let rejects = ["item Utf8", "_page_num Int32", "_fetched_at Timestamp(µs, \"UTC\")", "reason Utf8", "raw Utf8"];
    assert_eq!(of(&manifest["rejects"]), rejects);
    let products = [
        "product Utf8",
        "pages Int64",
        "rows Int64",
        "duplicates Int64",
        "moved Boolean",
        "complete Boolean",
        "stop_reason Utf8?",
        "error Utf8?",
        "first_fetched_at Timestamp(µs, \"UTC\")?",
        "last_fetched_at Timestamp(µs, \"UTC\")?",
        "credits Int64",
        "since Utf8?",
    ];
    assert_eq!(columns(&home.path("out/_pagehaul/products.parquet")), products);
}

#[test]
fn lines_of_a_log_in_json_have_these_keys() {
    let (_home, _api, ended) = exported(&["--log-format", "json"]);
    let lines: BTreeSet<String> = ended.stderr.lines().map(keys).collect();
    assert_eq!(lines.into_iter().collect::<Vec<_>>(), ["{timestamp,level,fields{message}}"], "{ended}");
}

#[test]
fn columns_and_settings_are_printed_in_these_words() {
    let schema = run(pagehaul(["schema", "--endpoint", DESCRIPTION])).stdout;
    let words: Vec<String> = schema.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let expected = [
        "column type null role meaning",
        "video_id Utf8 no identity The row.",
        "product_id Utf8 no identity The item.",
        "region Utf8 yes partition The directory.",
        "video_desc Utf8 yes attribute Some text.",
        "_fetched_at Timestamp(µs, \"UTC\") no own When the row was fetched.",
        "_page_num Int32 no own Page that the row was on.",
        "_extra Utf8 yes own JSON of unknown fields and of values of another type.",
    ];
    assert_eq!(words, expected);
    let sql = run(pagehaul(["schema", "--sql"])).stdout;
    let kinds: BTreeSet<&str> = sql
        .lines()
        .filter_map(|line| line.strip_prefix("  \"")?.split_once("\" "))
        .map(|(_, kind)| kind.trim_end_matches(','))
        .collect();
    let expected = [
        "BIGINT",
        "DOUBLE",
        "INTEGER NOT NULL",
        "TIMESTAMP WITH TIME ZONE",
        "TIMESTAMP WITH TIME ZONE NOT NULL",
        "VARCHAR",
        "VARCHAR NOT NULL",
    ];
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), expected);
    let mut show = pagehaul(["config", "show", "--qps", "7"]);
    show.env("PAGEHAUL_PAGE_SIZE", "5");
    let settings = run(show).stdout;
    let line = |key: &str| settings.lines().find(|line| line.starts_with(&format!("{key} = "))).unwrap().to_owned();
    let shown = ["qps", "page_size", "sort"].map(line);
    let expected = [("qps = \"7\"", "flag"), ("page_size = \"5\"", "environment"), ("sort = \"none\"", "built-in")];
    assert_eq!(shown, expected.map(|(setting, origin)| format!("{setting:<40} # {origin}")));
}
