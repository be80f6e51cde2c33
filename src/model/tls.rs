//! The TLS provider of the process: ring, for the API's client and for those of buckets.

/// Makes ring the provider that reqwest's rustls uses. Harmless when repeated: a second installation fails because there is one.
pub(crate) fn use_ring() {
    drop(rustls::crypto::ring::default_provider().install_default());
}

#[cfg(test)]
mod tests {
    #[test]
    fn ring_is_the_provider_also_where_other_features_bring_another_one() {
        super::use_ring();
        let provider = rustls::crypto::CryptoProvider::get_default().unwrap();
        assert_eq!(format!("{:?}", provider.key_provider), "Ring");
    }
}
