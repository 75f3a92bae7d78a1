//! One port for TLS and for plain text, told apart by the first byte.
//!
//! The `heroku` CLI always writes `https://` remotes, also when it talks to the API without TLS.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How long a client may take for its first byte, and then for the handshake.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// The first byte of every TLS connection: a handshake record.
const TLS_HANDSHAKE: u8 = 0x16;

/// A connection, however it came.
#[derive(Debug)]
pub enum TlsOrPlain {
    /// Encrypted.
    Tls(Box<TlsStream<TcpStream>>),
    /// As it is.
    Plain(TcpStream),
}

impl TlsOrPlain {
    /// Waits for the first byte and makes the handshake when it begins one.
    ///
    /// # Errors
    /// When the client sends nothing for ten seconds, leaves, or the handshake fails or takes ten seconds.
    pub async fn accept(stream: TcpStream, tls: Arc<ServerConfig>) -> io::Result<Self> {
        let mut first = [0];
        match timeout(HANDSHAKE_WITHIN, stream.peek(&mut first)).await?? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ if first[0] == TLS_HANDSHAKE => {
                let stream = timeout(HANDSHAKE_WITHIN, TlsAcceptor::from(tls).accept(stream)).await??;
                Ok(Self::Tls(Box::new(stream)))
            }
            _ => Ok(Self::Plain(stream)),
        }
    }

    /// Whether it is encrypted.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }
}

macro_rules! either {
    ($this:ident, $stream:ident => $call:expr) => {
        match $this.get_mut() {
            Self::Tls($stream) => {
                let $stream = Pin::new($stream.as_mut());
                $call
            }
            Self::Plain($stream) => {
                let $stream = Pin::new($stream);
                $call
            }
        }
    };
}

impl AsyncRead for TlsOrPlain {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for TlsOrPlain {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        either!(self, stream => stream.poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_shutdown(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, stream => stream.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tls(stream) => stream.is_write_vectored(),
            Self::Plain(stream) => stream.is_write_vectored(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local_ca::{LocalCa, tests::client_config};
    use paas_domain::SystemClock;
    use rustls::pki_types::ServerName;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsConnector;

    #[tokio::test]
    async fn one_port_takes_both() {
        let dir = tempfile::tempdir().expect("a folder");
        let ca = LocalCa::open(dir.path(), &[], Arc::new(SystemClock)).expect("open");
        let tls = Arc::new(ca.https_config().expect("config"));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        let server = tokio::spawn(async move {
            let mut kinds = Vec::new();
            for _ in 0..2 {
                let mut stream = TlsOrPlain::accept(listener.accept().await.expect("accept").0, tls.clone())
                    .await
                    .expect("first byte");
                kinds.push(stream.is_tls());
                let mut asked = [0; 4];
                stream.read_exact(&mut asked).await.expect("read");
                stream.write_all(&asked).await.expect("write");
                stream.shutdown().await.expect("shutdown");
            }
            kinds
        });
        let mut said = String::new();
        let mut plain = TcpStream::connect(address).await.expect("connect");
        plain.write_all(b"GET ").await.expect("write");
        plain.read_to_string(&mut said).await.expect("read");
        let tcp = TcpStream::connect(address).await.expect("connect");
        let name = ServerName::try_from("localhost").expect("a name");
        let mut tls = TlsConnector::from(client_config(&ca)).connect(name, tcp).await.expect("handshake");
        tls.write_all(b"PUT ").await.expect("write");
        tls.read_to_string(&mut said).await.expect("read");
        assert_eq!(said, "GET PUT ");
        assert_eq!(server.await.expect("server"), [false, true]);
    }
}
