//! A table in a local directory ([`buckets`]: in a bucket), beside a reader of its log that shares no code with the kernel.

#![expect(clippy::disallowed_methods, reason = "the files of a test need not survive a crash")]

mod buckets;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::{Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};

use super::columns::TableColumns;
use super::location::TableLocation;
use super::log::DeltaLog;
use crate::model::failpoint::{When, watch};
use crate::model::page::SegmentId;
use crate::model::partition::directory;
use crate::output::error::TableError;
use crate::output::file_entry::FileEntry;
use crate::output::manifest::{FORMAT, Manifest};
use crate::output::names::stem;
use crate::output::parquet_file::{ParquetFile, ParquetOptions};

/// Columns in files, beside the one of the directories.
pub(super) fn for_test(columns: &[(&str, DataType)]) -> TableColumns {
    let fields: Vec<Field> = columns.iter().map(|(name, kind)| Field::new(*name, kind.clone(), false)).collect();
    TableColumns { files: Arc::new(Schema::new(fields)), partition: vec!["region".to_owned()], may_change: false }
}

fn columns() -> TableColumns {
    for_test(&[("n", DataType::Int64), ("text", DataType::Utf8)])
}

fn open(root: &Path, columns: TableColumns) -> Result<DeltaLog, TableError> {
    DeltaLog::open(TableLocation::local(root).unwrap(), columns)
}

/// A region, and how many rows it has.
type Rows = (Option<&'static str>, i64);

/// An attempt at a segment, with a file of as many rows for each of these regions, written where the manifest says.
fn attempt(root: &Path, segment: i64, attempt: i64, regions: &[Rows]) -> Manifest {
    let file = |(region, rows): &Rows| {
        let stem = stem("x", SegmentId(segment), attempt);
        let path = format!("{}/{stem}-0.parquet", directory("region", *region));
        let schema = columns().files;
        let numbers: Int64Array = (0..*rows).collect();
        let texts: StringArray = (0..*rows).map(|n| Some(format!("{segment}/{n}"))).collect();
        let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(numbers), Arc::new(texts)]).unwrap();
        let mut file = ParquetFile::create(Vec::new(), &schema, &ParquetOptions::default()).unwrap();
        file.write(&batch).unwrap();
        let (content, rows) = file.finish().unwrap();
        std::fs::create_dir_all(root.join(&path).parent().unwrap()).unwrap();
        std::fs::write(root.join(&path), &content).unwrap();
        let bytes = u64::try_from(content.len()).unwrap();
        FileEntry { path, staged: "s".to_owned(), rows, bytes, sha256: String::new() }
    };
    Manifest {
        format: FORMAT,
        export: "x".to_owned(),
        segment,
        attempt,
        decided_at: String::new(),
        endpoint: String::new(),
        columns: Vec::new(),
        key: Vec::new(),
        partition: "region".to_owned(),
        journal: String::new(),
        files: regions.iter().map(file).collect(),
        rejects: None,
        replaces: Vec::new(),
    }
}

/// The same that replaces another one.
fn replacing(earlier: &Manifest, now: Manifest) -> Manifest {
    Manifest { replaces: earlier.files.iter().map(|file| file.path.clone()).collect(), ..now }
}

/// What a table's log says: adds minus removes, and the newest version of each application.
#[derive(Debug, Default, PartialEq)]
struct Table {
    /// Rows and region of each live file, by its name on the disk.
    files: BTreeMap<String, (i64, Option<String>)>,
    applications: BTreeMap<String, i64>,
}

fn versions(root: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root.join("_delta_log")).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|kind| kind == "json")).collect();
    found.sort();
    found
}

fn read(root: &Path) -> Table {
    let mut table = Table::default();
    let decoded = |path: &serde_json::Value| {
        percent_encoding::percent_decode_str(path.as_str().unwrap()).decode_utf8().unwrap().into_owned()
    };
    for version in versions(root) {
        for line in std::fs::read_to_string(version).unwrap().lines() {
            let action: serde_json::Value = serde_json::from_str(line).unwrap();
            if let Some(add) = action.get("add") {
                let statistics: serde_json::Value = serde_json::from_str(add["stats"].as_str().unwrap()).unwrap();
                let region = add["partitionValues"]["region"].as_str().map(str::to_owned);
                assert!(add["dataChange"].as_bool().unwrap());
                table.files.insert(decoded(&add["path"]), (statistics["numRecords"].as_i64().unwrap(), region));
            }
            if let Some(remove) = action.get("remove") {
                assert!(table.files.remove(&decoded(&remove["path"])).is_some(), "{line}");
            }
            if let Some(transaction) = action.get("txn") {
                let application = transaction["appId"].as_str().unwrap().to_owned();
                table.applications.insert(application, transaction["version"].as_i64().unwrap());
            }
        }
    }
    for path in table.files.keys() {
        assert!(root.join(path).is_file(), "{path}");
    }
    table
}

/// What a table of these attempts should be.
fn of(attempts: &[(&Manifest, &[Rows])]) -> Table {
    let mut table = Table::default();
    for (manifest, regions) in attempts {
        for (file, (region, rows)) in manifest.files.iter().zip(*regions) {
            table.files.insert(file.path.clone(), (*rows, region.map(str::to_owned)));
        }
        table.applications.insert(format!("x/{}", manifest.segment), manifest.attempt);
    }
    table
}

#[test]
fn a_segment_is_in_the_table_once_however_often_it_is_committed() {
    let root = tempfile::tempdir().unwrap();
    let regions = [(Some("ID"), 3), (None, 1), (Some("a/b=%2F c"), 2), (Some("é"), 4)];
    let (first, empty) = (attempt(root.path(), 1, 1, &regions), attempt(root.path(), 2, 3, &[]));
    let log = open(root.path(), columns()).unwrap();
    let missing = |log: &DeltaLog| log.missing(vec![first.clone(), empty.clone()]).unwrap().len();
    assert_eq!(missing(&log), 2);
    for _ in 0..2 {
        log.commit(&first).unwrap().unwrap();
        log.commit(&empty).unwrap().unwrap();
        // As a later run does it.
        open(root.path(), columns()).unwrap().commit(&first).unwrap().unwrap();
        assert_eq!(read(root.path()), of(&[(&first, &regions), (&empty, &[])]));
    }
    assert_eq!((missing(&log), versions(root.path()).len()), (0, 3));
}

#[test]
fn a_later_attempt_takes_the_place_of_an_earlier_one_in_one_commit_and_never_the_other_way_round() {
    let root = tempfile::tempdir().unwrap();
    let log = open(root.path(), columns()).unwrap();
    let (old, new) = ([(Some("ID"), 3), (Some("TH"), 1)], [(Some("ID"), 4)]);
    let (other, first) = (attempt(root.path(), 2, 1, &old), attempt(root.path(), 1, 1, &old));
    let second = replacing(&first, attempt(root.path(), 1, 2, &new));
    log.commit(&first).unwrap().unwrap();
    log.commit(&other).unwrap().unwrap();
    log.commit(&second).unwrap().unwrap();
    let expected = of(&[(&other, &old), (&second, &new)]);
    assert_eq!((read(root.path()), versions(root.path()).len()), (expected, 4));
    log.commit(&first).unwrap().unwrap();
    assert_eq!(read(root.path()), of(&[(&other, &old), (&second, &new)]));
}

#[test]
fn an_attempt_whose_files_somebody_else_took_out_of_the_table_is_not_replaced() {
    let root = tempfile::tempdir().unwrap();
    let log = open(root.path(), columns()).unwrap();
    let regions = [(Some("ID"), 3), (Some("TH"), 1)];
    let first = attempt(root.path(), 1, 1, &regions);
    log.commit(&first).unwrap().unwrap();
    let remove = serde_json::json!({"remove": {
        "path": first.files[1].path, "deletionTimestamp": 1, "dataChange": false, "partitionValues": {"region": "TH"}
    }});
    let version = root.path().join("_delta_log/00000000000000000002.json");
    std::fs::write(version, remove.to_string()).unwrap();
    let second = replacing(&first, attempt(root.path(), 1, 2, &regions));
    let refused = log.commit(&second).unwrap_err();
    assert!(matches!(&refused, TableError::Vanished { path, .. } if *path == first.files[1].path), "{refused}");
    assert_eq!(versions(root.path()).len(), 3);
}

/// Two writers, and one commits between the other's look at the table and its commit.
#[test]
fn a_commit_that_another_one_overtook_is_made_again_on_the_newer_table() {
    let root = tempfile::tempdir().unwrap();
    let (log, other) = (open(root.path(), columns()).unwrap(), open(root.path(), columns()).unwrap());
    let regions = [(Some("ID"), 3)];
    let mine = attempt(root.path(), 1, 1, &regions);
    // The other one commits its own segments, and in the end this one's too.
    let mut theirs: Vec<Manifest> = (2..5).map(|segment| attempt(root.path(), segment, 1, &regions)).collect();
    let mut all = theirs.clone();
    all.push(mine.clone());
    theirs.push(mine.clone());
    theirs.reverse();
    let waiting = Mutex::new((theirs, false));
    let _watch = watch(root.path(), move |step| {
        if step.when == When::Before && step.action == "commit to" {
            let next = {
                let mut waiting = waiting.lock().unwrap();
                // The other one's own commits come here as well.
                let next = if waiting.1 { None } else { waiting.0.pop() };
                waiting.1 = next.is_some();
                next
            };
            if let Some(next) = next {
                other.commit(&next).unwrap().unwrap();
                waiting.lock().unwrap().1 = false;
            }
        }
        Ok(())
    });
    log.commit(&mine).unwrap().unwrap();
    let expected: Vec<_> = all.iter().map(|manifest| (manifest, &regions[..])).collect();
    assert_eq!((read(root.path()), versions(root.path()).len()), (of(&expected), 5));
}

#[test]
fn a_table_with_other_columns_is_refused_and_gets_new_ones_only_if_it_may() {
    let root = tempfile::tempdir().unwrap();
    let regions = [(Some("ID"), 3)];
    let first = attempt(root.path(), 1, 1, &regions);
    open(root.path(), columns()).unwrap().commit(&first).unwrap().unwrap();
    let more = for_test(&[("n", DataType::Int64), ("text", DataType::Utf8), ("more", DataType::Float64)]);
    let refused = open(root.path(), more.clone()).unwrap_err();
    assert!(matches!(&refused, TableError::Differs { differences, .. } if differences.contains("no column more")));
    assert_eq!(versions(root.path()).len(), 2);
    for _ in 0..2 {
        let log = open(root.path(), TableColumns { may_change: true, ..more.clone() }).unwrap();
        assert!(log.missing(vec![first.clone()]).unwrap().is_empty());
        assert_eq!(versions(root.path()).len(), 3);
    }
    let other = open(root.path(), for_test(&[("n", DataType::Utf8), ("text", DataType::Utf8)])).unwrap_err();
    assert!(other.to_string().contains("its column n is long, the export's string"), "{other}");
    assert_eq!(read(root.path()), of(&[(&first, &regions)]));
}

#[test]
fn a_file_that_is_not_as_it_was_published_is_not_committed() {
    let root = tempfile::tempdir().unwrap();
    let log = open(root.path(), columns()).unwrap();
    let mut manifest = attempt(root.path(), 1, 1, &[(Some("ID"), 3)]);
    manifest.files[0].rows = 4;
    assert!(matches!(log.commit(&manifest), Err(TableError::File { .. })));
    manifest.files[0].bytes += 1;
    assert!(matches!(log.commit(&manifest), Err(TableError::File { .. })));
    std::fs::remove_file(root.path().join(&manifest.files[0].path)).unwrap();
    assert!(matches!(log.commit(&manifest), Err(TableError::Failed { .. })));
    assert_eq!(versions(root.path()).len(), 1);
}

#[test]
fn every_tenth_commit_writes_a_checkpoint_and_transactions_outlive_it() {
    let root = tempfile::tempdir().unwrap();
    let log = open(root.path(), columns()).unwrap();
    let segments: Vec<Manifest> =
        (1..=12).map(|segment| attempt(root.path(), segment, 1, &[(Some("ID"), 1)])).collect();
    for segment in &segments {
        log.commit(segment).unwrap().unwrap();
    }
    assert!(root.path().join("_delta_log/00000000000000000010.checkpoint.parquet").is_file());
    assert!(root.path().join("_delta_log/_last_checkpoint").is_file());
    for version in 0..=10 {
        std::fs::remove_file(root.path().join(format!("_delta_log/{version:020}.json"))).unwrap();
    }
    assert!(open(root.path(), columns()).unwrap().missing(segments).unwrap().is_empty());
    assert_eq!(log.retention().unwrap(), Duration::from_secs(604_800));
}

#[test]
fn a_checkpoint_that_fails_is_reported_and_the_commit_stays() {
    let root = tempfile::tempdir().unwrap();
    let log = open(root.path(), columns()).unwrap();
    let _watch = watch(root.path(), |step| {
        if step.action == "write a checkpoint of" { Err(std::io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    });
    for segment in 1..=11 {
        let checkpoint = log.commit(&attempt(root.path(), segment, 1, &[(Some("ID"), 1)])).unwrap();
        assert_eq!(checkpoint.is_err(), segment >= 10, "{checkpoint:?}");
    }
    assert_eq!(read(root.path()).applications.len(), 11);
}

/// The kernel's threads are started and ended here, where nothing may block.
#[tokio::test]
async fn a_table_may_be_dropped_in_an_asynchronous_task() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().to_owned();
    let log = tokio::task::spawn_blocking(move || open(&path, columns()).unwrap()).await.unwrap();
    drop(log);
    assert_eq!(versions(root.path()).len(), 1);
}
