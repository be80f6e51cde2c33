//! What the tests of the built program share: a clean command line, APIs to run it against, and the rows of an output.
//!
//! Nothing here waits for a time. A test waits for an event, and every such wait ends at one generous deadline, so that a
//! program that hangs fails its test instead of stopping the suite.

#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "what helps a test fails by panicking, and its files need not survive a crash"
)]
#![allow(dead_code, reason = "each test binary uses a part of it, and which part differs")]

pub(crate) mod hostile;
pub(crate) mod scripted;
pub(crate) mod small;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType};
use hostile::Evil;
use pagehaul::endpoint::{BUILT_IN, ColumnKind, EXTRA, Endpoint, FETCHED_AT, PAGE_NUM};
use pagehaul::model::event::NullSink;
use pagehaul::run::context::RunContext;
use pagehaul::settings::{Layers, Origin, RateLimit, Settings};
use pagehaul::simulator::{ApiRequest, Simulator};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Map, Value};

/// The key that every run is given. It must turn up nowhere.
pub(crate) const KEY: &str = "sk_live_CANARY0123";

/// The longest that a test waits for anything. Only a program that hangs takes as long.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

// --- the program ---------------------------------------------------------------------------------------------------

/// The built program with these arguments, and nothing of the caller's environment that could change what it does.
pub(crate) fn pagehaul<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    #[cfg(unix)]
    LazyLock::force(&NO_IGNORED_SIGNALS);
    let mut command = Command::new(env!("CARGO_BIN_EXE_pagehaul"));
    for (name, _) in std::env::vars_os() {
        let upper = name.to_string_lossy().to_ascii_uppercase();
        let is_ours = upper.starts_with("PAGEHAUL_") || upper == "KEYAPI_TOKEN" || upper == "RUST_LOG";
        if is_ours || upper.ends_with("_PROXY") {
            command.env_remove(name);
        }
    }
    command.args(arguments);
    command
}

/// Signals that whoever started the tests ignores (a script's `&`, `nohup`) have their default meaning in what the tests start.
/// A child inherits what is ignored, but not what is handled, so the tests handle them, and do nothing.
#[cfg(unix)]
static NO_IGNORED_SIGNALS: LazyLock<()> = LazyLock::new(|| {
    use tokio::signal::unix::{SignalKind, signal};
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = mask.map_or(0, |mask| u64::from_str_radix(mask.trim(), 16).unwrap());
    let handling = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _inside = runtime.enter();
        for kind in [SignalKind::hangup(), SignalKind::interrupt(), SignalKind::quit(), SignalKind::terminate()] {
            if ignored >> (kind.as_raw_value() - 1) & 1 == 1 {
                drop(signal(kind).unwrap());
            }
        }
    });
    handling.join().unwrap(); // a thread of its own: the caller may be inside a runtime
});

/// A program that runs. Dropping it ends it.
pub(crate) struct Program {
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
    message: String,
}

impl Program {
    /// Starts a command with nothing on its standard input.
    pub(crate) fn start(command: Command) -> Self {
        Self::start_with(command, b"")
    }

    /// Starts a command with these bytes, fewer than a pipe holds, on its standard input.
    pub(crate) fn start_with(mut command: Command, input: &[u8]) -> Self {
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().unwrap();
        // A program that ends without reading its input closes the pipe.
        child.stdin.take().unwrap().write_all(input).ok();
        let (mut out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let (to_stdout, stdout) = channel();
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            out.read_to_end(&mut bytes).unwrap();
            to_stdout.send(String::from_utf8(bytes).unwrap()).ok();
        });
        let (to_stderr, stderr) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(err).split(b'\n') {
                to_stderr.send(String::from_utf8_lossy(&line.unwrap()).into_owned()).ok();
            }
        });
        Self { child, stdout, stderr, message: String::new() }
    }

    /// Waits until a line on standard error holds this text.
    pub(crate) fn wait_for_line(&mut self, text: &str) {
        loop {
            match self.stderr.recv_timeout(DEADLINE) {
                Ok(line) => {
                    self.message = format!("{}{line}\n", self.message);
                    if line.contains(text) {
                        return;
                    }
                }
                Err(reason) => panic!("the program never said {text:?} ({reason}); it said:\n{}", self.message),
            }
        }
    }

    /// The number of its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, by its name without SIG.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", name, &self.id().to_string()]).status();
        assert!(sent.unwrap().success(), "signal {name} could not be sent");
    }

    /// Ends it the hard way, as a lost machine would.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Run {
        loop {
            match self.stderr.recv_timeout(DEADLINE) {
                Ok(line) => self.message = format!("{}{line}\n", self.message),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("the program hangs; it said:\n{}", self.message),
            }
        }
        let stdout = self.stdout.recv_timeout(DEADLINE).expect("standard output comes to an end");
        assert!(!tells_key(stdout.as_bytes()) && !tells_key(self.message.as_bytes()), "the key was shown");
        Run { code: self.child.wait().unwrap().code(), stdout, stderr: std::mem::take(&mut self.message) }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It has ended, unless its test failed.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Runs a command to its end.
pub(crate) fn run(command: Command) -> Run {
    Program::start(command).end()
}

/// Runs a command to its end, with these bytes on its standard input.
pub(crate) fn run_with(command: Command, input: &[u8]) -> Run {
    Program::start_with(command, input).end()
}

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Run {
    /// Its exit code; none if a signal ended it.
    pub(crate) code: Option<i32>,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
}

impl Run {
    /// The JSON object of a run that must have ended with this code, and without a panic.
    pub(crate) fn ended(&self, code: i32) -> Value {
        assert!(!self.stderr.contains("panicked"), "{self}");
        assert_eq!(self.code, Some(code), "{self}");
        let json = self.json();
        assert_eq!(json["exit_code"], code, "{self}");
        json
    }

    /// The last line of standard output, which must be a JSON object.
    pub(crate) fn json(&self) -> Value {
        let last = self.stdout.lines().last().unwrap_or_default();
        let json: Value = serde_json::from_str(last).unwrap_or_default();
        assert!(json.is_object(), "the last line of standard output is no JSON object: {self}");
        json
    }
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit {:?}\n--- stdout\n{}--- stderr\n{}", self.code, self.stdout, self.stderr)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        // Below the directories: what lies beside them was written by the test.
        let below = std::fs::read_dir(self.directory.path()).unwrap().map(|entry| entry.unwrap().path());
        for path in below.filter(|path| path.is_dir()).flat_map(|directory| files(&directory)) {
            let mut bytes = std::fs::read(&path).unwrap_or_default();
            if path.extension().is_some_and(|kind| kind == "zst") {
                // What was unpacked before a torn end stays.
                let mut plain = Vec::new();
                zstd::stream::read::Decoder::new(bytes.as_slice()).unwrap().read_to_end(&mut plain).ok();
                bytes.append(&mut plain);
            }
            assert!(!tells_key(&bytes), "the key is in {}", path.display());
        }
    }
}

/// Whether the key of the tests is somewhere in these bytes: in clear, in base64 wherever it begins, or percent-encoded.
pub(crate) fn tells_key(bytes: &[u8]) -> bool {
    static FORMS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
        let percent = KEY.bytes().fold(String::new(), |text, byte| text + &format!("%{byte:02X}"));
        let mut forms = vec![KEY.as_bytes().to_vec(), percent.to_lowercase().into_bytes(), percent.into_bytes()];
        forms.extend((0..3).map(|before| base64_of_key(before).into_bytes()));
        forms
    });
    FORMS.iter().any(|form| memchr::memmem::find(bytes, form).is_some())
}

/// The part of the key's base64 that does not hang on what stands before and behind it (RFC 4648, section 4).
fn base64_of_key(before: usize) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let text = [&vec![0; before], KEY.as_bytes()].concat();
    let groups = text.chunks_exact(3).skip(usize::from(before > 0));
    let letters = groups.flat_map(|group| {
        let bits = group.iter().fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte));
        [18, 12, 6, 0].map(|shift| char::from(LETTERS[bits >> shift & 63]))
    });
    letters.collect()
}

/// A directory in memory, if there is such a place: an fsync there costs nothing.
pub(crate) fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

/// Copies a directory; one that is not there is an empty one that is not made.
pub(crate) fn copy(from: &Path, to: &Path) {
    if !from.exists() {
        return;
    }
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// How many cases of a sample are played: so many as usual, or that times `PAGEHAUL_CASES`.
pub(crate) fn cases(usual: usize) -> usize {
    usual * std::env::var("PAGEHAUL_CASES").map_or(1, |times| times.parse().unwrap())
}

/// Does the same on every core at once.
pub(crate) fn on_all_cores(work: impl Fn() + Sync) {
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, std::num::NonZero::get) {
            scope.spawn(&work);
        }
    });
}

/// The rule of the end of exports that name none. The built-in one, `auto`, pays for evidence: where exact counts of requests
/// and steps are the point, tests do without it.
const END: &str = "short-page";

/// The directory of one test, in memory if there is such a place, with a list of products in it.
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

    /// Its exports have the built-in rule of the end, which pays for evidence.
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

    /// The flag for the built-in endpoint without a form of ids: any text may be one.
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

    /// An export, with the key, that lacks a list.
    pub(crate) fn bare_export(&self, base_url: &str, more: &[&str]) -> Command {
        let out = self.argument("out");
        let mut command = pagehaul(["export", "--base-url", base_url, "--out", &out, "--progress", "none"]);
        command.env("PAGEHAUL_END", self.end).args(more).env("KEYAPI_TOKEN", KEY);
        command
    }
}

/// Credits that evidence of where lists end may cost beside so many pages.
pub(crate) fn evidence(pages: u64) -> u64 {
    (pages * 3 / 1_000).max(3)
}

/// A run in virtual time, with settings as flags; nothing listens at its address.
pub(crate) fn context(out: &Path, qps: Option<f64>, more: &[(&str, &str)]) -> RunContext {
    let mut layers = Layers::built_in().unwrap();
    let out = out.to_str().unwrap();
    let own = [("out", out), ("base_url", "http://127.0.0.1:1"), ("end", END)];
    for (key, value) in own.iter().chain(more) {
        layers.set(key, (*value).to_owned(), &Origin::Flag).unwrap();
    }
    let settings = Settings::resolve(&layers).unwrap();
    let qps = if settings.qps == Some(RateLimit::Auto(None)) { RateLimit::Auto(None) } else { qps.into() };
    RunContext { settings, qps, sizes: Vec::new(), seed: 7, events: Arc::new(NullSink) }
}

/// The same with the built-in rule of the end, unless the settings name another.
pub(crate) fn built_in_context(out: &Path, qps: Option<f64>, more: &[(&str, &str)]) -> RunContext {
    context(out, qps, &[&[("end", "auto")], more].concat())
}

/// The same, its rate among the settings.
pub(crate) fn context_from(out: &Path, settings: &[(&str, String)]) -> RunContext {
    let settings: Vec<(&str, &str)> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let mut context = built_in_context(out, None, &settings);
    if let Some(RateLimit::PerSecond(rate)) = context.settings.qps {
        context.qps = Some(rate).into();
    }
    context
}

// --- APIs ----------------------------------------------------------------------------------------------------------

/// The embedded API, not yet served, that remembers which page it billed how often.
pub(crate) fn simulator(spec: &str) -> Arc<Simulator> {
    let settings = format!("{spec},record=true").parse().unwrap();
    Arc::new(Simulator::new(&endpoint(), settings).unwrap())
}

/// The built-in endpoint.
pub(crate) fn endpoint() -> Endpoint {
    Endpoint::parse(BUILT_IN).unwrap()
}

/// The products of an embedded API.
pub(crate) fn ids(simulator: &Simulator) -> Vec<String> {
    simulator.settings().ids().collect()
}

/// Ids that no embedded API has: so many from 100 on.
pub(crate) fn numbered(count: u32) -> Vec<String> {
    (100..100 + count).map(|id| id.to_string()).collect()
}

/// The fewest requests that read these products to their ends in pages of 10: a full last page needs one more behind it.
pub(crate) fn fewest_requests(simulator: &Simulator, ids: &[String]) -> u64 {
    ids.iter().map(|id| simulator.videos(id) / 10 + 1).sum()
}

/// Pages that several embedded APIs of the same seed billed, one after the other.
pub(crate) fn billed(simulators: &[&Simulator]) -> BTreeMap<(String, u32), u32> {
    let mut all = BTreeMap::new();
    for (page, times) in simulators.iter().flat_map(|simulator| simulator.billed()) {
        *all.entry(page).or_default() += times;
    }
    all
}

/// Fails if a page was billed more than once.
pub(crate) fn assert_no_page_billed_twice(simulators: &[&Simulator]) {
    let twice: Vec<_> = billed(simulators).into_iter().filter(|(_, times)| *times > 1).collect();
    assert!(twice.is_empty(), "billed more than once: {twice:?}");
}

/// A request, as a scripted API sees it.
#[derive(Clone, Debug)]
pub(crate) struct ReceivedRequest {
    /// How many came up to and with this one.
    pub(crate) number: usize,
    /// Path of the address.
    pub(crate) path: String,
    /// What stands behind the question mark.
    pub(crate) query: String,
    /// The header of that name.
    pub(crate) authorization: String,
    /// The product that is asked for.
    pub(crate) product: String,
    /// The page that is asked for.
    pub(crate) page: u32,
}

/// What a scripted API says.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// HTTP status.
    pub(crate) status: u16,
    /// The body.
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// A body under a status.
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, body: body.into() }
    }

    /// A refusal in the envelope of the API.
    pub(crate) fn refusal(status: u16, message: &str) -> Self {
        Self::new(status, serde_json::json!({ "code": status, "data": null, "message": message }).to_string())
    }

    /// A page of these rows, JSON texts.
    pub(crate) fn page(rows: &[String]) -> Self {
        Self::new(200, format!("{{\"code\":0,\"message\":\"success\",\"data\":[{}]}}", rows.join(",")))
    }

    /// What an embedded API says.
    pub(crate) fn from_simulator(simulator: &Simulator, asked: &ReceivedRequest) -> Self {
        let ReceivedRequest { path, query, authorization, .. } = asked;
        let answer = simulator.respond(&ApiRequest { path, query, authorization: Some(authorization) });
        Self::new(answer.status, answer.body.to_vec())
    }
}

/// An API on loopback: a function answers. Dropping it ends it.
pub(crate) struct Api {
    server: Evil,
    asked: Arc<Mutex<Vec<(String, u32)>>>,
}

impl Api {
    /// Starts the embedded API.
    pub(crate) fn from_simulator(simulator: &Arc<Simulator>) -> Self {
        let simulator = Arc::clone(simulator);
        Self::start(move |asked| Answer::from_simulator(&simulator, asked))
    }

    /// Starts the embedded API behind a gate that lets so many requests through; what is received says that one is held.
    pub(crate) fn gated(simulator: &Arc<Simulator>, free: usize) -> (Self, Arc<Gate>, Receiver<()>) {
        let (gate, held) = Gate::new(free);
        let (simulator, keeper) = (Arc::clone(simulator), Arc::clone(&gate));
        let api = Self::start(move |asked| {
            keeper.pass();
            Answer::from_simulator(&simulator, asked)
        });
        (api, gate, held)
    }

    /// Starts an API that answers like this. The function may wait; only its own connection waits with it.
    pub(crate) fn start(answer: impl Fn(&ReceivedRequest) -> Answer + Send + Sync + 'static) -> Self {
        let asked = Arc::<Mutex<Vec<(String, u32)>>>::default();
        let all = Arc::clone(&asked);
        let server = Evil::start(move |wire| {
            while let Some(mut asked) = wire.asked() {
                {
                    let mut all = lock(&all);
                    all.push((asked.product.clone(), asked.page));
                    asked.number = all.len();
                }
                let Answer { status, body } = answer(&asked);
                if !wire.say(hostile::answer_with(status, "Content-Type: application/json\r\n", body)) {
                    return;
                }
            }
        });
        Self { server, asked }
    }

    /// Scheme, host and port.
    pub(crate) fn base_url(&self) -> String {
        self.server.base_url()
    }

    /// Requests so far.
    pub(crate) fn requests(&self) -> usize {
        lock(&self.asked).len()
    }

    /// How often each page was asked for.
    pub(crate) fn asked(&self) -> BTreeMap<(String, u32), u32> {
        let mut pages = BTreeMap::new();
        for page in lock(&self.asked).iter() {
            *pages.entry(page.clone()).or_default() += 1;
        }
        pages
    }
}

/// A lock that a failed test left behind is as good as any other.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Stands in the way of all requests but the first ones, and tells when it holds one.
pub(crate) struct Gate {
    free: usize,
    passed: AtomicUsize,
    open: Mutex<bool>,
    opened: Condvar,
    holding: Mutex<Sender<()>>,
}

impl Gate {
    /// A gate that lets `free` requests pass, and where to hear of the ones that it holds.
    pub(crate) fn new(free: usize) -> (Arc<Self>, Receiver<()>) {
        let (holding, held) = channel();
        let gate = Self {
            free,
            passed: AtomicUsize::new(0),
            open: Mutex::default(),
            opened: Condvar::new(),
            holding: Mutex::new(holding),
        };
        (Arc::new(gate), held)
    }

    /// Returns at once for the first requests, for the others when the gate is opened.
    pub(crate) fn pass(&self) {
        if self.passed.fetch_add(1, Ordering::Relaxed) < self.free {
            return;
        }
        lock(&self.holding).send(()).ok(); // nobody needs to listen
        let shut = |open: &mut bool| !*open;
        drop(self.opened.wait_timeout_while(lock(&self.open), DEADLINE, shut));
    }

    /// Lets everything pass from now on.
    pub(crate) fn open(&self) {
        *lock(&self.open) = true;
        self.opened.notify_all();
    }
}

// --- output --------------------------------------------------------------------------------------------------------

/// Product and video.
pub(crate) type Key = (String, String);
/// A row's values by column, its region among them: texts, numbers, and times as microseconds since 1970.
pub(crate) type Row = Map<String, Value>;

/// Every row that the manifests of an output name. No key may come twice, no column may have another type than the
/// endpoint says, and where `_SUCCESS` stands a glob must find the same files.
pub(crate) fn rows(out: &Path) -> BTreeMap<Key, Row> {
    let endpoint = endpoint();
    let known = endpoint.file_schema(&endpoint.columns);
    let mut rows = BTreeMap::new();
    let mut named = BTreeSet::new();
    for file in manifests(out).iter().flat_map(|manifest| manifest["files"].as_array().unwrap()) {
        let path = file["path"].as_str().unwrap();
        assert!(named.insert(path.to_owned()), "two manifests name {path}");
        let region = region_of(path);
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(out.join(path)).unwrap()).unwrap();
        for field in reader.schema().fields() {
            assert_eq!(Some(field.as_ref()), known.field_with_name(field.name()).ok(), "{path}");
        }
        let mut count = 0;
        for batch in reader.build().unwrap() {
            let batch = batch.unwrap();
            count += batch.num_rows();
            for at in 0..batch.num_rows() {
                let mut row = row_at(&batch, at);
                row.insert("region".to_owned(), region.clone());
                let text = |name: &str| row[name].as_str().unwrap().to_owned();
                let key = (text("product_id"), text("video_id"));
                let earlier = rows.insert(key, row);
                assert!(earlier.is_none(), "a key is published twice: {earlier:?}");
            }
        }
        assert_eq!(file["rows"], count, "the manifest of {path}");
    }
    if out.join("_SUCCESS").exists() {
        assert_eq!(glob(out), named, "a glob finds other files than the manifests name");
    }
    rows
}

/// The manifests of an output.
pub(crate) fn manifests(out: &Path) -> Vec<Value> {
    let Ok(directory) = std::fs::read_dir(out.join("_pagehaul/segments")) else { return Vec::new() };
    let paths: BTreeSet<PathBuf> = directory.map(|entry| entry.unwrap().path()).collect();
    // A crash may leave one that was not whole yet, under another name.
    paths
        .iter()
        .filter(|path| path.extension().is_some_and(|kind| kind == "json"))
        .map(|path| serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())
        .collect()
}

/// What `region=*/*.parquet` finds in an output.
pub(crate) fn glob(out: &Path) -> BTreeSet<String> {
    let is_region = |path: &&String| path.starts_with("region=") && path.ends_with(".parquet");
    files(out)
        .iter()
        .map(|path| path.strip_prefix(out).unwrap().to_str().unwrap().to_owned())
        .filter(|path| is_region(&path))
        .collect()
}

/// Every file below a directory.
pub(crate) fn files(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Every file below a directory, by its name in it, with its content.
pub(crate) fn tree(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let name = |path: &Path| path.strip_prefix(directory).unwrap().to_str().unwrap().to_owned();
    files(directory).into_iter().map(|path| (name(&path), std::fs::read(&path).unwrap())).collect()
}

/// The files below a directory that hold a text; of packed ones also what they hold unpacked.
pub(crate) fn files_that_hold(directory: &Path, text: &str) -> Vec<PathBuf> {
    let holds = |bytes: &[u8]| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    let mut found = files(directory);
    found.retain(|path| {
        let bytes = std::fs::read(path).unwrap();
        let is_packed = path.extension().is_some_and(|kind| kind == "zst");
        holds(&bytes) || is_packed && holds(&zstd::stream::decode_all(bytes.as_slice()).unwrap())
    });
    found
}

/// The partition value that a file's directory stands for.
fn region_of(path: &str) -> Value {
    let directory = path.split('/').next().unwrap();
    match directory.strip_prefix("region=").unwrap() {
        "__HIVE_DEFAULT_PARTITION__" => Value::Null,
        value => Value::from(percent_encoding::percent_decode_str(value).decode_utf8().unwrap().into_owned()),
    }
}

/// A row of a batch by column.
pub(crate) fn row_at(batch: &RecordBatch, at: usize) -> Row {
    let schema = batch.schema();
    let cells = schema.fields().iter().zip(batch.columns());
    cells.map(|(field, column)| (field.name().clone(), value_at(column.as_ref(), at))).collect()
}

fn value_at(column: &dyn Array, at: usize) -> Value {
    if column.is_null(at) {
        return Value::Null;
    }
    match column.data_type() {
        DataType::Utf8 => column.as_string::<i32>().value(at).into(),
        DataType::Int32 => column.as_primitive::<Int32Type>().value(at).into(),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(at).into(),
        DataType::Float64 => column.as_primitive::<Float64Type>().value(at).into(),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            column.as_primitive::<TimestampMicrosecondType>().value(at).into()
        }
        other => panic!("no column may have the type {other}"),
    }
}

/// The rows that an export of these products must have, read in pages of `page_size`, without the time of fetching.
pub(crate) fn expected(simulator: &Simulator, ids: &[String], page_size: u64) -> BTreeMap<Key, Row> {
    let endpoint = endpoint();
    let mut rows = BTreeMap::new();
    for id in ids {
        for position in 0..simulator.videos(id) {
            let text = simulator.row(id, None, position).unwrap();
            let sent: Value = serde_json::from_str(&text).unwrap();
            let columns = endpoint.columns.iter();
            let mut row: Row =
                columns.map(|column| (column.name.clone(), typed(column.kind, &sent[&column.name]))).collect();
            row.insert(PAGE_NUM.to_owned(), (position / page_size + 1).into());
            row.insert(EXTRA.to_owned(), Value::Null);
            let key = (id.clone(), sent["video_id"].as_str().unwrap().to_owned());
            assert!(rows.insert(key, row).is_none(), "the simulator repeats a key");
        }
    }
    rows
}

/// A value as the endpoint's table wants it, whichever way it was sent. Times are sent in seconds.
fn typed(kind: ColumnKind, sent: &Value) -> Value {
    let text = sent.as_str().map_or_else(|| sent.to_string(), str::to_owned);
    match kind {
        ColumnKind::Utf8 => text.into(),
        ColumnKind::Int64 => text.parse::<i64>().unwrap().into(),
        ColumnKind::Float64 => text.parse::<f64>().unwrap().into(),
        ColumnKind::Timestamp => (text.parse::<i64>().unwrap() * 1_000_000).into(),
    }
}

/// Fails unless an output holds exactly these rows, each value as it must be.
pub(crate) fn assert_rows(out: &Path, expected: &BTreeMap<Key, Row>) {
    let mut rows = rows(out);
    for (key, row) in &mut rows {
        let fetched_at = row.remove(FETCHED_AT).unwrap();
        assert!(
            fetched_at.as_i64().is_some_and(|at| at > 1_600_000_000_000_000),
            "{key:?} was fetched at {fetched_at}"
        );
    }
    let missing: Vec<_> = expected.keys().filter(|key| !rows.contains_key(*key)).collect();
    let extra: Vec<_> = rows.keys().filter(|key| !expected.contains_key(*key)).collect();
    assert!(
        missing.is_empty() && extra.is_empty(),
        "{} of {} rows are missing, first {:?}; {} are too many, first {:?}",
        missing.len(),
        expected.len(),
        missing.first(),
        extra.len(),
        extra.first()
    );
    for (key, row) in &rows {
        assert_eq!(row, &expected[key], "{key:?}");
    }
}
