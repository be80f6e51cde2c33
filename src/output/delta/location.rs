//! Where a table is: its URL, and the object store that its URL's path is in.

use std::path::{Path as LocalPath, PathBuf};
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

use super::failed;
use crate::output::error::TableError;
use crate::output::store::StoreRoot;

/// Everything that a URL's path may not have as it is.
const IN_A_PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'=').remove(b'/');

/// The root of a table.
#[derive(Clone, Debug)]
pub(super) struct TableLocation {
    pub(super) objects: Arc<dyn ObjectStore>,
    /// The root in the store.
    root: Path,
    /// The same as a URL, with a slash at its end.
    pub(super) url: Url,
    /// The root as failpoints name it.
    pub(super) failpoints: PathBuf,
}

impl TableLocation {
    /// The root of an output, which must exist.
    pub(super) fn from_root(root: StoreRoot) -> Result<Self, TableError> {
        match root {
            StoreRoot::Directory(directory) => Self::local(&directory),
            StoreRoot::Bucket(objects, prefix, url) => Self::bucket(objects, prefix, &url),
        }
    }

    /// A directory, which must exist.
    pub(super) fn local(directory: &LocalPath) -> Result<Self, TableError> {
        let wrong = |reason: String| TableError::Location { root: directory.display().to_string(), reason };
        let whole = directory.canonicalize().map_err(|error| wrong(error.to_string()))?;
        // Its target may be outside of the output.
        if whole.join("_delta_log").is_symlink() {
            return Err(wrong("_delta_log is a symbolic link".to_owned()));
        }
        let url = Url::from_directory_path(&whole).map_err(|()| wrong("it has no URL".to_owned()))?;
        let root = Path::from_absolute_path(&whole).map_err(|error| wrong(error.to_string()))?;
        // A commit must survive what the files that it names survive.
        let objects = Arc::new(LocalFileSystem::new().with_fsync(true));
        Ok(Self { objects, root, url, failpoints: directory.to_owned() })
    }

    /// A prefix in a bucket.
    fn bucket(objects: Arc<dyn ObjectStore>, root: Path, bucket: &str) -> Result<Self, TableError> {
        let wrong = |reason: String| TableError::Location { root: bucket.to_owned(), reason };
        let mut url = Url::parse(bucket).map_err(|error| wrong(error.to_string()))?;
        let encoded = utf8_percent_encode(root.as_ref(), IN_A_PATH).to_string();
        url.set_path(&if encoded.is_empty() { "/".to_owned() } else { format!("/{encoded}/") });
        Ok(Self { objects, root, url, failpoints: PathBuf::from(bucket) })
    }

    /// A name that is relative to the root, in the store.
    pub(super) fn path(&self, name: &str) -> Result<Path, TableError> {
        // Names have percent signs of their own: `Path::from` would encode these once more.
        let whole = format!("{}/{name}", self.root);
        Path::parse(whole.trim_start_matches('/')).map_err(|error| failed("find a file of", &self.url, error))
    }
}

/// A file's name as a log has it: relative to the table's root, and encoded as in a URL (RFC 2396), so that the percent sign of
/// a directory's name is encoded once more. `PROTOCOL.md` of Delta, "Add File and Remove File".
pub(super) fn in_the_log(name: &str) -> String {
    utf8_percent_encode(name, IN_A_PATH).to_string()
}

#[cfg(test)]
mod tests {
    use super::{TableLocation, in_the_log};
    use object_store::memory::InMemory;
    use object_store::path::Path;
    use std::sync::Arc;

    #[test]
    fn the_percent_sign_of_a_directory_is_encoded_once_more_in_the_log_and_not_in_the_store() {
        assert_eq!(in_the_log("region=a%2Fb/x-s000001-1-0.parquet"), "region=a%252Fb/x-s000001-1-0.parquet");
        let root = tempfile::tempdir().unwrap();
        let location = TableLocation::local(root.path()).unwrap();
        let path = location.path("region=a%2Fb/x.parquet").unwrap();
        assert!(path.as_ref().ends_with("/region=a%2Fb/x.parquet"), "{path}");
    }

    #[cfg(unix)]
    #[test]
    fn nothing_is_written_through_a_link_to_another_log() {
        let (root, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::os::unix::fs::symlink(other.path(), root.path().join("_delta_log")).unwrap();
        let refused = TableLocation::local(root.path()).unwrap_err();
        assert!(refused.to_string().ends_with("_delta_log is a symbolic link"), "{refused}");
    }

    #[test]
    fn a_bucket_s_root_is_its_prefix_whatever_it_is_called() {
        for (prefix, url) in [("a/b", "s3://x/a/b/"), ("a b/%", "s3://x/a%20b/%2525/"), ("", "s3://x/")] {
            let location = TableLocation::bucket(Arc::new(InMemory::new()), Path::from(prefix), "s3://x/y").unwrap();
            assert_eq!(location.url.as_str(), url);
            let found = Path::from_url_path(location.url.path()).unwrap();
            assert_eq!(location.path("_SUCCESS").unwrap(), found.join("_SUCCESS"));
        }
    }
}
