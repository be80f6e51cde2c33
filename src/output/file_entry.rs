//! A file of a segment, as manifests list it.

use std::path::{Component, Path};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::output::stored::Stored;

pub(super) const MISSING: &str = "is missing";

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

/// Whether a file name does not lead out of its directory.
pub(crate) fn is_inside(name: &str) -> bool {
    !name.is_empty() && Path::new(name).components().all(|part| matches!(part, Component::Normal(_)))
}

/// A file name that does not lead out of its directory: somebody else may have written a manifest or a ledger.
fn inside<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    if is_inside(&name) { Ok(name) } else { Err(D::Error::custom("a file name leads out of the output")) }
}

impl FileEntry {
    /// What is wrong with the file by what a store says about it, without its content.
    pub(crate) fn visible_fault(&self, found: Option<&Stored>) -> Option<&'static str> {
        match found.and_then(|found| found.bytes) {
            None => Some(MISSING),
            Some(bytes) => (bytes != self.bytes).then_some("has another length than it was written with"),
        }
    }
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
