//! Manifests against the ledger's, and files against the manifests: length, content, rows, columns, directory; and whatever is
//! there that no manifest names.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;

use arrow::array::{Array, AsArray, RecordBatch, StringArray};
use arrow::datatypes::DataType;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::Audit;
use super::keys::KeySum;
use super::report::Remedy;
use crate::decode;
use crate::input::foreign_parquet::quietly;
use crate::model::page::SegmentId;
use crate::model::partition;
use crate::output::error::OutputError;
use crate::output::file_entry::FileEntry;
use crate::output::manifest::Manifest;
use crate::output::names::{MANIFESTS, REJECTS, manifest_name, of_file, segment_of};
use crate::output::stored::Stored;
use crate::report::error::ReportError;
use crate::state::ledger::{SegmentRow, SegmentState};

/// What the files of the published segments hold.
#[derive(Debug, Default)]
pub(super) struct Files {
    pub(super) segments: BTreeMap<SegmentId, SegmentContents>,
    /// What is in the directories of rows and rejects.
    listed: BTreeMap<String, Stored>,
    /// What manifests name of it.
    named: BTreeSet<String>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SegmentContents {
    pub(super) rows: u64,
    pub(super) rejected: u64,
    /// Over the keys of its rows; none if not all of them were read.
    pub(super) keys: Option<KeySum>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Content {
    rows: u64,
    keys: KeySum,
}

pub(super) async fn compare(audit: &mut Audit<'_>) -> Result<Files, ReportError> {
    let mut manifests = Vec::new();
    for row in audit.segments {
        let Some(text) = row.manifest.as_deref().filter(|_| row.state != SegmentState::Open) else { continue };
        match Manifest::parse(text.as_bytes()) {
            Ok(manifest) => manifests.push((row, manifest)),
            Err(error) => audit
                .differs(Remedy::State, format!("ledger: the manifest of segment {} is not readable: {error}", row.id)),
        }
        compare_manifest(audit, row, text).await?;
    }
    look_for_others(audit).await?;
    let listed = audit.store.data_files().await?;
    let mut files = Files { listed, ..Files::default() };
    for (row, manifest) in &manifests {
        if manifest.export != audit.opened.export.id || manifest.segment != row.id.0 || manifest.attempt > row.attempt {
            audit.differs(
                Remedy::State,
                format!("ledger: the manifest of segment {} is of another segment or export", row.id),
            );
        }
        if row.state == SegmentState::Published {
            let contents = files.segment(audit, manifest).await?;
            files.segments.insert(row.id, contents);
        } else {
            audit.read.decided += 1;
            files.decided(audit, manifest).await?;
        }
    }
    let is_table = audit.table.is_there().await?;
    for path in files.listed.keys().filter(|path| !files.named.contains(*path)) {
        let of = path.split_once('/').and_then(|(_, name)| of_file(&audit.opened.export.id, name));
        // Readers of older versions of a table still need what a replay replaced.
        let is_kept = |(segment, attempt): (SegmentId, i64)| {
            let is_newer = |now: &Manifest| now.segment == segment.0 && now.attempt > attempt;
            is_table && !path.starts_with(REJECTS) && manifests.iter().any(|(_, now)| is_newer(now))
        };
        if of.is_some_and(is_kept) {
            continue;
        }
        let (remedy, reason) = match of {
            Some(_) => (Remedy::Replay, "of an attempt that was not published, or not any more"),
            None => (Remedy::Move, "not of this export"),
        };
        audit.differs(remedy, format!("{path} is in no manifest: {reason}"));
    }
    Ok(files)
}

/// A segment's manifest in the output is the ledger's, to the byte.
async fn compare_manifest(audit: &mut Audit<'_>, row: &SegmentRow, text: &str) -> Result<(), ReportError> {
    let name = manifest_name(row.id);
    match (audit.store.get(&name).await?, row.state) {
        (Some(found), _) if found == text.as_bytes() => {}
        (None, SegmentState::Decided) => {}
        (Some(found), SegmentState::Decided)
            if Manifest::parse(&found).is_ok_and(|found| found.attempt < row.attempt) => {}
        (None, _) => audit.differs(Remedy::Replay, format!("{name} is missing")),
        (Some(_), _) => audit.differs(Remedy::Replay, format!("{name} is not as it was written")),
    }
    Ok(())
}

/// Manifests of segments that have none.
async fn look_for_others(audit: &mut Audit<'_>) -> Result<(), ReportError> {
    for name in audit.store.list(MANIFESTS).await? {
        let decided = |row: &&SegmentRow| row.state != SegmentState::Open;
        let known = segment_of(&name).map(|id| audit.segments.iter().filter(decided).any(|row| row.id == id));
        match known {
            Some(true) => {}
            Some(false) => {
                audit.differs(Remedy::State, format!("{name} is of a segment that the ledger has not published"));
            }
            // A crash left it before it got its name.
            None if name.strip_suffix(".new").is_some_and(|name| segment_of(name).is_some()) => {}
            None => audit.differs(Remedy::Move, format!("{name} is no manifest")),
        }
    }
    Ok(())
}

impl Files {
    /// Compares the files of a published segment.
    async fn segment(&mut self, audit: &mut Audit<'_>, manifest: &Manifest) -> Result<SegmentContents, ReportError> {
        let mut contents = SegmentContents {
            keys: Some(KeySum::default()).filter(|_| !manifest.key.is_empty()),
            ..SegmentContents::default()
        };
        let rebuild = audit.rebuild(SegmentId(manifest.segment));
        for file in &manifest.files {
            let content = self.file(audit, file, (Some(manifest), rebuild)).await?;
            contents.rows += content.map_or(file.rows, |content| content.rows);
            contents.keys = contents.keys.zip(content).map(|(mut keys, content)| {
                keys.join(content.keys);
                keys
            });
        }
        if let Some(file) = &manifest.rejects {
            contents.rejected +=
                self.file(audit, file, (None, rebuild)).await?.map_or(file.rows, |content| content.rows);
        }
        Ok(contents)
    }

    /// Compares one file; none if its content was not read. `rebuild`: what repairs it.
    async fn file(
        &mut self,
        audit: &mut Audit<'_>,
        file: &FileEntry,
        (manifest, rebuild): (Option<&Manifest>, Remedy),
    ) -> Result<Option<Content>, ReportError> {
        audit.read.files += 1;
        let path = &file.path;
        if !self.named.insert(path.clone()) {
            audit.differs(Remedy::State, format!("{path} is named twice"));
        }
        let directory = path.split('/').next().unwrap_or_default();
        if !manifest.map_or(directory == REJECTS, |manifest| partition::is_directory(&manifest.partition, directory)) {
            audit.differs(rebuild, format!("{path} is in a directory that no value has"));
        }
        let store = audit.store;
        let noted = audit.opened.ledger.etag(path)?;
        // A listing may be old, and some stores list no ETags.
        let is_as_noted = |found: &&Stored| file.visible_fault(Some(found)).is_none() && found.etag == noted;
        let found = match self.listed.get(path).filter(is_as_noted) {
            Some(found) => Some(found.clone()),
            None => store.find(path).await?,
        };
        if let Some(fault) = file.visible_fault(found.as_ref()) {
            audit.differs(rebuild, format!("{path} {fault}"));
            return Ok(None);
        }
        if !audit.reads_files {
            let etag = found.and_then(|found| found.etag);
            if etag.is_some() && noted.is_some() && etag != noted {
                audit.differs(Remedy::Read, format!("{path} has another ETag than when it was uploaded"));
            }
            return Ok(None);
        }
        if !audit.share.takes(path) {
            return Ok(None);
        }
        let Some(source) = store.read(path).await? else { return Ok(None) };
        let copy = source.try_clone().map_err(|source| OutputError::Content { name: path.clone(), source })?;
        if let Some(fault) = file.content_fault(copy).await? {
            audit.differs(rebuild, format!("{path} {fault}"));
            return Ok(None);
        }
        (audit.read.files_read, audit.read.bytes_read) =
            (audit.read.files_read + 1, audit.read.bytes_read + file.bytes);
        let failed = || Err("cannot be read: it makes the decoder fail".to_owned());
        match quietly(|| content(source, manifest)).unwrap_or_else(failed) {
            Ok(content) => {
                if content.rows != file.rows {
                    audit.differs(rebuild, format!("{path} has {} rows, {} in its manifest", content.rows, file.rows));
                }
                Ok(Some(content))
            }
            Err(reason) => {
                audit.differs(rebuild, format!("{path} {reason}"));
                Ok(None)
            }
        }
    }

    /// The files of a decided segment have their names or are still staged, and are as they were written.
    async fn decided(&mut self, audit: &mut Audit<'_>, manifest: &Manifest) -> Result<(), ReportError> {
        for file in manifest.all_files() {
            self.named.insert(file.path.clone());
            let store = audit.store;
            if let Some(staged) = store.read_staged(&file.staged).await?
                && file.content_fault(staged).await?.is_none()
            {
                continue;
            }
            let etag = audit.opened.ledger.etag(&file.path)?;
            if let Some(fault) = file.fault(store, etag.as_deref()).await? {
                audit.differs(
                    Remedy::Replay,
                    format!("{} is decided and {fault}, and it is not staged either", file.path),
                );
            }
        }
        Ok(())
    }
}

/// Reads all of a file, and fails where its columns are not the manifest's. Rejects have no manifest of columns.
fn content(file: File, manifest: Option<&Manifest>) -> Result<Content, String> {
    let unreadable = |error: &dyn std::fmt::Display| format!("cannot be read: {error}");
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| unreadable(&error))?;
    let fields = reader.schema().fields().iter();
    let columns: Vec<_> = fields.map(|field| (field.name().clone(), field.data_type().to_string())).collect();
    if manifest.is_some_and(|manifest| manifest.columns != columns) {
        return Err("has other columns than its manifest says".to_owned());
    }
    let mut content = Content::default();
    for batch in reader.build().map_err(|error| unreadable(&error))? {
        let batch = batch.map_err(|error| unreadable(&error))?;
        content.rows += u64::try_from(batch.num_rows()).unwrap_or_default();
        if let Some(key) = manifest.map(|manifest| manifest.key.as_slice()).filter(|key| !key.is_empty()) {
            add_keys(&mut content.keys, &batch, key).ok_or("has a row without a key")?;
        }
    }
    Ok(content)
}

/// Adds the rows of a batch to a sum; none where a part of a key is missing.
fn add_keys(sum: &mut KeySum, batch: &RecordBatch, key: &[String]) -> Option<()> {
    let column = |name: &String| batch.column_by_name(name).filter(|column| *column.data_type() == DataType::Utf8);
    let (item, identity) = key.split_first()?;
    let item = column(item)?.as_string::<i32>();
    let identity: Vec<_> = identity.iter().map(|name| column(name).map(AsArray::as_string::<i32>)).collect();
    for row in 0..batch.num_rows() {
        let key = decode::key_of(identity.iter().map(|column| text_at(*column, row)))?;
        sum.add(&text_at(Some(item), row)?, &key);
    }
    Some(())
}

fn text_at(column: Option<&StringArray>, row: usize) -> Option<Cow<'_, str>> {
    column.filter(|column| column.is_valid(row)).map(|column| Cow::Borrowed(column.value(row)))
}

#[cfg(test)]
mod tests {
    use super::content;
    use crate::input::foreign_parquet::quietly;
    use crate::output::manifest::Manifest;
    use crate::output::parquet_file::{ParquetFile, ParquetOptions};
    use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
    use std::io::{Seek, SeekFrom, Write};
    use std::sync::Arc;

    fn manifest() -> Manifest {
        let text = serde_json::json!({
            "format": 1, "export": "x", "segment": 1, "attempt": 1, "decided_at": "", "endpoint": "e", "journal": "j",
            "columns": [["item", "Utf8"], ["id", "Utf8"], ["n", "Int64"]], "key": ["item", "id"], "partition": "p",
            "files": [], "rejects": null,
        });
        Manifest::parse(text.to_string().as_bytes()).unwrap()
    }

    fn file() -> Vec<u8> {
        let texts = |prefix: &str| -> ArrayRef {
            Arc::new(StringArray::from_iter_values((0..50).map(|n| format!("{prefix}{n}"))))
        };
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..50));
        let rows = RecordBatch::try_from_iter([("item", texts("a")), ("id", texts("b")), ("n", numbers)]).unwrap();
        let mut file = ParquetFile::create(Vec::new(), &rows.schema(), &ParquetOptions::default()).unwrap();
        file.write(&rows).unwrap();
        file.finish().unwrap().0
    }

    #[test]
    fn l16_a_corrupt_file_whose_hash_agrees_is_an_answer_and_never_the_end_of_the_program() {
        let (manifest, whole) = (manifest(), file());
        let mut on_disk = tempfile::tempfile().unwrap();
        let mut read = |bytes: &[u8]| {
            on_disk.set_len(0).unwrap();
            on_disk.seek(SeekFrom::Start(0)).unwrap();
            on_disk.write_all(bytes).unwrap();
            let file = on_disk.try_clone().unwrap();
            quietly(|| content(file, Some(&manifest))).unwrap_or_else(|| Err("panicked".to_owned()))
        };
        let right = read(&whole).unwrap();
        assert_eq!(right.rows, 50);
        for length in 0..whole.len() {
            assert!(read(&whole[..length]).is_err(), "cut to {length} bytes");
        }
        let (mut unreadable, mut other_keys) = (0, 0);
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            match read(&bytes) {
                Err(_) => unreadable += 1,
                Ok(content) => other_keys += u32::from(content.keys != right.keys),
            }
        }
        assert!(unreadable > 100 && other_keys > 0, "{unreadable} unreadable, {other_keys} with other keys");
    }
}
