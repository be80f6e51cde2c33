//! Where an output is: a local directory, or a prefix in a bucket of S3, Google Cloud Storage or Azure.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use object_store::multipart::MultipartStore;
use object_store::{ObjectStore, ObjectStoreScheme};
use url::Url;

/// What the URL of an output may begin with.
const SCHEMES: &str = "s3://, gs://, az:// or file://";

/// S3 takes no parts below 5 MiB, except the last of a file.
const PART_SIZE: u64 = 8 << 20;

/// Where an output is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutputLocation {
    Directory(PathBuf),
    /// A prefix in a bucket.
    Bucket(BucketUrl),
}

/// A prefix in a bucket, as the user wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketUrl {
    pub(crate) url: Url,
    pub(crate) kind: BucketKind,
    pub(crate) prefix: object_store::path::Path,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BucketKind {
    S3,
    Gcs,
    Azure,
}

/// How to reach a bucket, beside its URL and the environment.
#[derive(Clone, Default)]
pub struct StoreOptions {
    /// Names as in the documentation of `object_store`, and their values, which may be secret.
    pub options: Vec<(String, String)>,
    /// Address of an S3-compatible store, or of an emulator.
    pub endpoint_url: Option<Url>,
    /// In place of the client that the URL names.
    pub client: Option<StoreClient>,
}

/// A bucket's client.
#[derive(Clone)]
pub struct StoreClient {
    pub(crate) objects: Arc<dyn ObjectStore>,
    pub(crate) uploads: Arc<dyn MultipartStore>,
    pub(crate) part_size: u64,
}

impl StoreClient {
    pub fn new<S: ObjectStore + MultipartStore>(store: S) -> Self {
        let store = Arc::new(store);
        Self { objects: Arc::<S>::clone(&store), uploads: store, part_size: PART_SIZE }
    }

    /// Bytes of each part of a large file, and of the largest file that goes up whole. A store may refuse small parts.
    #[must_use]
    pub fn with_part_size(self, bytes: u64) -> Self {
        Self { part_size: bytes, ..self }
    }
}

impl std::fmt::Debug for StoreClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StoreClient") // a client's own text may have its credentials
    }
}

impl std::fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.options.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("StoreOptions")
            .field("options", &names)
            .field("endpoint_url", &self.endpoint_url.as_ref().map(Url::as_str))
            .finish_non_exhaustive()
    }
}

impl OutputLocation {
    /// Reads what `--out` says. The error says what it must be.
    pub fn parse(text: &str) -> Result<Self, String> {
        if !text.contains("://") {
            let is_address = |scheme| text.strip_prefix(scheme).is_some_and(|rest| rest.starts_with(":/"));
            if ["s3", "gs", "az", "abfs", "abfss"].into_iter().any(is_address) {
                return Err("must have two slashes after the colon".to_owned());
            }
            return Ok(Self::Directory(text.into()));
        }
        if text.split('/').any(|part| matches!(part, "." | "..")) {
            return Err("must be a bucket and a prefix without . and ..".to_owned());
        }
        let url = Url::parse(text).map_err(|error| format!("is not a URL: {error}"))?;
        let has_user = !url.username().is_empty() && !url.scheme().starts_with("abfs"); // there it is the container
        if has_user || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
            return Err("must be a bucket and a prefix, without credentials or query".to_owned());
        }
        if url.scheme() == "file" {
            let path = url.to_file_path();
            return path.map(Self::Directory).map_err(|()| "must be file:// and an absolute path".to_owned());
        }
        let names_bucket = url.host_str().is_some_and(|host| !host.is_empty());
        let (kind, prefix) = match ObjectStoreScheme::parse(&url) {
            Ok((ObjectStoreScheme::AmazonS3, prefix)) => (BucketKind::S3, prefix),
            Ok((ObjectStoreScheme::GoogleCloudStorage, prefix)) => (BucketKind::Gcs, prefix),
            Ok((ObjectStoreScheme::MicrosoftAzure, prefix)) => (BucketKind::Azure, prefix),
            Ok(_) | Err(_) if names_bucket => return Err(format!("must be a directory, or begin with {SCHEMES}")),
            Ok(_) | Err(_) => return Err(format!("must begin with {SCHEMES} and name a bucket")),
        };
        Ok(Self::Bucket(BucketUrl { url, kind, prefix }))
    }

    /// A directory in it.
    pub(crate) fn join(&self, name: &str) -> Self {
        match self {
            Self::Directory(path) => Self::Directory(path.join(name)),
            Self::Bucket(bucket) => {
                let mut joined = bucket.clone();
                let path = format!("{}/{name}", bucket.url.path().trim_end_matches('/'));
                joined.url.set_path(&path);
                joined.prefix = bucket.prefix.clone().join(name);
                Self::Bucket(joined)
            }
        }
    }

    /// The directory that it is in; itself where it is in none.
    pub(crate) fn parent(&self) -> Self {
        match self {
            Self::Directory(path) => Self::Directory(path.parent().unwrap_or(path).to_owned()),
            Self::Bucket(bucket) => {
                let mut outer = bucket.clone();
                let path = bucket.url.path().trim_end_matches('/');
                outer.url.set_path(path.rsplit_once('/').map_or("", |(outer, _)| outer));
                let parts = bucket.prefix.parts().count().saturating_sub(1);
                outer.prefix = bucket.prefix.parts().take(parts).collect();
                Self::Bucket(outer)
            }
        }
    }

    /// The last part of its path; none if there is none.
    pub(crate) fn name(&self) -> Option<&str> {
        match self {
            Self::Directory(path) => path.file_name().and_then(std::ffi::OsStr::to_str),
            Self::Bucket(bucket) => bucket.prefix.filename(),
        }
    }

    /// The local directory; none if it is a bucket.
    pub fn directory(&self) -> Option<&Path> {
        match self {
            Self::Directory(path) => Some(path),
            Self::Bucket(_) => None,
        }
    }
}

impl std::fmt::Display for OutputLocation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Directory(path) => path.display().fmt(f),
            Self::Bucket(bucket) => bucket.url.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::OutputLocation;

    #[test]
    fn an_output_is_a_directory_or_a_prefix_in_a_bucket() {
        let directories = [("x", "x"), ("./a/b", "./a/b"), ("file:///tmp/x", "/tmp/x")];
        for (text, path) in directories {
            assert_eq!(OutputLocation::parse(text), Ok(OutputLocation::Directory(path.into())), "{text}");
        }
        let buckets = ["s3://b/p/q", "s3://b", "gs://b/p", "az://c/p", "abfss://c@account.dfs.core.windows.net/p"];
        for text in buckets {
            let parsed = OutputLocation::parse(text).unwrap();
            assert!(parsed.directory().is_none(), "{text}");
            assert_eq!(parsed.to_string(), text);
        }
    }

    #[test]
    fn what_is_neither_is_refused_with_what_it_must_be() {
        let table = [
            ("ftp://x/y", "s3://, gs://, az:// or file://"),
            ("s3:///p", "name a bucket"),
            ("https://example.com/x", "must be a directory, or begin with"),
            ("s3://key:secret@bucket/p", "without credentials"),
            ("s3://key@bucket/p", "without credentials"),
            ("s3:/b/p", "two slashes"),
            ("s3://b/x/../p", "without . and .."),
            ("s3://b/p?x=1", "without credentials or query"),
            ("memory:///x", "name a bucket"),
        ];
        for (text, words) in table {
            let error = OutputLocation::parse(text).unwrap_err();
            assert!(error.contains(words) && !error.contains("secret"), "{text}: {error}");
        }
    }
}
