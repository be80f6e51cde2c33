//! The key: where it comes from, and nothing else. It is never an argument, and nothing here can print it.

use std::io::Read;
use std::path::Path;

use secrecy::{ExposeSecret, SecretString};

use crate::error::Error;
use crate::sanitize::SHORTEST_HIDDEN;
use crate::settings::Layers;

/// The variable that the provider's own tools read.
pub const VARIABLE: &str = "KEYAPI_TOKEN";
/// Longest key, bytes.
const LONGEST: u64 = 4_096;

/// Reads the key from the one place that the settings name: standard input, a file, or the environment. Beyond this machine
/// (`is_loopback` is false) it must be long enough to be hidden wherever it may turn up.
pub fn read(layers: &Layers, variable: Option<String>, is_loopback: bool) -> Result<SecretString, Error> {
    crate::limits::keep_memory_private();
    let key = from_its_place(layers, variable)?;
    if !is_loopback && key.expose_secret().len() < SHORTEST_HIDDEN {
        return Err(Error::Usage("the key has fewer than 12 characters: is it a placeholder?"));
    }
    Ok(key)
}

fn from_its_place(layers: &Layers, variable: Option<String>) -> Result<SecretString, Error> {
    if layers.given("token_stdin") == Some("true") {
        if layers.given("token_file").is_some() {
            return Err(Error::Usage("--token-file and --token-stdin: the key comes from one place"));
        }
        let read = limited(std::io::stdin().lock());
        let key = read.map_err(|source| Error::System { action: "read the key from standard input", source })?;
        return checked(without_line_end(key));
    }
    if let Some(path) = layers.given("token_file") {
        return checked(without_line_end(from_file(Path::new(path))?));
    }
    match variable {
        Some(key) => checked(key),
        None => Err(Error::Usage(
            "no key: set KEYAPI_TOKEN, or give --token-file or --token-stdin (to try without one: --simulate)",
        )),
    }
}

fn from_file(path: &Path) -> Result<String, Error> {
    let unread = |source| Error::KeyFile { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(unread)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let about = file.metadata().map_err(unread)?;
        if about.permissions().mode() & 0o077 != 0 && about.is_file() {
            return Err(Error::Usage("the key's file can be read by others: chmod 600 it"));
        }
    }
    limited(file).map_err(unread)
}

/// The text of a source, whole if it may be a key: with its line end one byte longer than the longest, and then refused.
fn limited(source: impl Read) -> std::io::Result<String> {
    let mut text = String::new();
    source.take(LONGEST + 3).read_to_string(&mut text)?;
    Ok(text)
}

/// Editors and `echo` end a file with a line end; it is no part of the key.
fn without_line_end(mut text: String) -> String {
    text.truncate(text.trim_end_matches(['\r', '\n']).len());
    text
}

fn checked(key: String) -> Result<SecretString, Error> {
    if key.trim().is_empty() {
        return Err(Error::Usage("the key is empty"));
    }
    if u64::try_from(key.len()).is_ok_and(|bytes| bytes > LONGEST) {
        return Err(Error::Usage("the key is longer than 4,096 bytes"));
    }
    if key.contains(['\r', '\n']) {
        return Err(Error::Usage("the key holds a line break: it must be one line"));
    }
    if key.chars().any(|c| !c.is_ascii_graphic()) {
        return Err(Error::Usage("the key holds a space, a control character or one that is not ASCII"));
    }
    Ok(SecretString::from(key))
}

#[cfg(test)]
mod tests {
    use super::{checked, from_file, limited, read, without_line_end};
    use crate::settings::{Layers, Origin};
    use secrecy::ExposeSecret;

    #[test]
    fn a_key_that_no_header_can_carry_is_refused_without_showing_it() {
        for key in ["", " ", "sk_live_a\n", "sk_live_a b", "sk_live_\u{7}", "sk_livé"] {
            let error = checked(key.to_owned()).unwrap_err().to_string();
            assert!(!error.contains("sk_liv"), "{error}");
        }
        assert_eq!(checked("sk_live_a".to_owned()).unwrap().expose_secret(), "sk_live_a");
        assert_eq!(without_line_end("a\r\n".to_owned()), "a");
    }

    #[test]
    fn a_key_is_taken_whole_or_not_at_all() {
        for (bytes, fits) in [(4_096, true), (4_097, false), (9_999, false)] {
            let file = limited(format!("{}\r\n", "k".repeat(bytes)).as_bytes()).unwrap();
            let key = checked(without_line_end(file));
            assert_eq!(key.as_ref().is_ok_and(|key| key.expose_secret().len() == bytes), fits);
            assert!(fits || key.unwrap_err().to_string().contains("4,096 bytes"));
        }
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
