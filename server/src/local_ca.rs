//! The platform's own certificate authority, for a machine without public certificates.
//!
//! Made once below the data folder: `ca.pem` is what clients are told to trust, `ca.key` never leaves it (0600).
//! The server's own certificate is renewed while it serves; what runs with an earlier [`ServerConfig`] gets the
//! new one with the next handshake.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::digest;
use paas_domain::{Clock, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData,
};
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs as crypto};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use serde::{Deserialize, Serialize};

const DAY_S: i64 = 24 * 60 * 60;
/// Ten years: a new authority means that every client has to be told.
const CA_VALID_S: i64 = 3_650 * DAY_S;
/// Below the most that any client accepts.
const LEAF_VALID_S: i64 = 90 * DAY_S;
/// How long before its end a certificate is renewed.
const RENEW_BEFORE_S: i64 = 30 * DAY_S;
/// Every certificate is valid from a day ago: clocks differ.
const BACKDATED_S: i64 = DAY_S;
/// The names that are always in the certificate. OpenSSL and Node take no wildcard right below a top-level
/// name; for them each name under `localhost` has to be given.
const ALWAYS: [&str; 4] = ["localhost", "*.localhost", "127.0.0.1", "::1"];

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum LocalCaError {
    /// A file could not be read or written.
    #[error("{doing} {path}: {source}", path = .path.display())]
    File {
        /// What was being done.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// What came back.
        source: io::Error,
    },
    /// A key or a certificate could not be made or understood.
    #[error("{doing}: {cause}")]
    Certificate {
        /// What was being done.
        doing: &'static str,
        /// What came back.
        cause: String,
    },
}

/// A certificate authority and the one certificate that this server shows.
pub struct LocalCa {
    dir: PathBuf,
    names: Vec<String>,
    clock: Arc<dyn Clock>,
    shown: ArcSwap<Shown>,
}

struct Shown {
    key: Arc<CertifiedKey>,
    not_after: Timestamp,
}

/// The server's certificate as it is stored: one file, so that all parts belong together.
#[derive(Serialize, Deserialize)]
struct Leaf {
    names: Vec<String>,
    not_after: Timestamp,
    certificate_pem: String,
    key_pem: String,
}

impl LocalCa {
    /// The authority in this folder, which is made when there is none, with a certificate for this machine's own
    /// names and `names` (host names, wildcards or addresses).
    ///
    /// # Errors
    /// When a file cannot be read or written, or a name cannot be in a certificate.
    pub fn open(dir: impl Into<PathBuf>, names: &[String], clock: Arc<dyn Clock>) -> Result<Arc<Self>, LocalCaError> {
        let dir = dir.into();
        let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(&dir);
        made.map_err(|source| LocalCaError::File { doing: "making the folder", path: dir.clone(), source })?;
        let mut all: Vec<String> = ALWAYS.map(str::to_owned).to_vec();
        for name in names {
            if !all.contains(name) {
                all.push(name.clone());
            }
        }
        let authority = Authority::open(&dir, clock.now())?;
        let leaf = match read(&dir.join("leaf.json"))? {
            Some(text) => serde_json::from_str::<Leaf>(&text).ok(),
            None => None,
        };
        let fits = |leaf: &Leaf| !authority.new && leaf.names == all && !is_due(leaf.not_after, clock.now());
        let shown = match leaf.filter(fits).map(|leaf| leaf.shown()) {
            Some(Ok(shown)) => shown,
            _ => authority.issue(&dir, &all, clock.now())?,
        };
        Ok(Arc::new(Self { dir, names: all, clock, shown: ArcSwap::from_pointee(shown) }))
    }

    /// The certificate that clients have to trust, as PEM.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// TLS 1.2 and 1.3 without client certificates. The same certificate is shown whatever name is asked for,
    /// and also when none is: `heroku run` names none.
    ///
    /// # Errors
    /// When the TLS library has no use for its own defaults.
    pub fn server_config(self: &Arc<Self>) -> Result<ServerConfig, LocalCaError> {
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| certificate("setting up TLS", &error))?
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        Ok(config)
    }

    /// The same for a listener that speaks HTTP/1.1.
    ///
    /// # Errors
    /// As [`Self::server_config`].
    pub fn https_config(self: &Arc<Self>) -> Result<ServerConfig, LocalCaError> {
        let mut config = self.server_config()?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    /// Makes a new certificate when the present one ends within thirty days; whether it did. Blocks for a moment.
    ///
    /// # Errors
    /// When a file cannot be read or written; the present certificate stays.
    pub fn renew_if_due(&self) -> Result<bool, LocalCaError> {
        if !is_due(self.shown.load().not_after, self.clock.now()) {
            return Ok(false);
        }
        let authority = Authority::open(&self.dir, self.clock.now())?;
        self.shown.store(Arc::new(authority.issue(&self.dir, &self.names, self.clock.now())?));
        Ok(true)
    }

    /// Keeps the certificate fresh for as long as it is polled.
    pub async fn keep_fresh(self: Arc<Self>) {
        loop {
            match self.renew_if_due() {
                Ok(true) => tracing::info!("the local certificate was renewed"),
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "the local certificate could not be renewed"),
            }
            tokio::time::sleep(Duration::from_secs(60 * 60)).await;
        }
    }
}

impl std::fmt::Debug for LocalCa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalCa").field("dir", &self.dir).field("names", &self.names).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for LocalCa {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.shown.load().key.clone())
    }
}

/// The authority's key, while it is needed.
struct Authority {
    key: KeyPair,
    /// Whether clients trusted another one until now.
    new: bool,
}

impl Authority {
    fn open(dir: &Path, now: Timestamp) -> Result<Self, LocalCaError> {
        let (key_path, pem_path) = (dir.join("ca.key"), dir.join("ca.pem"));
        let stored = read(&key_path)?;
        let new = stored.is_none();
        let key = match stored {
            Some(pem) => KeyPair::from_pem(&pem).map_err(|error| certificate("reading the authority's key", &error))?,
            None => {
                let key = KeyPair::generate().map_err(|error| certificate("making the authority's key", &error))?;
                write(&key_path, &key.serialize_pem(), 0o600)?;
                key
            }
        };
        // Made from the key alone, so a crash between the two files costs nothing.
        if new || !pem_path.exists() {
            let mut params = ca_params(&key);
            set_validity(&mut params, now.plus_s(-BACKDATED_S), now.plus_s(CA_VALID_S));
            let ca = params.self_signed(&key).map_err(|error| certificate("making the authority", &error))?;
            write(&pem_path, &ca.pem(), 0o644)?;
        }
        Ok(Self { key, new })
    }

    fn issue(&self, dir: &Path, names: &[String], now: Timestamp) -> Result<Shown, LocalCaError> {
        let failed = |error: &rcgen::Error| certificate("making the server's certificate", error);
        let key = KeyPair::generate().map_err(|error| failed(&error))?;
        let mut params = CertificateParams::new(names).map_err(|error| failed(&error))?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "paas");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let not_after = now.plus_s(LEAF_VALID_S);
        set_validity(&mut params, now.plus_s(-BACKDATED_S), not_after);
        let issuer = Issuer::new(ca_params(&self.key), &self.key);
        let signed = params.signed_by(&key, &issuer).map_err(|error| failed(&error))?;
        let leaf =
            Leaf { names: names.to_vec(), not_after, certificate_pem: signed.pem(), key_pem: key.serialize_pem() };
        let text = serde_json::to_string(&leaf).map_err(|error| certificate("storing the certificate", &error))?;
        write(&dir.join("leaf.json"), &text, 0o600)?;
        leaf.shown()
    }
}

impl Leaf {
    fn shown(&self) -> Result<Shown, LocalCaError> {
        let failed = |error: &dyn std::fmt::Display| certificate("reading the server's certificate", error);
        let chain = vec![CertificateDer::from_pem_slice(self.certificate_pem.as_bytes()).map_err(|e| failed(&e))?];
        let key = PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).map_err(|e| failed(&e))?;
        let key = CertifiedKey::from_der(chain, key, &provider()).map_err(|e| failed(&e))?;
        Ok(Shown { key: Arc::new(key), not_after: self.not_after })
    }
}

/// All of the authority but its dates. Its name carries a piece of its key: a machine may have several.
fn ca_params(key: &KeyPair) -> CertificateParams {
    let hash = digest::digest(&digest::SHA256, key.der_bytes());
    let short = data_encoding::HEXLOWER.encode(&hash.as_ref()[..4]);
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("paas local authority {short}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(crypto::default_provider())
}

fn is_due(not_after: Timestamp, now: Timestamp) -> bool {
    now.plus_s(RENEW_BEFORE_S) >= not_after
}

/// Whole days: that is all rcgen lets us name.
fn set_validity(params: &mut CertificateParams, from: Timestamp, to: Timestamp) {
    let [from, to] = [from, to].map(|at| {
        let at = jiff::Timestamp::from_millisecond(at.0).unwrap_or_default().to_zoned(jiff::tz::TimeZone::UTC);
        rcgen::date_time_ymd(at.year().into(), at.month().unsigned_abs(), at.day().unsigned_abs())
    });
    (params.not_before, params.not_after) = (from, to);
}

fn certificate(doing: &'static str, cause: &dyn std::fmt::Display) -> LocalCaError {
    LocalCaError::Certificate { doing, cause: cause.to_string() }
}

/// `None` when there is no such file.
fn read(path: &Path) -> Result<Option<String>, LocalCaError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(LocalCaError::File { doing: "reading", path: path.to_owned(), source }),
    }
}

/// The whole file or none of it, never readable by more than `mode` says.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), LocalCaError> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let written = tempfile::NamedTempFile::new_in(dir).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.as_file().set_permissions(fs::Permissions::from_mode(mode))?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        fs::File::open(dir)?.sync_all()
    });
    written.map_err(|source| LocalCaError::File { doing: "writing", path: path.to_owned(), source })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use paas_domain::{ManualClock, SystemClock};
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier;
    use rustls::pki_types::{ServerName, UnixTime};
    use rustls::{ClientConfig, RootCertStore};

    /// What a client that trusts this authority and nothing else uses.
    pub(crate) fn client_config(ca: &LocalCa) -> Arc<ClientConfig> {
        let config = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        Arc::new(config.expect("defaults").with_root_certificates(roots(ca)).with_no_client_auth())
    }

    fn roots(ca: &LocalCa) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(ca.ca_file()).expect("a certificate")).expect("an authority");
        roots
    }

    fn accepted(ca: &LocalCa, name: &str, now: Timestamp) -> bool {
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots(ca)), provider()).build();
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let now = UnixTime::since_unix_epoch(Duration::from_millis(now.0.unsigned_abs()));
        let shown = ca.shown.load();
        verifier.expect("a verifier").verify_server_cert(&shown.key.cert[0], &[], &name, &[], now).is_ok()
    }

    #[test]
    fn its_names_are_accepted_and_no_others() {
        let dir = tempfile::tempdir().expect("a folder");
        let names = ["api.localhost".to_owned(), "paas.example.com".to_owned()];
        let ca = LocalCa::open(dir.path(), &names, Arc::new(SystemClock)).expect("open");
        let now = SystemClock.now();
        for name in ["localhost", "127.0.0.1", "::1", "api.localhost", "paas.example.com"] {
            assert!(accepted(&ca, name, now), "{name}");
        }
        for name in ["example.com", "x.paas.example.com", "10.0.0.1"] {
            assert!(!accepted(&ca, name, now), "{name}");
        }
        assert!(LocalCa::open(dir.path(), &["bücher.example".to_owned()], Arc::new(SystemClock)).is_err());
    }

    #[test]
    fn keys_are_for_the_owner_alone() {
        let dir = tempfile::tempdir().expect("a folder");
        LocalCa::open(dir.path(), &[], Arc::new(SystemClock)).expect("open");
        let mode = |file: &str| fs::metadata(dir.path().join(file)).expect("a file").permissions().mode() & 0o777;
        assert_eq!([mode("ca.key"), mode("leaf.json"), mode("ca.pem")], [0o600, 0o600, 0o644]);
    }

    #[test]
    fn everything_is_made_once_and_renewed_in_time() {
        let dir = tempfile::tempdir().expect("a folder");
        let clock = Arc::new(ManualClock::new(SystemClock.now()));
        let open = |names: &[String]| LocalCa::open(dir.path(), names, clock.clone()).expect("open");
        let shown = |ca: &LocalCa| ca.shown.load().key.cert[0].clone();
        let (ca, again) = (open(&[]), open(&[]));
        assert_eq!(shown(&ca), shown(&again));
        let authority = fs::read(ca.ca_file()).expect("ca.pem");

        clock.advance_ms((LEAF_VALID_S - RENEW_BEFORE_S - 60) * 1_000);
        assert!(!ca.renew_if_due().expect("renew"));
        clock.advance_ms(120_000);
        assert!(ca.renew_if_due().expect("renew"));
        assert_ne!(shown(&ca), shown(&again));
        clock.advance_ms(40 * DAY_S * 1_000);
        assert!(accepted(&ca, "localhost", clock.now()) && !accepted(&again, "localhost", clock.now()));
        assert_eq!(shown(&open(&[])), shown(&ca), "the renewed one is stored");
        assert!(accepted(&open(&["new.localhost".to_owned()]), "new.localhost", clock.now()));

        fs::remove_file(ca.ca_file()).expect("lost");
        assert!(accepted(&open(&[]), "localhost", clock.now()), "the authority is its key");
        fs::write(dir.path().join("leaf.json"), "{").expect("damaged");
        assert!(accepted(&open(&[]), "localhost", clock.now()));
        assert!(!authority.is_empty());
    }
}
