//! The table's columns beside the export's.

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use delta_kernel::KernelResult;
use delta_kernel::engine::arrow_conversion::TryFromArrow as _;
use delta_kernel::schema::{StructField, StructType};

/// The columns of an export's files, and of its directories.
#[derive(Clone, Debug)]
pub(crate) struct TableColumns {
    /// The columns in the files.
    pub(crate) files: SchemaRef,
    /// The columns in the names of the directories, from the root on.
    pub(crate) partition: Vec<String>,
    /// Whether the table may get other columns.
    pub(crate) may_change: bool,
}

/// How a table differs from an export.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Differences {
    /// What no commit can bridge, in words.
    pub(super) lasting: Vec<String>,
    /// What one can if it is allowed to, in words.
    pub(super) bridged: Vec<String>,
    /// Columns that the table lacks.
    pub(super) new: Vec<StructField>,
}

impl TableColumns {
    /// The table's schema. Every column may be null in the table, whatever it is in the files: only such columns can be added
    /// later, and a column that may not be null needs a newer protocol than the oldest readers have.
    pub(super) fn schema(&self) -> KernelResult<StructType> {
        // A column of the directories may be in the files too. Readers take its value from the log.
        let only_in_files = self.files.fields().iter().filter(|field| !self.partition.contains(field.name()));
        let in_files = only_in_files.map(|field| (field.name().clone(), field.data_type().clone()));
        let in_names = self.partition.iter().map(|name| (name.clone(), DataType::Utf8));
        let fields: Vec<Field> = in_files.chain(in_names).map(|(name, kind)| Field::new(name, kind, true)).collect();
        Ok(StructType::try_from_arrow(&Schema::new(fields))?)
    }

    /// A column in the files that has the name of another one in the table, which is not the export's own.
    pub(super) fn ambiguous(&self) -> Option<&str> {
        let (_, outer) = self.partition.split_last()?;
        outer.iter().map(String::as_str).find(|name| self.files.field_with_name(name).is_ok())
    }

    /// Compares the export's columns with a table's.
    pub(super) fn compare(&self, table: &StructType, partition: &[String]) -> KernelResult<Differences> {
        let mut found = Differences::default();
        if *partition != *self.partition {
            found.lasting.push(format!(
                "it is partitioned by {}, the export by {}",
                listed(partition),
                listed(&self.partition)
            ));
        }
        let own = self.schema()?;
        for field in own.fields() {
            match table.field(field.name()) {
                None => {
                    found.bridged.push(format!("it has no column {}", field.name()));
                    found.new.push(field.clone());
                }
                Some(other) if other.data_type() != field.data_type() => found.lasting.push(format!(
                    "its column {} is {}, the export's {}",
                    field.name(),
                    other.data_type(),
                    field.data_type()
                )),
                Some(_) => {}
            }
        }
        for other in table.fields().filter(|other| own.field(other.name()).is_none()) {
            let (to, nullable) =
                (format!("it has a column {} and the export has not", other.name()), other.is_nullable());
            if nullable { found.bridged.push(to) } else { found.lasting.push(to + ", which may not be null") }
        }
        Ok(found)
    }
}

impl Differences {
    /// All that keeps the export out of the table, in words; none if nothing does.
    pub(super) fn obstacles(&self, may_change: bool) -> Option<String> {
        let bridged = self.bridged.iter().filter(|_| !may_change);
        let all: Vec<&str> = self.lasting.iter().chain(bridged).map(String::as_str).collect();
        let hint = if self.lasting.is_empty() { " (--evolve allows this)" } else { "" };
        (!all.is_empty()).then(|| all.join("; ") + hint)
    }
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use crate::output::delta::tests::for_test;
    use arrow::datatypes::DataType::{Int64, Utf8};

    #[test]
    fn a_column_of_the_export_may_not_have_the_name_of_the_snapshots() {
        let mut table = for_test(&[("a", Int64), ("region", Utf8), ("snapshot", Utf8)]);
        assert_eq!(table.ambiguous(), None);
        table.partition.insert(0, "snapshot".to_owned());
        assert_eq!(table.ambiguous(), Some("snapshot"));
        table.files = for_test(&[("a", Int64), ("region", Utf8)]).files;
        assert_eq!(table.ambiguous(), None);
    }

    #[test]
    fn a_table_s_differences_are_named_and_only_nullable_columns_can_be_bridged() {
        let table = for_test(&[("a", Int64), ("b", Utf8)]);
        let (schema, region) = (table.schema().unwrap(), ["region".to_owned()]);
        let words = |columns: &[(&str, _)], partition: &[String], may_change| {
            for_test(columns).compare(&schema, partition).unwrap().obstacles(may_change).unwrap_or_default()
        };
        assert_eq!(words(&[("a", Int64), ("b", Utf8)], &region, false), "");
        let more = [("a", Int64), ("b", Utf8), ("c", Int64)];
        assert_eq!(words(&more, &region, false), "it has no column c (--evolve allows this)");
        assert_eq!(words(&more, &region, true), "");
        assert_eq!(words(&[("a", Int64), ("b", Utf8), ("region", Utf8)], &region, false), "");
        let fewer = words(&[("a", Int64)], &region, false);
        assert_eq!(fewer, "it has a column b and the export has not (--evolve allows this)");
        let other = words(&[("a", Utf8), ("b", Utf8)], &[], true);
        assert_eq!(
            other,
            "it is partitioned by nothing, the export by region; its column a is long, the export's string"
        );
    }
}
