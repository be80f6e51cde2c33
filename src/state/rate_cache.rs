//! What `--qps auto` found, for the next run with the same key.
//!
//! One small file a user, private to its owner. A key stands in it as an HMAC of host and key under a random salt of this
//! file, so nobody can tell from it which key it was, nor whether another file speaks of the same one. It only saves a search:
//! whatever is wrong with it, a run goes on without.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use ring::{hmac, rand};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use crate::endpoint::hex;
use crate::model::clock;
use crate::state::disk::{Access, Disk, DiskError};

/// The file's name.
const FILE: &str = "limits.json";
/// Longest file that is read, bytes.
const LONGEST: u64 = 64 * 1024;
/// Most keys that are remembered; then the one that was used longest ago is forgotten.
const MOST: usize = 100;
/// Bytes of salt.
const SALT: usize = 32;
/// What may be believed, requests a second.
const BELIEVED: std::ops::RangeInclusive<f64> = 0.1..=1e6;

#[derive(Debug, Default, Serialize, Deserialize)]
struct CacheFile {
    /// Hexadecimal.
    salt: String,
    /// By the HMAC of host and key, hexadecimal.
    limits: BTreeMap<String, CachedRate>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct CachedRate {
    /// Requests a second.
    qps: f64,
    /// When it was found, seconds since 1970.
    at: i64,
}

/// The place where the limit of one key is remembered.
#[derive(Debug)]
pub(crate) struct RateCache {
    directory: PathBuf,
    salt: String,
    name: String,
    known: Option<f64>,
}

/// The directory for it, unless another one is named: the one that XDG gives to state.
pub(crate) fn default_directory(variable: impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let absolute = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")));
    state.map(|state| state.join("pagehaul"))
}

impl RateCache {
    /// Looks up what is known of a key at a host. None if this machine has no random numbers for a salt.
    pub(crate) fn look_up(directory: &Path, host: &str, key: &SecretString) -> Option<Self> {
        let book = read(directory).unwrap_or_default();
        let salt = if is_salt(&book.salt) { book.salt.clone() } else { new_salt()? };
        let secret = hmac::Key::new(hmac::HMAC_SHA256, salt.as_bytes());
        let name = format!("{host}\n{}", key.expose_secret());
        let name = hex(hmac::sign(&secret, name.as_bytes()).as_ref());
        let known = book.limits.get(&name).map(|limit| limit.qps).filter(|qps| BELIEVED.contains(qps));
        Some(Self { directory: directory.to_owned(), salt, name, known })
    }

    /// What is known, requests a second.
    pub(crate) fn known(&self) -> Option<f64> {
        self.known
    }

    /// Remembers what was found. Others may have written meanwhile: what they wrote stays.
    pub(crate) fn remember(&self, qps: f64) -> Result<(), DiskError> {
        let mut book = read(&self.directory).filter(|book| book.salt == self.salt).unwrap_or_default();
        book.salt.clone_from(&self.salt);
        book.limits.insert(
            self.name.clone(),
            CachedRate { qps: (qps * 1_000.0).round() / 1_000.0, at: clock::wall().seconds() },
        );
        while book.limits.len() > MOST {
            let oldest = book.limits.iter().min_by_key(|(_, limit)| limit.at).map(|(name, _)| name.clone());
            oldest.and_then(|oldest| book.limits.remove(&oldest));
        }
        let text = format!("{}\n", crate::model::sanitize::json(&book));
        Disk.make_directory(&self.directory, Access::Private)?;
        Disk.replace(&self.directory.join(FILE), text.as_bytes(), Access::Private)
    }
}

/// The book, if there is one that can be read. Anything but a regular file is none: reading a pipe would never end.
fn read(directory: &Path) -> Option<CacheFile> {
    let path = directory.join(FILE);
    let about = std::fs::symlink_metadata(&path).ok()?;
    if !about.is_file() || about.len() > LONGEST {
        return None;
    }
    let mut text = String::new();
    std::fs::File::open(path).ok()?.take(LONGEST).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

fn is_salt(text: &str) -> bool {
    text.len() == 2 * SALT && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn new_salt() -> Option<String> {
    let mut salt = [0; SALT];
    rand::SecureRandom::fill(&rand::SystemRandom::new(), &mut salt).ok()?;
    Some(hex(&salt))
}

#[cfg(test)]
mod tests {
    use super::{FILE, RateCache, default_directory};
    use secrecy::SecretString;
    use std::path::Path;

    const HOST: &str = "api.example.com";

    fn look_up(directory: &Path, host: &str, key: &str) -> RateCache {
        RateCache::look_up(directory, host, &SecretString::from(key)).unwrap()
    }

    fn write(directory: &Path, text: &[u8]) {
        std::io::Write::write_all(&mut std::fs::File::create(directory.join(FILE)).unwrap(), text).unwrap();
    }

    #[test]
    fn what_was_found_is_known_to_the_next_run_with_the_same_key_and_host_and_to_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path().join("a/b");
        let first = look_up(&directory, HOST, "sk_1");
        assert_eq!(first.known(), None);
        first.remember(49.876_54).unwrap();
        look_up(&directory, HOST, "sk_2").remember(7.0).unwrap();
        let known = |host: &str, key: &str| look_up(&directory, host, key).known();
        assert_eq!([known(HOST, "sk_1"), known(HOST, "sk_2"), known("other", "sk_1")], [Some(49.877), Some(7.0), None]);
    }

    #[test]
    fn the_file_shows_no_key_and_no_host_and_two_files_of_one_key_have_nothing_in_common() {
        let texts = [(); 2].map(|()| {
            let directory = tempfile::tempdir().unwrap();
            look_up(directory.path(), HOST, "sk_live_secret").remember(5.0).unwrap();
            std::fs::read_to_string(directory.path().join(FILE)).unwrap()
        });
        let names = |text: &str| text.split('"').filter(|part| part.len() == 64).map(str::to_owned).collect::<Vec<_>>();
        assert!(texts.iter().all(|text| !text.contains("secret") && !text.contains(HOST) && names(text).len() == 2));
        assert!(names(&texts[0]).iter().all(|name| !texts[1].contains(name)));
    }

    #[cfg(unix)]
    #[test]
    fn directory_and_file_are_their_owner_s_alone() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path().join("pagehaul");
        look_up(&directory, HOST, "k").remember(5.0).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&directory), mode(&directory.join(FILE))), (0o700, 0o600));
    }

    #[test]
    fn a_file_that_is_damaged_or_lies_is_as_good_as_none_and_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        look_up(directory.path(), HOST, "k").remember(5.0).unwrap();
        let sound = std::fs::read_to_string(directory.path().join(FILE)).unwrap();
        let huge = format!("{{\"salt\": \"{}\"}}", "a".repeat(100_000));
        for (old, new) in
            [("5.0", "1e300"), ("5.0", "-5"), ("5.0", "0"), ("5.0", "\"5\""), ("salt", "salz"), ("{", "[")]
        {
            assert!(sound.contains(old));
            write(directory.path(), sound.replace(old, new).as_bytes());
            assert_eq!(look_up(directory.path(), HOST, "k").known(), None, "{new}");
        }
        for text in [&b""[..], b"\0\xff", b"{}", b"[[[[[[", huge.as_bytes(), &sound.as_bytes()[..sound.len() / 2]] {
            write(directory.path(), text);
            let learned = look_up(directory.path(), HOST, "k");
            assert_eq!(learned.known(), None);
            learned.remember(6.0).unwrap();
            assert_eq!(look_up(directory.path(), HOST, "k").known(), Some(6.0));
        }
    }

    #[cfg(unix)]
    #[test]
    fn nothing_is_read_or_written_through_what_is_no_file() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("target");
        std::fs::File::create(&target).unwrap();
        std::os::unix::fs::symlink(&target, directory.path().join(FILE)).unwrap();
        let learned = look_up(directory.path(), HOST, "k");
        learned.remember(5.0).unwrap();
        assert_eq!((learned.known(), std::fs::metadata(&target).unwrap().len()), (None, 0));
        assert_eq!(look_up(directory.path(), HOST, "k").known(), Some(5.0), "the link made way for a file");
        let blocked = directory.path().join("blocked");
        std::fs::create_dir_all(blocked.join(FILE)).unwrap();
        let learned = look_up(&blocked, HOST, "k");
        assert!(learned.known().is_none() && learned.remember(5.0).is_err());
    }

    #[test]
    fn a_book_holds_a_hundred_keys_and_forgets_the_oldest() {
        let directory = tempfile::tempdir().unwrap();
        for number in 0..120 {
            look_up(directory.path(), HOST, &format!("sk_{number}")).remember(5.0).unwrap();
        }
        let known =
            (0..120).filter(|number| look_up(directory.path(), HOST, &format!("sk_{number}")).known().is_some());
        assert_eq!(known.count(), 100);
        let length = std::fs::metadata(directory.path().join(FILE)).unwrap().len();
        assert!(length < super::LONGEST / 2, "{length} bytes");
    }

    #[test]
    fn the_directory_is_the_one_for_state_and_only_if_it_is_absolute() {
        let directory = |variables: &[(&str, &str)]| {
            default_directory(|name| {
                variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
            })
        };
        assert_eq!(directory(&[("XDG_STATE_HOME", "/s"), ("HOME", "/h")]).unwrap(), Path::new("/s/pagehaul"));
        assert_eq!(
            directory(&[("XDG_STATE_HOME", "s"), ("HOME", "/h")]).unwrap(),
            Path::new("/h/.local/state/pagehaul")
        );
        assert_eq!(directory(&[("HOME", "")]), None);
    }

    #[test]
    fn the_file_has_these_keys_and_names_a_key_by_this_digest() {
        let folder = tempfile::tempdir().unwrap();
        let text = |qps: &str, at: &str| {
            let salt = "0".repeat(64);
            let name = "88cb75a697947b3d71f8a5bf88ee1a702d4c420212ccc74915f85709830b395f";
            format!("{{\"salt\":\"{salt}\",\"limits\":{{\"{name}\":{{\"qps\":{qps},\"at\":{at}}}}}}}\n")
        };
        write(folder.path(), text("5.0", "1").as_bytes());
        let learned = look_up(folder.path(), HOST, "sk_1");
        assert_eq!(learned.known(), Some(5.0));
        learned.remember(6.5).unwrap();
        let written = std::fs::read_to_string(folder.path().join(FILE)).unwrap();
        let at = written.rsplit(':').next().unwrap().trim_end_matches(['}', '\n']);
        assert_eq!(written, text("6.5", at));
        assert_eq!(FILE, "limits.json");
    }
}
