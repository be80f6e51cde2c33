//! One request out, one classified response back, at the permitted rate.
//!
//! May use `decode` (the envelope), `settings`, `endpoint` and `model`. No retry happens here, and nothing here knows of lists,
//! the ledger or files: what a response proves about an item is for `crawl` to say.
//! Read first: [`Fetch`], then [`dispatcher::Dispatcher`] and [`classify::classify`].

pub mod cause;
mod charset;
pub mod classify;
mod compressed;
pub mod dispatcher;
mod http;
pub mod rate_limit;
mod transport_error;

pub use http::{
    BODY_CAP, BODY_POOL, ClientError, Fetch, HEAD_CAP, HEADERS, HttpApi, HttpSettings, Media, RawAnswer, authority,
    retry_after,
};
pub use transport_error::FetchError;
