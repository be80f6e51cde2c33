//! Why there is no whole response: the transport's errors, sorted by what they mean for the request.
//!
//! A request is free only where it is certain that it was not sent: no connection was made. Everything later may have been
//! billed. The messages name host and port, and never the rest of the address or the key.

use std::error::Error as StdError;
use std::io;

use rustls::CertificateError;

use crate::model::clock::{Utc64, wall};

/// The connector's message when a proxy refuses the credentials; its error type is not public.
const PROXY_REFUSED: &str = "tunnel error: proxy authorization required";
/// The prefix of the connector's other messages about a proxy.
const TUNNEL: &str = "tunnel error";

/// What went wrong with a request, as far as it matters for its charge and for the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchErrorKind {
    /// The request was never sent: the run stopped, or paused, before its turn.
    Unsent,
    /// No connection was made: the name, the route, a refusal, or a timeout.
    Connect,
    Tls,
    Proxy,
    /// The connection broke after the request was sent.
    Disconnected,
    Timeout,
    /// The response is not valid HTTP: a head too large or malformed, invalid chunks, two lengths.
    Malformed,
    /// The body is larger than [`BODY_CAP`](super::BODY_CAP).
    TooLarge,
    Redirect,
}

/// There is no whole response. The message contains neither the address nor the key.
#[derive(Debug, thiserror::Error)]
#[error("{}", match kind {
    FetchErrorKind::Unsent => "not sent",
    FetchErrorKind::Connect => "cannot connect to the API",
    FetchErrorKind::Tls => "cannot verify the API's identity",
    FetchErrorKind::Proxy => "the proxy from the environment refused the credentials in its address",
    FetchErrorKind::Disconnected => "the connection broke",
    FetchErrorKind::Timeout => "no whole response in time",
    FetchErrorKind::Malformed => "the response is not valid HTTP",
    FetchErrorKind::TooLarge => "the response is larger than 8 MiB",
    FetchErrorKind::Redirect => "the response is a redirect, which is never followed",
})]
pub struct FetchError {
    pub kind: FetchErrorKind,
    #[source]
    pub source: Option<Box<dyn StdError + Send + Sync>>,
}

impl FetchError {
    pub fn new(kind: FetchErrorKind) -> Self {
        Self { kind, source: None }
    }

    pub(super) fn with_source(kind: FetchErrorKind, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { kind, source: Some(source.into()) }
    }

    /// The error of a request to `host`.
    pub(super) fn from_reqwest(error: reqwest::Error, host: &str) -> Self {
        let error = error.without_url();
        let kind = kind(&error);
        match (kind, tls(&error)) {
            (FetchErrorKind::Connect | FetchErrorKind::Proxy, _) => {
                let tunnel = causes(&error).any(|cause| cause.to_string().starts_with(TUNNEL));
                let by = if tunnel { " through the proxy" } else { "" };
                Self::with_source(kind, Unreached { host: host.to_owned(), by, error })
            }
            (FetchErrorKind::Tls, Some(cause)) => Self::with_source(kind, format!("{host}: {}", tls_message(cause))),
            _ => Self::with_source(kind, error),
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{host}{by}")]
struct Unreached {
    host: String,
    by: &'static str,
    #[source]
    error: reqwest::Error,
}

fn kind(error: &reqwest::Error) -> FetchErrorKind {
    if error.is_connect() {
        return match tls(error) {
            Some(cause) if is_about_identity(cause) => FetchErrorKind::Tls,
            _ if causes(error).any(|cause| cause.to_string() == PROXY_REFUSED) => FetchErrorKind::Proxy,
            _ => FetchErrorKind::Connect,
        };
    }
    if error.is_timeout() {
        FetchErrorKind::Timeout
    } else if tls(error).is_none() && causes(error).any(is_malformed) {
        FetchErrorKind::Malformed
    } else {
        FetchErrorKind::Disconnected
    }
}

/// An error and its causes. An [`io::Error`] does not report the error that it wraps as its source, only that one's source.
fn causes<'e>(error: &'e (dyn StdError + 'static)) -> impl Iterator<Item = &'e (dyn StdError + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = match error.downcast_ref().and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
        Some(error)
    })
}

/// Whether bytes came that are not valid HTTP: a head that is too large or malformed, or a body with invalid chunks. Missing
/// bytes are another matter: they are the connection's fault.
fn is_malformed(cause: &(dyn StdError + 'static)) -> bool {
    let head = cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse);
    let body = cause.downcast_ref::<io::Error>().map(io::Error::kind);
    head || matches!(body, Some(io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData))
}

/// Whether the server's certificate, its name, or its kind of TLS is wrong: another try finds the same. An alert, or bytes that
/// are not TLS, may come from a server that is restarting.
fn is_about_identity(cause: &rustls::Error) -> bool {
    use rustls::Error::{InvalidCertificate, NoCertificatesPresented, PeerIncompatible, UnsupportedNameType};
    matches!(cause, InvalidCertificate(_) | NoCertificatesPresented | PeerIncompatible(_) | UnsupportedNameType)
}

fn tls<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e rustls::Error> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// The error in plain words where a certificate's dates are wrong: the clock of this machine may be the cause.
fn tls_message(cause: &rustls::Error) -> String {
    let at = |time: rustls::pki_types::UnixTime| {
        Utc64(i64::try_from(time.as_secs()).unwrap_or(i64::MAX).saturating_mul(1_000_000))
    };
    if let rustls::Error::InvalidCertificate(cause) = cause {
        if let CertificateError::ExpiredContext { not_after, .. } = cause {
            return format!("its certificate expired at {}; this machine's clock says {}", at(*not_after), wall());
        }
        if let CertificateError::NotValidYetContext { not_before, .. } = cause {
            return format!("its certificate is valid from {}; this machine's clock says {}", at(*not_before), wall());
        }
    }
    cause.to_string()
}
