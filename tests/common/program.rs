//! The built program: a clean command line, its process, and how it ended.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};

use serde_json::Value;

use super::{DEADLINE, KEY};

/// The built program with these arguments, without variables of the caller's environment that change what it does.
pub(crate) fn pagehaul<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    #[cfg(unix)]
    LazyLock::force(&NO_IGNORED_SIGNALS);
    let mut command = Command::new(env!("CARGO_BIN_EXE_pagehaul"));
    for (name, _) in std::env::vars_os() {
        let upper = name.to_string_lossy().to_ascii_uppercase();
        let is_ours = upper.starts_with("PAGEHAUL_") || upper == "KEYAPI_TOKEN" || upper == "RUST_LOG";
        let is_of_a_store = ["AWS_", "AZURE_", "GOOGLE_"].iter().any(|prefix| upper.starts_with(prefix));
        if is_ours || is_of_a_store || upper.ends_with("_PROXY") || upper.contains("COLOR") {
            command.env_remove(name);
        }
    }
    command.args(arguments);
    command
}

/// Signals that the parent of the tests ignores (a script's `&`, `nohup`) have their default effect in the children of the tests.
/// A child inherits ignored signals, not handled ones, so the tests handle them and do nothing.
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

/// A running program. It is killed when this is dropped.
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

    /// Starts a command with these bytes, fewer than fit into a pipe, on its standard input.
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

    /// Waits for a line on standard error that contains this text, and gives it.
    pub(crate) fn wait_for_line(&mut self, text: &str) -> String {
        loop {
            match self.stderr.recv_timeout(DEADLINE) {
                Ok(line) => {
                    self.message = format!("{}{line}\n", self.message);
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(reason) => panic!("the program never said {text:?} ({reason}); it said:\n{}", self.message),
            }
        }
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, by its name without SIG.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", name, &self.id().to_string()]).status();
        assert!(sent.unwrap().success(), "signal {name} could not be sent");
    }

    /// Kills it with SIGKILL.
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

/// Whether these bytes contain the key: in clear, in base64 at any offset, or percent-encoded.
pub(crate) fn tells_key(bytes: &[u8]) -> bool {
    static FORMS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
        let percent = KEY.bytes().fold(String::new(), |text, byte| text + &format!("%{byte:02X}"));
        let mut forms = vec![KEY.as_bytes().to_vec(), percent.to_lowercase().into_bytes(), percent.into_bytes()];
        forms.extend((0..3).map(|before| base64_of_key(before).into_bytes()));
        forms
    });
    FORMS.iter().any(|form| memchr::memmem::find(bytes, form).is_some())
}

/// The part of the key's base64 that does not depend on the bytes around it (RFC 4648, section 4).
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
