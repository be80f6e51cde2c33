//! Checks the names in a description: people must be able to read them, and readers of the files to look them up.

use std::collections::BTreeMap;

use super::{Endpoint, Role};
use crate::model::partition::MAX_COLUMN_NAME;
use crate::model::sanitize::sanitize;

impl Endpoint {
    /// Why a name cannot be used; None if all can.
    pub(super) fn unusable_name(&self) -> Option<String> {
        let mut shown = self.columns.iter().map(|column| &column.name).chain([&self.name]);
        if let Some(name) = shown.find(|name| name.is_empty() || sanitize(name) != **name) {
            return Some(format!(
                "{name:?} is not a name: it is empty, too long, or contains characters that cannot be displayed"
            ));
        }
        // Many readers ignore case: they would refuse the file, or find one of two columns.
        let mut known = BTreeMap::new();
        let mut names = self.columns.iter().map(|column| column.name.as_str());
        match names.find_map(|name| Some((known.insert(name.to_lowercase(), name)?, name))) {
            Some((one, other)) if one == other => return Some(format!("two columns are named {one}")),
            Some((one, other)) => return Some(format!("columns {one} and {other} differ only by case")),
            None => {}
        }
        if let Some(own) = self.columns.iter().find(|column| column.name.starts_with('_')) {
            return Some(format!(
                "column {}: names that begin with _ are reserved for pagehaul's own columns",
                own.name
            ));
        }
        let partition = &self.columns.iter().find(|column| column.role == Role::Partition)?.name;
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if partition.starts_with(|c: char| c.is_ascii_digit()) || !partition.chars().all(is_plain) {
            return Some(format!(
                "the name of the partition column {partition} must consist of ASCII letters, digits and _, and must not begin \
                 with a digit: readers parse it from directory names"
            ));
        }
        (partition.len() > MAX_COLUMN_NAME)
            .then(|| format!("the partition column's name is too long for a directory: {MAX_COLUMN_NAME} bytes"))
    }
}
