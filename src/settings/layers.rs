//! Values and where they came from: flag over environment over file over built-in, all of them text.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::table::SETTINGS;
use crate::endpoint::at_line;
use crate::model::sanitize::Sanitized;

/// The documented defaults, which are the real ones.
pub const DEFAULTS: &str = include_str!("../../config/default.toml");
/// Prefix of the environment's names.
pub const PREFIX: &str = "PAGEHAUL_";
/// The word for "not set".
pub(super) const NONE: &str = "none";

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The command line.
    Flag,
    /// The environment.
    Environment,
    /// A config file.
    File(PathBuf),
    /// The export's own ledger: what it was begun with.
    Ledger,
    /// `config/default.toml`.
    BuiltIn,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("flag"),
            Self::Environment => f.write_str("environment"),
            Self::File(path) => Sanitized(&path.to_string_lossy()).fmt(f),
            Self::Ledger => f.write_str("ledger"),
            Self::BuiltIn => f.write_str("built-in"),
        }
    }
}

/// A setting will not do. Its text is the whole message: what, where from, why, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A key that nobody knows.
    #[error("{origin}: unknown setting {key}{hint}")]
    Unknown {
        /// The key.
        key: String,
        /// Where it stands.
        origin: Origin,
        /// What may have been meant; empty if nothing is near.
        hint: String,
    },
    /// A value that does not fit.
    #[error("{key} = {given} ({origin}): {reason}")]
    Invalid {
        /// The key.
        key: &'static str,
        /// The value, sanitised.
        given: String,
        /// Where it stands.
        origin: Origin,
        /// Why it does not fit.
        reason: String,
    },
    /// A value that must be given.
    #[error("{what}; {next}")]
    Missing {
        /// What is missing.
        what: &'static str,
        /// How to give it.
        next: &'static str,
    },
    /// A config file that cannot be read.
    #[error("read the config file {}: {reason}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// Values and where they came from, not yet checked.
#[derive(Clone, Debug)]
pub struct Layers {
    values: BTreeMap<&'static str, (String, Origin)>,
}

impl Layers {
    /// The built-in values.
    pub fn built_in() -> Result<Self, SettingsError> {
        let mut layers = Self { values: BTreeMap::new() };
        layers.add_toml(DEFAULTS, &Origin::BuiltIn)?;
        Ok(layers)
    }

    /// Puts a config file over what is there.
    pub fn add_file(&mut self, path: &Path) -> Result<(), SettingsError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| SettingsError::Config { path: path.to_owned(), reason: error.to_string() })?;
        self.add_toml(&text, &Origin::File(path.to_owned()))
    }

    fn add_toml(&mut self, text: &str, origin: &Origin) -> Result<(), SettingsError> {
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| SettingsError::Config {
            path: PathBuf::from(origin.to_string()),
            reason: at_line(text, &error),
        })?;
        for (key, value) in table {
            let text = match value {
                toml::Value::String(text) => text,
                toml::Value::Integer(number) => number.to_string(),
                toml::Value::Float(number) => number.to_string(),
                toml::Value::Boolean(switch) => switch.to_string(),
                toml::Value::Array(list) => list.iter().filter_map(toml::Value::as_str).collect::<Vec<_>>().join(","),
                toml::Value::Datetime(_) | toml::Value::Table(_) => {
                    let reason = format!("{key} must be a text, a number, true, false or a list of texts");
                    return Err(SettingsError::Config { path: PathBuf::from(origin.to_string()), reason });
                }
            };
            self.set(&key, text, origin)?;
        }
        Ok(())
    }

    /// Puts the environment over what is there. Variables that Kubernetes makes for a service of our name are none of ours.
    pub fn add_environment(&mut self, variables: impl Iterator<Item = (String, String)>) -> Result<(), SettingsError> {
        for (name, value) in variables {
            let Some(key) = name.strip_prefix(PREFIX) else { continue };
            if !key.starts_with("SERVICE_") && key != "PORT" && !key.starts_with("PORT_") {
                self.set(&key.to_ascii_lowercase(), value, &Origin::Environment)?;
            }
        }
        Ok(())
    }

    /// Puts one value over what is there.
    pub fn set(&mut self, key: &str, value: String, origin: &Origin) -> Result<(), SettingsError> {
        let Some(known) = SETTINGS.iter().find(|setting| setting.key == key) else {
            // As it is written there: a variable's name is not a key's.
            let written = |key: &str| match origin {
                Origin::Environment => format!("{PREFIX}{}", key.to_ascii_uppercase()),
                Origin::Flag | Origin::File(_) | Origin::Ledger | Origin::BuiltIn => key.to_owned(),
            };
            let hint = match nearest(key, SETTINGS.iter().map(|setting| setting.key)) {
                Some(nearest) => format!("; did you mean {}?", written(nearest)),
                None if key.contains("key") || key.contains("token") => {
                    "; the key is no setting: KEYAPI_TOKEN, --token-file or --token-stdin".to_owned()
                }
                None => String::new(),
            };
            let key = crate::model::sanitize::sanitize(&written(key));
            return Err(SettingsError::Unknown { key, origin: origin.clone(), hint });
        };
        self.values.insert(known.key, (value, origin.clone()));
        Ok(())
    }

    /// Every setting with its value and origin, in the order of the table.
    pub fn shown(&self) -> impl Iterator<Item = (&'static str, &str, &Origin)> {
        SETTINGS.iter().filter_map(|setting| {
            let (value, origin) = self.values.get(setting.key)?;
            Some((setting.key, value.as_str(), origin))
        })
    }

    pub(super) fn text(&self, key: &'static str) -> &str {
        self.values.get(key).map_or("", |(value, _)| value.as_str())
    }

    /// The value, unless it is not set.
    pub fn given(&self, key: &'static str) -> Option<&str> {
        Some(self.text(key).trim()).filter(|text| !text.is_empty() && *text != NONE)
    }

    /// Whether nobody has given this setting a value.
    pub fn is_built_in(&self, key: &'static str) -> bool {
        self.values.get(key).is_none_or(|(_, origin)| *origin == Origin::BuiltIn)
    }

    pub(super) fn invalid(&self, key: &'static str, reason: impl Into<String>) -> SettingsError {
        let origin = self.values.get(key).map_or(Origin::BuiltIn, |(_, origin)| origin.clone());
        SettingsError::Invalid {
            key,
            given: crate::model::sanitize::sanitize(self.text(key)),
            origin,
            reason: reason.into(),
        }
    }

    pub(super) fn number(&self, key: &'static str, from: u64, to: u64) -> Result<u64, SettingsError> {
        let number = self.text(key).trim().replace('_', "").parse::<u64>().ok();
        let fits = number.filter(|number| (from..=to).contains(number));
        fits.ok_or_else(|| match to {
            u64::MAX => self.invalid(key, format!("must be a whole number, {from} or more")),
            _ => self.invalid(key, format!("must be a whole number from {from} to {to}")),
        })
    }

    pub(super) fn optional(&self, key: &'static str, from: u64, to: u64) -> Result<Option<u64>, SettingsError> {
        self.given(key).map(|_| self.number(key, from, to)).transpose()
    }

    pub(super) fn percent(&self, key: &'static str) -> Result<f64, SettingsError> {
        let number = self.text(key).trim().trim_end_matches('%').parse().ok();
        let fits = number.filter(|number: &f64| (0.0..=100.0).contains(number));
        fits.ok_or_else(|| self.invalid(key, "must be a number from 0 to 100"))
    }

    pub(super) fn switch(&self, key: &'static str) -> Result<bool, SettingsError> {
        match self.text(key) {
            "true" | "1" => Ok(true),
            "false" | "0" | "" => Ok(false),
            _ => Err(self.invalid(key, "must be true or false")),
        }
    }

    pub(super) fn time_or_none(&self, key: &'static str) -> Result<Duration, SettingsError> {
        let time = parse_duration(self.text(key));
        time.ok_or_else(|| self.invalid(key, "must be a time such as 0s, 500ms, 30s, 5m or 1h"))
    }

    pub(super) fn time(&self, key: &'static str) -> Result<Duration, SettingsError> {
        parse_duration(self.text(key))
            .filter(|time| !time.is_zero())
            .ok_or_else(|| self.invalid(key, "must be a time such as 500ms, 30s, 5m or 1h"))
    }

    pub(super) fn size(&self, key: &'static str) -> Result<u64, SettingsError> {
        parse_size(self.text(key))
            .filter(|size| *size >= 1024)
            .ok_or_else(|| self.invalid(key, "must be a size such as 64KiB, 48MiB or 2GiB"))
    }

    pub(super) fn size_up_to(&self, key: &'static str, most: u64) -> Result<u64, SettingsError> {
        let size = self.size(key)?;
        if size > most { Err(self.invalid(key, format!("must be at most {} MiB", most >> 20))) } else { Ok(size) }
    }

    pub(super) fn list(&self, key: &'static str) -> Vec<&str> {
        self.given(key)
            .map(|text| text.split(',').map(str::trim).filter(|name| !name.is_empty()).collect())
            .unwrap_or_default()
    }
}

/// The known name that was probably meant: no more than a third of it is otherwise.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near = known.map(|known| (strsim::damerau_levenshtein(known, name), known)).min();
    near.filter(|(distance, known)| *distance <= known.len().div_ceil(3)).map(|(_, known)| known)
}

/// `500ms`, `30s`, `5m`, `1h`.
pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}

/// `64KiB`, `48MiB`, `2GiB`.
fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
    let shift = match unit {
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}
