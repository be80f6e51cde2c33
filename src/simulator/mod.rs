//! The list API, embedded: the documented call over real HTTP, at any size, deterministic from a seed.
//!
//! May use `settings`, `endpoint` and `model`. No column is named here: all come from the endpoint's description.
//! Read first: [`Simulator`].

mod account;
mod answer;
mod api;
mod fake;
mod limit;
mod list;
mod row;
mod server;
mod settings;
mod words;

pub use account::{Account, Billed};
pub use answer::{ApiRequest, ApiResponse};
pub use api::{Simulator, SimulatorError};
pub use fake::PatternError;
pub use limit::Limit;
pub use server::{Server, serve, start};
pub use settings::{HELP, LimitSpec, SimulatorSettings, SimulatorSettingsError, Window};
