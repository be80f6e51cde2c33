//! Staged files, uploaded under their final names, which no other attempt ever has.
//!
//! A large file goes up in parts, and parts that were never put together are in no listing. So what a crash may leave is
//! recorded before it can be there ([`LeftoverLog`]): the next run removes what this export left, and nothing else. Between the
//! creation of an upload and its record a crash leaves an upload without parts, which costs nothing.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use object_store::multipart::PartId;
use object_store::{Error, PutOptions, PutResult};
use tokio::sync::Semaphore;

use super::objects::plain_etag;
use super::{Bucket, BucketError};
use crate::output::file_entry::FileEntry;
use crate::state::ledger::LedgerError;

/// Parts of a file at most, in S3: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>
const MAX_PARTS: u64 = 10_000;
/// Parts in memory at a time, over all files of a segment.
const PARTS_AT_ONCE: usize = 4;
/// Files of a segment that are uploaded at a time.
const FILES_AT_ONCE: usize = 4;

/// Where it is recorded what a crash may leave in a bucket.
pub(crate) trait LeftoverLog: Send + Sync {
    /// Records, durably, that an object or an upload of it may be there. `upload`: its id; none for the object itself.
    fn may_be_left(&self, name: &str, upload: Option<&str>) -> Result<(), LedgerError>;
    /// Forgets one that is not there any more, or that belongs there.
    fn is_gone(&self, name: &str, upload: Option<&str>) -> Result<(), LedgerError>;
}

impl Bucket {
    /// Uploads staged files under their names, several at once. Returns the ETag of each, as far as the store gives them.
    pub(crate) async fn upload(
        &self,
        staging: &Path,
        files: Vec<FileEntry>,
        log: &Arc<dyn LeftoverLog>,
    ) -> Result<Vec<Option<String>>, BucketError> {
        let parts = Arc::new(Semaphore::new(PARTS_AT_ONCE));
        let uploads = files.into_iter().map(|file| {
            let upload = Upload {
                bucket: self.clone(),
                staged: staging.join(&file.staged),
                file,
                log: Arc::clone(log),
                parts: Arc::clone(&parts),
            };
            upload.run().boxed()
        });
        stream::iter(uploads).buffered(FILES_AT_ONCE).try_collect().await
    }

    /// Removes what an earlier run left. What is not there is fine.
    pub(crate) async fn remove_leftover(&self, name: &str, upload: Option<&str>) -> Result<(), BucketError> {
        let Some(id) = upload else { return self.remove(&[name.to_owned()]).await };
        match self.uploads().abort_multipart(&self.path(name), &id.to_owned()).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.error("abort the upload of", name, error)),
        }
    }
}

/// One file on its way.
struct Upload {
    bucket: Bucket,
    staged: PathBuf,
    file: FileEntry,
    log: Arc<dyn LeftoverLog>,
    parts: Arc<Semaphore>,
}

impl Upload {
    async fn run(self) -> Result<Option<String>, BucketError> {
        let put = if self.file.bytes <= self.bucket.part_size() { self.put().await } else { self.put_parts().await };
        let error = match put {
            Ok(put) => return Ok(put.e_tag.as_deref().map(plain_etag)),
            Err(error) => error,
        };
        // The store may have carried it out all the same.
        match self.bucket.head(&self.file.path).await? {
            Some(found) if found.bytes == Some(self.file.bytes) => Ok(found.etag),
            Some(_) | None => Err(error),
        }
    }

    async fn put(&self) -> Result<PutResult, BucketError> {
        let _permit = self.parts.acquire().await;
        let content = read(&self.staged, 0, self.file.bytes).await?;
        let put = self.bucket.objects().put_opts(&self.path(), content.into(), PutOptions::default()).await;
        put.map_err(|error| self.error(error))
    }

    async fn put_parts(&self) -> Result<PutResult, BucketError> {
        let (path, name, uploads) = (self.path(), &self.file.path, self.bucket.uploads());
        let id = uploads.create_multipart(&path).await.map_err(|error| self.error(error))?;
        self.log.may_be_left(name, Some(&id))?;
        let size = self.part_size();
        let offsets = (0..self.file.bytes).step_by(usize::try_from(size).unwrap_or(usize::MAX));
        let parts = offsets.enumerate().map(|(number, offset)| self.put_part(&id, number, offset).boxed());
        let parts: Vec<PartId> = stream::iter(parts).buffered(PARTS_AT_ONCE).try_collect().await?;
        let put = uploads.complete_multipart(&path, &id, parts).await.map_err(|error| self.error(error))?;
        self.log.is_gone(name, Some(&id))?;
        Ok(put)
    }

    async fn put_part(&self, id: &String, number: usize, offset: u64) -> Result<PartId, BucketError> {
        let _permit = self.parts.acquire().await;
        let length = self.part_size().min(self.file.bytes - offset);
        let content = read(&self.staged, offset, length).await?;
        let part = self.bucket.uploads().put_part(&self.path(), id, number, content.into()).await;
        part.map_err(|error| self.error(error))
    }

    /// Bytes of a part, so that the file has no more of them than S3 takes.
    fn part_size(&self) -> u64 {
        self.bucket.part_size().max(self.file.bytes.div_ceil(MAX_PARTS))
    }

    fn path(&self) -> object_store::path::Path {
        self.bucket.path(&self.file.path)
    }

    fn error(&self, error: Error) -> BucketError {
        self.bucket.error("upload", &self.file.path, error)
    }
}

async fn read(path: &Path, offset: u64, length: u64) -> Result<Vec<u8>, BucketError> {
    let path = path.to_owned();
    let read = move || {
        let read = || {
            let mut file = File::open(&path)?;
            file.seek(SeekFrom::Start(offset))?;
            let mut content = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
            file.take(length).read_to_end(&mut content)?;
            Ok(content)
        };
        read().map_err(|source| BucketError::Staged { path: path.display().to_string(), source })
    };
    tokio::task::spawn_blocking(read).await?
}

#[cfg(test)]
mod tests {
    use super::super::LeftoverLog;
    use super::super::fake::{Fault, Faulty, Log, PART};
    use crate::output::file_entry::FileEntry;
    use crate::state::disk::{Access, Disk};
    use std::io::Write;
    use std::sync::Arc;

    fn staged(directory: &std::path::Path, bytes: u64) -> FileEntry {
        let content = vec![7; usize::try_from(bytes).unwrap()];
        Disk.create(&directory.join("f"), Access::Shared).unwrap().write_all(&content).unwrap();
        let (path, staged) = ("region=ID/f.parquet".to_owned(), "f".to_owned());
        FileEntry { path, staged, rows: 1, bytes, sha256: String::new() }
    }

    #[tokio::test]
    async fn an_upload_is_complete_or_leaves_only_what_the_log_names() {
        use Fault::{After, Before};
        let table: [(u64, &[Option<Fault>], bool); 7] = [
            (3, &[None], true),
            (3, &[Some(After)], true),
            (3, &[Some(Before)], false),
            (2 * PART + 1, &[None; 4], true),
            (2 * PART + 1, &[None, None, None, Some(After)], true),
            (2 * PART + 1, &[None, Some(Before)], false),
            (2 * PART + 1, &[None, None, None, Some(Before)], false),
        ];
        for (bytes, faults, is_done) in table {
            let directory = tempfile::tempdir().unwrap();
            let (store, file) = (Faulty::with(faults), staged(directory.path(), bytes));
            let recorded = Arc::new(Log::default());
            let log: Arc<dyn LeftoverLog> = Arc::<Log>::clone(&recorded);
            let bucket = store.bucket();
            let uploaded = bucket.upload(directory.path(), vec![file.clone()], &log).await;
            assert_eq!(uploaded.is_ok(), is_done, "{bytes} {faults:?}");
            let found = bucket.head(&file.path).await.unwrap();
            assert_eq!(found.and_then(|found| found.bytes), is_done.then_some(bytes));
            let left: Vec<_> = recorded.0.lock().unwrap().clone();
            let is_recorded = |open: &String| left.iter().any(|(_, upload)| upload.as_ref() == Some(open));
            assert!(store.open.lock().unwrap().iter().all(is_recorded), "{bytes} {faults:?}");
            // The next run removes what is left and uploads again.
            for (name, upload) in left {
                bucket.remove_leftover(&name, upload.as_deref()).await.unwrap();
            }
            assert!(store.open.lock().unwrap().is_empty());
            bucket.upload(directory.path(), vec![file.clone()], &log).await.unwrap();
            let content = bucket.get(&file.path).await.unwrap().unwrap();
            assert!(u64::try_from(content.len()).unwrap() == bytes && content.iter().all(|byte| *byte == 7));
        }
    }
}
