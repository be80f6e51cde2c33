//! Values as text, and where each came from: flag over environment over file over built-in.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::table::{self, SETTINGS, Setting};
use crate::endpoint::at_line;
use crate::model::sanitize::{Sanitized, sanitize};

/// The documented defaults are the real ones.
pub const DEFAULTS: &str = include_str!("../../config/default.toml");
/// Prefix of environment variables.
pub const PREFIX: &str = "PAGEHAUL_";
/// The value of a setting that is not set.
pub(super) const NONE: &str = "none";

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Flag,
    Environment,
    File(PathBuf),
    /// The ledger of the export, which the first run wrote.
    Ledger,
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

/// A setting that cannot be used. The text is the whole message: what, its origin, why, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SettingsError(pub(super) String);

fn unreadable(file: impl fmt::Display, reason: impl fmt::Display) -> SettingsError {
    SettingsError(format!("cannot read config file {file}: {reason}"))
}

/// Values as text, not yet checked.
#[derive(Clone, Debug)]
pub struct Layers {
    values: BTreeMap<&'static str, (String, Origin)>,
}

impl Layers {
    /// Reads the built-in values.
    pub fn built_in() -> Result<Self, SettingsError> {
        let mut layers = Self { values: BTreeMap::new() };
        layers.add_toml(DEFAULTS, &Origin::BuiltIn)?;
        Ok(layers)
    }

    /// Adds a config file, over the values so far.
    pub fn add_file(&mut self, path: &Path) -> Result<(), SettingsError> {
        let text = std::fs::read_to_string(path).map_err(|error| unreadable(path.display(), error))?;
        self.add_toml(&text, &Origin::File(path.to_owned()))
    }

    fn add_toml(&mut self, text: &str, origin: &Origin) -> Result<(), SettingsError> {
        let table: toml::Table = text.parse().map_err(|error| unreadable(origin, at_line(text, &error)))?;
        for (key, value) in table {
            let text = match value {
                toml::Value::String(text) => text,
                toml::Value::Integer(number) => number.to_string(),
                toml::Value::Float(number) => number.to_string(),
                toml::Value::Boolean(switch) => switch.to_string(),
                toml::Value::Array(list) => list.iter().filter_map(toml::Value::as_str).collect::<Vec<_>>().join(","),
                toml::Value::Datetime(_) | toml::Value::Table(_) => {
                    let reason = format!("{key} must be a string, a number, true, false or a list of strings");
                    return Err(unreadable(origin, reason));
                }
            };
            self.set(&key, text, origin)?;
        }
        Ok(())
    }

    /// Adds the environment, over the values so far. It ignores the variables that Kubernetes sets for a service called
    /// pagehaul.
    pub fn add_environment(&mut self, variables: impl Iterator<Item = (String, String)>) -> Result<(), SettingsError> {
        for (name, value) in variables {
            let Some(key) = name.strip_prefix(PREFIX) else { continue };
            if !key.starts_with("SERVICE_") && key != "PORT" && !key.starts_with("PORT_") {
                self.set(&key.to_ascii_lowercase(), value, &Origin::Environment)?;
            }
        }
        Ok(())
    }

    /// Sets one value, over the value so far.
    pub fn set(&mut self, key: &str, value: String, origin: &Origin) -> Result<(), SettingsError> {
        let Some(known) = SETTINGS.iter().find(|setting| setting.key == key) else {
            let written = |key: &str| match origin {
                Origin::Environment => format!("{PREFIX}{}", key.to_ascii_uppercase()),
                Origin::Flag | Origin::File(_) | Origin::Ledger | Origin::BuiltIn => key.to_owned(),
            };
            let hint = match nearest(key, SETTINGS.iter().map(|setting| setting.key)) {
                Some(nearest) => format!("; did you mean {}?", written(nearest)),
                None if key.contains("key") || key.contains("token") => {
                    "; the API key is not a setting: give it as KEYAPI_TOKEN, --token-file or --token-stdin".to_owned()
                }
                None => String::new(),
            };
            return Err(SettingsError(format!("unknown setting {} ({origin}){hint}", sanitize(&written(key)))));
        };
        self.values.insert(known.key, (value, origin.clone()));
        Ok(())
    }

    /// Every setting with its value, without what may be secret in it, and its origin, in the table's order.
    pub fn shown(&self) -> impl Iterator<Item = (&'static str, Cow<'_, str>, &Origin)> {
        SETTINGS.iter().filter_map(|setting| {
            let (value, origin) = self.values.get(setting.key)?;
            Some((setting.key, without_secrets(setting.key, value), origin))
        })
    }

    fn text(&self, key: &str) -> &str {
        self.values.get(key).map_or("", |(value, _)| value.trim())
    }

    /// Whether the value is an empty text, as of a shell's variable that is not set.
    pub(super) fn is_blank<T>(&self, setting: Setting<T>) -> bool {
        self.text(setting.info.key).is_empty()
    }

    /// The value as text, unless it is `none`.
    pub fn given<T>(&self, setting: Setting<T>) -> Option<&str> {
        Some(self.text(setting.info.key)).filter(|text| !text.is_empty() && *text != NONE)
    }

    /// The value.
    pub fn get<T>(&self, setting: Setting<T>) -> Result<T, SettingsError> {
        (setting.parse)(self.text(setting.info.key)).map_err(|reason| self.invalid(setting, reason))
    }

    /// The value, unless it is `none`.
    pub fn find<T>(&self, setting: Setting<T>) -> Result<Option<T>, SettingsError> {
        let value = self.given(setting).map(|text| (setting.parse)(text));
        value.transpose().map_err(|reason| self.invalid(setting, reason))
    }

    /// Whether no layer above the built-in one has set this.
    pub fn is_built_in<T>(&self, setting: Setting<T>) -> bool {
        self.values.get(setting.info.key).is_none_or(|(_, origin)| *origin == Origin::BuiltIn)
    }

    pub(super) fn invalid<T>(&self, setting: Setting<T>, reason: impl fmt::Display) -> SettingsError {
        let key = setting.info.key;
        let origin = self.values.get(key).map_or(&Origin::BuiltIn, |(_, origin)| origin);
        SettingsError(format!("{key} = {} ({origin}): {reason}", sanitize(&without_secrets(key, self.text(key)))))
    }
}

/// A value as it may be shown: options of a store without their values, and a URL without user and password.
fn without_secrets<'a>(key: &str, value: &'a str) -> Cow<'a, str> {
    if key == table::STORE_OPTION.info.key && value != NONE {
        let shown = |option: &str| option.split_once('=').map_or("...".to_owned(), |(name, _)| format!("{name}=..."));
        return value.split(',').map(shown).collect::<Vec<_>>().join(",").into();
    }
    let Some((scheme, rest)) = value.split_once("://") else { return Cow::Borrowed(value) };
    let (rest, cut) = rest.find(['?', '#']).map_or((rest, ""), |at| (rest.split_at(at).0, "?..."));
    // A secret may have a slash, so that what follows it looks like a path. Azure writes a container as the user of a host.
    let (hidden, host) = match rest.rsplit_once('@') {
        Some((user, host)) if user.contains(':') => ("...@", host),
        Some(_) | None => ("", rest),
    };
    format!("{scheme}://{hidden}{host}{cut}").into()
}

/// The known name that was probably meant: at most a third of it differs.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near = known.map(|known| (strsim::damerau_levenshtein(known, name), known)).min();
    near.filter(|(distance, known)| *distance <= known.len().div_ceil(3)).map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::without_secrets;

    #[test]
    fn a_value_is_shown_without_what_may_be_secret_in_it() {
        let table = [
            ("store_option", "aws_region=eu,aws_secret_access_key=x=y", "aws_region=...,aws_secret_access_key=..."),
            ("store_option", "name=a,b", "name=...,..."),
            ("store_option", "none", "none"),
            ("out", "s3://key:sec/ret@bucket/p", "s3://...@bucket/p"),
            ("out", "az://c/p?sig=secret", "az://c/p?..."),
            ("out", "abfss://container@account.example/p", "abfss://container@account.example/p"),
            ("base_url", "https://user:secret@example.com?x@y", "https://...@example.com?..."),
            ("out", "/data/a:b@c", "/data/a:b@c"),
        ];
        for (key, value, shown) in table {
            assert_eq!(without_secrets(key, value), shown);
        }
    }
}
