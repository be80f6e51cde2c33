//! The rate limits that `--qps auto` found, for the next run with the same API key.
//!
//! One small file for each user, private to its owner. An entry's name is an HMAC of host and API key under the random salt of
//! the file: it does not show the key, nor whether another file has an entry for the same one. The cache only saves a search:
//! a run works without it, whatever is wrong with it.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use ring::{hmac, rand};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use crate::endpoint::hex;
use crate::model::clock;
use crate::state::disk::{Access, Disk, DiskError};

const FILE: &str = "limits.json";
/// Largest file that is read, bytes.
const MAX_BYTES: u64 = 64 * 1024;
/// Entries that are kept: the newest.
const MAX_ENTRIES: usize = 100;
/// Bytes of salt.
const SALT: usize = 32;
/// Rates that are used, requests a second.
const PLAUSIBLE: std::ops::RangeInclusive<f64> = 0.1..=1e6;

#[derive(Debug, Default, Serialize, Deserialize)]
struct CacheFile {
    /// Hexadecimal.
    salt: String,
    /// By the HMAC of host and API key, hexadecimal.
    limits: BTreeMap<String, CachedRate>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct CachedRate {
    /// Requests a second.
    qps: f64,
    /// When it was found, seconds since 1970.
    at: i64,
}

/// The entry of one API key at one host.
#[derive(Debug)]
pub(crate) struct RateCache {
    directory: PathBuf,
    salt: String,
    name: String,
    /// What an earlier run found, requests a second.
    pub(crate) rate: Option<f64>,
}

/// The directory that XDG gives to state.
pub(crate) fn default_directory(variable: impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let absolute = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")));
    state.map(|state| state.join("pagehaul"))
}

impl RateCache {
    /// Reads the entry of an API key at a host. None if the system has no random numbers for a salt.
    pub(crate) fn open(directory: &Path, host: &str, api_key: &SecretString) -> Option<Self> {
        let file = read(directory).unwrap_or_default();
        let is_salt = file.salt.len() == 2 * SALT && file.salt.bytes().all(|byte| byte.is_ascii_hexdigit());
        let salt = if is_salt { file.salt.clone() } else { new_salt()? };
        let secret = hmac::Key::new(hmac::HMAC_SHA256, salt.as_bytes());
        let name = format!("{host}\n{}", api_key.expose_secret());
        let name = hex(hmac::sign(&secret, name.as_bytes()).as_ref());
        let rate = file.limits.get(&name).map(|limit| limit.qps).filter(|qps| PLAUSIBLE.contains(qps));
        Some(Self { directory: directory.to_owned(), salt, name, rate })
    }

    /// Writes the rate, requests a second. Entries that other processes wrote meanwhile stay.
    pub(crate) fn store(&self, qps: f64) -> Result<(), DiskError> {
        let mut file = read(&self.directory).filter(|file| file.salt == self.salt).unwrap_or_default();
        file.salt.clone_from(&self.salt);
        let rate = CachedRate { qps: (qps * 1_000.0).round() / 1_000.0, at: clock::wall().seconds() };
        file.limits.insert(self.name.clone(), rate);
        while file.limits.len() > MAX_ENTRIES {
            let oldest = file.limits.iter().min_by_key(|(_, limit)| limit.at).map(|(name, _)| name.clone());
            oldest.and_then(|oldest| file.limits.remove(&oldest));
        }
        let text = format!("{}\n", crate::model::sanitize::json(&file));
        Disk.make_directory(&self.directory, Access::Private)?;
        Disk.replace(&self.directory.join(FILE), text.as_bytes(), Access::Private)
    }
}

/// None if there is no file that can be read. Only a regular file is read: a pipe would never end.
fn read(directory: &Path) -> Option<CacheFile> {
    let path = directory.join(FILE);
    let metadata = std::fs::symlink_metadata(&path).ok()?;
    if !metadata.is_file() || metadata.len() > MAX_BYTES {
        return None;
    }
    let mut text = String::new();
    std::fs::File::open(path).ok()?.take(MAX_BYTES).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
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

    fn open(directory: &Path, host: &str, key: &str) -> RateCache {
        RateCache::open(directory, host, &SecretString::from(key)).unwrap()
    }

    fn write(directory: &Path, text: &[u8]) {
        std::io::Write::write_all(&mut std::fs::File::create(directory.join(FILE)).unwrap(), text).unwrap();
    }

    #[test]
    fn the_next_run_with_the_same_key_and_host_reads_the_rate_and_no_other_does() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path().join("a/b");
        let first = open(&directory, HOST, "sk_1");
        assert_eq!(first.rate, None);
        first.store(49.876_54).unwrap();
        open(&directory, HOST, "sk_2").store(7.0).unwrap();
        let rate = |host: &str, key: &str| open(&directory, host, key).rate;
        assert_eq!([rate(HOST, "sk_1"), rate(HOST, "sk_2"), rate("other", "sk_1")], [Some(49.877), Some(7.0), None]);
    }

    #[test]
    fn the_file_shows_no_key_and_no_host_and_two_files_of_one_key_have_nothing_in_common() {
        let texts = [(); 2].map(|()| {
            let directory = tempfile::tempdir().unwrap();
            open(directory.path(), HOST, "sk_live_secret").store(5.0).unwrap();
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
        open(&directory, HOST, "k").store(5.0).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&directory), mode(&directory.join(FILE))), (0o700, 0o600));
    }

    #[test]
    fn a_file_that_is_damaged_or_not_plausible_counts_as_missing_and_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        open(directory.path(), HOST, "k").store(5.0).unwrap();
        let sound = std::fs::read_to_string(directory.path().join(FILE)).unwrap();
        let huge = format!("{{\"salt\": \"{}\"}}", "a".repeat(100_000));
        for (old, new) in
            [("5.0", "1e300"), ("5.0", "-5"), ("5.0", "0"), ("5.0", "\"5\""), ("salt", "salz"), ("{", "[")]
        {
            assert!(sound.contains(old));
            write(directory.path(), sound.replace(old, new).as_bytes());
            assert_eq!(open(directory.path(), HOST, "k").rate, None, "{new}");
        }
        for text in [&b""[..], b"\0\xff", b"{}", b"[[[[[[", huge.as_bytes(), &sound.as_bytes()[..sound.len() / 2]] {
            write(directory.path(), text);
            let cache = open(directory.path(), HOST, "k");
            assert_eq!(cache.rate, None);
            cache.store(6.0).unwrap();
            assert_eq!(open(directory.path(), HOST, "k").rate, Some(6.0));
        }
    }

    #[cfg(unix)]
    #[test]
    fn nothing_is_read_or_written_through_what_is_not_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("target");
        std::fs::File::create(&target).unwrap();
        std::os::unix::fs::symlink(&target, directory.path().join(FILE)).unwrap();
        let cache = open(directory.path(), HOST, "k");
        cache.store(5.0).unwrap();
        assert_eq!((cache.rate, std::fs::metadata(&target).unwrap().len()), (None, 0));
        assert_eq!(open(directory.path(), HOST, "k").rate, Some(5.0), "a file replaced the link");
        let blocked = directory.path().join("blocked");
        std::fs::create_dir_all(blocked.join(FILE)).unwrap();
        let cache = open(&blocked, HOST, "k");
        assert!(cache.rate.is_none() && cache.store(5.0).is_err());
    }

    #[test]
    fn a_file_keeps_the_newest_hundred_entries() {
        let directory = tempfile::tempdir().unwrap();
        for number in 0..120 {
            open(directory.path(), HOST, &format!("sk_{number}")).store(5.0).unwrap();
        }
        let known = (0..120).filter(|number| open(directory.path(), HOST, &format!("sk_{number}")).rate.is_some());
        assert_eq!(known.count(), 100);
        let length = std::fs::metadata(directory.path().join(FILE)).unwrap().len();
        assert!(length < super::MAX_BYTES / 2, "{length} bytes");
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
        let directory = tempfile::tempdir().unwrap();
        let text = |qps: &str, at: &str| {
            let salt = "0".repeat(64);
            let name = "88cb75a697947b3d71f8a5bf88ee1a702d4c420212ccc74915f85709830b395f";
            format!("{{\"salt\":\"{salt}\",\"limits\":{{\"{name}\":{{\"qps\":{qps},\"at\":{at}}}}}}}\n")
        };
        write(directory.path(), text("5.0", "1").as_bytes());
        let cache = open(directory.path(), HOST, "sk_1");
        assert_eq!(cache.rate, Some(5.0));
        cache.store(6.5).unwrap();
        let written = std::fs::read_to_string(directory.path().join(FILE)).unwrap();
        let at = written.rsplit(':').next().unwrap().trim_end_matches(['}', '\n']);
        assert_eq!(written, text("6.5", at));
        assert_eq!(FILE, "limits.json");
    }
}
