//! A bucket's client, from its URL, the environment and the user's options.

use std::ffi::OsStr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::{ClientConfigKey, Error, RetryConfig};
use url::Url;

use super::{Bucket, BucketError};
use crate::model::sanitize::{Sanitized, chain};
use crate::model::tls;
use crate::settings::{BucketKind, BucketUrl, StoreClient, StoreOptions, is_loopback};

/// How long a client tries.
struct Limits {
    /// Of one request, as the client's configuration writes it.
    timeout: &'static str,
    retry_timeout: Duration,
    max_retries: usize,
}

/// Variables that clients of stores read.
const PREFIXES: [&str; 3] = ["AWS_", "AZURE_", "GOOGLE_"];
/// A request is signed once, and S3 refuses a signature that is older than 15 minutes.
const IN_A_RUN: Limits = Limits { timeout: "60s", retry_timeout: Duration::from_secs(180), max_retries: 10 };
/// Before the first paid request a wrong address or missing credentials must show soon.
const AT_THE_START: Limits = Limits { timeout: "5s", retry_timeout: Duration::from_secs(5), max_retries: 1 };

impl Bucket {
    /// A bucket's client, without a request.
    pub(crate) fn open(bucket: &BucketUrl, with: &StoreOptions) -> Result<Self, BucketError> {
        let client = match &with.client {
            Some(client) => client.clone(),
            None => connect(bucket, with, &IN_A_RUN)?.client,
        };
        Ok(Self::new(client, bucket.prefix.clone(), bucket.url.to_string()))
    }

    /// The same for the first requests, which fail soon. Finds out whether there are credentials.
    pub(crate) async fn open_first(bucket: &BucketUrl, with: &StoreOptions) -> Result<Self, BucketError> {
        if with.client.is_some() {
            return Self::open(bucket, with);
        }
        let connected = connect(bucket, with, &AT_THE_START)?;
        let url = bucket.url.to_string();
        if let Err(error) = connected.has_credentials.await {
            return Err(BucketError::NoCredentials { url, error: Box::new(error) });
        }
        Ok(Self::new(connected.client, bucket.prefix.clone(), url))
    }
}

struct Connected {
    client: StoreClient,
    /// Without credentials of its own a client asks its cloud's metadata service.
    has_credentials: BoxFuture<'static, Result<(), Error>>,
}

/// Configures and builds a client. `$address`: the key of another store's address than the cloud's.
macro_rules! connect {
    ($builder:ident, $key:ident::$address:ident, $bucket:expr, $with:expr, $limits:expr) => {{
        let retry = RetryConfig {
            max_retries: $limits.max_retries,
            retry_timeout: $limits.retry_timeout,
            ..RetryConfig::default()
        };
        let mut builder = $builder::from_env().with_url($bucket.url.as_str()).with_retry(retry);
        builder = builder.with_config($key::Client(ClientConfigKey::Timeout), $limits.timeout);
        if let Some(endpoint) = &$with.endpoint_url {
            builder = builder.with_config($key::$address, endpoint.as_str().trim_end_matches('/'));
        }
        for (name, value) in &$with.options {
            builder = builder.with_config(name.parse::<$key>().map_err(|_| unknown(name))?, value);
        }
        let allows = builder.get_config_value(&$key::Client(ClientConfigKey::AllowHttp));
        if let Some(address) = builder.get_config_value(&$key::$address)
            && is_plain(&address, allows.as_deref() == Some("true"))?
        {
            builder = builder.with_config($key::Client(ClientConfigKey::AllowHttp), "true");
        }
        let is_signed = builder.get_config_value(&$key::SkipSignature).as_deref() != Some("true");
        let store = builder.build().map_err(|error| unusable(&error))?;
        let credentials = Arc::clone(store.credentials());
        let has_credentials =
            async move { if is_signed { credentials.get_credential().await.map(drop) } else { Ok(()) } };
        Ok(Connected { client: StoreClient::new(store), has_credentials: has_credentials.boxed() })
    }};
}

fn connect(bucket: &BucketUrl, with: &StoreOptions, limits: &Limits) -> Result<Connected, BucketError> {
    tls::use_ring();
    let variables = std::env::vars_os().map(|(name, value)| (lossy(&name), lossy(&value)));
    let variables = variables.filter(|(name, _)| PREFIXES.iter().any(|prefix| name.starts_with(prefix)));
    for (name, value) in variables.chain(with.options.iter().cloned()) {
        // They become headers, which take no line break. A file that was read with one is the usual cause.
        if value.chars().any(char::is_control) {
            let reason =
                format!("cannot be used: the value of {} has a line break or control character", Sanitized(&name));
            return Err(BucketError::Location { reason });
        }
    }
    // A client repeats the values that it does not understand.
    build(bucket, with, limits).map_err(|error| {
        let BucketError::Location { reason } = error else { return error };
        BucketError::Location { reason: without_values(reason, with) }
    })
}

fn lossy(text: &OsStr) -> String {
    text.to_string_lossy().into_owned()
}

fn without_values(text: String, with: &StoreOptions) -> String {
    let secrets = with.options.iter().filter(|(_, value)| value.len() > 1);
    secrets.fold(text, |text, (_, value)| text.replace(value.as_str(), "..."))
}

fn build(bucket: &BucketUrl, with: &StoreOptions, limits: &Limits) -> Result<Connected, BucketError> {
    match bucket.kind {
        BucketKind::S3 => connect!(AmazonS3Builder, AmazonS3ConfigKey::Endpoint, bucket, with, limits),
        BucketKind::Gcs => connect!(GoogleCloudStorageBuilder, GoogleConfigKey::BaseUrl, bucket, with, limits),
        BucketKind::Azure => connect!(MicrosoftAzureBuilder, AzureConfigKey::Endpoint, bucket, with, limits),
    }
}

/// Whether an address is one of plain HTTP. To another machine it takes the client's own option.
fn is_plain(address: &str, is_allowed: bool) -> Result<bool, BucketError> {
    let Ok(url) = Url::parse(address) else {
        return Err(BucketError::Location { reason: "cannot be used: the store's address is not a URL".to_owned() });
    };
    if url.scheme() == "http" && !is_allowed && !is_loopback(&url) {
        let reason = format!(
            "cannot be used: the store's address {} is plain http on another machine; use https, or give --store-option allow_http=true",
            Sanitized(url.host_str().unwrap_or_default())
        );
        return Err(BucketError::Location { reason });
    }
    Ok(url.scheme() == "http")
}

fn unusable(error: &Error) -> BucketError {
    BucketError::Location { reason: format!("cannot be used: {}", chain(error)) }
}

fn unknown(name: &str) -> BucketError {
    let reason =
        format!("has no option {}: see the configuration keys in object_store's documentation", Sanitized(name));
    BucketError::Location { reason }
}

#[cfg(test)]
mod tests {
    use super::Bucket;
    use crate::model::sanitize::chain;
    use crate::settings::{OutputLocation, StoreOptions};

    #[test]
    fn an_option_that_a_store_does_not_have_is_named_and_its_value_is_not() {
        let Ok(OutputLocation::Bucket(bucket)) = OutputLocation::parse("s3://b/p") else { unreachable!("a bucket") };
        let with = |name: &str| StoreOptions {
            options: vec![(name.to_owned(), "canary".to_owned())],
            ..StoreOptions::default()
        };
        let error = chain(&Bucket::open(&bucket, &with("aws_secret_acess_key")).unwrap_err());
        assert!(error.contains("aws_secret_acess_key") && !error.contains("canary"), "{error}");
        let with = with("aws_secret_access_key");
        assert!(!format!("{with:?} {:?}", Bucket::open(&bucket, &with)).contains("canary"));
    }

    #[test]
    fn plain_http_reaches_this_machine_and_others_only_where_that_is_allowed() {
        let Ok(OutputLocation::Bucket(bucket)) = OutputLocation::parse("s3://b/p") else { unreachable!("a bucket") };
        let open = |address: &str, options: &[(&str, &str)]| {
            let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let endpoint_url = Some(address.parse().unwrap());
            Bucket::open(&bucket, &StoreOptions { options, endpoint_url, client: None }).map(drop)
        };
        open("http://127.0.0.1:9000", &[]).unwrap();
        open("https://minio.example", &[]).unwrap();
        open("http://minio.example", &[("allow_http", "true")]).unwrap();
        let error = chain(&open("http://minio.example", &[]).unwrap_err());
        assert!(error.contains("plain http on another machine") && error.contains("allow_http=true"), "{error}");
    }
}
