//! The manifest: the document that makes a segment's files part of the output.

use std::path::{Component, Path};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::model::page::SegmentId;
use crate::output::error::OutputError;
use crate::output::names::{MANIFESTS, segment_of};
use crate::output::store::Store;
use crate::state::ledger::{Ledger, SegmentState};

pub(crate) const FORMAT: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    pub export: String,
    pub segment: i64,
    /// The attempt whose files these are.
    pub attempt: i64,
    /// When it was decided, RFC 3339.
    pub decided_at: String,
    /// The endpoint and the fingerprint of its columns.
    pub endpoint: String,
    /// Columns of the files in order: name and Arrow type.
    pub columns: Vec<(String, String)>,
    /// The columns that make a row's key: the item first.
    #[serde(default)]
    pub key: Vec<String>,
    /// The column whose value is in the directory's name and in no file.
    #[serde(default)]
    pub partition: String,
    pub journal: String,
    /// Files of rows.
    pub files: Vec<FileEntry>,
    pub rejects: Option<FileEntry>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Its name, relative to the output.
    #[serde(deserialize_with = "inside")]
    pub path: String,
    /// Where it was staged, relative to the staging directory: recovery looks for it there.
    #[serde(deserialize_with = "inside")]
    pub staged: String,
    pub rows: u64,
    pub bytes: u64,
    /// SHA-256, hexadecimal.
    pub sha256: String,
}

/// A file name that does not lead out of its directory: somebody else may have written a manifest or a ledger.
fn inside<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    let mut components = Path::new(&name).components();
    let leads_out = name.is_empty() || components.any(|part| !matches!(part, Component::Normal(_)));
    if leads_out { Err(D::Error::custom("a file name leads out of the output")) } else { Ok(name) }
}

impl Manifest {
    pub fn parse(text: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(text)
    }

    pub(crate) fn of_segment(segment: SegmentId, text: &[u8]) -> Result<Self, OutputError> {
        Self::parse(text).map_err(|source| OutputError::Manifest { segment, source })
    }

    /// The files of rows, then the one of rejects.
    pub fn all_files(&self) -> impl Iterator<Item = &FileEntry> {
        self.files.iter().chain(&self.rejects)
    }

    /// Rows in the files of rows.
    pub fn rows(&self) -> u64 {
        self.files.iter().map(|file| file.rows).sum()
    }
}

impl FileEntry {
    /// What is wrong with the file in the output, by its length and its content; none if it is as it was written.
    pub async fn fault(&self, store: &Store) -> Result<Option<&'static str>, OutputError> {
        Ok(match store.length(&self.path).await? {
            None => Some("is missing"),
            Some(bytes) if bytes != self.bytes => Some("has another length than it was written with"),
            Some(_) if store.sha256(&self.path).await? != self.sha256 => {
                Some("has another content than it was written with")
            }
            Some(_) => None,
        })
    }
}

/// What all manifests of an export have in common, as [`Manifest`] has it.
#[derive(Clone, Debug)]
pub struct ManifestSchema {
    pub export: String,
    pub endpoint: String,
    pub columns: Vec<(String, String)>,
    pub key: Vec<String>,
    pub partition: String,
}

impl ManifestSchema {
    /// Whether the manifest's files have the endpoint and the columns that new files would have.
    pub fn fits(&self, manifest: &Manifest) -> bool {
        self.endpoint == manifest.endpoint && self.columns == manifest.columns
    }
}

/// The manifests of all published segments in order, as the ledger decided them.
pub(crate) fn published(ledger: &Ledger) -> Result<Vec<Manifest>, OutputError> {
    let published = ledger.segments()?.into_iter().filter(|segment| segment.state == SegmentState::Published);
    published.map(|row| Manifest::of_segment(row.id, row.manifest.unwrap_or_default().as_bytes())).collect()
}

/// All manifests of an output, in order.
pub async fn manifests(store: &Store) -> Result<Vec<Manifest>, OutputError> {
    let mut manifests = Vec::new();
    for name in store.list(MANIFESTS).await? {
        let Some(segment) = segment_of(&name) else { continue };
        manifests.push(Manifest::of_segment(segment, &store.get(&name).await?.unwrap_or_default())?);
    }
    Ok(manifests)
}

#[cfg(test)]
mod tests {
    use super::FileEntry;

    #[test]
    fn a_manifest_that_names_a_file_outside_of_the_output_is_not_read() {
        let entry = |path: &str, staged: &str| {
            let text =
                serde_json::json!({"path": path, "staged": staged, "rows": 1, "bytes": 1, "sha256": ""}).to_string();
            serde_json::from_str::<FileEntry>(&text)
        };
        assert!(entry("region=ID/x.parquet", "x.parquet").is_ok());
        for name in ["../x", "/etc/x", "region=ID/../../x", "", "./x", ".."] {
            assert!(entry(name, "x.parquet").is_err() && entry("x.parquet", name).is_err(), "{name}");
        }
    }
}
