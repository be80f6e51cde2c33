//! The API key: reads it from one place. It is never an argument, and nothing here can print it.

use std::io::Read;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};

use super::error::InputError;
use crate::model::sanitize::SHORTEST_HIDDEN;

/// The variable that the provider's own tools read.
pub(crate) const VARIABLE: &str = "KEYAPI_TOKEN";
/// Longest key, bytes.
const LONGEST: usize = 4_096;
/// Bytes to read at most: the longest key, and as much white space after it.
const MAX_READ: usize = 2 * LONGEST;
/// What programs and word processors put around texts.
const QUOTES: [char; 10] =
    ['"', '\'', '`', '\u{b4}', '\u{2018}', '\u{2019}', '\u{201c}', '\u{201d}', '\u{ab}', '\u{bb}'];

#[derive(Debug)]
pub(crate) enum KeySource {
    Stdin,
    File(PathBuf),
    /// The variable's value.
    Variable(SecretString),
}

impl KeySource {
    /// The one source that is given: stdin, a file, or the variable's value.
    pub(crate) fn new(is_stdin: bool, file: Option<PathBuf>, variable: Option<String>) -> Result<Self, InputError> {
        match (is_stdin, file, variable) {
            (true, Some(_), _) => Err(InputError::Key("--token-file and --token-stdin exclude each other: give one")),
            (true, None, _) => Ok(Self::Stdin),
            (false, Some(path), _) => Ok(Self::File(path)),
            (false, None, Some(key)) => Ok(Self::Variable(key.into())),
            (false, None, None) => Err(InputError::Key(
                "no API key: set KEYAPI_TOKEN, or give --token-file or --token-stdin (or use --simulate, which needs none)",
            )),
        }
    }
}

/// Reads the key. For a server on another machine (`is_loopback` is false) it must be long enough to be hidden wherever it
/// is echoed.
pub(crate) fn read(source: KeySource, is_loopback: bool) -> Result<SecretString, InputError> {
    keep_memory_private();
    let key = match source {
        KeySource::Stdin => checked(&limited(std::io::stdin().lock()).map_err(InputError::KeyInput)?)?,
        KeySource::File(path) => checked(&from_file(&path)?)?,
        KeySource::Variable(key) => checked(key.expose_secret().as_bytes())?,
    };
    if !is_loopback && key.expose_secret().len() < SHORTEST_HIDDEN {
        return Err(InputError::Key("the API key has fewer than 12 characters: is it a placeholder?"));
    }
    Ok(key)
}

/// Keeps this process's memory, with the key, out of core dumps and away from debuggers of the same user.
fn keep_memory_private() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, setrlimit};
        // An error means that core dumps were not allowed anyway.
        setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).ok();
    }
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable).ok();
}

fn from_file(path: &Path) -> Result<Vec<u8>, InputError> {
    let unread = |source| InputError::KeyFile { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(unread)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let metadata = file.metadata().map_err(unread)?;
        if metadata.permissions().mode() & 0o077 != 0 && metadata.is_file() {
            return Err(InputError::Key("other users can read the key file: chmod 600 it"));
        }
    }
    limited(file).map_err(unread)
}

/// The bytes of a source, up to one more than [`MAX_READ`]: then they are refused.
fn limited(source: impl Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAX_READ + 1).unwrap_or(u64::MAX);
    source.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Checks a key. White space after it comes from editors, `echo` or copying and is trimmed.
fn checked(bytes: &[u8]) -> Result<SecretString, InputError> {
    if matches!(bytes, [0xff, 0xfe, ..] | [0xfe, 0xff, ..]) {
        return Err(InputError::Key("the API key is UTF-16 with a byte order mark: save it as UTF-8 without one"));
    }
    let key = std::str::from_utf8(bytes).map_err(|_| InputError::Key("the API key is not ASCII"))?.trim_end();
    match fault(key, bytes.len()) {
        Some(fault) => Err(InputError::Key(fault)),
        None => Ok(SecretString::from(key)),
    }
}

/// What is wrong with a key that was read from `read` bytes.
fn fault(key: &str, read: usize) -> Option<&'static str> {
    if read > MAX_READ || key.len() > LONGEST {
        Some("the API key is longer than 4,096 bytes")
    } else if key.is_empty() {
        Some("the API key is empty")
    } else if key.starts_with('\u{feff}') {
        Some("the API key begins with a byte order mark: save it as UTF-8 without one")
    } else if key.starts_with(QUOTES) || key.ends_with(QUOTES) {
        Some("the API key is in quotes: remove them")
    } else if key.contains(['\r', '\n']) {
        Some("the API key has a line break: it must be one line")
    } else if key.chars().any(|c| !c.is_ascii_graphic()) {
        Some("the API key has a space, a control character or a character that is not ASCII")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::{KeySource, checked, from_file, limited, read};
    use secrecy::ExposeSecret;

    #[test]
    fn a_key_that_no_header_can_carry_is_refused_without_showing_it() {
        for key in
            ["", " ", "sk_live_a\nb", "sk_live_a b", " sk_live_a", "sk_live_\u{7}", "sk_livé", "sk_live_\u{200b}a"]
        {
            let error = checked(key.as_bytes()).unwrap_err().to_string();
            assert!(!error.contains("sk_liv"), "{error}");
        }
        assert_eq!(checked(b"sk_live_a").unwrap().expose_secret(), "sk_live_a");
    }

    #[test]
    fn white_space_after_a_key_is_ignored() {
        for white_space in ["\n", "\r\n", " ", "\t", "\n\n", " \r\n \n", "\u{a0}\n"] {
            let key = checked(format!("sk_live_a{white_space}").as_bytes()).unwrap();
            assert_eq!(key.expose_secret(), "sk_live_a", "{white_space:?}");
        }
    }

    #[test]
    fn what_is_around_a_key_is_named_and_the_key_is_not_shown() {
        let utf16: Vec<u8> = "\u{feff}sk_live_a\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let table: [(&[u8], &str); 10] = [
            (b"\xef\xbb\xbfsk_live_a\n", "byte order mark"),
            (&utf16, "byte order mark"),
            (b"\"sk_live_a\"", "quotes"),
            (b"'sk_live_a'\n", "quotes"),
            (b"`sk_live_a`", "quotes"),
            (b"sk_live_a\"", "quotes"),
            (b"\"sk_live_a", "quotes"),
            ("\u{201c}sk_live_a\u{201d}".as_bytes(), "quotes"),
            ("\u{2018}sk_live_a\u{2019}\n".as_bytes(), "quotes"),
            (b"sk_live_\xe9", "not ASCII"),
        ];
        for (bytes, named) in table {
            let error = checked(bytes).unwrap_err().to_string();
            assert!(error.contains(named) && !error.contains("sk_live"), "{error}");
        }
    }

    #[test]
    fn a_key_is_taken_whole_or_not_at_all() {
        for (bytes, fits) in [(4_096, true), (4_097, false), (9_999, false)] {
            let file = limited(format!("{}\r\n", "k".repeat(bytes)).as_bytes()).unwrap();
            let key = checked(&file);
            assert_eq!(key.as_ref().is_ok_and(|key| key.expose_secret().len() == bytes), fits);
            assert!(fits || key.unwrap_err().to_string().contains("4,096 bytes"));
        }
        let far = format!("sk_live_a{}b", " ".repeat(9_000));
        let error = checked(&limited(far.as_bytes()).unwrap()).unwrap_err().to_string();
        assert!(error.contains("4,096 bytes"), "a second part is seen, however far away: {error}");
    }

    #[test]
    fn a_key_that_is_too_short_to_be_hidden_is_for_servers_of_this_machine_alone() {
        let with = |key: &str, is_loopback| read(KeySource::Variable(key.into()), is_loopback);
        assert_eq!(with("x", true).unwrap().expose_secret(), "x");
        assert!(with("sk_live_abc", false).unwrap_err().to_string().contains("12 characters"));
        assert_eq!(with("sk_live_abcd", false).unwrap().expose_secret(), "sk_live_abcd");
    }

    #[test]
    fn without_a_key_the_error_names_every_way_to_give_one() {
        let error = KeySource::new(false, None, None).unwrap_err().to_string();
        assert!(["KEYAPI_TOKEN", "--token-file", "--token-stdin", "--simulate"].iter().all(|way| error.contains(way)));
    }

    #[cfg(unix)]
    #[test]
    fn a_key_file_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file.as_file(), b"sk_live_a\n").unwrap();
        assert_eq!(read(KeySource::File(file.path().to_owned()), true).unwrap().expose_secret(), "sk_live_a");
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(from_file(file.path()).unwrap_err().to_string().contains("chmod 600"));
    }
}
