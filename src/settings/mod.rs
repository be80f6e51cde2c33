//! Every setting: its name, its layers (flag, environment, file, built-in value), and what it means once it is checked.
//!
//! May use `endpoint` and `model`. Values are text in [`Layers`] until [`Settings::resolve`] turns them all into types, once.
//! Read first: [`Settings`]; to add a setting: [`SETTINGS`] in `table.rs`.

mod layers;
mod rate_limit;
mod resolve;
mod retry_policy;
mod table;

pub use layers::{DEFAULTS, Layers, Origin, PREFIX, SettingsError, nearest};
pub use rate_limit::RateLimit;
pub use resolve::{CODES, DESCRIPTION, FROM_FILE, Progress, Settings, endpoint};
pub use retry_policy::RetryPolicy;
pub use table::{SETTINGS, Setting};
