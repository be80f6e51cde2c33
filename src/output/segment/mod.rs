//! The segment being written: rows split by region into staged Parquet files, under one memory budget.
//!
//! Rows gather to large batches before they are split, because a split costs the same for ten rows as for thousands. A
//! region's rows then wait in memory until all regions together pass half of the budget. Then the largest region's go to a
//! file of its own, and once these are a full row group they are encoded. So only one encoder exists at a time (an open one
//! costs 3 MB whatever it has), and the size of row groups does not depend on how many regions share the memory. Where all
//! regions are small, more waits in memory, and then all of it goes to the disk. Nothing here has a name that a reader would
//! look at.

mod spill;
mod staged;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::compute::{concat_batches, interleave_record_batch};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

use crate::decode::Reject;
use crate::endpoint::{FETCHED_AT, PAGE_NUM};
use crate::model::page::SegmentId;
use crate::model::partition;
use crate::output::error::OutputError;
use crate::output::file_entry::FileEntry;
use crate::output::names::{REJECTS, stem};
use crate::output::parquet_file::{GROUP_ROWS, ParquetOptions};
use crate::state::disk::Disk;
use spill::SpillFile;
use staged::{DirectoryFiles, StagedParquet, Staging};

/// Rows that gather before they are split by region: some 500 full pages.
const SPLIT_ROWS: usize = 5_000;
/// Part of the budget that may gather before it is split, however few rows it is.
const PENDING_PART: usize = 4;
/// Part of the budget that may wait in memory.
const WAITING_PART: usize = 2;
/// Part of the budget that is worth a write. If the largest region has less, there are many.
const SMALLEST_PART: usize = 64;
/// Budgets that may wait in memory where there are many regions: each write takes at least 4 KB of the disk.
const CROWDED_BUDGETS: usize = 2;
/// Budgets of rows that are encoded to one row group, which is then as large as one budget.
const GROUP_BUDGETS: usize = 4;

/// How the files of an export look, and where they are staged.
#[derive(Clone, Debug)]
pub struct SegmentConfig {
    /// On the same file system as the output.
    pub staging: PathBuf,
    /// The export's id, first part of every file name.
    pub export: String,
    pub schema: SchemaRef,
    /// Name of the partition column.
    pub partition: String,
    /// How the files are laid out, and how much memory that may take.
    pub parquet: ParquetOptions,
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
    pub rejects: Vec<Reject>,
}

/// A segment whose files are whole and durable under their staged names.
#[derive(Debug)]
pub struct StagedSegment {
    pub segment: SegmentId,
    /// How often its files were started.
    pub attempt: i64,
    /// Files of rows, region by region.
    pub files: Vec<FileEntry>,
    pub rejects: Option<FileEntry>,
}

#[derive(Debug)]
pub struct SegmentWriter {
    staging: Staging,
    segment: SegmentId,
    attempt: i64,
    pending: Vec<Rows>,
    pending_rows: usize,
    pending_bytes: usize,
    regions: BTreeMap<String, Region>,
    /// Bytes of the regions' rows in memory.
    buffered: usize,
    rejects: Option<StagedParquet>,
}

/// A region's rows: first in memory, then on the disk until they are a row group, then in its files.
#[derive(Debug, Default)]
struct Region {
    rows: Vec<RecordBatch>,
    bytes: usize,
    spilled: Option<SpillFile>,
    files: DirectoryFiles,
}

impl SegmentWriter {
    /// A segment without rows. Each attempt at it gives its files other names.
    pub fn new(config: SegmentConfig, segment: SegmentId, attempt: i64) -> Self {
        Self {
            staging: Staging { stem: stem(&config.export, segment, attempt), config, created: 0 },
            segment,
            attempt,
            pending: Vec::new(),
            pending_rows: 0,
            pending_bytes: 0,
            regions: BTreeMap::new(),
            buffered: 0,
            rejects: None,
        }
    }

    pub fn segment(&self) -> SegmentId {
        self.segment
    }

    fn memory(&self) -> usize {
        self.staging.config.parquet.row_group_memory
    }

    /// Adds rows. Blocks, as they may go to the disk.
    pub fn push(&mut self, mut rows: Rows) -> Result<(), OutputError> {
        let rejects = std::mem::take(&mut rows.rejects);
        if !rejects.is_empty() {
            self.reject(&rejects)?;
        }
        self.pending_rows += rows.batch.num_rows();
        self.pending_bytes += rows.batch.get_array_memory_size();
        self.pending.push(rows);
        let enough = self.pending_rows >= SPLIT_ROWS || self.pending_bytes >= self.memory() / PENDING_PART;
        if enough { self.split() } else { Ok(()) }
    }

    /// Finishes the files: all of them whole and durable, none published.
    pub fn seal(mut self) -> Result<StagedSegment, OutputError> {
        self.split()?;
        let regions = std::mem::take(&mut self.regions);
        let mut files = Vec::with_capacity(regions.len());
        for (directory, mut region) in regions {
            if let Some(spilled) = region.spilled.take() {
                spilled.drain(|rows| region.files.write(&directory, rows, &mut self.staging))?;
            }
            for rows in &region.rows {
                region.files.write(&directory, rows, &mut self.staging)?;
            }
            files.append(&mut region.files.finish()?);
        }
        let rejects = self.rejects.take().map(StagedParquet::finish).transpose()?;
        Disk.sync_directory(&self.staging.config.staging)?;
        Ok(StagedSegment { segment: self.segment, attempt: self.attempt, files, rejects })
    }

    /// Splits what has gathered into the regions.
    fn split(&mut self) -> Result<(), OutputError> {
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
        // Values that share a directory share a file. A sorted order makes the files the same in every run.
        let mut directories: BTreeMap<String, Vec<(usize, usize)>> = BTreeMap::new();
        for (value, mut rows) in places {
            directories
                .entry(partition::directory(&self.staging.config.partition, value))
                .or_default()
                .append(&mut rows);
        }
        let batches: Vec<&RecordBatch> = pending.iter().map(|rows| &rows.batch).collect();
        for (directory, mut rows) in directories {
            rows.sort_unstable();
            let rows = interleave_record_batch(&batches, &rows)?;
            let bytes = rows.get_array_memory_size();
            let region = self.regions.entry(directory).or_default();
            region.rows.push(rows);
            region.bytes += bytes;
            self.buffered += bytes;
        }
        drop(batches);
        drop(pending);
        self.keep_budget()
    }

    /// Moves rows to the disk, those of the largest region first, until what is in memory keeps to its part of the budget.
    fn keep_budget(&mut self) -> Result<(), OutputError> {
        while self.buffered > self.memory() / WAITING_PART {
            let largest = self.regions.iter().max_by_key(|(_, region)| region.bytes);
            let Some((directory, region)) = largest.map(|(directory, region)| (directory.clone(), region)) else {
                break;
            };
            if region.bytes >= self.memory() / SMALLEST_PART {
                self.spill(&directory)?;
            } else if self.buffered > CROWDED_BUDGETS * self.memory() {
                let with_rows = self.regions.iter().filter(|(_, region)| !region.rows.is_empty());
                let all: Vec<String> = with_rows.map(|(directory, _)| directory.clone()).collect();
                all.iter().try_for_each(|directory| self.spill(directory))?;
            } else {
                break;
            }
        }
        Ok(())
    }

    /// Moves a region's rows to its spill file; a full row group is encoded.
    fn spill(&mut self, directory: &str) -> Result<(), OutputError> {
        let Some(region) = self.regions.get_mut(directory) else { return Ok(()) };
        let rows = match std::mem::take(&mut region.rows).as_slice() {
            [rows] => rows.clone(),
            rows => concat_batches(&self.staging.config.schema, rows)?,
        };
        self.buffered = self.buffered.saturating_sub(std::mem::take(&mut region.bytes));
        let mut spilled = region.spilled.take().unwrap_or_else(|| {
            let name = self.staging.next_name("spill");
            SpillFile::new(self.staging.config.staging.join(name))
        });
        spilled.push(&rows, &self.staging.config.schema)?;
        if spilled.rows < GROUP_ROWS && spilled.bytes < GROUP_BUDGETS * self.staging.config.parquet.row_group_memory {
            region.spilled = Some(spilled);
            return Ok(());
        }
        spilled.drain(|rows| region.files.write(directory, rows, &mut self.staging))?;
        region.files.end_group()
    }

    fn reject(&mut self, rejects: &[Reject]) -> Result<(), OutputError> {
        let batch = reject_batch(rejects)?;
        if self.rejects.is_none() {
            let name = format!("{REJECTS}/{}.parquet", self.staging.stem);
            self.rejects = Some(self.staging.create(name, &batch.schema())?);
        }
        self.rejects.as_mut().map_or(Ok(()), |file| file.write(&batch))
    }
}

fn reject_batch(rejects: &[Reject]) -> Result<RecordBatch, ArrowError> {
    let texts = |text: fn(&Reject) -> &str| StringArray::from_iter_values(rejects.iter().map(text));
    let pages = rejects.iter().map(|reject| i32::try_from(reject.page.0).unwrap_or(i32::MAX));
    let times = TimestampMicrosecondArray::from_iter_values(rejects.iter().map(|reject| reject.at.0));
    let columns: [(&str, ArrayRef); 5] = [
        ("item", Arc::new(texts(|reject| reject.id.as_str()))),
        (PAGE_NUM, Arc::new(Int32Array::from_iter_values(pages))),
        (FETCHED_AT, Arc::new(times.with_timezone("UTC"))),
        ("reason", Arc::new(texts(|reject| &reject.reason))),
        ("raw", Arc::new(texts(|reject| &reject.raw))),
    ];
    RecordBatch::try_from_iter(columns)
}

#[cfg(test)]
mod tests {
    use super::{Rows, SegmentConfig, SegmentWriter};
    use crate::decode::Reject;
    use crate::model::clock::Utc64;
    use crate::model::page::{ItemId, PageNum, SegmentId};
    use crate::output::parquet_file::ParquetOptions;
    use arrow::array::{AsArray, Int64Array, RecordBatch};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};
    use parquet::file::metadata::{ParquetMetaDataReader, RowGroupMetaData};
    use std::collections::BTreeMap;
    use std::sync::Arc;

    fn shape(directory: &std::path::Path, budget: usize) -> SegmentConfig {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
        SegmentConfig {
            staging: directory.to_owned(),
            export: "x".to_owned(),
            schema,
            partition: "region".to_owned(),
            parquet: ParquetOptions { row_group_memory: budget, ..ParquetOptions::default() },
        }
    }

    fn rows(shape: &SegmentConfig, numbers: std::ops::Range<i64>, regions: i64) -> Rows {
        let partitions =
            numbers.clone().map(|n| (n % regions != 0).then(|| format!("r{}", n % regions).into())).collect();
        let keep = numbers.clone().map(|n| n % 7 != 0).collect();
        let batch =
            RecordBatch::try_new(Arc::clone(&shape.schema), vec![Arc::new(Int64Array::from_iter_values(numbers))]);
        Rows { batch: batch.unwrap(), partitions, keep, rejects: Vec::new() }
    }

    /// What the sealed files hold, by name.
    fn sealed(shape: &SegmentConfig, batches: &[(std::ops::Range<i64>, i64)]) -> BTreeMap<String, Vec<i64>> {
        let mut writer = SegmentWriter::new(shape.clone(), SegmentId(1), 2);
        for (numbers, regions) in batches {
            writer.push(rows(shape, numbers.clone(), *regions)).unwrap();
        }
        let files = writer.seal().unwrap().files;
        let read = |path: &std::path::Path| -> Vec<i64> {
            let file = std::fs::File::open(path).unwrap();
            let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReader::try_new(file, 1 << 16).unwrap();
            reader.flat_map(|rows| rows.unwrap().column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
        };
        files.into_iter().map(|file| (file.path.clone(), read(&shape.staging.join(&file.staged)))).collect()
    }

    #[test]
    fn each_row_goes_to_its_region_once_and_in_order_and_what_is_not_kept_goes_nowhere() {
        let directory = tempfile::tempdir().unwrap();
        let files = sealed(&shape(directory.path(), 1 << 26), &[(0..4_000, 3), (4_000..9_000, 3), (9_000..9_010, 3)]);
        assert_eq!(files.len(), 3);
        let expected: Vec<i64> = (0..9_010).filter(|n| n % 3 == 1 && n % 7 != 0).collect();
        assert_eq!(files["region=r1/x-s000001-2-0.parquet"], expected);
        assert_eq!(files["region=__HIVE_DEFAULT_PARTITION__/x-s000001-2-0.parquet"][0], 3);
    }

    #[test]
    fn thousands_of_regions_and_a_tiny_budget_still_give_one_whole_file_a_region() {
        let directory = tempfile::tempdir().unwrap();
        let batches: Vec<_> = (0..6).map(|at| (at * 5_000..(at + 1) * 5_000, 701)).collect();
        let files = sealed(&shape(directory.path(), 1 << 14), &batches);
        assert_eq!(files.len(), 701);
        let mut all: Vec<i64> = files.into_values().flatten().collect();
        all.sort_unstable();
        assert_eq!(all, (0..30_000).filter(|n| n % 7 != 0).collect::<Vec<_>>());
        assert!(
            std::fs::read_dir(directory.path())
                .unwrap()
                .all(|entry| entry.unwrap().path().extension().unwrap() == "parquet")
        );
    }

    /// Row groups of each sealed file, in rows, and its bytes.
    fn groups(shape: &SegmentConfig, pushes: i64, regions: i64) -> BTreeMap<String, (Vec<i64>, u64)> {
        let mut writer = SegmentWriter::new(shape.clone(), SegmentId(1), 2);
        for at in 0..pushes {
            writer.push(rows(shape, at * 5_000..(at + 1) * 5_000, regions)).unwrap();
        }
        let groups = |path: &std::path::Path| {
            let file = std::fs::File::open(path).unwrap();
            let metadata = ParquetMetaDataReader::new().parse_and_finish(&file).unwrap();
            metadata.row_groups().iter().map(RowGroupMetaData::num_rows).collect()
        };
        let files = writer.seal().unwrap().files;
        files.iter().map(|file| (file.path.clone(), (groups(&shape.staging.join(&file.staged)), file.bytes))).collect()
    }

    #[test]
    fn a_row_group_is_many_times_what_its_region_may_hold_in_memory() {
        let directory = tempfile::tempdir().unwrap();
        let memory = 1 << 18;
        let mut shape = shape(directory.path(), memory);
        shape.parquet.unique = vec!["n".to_owned()];
        for (groups, _) in groups(&shape, 120, 3).into_values() {
            let (last, full) = groups.split_last().unwrap();
            let rows_in_memory = i64::try_from(memory / 8).unwrap();
            assert!(!full.is_empty() && full.iter().all(|rows| *rows >= 2 * rows_in_memory), "{groups:?}");
            assert!(*last > 0);
        }
    }

    #[test]
    fn no_file_is_larger_than_it_may_be_and_a_region_has_more_of_them_instead() {
        let directory = tempfile::tempdir().unwrap();
        let mut shape = shape(directory.path(), 1 << 18);
        shape.parquet.file_size = 50_000;
        let files = groups(&shape, 20, 2);
        assert!(files.values().all(|(_, bytes)| *bytes <= 50_000), "{files:?}");
        assert!(files.contains_key("region=r1/x-s000001-2-1.parquet"), "{files:?}");
        let rows: i64 = files.values().flat_map(|(groups, _)| groups).sum();
        assert_eq!(usize::try_from(rows).unwrap(), (0..100_000).filter(|n| n % 7 != 0).count());
    }

    #[test]
    fn the_same_rows_make_the_same_bytes() {
        let sums = |at: i64| {
            let directory = tempfile::tempdir().unwrap();
            let mut writer = SegmentWriter::new(shape(directory.path(), 1 << 18), SegmentId(1), at);
            for at in 0..30 {
                writer.push(rows(&shape(directory.path(), 0), at * 5_000..(at + 1) * 5_000, 40)).unwrap();
            }
            writer.seal().unwrap().files.into_iter().map(|file| file.sha256).collect::<Vec<_>>()
        };
        assert_eq!(sums(1), sums(2));
    }

    #[test]
    fn rejects_are_kept_beside_the_data_and_a_segment_without_rows_has_no_files() {
        let directory = tempfile::tempdir().unwrap();
        let shape = shape(directory.path(), 1 << 20);
        let reject =
            Reject { id: ItemId::new("a"), page: PageNum(1), at: Utc64(1), reason: "why".into(), raw: "{}".to_owned() };
        let mut writer = SegmentWriter::new(shape.clone(), SegmentId(3), 1);
        writer.push(Rows { rejects: vec![reject], ..rows(&shape, 0..0, 2) }).unwrap();
        let sealed = writer.seal().unwrap();
        assert!(sealed.files.is_empty());
        let rejects = sealed.rejects.unwrap();
        assert_eq!((rejects.path.as_str(), rejects.rows), ("_rejects/x-s000003-1.parquet", 1));
    }
}
