//! Staged files, uploaded under their final names, which no other attempt ever has. An object that is there already stays: it is
//! taken for the file if it has the file's content, and otherwise the segment is built again under other names.
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
use object_store::{Error, PutMode, PutResult};
use tokio::sync::Semaphore;

use super::objects::plain_etag;
use super::{Bucket, BucketError};
use crate::output::file_entry::FileEntry;
use crate::output::stored::content_hash;
use crate::state::disk::Disk;
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
    /// Notes an object that is there, and its ETag if the store gives one.
    fn uploaded(&self, name: &str, etag: Option<&str>) -> Result<(), LedgerError>;
}

impl Bucket {
    /// Uploads staged files under their names, several at once. Each one's staged copy goes when the log has the object.
    pub(crate) async fn upload(
        &self,
        staging: &Path,
        files: Vec<FileEntry>,
        log: &Arc<dyn LeftoverLog>,
    ) -> Result<(), BucketError> {
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
    async fn run(self) -> Result<(), BucketError> {
        let put = if self.file.bytes <= self.bucket.part_size() { self.put().await } else { self.put_parts().await };
        let etag = match put {
            Ok(put) => put.e_tag.as_deref().map(plain_etag),
            Err(error) => self.find(error).await?,
        };
        let noted = move || {
            self.log.uploaded(&self.file.path, etag.as_deref())?;
            Ok(Disk.remove(&self.staged)?)
        };
        tokio::task::spawn_blocking(noted).await?
    }

    /// The ETag of the object, if it has the staged file's content: the store may have carried out what it answered with an error.
    async fn find(&self, error: BucketError) -> Result<Option<String>, BucketError> {
        let name = &self.file.path;
        let Some(found) = self.bucket.head(name).await? else { return Err(error) };
        let taken = || BucketError::Taken { url: self.bucket.url_of(name) };
        if found.bytes != Some(self.file.bytes) {
            return Err(taken());
        }
        let copy = |source| BucketError::Copy { url: self.bucket.url_of(name), source };
        let directory = self.staged.parent().unwrap_or(&self.staged);
        let mut content = tempfile::tempfile_in(directory).map_err(copy)?;
        self.bucket.download(name, &mut content).await?;
        let found_hash = tokio::task::spawn_blocking(move || content_hash(content)).await?.map_err(copy)?;
        if found_hash == self.file.sha256 { Ok(found.etag) } else { Err(taken()) }
    }

    /// Uploads it whole. Nobody else's object is replaced.
    async fn put(&self) -> Result<PutResult, BucketError> {
        let _permit = self.parts.acquire().await;
        let content = read(&self.staged, 0, self.file.bytes).await?;
        let put = self.bucket.objects().put_opts(&self.path(), content.into(), PutMode::Create.into()).await;
        put.map_err(|error| self.error(error))
    }

    async fn put_parts(&self) -> Result<PutResult, BucketError> {
        let (path, name, uploads) = (self.path(), &self.file.path, self.bucket.uploads());
        if self.bucket.head(name).await?.is_some() {
            return Err(BucketError::Taken { url: self.bucket.url_of(name) });
        }
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
    use super::super::fake::{Fault, Faulty, Log, PART};
    use super::super::{BucketError, LeftoverLog};
    use crate::output::file_entry::FileEntry;
    use crate::output::stored::content_hash;
    use crate::state::disk::{Access, Disk};
    use std::io::Write;
    use std::sync::Arc;

    /// Stages a file, where it is not staged any more.
    fn staged(directory: &std::path::Path, bytes: u64) -> FileEntry {
        let content = vec![7; usize::try_from(bytes).unwrap()];
        let staged = directory.join("f");
        if !staged.exists() {
            Disk.create(&staged, Access::Shared).unwrap().write_all(&content).unwrap();
        }
        let sha256 = content_hash(std::fs::File::open(&staged).unwrap()).unwrap();
        FileEntry { path: "region=ID/f.parquet".to_owned(), staged: "f".to_owned(), rows: 1, bytes, sha256 }
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
            assert_eq!(directory.path().join("f").exists(), !is_done, "a staged copy goes when its object is there");
            staged(directory.path(), bytes);
            bucket.upload(directory.path(), vec![file.clone()], &log).await.unwrap();
            let content = bucket.get(&file.path).await.unwrap().unwrap();
            assert!(u64::try_from(content.len()).unwrap() == bytes && content.iter().all(|byte| *byte == 7));
        }
    }

    #[tokio::test]
    async fn what_has_a_file_s_name_already_is_never_replaced() {
        for bytes in [3, 2 * PART + 1] {
            for there in [vec![8; usize::try_from(bytes).unwrap()], vec![7]] {
                let directory = tempfile::tempdir().unwrap();
                let (bucket, file) = (Faulty::default().bucket(), staged(directory.path(), bytes));
                let log: Arc<dyn LeftoverLog> = Arc::new(Log::default());
                bucket.put(&file.path, there.clone()).await.unwrap();
                let refused = bucket.upload(directory.path(), vec![file.clone()], &log).await;
                assert!(matches!(refused, Err(BucketError::Taken { .. })), "{refused:?}");
                assert_eq!(bucket.get(&file.path).await.unwrap().unwrap(), there);
                assert!(directory.path().join("f").exists());
            }
        }
    }
}
