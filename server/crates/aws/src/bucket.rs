//! The installation's bucket as an object store: below a prefix of its own, with the credentials of every other call.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};
use object_store::aws::{AmazonS3Builder, AwsCredential};
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, ClientOptions, CredentialProvider, ObjectStore, RetryConfig};
use paas_ports::PortError;
use tokio::sync::Mutex;

use crate::Aws;

/// Credentials are asked for anew when they have less than this to live.
const RESERVE: Duration = Duration::from_secs(300);
/// A request carries up to 8 MB, other calls a few KB: it has so many times their time, is tried so many times as
/// often, and after pauses that begin that much shorter. With the default options that is about what the crate has.
const THAN_CALLS: u32 = 3;

/// The foundation's bucket, below `<installation>/`. Calls nothing.
///
/// # Errors
/// When there are no credentials, or the bucket's name is none.
pub fn bucket(aws: &Aws) -> Result<Arc<dyn ObjectStore>, PortError> {
    let doing = "opening the bucket";
    let provider = aws.config.credentials_provider();
    let provider = provider.ok_or_else(|| PortError::permanent(doing, "there are no AWS credentials"))?;
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&aws.foundation.bucket)
        .with_region(&aws.foundation.region)
        .with_client_options(ClientOptions::new().with_timeout(aws.options.try_timeout * THAN_CALLS))
        .with_retry(RetryConfig {
            backoff: BackoffConfig { init_backoff: aws.options.backoff / THAN_CALLS, ..BackoffConfig::default() },
            max_retries: aws.options.tries.saturating_mul(THAN_CALLS) as usize,
            ..RetryConfig::default()
        })
        .with_credentials(Arc::new(FromSdk { provider, held: Mutex::default() }));
    builder = match aws.config.endpoint_url() {
        // Buckets have no host names of their own there.
        Some(endpoint) => {
            let plain = endpoint.starts_with("http://");
            builder.with_endpoint(endpoint).with_allow_http(plain).with_virtual_hosted_style_request(false)
        }
        None => builder.with_virtual_hosted_style_request(true),
    };
    if let Some(key) = &aws.foundation.kms_key_arn {
        builder = builder.with_sse_kms_encryption(key);
    }
    let store = builder.build().map_err(|e| PortError::permanent(doing, e))?;
    Ok(Arc::new(PrefixStore::new(store, aws.install.as_str())))
}

/// Whether an error of an object store is a refusal, which stays one until somebody changes a policy. A refused list is
/// told as any other error; only its words have the status.
#[must_use]
pub fn is_refused(error: &object_store::Error) -> bool {
    use object_store::Error::{Generic, PermissionDenied, Unauthenticated};
    match error {
        PermissionDenied { .. } | Unauthenticated { .. } => true,
        Generic { source, .. } => source.to_string().contains("status code: 403"),
        _ => false,
    }
}

/// The SDK's credentials, kept until shortly before they end.
#[derive(Debug)]
struct FromSdk {
    provider: SharedCredentialsProvider,
    held: Mutex<Option<Credentials>>,
}

#[async_trait]
impl CredentialProvider for FromSdk {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let mut held = self.held.lock().await;
        let lives = |held: &Credentials| held.expiry().is_none_or(|until| until > SystemTime::now() + RESERVE);
        let credentials = match held.as_ref().filter(|held| lives(held)) {
            Some(credentials) => credentials.clone(),
            None => {
                let new = self.provider.provide_credentials().await;
                let new = new.map_err(|e| object_store::Error::Generic { store: "S3", source: Box::new(e) })?;
                held.insert(new).clone()
            }
        };
        Ok(Arc::new(AwsCredential {
            key_id: credentials.access_key_id().to_owned(),
            secret_key: credentials.secret_access_key().to_owned(),
            token: credentials.session_token().map(str::to_owned),
        }))
    }
}
