//! The directory of one test of the built program. When a test has passed, no file of its exports may contain the key.

use std::io::Read;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use pagehaul::endpoint::BUILT_IN;
use pagehaul::simulator::{self, Server, Simulator};

use super::{END, KEY, files, ids, pagehaul, scratch, simulator, tells_key};

/// The directory of one test, in memory where possible, with a list of products in it.
pub(crate) struct Home {
    directory: tempfile::TempDir,
    end: &'static str,
}

impl Home {
    /// A new directory whose list has these ids.
    pub(crate) fn new(ids: &[String]) -> Self {
        let home = Self { directory: scratch(), end: END };
        home.file("list.txt", (ids.join("\n") + "\n").as_bytes());
        home
    }

    /// Exports use the built-in rule for the end of a list, `auto`, which pays for evidence.
    pub(crate) fn with_evidence(mut self) -> Self {
        self.end = "auto";
        self
    }

    /// A path inside.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A path inside, as an argument.
    pub(crate) fn argument(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Writes a file inside and gives its path as an argument.
    pub(crate) fn file(&self, name: &str, content: &[u8]) -> String {
        std::fs::write(self.path(name), content).unwrap();
        self.argument(name)
    }

    /// The flag for the built-in endpoint without a pattern of ids: any text may be an id.
    pub(crate) fn any_id(&self) -> String {
        let lines: Vec<&str> = BUILT_IN.lines().filter(|line| !line.starts_with("form = ")).collect();
        format!("--endpoint={}", self.file("any-id.toml", lines.join("\n").as_bytes()))
    }

    /// The directory of the export.
    pub(crate) fn out(&self) -> PathBuf {
        self.path("out")
    }

    /// An export of the list, with the key.
    pub(crate) fn export(&self, base_url: &str, more: &[&str]) -> Command {
        let mut command = self.bare_export(base_url, more);
        command.args(["--products", &self.argument("list.txt")]);
        command
    }

    /// An export with the key, without a list.
    pub(crate) fn bare_export(&self, base_url: &str, more: &[&str]) -> Command {
        let out = self.argument("out");
        let mut command = pagehaul(["export", "--base-url", base_url, "--out", &out, "--progress", "none"]);
        command.env("PAGEHAUL_END", self.end).args(more).env("KEYAPI_TOKEN", KEY);
        command
    }
}

/// The embedded API on a port, and the directory of an export of all its products.
pub(crate) struct Served {
    pub(crate) simulator: Arc<Simulator>,
    /// It stops when this is dropped.
    pub(crate) server: Server,
    pub(crate) ids: Vec<String>,
    pub(crate) home: Home,
}

impl Served {
    /// Starts an API with these settings.
    pub(crate) fn start(spec: &str) -> Self {
        let simulator = simulator(spec);
        let (server, ids) = (simulator::start(Arc::clone(&simulator)).unwrap(), ids(&simulator));
        Self { simulator, server, home: Home::new(&ids), ids }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        // Only in directories: the test wrote the files beside them.
        let below = std::fs::read_dir(self.directory.path()).unwrap().map(|entry| entry.unwrap().path());
        for path in below.filter(|path| path.is_dir()).flat_map(|directory| files(&directory)) {
            let mut bytes = std::fs::read(&path).unwrap_or_default();
            if path.extension().is_some_and(|kind| kind == "zst") {
                // A torn end is an error; what was decompressed before it is checked.
                let mut plain = Vec::new();
                zstd::stream::read::Decoder::new(bytes.as_slice()).unwrap().read_to_end(&mut plain).ok();
                bytes.append(&mut plain);
            }
            assert!(!tells_key(&bytes), "the key is in {}", path.display());
        }
    }
}
