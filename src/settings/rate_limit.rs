//! The rate limit of an API key before the first request.

/// The rate limit of an API key, as the settings give it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RateLimit {
    /// Requests per second.
    PerSecond(f64),
    /// To be discovered. The value is what an earlier run found, requests per second.
    Auto(Option<f64>),
    /// No limit until the server refuses a request.
    Unlimited,
}

impl RateLimit {
    /// The number of requests per second, if the settings give one.
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
