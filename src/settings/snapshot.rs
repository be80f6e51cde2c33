//! Where an export's output and state are. With a snapshot one output holds many exports, each in a directory of its own.

use std::path::{Path, PathBuf};

use super::OutputLocation;
use super::layers::{Layers, SettingsError};
use super::table;
use crate::model::clock;

/// The column that the directories of snapshots are named after.
pub(crate) const SNAPSHOT: &str = "snapshot";
/// The label of today's snapshot, in UTC.
const TODAY: &str = "today";
const MAX_LABEL: usize = 100;
/// The state directory of an export that has it in its output.
const INSIDE: &str = "_pagehaul";

/// What tells one snapshot of a dataset from the others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SnapshotLabel(String);

impl SnapshotLabel {
    /// Reads a label. The error says what it must be.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text == TODAY {
            return Ok(Self(clock::wall().to_string().chars().take_while(|c| *c != 'T').collect()));
        }
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let is_label = text.len() <= MAX_LABEL && text.starts_with(|c: char| c.is_ascii_alphanumeric());
        if is_label && text.chars().all(is_plain) {
            return Ok(Self(text.to_owned()));
        }
        Err(format!(
            "must be \"{TODAY}\" or the name of a directory: letters, digits, '-', '_' and '.', {MAX_LABEL} at most, a letter or digit first"
        ))
    }

    /// Of the name of a directory in a dataset; none if it is no snapshot's.
    pub(crate) fn of_directory(name: &str) -> Option<Self> {
        let label = name.strip_prefix(SNAPSHOT)?.strip_prefix('=')?;
        Self::parse(label).ok().filter(|_| label != TODAY)
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn directory(&self) -> String {
        format!("{SNAPSHOT}={}", self.0)
    }
}

/// A dataset, and the paths of one export in it.
#[derive(Clone, Debug)]
pub(crate) struct ExportPaths {
    pub out: OutputLocation,
    pub state: PathBuf,
    /// Which snapshot of the dataset it is, if it is one.
    pub snapshot: Option<SnapshotLabel>,
}

impl ExportPaths {
    /// `missing`: what to say where no output is named.
    pub(crate) fn from_layers(layers: &Layers, missing: &str) -> Result<Self, SettingsError> {
        let out = layers.find(table::OUT)?.ok_or_else(|| SettingsError(missing.to_owned()))?;
        let given = layers.find(table::STATE_DIR)?;
        let dataset = Self { out, state: given.clone().unwrap_or_default(), snapshot: None };
        let paths = match layers.find(table::SNAPSHOT)? {
            Some(label) => dataset.of_snapshot(label),
            None => dataset,
        };
        let inside = paths.out.directory().map(|out| out.join(INSIDE));
        let state = given.map(|_| paths.state).or(inside).ok_or_else(|| needs_state(layers))?;
        Ok(Self { state, ..paths })
    }

    /// The same of another snapshot of the dataset that this one belongs to.
    pub(crate) fn sibling(&self, label: SnapshotLabel) -> Self {
        let out = self.out.parent().join(&label.directory());
        let is_inside = |out: &Path| self.state == out.join(INSIDE);
        let state = match (self.out.directory(), out.directory()) {
            (Some(own), Some(other)) if is_inside(own) => other.join(INSIDE),
            (Some(_) | None, Some(_) | None) => self.state.with_file_name(label.directory()),
        };
        Self { out, state, snapshot: Some(label) }
    }

    /// Where the states of a dataset's snapshots are: the directory that has one for each, and the path in that one.
    pub(super) fn states(layers: &Layers) -> Result<(PathBuf, PathBuf), SettingsError> {
        let given = layers.find(table::STATE_DIR)?.map(|root| (root, PathBuf::new()));
        let out = layers.find(table::OUT)?;
        let inside = out.as_ref().and_then(OutputLocation::directory).map(|out| (out.to_owned(), INSIDE.into()));
        given.or(inside).ok_or_else(|| needs_state(layers))
    }

    /// The paths of a snapshot of a dataset that has these.
    fn of_snapshot(&self, label: SnapshotLabel) -> Self {
        let name = label.directory();
        Self { out: self.out.join(&name), state: self.state.join(&name), snapshot: Some(label) }
    }
}

fn needs_state(layers: &Layers) -> SettingsError {
    let reason = "is required where the output is in a bucket: the ledger and the journal need a local disk with locks and fsync";
    layers.invalid(table::STATE_DIR, reason)
}

#[cfg(test)]
mod tests {
    use super::{ExportPaths, SnapshotLabel};
    use crate::settings::{Layers, Origin};
    use proptest::prelude::*;
    use std::path::Path;

    /// Settings, the output, and the state directory.
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a str, &'a str);

    fn paths(settings: &[(&str, &str)]) -> Result<ExportPaths, String> {
        let mut layers = Layers::built_in().unwrap();
        for (key, value) in settings {
            layers.set(key, (*value).to_owned(), &Origin::Flag).unwrap();
        }
        ExportPaths::from_layers(&layers, "missing").map_err(|error| error.to_string())
    }

    #[test]
    fn a_snapshot_is_a_directory_of_the_output_and_of_the_state() {
        let table: [Case<'_>; 5] = [
            (&[("out", "v")], "v", "v/_pagehaul"),
            (&[("out", "v"), ("state_dir", "s")], "v", "s"),
            (&[("out", "v"), ("snapshot", "a")], "v/snapshot=a", "v/snapshot=a/_pagehaul"),
            (&[("out", "v"), ("state_dir", "s"), ("snapshot", "a")], "v/snapshot=a", "s/snapshot=a"),
            (&[("out", "s3://b/p/"), ("state_dir", "s"), ("snapshot", "a")], "s3://b/p/snapshot=a", "s/snapshot=a"),
        ];
        for (settings, out, state) in table {
            let found = paths(settings).unwrap();
            assert_eq!((&*found.out.to_string(), found.state.as_path()), (out, Path::new(state)), "{settings:?}");
            if settings.last() == Some(&("snapshot", "a")) {
                let other = found.sibling(SnapshotLabel::parse("b").unwrap());
                assert_eq!(other.out.to_string(), out.replace("=a", "=b"));
                assert_eq!(other.state, Path::new(&state.replace("=a", "=b")));
            }
        }
        assert_eq!(paths(&[]).unwrap_err(), "missing");
        assert!(paths(&[("out", "s3://b/p"), ("snapshot", "a")]).unwrap_err().starts_with("state_dir"));
    }

    #[test]
    fn a_label_that_is_no_directory_s_name_is_refused_and_today_is_a_date() {
        for label in ["", ".", "..", "a/b", "a=b", "a b", "é", "-x", "_x", "a\n", &"x".repeat(101)] {
            assert!(SnapshotLabel::parse(label).unwrap_err().contains("the name of a directory"), "{label:?}");
        }
        let today = SnapshotLabel::parse("today").unwrap().directory();
        assert!(today.starts_with("snapshot=20") && today.len() == "snapshot=2026-11-27".len(), "{today}");
        assert_eq!(SnapshotLabel::of_directory("snapshot=today"), None);
        assert_eq!(SnapshotLabel::of_directory("region=a"), None);
    }

    proptest! {
        #[test]
        fn a_label_s_directory_names_that_label(text in "[A-Za-z0-9][A-Za-z0-9._-]{0,20}") {
            prop_assume!(text != "today");
            let label = SnapshotLabel::parse(&text).unwrap();
            prop_assert_eq!(SnapshotLabel::of_directory(&label.directory()), Some(label));
        }
    }
}
