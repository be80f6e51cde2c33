//! A bucket in memory whose writes fail as they are told to.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartId, MultipartUpload, ObjectMeta, ObjectStore,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use super::{Bucket, LeftoverLog};
use crate::settings::StoreClient;
use crate::state::ledger::LedgerError;

/// Bytes of a part.
pub(super) const PART: u64 = 1_000;

/// What a store does to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It carries it out and answers with an error.
    After,
    /// It answers with an error and does nothing.
    Before,
    /// It says that the object exists.
    Conflict,
    /// It takes no conditions, and replaces what is there.
    Ignores,
}

/// A store in memory whose writes meet these faults, one after the other.
#[derive(Clone, Debug, Default)]
pub(super) struct Faulty {
    inner: Arc<InMemory>,
    faults: Arc<Mutex<Vec<Option<Fault>>>>,
    /// Uploads that were started and neither completed nor aborted.
    pub(super) open: Arc<Mutex<Vec<MultipartId>>>,
}

impl std::fmt::Display for Faulty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("faulty")
    }
}

impl Faulty {
    pub(super) fn with(faults: &[Option<Fault>]) -> Self {
        let faults = faults.iter().rev().copied().collect();
        Self { faults: Arc::new(Mutex::new(faults)), ..Self::default() }
    }

    pub(super) fn bucket(&self) -> Bucket {
        Bucket::new(StoreClient::new(self.clone()).with_part_size(PART), Path::from("a/b"), "s3://x/a/b".to_owned())
    }

    pub(super) fn next(&self) -> Option<Fault> {
        self.faults.lock().unwrap().pop().flatten()
    }
}

fn failed() -> Error {
    Error::Generic { store: "faulty", source: "500".into() }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, path: &Path, payload: PutPayload, mut options: PutOptions) -> Result<PutResult> {
        let fault = self.next();
        match fault {
            Some(Fault::Before) => return Err(failed()),
            Some(Fault::Conflict) => {
                return Err(Error::AlreadyExists { path: path.to_string(), source: "409".into() });
            }
            Some(Fault::Ignores) => options.mode = PutMode::Overwrite,
            Some(Fault::After) | None => {}
        }
        let put = self.inner.put_opts(path, payload, options).await?;
        if fault == Some(Fault::After) { Err(failed()) } else { Ok(put) }
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        unreachable!("uploads go by `MultipartStore`")
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(path, options).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

#[async_trait]
impl MultipartStore for Faulty {
    async fn create_multipart(&self, path: &Path) -> Result<MultipartId> {
        let id = self.inner.create_multipart(path).await?;
        self.open.lock().unwrap().push(id.clone());
        Ok(id)
    }

    async fn put_part(&self, path: &Path, id: &MultipartId, part: usize, data: PutPayload) -> Result<PartId> {
        match self.next() {
            None => self.inner.put_part(path, id, part, data).await,
            Some(_) => Err(failed()),
        }
    }

    async fn complete_multipart(&self, path: &Path, id: &MultipartId, parts: Vec<PartId>) -> Result<PutResult> {
        let fault = self.next();
        if fault == Some(Fault::Before) {
            return Err(failed());
        }
        let put = self.inner.complete_multipart(path, id, parts).await?;
        self.open.lock().unwrap().retain(|open| open != id);
        if fault == Some(Fault::After) { Err(failed()) } else { Ok(put) }
    }

    async fn abort_multipart(&self, path: &Path, id: &MultipartId) -> Result<()> {
        if !self.open.lock().unwrap().contains(id) {
            return Err(Error::NotFound { path: path.to_string(), source: "no such upload".into() });
        }
        self.open.lock().unwrap().retain(|open| open != id);
        self.inner.abort_multipart(path, id).await
    }
}

/// What was recorded and not forgotten: names and uploads.
#[derive(Debug, Default)]
pub(super) struct Log(pub(super) Mutex<Vec<(String, Option<String>)>>);

impl LeftoverLog for Log {
    fn may_be_left(&self, name: &str, upload: Option<&str>) -> std::result::Result<(), LedgerError> {
        self.0.lock().unwrap().push((name.to_owned(), upload.map(str::to_owned)));
        Ok(())
    }

    fn is_gone(&self, name: &str, upload: Option<&str>) -> std::result::Result<(), LedgerError> {
        let gone = (name.to_owned(), upload.map(str::to_owned));
        self.0.lock().unwrap().retain(|left| *left != gone);
        Ok(())
    }

    fn uploaded(&self, _: &str, _: Option<&str>) -> std::result::Result<(), LedgerError> {
        Ok(())
    }
}
