//! A partition value as a directory name, and back.
//!
//! The Hive convention: `region=ID`. Letters, digits, `-` and `_` stay, every other byte is percent-encoded, so that a name
//! is one safe component on every file system: no separator, no dot at the end (some systems drop it), no device name
//! (`region=CON` is not one), nothing that a system may normalise. Names are reversible, and distinct for every value up to
//! [`MAX_VALUE`]. Null, an empty value, a longer one, the literal name of the default partition, text that is not Unicode and
//! values after the first [`MAX_DIRECTORIES`] share `__HIVE_DEFAULT_PARTITION__`; the row's `_extra` has such a value.
//!
//! Case is kept. On a file system that ignores case, `ID` and `id` are one directory, and their files of one segment have the
//! same name. `store` never replaces a file, so the run ends as a storage failure (exit 8) with all rows in the journal. Such
//! an export needs another file system. No row is ever written under another value.

use std::collections::HashSet;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// Directory of the values that have no directory name.
pub const DEFAULT: &str = "__HIVE_DEFAULT_PARTITION__";

/// Maximum directories of a run, without the default partition's.
pub const MAX_DIRECTORIES: usize = 20_000;

/// Longest encoded value, bytes: `NAME=VALUE` must stay within the 255 bytes of a file name.
pub const MAX_VALUE: usize = 180;

/// Longest encoded name of the column, bytes: the rest of the directory's name.
pub const MAX_COLUMN_NAME: usize = 255 - 1 - MAX_VALUE;

/// Everything but letters, digits, `-` and `_`.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_');

/// The value as the right side of a directory name, if it can be one.
pub fn encode(value: &str) -> Option<String> {
    if value.is_empty() || value.len() > MAX_VALUE || value == DEFAULT {
        return None;
    }
    let encoded = utf8_percent_encode(value, ENCODED).to_string();
    (encoded.len() <= MAX_VALUE).then_some(encoded)
}

/// The directory of a partition column's value: `region=ID`.
pub fn directory(column: &str, value: Option<&str>) -> String {
    let encoded = value.and_then(encode);
    format!("{}={}", encoded_name(column), encoded.as_deref().unwrap_or(DEFAULT))
}

/// The partition column's name as the left side of a directory name.
pub fn encoded_name(column: &str) -> String {
    utf8_percent_encode(column, ENCODED).to_string()
}

/// Whether [`directory`] returns this name for some value of this column.
pub fn is_directory(column: &str, name: &str) -> bool {
    let right = name.strip_prefix(&encoded_name(column)).and_then(|rest| rest.strip_prefix('='));
    let value = right.map(|right| percent_decode_str(right).decode_utf8());
    match (right, value) {
        (Some(DEFAULT), _) => true,
        (Some(right), Some(Ok(value))) => encode(&value).as_deref() == Some(right),
        _ => false,
    }
}

/// The directories of a run: limited, so that a server cannot fill a disk with directories of one row each.
#[derive(Debug, Default)]
pub struct PartitionDirs {
    known: HashSet<Box<str>>,
}

impl PartitionDirs {
    /// Whether a value gets its own directory. If not, it belongs to the default partition.
    pub fn admit(&mut self, value: &str) -> bool {
        if self.known.contains(value) {
            return true;
        }
        let fits = self.known.len() < MAX_DIRECTORIES && encode(value).is_some();
        if fits {
            self.known.insert(value.into());
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::{DEFAULT, MAX_DIRECTORIES, MAX_VALUE, PartitionDirs, directory, encode, is_directory};
    use percent_encoding::percent_decode_str;
    use proptest::prelude::*;
    use std::path::{Component, Path};

    #[test]
    fn values_without_a_directory_name_share_the_default_partition() {
        let (long, wide) = ("x".repeat(MAX_VALUE + 1), "é".repeat(MAX_VALUE / 6 + 1));
        for value in [None, Some(""), Some(DEFAULT), Some(long.as_str()), Some(wide.as_str())] {
            assert_eq!(directory("region", value), format!("region={DEFAULT}"));
        }
        assert!(encode(&"x".repeat(MAX_VALUE)).is_some() && encode(&"é".repeat(MAX_VALUE / 6)).is_some());
    }

    #[test]
    fn a_value_cannot_leave_its_directory_or_turn_into_another() {
        let table = [
            ("ID", "ID"),
            ("../../etc/x", "%2E%2E%2F%2E%2E%2Fetc%2Fx"),
            ("a=b/c", "a%3Db%2Fc"),
            (".", "%2E"),
            ("..", "%2E%2E"),
            ("a.", "a%2E"),
            (" ", "%20"),
            ("a%2Fb", "a%252Fb"),
            ("C:\\x", "C%3A%5Cx"),
            ("CON", "CON"),
            ("id", "id"),
            ("__hive_default_partition__", "__hive_default_partition__"),
            ("é", "%C3%A9"),
            ("e\u{301}", "e%CC%81"),
            ("\0\n", "%00%0A"),
        ];
        for (value, encoded) in table {
            assert_eq!(directory("region", Some(value)), format!("region={encoded}"));
        }
    }

    #[test]
    fn directories_are_counted_by_value_and_those_over_the_maximum_are_always_refused() {
        let mut directories = PartitionDirs::default();
        assert!((0..MAX_DIRECTORIES).all(|n| directories.admit(&n.to_string())));
        assert!(!directories.admit("one more") && !directories.admit("one more") && directories.admit("17"));
        assert!(!PartitionDirs::default().admit(""));
    }

    #[test]
    fn a_directory_that_no_value_has_is_recognised() {
        let wrong =
            ["region=", "region=a/b", "region=%41", "region=%2f", "region=%ff", "region=..%2", "regions=ID", "ID"];
        assert!(wrong.iter().all(|name| !is_directory("region", name)));
        assert!(
            ["region=ID", "region=%2F", &format!("region={DEFAULT}")].iter().all(|name| is_directory("region", name))
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn every_value_that_fits_is_one_safe_component_and_decodes_to_itself(value in value(), column in ".{1,6}") {
            let directory = directory(&column, Some(&value));
            let components: Vec<_> = Path::new(&directory).components().collect();
            prop_assert!(matches!(components.as_slice(), [Component::Normal(_)]), "{}", directory);
            prop_assert!(directory.len() <= 255 && directory.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_%=".contains(&b)));
            if let Some(encoded) = encode(&value) {
                prop_assert!(is_directory(&column, &directory));
                prop_assert_eq!(percent_decode_str(&encoded).decode_utf8().unwrap(), value);
            }
        }

        #[test]
        fn distinct_values_that_fit_have_distinct_directories(one in value(), other in value()) {
            let (left, right) = (encode(&one), encode(&other));
            prop_assert!(one == other || left.is_none() || left != right);
            prop_assert!(left.as_deref() != Some(DEFAULT));
        }

        #[test]
        fn a_short_value_always_fits(value in ".{1,15}") {
            prop_assert_eq!(encode(&value).is_some(), true);
        }
    }

    /// Values near the dangerous ones as well as any others.
    fn value() -> impl Strategy<Value = String> {
        prop_oneof![any::<String>(), "[./\\\\%=a-cA-C_-]{0,6}", "(__HIVE_DEFAULT_PARTITION__)?[ .]?", "[xé]{25,200}"]
    }
}
