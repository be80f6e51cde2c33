//! Why there is no whole answer: the transport's errors, sorted by what they mean for the request.
//!
//! What is certain here is free: a connection that was never made carried no request. Everything after it may have been
//! billed. The texts name host and port, and never the rest of the address or the key.

use std::error::Error as StdError;
use std::io;

use rustls::CertificateError;

use crate::fetch::classify::TransportError;
use crate::model::clock::{Utc64, wall};

/// What a proxy's refusal is called by the connector, whose type for it is not public.
const PROXY_REFUSED: &str = "tunnel error: proxy authorization required";
/// How its other errors begin.
const TUNNEL: &str = "tunnel error";

/// There is no whole answer. The text holds neither the address nor the key.
#[derive(Debug, thiserror::Error)]
#[error("{}", match lost {
    TransportError::Unsent => "not sent",
    TransportError::Connect => "no connection to the API",
    TransportError::Tls => "the API's identity could not be verified",
    TransportError::Proxy => "the proxy that the environment names refused the credentials in its address",
    TransportError::Transport => "the connection broke",
    TransportError::Timeout => "no whole answer in time",
    TransportError::Unreadable => "the answer is no HTTP that can be read",
    TransportError::TooLarge => "the answer is larger than 8 MiB",
    TransportError::Redirect => "the answer is a redirect, which is never followed",
})]
pub struct FetchError {
    /// What kind of loss it is.
    pub lost: TransportError,
    /// What the transport said.
    #[source]
    pub source: Option<Box<dyn StdError + Send + Sync>>,
}

impl FetchError {
    /// A loss without more to say.
    pub fn bare(lost: TransportError) -> Self {
        Self { lost, source: None }
    }

    /// A loss, with the reason for it.
    pub(super) fn because(lost: TransportError, reason: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { lost, source: Some(reason.into()) }
    }

    /// What the transport said about a request to `host`.
    pub(super) fn of(error: reqwest::Error, host: &str) -> Self {
        let error = error.without_url();
        let lost = sort(&error);
        let host = host.to_owned();
        match lost {
            TransportError::Connect | TransportError::Proxy => {
                let tunnel = causes(&error).any(|cause| cause.to_string().starts_with(TUNNEL));
                Self::because(lost, Unreached { host, by: if tunnel { " through the proxy" } else { "" }, error })
            }
            TransportError::Tls => match tls(&error) {
                Some(cause) => Self::because(lost, Unverified { host, cause: message(cause) }),
                None => Self::because(lost, error),
            },
            TransportError::Unsent
            | TransportError::Transport
            | TransportError::Timeout
            | TransportError::Unreadable
            | TransportError::TooLarge
            | TransportError::Redirect => Self::because(lost, error),
        }
    }
}

/// No connection was made.
#[derive(Debug, thiserror::Error)]
#[error("{host}{by}")]
struct Unreached {
    host: String,
    by: &'static str,
    #[source]
    error: reqwest::Error,
}

/// A connection was made, to somebody.
#[derive(Debug, thiserror::Error)]
#[error("{host}: {cause}")]
struct Unverified {
    host: String,
    cause: String,
}

fn sort(error: &reqwest::Error) -> TransportError {
    if error.is_connect() {
        return match tls(error) {
            Some(cause) if is_about_identity(cause) => TransportError::Tls,
            _ if causes(error).any(|cause| cause.to_string() == PROXY_REFUSED) => TransportError::Proxy,
            _ => TransportError::Connect,
        };
    }
    if error.is_timeout() {
        TransportError::Timeout
    } else if tls(error).is_none() && causes(error).any(is_unreadable) {
        TransportError::Unreadable
    } else {
        TransportError::Transport
    }
}

/// An error and its causes. What an [`io::Error`] carries is no cause by its own account, only that one's cause is.
fn causes<'e>(error: &'e (dyn StdError + 'static)) -> impl Iterator<Item = &'e (dyn StdError + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = match error.downcast_ref().and_then(io::Error::get_ref) {
            Some(carried) => Some(carried),
            None => error.source(),
        };
        Some(error)
    })
}

/// Whether bytes came that are no HTTP: a head that is too large or malformed, or a body whose chunks are. Bytes that are
/// missing are another thing, and the connection's fault.
fn is_unreadable(cause: &(dyn StdError + 'static)) -> bool {
    let head = cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse);
    let body = cause.downcast_ref::<io::Error>().map(io::Error::kind);
    head || matches!(body, Some(io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData))
}

/// Whether it is the server's certificate, its name, or a kind of TLS that proves nothing: no second try finds another one. An
/// alert or bytes that are no TLS may come from a server that is being restarted.
fn is_about_identity(cause: &rustls::Error) -> bool {
    use rustls::Error::{InvalidCertificate, NoCertificatesPresented, PeerIncompatible, UnsupportedNameType};
    matches!(cause, InvalidCertificate(_) | NoCertificatesPresented | PeerIncompatible(_) | UnsupportedNameType)
}

/// What TLS said, if it is among the causes.
fn tls<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e rustls::Error> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// The same in plain words where the time is the trouble: then this machine's clock may be what is wrong.
fn message(cause: &rustls::Error) -> String {
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
