//! The list of files that Redshift's `COPY … MANIFEST` reads. Parquet needs the length of each file in it.
//!
//! <https://docs.aws.amazon.com/redshift/latest/dg/loading-data-files-using-manifest.html>

use serde::Serialize;

use crate::model::sanitize::json;
use crate::output::error::OutputError;
use crate::output::manifest::manifests;
use crate::output::names::SUCCESS;
use crate::output::store::Store;
use crate::settings::OutputLocation;

/// Where the files will be, if they are not in S3 yet.
const PLACEHOLDER: &str = "s3://BUCKET/PREFIX";

#[derive(Serialize)]
struct RedshiftManifest {
    entries: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    url: String,
    mandatory: bool,
    meta: Meta,
}

#[derive(Serialize)]
struct Meta {
    content_length: u64,
}

/// The manifest of the published files, and whether they are the whole export.
pub(crate) async fn redshift_manifest(store: &Store, out: &OutputLocation) -> Result<(String, bool), OutputError> {
    let text = out.to_string();
    let root = if text.starts_with("s3://") { text.trim_end_matches('/') } else { PLACEHOLDER };
    let published = manifests(store).await?;
    let entries = published.iter().flat_map(|manifest| &manifest.files).map(|file| Entry {
        url: format!("{root}/{}", file.path),
        mandatory: true,
        meta: Meta { content_length: file.bytes },
    });
    let is_complete = store.get(SUCCESS).await?.is_some();
    Ok((json(&RedshiftManifest { entries: entries.collect() }) + "\n", is_complete))
}
