//! The house rules that a compiler does not check: layers, file sizes, file heads, settings in the documents, ids of faults.

#![expect(clippy::unwrap_used, reason = "a test that cannot read the tree has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A file of `src`, with the name of its module and its text before the tests.
struct Source {
    path: PathBuf,
    module: String,
    text: String,
}

/// The Rust files below a folder of the project.
fn rust_files(folder: &str) -> Vec<PathBuf> {
    let (mut folders, mut found) = (vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|kind| kind == "rs") {
                found.push(path);
            }
        }
    }
    found
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let source = |path: PathBuf| {
        let relative = path.strip_prefix(&root).unwrap().with_extension("");
        let module = relative.iter().next().unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let text = text.split("\n#[cfg(test)]\nmod tests").next().unwrap().to_owned();
        Source { path, module, text }
    };
    let is_test =
        |path: &PathBuf| path.ends_with("tests.rs") || path.parent().is_some_and(|dir| dir.ends_with("tests"));
    rust_files("src").into_iter().filter(|path| !is_test(path)).map(source).collect()
}

/// The folders of `src`, from the top to the bottom. A folder uses only those behind it here.
const FOLDERS: [&str; 17] = [
    "main",
    "cli",
    "run",
    "error",
    "serve",
    "report",
    "plan",
    "output",
    "crawl",
    "fetch",
    "input",
    "state",
    "decode",
    "simulator",
    "settings",
    "endpoint",
    "model",
];

/// The paths that follow `prefix` in code: `model::page` and more of `crate::model::page::ItemId`.
fn used<'a>(source: &'a Source, prefix: &'a str) -> impl Iterator<Item = Vec<&'a str>> {
    let code = source.text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let behind = code.flat_map(move |line| line.split(prefix).skip(1));
    behind.map(move |rest| {
        let path = rest.split(|c| !is_path(c)).next().unwrap();
        path.split("::").filter(|name| !name.is_empty()).collect()
    })
}

#[test]
fn folders_use_only_folders_below_them() {
    let depth = |name: &str| FOLDERS.iter().position(|folder| *folder == name);
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| source.module != "lib") {
        let own = depth(&source.module);
        let own = own.unwrap_or_else(|| panic!("{} is in no folder of the table", source.path.display()));
        let names = used(source, "crate::").filter_map(|path| path.first().copied());
        let up = names.filter(|name| depth(name).is_some_and(|other| other < own));
        wrong.extend(up.map(|name| format!("{} uses {name}", source.path.display())));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The path of a file's module: `["state", "ledger", "group"]`; that of `mod.rs` is its folder's.
fn module_path(source: &Source) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let path = source.path.strip_prefix(root).unwrap().with_extension("");
    let names = path.iter().map(|name| name.to_str().unwrap().to_owned());
    names.filter(|name| name != "mod").collect()
}

#[test]
fn no_files_of_one_folder_depend_on_each_other_in_a_circle() {
    let sources = sources();
    let modules: BTreeSet<Vec<String>> = sources.iter().map(module_path).collect();
    // Which of a folder's files and folders use which others of the same folder.
    let mut uses: BTreeMap<Vec<String>, BTreeSet<Vec<String>>> = BTreeMap::new();
    for source in &sources {
        let own = module_path(source);
        let parent = own.split_last().map(|(_, parent)| parent).unwrap_or_default();
        let absolute = used(source, "crate::").map(|path| path.into_iter().map(str::to_owned).collect());
        let beside = used(source, "super::").map(|path| {
            let names = path.into_iter().map(str::to_owned);
            parent.iter().cloned().chain(names).collect::<Vec<_>>()
        });
        for mut other in absolute.chain(beside).collect::<Vec<Vec<String>>>() {
            while !other.is_empty() && !modules.contains(&other) {
                other.pop();
            }
            let common = own.iter().zip(&other).take_while(|(a, b)| a == b).count();
            if common < own.len() && common < other.len() {
                uses.entry(own[..=common].to_vec()).or_default().insert(other[..=common].to_vec());
            }
        }
    }
    let nodes: BTreeSet<Vec<String>> = uses.keys().cloned().collect();
    for used in uses.values_mut() {
        used.retain(|name| nodes.contains(name));
    }
    // Whoever uses nothing that is left is no part of a circle.
    while let Some(free) = uses.iter().find(|(_, used)| used.is_empty()).map(|(file, _)| file.clone()) {
        uses.remove(&free);
        for used in uses.values_mut() {
            used.remove(&free);
        }
    }
    assert!(uses.is_empty(), "in a circle, or above one: {uses:#?}");
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
fn every_folder_says_which_type_to_read_first() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for folder in FOLDERS.iter().filter(|folder| root.join(folder).is_dir()) {
        let text = std::fs::read_to_string(root.join(folder).join("mod.rs")).unwrap();
        let head: Vec<&str> = text.lines().take_while(|line| line.starts_with("//!")).collect();
        assert!(head.len() <= 7, "{folder}/mod.rs: a head of {} lines", head.len());
        assert!(head.iter().any(|line| line.contains("Read first:")), "{folder}/mod.rs names no type to read first");
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
    known.extend(
        ["all", "config", "features", "json", "sample", "help", "sql", "for", "older-than", "listen", "release"]
            .map(str::to_owned),
    );
    known.extend(["locked", "path", "probe", "wait"].map(str::to_owned));
    for part in readme.split("--").skip(1) {
        let flag: String = part.chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect();
        assert!(flag.is_empty() || flag.starts_with('-') || known.contains(&flag), "README.md: --{flag}");
    }
}

#[test]
fn every_test_that_the_table_of_situations_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = std::fs::read_to_string(root.join("docs/situations.md")).unwrap();
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("| ") && !line.contains("| test |")).collect();
    assert!(rows.len() > 100, "{} situations", rows.len());
    for row in rows {
        // The last column is `file::name`.
        let named = row.trim_end_matches(" |").rsplit("| ").next().unwrap().trim_matches('`');
        let (file, name) = named.rsplit_once("::").unwrap_or_else(|| panic!("no test is named: {row}"));
        let text = std::fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(text.contains(&format!("fn {name}(")), "{file} has no test {name}");
    }
}

/// The id that a function's name begins with: `n10` of `n10_a_body_cut_…`.
fn fault_id(name: &str) -> Option<&str> {
    let (id, _) = name.split_once('_')?;
    let number = id.strip_prefix(['n', 'a', 'd', 'l'])?;
    number.parse::<u32>().is_ok().then_some(id)
}

#[test]
fn every_fault_has_a_test_that_bears_its_id_or_a_reason_why_not() {
    let catalogue = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults.md");
    let catalogue = std::fs::read_to_string(catalogue).unwrap();
    let rows = catalogue.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | "));
    let faults: BTreeMap<&str, &str> = rows.filter(|(id, _)| fault_id(&format!("{id}_")).is_some()).collect();
    assert!(faults.len() > 90, "{} faults", faults.len());
    let mut tested = BTreeSet::new();
    for path in rust_files("tests").into_iter().chain(rust_files("src")) {
        let text = std::fs::read_to_string(path).unwrap();
        let names = text.split("fn ").skip(1).filter_map(|name| name.split('(').next());
        tested.extend(names.filter_map(fault_id).map(str::to_owned));
    }
    for (id, fault) in &faults {
        let has_reason = fault.split_once("| No test: ").is_some_and(|(_, reason)| reason.len() > 20);
        assert_ne!(tested.contains(*id), has_reason, "{id} has neither a test nor a reason for having none, or both");
    }
    let unknown: Vec<&String> = tested.iter().filter(|id| !faults.contains_key(id.as_str())).collect();
    assert!(unknown.is_empty(), "not in the catalogue: {unknown:?}");
}

#[test]
fn every_planted_bug_still_fits_the_code_that_it_spoils() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut bugs = 0;
    for entry in std::fs::read_dir(root.join("tests/planted")).unwrap() {
        let patch = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        bugs += 1;
        for file in patch.split("--- a/").skip(1) {
            let (name, hunks) = file.split_once('\n').unwrap();
            let text = std::fs::read_to_string(root.join(name)).unwrap();
            for hunk in hunks.split("\n@@").skip(1) {
                let kept = hunk.lines().skip(1).filter_map(|line| line.strip_prefix([' ', '-']));
                let before: Vec<&str> = kept.collect();
                assert!(text.contains(&before.join("\n")), "{name} is not as this patch expects it:\n{patch}");
            }
        }
    }
    let page = std::fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    assert!(page.contains(&format!("| {bugs} planted bugs,")), "ARCHITECTURE.md counts other than {bugs} planted bugs");
}

/// Words of the old dialect, and calques: ARCHITECTURE.md says what each concept is called now. CHANGELOG.md keeps the old
/// names of settings.
const RETIRED: [&str; 26] = [
    "RawAnswer",
    "Arrival",
    "Imprint",
    "Rounds",
    "Wanted",
    "Recorder",
    "Committer",
    "anew",
    "will not do",
    "another hand",
    "so many as",
    "manyth",
    "comes to",
    "under way",
    "under_way",
    "barren",
    "scout",
    "folded",
    "parked",
    "patience",
    "grace",
    "wish",
    "mended",
    "packed",
    "hopeless",
    "flying",
];

#[test]
fn no_retired_word_comes_back() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = rust_files("src");
    files.extend(["README.md", "ARCHITECTURE.md", "SECURITY.md", "config/default.toml"].map(|name| root.join(name)));
    files.extend(std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path()));
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let mut found = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        for word in RETIRED {
            // What is before and behind each place where the letters are.
            let parts: Vec<&str> = text.split(word).collect();
            if parts.windows(2).any(|pair| !pair[0].ends_with(is_part) && !pair[1].starts_with(is_part)) {
                found.push(format!("{}: {word}", path.display()));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}
