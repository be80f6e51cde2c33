//! Which earlier export one continues, and whether its order of rows allows that.

use std::path::PathBuf;

use super::SnapshotLabel;
use super::layers::{Layers, SettingsError};
use super::snapshot::ExportPaths;
use super::table;
use crate::endpoint::{ColumnKind, Endpoint, Role};

/// The newest complete snapshot of the same output.
const LATEST: &str = "latest";

/// The earlier export that one continues.
#[derive(Clone, Debug, PartialEq)]
pub struct Since {
    /// As the user named it.
    pub name: String,
    pub place: SincePlace,
    /// Share of the lists that are read whole to see what has changed in them, percent.
    pub check: f64,
}

/// Where the state of the earlier export is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SincePlace {
    /// In one of these directories.
    States(Vec<PathBuf>),
    /// In a snapshot's directory in this one; `below`: in this one there.
    Latest { root: PathBuf, below: PathBuf, own: SnapshotLabel },
}

impl Since {
    /// None if the setting names no export. `sort`: the field of the lists' order, and whether it is descending.
    pub(super) fn from_layers(
        layers: &Layers,
        endpoint: &Endpoint,
        sort: Option<&(String, bool)>,
    ) -> Result<Option<Self>, SettingsError> {
        if layers.is_blank(table::SINCE) {
            return Err(layers.invalid(table::SINCE, "is empty: name an export, or `none`"));
        }
        let (Some(name), check) = (layers.find(table::SINCE)?, layers.get(table::SINCE_CHECK)?) else {
            return Ok(None);
        };
        let appends = |field: &str| {
            let column = endpoint.columns.iter().find(|column| column.name == field);
            column.is_some_and(|column| column.kind == ColumnKind::Timestamp && column.role == Role::Attribute)
        };
        if !sort.is_some_and(|(field, is_descending)| !is_descending && appends(field)) {
            let fields = endpoint.sort.as_ref().map(|sort| sort.fields.keys());
            let field = fields.into_iter().flatten().find(|field| appends(field));
            let reason = match field {
                Some(field) => format!("needs lists whose new rows come last: --sort {field}:asc"),
                None => "needs lists whose new rows come last, which the endpoint cannot sort".to_owned(),
            };
            return Err(layers.invalid(table::SINCE, reason));
        }
        let invalid = |reason: String| layers.invalid(table::SINCE, reason);
        let place = match layers.find(table::SNAPSHOT)? {
            _ if name.contains(['/', '\\']) => in_directory(&name),
            None if name == LATEST => return Err(invalid("`latest` is a snapshot: it needs --snapshot".to_owned())),
            None => in_directory(&name),
            Some(own) => {
                let (root, below) = ExportPaths::states(layers)?;
                if name == LATEST {
                    SincePlace::Latest { root, below, own }
                } else {
                    let label = SnapshotLabel::parse(&name).map_err(invalid)?;
                    if label == own {
                        return Err(invalid("is the snapshot that is exported: name an earlier one".to_owned()));
                    }
                    SincePlace::States(vec![root.join(label.directory()).join(below)])
                }
            }
        };
        Ok(Some(Self { name, place, check }))
    }
}

/// An output that has its state inside, or a state directory.
fn in_directory(name: &str) -> SincePlace {
    let directory = PathBuf::from(name.strip_prefix("file://").unwrap_or(name));
    SincePlace::States(vec![directory.join("_pagehaul"), directory])
}

#[cfg(test)]
mod tests {
    use super::{Since, SincePlace};
    use crate::settings::{Layers, Origin, Settings};
    use std::path::PathBuf;

    fn since(settings: &[(&str, &str)]) -> Result<Option<Since>, String> {
        let mut layers = Layers::built_in().unwrap();
        for (key, value) in [("out", "v"), ("sort", "create_time:asc")].iter().chain(settings) {
            layers.set(key, (*value).to_owned(), &Origin::Flag).unwrap();
        }
        Settings::resolve(&layers).map(|settings| settings.since).map_err(|error| error.to_string())
    }

    fn states(settings: &[(&str, &str)]) -> Vec<PathBuf> {
        match since(settings).unwrap().unwrap().place {
            SincePlace::States(states) => states,
            SincePlace::Latest { root, below, .. } => vec![root, below],
        }
    }

    #[test]
    fn an_earlier_export_is_a_snapshot_of_the_same_output_or_a_directory() {
        let paths = |paths: &[&str]| paths.iter().map(PathBuf::from).collect::<Vec<_>>();
        assert_eq!(since(&[]), Ok(None));
        assert_eq!(states(&[("since", "w")]), paths(&["w/_pagehaul", "w"]));
        let table = [
            ("a", "v/snapshot=a/_pagehaul"),
            ("./a", "./a/_pagehaul ./a"),
            ("w/snapshot=a", "w/snapshot=a/_pagehaul w/snapshot=a"),
            ("latest", "v _pagehaul"),
        ];
        for (name, expected) in table {
            let expected: Vec<&str> = expected.split(' ').collect();
            assert_eq!(states(&[("snapshot", "b"), ("since", name)]), paths(&expected), "{name}");
        }
        let elsewhere = [("snapshot", "b"), ("state_dir", "s"), ("since", "a")];
        assert_eq!(states(&elsewhere), paths(&["s/snapshot=a"]));
    }

    #[test]
    fn an_export_continues_another_one_only_in_an_order_that_puts_new_rows_last() {
        for sort in ["none", "create_time:desc", "total_digg_cnt:asc"] {
            let error = since(&[("since", "w"), ("sort", sort)]).unwrap_err();
            assert!(error.contains("--sort create_time:asc"), "{sort}: {error}");
        }
        for (name, words) in [("b", "name an earlier one"), ("a b", "the name of a directory")] {
            let error = since(&[("snapshot", "b"), ("since", name)]).unwrap_err();
            assert!(error.contains(words), "{name}: {error}");
        }
        assert!(since(&[("since", "latest")]).unwrap_err().contains("needs --snapshot"));
        assert!(
            since(&[("since", "")]).unwrap_err().contains("is empty"),
            "an unset variable would cost a full export"
        );
    }
}
