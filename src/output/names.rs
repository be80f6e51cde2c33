//! The names in an output, relative to its root.

use std::path::Path;

use crate::model::page::SegmentId;
use crate::state::disk::Access;

/// Names the export that an output belongs to.
pub(crate) const OWNER: &str = "_pagehaul/export.json";
/// Says that the output is complete: written last, removed before anything changes.
pub(crate) const SUCCESS: &str = "_SUCCESS";
pub const MANIFESTS: &str = "_pagehaul/segments";
pub(crate) const STAGING: &str = "_pagehaul/staging";
pub(crate) const REJECTS: &str = "_rejects";

/// Who may read a file: rejects are rows as the API sent them, with the columns that the user drops; all else is output.
pub(crate) fn access(name: &str) -> Access {
    if Path::new(name).starts_with(REJECTS) { Access::Private } else { Access::Shared }
}

pub(crate) fn manifest_name(segment: SegmentId) -> String {
    format!("{MANIFESTS}/{:06}.json", segment.0)
}

pub(crate) fn segment_of(name: &str) -> Option<SegmentId> {
    let number = name.rsplit_once('/').map_or(name, |(_, file)| file).strip_suffix(".json")?;
    number.parse().ok().map(SegmentId).filter(|segment| manifest_name(*segment).ends_with(name))
}

/// What the names of a segment's files start with. The attempt makes them new each time the segment is built.
pub(crate) fn stem(export: &str, segment: SegmentId, attempt: i64) -> String {
    format!("{export}-s{:06}-{attempt}", segment.0)
}

/// The segment and the attempt whose [`stem`] a file's name starts with, if it is a file of this export.
pub(crate) fn of_file(export: &str, name: &str) -> Option<(SegmentId, i64)> {
    let (segment, rest) = name.strip_prefix(export)?.strip_prefix("-s")?.split_once('-')?;
    let (segment, attempt) = (SegmentId(segment.parse().ok()?), rest.split(['-', '.']).next()?.parse().ok()?);
    name.starts_with(&stem(export, segment, attempt)).then_some((segment, attempt))
}

/// Whether a directory of an output is one of rows, `COLUMN=VALUE` for whatever column, or that of rejects.
pub(crate) fn has_data(directory: &str) -> bool {
    directory == REJECTS || directory.contains('=')
}

/// Whether a name is that of a file of rows or rejects of this export, and of nothing that somebody made of one.
pub(crate) fn is_data_of(export: &str, name: &str) -> bool {
    let Some((directory, file)) = name.split_once('/').filter(|(directory, _)| has_data(directory)) else {
        return false;
    };
    let Some((segment, attempt)) = of_file(export, file) else { return false };
    let rest = file.strip_prefix(&stem(export, segment, attempt)).and_then(|rest| rest.strip_suffix(".parquet"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    rest.is_some_and(|rest| match directory {
        REJECTS => rest.is_empty(),
        _ => rest.strip_prefix('-').is_some_and(is_number),
    })
}

#[cfg(test)]
mod tests {
    use super::{is_data_of, of_file, stem};
    use crate::model::page::SegmentId;

    #[test]
    fn a_file_of_rows_or_rejects_is_an_export_s_own_by_the_whole_of_its_name_and_its_place() {
        for own in ["region=ID/a1-s000001-2-0.parquet", "x=/a1-s000012-34-567.parquet", "_rejects/a1-s000001-2.parquet"]
        {
            assert!(is_data_of("a1", own), "{own}");
        }
        let others = [
            "a1-s000001-2-0.parquet",
            "notes/a1-s000001-2-0.parquet",
            "region=ID/b1-s000001-2-0.parquet",
            "region=ID/a1-s1-2-0.parquet",
            "region=ID/a1-s000001-2.parquet",
            "region=ID/a1-s000001-2-.parquet",
            "region=ID/a1-s000001-2-0.parquet.bak",
            "region=ID/a1-s000001-2-0-copy.parquet",
            "region=ID/a1-s000001-2-x/../../0.parquet",
            "region=ID/deep/a1-s000001-2-0.parquet",
            "region=ID/",
            "region=ID",
            "../region=ID/a1-s000001-2-0.parquet",
            "/region=ID/a1-s000001-2-0.parquet",
            "_rejects/a1-s000001-2-0.parquet",
            "_pagehaul/ledger.sqlite",
            "_SUCCESS",
            "",
        ];
        for other in others {
            assert!(!is_data_of("a1", other), "{other}");
        }
    }

    #[test]
    fn a_file_s_name_says_of_which_segment_and_attempt_it_is() {
        let name = format!("{}-0.parquet", stem("a1b2", SegmentId(12), 34));
        assert_eq!(of_file("a1b2", &name), Some((SegmentId(12), 34)));
        assert_eq!(of_file("a1b2", "a1b2-s1234567-1.parquet"), Some((SegmentId(1_234_567), 1)));
        for other in ["a1b2-s12-34-0.parquet", "b1b2-s000012-34-0.parquet", "a1b2-s000012-x", "a1b2", "part-0.parquet"]
        {
            assert_eq!(of_file("a1b2", other), None, "{other}");
        }
    }
}
