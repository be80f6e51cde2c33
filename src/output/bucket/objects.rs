//! Objects under a prefix: small ones written, read and removed; all of them listed.
//!
//! What an error means is not known until the store is asked: a request may have been carried out although its response was
//! lost or says 500. So after each error of a conditional write the object is read back and compared, and nothing is deleted
//! on an unknown outcome. A listing may be old: what it has is there, what it lacks is asked for by name.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{Error, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutPayload, UpdateVersion};

use super::BucketError;
use crate::output::names::has_data;
use crate::output::stored::{Put, Stored};
use crate::settings::StoreClient;

/// How often a conditional write is tried: a store may refuse one with a conflict although nothing is there.
const TRIES: usize = 4;

/// Bytes of the largest object that is read into memory: manifests and reports are smaller, unless somebody else wrote them.
const MAX_SMALL: u64 = 256 << 20;

/// A prefix in a bucket.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    client: StoreClient,
    prefix: Path,
    /// The prefix as the user wrote it, for messages.
    url: String,
}

impl Bucket {
    pub(crate) fn new(client: StoreClient, prefix: Path, url: String) -> Self {
        Self { client, prefix, url }
    }

    /// The store, the prefix in it, and the URL of both.
    #[cfg(feature = "delta")]
    pub(crate) fn root(&self) -> (Arc<dyn ObjectStore>, Path, &str) {
        (Arc::clone(&self.client.objects), self.prefix.clone(), &self.url)
    }

    /// Writes a small object, unless one of its name is there that may not be replaced.
    pub(crate) async fn put_over(
        &self,
        name: &str,
        content: &[u8],
        may_replace: impl Fn(&[u8]) -> bool,
    ) -> Result<Put, BucketError> {
        let path = self.path(name);
        let (mut mode, mut put) = (PutMode::Create, Put::Created);
        let mut tries = 0;
        loop {
            let payload = PutPayload::from(content.to_vec());
            let Err(error) = self.objects().put_opts(&path, payload, mode.into()).await else { return Ok(put) };
            tries += 1;
            match self.get_version(name).await? {
                Some((found, _)) if found == content => return Ok(put),
                Some((found, version)) if may_replace(&found) => {
                    (mode, put) = (PutMode::Update(version), Put::Replaced);
                }
                Some(_) => return Ok(Put::Refused),
                None => (mode, put) = (PutMode::Create, Put::Created),
            }
            if tries == TRIES {
                return Err(self.error("write", name, error));
            }
        }
    }

    /// Writes a small object, in place of an older one.
    pub(crate) async fn put(&self, name: &str, content: Vec<u8>) -> Result<(), BucketError> {
        let content = Bytes::from(content);
        let Err(error) = self.objects().put(&self.path(name), content.clone().into()).await else { return Ok(()) };
        // It may have been carried out all the same.
        if self.get(name).await? == Some(content) { Ok(()) } else { Err(self.error("write", name, error)) }
    }

    /// Reads a small object; none if there is none.
    pub(crate) async fn get(&self, name: &str) -> Result<Option<Bytes>, BucketError> {
        Ok(self.get_version(name).await?.map(|(content, _)| content))
    }

    pub(super) async fn get_version(&self, name: &str) -> Result<Option<(Bytes, UpdateVersion)>, BucketError> {
        let error = |error| self.error("read", name, error);
        let found = match self.objects().get(&self.path(name)).await {
            Err(Error::NotFound { .. }) => return Ok(None),
            found => found.map_err(error)?,
        };
        if found.meta.size > MAX_SMALL {
            return Err(BucketError::TooLarge { url: self.url_of(name), bytes: found.meta.size });
        }
        let version = UpdateVersion { e_tag: found.meta.e_tag.clone(), version: found.meta.version.clone() };
        Ok(Some((found.bytes().await.map_err(error)?, version)))
    }

    /// Writes an object's content to a local file, piece by piece. Whether there was one.
    pub(crate) async fn download(&self, name: &str, into: &mut std::fs::File) -> Result<bool, BucketError> {
        let error = |error| self.error("read", name, error);
        let found = match self.objects().get(&self.path(name)).await {
            Err(Error::NotFound { .. }) => return Ok(false),
            found => found.map_err(error)?,
        };
        let mut pieces = found.into_stream();
        while let Some(piece) = pieces.try_next().await.map_err(error)? {
            into.write_all(&piece).map_err(|source| BucketError::Copy { url: self.url_of(name), source })?;
        }
        Ok(true)
    }

    /// Length and ETag of an object; none if there is none.
    pub(crate) async fn head(&self, name: &str) -> Result<Option<Stored>, BucketError> {
        match self.objects().head(&self.path(name)).await {
            Err(Error::NotFound { .. }) => Ok(None),
            found => found.map(|meta| Some(stored(meta))).map_err(|error| self.error("inspect", name, error)),
        }
    }

    /// Removes objects. One that is not there is fine.
    pub(crate) async fn remove(&self, names: &[String]) -> Result<(), BucketError> {
        for name in names {
            match self.objects().delete(&self.path(name)).await {
                Ok(()) | Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(self.error("remove", name, error)),
            }
        }
        Ok(())
    }

    /// Names of the objects directly under a directory, ascending.
    pub(crate) async fn list(&self, directory: &str) -> Result<Vec<String>, BucketError> {
        let listed = self.objects().list_with_delimiter(Some(&self.path(directory))).await;
        let listed = listed.map_err(|error| self.error("list", directory, error))?;
        let mut names: Vec<String> = listed.objects.iter().filter_map(|object| self.name(&object.location)).collect();
        names.sort();
        Ok(names)
    }

    /// Names of the directories directly under the prefix, ascending.
    pub(crate) async fn directories(&self) -> Result<Vec<String>, BucketError> {
        let listed = self.objects().list_with_delimiter(Some(&self.prefix)).await;
        let listed = listed.map_err(|error| self.error("list", "", error))?;
        let mut names: Vec<String> = listed.common_prefixes.iter().filter_map(|prefix| self.name(prefix)).collect();
        names.sort();
        Ok(names)
    }

    /// The first object that [`data_files`](Self::data_files) would have.
    pub(crate) async fn first_data_file(&self) -> Result<Option<String>, BucketError> {
        let mut listed = self.objects().list(Some(&self.prefix));
        while let Some(object) = listed.try_next().await.map_err(|error| self.error("list", "", error))? {
            if let Some(name) = self.name(&object.location).filter(|name| is_data(name)) {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    /// The objects of rows, under `COLUMN=VALUE` for whatever column, and of rejects.
    pub(crate) async fn data_files(&self) -> Result<BTreeMap<String, Stored>, BucketError> {
        let mut listed = self.objects().list(Some(&self.prefix));
        let mut found = BTreeMap::new();
        while let Some(object) = listed.try_next().await.map_err(|error| self.error("list", "", error))? {
            if let Some(name) = self.name(&object.location).filter(|name| is_data(name)) {
                found.insert(name, stored(object));
            }
        }
        Ok(found)
    }

    pub(super) fn objects(&self) -> &Arc<dyn ObjectStore> {
        &self.client.objects
    }

    pub(super) fn uploads(&self) -> &Arc<dyn MultipartStore> {
        &self.client.uploads
    }

    pub(super) fn part_size(&self) -> u64 {
        self.client.part_size
    }

    pub(super) fn path(&self, name: &str) -> Path {
        // Names are made by pagehaul, and are valid as they are: `Path::from` would encode their percent signs once more.
        let whole = format!("{}/{name}", self.prefix);
        Path::parse(whole.trim_matches('/')).unwrap_or_else(|_| Path::from(whole))
    }

    fn name(&self, path: &Path) -> Option<String> {
        let name = path.as_ref().strip_prefix(self.prefix.as_ref())?;
        let name = if self.prefix.as_ref().is_empty() { Some(name) } else { name.strip_prefix('/') };
        name.filter(|name| !name.is_empty()).map(str::to_owned)
    }

    pub(super) fn url_of(&self, name: &str) -> String {
        format!("{}/{name}", self.url.trim_end_matches('/')).trim_end_matches('/').to_owned()
    }

    pub(super) fn unfit(&self, reason: &'static str) -> BucketError {
        BucketError::Unfit { url: self.url_of(""), reason }
    }

    pub(super) fn error(&self, action: &'static str, name: &str, error: Error) -> BucketError {
        BucketError::Request { action, url: self.url_of(name), error: Box::new(error) }
    }
}

fn is_data(name: &str) -> bool {
    name.split_once('/').is_some_and(|(directory, _)| has_data(directory))
}

fn stored(meta: ObjectMeta) -> Stored {
    Stored { bytes: Some(meta.size), etag: meta.e_tag.map(|etag| plain_etag(&etag)) }
}

/// An ETag without quotation marks: Azure's listings have none, its responses do.
pub(super) fn plain_etag(etag: &str) -> String {
    etag.trim_matches('"').to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Fault, Faulty};
    use crate::output::stored::Put;

    #[tokio::test]
    async fn a_manifest_is_written_once_whatever_the_store_says_about_it() {
        use Fault::{After, Before, Conflict};
        type Row<'a> = (&'a [Option<Fault>], Option<&'a [u8]>, Result<Put, ()>);
        let table: [Row<'_>; 10] = [
            (&[None], None, Ok(Put::Created)),
            (&[Some(After)], None, Ok(Put::Created)),
            (&[Some(Before)], None, Ok(Put::Created)),
            (&[Some(Conflict)], None, Ok(Put::Created)),
            (&[Some(Before), Some(After)], None, Ok(Put::Created)),
            (&[Some(Conflict); 4], None, Err(())),
            (&[None], Some(b"new"), Ok(Put::Created)),
            (&[None], Some(b"old"), Ok(Put::Replaced)),
            (&[None, Some(After)], Some(b"old"), Ok(Put::Replaced)),
            (&[None], Some(b"of another export"), Ok(Put::Refused)),
        ];
        for (faults, there, expected) in table {
            let store = Faulty::with(&[&[None], faults].concat());
            let bucket = store.bucket();
            if let Some(there) = there {
                bucket.put("m.json", there.to_vec()).await.unwrap();
            } else {
                store.next();
            }
            let put = bucket.put_over("m.json", b"new", |found| found == b"old").await;
            assert_eq!(put.map_err(|_| ()), expected, "{faults:?} {there:?}");
            let found = bucket.get("m.json").await.unwrap();
            let is_new = matches!(expected, Ok(Put::Created | Put::Replaced));
            assert_eq!(found.as_deref() == Some(b"new"), is_new, "{faults:?} {there:?}");
        }
    }

    #[tokio::test]
    async fn names_are_relative_to_the_prefix_and_keep_their_percent_signs() {
        let bucket = Faulty::default().bucket();
        let names = ["region=a%2Fb/1.parquet", "_rejects/r.parquet", "_SUCCESS", "_pagehaul/segments/000001.json"];
        for name in names {
            bucket.put(name, b"x".to_vec()).await.unwrap();
        }
        let listed = bucket.data_files().await.unwrap();
        assert_eq!(listed.keys().collect::<Vec<_>>(), ["_rejects/r.parquet", "region=a%2Fb/1.parquet"]);
        assert!(listed.values().all(|stored| stored.bytes == Some(1) && stored.etag.is_some()));
        assert_eq!(bucket.list("_pagehaul/segments").await.unwrap(), ["_pagehaul/segments/000001.json"]);
        bucket.remove(&names.map(str::to_owned)).await.unwrap();
        bucket.remove(&["_SUCCESS".to_owned()]).await.unwrap();
        assert!(bucket.data_files().await.unwrap().is_empty());
    }
}
