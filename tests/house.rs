//! The house rules that a compiler does not check: layers, file sizes, file heads, settings in the documents.

#![expect(clippy::unwrap_used, reason = "a test that cannot read the tree has failed")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Files by layer, as `src/lib.rs` documents them.
const LAYERS: [(u8, &[&str]); 6] = [
    (0, &["page", "clock", "event", "sanitize", "step"]),
    (1, &["endpoint", "envelope", "decode", "partition", "parquet", "quota", "retry", "verdict", "settings"]),
    (2, &["api", "disk", "store", "ledger", "journal", "simulator"]),
    (3, &["plan", "scheduler", "backlog", "walk", "absorb", "dispatch", "record", "segment", "commit"]),
    (4, &["export", "job", "rounds", "stop", "recover", "publish", "site", "summary", "products", "token", "error"]),
    (5, &["main", "cli", "log", "progress", "signals"]),
];

/// A file of `src`, with the name of its module and its text before the tests.
struct Source {
    path: PathBuf,
    module: String,
    text: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut folders, mut found) = (vec![root.clone()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|kind| kind == "rs") {
                let relative = path.strip_prefix(&root).unwrap().with_extension("");
                let module = relative.iter().next().unwrap().to_str().unwrap().to_owned();
                if relative.ends_with("tests") {
                    continue;
                }
                let text = std::fs::read_to_string(&path).unwrap();
                let text = text.split("\n#[cfg(test)]\nmod tests").next().unwrap().to_owned();
                found.push(Source { path, module, text });
            }
        }
    }
    found
}

fn layers() -> BTreeMap<&'static str, u8> {
    LAYERS.iter().flat_map(|(layer, names)| names.iter().map(|name| (*name, *layer))).collect()
}

#[test]
fn dependencies_point_down_only() {
    let layers = layers();
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| source.module != "lib") {
        let own = layers.get(source.module.as_str());
        let own = *own.unwrap_or_else(|| panic!("{} has no layer", source.path.display()));
        for line in source.text.lines().filter(|line| !line.trim_start().starts_with("//")) {
            for used in line.split("crate::").skip(1) {
                let used: String = used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if layers.get(used.as_str()).is_some_and(|layer| *layer > own) {
                    wrong.push(format!("{} uses {used}", source.path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_map_in_lib_rs_names_every_file() {
    let map = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    for (name, layer) in layers() {
        let row = map.lines().find(|line| line.starts_with(&format!("//! | {layer} ")));
        assert!(row.is_some_and(|row| row.contains(&format!("`{name}`"))), "{name} is not in row {layer}");
    }
}

#[test]
fn files_hold_one_idea_each_and_say_which() {
    for source in sources() {
        let lines = source.text.lines().count();
        assert!(lines <= 400, "{}: {lines} lines before its tests", source.path.display());
        assert!(source.text.starts_with("//!"), "{} does not say what it is for", source.path.display());
    }
}

#[test]
fn no_column_of_the_endpoint_is_named_in_src() {
    let endpoint = pagehaul::endpoint::Endpoint::parse(pagehaul::endpoint::BUILT_IN).unwrap();
    for source in sources() {
        for column in &endpoint.columns {
            // A column's name as a word of its own in quotes: prose may speak of regions and durations.
            let quoted = format!("\"{}\"", column.name);
            assert!(!source.text.contains(&quoted), "{} names column {}", source.path.display(), column.name);
        }
    }
}

#[test]
fn the_readme_fits_and_names_only_flags_that_exist() {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    assert!(readme.lines().count() <= 200);
    let mut known: Vec<String> =
        pagehaul::settings::SETTINGS.iter().map(|setting| setting.key.replace('_', "-")).collect();
    known.extend(["config", "help", "sql", "listen", "release", "locked", "path"].map(str::to_owned));
    for part in readme.split("--").skip(1) {
        let flag: String = part.chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect();
        assert!(flag.is_empty() || flag.starts_with('-') || known.contains(&flag), "README.md: --{flag}");
    }
}
