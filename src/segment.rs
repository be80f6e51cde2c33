//! The segment being written: rows split by region into staged Parquet files, under one memory budget.
//!
//! Rows gather to large batches before they are split, since a split costs the same for ten rows as for thousands. A region's
//! rows wait as they are until all regions together pass the budget; then the largest region writes all of its rows as one
//! row group. So only one encoder lives at a time: an open one costs 3 MB whatever it holds. Where there are more regions than
//! files may be open, or all of them are small, the rows go to one spill file and are gathered again when the segment is
//! sealed: any number of regions, and still one file a region. Nothing here has a name that a reader would look at.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Int32Builder, RecordBatch, StringBuilder, TimestampMicrosecondBuilder};
use arrow::compute::interleave_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::reader::FileReader;
use arrow::ipc::writer::FileWriter;
use parquet::errors::ParquetError;

use crate::decode::Reject;
use crate::disk::{Disk, DiskError, Doing, NewFile};
use crate::endpoint::{ColumnKind, FETCHED_AT, PAGE_NUM};
use crate::page::SegmentId;
use crate::parquet::ParquetFile;
use crate::partition;
use crate::store::REJECTS;

/// Rows that gather before they are split by region: some 500 full pages.
const SPLIT_ROWS: usize = 5_000;
/// Regions with an open file.
const OPEN_FILES: usize = 64;
/// The share of the budget that may gather before it is split, however few rows it is.
const PENDING_SHARE: usize = 4;
/// The smallest share of the budget that is worth a row group: with less in the largest region there are many regions.
const SMALLEST_SHARE: usize = 64;

/// Rows could not be staged.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A Parquet file could not be written.
    #[error("write a staged file of {folder}")]
    Parquet {
        /// The partition folder that it is for.
        folder: String,
        /// What the writer said.
        #[source]
        source: ParquetError,
    },
    /// Rows could not be split or spilled.
    #[error("split rows by region")]
    Arrow(#[from] ArrowError),
}

/// What shapes the files of an export.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Folder for staged files, on the same file system as the output.
    pub staging: PathBuf,
    /// The export's id, first part of every file name.
    pub export: String,
    /// Schema of the rows.
    pub schema: SchemaRef,
    /// Name of the partition column.
    pub partition: String,
    /// Columns whose values hardly ever repeat.
    pub unique: Vec<String>,
    /// Bytes of rows that may wait in memory.
    pub budget: usize,
}

/// Rows to be written: those of a decoded group that are new to their walks.
#[derive(Debug)]
pub struct Rows {
    /// Rows by the file schema.
    pub batch: RecordBatch,
    /// Partition value of each row.
    pub partitions: Vec<Option<Box<str>>>,
    /// For each row, whether it is written.
    pub keep: Vec<bool>,
    /// Rows that could not be typed.
    pub rejects: Vec<Reject>,
}

/// A staged file, whole and durable, and the name that it will get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StagedFile {
    /// Where it is.
    pub staged: PathBuf,
    /// The name it gets, relative to the output.
    pub name: String,
    /// Rows.
    pub rows: u64,
    /// Length.
    pub bytes: u64,
    /// SHA-256, hexadecimal.
    pub sha256: String,
}

/// A segment whose files are whole and durable under their staged names.
#[derive(Debug)]
pub struct Sealed {
    /// The segment.
    pub segment: SegmentId,
    /// How often its files were begun.
    pub attempt: i64,
    /// One file a region, by name.
    pub files: Vec<StagedFile>,
    /// The rejects, if there are any.
    pub rejects: Option<StagedFile>,
}

/// The segment being written.
#[derive(Debug)]
pub struct SegmentWriter {
    disk: Disk,
    shape: Shape,
    segment: SegmentId,
    attempt: i64,
    pending: Vec<Rows>,
    pending_rows: usize,
    pending_bytes: usize,
    regions: BTreeMap<String, Region>,
    held: usize,
    open_files: usize,
    spill: Option<Spill>,
    rejects: Option<StagedParquet>,
    staged: u32,
}

/// A region's rows: in its file, in blocks of the spill file, and in memory.
#[derive(Debug, Default)]
struct Region {
    file: Option<StagedParquet>,
    blocks: Vec<usize>,
    rows: Vec<RecordBatch>,
    bytes: usize,
}

/// Rows on disk until the segment is sealed, a block a region each time.
struct Spill {
    writer: FileWriter<NewFile>,
    path: PathBuf,
    blocks: usize,
}

impl std::fmt::Debug for Spill {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spill").field("path", &self.path).field("blocks", &self.blocks).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct StagedParquet {
    file: ParquetFile<NewFile>,
    path: PathBuf,
    name: String,
}

impl StagedParquet {
    fn write(&mut self, rows: &RecordBatch) -> Result<(), SegmentError> {
        self.file.write(rows).map_err(|source| SegmentError::Parquet { folder: self.name.clone(), source })
    }

    /// Writes rows as a row group of their own.
    fn write_group(&mut self, batches: &[RecordBatch]) -> Result<(), SegmentError> {
        for rows in batches {
            self.write(rows)?;
        }
        self.file.flush().map_err(|source| SegmentError::Parquet { folder: self.name.clone(), source })
    }

    fn finish(self) -> Result<StagedFile, SegmentError> {
        let Self { file, path, name } = self;
        let finished = file.finish();
        let (sink, rows) = finished.map_err(|source| SegmentError::Parquet { folder: name.clone(), source })?;
        let written = sink.finish()?;
        Ok(StagedFile { staged: path, name, rows, bytes: written.bytes, sha256: written.sha256 })
    }
}

impl SegmentWriter {
    /// Begins a segment's files.
    pub fn begin(disk: Disk, shape: Shape, segment: SegmentId, attempt: i64) -> Self {
        Self {
            disk,
            shape,
            segment,
            attempt,
            pending: Vec::new(),
            pending_rows: 0,
            pending_bytes: 0,
            regions: BTreeMap::new(),
            held: 0,
            open_files: 0,
            spill: None,
            rejects: None,
            staged: 0,
        }
    }

    /// Adds rows.
    pub fn push(&mut self, mut rows: Rows) -> Result<(), SegmentError> {
        let rejects = std::mem::take(&mut rows.rejects);
        if !rejects.is_empty() {
            self.reject(&rejects)?;
        }
        self.pending_rows += rows.batch.num_rows();
        self.pending_bytes += rows.batch.get_array_memory_size();
        self.pending.push(rows);
        let enough = self.pending_rows >= SPLIT_ROWS || self.pending_bytes >= self.shape.budget / PENDING_SHARE;
        if enough { self.split() } else { Ok(()) }
    }

    /// Ends the segment: every file whole and durable, none of them published.
    pub fn seal(mut self) -> Result<Sealed, SegmentError> {
        self.split()?;
        let regions = std::mem::take(&mut self.regions);
        let mut files = Vec::with_capacity(regions.len());
        let spilled = self.end_spill()?;
        let mut blocks = spilled.as_ref().map(|path| open_blocks(path)).transpose()?;
        for (folder, region) in regions {
            let mut file = region.file.map_or_else(|| self.stage(&folder), Ok)?;
            for block in region.blocks {
                if let Some(reader) = &mut blocks {
                    reader.set_index(block)?;
                    if let Some(rows) = reader.next() {
                        file.write(&rows?)?;
                    }
                }
            }
            for rows in &region.rows {
                file.write(rows)?;
            }
            files.push(file.finish()?);
        }
        drop(blocks);
        if let Some(path) = spilled {
            self.disk.remove(&path)?;
        }
        let rejects = self.rejects.take().map(StagedParquet::finish).transpose()?;
        self.disk.sync_folder(&self.shape.staging)?;
        Ok(Sealed { segment: self.segment, attempt: self.attempt, files, rejects })
    }

    /// Splits what has gathered into the regions' files.
    fn split(&mut self) -> Result<(), SegmentError> {
        let pending = std::mem::take(&mut self.pending);
        (self.pending_rows, self.pending_bytes) = (0, 0);
        let mut places: HashMap<Option<&str>, Vec<(usize, usize)>> = HashMap::new();
        for (at, rows) in pending.iter().enumerate() {
            for (row, (partition, keep)) in rows.partitions.iter().zip(&rows.keep).enumerate() {
                if *keep {
                    places.entry(partition.as_deref()).or_default().push((at, row));
                }
            }
        }
        // Values that share a folder share a file. A sorted order makes the files the same in every run.
        let mut folders: BTreeMap<String, Vec<(usize, usize)>> = BTreeMap::new();
        for (value, mut rows) in places {
            folders.entry(partition::folder(&self.shape.partition, value)).or_default().append(&mut rows);
        }
        let batches: Vec<&RecordBatch> = pending.iter().map(|rows| &rows.batch).collect();
        for (folder, mut rows) in folders {
            rows.sort_unstable();
            let rows = interleave_record_batch(&batches, &rows)?;
            let bytes = rows.get_array_memory_size();
            let region = self.regions.entry(folder).or_default();
            region.rows.push(rows);
            region.bytes += bytes;
            self.held += bytes;
        }
        self.keep_budget()
    }

    /// Writes row groups, the largest region first, until what is held is within the budget.
    fn keep_budget(&mut self) -> Result<(), SegmentError> {
        while self.held > self.shape.budget {
            let largest = self.regions.iter().max_by_key(|(_, region)| region.bytes);
            let Some((folder, region)) = largest.map(|(folder, region)| (folder.clone(), region)) else { break };
            let may_open = region.file.is_some() || self.open_files < OPEN_FILES;
            if !may_open || region.bytes < self.shape.budget / SMALLEST_SHARE {
                return self.spill();
            }
            let opened = if region.file.is_none() { Some(self.stage(&folder)?) } else { None };
            self.open_files += usize::from(opened.is_some());
            if let Some(region) = self.regions.get_mut(&folder) {
                self.held = self.held.saturating_sub(std::mem::take(&mut region.bytes));
                region.file = region.file.take().or(opened);
                if let Some(file) = &mut region.file {
                    file.write_group(&std::mem::take(&mut region.rows))?;
                }
            }
        }
        Ok(())
    }

    /// Puts all waiting rows into the spill file.
    fn spill(&mut self) -> Result<(), SegmentError> {
        let spill = if let Some(spill) = &mut self.spill {
            spill
        } else {
            let stem = stem(&self.shape.export, self.segment, self.attempt);
            let path = self.shape.staging.join(format!("{stem}-waiting.arrow"));
            let writer = FileWriter::try_new(self.disk.create(&path)?, &self.shape.schema)?;
            self.spill.insert(Spill { writer, path, blocks: 0 })
        };
        for region in self.regions.values_mut().filter(|region| !region.rows.is_empty()) {
            let rows = arrow::compute::concat_batches(&self.shape.schema, &region.rows)?;
            (region.rows, region.bytes) = (Vec::new(), 0);
            spill.writer.write(&rows)?;
            region.blocks.push(spill.blocks);
            spill.blocks += 1;
        }
        self.held = 0;
        Ok(())
    }

    fn end_spill(&mut self) -> Result<Option<PathBuf>, SegmentError> {
        let Some(mut spill) = self.spill.take() else { return Ok(None) };
        spill.writer.finish()?;
        spill.writer.into_inner()?.finish()?;
        Ok(Some(spill.path))
    }

    fn stage(&mut self, folder: &str) -> Result<StagedParquet, SegmentError> {
        let name = format!("{folder}/{}-0.parquet", stem(&self.shape.export, self.segment, self.attempt));
        let schema = Arc::clone(&self.shape.schema);
        self.stage_as(name, &schema)
    }

    fn stage_as(&mut self, name: String, schema: &SchemaRef) -> Result<StagedParquet, SegmentError> {
        let stem = stem(&self.shape.export, self.segment, self.attempt);
        let path = self.shape.staging.join(format!("{stem}-{}.parquet", self.staged));
        self.staged += 1;
        let file = ParquetFile::create(self.disk.create(&path)?, schema, &self.shape.unique)
            .map_err(|source| SegmentError::Parquet { folder: name.clone(), source })?;
        Ok(StagedParquet { file, path, name })
    }

    fn reject(&mut self, rejects: &[Reject]) -> Result<(), SegmentError> {
        let batch = reject_batch(rejects)?;
        if self.rejects.is_none() {
            let name = format!("{REJECTS}/{}.parquet", stem(&self.shape.export, self.segment, self.attempt));
            self.rejects = Some(self.stage_as(name, &batch.schema())?);
        }
        self.rejects.as_mut().map_or(Ok(()), |file| file.write(&batch))
    }
}

/// What the names of a segment's files begin with. The attempt makes them new each time the files are begun.
pub fn stem(export: &str, segment: SegmentId, attempt: i64) -> String {
    format!("{export}-s{:06}-{attempt}", segment.0)
}

/// The segment and the attempt whose [`stem`] a file's name begins with, if it is a file of this export.
pub fn of_name(export: &str, name: &str) -> Option<(SegmentId, i64)> {
    let (segment, rest) = name.strip_prefix(export)?.strip_prefix("-s")?.split_once('-')?;
    let (segment, attempt) = (SegmentId(segment.parse().ok()?), rest.split(['-', '.']).next()?.parse().ok()?);
    name.starts_with(&stem(export, segment, attempt)).then_some((segment, attempt))
}

fn open_blocks(path: &Path) -> Result<FileReader<File>, SegmentError> {
    let file = File::open(path).doing("open", path)?;
    Ok(FileReader::try_new(file, None)?)
}

fn reject_batch(rejects: &[Reject]) -> Result<RecordBatch, ArrowError> {
    let (mut item, mut reason, mut raw) = (StringBuilder::new(), StringBuilder::new(), StringBuilder::new());
    let (mut page, mut at) = (Int32Builder::new(), TimestampMicrosecondBuilder::new());
    for reject in rejects {
        item.append_value(reject.id.as_str());
        page.append_value(i32::try_from(reject.page.0).unwrap_or(i32::MAX));
        at.append_value(reject.at.0);
        reason.append_value(&reject.reason);
        raw.append_value(&reject.raw);
    }
    let field = |name: &str, kind: DataType| Field::new(name, kind, false);
    let schema = Schema::new(vec![
        field("item", DataType::Utf8),
        field(PAGE_NUM, DataType::Int32),
        field(FETCHED_AT, ColumnKind::Timestamp.data_type()),
        field("reason", DataType::Utf8),
        field("raw", DataType::Utf8),
    ]);
    RecordBatch::try_new(
        Arc::new(schema),
        vec![
            Arc::new(item.finish()),
            Arc::new(page.finish()),
            Arc::new(at.finish().with_timezone("UTC")),
            Arc::new(reason.finish()),
            Arc::new(raw.finish()),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::{Rows, SegmentWriter, Shape, of_name, stem};
    use crate::clock::Utc64;
    use crate::decode::Reject;
    use crate::disk::Disk;
    use crate::page::{ItemId, PageNum, SegmentId};
    use arrow::array::{AsArray, Int64Array, RecordBatch};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};
    use std::collections::BTreeMap;
    use std::sync::Arc;

    fn shape(folder: &std::path::Path, budget: usize) -> Shape {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
        Shape {
            staging: folder.to_owned(),
            export: "x".to_owned(),
            schema,
            partition: "region".to_owned(),
            unique: Vec::new(),
            budget,
        }
    }

    fn rows(shape: &Shape, numbers: std::ops::Range<i64>, regions: i64) -> Rows {
        let partitions =
            numbers.clone().map(|n| (n % regions != 0).then(|| format!("r{}", n % regions).into())).collect();
        let keep = numbers.clone().map(|n| n % 7 != 0).collect();
        let batch =
            RecordBatch::try_new(Arc::clone(&shape.schema), vec![Arc::new(Int64Array::from_iter_values(numbers))]);
        Rows { batch: batch.unwrap(), partitions, keep, rejects: Vec::new() }
    }

    /// What the sealed files hold, by name.
    fn sealed(shape: &Shape, batches: &[(std::ops::Range<i64>, i64)]) -> BTreeMap<String, Vec<i64>> {
        let mut writer = SegmentWriter::begin(Disk, shape.clone(), SegmentId(1), 2);
        for (numbers, regions) in batches {
            writer.push(rows(shape, numbers.clone(), *regions)).unwrap();
        }
        let files = writer.seal().unwrap().files;
        let read = |path: &std::path::Path| -> Vec<i64> {
            let file = std::fs::File::open(path).unwrap();
            let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReader::try_new(file, 1 << 16).unwrap();
            reader.flat_map(|rows| rows.unwrap().column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
        };
        files.into_iter().map(|file| (file.name.clone(), read(&file.staged))).collect()
    }

    #[test]
    fn each_row_goes_to_its_region_once_and_in_order_and_what_is_not_kept_goes_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let files = sealed(&shape(folder.path(), 1 << 26), &[(0..4_000, 3), (4_000..9_000, 3), (9_000..9_010, 3)]);
        assert_eq!(files.len(), 3);
        let expected: Vec<i64> = (0..9_010).filter(|n| n % 3 == 1 && n % 7 != 0).collect();
        assert_eq!(files["region=r1/x-s000001-2-0.parquet"], expected);
        assert_eq!(files["region=__HIVE_DEFAULT_PARTITION__/x-s000001-2-0.parquet"][0], 3);
    }

    #[test]
    fn thousands_of_regions_and_a_tiny_budget_still_give_one_whole_file_a_region() {
        let folder = tempfile::tempdir().unwrap();
        let batches: Vec<_> = (0..6).map(|at| (at * 5_000..(at + 1) * 5_000, 701)).collect();
        let files = sealed(&shape(folder.path(), 1 << 14), &batches);
        assert_eq!(files.len(), 701);
        let mut all: Vec<i64> = files.into_values().flatten().collect();
        all.sort_unstable();
        assert_eq!(all, (0..30_000).filter(|n| n % 7 != 0).collect::<Vec<_>>());
        assert!(
            std::fs::read_dir(folder.path())
                .unwrap()
                .all(|entry| entry.unwrap().path().extension().unwrap() == "parquet")
        );
    }

    #[test]
    fn a_file_s_name_says_of_which_segment_and_attempt_it_is() {
        let name = format!("{}-0.parquet", stem("a1b2", SegmentId(12), 34));
        assert_eq!(of_name("a1b2", &name), Some((SegmentId(12), 34)));
        assert_eq!(of_name("a1b2", "a1b2-s1234567-1.parquet"), Some((SegmentId(1_234_567), 1)));
        for other in ["a1b2-s12-34-0.parquet", "b1b2-s000012-34-0.parquet", "a1b2-s000012-x", "a1b2", "part-0.parquet"]
        {
            assert_eq!(of_name("a1b2", other), None, "{other}");
        }
    }

    #[test]
    fn rejects_are_kept_beside_the_data_and_a_segment_without_rows_has_no_files() {
        let folder = tempfile::tempdir().unwrap();
        let shape = shape(folder.path(), 1 << 20);
        let reject =
            Reject { id: ItemId::new("a"), page: PageNum(1), at: Utc64(1), reason: "why".into(), raw: "{}".to_owned() };
        let mut writer = SegmentWriter::begin(Disk, shape.clone(), SegmentId(3), 1);
        writer.push(Rows { rejects: vec![reject], ..rows(&shape, 0..0, 2) }).unwrap();
        let sealed = writer.seal().unwrap();
        assert!(sealed.files.is_empty());
        let rejects = sealed.rejects.unwrap();
        assert_eq!((rejects.name.as_str(), rejects.rows), ("_rejects/x-s000003-1.parquet", 1));
    }
}
