//! The manifest: the document that makes a segment's files part of the output.

use std::fs::File;

use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

use crate::model::page::SegmentId;
use crate::output::error::OutputError;
use crate::output::file_entry::{FileEntry, MISSING};
use crate::output::names::{MANIFESTS, segment_of};
use crate::output::store::Store;
use crate::output::stored::content_hash;
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
    /// The column whose value is in the directory's name, and in a file only if `columns` has it.
    #[serde(default)]
    pub partition: String,
    pub journal: String,
    /// Files of rows.
    pub files: Vec<FileEntry>,
    pub rejects: Option<FileEntry>,
    /// The files of rows of the attempt that was published before this one. A table must have them all, to lose them in the commit
    /// that adds the new ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaces: Vec<String>,
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
    /// What is wrong with the file in the output; none if it is as it was written. `etag`: what the store called it when it was
    /// uploaded. Its content is read where the store does not call it so.
    pub async fn fault(&self, store: &Store, etag: Option<&str>) -> Result<Option<&'static str>, OutputError> {
        let found = store.find(&self.path).await?;
        if let Some(fault) = self.visible_fault(found.as_ref()) {
            return Ok(Some(fault));
        }
        if etag.is_some() && found.is_some_and(|found| found.etag.as_deref() == etag) {
            return Ok(None);
        }
        let Some(content) = store.read(&self.path).await? else { return Ok(Some(MISSING)) };
        self.content_fault(content).await
    }

    pub(crate) async fn content_fault(&self, content: File) -> Result<Option<&'static str>, OutputError> {
        let found = spawn_blocking(|| content_hash(content)).await?;
        let found = found.map_err(|source| OutputError::Content { name: self.path.clone(), source })?;
        Ok((found != self.sha256).then_some("has another content than it was written with"))
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
