//! Whom we trust: Mozilla's authorities, and those of `PAAS_CA` and `SSL_CERT_FILE`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::error::Failure;
use crate::settings::Settings;

/// Where distributions keep the authorities that the machine's owner trusts.
const SYSTEM_BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The one provider of cryptography.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// The authorities to trust besides Mozilla's; empty when none were named.
fn named(settings: &Settings) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let system = std::env::var_os("SSL_CERT_FILE").filter(|f| !f.is_empty()).map(PathBuf::from);
    let mut found = Vec::new();
    if let Some(file) = &settings.ca {
        found.append(
            &mut read(file).map_err(|e| Failure::usage(format!("PAAS_CA: couldn't read {}: {e}", file.display())))?,
        );
    }
    // What the system names may be wrong without us having a say; then Mozilla's list has to do.
    if let Some(file) = system {
        found.append(&mut read(&file).unwrap_or_default());
    }
    Ok(found)
}

fn read(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Vec<_> = CertificateDer::pem_file_iter(file)
        .and_then(|all| all.collect::<Result<Vec<_>, _>>())
        .map_err(|e| e.to_string())?;
    if certificates.is_empty() { Err("it holds no certificate".to_owned()) } else { Ok(certificates) }
}

/// For HTTPS. ureq takes either Mozilla's list or certificates, so named ones come with the system's bundle.
pub(crate) fn for_https(settings: &Settings) -> Result<ureq::tls::TlsConfig, Failure> {
    let builder = ureq::tls::TlsConfig::builder().unversioned_rustls_crypto_provider(provider());
    let mut named = named(settings)?;
    if named.is_empty() {
        return Ok(builder.build());
    }
    named.append(&mut read(Path::new(SYSTEM_BUNDLE)).unwrap_or_default());
    let roots = ureq::tls::RootCerts::from(named.iter().map(|der| ureq::tls::Certificate::from_der(der).to_owned()));
    Ok(builder.root_certs(roots).build())
}

/// For a rendezvous.
pub(crate) fn for_rendezvous(settings: &Settings) -> Result<Arc<ClientConfig>, Failure> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    roots.add_parsable_certificates(named(settings)?);
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| Failure::new(format!("preparing TLS: {e}")))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
