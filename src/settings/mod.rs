//! Every setting: its name, type and parser ([`table`]), its layers (flag, environment, file, built-in value), and its value.
//!
//! May use `endpoint` and `model`. Values are text in [`Layers`]; [`Settings::resolve`] parses those of a run, `cli` those of its
//! list and its API key. Flags that are no settings (`--json`, `--config`) are in `cli`.
//! Read first: [`Settings`]. To add a setting: [`table`], `config/default.toml`, [`Settings`], and the list in `cli/replay.rs`.

mod deadline;
mod explanation;
mod layers;
mod location;
pub(crate) mod parse;
mod rate_limit;
mod resolve;
mod retry_policy;
mod since;
mod snapshot;
pub mod table;

pub use explanation::explanation;
pub use layers::{DEFAULTS, Layers, Origin, PREFIX, SettingsError, nearest};
pub(crate) use location::BucketKind;
pub use location::{BucketUrl, OutputLocation, StoreClient, StoreOptions};
pub use rate_limit::RateLimit;
pub use resolve::{
    CODES, DESCRIPTION, DROPPED, FROM_FILE, JournalRetention, Progress, Settings, TableFormat, endpoint,
};
pub(crate) use resolve::{is_loopback, written_columns};
pub use retry_policy::RetryPolicy;
pub use since::{Since, SincePlace};
pub use snapshot::SnapshotLabel;
pub(crate) use snapshot::{ExportPaths, SNAPSHOT};
pub use table::{SETTINGS, Setting, SettingInfo};
