//! One request out, one classified response back, at the permitted rate.
//!
//! May use `decode` (the envelope), `settings`, `endpoint` and `model`. No retry happens here, and nothing here knows of lists,
//! the ledger or files: what a response proves about an item is for `crawl` to decide.
//! Read first: [`Fetch`], then [`dispatcher::Dispatcher`] and [`classify::classify`].

mod caps;
mod charset;
pub mod classify;
mod compressed;
pub mod dispatcher;
mod error;
pub(crate) mod explain;
mod http;
mod port;
pub mod rate_limit;

pub use caps::{BODY_CAP, BODY_POOL, HEAD_CAP, HEADERS};
pub use error::{FetchError, FetchErrorKind};
pub(crate) use http::authority;
pub use http::{ClientError, HttpApi, HttpSettings, retry_after};
pub use port::{ContentHeaders, Fetch, RawResponse};
