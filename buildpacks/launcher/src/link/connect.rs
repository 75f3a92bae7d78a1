//! A TLS connection to the hub.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

use paas_link_frames::{FromDyno, FromHub, Hello, MAX_FRAME, take};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::Settings;

/// How long each address may take to answer.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// How long each step of the greeting may take.
const GREETING_WITHIN: Duration = Duration::from_secs(12);

/// A connection that said hello and was answered.
pub(crate) struct Connection {
    pub(crate) tcp: TcpStream,
    pub(crate) tls: ClientConnection,
    /// What came and was not looked at.
    pub(crate) inbox: Vec<u8>,
}

/// What to trust: these certificates and no others.
///
/// # Errors
/// When there is none.
pub(crate) fn trusting(pem: &str) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()).flatten() {
        let _ = roots.add(certificate);
    }
    if roots.is_empty() {
        return Err("the link has no certificate to trust".to_owned());
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|e| format!("the link has no TLS: {e}"))?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

/// Connects (and says so: a busy hub takes its time from here on), says hello, and answers with what the hub says.
///
/// # Errors
/// When it cannot be reached, is not who it should be, or does not answer in time.
pub(crate) fn greet(
    settings: &Settings,
    tls: &Arc<ClientConfig>,
    reached: impl FnOnce(),
    hello: impl FnOnce() -> Hello,
) -> io::Result<(Connection, FromHub)> {
    let name = ServerName::try_from(settings.host().to_owned()).map_err(io::Error::other)?;
    let mut tcp = reach(&settings.address)?;
    reached();
    tcp.set_nodelay(true)?;
    tcp.set_read_timeout(Some(GREETING_WITHIN))?;
    tcp.set_write_timeout(Some(GREETING_WITHIN))?;
    let mut tls = ClientConnection::new(Arc::clone(tls), name).map_err(io::Error::other)?;
    while tls.is_handshaking() {
        tls.complete_io(&mut tcp)?;
    }
    let mut out = Vec::new();
    FromDyno::Hello(hello()).put(&mut out);
    tls.writer().write_all(&out)?;
    while tls.wants_write() {
        tls.write_tls(&mut tcp)?;
    }
    let mut inbox = Vec::new();
    loop {
        if let Some((kind, fields)) = take(&mut inbox, MAX_FRAME).map_err(io::Error::other)? {
            let answer = FromHub::read(kind, &fields).map_err(io::Error::other)?;
            tcp.set_nonblocking(true)?;
            return Ok((Connection { tcp, tls, inbox }, answer));
        }
        if tls.read_tls(&mut tcp)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        plain(&mut tls, &mut inbox)?;
    }
}

/// Puts what can be read by now behind what is in `inbox`.
pub(crate) fn plain(tls: &mut ClientConnection, inbox: &mut Vec<u8>) -> io::Result<()> {
    let state = tls.process_new_packets().map_err(io::Error::other)?;
    let count = state.plaintext_bytes_to_read();
    let at = inbox.len();
    inbox.resize(at + count, 0);
    tls.reader().read_exact(&mut inbox[at..])
}

fn reach(address: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in address.to_socket_addrs()?.take(4) {
        match TcpStream::connect_timeout(&address, CONNECT_WITHIN) {
            Ok(tcp) => return Ok(tcp),
            Err(error) => last = error,
        }
    }
    Err(last)
}
