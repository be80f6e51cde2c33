//! The API key is in no file and in no line, whatever an API sends.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use crate::common::{Answer, Api, Home, files, files_that_hold, ids, rows, run, simulator};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

#[test]
fn a_key_that_a_page_repeats_is_in_no_file_and_no_line_also_unpacked() {
    let simulator = simulator("products=200,max_videos=25");
    let ids: Vec<String> = ids(&simulator).into_iter().filter(|id| (2..10).contains(&simulator.videos(id))).collect();
    let ids = &ids[..3];
    let api = Api::start({
        let simulator = Arc::clone(&simulator);
        move |request| {
            let Answer { status, body } = Answer::from_simulator(&simulator, request);
            let mut body: Value = serde_json::from_slice(&body).unwrap();
            let rows = body["data"].as_array_mut().unwrap();
            if rows.is_empty() {
                return Answer::new(status, body.to_string()); // a page behind the end, requested as evidence
            }
            // A known column, an unknown one, the partition, and a row that becomes a reject.
            rows[0]["video_desc"] = request.authorization.clone().into();
            rows[0]["request"] = serde_json::json!({ "authorization": request.authorization });
            rows[0]["region"] = request.authorization.clone().into();
            rows[1]["video_id"] = Value::Null;
            rows[1]["video_desc"] = request.authorization.clone().into();
            Answer::new(status, body.to_string())
        }
    });
    let home = Home::new(ids).with_evidence();
    let state = home.argument("state");
    let mut command = home.export(&api.base_url(), &["--state-dir", &state]);
    command.env("RUST_LOG", "trace");
    let done = run(command);
    let summary = done.ended(0);
    assert_eq!(summary["rows"]["rejected"], 3, "{summary}");
    assert!(!format!("{}{}", done.stdout, done.stderr).contains("CANARY"), "{done}");
    let described = |path: PathBuf| {
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap().build().unwrap();
        reader.map(|batch| format!("{:?}", batch.unwrap())).collect::<Vec<_>>()
    };
    let is_parquet = |path: &PathBuf| path.extension().is_some_and(|kind| kind == "parquet");
    let unpacked: Vec<String> = files(&home.out()).into_iter().filter(is_parquet).flat_map(described).collect();
    let unpacked = unpacked.concat();
    assert!(unpacked.contains("sk_live_***") && !unpacked.contains("CANARY"), "the rows hold what hides the key");
    assert!(rows(&home.out()).values().any(|row| row["video_desc"] == "Bearer sk_live_***"));
    for directory in [home.out(), home.path("state")] {
        assert_eq!(files_that_hold(&directory, "CANARY"), Vec::<PathBuf>::new());
        let names = format!("{:?}", files(&directory));
        assert!(!names.contains("CANARY"), "{names}");
    }
}
