//! A table in a bucket in memory.

use std::sync::{Arc, Mutex};

use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use object_store::path::Path as ObjectPath;

use delta_kernel::KernelError;

use super::{attempt, columns};
use crate::model::event::NullSink;
use crate::model::page::SegmentId;
use crate::output::bucket::BucketFailure;
use crate::output::delta::failed;
use crate::output::delta::location::TableLocation;
use crate::output::delta::log::DeltaLog;
use crate::output::delta::{DeltaTable, TableColumns};
use crate::output::error::{OutputError, TableError};
use crate::output::manifest::{Manifest, ManifestSchema};
use crate::output::owner::Claim;
use crate::output::publisher::Publisher;
use crate::output::segment::StagedSegment;
use crate::output::store::{Store, StoreRoot};
use crate::output::table_root::TableRoot;
use crate::settings::{OutputLocation, StoreClient, StoreOptions};
use crate::state::ledger::Ledger;

#[tokio::test]
async fn a_table_in_a_bucket_is_below_the_output_s_prefix_and_its_files_have_the_names_of_the_log() {
    let (root, objects) = (tempfile::tempdir().unwrap(), Arc::new(InMemory::new()));
    let manifest = attempt(root.path(), 1, 1, &[(Some("a/b c%"), 3), (None, 1)]);
    let prefix = ObjectPath::from("out puts/a");
    for file in &manifest.files {
        let path = ObjectPath::parse(format!("{prefix}/{}", file.path)).unwrap();
        objects.put(&path, std::fs::read(root.path().join(&file.path)).unwrap().into()).await.unwrap();
    }
    let location =
        StoreRoot::Bucket(Arc::<InMemory>::clone(&objects), prefix.clone(), "s3://x/out%20puts/a".to_owned());
    let committed = tokio::task::spawn_blocking(move || {
        let log = DeltaLog::open(TableLocation::from_root(location).unwrap(), columns()).unwrap();
        log.commit(&manifest).unwrap().unwrap();
        (log.missing(vec![manifest.clone()]).unwrap().len(), manifest)
    });
    let (missing, manifest) = committed.await.unwrap();
    assert_eq!(missing, 0);
    let actions = actions(&objects, prefix.as_ref()).await;
    let added: Vec<_> = actions.iter().filter_map(|action| action["add"]["path"].as_str()).collect();
    let names: Vec<_> = manifest.files.iter().map(|file| file.path.replace('%', "%25")).collect();
    assert_eq!(added, names);
}

fn client(objects: &Arc<InMemory>) -> StoreClient {
    let (objects, uploads) = (Arc::<InMemory>::clone(objects), Arc::<InMemory>::clone(objects));
    StoreClient { objects, uploads, part_size: 8 << 20 }
}

/// The actions of a table in a bucket, version by version.
async fn actions(objects: &InMemory, root: &str) -> Vec<serde_json::Value> {
    let mut found = Vec::new();
    for version in 0.. {
        let path = ObjectPath::parse(format!("{root}/_delta_log/{version:020}.json")).unwrap();
        let Ok(object) = objects.get(&path).await else { break };
        let text = object.bytes().await.unwrap();
        let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        found.extend(lines.map(|line| serde_json::from_slice::<serde_json::Value>(line).unwrap()));
    }
    found
}

#[tokio::test]
async fn a_run_that_another_one_overtook_before_its_commit_commits_no_more_and_the_other_one_does() {
    let (root, objects) = (tempfile::tempdir().unwrap(), Arc::new(InMemory::new()));
    let options = StoreOptions { client: Some(client(&objects)), ..StoreOptions::default() };
    let out = OutputLocation::parse("s3://x/out").unwrap();
    let store = Store::open(&out, &options, root.path()).unwrap();
    let ledger = Arc::new(Mutex::new(Ledger::open(&root.path().join("ledger.sqlite")).unwrap()));
    ledger.lock().unwrap().start_segment().unwrap();
    let files = attempt(root.path(), 1, 1, &[(Some("ID"), 3)]).files;
    std::fs::create_dir_all(store.staging()).unwrap();
    std::fs::copy(root.path().join(&files[0].path), store.staging().join(&files[0].staged)).unwrap();
    let claim = async |word: &str| Claim::take(&store, &ledger, "x", word.to_owned()).await.unwrap();
    let schema = ManifestSchema {
        export: "x".to_owned(),
        endpoint: String::new(),
        columns: Vec::new(),
        key: Vec::new(),
        partition: "region".to_owned(),
    };
    let first = Publisher {
        ledger: Arc::clone(&ledger),
        store: store.clone(),
        claim: Some(claim("one").await),
        schema,
        table: None,
    };
    first.publish(&StagedSegment { segment: SegmentId(1), attempt: 1, files, rejects: None }).await.unwrap();
    let place = TableRoot::open(&out, &options, root.path()).unwrap();
    let table = || DeltaTable::new(place.clone(), columns(), Arc::new(NullSink));
    let overtaken = Publisher { table: table(), ..first.clone() };
    let second = Publisher { table: table(), claim: Some(claim("two").await), ..first };
    let transactions = async || actions(&objects, "out").await.iter().filter(|it| it.get("txn").is_some()).count();
    assert!(matches!(overtaken.catch_up().await, Err(OutputError::Mismatch(_))));
    assert_eq!(transactions().await, 0);
    for _ in 0..2 {
        second.catch_up().await.unwrap();
        assert_eq!(transactions().await, 1);
    }
}

#[tokio::test]
async fn snapshots_in_a_bucket_are_below_the_table_s_root_and_no_commit_of_them_is_lost() {
    let (root, objects) = (tempfile::tempdir().unwrap(), Arc::new(InMemory::new()));
    let options = StoreOptions { client: Some(client(&objects)), ..StoreOptions::default() };
    let columns = || TableColumns { partition: vec!["snapshot".to_owned(), "region".to_owned()], ..columns() };
    let open = |snapshot: &str| {
        let out = OutputLocation::parse(&format!("s3://x/data/snapshot={snapshot}")).unwrap();
        let place = TableRoot::open(&out, &options, root.path()).unwrap();
        assert_eq!(place.partition("region"), columns().partition);
        DeltaTable::new(place, columns(), Arc::new(NullSink)).unwrap()
    };
    let (mut written, mut expected) = (Vec::new(), Vec::new());
    for (snapshot, segment) in [("a", 1), ("b", 1), ("a", 2), ("b", 2)] {
        // Each export has its own name, so that equal numbers of segments are different transactions.
        let mut manifest =
            Manifest { export: snapshot.to_owned(), ..attempt(root.path(), segment, 1, &[(Some("é"), 2)]) };
        for file in &mut manifest.files {
            let content = std::fs::read(root.path().join(&file.path)).unwrap();
            file.path = file.path.replace("/x-", &format!("/{snapshot}-"));
            let path = ObjectPath::parse(format!("data/snapshot={snapshot}/{}", file.path)).unwrap();
            objects.put(&path, content.into()).await.unwrap();
            expected.push(format!("snapshot={snapshot}/{}", file.path.replace('%', "%25")));
        }
        written.push((snapshot, manifest));
    }
    let (one, other) = (open("a"), open("b"));
    let commit = async |table: &DeltaTable, of: &str| {
        for (_, manifest) in written.iter().filter(|(snapshot, _)| *snapshot == of) {
            table.commit(manifest.clone()).await.unwrap();
        }
    };
    tokio::join!(commit(&one, "a"), commit(&other, "b"));
    let actions = actions(&objects, "data").await;
    let adds: Vec<_> = actions.iter().filter_map(|action| action.get("add")).collect();
    let mut found: Vec<_> = adds.iter().map(|add| add["path"].as_str().unwrap().to_owned()).collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    for add in adds {
        let snapshot = add["partitionValues"]["snapshot"].as_str().unwrap();
        assert!(add["path"].as_str().unwrap().starts_with(&format!("snapshot={snapshot}/region=")), "{add}");
    }
}

#[test]
fn what_a_bucket_refuses_a_table_is_told_as_what_it_refuses_an_export() {
    let url = url::Url::parse("s3://x/out/").unwrap();
    let denied = || object_store::Error::PermissionDenied { path: "p".to_owned(), source: "x - 403: no".into() };
    let refused = [failed("commit to", &url, KernelError::ObjectStore(denied())), failed("commit to", &url, denied())];
    for error in refused.map(OutputError::from) {
        let OutputError::Bucket(error) = error else { panic!("{error}") };
        assert_eq!(
            (error.failure(), error.to_string().as_str()),
            (BucketFailure::Credentials, "cannot commit to s3://x/out/: 403: no")
        );
    }
    let other = OutputError::from(failed("read", &url, KernelError::generic("no")));
    assert!(matches!(&other, OutputError::Table(TableError::Failed { .. })), "{other}");
}
