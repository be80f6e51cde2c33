//! What can go wrong with a bucket, and what to do about it.

use object_store::Error;

use crate::model::sanitize::chain;
use crate::state::disk::DiskError;
use crate::state::ledger::LedgerError;

/// Codes that say that the credentials are of no use (any more), although the status does not.
const EXPIRED: [&str; 3] = ["ExpiredToken", "TokenRefreshRequired", "InvalidToken"];
/// Codes that say that the bucket is not there, or in another region.
const ELSEWHERE: [&str; 6] = [
    "NoSuchBucket",
    "ContainerNotFound",
    "PermanentRedirect",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraint",
    "incorrectly configured region",
];

#[derive(Debug, thiserror::Error)]
pub enum BucketError {
    /// The settings name no client. The text continues the name of the setting.
    #[error("out {reason}")]
    Location { reason: String },
    /// A request failed, after its retries.
    #[error("cannot {action} {url}: {}", reason(error))]
    Request {
        action: &'static str,
        /// The object or prefix, without credentials.
        url: String,
        error: Box<Error>,
    },
    /// Neither the environment nor the options have credentials that a request could be signed with.
    #[error("there are no usable credentials for {url}: {}", reason(error))]
    NoCredentials { url: String, error: Box<Error> },
    /// The store does not do what pagehaul needs.
    #[error("{url} cannot be used: {reason}")]
    Unfit { url: String, reason: &'static str },
    /// An object that pagehaul would have written is larger than any that it writes.
    #[error("{url} has {bytes} bytes: it is not what pagehaul wrote")]
    TooLarge { url: String, bytes: u64 },
    /// Another content has the name of a file that is to be uploaded.
    #[error("{url} is there already, with another content than the staged file's")]
    Taken { url: String },
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error("cannot read the staged file {path}")]
    Staged {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot copy {url} to a temporary file")]
    Copy {
        url: String,
        #[source]
        source: std::io::Error,
    },
    #[error("a task of the program failed")]
    Panic(#[from] tokio::task::JoinError),
}

/// Why a store did not do what it was asked for, as far as the next step depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BucketFailure {
    /// Credentials are missing, wrong, expired, or do not allow it.
    Credentials,
    /// There is no such bucket, or it is in another region.
    Bucket,
    /// It has not what pagehaul needs.
    Unfit,
    /// Anything else: the network, the store, the local disk.
    Other,
}

impl BucketError {
    pub(crate) fn failure(&self) -> BucketFailure {
        match self {
            Self::NoCredentials { .. } => BucketFailure::Credentials,
            Self::Location { .. } | Self::Unfit { .. } => BucketFailure::Unfit,
            Self::Request { error, .. } => failure(error),
            Self::TooLarge { .. }
            | Self::Taken { .. }
            | Self::Ledger(_)
            | Self::Disk(_)
            | Self::Staged { .. }
            | Self::Copy { .. }
            | Self::Panic(_) => BucketFailure::Other,
        }
    }

    /// What to do about it; none if the exit code says it as well.
    pub(crate) fn next_step(&self) -> Option<&'static str> {
        match self.failure() {
            BucketFailure::Credentials => Some(
                "check the store's credentials (for S3 AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN), what they allow, and this machine's clock; then run the same command again",
            ),
            BucketFailure::Bucket => Some(
                "check the bucket's name, its region (AWS_REGION or --store-option aws_region=...) and --endpoint-url",
            ),
            BucketFailure::Unfit if matches!(self, Self::Location { .. }) => {
                Some("correct the URL, the option or the variable; no request was sent to the API")
            }
            BucketFailure::Unfit => Some("take another --out; no request was sent to the API"),
            BucketFailure::Other if matches!(self, Self::Request { .. }) => Some(
                "check the network and --endpoint-url, then run the same command again: it resumes where this one stopped",
            ),
            BucketFailure::Other => None,
        }
    }

    /// Of the first requests: a bucket that is not there, or elsewhere, is a wrong setting.
    pub(crate) fn at_the_start(self) -> Self {
        let Self::Request { url, .. } = &self else { return self };
        if self.failure() == BucketFailure::Bucket {
            let reason = format!("cannot be used: {url} is in no bucket that is there, or in another region");
            return Self::Location { reason };
        }
        self
    }
}

/// What a client says about a request, without what it says about itself: the status, and code and message of the response's XML.
fn reason(error: &Error) -> String {
    let text = chain(error);
    let text = text.split_once(" - ").map_or(&*text, |(_, reason)| reason);
    let (Some((status, _)), Some(code)) = (text.split_once(": <"), element(text, "Code")) else {
        return text.to_owned();
    };
    let message = element(text, "Message").map_or(String::new(), |message| format!(": {message}"));
    format!("{status}: {code}{message}")
}

fn failure(error: &Error) -> BucketFailure {
    let text = chain(error);
    // The code, where there is one: a message may have any word.
    let said = element(&text, "Code").unwrap_or(&text);
    let has = |codes: &[&str]| codes.iter().any(|code| said.contains(code));
    let is_refusal = matches!(error, Error::Unauthenticated { .. } | Error::PermissionDenied { .. });
    match (is_refusal || has(&EXPIRED), has(&ELSEWHERE)) {
        (true, _) => BucketFailure::Credentials,
        (false, true) => BucketFailure::Bucket,
        (false, false) => BucketFailure::Other,
    }
}

/// The content of an XML element.
fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    Some(rest.split_once('<')?.0)
}

/// Whether a store has no such operation.
pub(super) fn is_not_implemented(error: &Error) -> bool {
    let text = chain(error);
    matches!(error, Error::NotImplemented { .. } | Error::NotSupported { .. })
        || ["code: 501", "code: 405", "NotImplemented", "MethodNotAllowed"].iter().any(|code| text.contains(code))
}

#[cfg(test)]
mod tests {
    use super::{BucketError, BucketFailure};
    use object_store::Error;

    #[test]
    fn a_failed_request_says_what_the_store_said_and_what_that_means() {
        let xml =
            |code: &str| format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>Why.</Message></Error>");
        let error = |status: &str, code: &str| Error::Generic {
            store: "S3",
            source: format!("Error performing GET http://x/y in 2ms, after 1 retries - {status}: {}", xml(code)).into(),
        };
        let denied = Error::PermissionDenied { path: "p".to_owned(), source: "x - 403 Forbidden: no".into() };
        let table = [
            (error("404 Not Found", "NoSuchBucket"), BucketFailure::Bucket, "404 Not Found: NoSuchBucket: Why."),
            (error("301 Moved", "PermanentRedirect"), BucketFailure::Bucket, "301 Moved: PermanentRedirect: Why."),
            (
                error("400 Bad Request", "ExpiredToken"),
                BucketFailure::Credentials,
                "400 Bad Request: ExpiredToken: Why.",
            ),
            (
                error("500 No InvalidToken", "InternalError"),
                BucketFailure::Other,
                "500 No InvalidToken: InternalError: Why.",
            ),
            (error("503 Slow", "SlowDown"), BucketFailure::Other, "503 Slow: SlowDown: Why."),
            (denied, BucketFailure::Credentials, "403 Forbidden: no"),
        ];
        for (error, failure, reason) in table {
            let error = BucketError::Request { action: "read", url: "s3://b/p".to_owned(), error: Box::new(error) };
            assert_eq!(error.failure(), failure, "{error}");
            assert_eq!(error.to_string(), format!("cannot read s3://b/p: {reason}"));
            assert!(error.next_step().is_some());
        }
    }
}
