//! The key: where it comes from, and nothing else. It is never an argument, and nothing here can print it.

use std::io::Read;
use std::path::Path;

use secrecy::{ExposeSecret, SecretString};

use super::error::InputError;
use crate::model::sanitize::SHORTEST_HIDDEN;
use crate::settings::Layers;

/// The variable that the provider's own tools read.
pub(crate) const VARIABLE: &str = "KEYAPI_TOKEN";
/// Longest key, bytes.
const LONGEST: usize = 4_096;
/// Most bytes that are read: the longest key, and as much white space behind it.
const MOST_READ: usize = 2 * LONGEST;
/// What is put around texts, in programs and by word processors.
const QUOTES: [char; 10] =
    ['"', '\'', '`', '\u{b4}', '\u{2018}', '\u{2019}', '\u{201c}', '\u{201d}', '\u{ab}', '\u{bb}'];

/// Reads the key from the one place that the settings name: standard input, a file, or the environment. Beyond this machine
/// (`is_loopback` is false) it must be long enough to be hidden wherever it may turn up.
pub(crate) fn read(layers: &Layers, variable: Option<String>, is_loopback: bool) -> Result<SecretString, InputError> {
    keep_memory_private();
    let key = from_its_place(layers, variable)?;
    if !is_loopback && key.expose_secret().len() < SHORTEST_HIDDEN {
        return Err(InputError::Key("the key has fewer than 12 characters: is it a placeholder?"));
    }
    Ok(key)
}

/// Keeps this process's memory, and the key in it, out of core dumps and away from debuggers of the same user.
fn keep_memory_private() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, setrlimit};
        // Where it is refused nothing was allowed in the first place.
        setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).ok();
    }
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable).ok();
}

fn from_its_place(layers: &Layers, variable: Option<String>) -> Result<SecretString, InputError> {
    if layers.given("token_stdin") == Some("true") {
        if layers.given("token_file").is_some() {
            return Err(InputError::Key("--token-file and --token-stdin: the key comes from one place"));
        }
        let read = limited(std::io::stdin().lock());
        return checked(&read.map_err(InputError::KeyInput)?);
    }
    if let Some(path) = layers.given("token_file") {
        return checked(&from_file(Path::new(path))?);
    }
    match variable {
        Some(key) => checked(key.as_bytes()),
        None => Err(InputError::Key(
            "no key: set KEYAPI_TOKEN, or give --token-file or --token-stdin (to try without one: --simulate)",
        )),
    }
}

fn from_file(path: &Path) -> Result<Vec<u8>, InputError> {
    let unread = |source| InputError::KeyFile { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(unread)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let about = file.metadata().map_err(unread)?;
        if about.permissions().mode() & 0o077 != 0 && about.is_file() {
            return Err(InputError::Key("the key's file can be read by others: chmod 600 it"));
        }
    }
    limited(file).map_err(unread)
}

/// The bytes of a source, whole if they may be a key: what is longer than any key and much white space behind it is refused.
fn limited(source: impl Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let most = u64::try_from(MOST_READ + 1).unwrap_or(u64::MAX); // one more than is taken: then it is refused
    source.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Checks a key. White space after it comes from editors, `echo` or copying and is trimmed; quotes or a byte order mark around it
/// are refused by name.
fn checked(bytes: &[u8]) -> Result<SecretString, InputError> {
    if matches!(bytes, [0xff, 0xfe, ..] | [0xfe, 0xff, ..]) {
        return Err(InputError::Key("the key is UTF-16, with a byte order mark: save it as UTF-8 without one"));
    }
    let key = std::str::from_utf8(bytes).map_err(|_| InputError::Key("the key is not ASCII"))?.trim_end();
    match fault(key, bytes.len()) {
        Some(fault) => Err(InputError::Key(fault)),
        None => Ok(SecretString::from(key)),
    }
}

/// What is wrong with a key that was read from so many bytes.
fn fault(key: &str, read: usize) -> Option<&'static str> {
    if read > MOST_READ || key.len() > LONGEST {
        Some("the key is longer than 4,096 bytes")
    } else if key.is_empty() {
        Some("the key is empty")
    } else if key.starts_with('\u{feff}') {
        Some("a byte order mark is before the key: save it as UTF-8 without one")
    } else if key.starts_with(QUOTES) || key.ends_with(QUOTES) {
        Some("quotes are around the key: remove them")
    } else if key.contains(['\r', '\n']) {
        Some("the key holds a line break: it must be one line")
    } else if key.chars().any(|c| !c.is_ascii_graphic()) {
        Some("the key holds a space, a control character or one that is not ASCII")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::{checked, from_file, limited, read};
    use crate::settings::{Layers, Origin};
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
    fn white_space_behind_a_key_is_no_part_of_it() {
        for behind in ["\n", "\r\n", " ", "\t", "\n\n", " \r\n \n", "\u{a0}\n"] {
            let key = checked(format!("sk_live_a{behind}").as_bytes()).unwrap();
            assert_eq!(key.expose_secret(), "sk_live_a", "{behind:?}");
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
        assert!(error.contains("4,096 bytes"), "what stands far behind it is not forgotten: {error}");
    }

    #[test]
    fn a_key_that_is_too_short_to_be_hidden_is_for_servers_of_this_machine_alone() {
        let with = |key: &str, is_loopback| read(&Layers::built_in().unwrap(), Some(key.to_owned()), is_loopback);
        assert_eq!(with("x", true).unwrap().expose_secret(), "x");
        assert!(with("sk_live_abc", false).unwrap_err().to_string().contains("12 characters"));
        assert_eq!(with("sk_live_abcd", false).unwrap().expose_secret(), "sk_live_abcd");
    }

    #[test]
    fn without_a_key_the_error_names_every_way_to_give_one() {
        let error = read(&Layers::built_in().unwrap(), None, false).unwrap_err().to_string();
        assert!(["KEYAPI_TOKEN", "--token-file", "--token-stdin", "--simulate"].iter().all(|way| error.contains(way)));
    }

    #[cfg(unix)]
    #[test]
    fn a_key_file_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file.as_file(), b"sk_live_a\n").unwrap();
        let mut layers = Layers::built_in().unwrap();
        layers.set("token_file", file.path().display().to_string(), &Origin::Flag).unwrap();
        assert_eq!(read(&layers, None, true).unwrap().expose_secret(), "sk_live_a");
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(from_file(file.path()).unwrap_err().to_string().contains("chmod 600"));
    }
}
