//! What a report shows of files: rows a region, sizes, rejects. From the manifests.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;

use crate::model::sanitize::sanitize;
use crate::output::manifest::Manifest;
use crate::report::totals::as_u64;

/// Regions that are shown one by one.
const REGIONS: usize = 20;
/// The largest size of each class of files, bytes. The last class has all larger ones.
pub(crate) const SIZES: [u64; 7] = [64 << 10, 1 << 20, 8 << 20, 32 << 20, 128 << 20, 512 << 20, 2 << 30];

/// Files, and what is in them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FileSums {
    pub(crate) files: u64,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
}

impl FileSums {
    fn add(&mut self, rows: u64, bytes: u64) {
        self.files += 1;
        self.rows = self.rows.saturating_add(rows);
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct FilesOverview {
    pub(crate) all: FileSums,
    /// The directories with the most rows: the value of the partition, sanitised.
    pub(crate) regions: Vec<(String, FileSums)>,
    /// The other directories, and how many these are.
    pub(crate) rest: (u64, FileSums),
    /// How many files are in each class of [`SIZES`], and in the one behind them.
    pub(crate) sizes: [u64; SIZES.len() + 1],
    pub(crate) largest: u64,
    pub(crate) rejects: FileSums,
    /// The partition's column, sanitised.
    pub(crate) partition: String,
}

impl FilesOverview {
    pub(crate) fn from_manifests(manifests: &[Manifest]) -> Self {
        let mut overview = Self::default();
        let mut regions: BTreeMap<&str, FileSums> = BTreeMap::new();
        for file in manifests.iter().flat_map(|manifest| &manifest.files) {
            overview.all.add(file.rows, file.bytes);
            overview.largest = overview.largest.max(file.bytes);
            if let Some(count) = overview.sizes.get_mut(SIZES.partition_point(|size| *size < file.bytes)) {
                *count += 1;
            }
            let directory = file.path.split('/').next().unwrap_or_default();
            regions.entry(directory).or_default().add(file.rows, file.bytes);
        }
        for file in manifests.iter().filter_map(|manifest| manifest.rejects.as_ref()) {
            overview.rejects.add(file.rows, file.bytes);
        }
        let partition = manifests.last().map(|manifest| manifest.partition.as_str()).filter(|name| !name.is_empty());
        overview.partition = sanitize(partition.unwrap_or("partition"));
        let mut regions: Vec<(&str, FileSums)> = regions.into_iter().collect();
        regions.sort_by_key(|(_, sums)| std::cmp::Reverse(sums.rows));
        let rest = regions.split_off(REGIONS.min(regions.len()));
        overview.rest.0 = as_u64(rest.len());
        for (_, sums) in rest {
            overview.rest.1.files += sums.files;
            overview.rest.1.rows = overview.rest.1.rows.saturating_add(sums.rows);
            overview.rest.1.bytes = overview.rest.1.bytes.saturating_add(sums.bytes);
        }
        overview.regions = regions.into_iter().map(|(directory, sums)| (value(directory), sums)).collect();
        overview
    }
}

/// The value that a directory is of, sanitised.
fn value(directory: &str) -> String {
    let value = directory.split_once('=').map_or(directory, |(_, value)| value);
    sanitize(&percent_decode_str(value).decode_utf8_lossy())
}

#[cfg(test)]
mod tests {
    use super::FilesOverview;
    use crate::output::manifest::Manifest;

    fn manifest(files: &[(String, u64, u64)]) -> Manifest {
        let entry = |(path, rows, bytes): &(String, u64, u64)| serde_json::json!({"path": path, "staged": "x", "rows": rows, "bytes": bytes, "sha256": ""});
        let text = serde_json::json!({
            "format": 1, "export": "x", "segment": 1, "attempt": 1, "decided_at": "", "endpoint": "e", "journal": "j",
            "columns": [], "key": [], "partition": "market", "rejects": null,
            "files": files.iter().map(entry).collect::<Vec<_>>(),
        });
        Manifest::parse(text.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn the_regions_with_the_most_rows_are_shown_by_their_value_and_the_others_together() {
        let files: Vec<_> = (0..30_u64).map(|at| (format!("market=R%3C{at}/a-0.parquet"), at, at << 20)).collect();
        let overview = FilesOverview::from_manifests(&[manifest(&files), manifest(&files[..1])]);
        assert_eq!((overview.regions.len(), overview.regions[0].0.as_str()), (20, "R<29"));
        assert_eq!((overview.rest.0, overview.rest.1.files, overview.rest.1.rows), (10, 11, 45));
        assert_eq!((overview.all.files, overview.sizes.iter().sum::<u64>(), overview.largest), (31, 31, 29 << 20));
        assert_eq!(overview.partition, "market");
    }
}
