//! `--keep` in this process: the order in which the files of older snapshots go, a signal and a broken disk between two of them,
//! and snapshots in a bucket.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path as ObjectPath;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartId, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result as StoreResult,
};
use pagehaul::error::ExitCode;
use pagehaul::model::event::{Event, EventSink};
use pagehaul::run::context::RunContext;
use pagehaul::settings::StoreClient;
use pagehaul::simulator::Simulator;
use tokio::sync::Notify;

use crate::common::scripted::{Scripted, run_until};
use crate::common::{context, files, ids, scratch, simulator};

/// What a run reports about snapshots.
#[derive(Debug, Default)]
struct Messages(Mutex<Vec<String>>);

impl EventSink for Messages {
    fn event(&self, event: &Event<'_>) {
        let line = match event {
            Event::Snapshots(message) if message.starts_with("complete") => return,
            Event::Snapshots(message) => message.split(" (").next().unwrap().replace("the files of ", ""),
            Event::Warning(message) => (*message).to_owned(),
            _ => return,
        };
        self.0.lock().unwrap().push(line);
    }
}

/// A bucket in memory whose listings are old: they lack every second file of rows, and all manifests.
#[derive(Clone, Debug, Default)]
struct Bucket(Arc<InMemory>);

impl std::fmt::Display for Bucket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("bucket")
    }
}

#[async_trait]
impl ObjectStore for Bucket {
    async fn put_opts(&self, path: &ObjectPath, payload: PutPayload, options: PutOptions) -> StoreResult<PutResult> {
        self.0.put_opts(path, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        path: &ObjectPath,
        options: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &ObjectPath, options: GetOptions) -> StoreResult<GetResult> {
        self.0.get_opts(path, options).await
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, StoreResult<ObjectPath>>,
    ) -> BoxStream<'static, StoreResult<ObjectPath>> {
        self.0.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&ObjectPath>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        let mut rows = 0;
        let mut is_listed = move |object: &ObjectMeta| {
            let is_of_rows = object.location.as_ref().ends_with("-0.parquet");
            rows += u32::from(is_of_rows);
            !is_of_rows || rows % 2 == 0
        };
        self.0.list(prefix).try_filter(move |object| std::future::ready(is_listed(object))).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&ObjectPath>) -> StoreResult<ListResult> {
        let mut listed = self.0.list_with_delimiter(prefix).await?;
        listed.objects.retain(|object| !object.location.as_ref().contains("/_pagehaul/segments/"));
        Ok(listed)
    }

    async fn copy_opts(&self, from: &ObjectPath, to: &ObjectPath, options: CopyOptions) -> StoreResult<()> {
        self.0.copy_opts(from, to, options).await
    }
}

#[async_trait]
impl MultipartStore for Bucket {
    async fn create_multipart(&self, path: &ObjectPath) -> StoreResult<MultipartId> {
        self.0.create_multipart(path).await
    }

    async fn put_part(
        &self,
        path: &ObjectPath,
        id: &MultipartId,
        part: usize,
        data: PutPayload,
    ) -> StoreResult<PartId> {
        self.0.put_part(path, id, part, data).await
    }

    async fn complete_multipart(
        &self,
        path: &ObjectPath,
        id: &MultipartId,
        parts: Vec<PartId>,
    ) -> StoreResult<PutResult> {
        self.0.complete_multipart(path, id, parts).await
    }

    async fn abort_multipart(&self, path: &ObjectPath, id: &MultipartId) -> StoreResult<()> {
        self.0.abort_multipart(path, id).await
    }
}

/// Snapshots of one API.
struct Dataset {
    directory: tempfile::TempDir,
    simulator: Arc<Simulator>,
    /// None: in a directory.
    bucket: Option<StoreClient>,
}

impl Dataset {
    /// With complete snapshots of these labels, the first one the oldest.
    async fn new(bucket: Option<StoreClient>, labels: &[&str]) -> Self {
        let simulator = simulator("products=3,max_videos=30");
        let dataset = Self { directory: scratch(), simulator, bucket };
        for label in labels {
            assert_eq!(dataset.run(label, None, std::future::pending()).await, [""; 0]);
        }
        dataset
    }

    /// Exports a snapshot, which must come out complete, and says its messages.
    async fn run(&self, label: &str, keep: Option<&str>, stopped: impl Future<Output = ExitCode>) -> Vec<String> {
        let messages = Arc::new(Messages::default());
        let context = RunContext { events: Arc::<Messages>::clone(&messages), ..self.context(label, keep) };
        let api = Scripted::direct(&self.simulator);
        let summary = run_until(&context, &api, &ids(&self.simulator), stopped).await.unwrap();
        assert_eq!(summary.exit, ExitCode::Complete);
        std::mem::take(&mut *messages.0.lock().unwrap())
    }

    fn context(&self, label: &str, keep: Option<&str>) -> RunContext {
        let state = self.directory.path().join("state");
        let mut settings = vec![("snapshot", label)];
        settings.extend(keep.map(|keep| ("keep", keep)));
        let Some(client) = &self.bucket else { return context(&self.out(), None, &settings) };
        settings.push(("state_dir", state.to_str().unwrap()));
        let mut context = context(Path::new("s3://bucket/videos"), None, &settings);
        context.settings.store.client = Some(client.clone());
        context
    }

    fn out(&self) -> std::path::PathBuf {
        self.directory.path().join("out")
    }

    /// The files of rows of a snapshot.
    fn rows(&self, label: &str) -> usize {
        let all = files(&self.out().join(format!("snapshot={label}")));
        all.iter().filter(|path| path.to_str().unwrap().contains("/region=")).count()
    }
}

#[cfg(debug_assertions)]
#[tokio::test(start_paused = true)]
async fn the_mark_goes_first_then_the_manifests_then_the_files_and_a_signal_ends_it_between_two_of_them() {
    use pagehaul::model::failpoint::{Failpoint, When, watch};
    for files_until_signal in 1.. {
        let dataset = Dataset::new(None, &["a", "b", "c"]).await;
        let (all, old) = (dataset.rows("a"), dataset.out().join("snapshot=a"));
        let (signal, gone) = (Arc::new(Notify::new()), Arc::new(Mutex::new(Vec::new())));
        let (signals, sees) = (Arc::clone(&signal), Arc::clone(&gone));
        let watch = watch(&old, move |step: &Failpoint<'_>| {
            let mut gone = sees.lock().unwrap();
            let is_output = step.path.extension().is_none_or(|kind| kind == "parquet" || kind == "json");
            if (step.when, step.action) == (When::After, "remove") && is_output {
                gone.push(step.path.to_owned());
                let of_rows = gone.iter().filter(|path| path.to_str().unwrap().contains("/region=")).count();
                if of_rows == files_until_signal {
                    signals.notify_one();
                }
            }
            Ok(())
        });
        let stopped = async {
            signal.notified().await;
            ExitCode::Interrupted
        };
        let messages = dataset.run("c", Some("1"), stopped).await;
        drop(watch);
        let gone = gone.lock().unwrap().clone();
        let kinds = ["_SUCCESS", "_pagehaul/segments/", "region="];
        let order: Vec<_> = gone.iter().map(|path| path.strip_prefix(&old).unwrap().to_str().unwrap()).collect();
        assert!(
            order.is_sorted_by_key(|name| kinds.iter().position(|kind| name.starts_with(kind)).unwrap()),
            "{order:?}"
        );
        assert_eq!(dataset.rows("a"), all - files_until_signal);
        if files_until_signal == all {
            // Nothing of it is left: only the next one is not removed.
            assert_eq!(
                messages,
                [
                    "removed snapshot=a",
                    "stopped by a signal: the next run with --keep removes the files of other older snapshots"
                ]
            );
            break;
        }
        assert_eq!(messages, ["stopped by a signal: the next run with --keep removes what is left of snapshot=a"]);
        let messages = dataset.run("c", Some("1"), std::future::pending()).await;
        assert_eq!(messages, ["removed snapshot=a", "removed snapshot=b"]);
        assert_eq!((dataset.rows("a"), dataset.rows("b"), dataset.rows("c")), (0, 0, all));
    }
}

#[cfg(debug_assertions)]
#[tokio::test(start_paused = true)]
async fn a_file_that_cannot_be_removed_is_a_warning_and_the_other_snapshots_go() {
    use pagehaul::model::failpoint::{Failpoint, watch};
    let dataset = Dataset::new(None, &["a", "b", "c"]).await;
    let watch = watch(&dataset.out().join("snapshot=a"), |step: &Failpoint<'_>| {
        let is_file = step.action == "remove" && step.path.extension().is_some_and(|kind| kind == "parquet");
        if is_file { Err(io::ErrorKind::PermissionDenied.into()) } else { Ok(()) }
    });
    let messages = dataset.run("c", Some("1"), std::future::pending()).await;
    drop(watch);
    assert!(
        messages[0].starts_with("snapshot=a is not removed: remove ") && messages[1] == "removed snapshot=b",
        "{messages:?}"
    );
    assert!(dataset.rows("a") > 0 && dataset.rows("b") == 0);
    let messages = dataset.run("c", Some("1"), std::future::pending()).await;
    assert_eq!((messages, dataset.rows("a")), (vec!["removed snapshot=a".to_owned()], 0));
}

fn bucket() -> (Arc<InMemory>, StoreClient) {
    let bucket = Bucket::default();
    (Arc::clone(&bucket.0), StoreClient::new(bucket))
}

#[cfg(debug_assertions)]
#[tokio::test(start_paused = true)]
async fn a_snapshot_that_has_changed_since_it_was_chosen_stays() {
    use pagehaul::model::failpoint::{Failpoint, watch};
    let dataset = Dataset::new(None, &["a", "b", "c", "d"]).await;
    let (unmarked, busy) = (dataset.out().join("snapshot=b/_SUCCESS"), dataset.out().join("snapshot=c/_pagehaul/lock"));
    let lock = Arc::new(Mutex::new(None));
    let locks = Arc::clone(&lock);
    // While the oldest one is removed, another process starts to work on the next one, and a third works on the one after it.
    let watch = watch(&dataset.out().join("snapshot=a"), move |step: &Failpoint<'_>| {
        if step.action == "remove" && unmarked.exists() {
            std::fs::remove_file(&unmarked)?;
            let file = std::fs::File::open(&busy)?;
            file.try_lock().unwrap();
            *locks.lock().unwrap() = Some(file);
        }
        Ok(())
    });
    let messages = dataset.run("d", Some("1"), std::future::pending()).await;
    drop(watch);
    assert_eq!(messages[..2], ["removed snapshot=a", "snapshot=b is not removed: it has changed meanwhile"]);
    assert!(messages[2].starts_with("snapshot=c is not removed: another process works on this export"), "{messages:?}");
    assert!(dataset.rows("a") == 0 && dataset.rows("b") > 0 && dataset.rows("c") > 0);
    drop(lock);
    let messages = dataset.run("d", Some("1"), std::future::pending()).await;
    assert_eq!(messages, ["removed snapshot=c", "incomplete snapshots stay and do not count: snapshot=b"]);
}

/// The names of the objects of a snapshot.
async fn objects(store: &dyn ObjectStore, label: &str) -> BTreeSet<String> {
    let prefix = ObjectPath::parse(format!("videos/snapshot={label}")).unwrap();
    let all: Vec<_> = store.list(Some(&prefix)).try_collect().await.unwrap();
    let names = all.iter().map(|object| object.location.as_ref().strip_prefix(prefix.as_ref()).unwrap().to_owned());
    names.map(|name| name.trim_start_matches('/').to_owned()).collect()
}

fn path(name: &str) -> ObjectPath {
    ObjectPath::parse(format!("videos/snapshot={name}")).unwrap()
}

#[tokio::test(start_paused = true)]
async fn in_a_bucket_older_snapshots_go_but_not_one_that_another_run_has_taken_and_not_the_objects_of_others() {
    let (store, bucket) = bucket();
    let dataset = Dataset::new(Some(bucket), &["a", "b", "c"]).await;
    let before = objects(&*store, "c").await;
    store.put(&path("a/region=ID/mine.parquet"), "mine".into()).await.unwrap();
    store.put(&path("a/region=ID/deep/mine"), "mine".into()).await.unwrap();
    // Somebody else has taken one, with a copy of the state directory.
    let owner = path("b/_pagehaul/export.json");
    let own = store.get(&owner).await.unwrap().bytes().await.unwrap();
    let mut taken: serde_json::Value = serde_json::from_slice(&own).unwrap();
    taken["run"] = "0000000000".into();
    store.put(&owner, taken.to_string().into()).await.unwrap();
    let untouched = objects(&*store, "b").await;
    let messages = dataset.run("c", Some("1"), std::future::pending()).await;
    assert_eq!(messages[0], "removed snapshot=a", "{messages:?}");
    assert!(messages[1].contains("region=ID/deep/mine, region=ID/mine.parquet"), "{messages:?}");
    assert!(messages[2].starts_with("snapshot=b is not removed: another run works on this output"), "{messages:?}");
    assert_eq!(objects(&*store, "b").await, untouched);
    assert_eq!(objects(&*store, "c").await, before);
    let left =
        ["export.json", "products.parquet", "report.html", "summary.json"].map(|name| format!("_pagehaul/{name}"));
    let mine = ["region=ID/deep/mine", "region=ID/mine.parquet"];
    assert_eq!(objects(&*store, "a").await, left.iter().cloned().chain(mine.map(str::to_owned)).collect());
    // It is this one's again.
    store.put(&owner, own.into()).await.unwrap();
    let messages = dataset.run("c", Some("1"), std::future::pending()).await;
    assert_eq!(messages, ["removed snapshot=b"]);
    assert_eq!(objects(&*store, "b").await, left.into());
    assert_eq!(objects(&*store, "c").await, before);
}

#[tokio::test(start_paused = true)]
async fn in_a_bucket_a_snapshot_whose_ledger_is_not_here_stays() {
    let (store, bucket) = bucket();
    let dataset = Dataset::new(Some(bucket), &["a", "b"]).await;
    let before = objects(&*store, "a").await;
    std::fs::rename(dataset.directory.path().join("state/snapshot=a"), dataset.directory.path().join("moved")).unwrap();
    let messages = dataset.run("b", Some("1"), std::future::pending()).await;
    assert!(
        messages.len() == 1 && messages[0].starts_with("snapshot=a stays and does not count: there is no export"),
        "{messages:?}"
    );
    assert_eq!(objects(&*store, "a").await, before);
}
