//! The TLS provider of the process: ring, for the API's client and for those of buckets.

/// Makes ring the provider that reqwest's rustls uses. Harmless when repeated: a second installation fails because there is one.
pub(crate) fn use_ring() {
    drop(rustls::crypto::ring::default_provider().install_default());
}
