//! `pagehaul schema --for`: what it prints for each reader, and the manifest for Redshift.
//!
//! `examples/loading/run.sh` runs the statements of the engines that can be had.

use serde_json::{Value, json};

use crate::common::small::{self, api, data};
use crate::common::{manifests, pagehaul, run};

/// Columns of every type.
const COLUMNS: &str = "create_time,duration,total_video_sale_gmv_amt";
const TARGETS: [&str; 10] = [
    "duckdb",
    "postgres",
    "clickhouse",
    "spark",
    "bigquery",
    "snowflake",
    "redshift",
    "athena",
    "json-schema",
    "arrow",
];

fn printed(arguments: &[&str]) -> String {
    let ended = run(pagehaul([&["schema"], arguments].concat()));
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{arguments:?}");
    ended.stdout
}

/// The columns are in the directories' names alone, then in the files too and in a bucket.
fn transcript(target: &str) -> String {
    let plain = ["--for", target, "--columns", COLUMNS];
    let bucket = if target == "bigquery" { "gs://lake/videos/" } else { "s3://lake/videos/" };
    let in_files = [&plain[..], &["--partition-in-files", "--out", bucket]].concat();
    [&plain[..], &in_files]
        .map(|arguments| format!("$ pagehaul schema {}\n{}", arguments.join(" "), printed(arguments)))
        .join("\n")
}

#[test]
fn each_reader_gets_the_table_and_its_load_statement_in_its_own_words() {
    for target in TARGETS {
        let golden = data().join(format!("schema/{target}.txt"));
        let expected = std::fs::read_to_string(&golden).unwrap_or_default();
        assert_eq!(transcript(target), expected, "{}", golden.display());
    }
}

#[test]
fn an_unknown_reader_is_refused_with_the_names_of_all() {
    let refused = run(pagehaul(["schema", "--for", "oracle"]));
    assert_eq!(refused.code, Some(2), "{refused}");
    for target in TARGETS.into_iter().chain(["redshift-manifest"]) {
        assert!(refused.stderr.contains(target), "{target}: {refused}");
    }
    assert_eq!(run(pagehaul(["schema", "--for", "duckdb", "--sql"])).code, Some(2), "one of the two");
}

#[test]
fn names_and_locations_cannot_leave_their_quotes() {
    let home = small::home();
    let description = std::fs::read_to_string(data().join("endpoint.toml")).unwrap();
    let odd = description.replace("video_desc", "a`b\\\"c'd");
    let endpoint = format!("--endpoint={}", home.file("odd.toml", odd.as_bytes()));
    let out = "--out=it's \\ \"$(x)\"";
    let has = |target: &str, words: &[&str]| {
        let text = printed(&[endpoint.as_str(), out, "--for", target]);
        for words in words {
            assert!(text.contains(words), "{target}: {words}: {text}");
        }
    };
    has("duckdb", &["\"a`b\"\"c'd\" VARCHAR", "'it''s \\ \"$(x)\"/region=*/*.parquet'"]);
    has("postgres", &["\"a`b\"\"c'd\" text", "it''''s \\\\ \\\"\\$(x)\\\"/region"]);
    has("clickhouse", &["`a``b\"c'd` Nullable(String)", "file('it\\'s \\\\ \"$(x)\"/region"]);
    has("spark", &["`a``b\"c'd` STRING", "LOCATION 'it\\'s \\\\ \"$(x)\"'"]);
    has("arrow", &["pa.field(\"a`b\\\"c'd\", pa.string())", "ds.dataset(\"it's \\\\ \\\"$(x)\\\"\""]);
    has("bigquery", &["The files are in it's", "copy them to gs:// first", "gs://BUCKET/PREFIX"]);
}

#[test]
fn the_manifest_for_redshift_lists_the_published_files_with_their_lengths() {
    let (home, server) = (small::home(), api(None));
    run(small::command(&home, &server, &["--partition-in-files"])).ended(3);
    let arguments = ["schema", "--for", "redshift-manifest", "--out", &home.argument("out")];
    let printed = run(pagehaul(arguments));
    assert_eq!(printed.code, Some(0), "{printed}");
    assert!(printed.stderr.contains("no _SUCCESS"), "one product is refused: {printed}");
    let files: Vec<Value> =
        manifests(&home.out()).iter().flat_map(|manifest| manifest["files"].as_array().unwrap().clone()).collect();
    let entry = |file: &Value| {
        let url = format!("s3://BUCKET/PREFIX/{}", file["path"].as_str().unwrap());
        json!({"url": url, "mandatory": true, "meta": {"content_length": file["bytes"]}})
    };
    let expected: Vec<Value> = files.iter().map(entry).collect();
    assert!(expected.len() > 1);
    assert_eq!(serde_json::from_str::<Value>(&printed.stdout).unwrap(), json!({ "entries": expected }));
    let refused = run(pagehaul(["schema", "--for", "redshift-manifest"]));
    assert!(refused.code == Some(2) && refused.stderr.contains("--out"), "{refused}");
}

#[test]
fn columns_that_are_not_written_are_not_printed_and_those_of_the_environment_count() {
    for view in [&[][..], &["--sql"], &["--for", "duckdb"]] {
        let dropped = printed(&[&["--drop-columns", "play_addr,duration"], view].concat());
        assert!(
            !dropped.contains("play_addr") && !dropped.contains("duration") && dropped.contains("height"),
            "{dropped}"
        );
        assert!(dropped.contains("region") && dropped.contains("video_id"), "{dropped}");
        let mut command = pagehaul([&["schema"], view].concat());
        command.env("PAGEHAUL_COLUMNS", "height");
        let only = run(command).stdout;
        assert!(only.contains("height") && !only.contains("width") && only.contains("video_id"), "{only}");
    }
    let unknown = run(pagehaul(["schema", "--columns", "hight"]));
    assert!(unknown.code == Some(2) && unknown.stderr.contains("did you mean height?"), "{unknown}");
}
