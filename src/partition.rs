//! A partition value as a folder name, and back.
//!
//! The Hive convention: `region=ID`. What a file name cannot carry as it is gets percent-encoded (RFC 3986 unreserved
//! characters stay); no value, an empty one, one that would be too long, and the literal name of the default partition
//! share `__HIVE_DEFAULT_PARTITION__`.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Folder of the values that no folder name can carry.
pub const DEFAULT: &str = "__HIVE_DEFAULT_PARTITION__";

/// Longest encoded value, bytes: `NAME=VALUE` must stay within the 255 bytes of a file name.
const LONGEST: usize = 180;

/// Everything but the unreserved characters of RFC 3986, without the tilde that shells expand.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');

/// The value as the right side of a folder name, if a folder name can carry it.
pub fn encode(value: &str) -> Option<String> {
    if value.is_empty() || value.len() > LONGEST || value == DEFAULT {
        return None;
    }
    let encoded = utf8_percent_encode(value, ENCODED).to_string();
    (encoded.len() <= LONGEST).then_some(encoded)
}

/// The folder of a partition column's value: `region=ID`.
pub fn folder(column: &str, value: Option<&str>) -> String {
    let encoded = value.and_then(encode);
    format!("{}={}", utf8_percent_encode(column, ENCODED), encoded.as_deref().unwrap_or(DEFAULT))
}

#[cfg(test)]
mod tests {
    use super::{DEFAULT, encode, folder};
    use percent_encoding::percent_decode_str;
    use proptest::prelude::*;

    #[test]
    fn values_without_a_folder_name_share_the_default_partition() {
        let long = "x".repeat(300);
        for value in [None, Some(""), Some(DEFAULT), Some(long.as_str())] {
            assert_eq!(folder("region", value), format!("region={DEFAULT}"));
        }
        assert_eq!(folder("region", Some("ID")), "region=ID");
    }

    #[test]
    fn a_value_cannot_leave_its_folder() {
        assert_eq!(folder("region", Some("../../etc/x")), "region=..%2F..%2Fetc%2Fx");
        assert_eq!(folder("region", Some("a=b/c")), "region=a%3Db%2Fc");
    }

    proptest! {
        #[test]
        fn every_value_that_fits_is_one_safe_component_and_decodes_to_itself(value in any::<String>()) {
            if let Some(encoded) = encode(&value) {
                prop_assert!(encoded.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.%".contains(&b)));
                prop_assert_eq!(percent_decode_str(&encoded).decode_utf8().unwrap(), value);
            }
        }
    }
}
