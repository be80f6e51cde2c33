//! A bucket in memory. Its objects are files below a directory as well, where the oracle reads them; each of its writes is a step
//! at which a machine may die; and its requests fail as the seed says.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path as LocalPath, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartId, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use pagehaul::model::failpoint::{Failpoint, When, reach};
use pagehaul::settings::{OutputLocation, Settings, StoreClient};

use crate::common::world::hash;
use crate::plan::Dice;

/// One request in so many is hit.
const FAULT_IN: u64 = 25;
/// The first requests for an object that all fail, where any storm is.
const STORM: u64 = 6;
/// Objects that an old listing lacks: the last ones.
const UNLISTED: usize = 3;

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// It is carried out, and its answer is lost.
    After,
    /// 503, and nothing is done.
    Before,
    /// A conflict, and nothing is there.
    Conflict,
    /// It takes half a minute.
    Slow,
}

/// A bucket over all lives of a run.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    objects: Arc<InMemory>,
    mirror: PathBuf,
    seed: u64,
    /// How many there were for each object.
    requests: Arc<Mutex<BTreeMap<String, u64>>>,
    is_calm: Arc<AtomicBool>,
    /// The last objects, which an old listing lacks.
    last: Arc<Mutex<Vec<Path>>>,
    /// Uploads that were started and neither completed nor aborted, and their numbers of parts.
    open: Arc<Mutex<BTreeMap<MultipartId, usize>>>,
}

impl Bucket {
    pub(crate) fn new(seed: u64, mirror: &LocalPath) -> Self {
        Self {
            objects: Arc::default(),
            mirror: mirror.to_owned(),
            seed,
            requests: Arc::default(),
            is_calm: Arc::default(),
            last: Arc::default(),
            open: Arc::default(),
        }
    }

    /// From here on nothing goes wrong, or something may.
    pub(crate) fn set_calm(&self, is_calm: bool) {
        self.is_calm.store(is_calm, Ordering::SeqCst);
    }

    /// Takes an export's output there. The state stays where it is.
    pub(crate) fn take(&self, settings: &mut Settings) {
        settings.out = OutputLocation::parse("s3://bucket/videos").unwrap();
        // So small that the files here have several parts.
        settings.store.client = Some(StoreClient::new(self.clone()).with_part_size(2_000));
    }

    /// No upload with parts is left. One without costs nothing: a crash may come between its creation and its record.
    pub(crate) fn check_uploads(&self) {
        let open = self.open.lock().unwrap();
        assert!(open.values().all(|parts| *parts == 0), "uploads are left: {open:?}");
    }

    /// It follows from the seed, the object, and how many requests there were for it: what runs at the same time may come in any
    /// order.
    fn fault(&self, path: &Path) -> Option<Fault> {
        let object = object(path);
        let number = {
            let mut requests = self.requests.lock().unwrap();
            let number = requests.entry(object.clone()).or_default();
            *number += 1;
            *number
        };
        if self.is_calm.load(Ordering::SeqCst) {
            return None;
        }
        let object: Vec<u64> = object.bytes().map(u64::from).collect();
        let hash = |number: u64| hash(&[&[self.seed, number], &object[..]].concat());
        let is_storm = number <= STORM && Dice::new(hash(0)).one_in(FAULT_IN);
        let mut dice = Dice::new(hash(number));
        let kind = dice.pick(&[Fault::After, Fault::Before, Fault::Conflict, Fault::Slow]);
        if is_storm { Some(Fault::Before) } else { Some(kind).filter(|_| dice.one_in(FAULT_IN)) }
    }

    fn file(&self, path: &Path) -> PathBuf {
        self.mirror.join(path.as_ref().strip_prefix("videos/").unwrap())
    }

    fn reach(&self, when: When, action: &'static str, path: &Path) -> Result<()> {
        let failed = |error: io::Error| Error::Generic { store: "bucket", source: error.into() };
        reach(&Failpoint { when, action, path: &self.file(path) }).map_err(failed)
    }

    /// A request that writes, with what goes wrong with it.
    async fn write<T>(
        &self,
        action: &'static str,
        path: &Path,
        work: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        self.reach(When::Before, action, path)?;
        let fault = self.fault(path);
        match fault {
            Some(Fault::Before) => return Err(failed()),
            Some(Fault::Conflict) => {
                return Err(Error::AlreadyExists { path: path.to_string(), source: "409".into() });
            }
            // A removal may be waited for by a blocking task, while which tokio's paused clock goes with the real one.
            Some(Fault::Slow) if action != "delete" => tokio::time::sleep(Duration::from_secs(30)).await,
            Some(Fault::Slow | Fault::After) | None => {}
        }
        let done = work.await?;
        self.mirror(path).await;
        self.reach(When::After, action, path)?;
        if fault == Some(Fault::After) { Err(failed()) } else { Ok(done) }
    }

    /// Makes the file the object's.
    async fn mirror(&self, path: &Path) {
        let file = self.file(path);
        match self.objects.get(path).await {
            Ok(found) => {
                std::fs::create_dir_all(file.parent().unwrap()).unwrap();
                std::fs::write(&file, found.bytes().await.unwrap()).unwrap();
                let mut last = self.last.lock().unwrap();
                last.push(path.clone());
                let surplus = last.len().saturating_sub(UNLISTED);
                last.drain(..surplus);
            }
            Err(_) => drop(std::fs::remove_file(&file)),
        }
    }

    /// What an old listing lacks.
    fn unlisted(&self, prefix: Option<&Path>) -> Vec<Path> {
        let is_old = self.fault(prefix.unwrap()).is_some();
        if is_old { self.last.lock().unwrap().clone() } else { Vec::new() }
    }
}

/// An object's name without what differs from one play of a seed to the next.
fn object(path: &Path) -> String {
    let (directory, file) = path.as_ref().rsplit_once('/').unwrap_or_default();
    let file = if file.starts_with("probe") { "probe" } else { file.split_once("-s").map_or(file, |(_, file)| file) };
    format!("{directory}/{file}")
}

fn failed() -> Error {
    Error::Generic { store: "bucket", source: "503".into() }
}

impl std::fmt::Display for Bucket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("bucket in memory")
    }
}

#[async_trait]
impl ObjectStore for Bucket {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.write("put", path, self.objects.put_opts(path, payload, options)).await
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        unreachable!("uploads go by `MultipartStore`")
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        match self.fault(path) {
            Some(Fault::Before | Fault::After) => Err(failed()),
            Some(Fault::Conflict | Fault::Slow) | None => self.objects.get_opts(path, options).await,
        }
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let bucket = self.clone();
        let delete = move |path: Result<Path>| {
            let bucket = bucket.clone();
            async move {
                let path = path?;
                bucket.write("delete", &path, bucket.objects.delete(&path)).await?;
                Ok(path)
            }
        };
        paths.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let unlisted = self.unlisted(prefix);
        let is_listed = move |found: &Result<ObjectMeta>| {
            let is_listed = found.as_ref().is_ok_and(|found| !unlisted.contains(&found.location));
            std::future::ready(is_listed)
        };
        self.objects.list(prefix).filter(is_listed).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let unlisted = self.unlisted(prefix);
        let mut listed = self.objects.list_with_delimiter(prefix).await?;
        listed.objects.retain(|found| !unlisted.contains(&found.location));
        Ok(listed)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.objects.copy_opts(from, to, options).await
    }
}

#[async_trait]
impl MultipartStore for Bucket {
    async fn create_multipart(&self, path: &Path) -> Result<MultipartId> {
        let create = async {
            let id = self.objects.create_multipart(path).await?;
            self.open.lock().unwrap().insert(id.clone(), 0);
            Ok(id)
        };
        // A store that creates an upload and does not say so leaves one that nobody can know.
        self.reach(When::Before, "create an upload of", path)?;
        create.await
    }

    async fn put_part(&self, path: &Path, id: &MultipartId, part: usize, data: PutPayload) -> Result<PartId> {
        let put = async {
            let put = self.objects.put_part(path, id, part, data).await?;
            *self.open.lock().unwrap().get_mut(id).unwrap() += 1;
            Ok(put)
        };
        self.write("put a part of", path, put).await
    }

    async fn complete_multipart(&self, path: &Path, id: &MultipartId, parts: Vec<PartId>) -> Result<PutResult> {
        let complete = async {
            let put = self.objects.complete_multipart(path, id, parts).await?;
            self.open.lock().unwrap().remove(id);
            Ok(put)
        };
        self.write("complete", path, complete).await
    }

    async fn abort_multipart(&self, path: &Path, id: &MultipartId) -> Result<()> {
        let abort = async {
            if self.open.lock().unwrap().remove(id).is_none() {
                return Err(Error::NotFound { path: path.to_string(), source: "no such upload".into() });
            }
            self.objects.abort_multipart(path, id).await
        };
        self.write("abort", path, abort).await
    }
}
