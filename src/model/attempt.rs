//! How attempts end, for whoever counts them.

/// How an attempt ended. A small, fixed set: the names are labels of metrics and words in a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AttemptResult {
    Page,
    /// 429, or a code that means the same.
    Throttled,
    /// A 5xx, 408 or 425, or a code that means the same.
    ServerError,
    /// A timeout, or a connection that broke before the whole response was there.
    NoResponse,
    /// No connection was made.
    NoConnection,
    /// A response that is neither a page nor a refusal.
    Unusable,
    /// The page or its list was refused.
    Refused,
    /// The key, the account or the whole request was refused.
    Denied,
}

impl AttemptResult {
    pub const ALL: [Self; 8] = [
        Self::Page,
        Self::Throttled,
        Self::ServerError,
        Self::NoResponse,
        Self::NoConnection,
        Self::Unusable,
        Self::Refused,
        Self::Denied,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::Throttled => "throttled",
            Self::ServerError => "server_error",
            Self::NoResponse => "no_response",
            Self::NoConnection => "no_connection",
            Self::Unusable => "unusable",
            Self::Refused => "refused",
            Self::Denied => "denied",
        }
    }
}
