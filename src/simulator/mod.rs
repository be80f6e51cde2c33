//! A simulator of the list API: the described call over real HTTP, at any size, deterministic from a seed.
//!
//! May use `settings`, `endpoint` and `model`. Must not name a column: all come from the endpoint's description.
//! Read first: [`Simulator`].

mod account;
mod api;
mod fake;
mod limit;
mod list;
mod request;
mod row;
mod server;
mod settings;
mod words;

pub use account::{Account, Billed};
pub use api::Simulator;
pub use limit::Limit;
pub use request::{ApiRequest, ApiResponse};
pub use server::{Server, serve, start};
pub use settings::{LimitSpec, SimulatorSettings, Window, settings_help};

/// Settings of the simulator or a column's `fake` pattern that cannot be used. The text is the whole message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SimulatorError(String);
