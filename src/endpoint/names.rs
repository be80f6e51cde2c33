//! Checks the names in a description: people must be able to read them, and readers of the files to look them up.

use std::collections::BTreeMap;

use super::{Endpoint, Role};
use crate::model::partition::MAX_COLUMN_NAME;
use crate::model::sanitize::sanitize;

impl Endpoint {
    pub(super) fn check_names(&self) -> Result<(), String> {
        let mut shown = self.columns.iter().map(|column| &column.name).chain([&self.name]);
        if let Some(name) = shown.find(|name| name.is_empty() || sanitize(name) != **name) {
            return Err(format!(
                "{name:?} is not a name: it is empty, too long, or contains characters that cannot be displayed"
            ));
        }
        // Many readers ignore case: they would refuse the file, or find one of two columns.
        let mut known = BTreeMap::new();
        for name in self.columns.iter().map(|column| &column.name) {
            match known.insert(name.to_lowercase(), name) {
                Some(other) if other == name => return Err(format!("two columns are named {name}")),
                Some(other) => return Err(format!("columns {other} and {name} differ only by case")),
                None => {}
            }
        }
        if let Some(own) = self.columns.iter().find(|column| column.name.starts_with('_')) {
            let name = &own.name;
            return Err(format!("column {name}: names that begin with _ are reserved for pagehaul's own columns"));
        }
        let Some(partition) = self.columns.iter().find(|column| column.role == Role::Partition) else { return Ok(()) };
        let (name, is_plain) = (&partition.name, |c: char| c.is_ascii_alphanumeric() || c == '_');
        if name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(is_plain) {
            return Err(format!(
                "the name of the partition column {name} must consist of ASCII letters, digits and _, and must not begin \
                 with a digit: readers parse it from directory names"
            ));
        }
        if name.len() > MAX_COLUMN_NAME {
            return Err(format!("the partition column's name is too long for a directory: {MAX_COLUMN_NAME} bytes"));
        }
        Ok(())
    }
}
