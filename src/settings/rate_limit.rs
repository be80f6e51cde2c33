//! The rate limit of an API key, as the settings give it.

/// What is known of an API key's rate limit before the first request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RateLimit {
    /// This many requests a second, never more.
    PerSecond(f64),
    /// To be discovered; the value is what an earlier run found, requests a second.
    Auto(Option<f64>),
    /// None, until the server refuses a request.
    Unlimited,
}

impl RateLimit {
    /// Requests a second, where the settings give a number.
    pub fn per_second(self) -> Option<f64> {
        match self {
            Self::PerSecond(rate) => Some(rate),
            Self::Auto(_) | Self::Unlimited => None,
        }
    }
}

impl From<Option<f64>> for RateLimit {
    fn from(rate: Option<f64>) -> Self {
        rate.map_or(Self::Unlimited, Self::PerSecond)
    }
}
