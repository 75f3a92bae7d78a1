//! Where `heroku run` meets its dyno: a TLS port that speaks Heroku's rendezvous protocol.
//!
//! A client shows a token, hears `rendezvous`, and from then on exchanges raw bytes with one dyno. This file owns
//! the meeting; starting the dyno, and giving it up when nobody comes within [`ATTACH_WITHIN`], is the core's.
//! At most one client ever meets a dyno, and strangers learn nothing.

mod exit_marker;
mod relay;
mod token;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use paas_domain::DynoId;
use paas_ports::{Duplex, PortError, Runtime};
use rustix::net::sockopt;
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use self::relay::{Ended, relay};
pub use self::token::AttachToken;

/// How long a dyno waits for its client, and a client for its dyno.
pub const ATTACH_WITHIN: Duration = Duration::from_secs(60);
/// What the log says when a dyno and its client did not meet.
pub const ATTACH_ERROR: &str = "Error R13 (Attach error) -> Failed to attach to process";
/// What the log says when a dyno goes on although its client is gone.
pub const DETACHED: &str =
    "Error R16 (Detached) -> An attached process is not responding to SIGHUP after its external connection was closed.";

/// How long a stranger may take for the handshake, and then for the token.
const STRANGER_WITHIN: Duration = Duration::from_secs(10);
/// How many strangers are listened to at a time.
const STRANGERS: usize = 256;
/// Clients throw away the first chunk they receive: nothing may follow the greeting closely.
const AFTER_GREETING: Duration = Duration::from_millis(100);
/// How often a dyno is asked for that is not there yet.
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// How long a dyno has to end by the SIGHUP after its client left, until the log says that it did not and SIGTERM follows.
const DETACHED_AFTER: Duration = Duration::from_secs(10);
/// How long a dyno has to end when it has closed its output and its client is gone.
const AFTER_LAST_WORDS: Duration = Duration::from_secs(1);
/// How long the client's last bytes are waited for, so that closing does not cut off what it has not yet read.
const LINGER: Duration = Duration::from_secs(2);

/// The dyno behind a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachTarget {
    /// Which.
    pub dyno: DynoId,
    /// Whether it has a terminal. Without one, 0x04 at the end of the client's input ends its stdin.
    pub tty: bool,
}

/// What the core knows of tokens.
#[async_trait]
pub trait AttachLookup: Send + Sync + 'static {
    /// The dyno that waits for this token (its SHA-256), which is used up by this call. `None` when there is none,
    /// it was used before, or its time is over.
    async fn claim(&self, token_hash: [u8; 32]) -> Option<AttachTarget>;

    /// Whether the dyno is over, so that nobody need wait for it: it could not be started, or it was stopped before.
    async fn has_ended(&self, dyno: &DynoId) -> bool;

    /// The client came, but its dyno did not: [`ATTACH_ERROR`] belongs into the app's log. The dyno is stopped
    /// already. Not called for one that cannot start: why not is what the log says then.
    async fn failed(&self, dyno: &DynoId);

    /// The client left and the dyno did not end within ten seconds: [`DETACHED`] belongs into the app's log. The
    /// dyno is stopped next.
    async fn detached(&self, dyno: &DynoId);
}

/// The meeting place.
pub struct Rendezvous {
    runtime: Arc<dyn Runtime>,
    lookup: Arc<dyn AttachLookup>,
}

impl Rendezvous {
    /// A meeting place for this runtime's dynos.
    #[must_use]
    pub fn new(runtime: Arc<dyn Runtime>, lookup: Arc<dyn AttachLookup>) -> Self {
        Self { runtime, lookup }
    }

    /// Takes clients until it is dropped, which ends their connections and leaves their dynos alone.
    pub async fn serve(self, listener: TcpListener, tls: Arc<ServerConfig>) {
        let place = Arc::new(self);
        let acceptor = TlsAcceptor::from(tls);
        let strangers = Arc::new(Semaphore::new(STRANGERS));
        let mut meetings = JoinSet::new();
        loop {
            while meetings.try_join_next().is_some() {}
            let Ok(permit) = strangers.clone().acquire_owned().await else { return };
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of file descriptors, most likely: accepting again at once would only burn the processor.
                    tracing::warn!(%error, "a rendezvous client could not be accepted");
                    sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let (place, acceptor) = (place.clone(), acceptor.clone());
            meetings.spawn(paas_ports::outside::task(async move {
                let Some((client, target, first)) = place.recognise(stream, &acceptor).await else { return };
                drop(permit);
                place.meet(client, target, first).await;
            }));
        }
    }

    /// The client, its dyno and its first bytes; `None` for whoever has no token.
    async fn recognise(
        &self,
        stream: TcpStream,
        acceptor: &TlsAcceptor,
    ) -> Option<(TlsStream<TcpStream>, AttachTarget, Vec<u8>)> {
        if let Err(error) = set_up(&stream) {
            tracing::debug!(%error, "a rendezvous connection could not be set up");
        }
        let mut client = timeout(STRANGER_WITHIN, acceptor.accept(stream)).await.ok()?.ok()?;
        if let Some((token, first)) = timeout(STRANGER_WITHIN, token::read(&mut client)).await.ok()?.ok()?
            && let Some(target) = self.lookup.claim(token::hash(&token)).await
        {
            return Some((client, target, first));
        }
        let _ = timeout(LINGER, client.shutdown()).await;
        None
    }

    async fn meet(&self, mut client: TlsStream<TcpStream>, target: AttachTarget, first: Vec<u8>) {
        let AttachTarget { dyno: id, tty } = target;
        let greeting = async {
            client.write_all(b"rendezvous\r\n").await?;
            client.flush().await?;
            sleep(AFTER_GREETING).await;
            io::Result::Ok(())
        };
        let (greeted, attached) = tokio::join!(greeting, self.attach(&id));
        let mut dyno = match attached {
            Ok(dyno) => dyno,
            Err(error) => {
                tracing::warn!(dyno = %id, %error, "a client could not be attached to its dyno");
                self.stop(&id).await;
                // Why a dyno never ran its driver has told the log; to attach was not what went wrong.
                let cause = if let PortError::Permanent { .. } = error {
                    error.to_string()
                } else {
                    self.lookup.failed(&id).await;
                    ATTACH_ERROR.to_owned()
                };
                let _ = turn_away(&mut client, &cause).await;
                return close(&mut client).await;
            }
        };
        let ended = match greeted {
            Ok(()) => relay(&mut client, &mut dyno, first, tty).await,
            Err(_) => Ended::Client,
        };
        if ended == Ended::Client {
            if let Err(error) = self.runtime.hang_up(&id).await {
                tracing::warn!(dyno = %id, %error, "a dyno without its client could not be told so");
            }
            // A dyno that nobody reads from could block on its last words. What a client that only closed its
            // half would still read of them, it gets.
            let rest = async {
                if tokio::io::copy(&mut dyno, &mut client).await.is_err() {
                    let _ = tokio::io::copy(&mut dyno, &mut tokio::io::sink()).await;
                }
            };
            match timeout(DETACHED_AFTER, rest).await {
                // Nearly always it is about to end by itself.
                Ok(()) => sleep(AFTER_LAST_WORDS).await,
                Err(_) => self.lookup.detached(&id).await,
            }
            self.stop(&id).await;
        }
        close(&mut client).await;
    }

    /// Attaches as soon as the dyno is there.
    async fn attach(&self, id: &DynoId) -> Result<Duplex, PortError> {
        let until = Instant::now() + ATTACH_WITHIN;
        loop {
            match self.runtime.attach(id).await {
                Err(error) if !may_come(&error) || Instant::now() >= until => return Err(error),
                Err(PortError::NotFound(_)) if self.lookup.has_ended(id).await => {
                    return Err(PortError::permanent(
                        "attaching to the dyno",
                        "it has ended already; its log says why",
                    ));
                }
                Err(_) => sleep(ASK_AGAIN).await,
                attached => return attached,
            }
        }
    }

    async fn stop(&self, id: &DynoId) {
        for _ in 0..3 {
            match self.runtime.stop(id).await {
                Ok(()) => return,
                Err(error) => tracing::warn!(dyno = %id, %error, "a dyno without its client could not be stopped"),
            }
            sleep(Duration::from_secs(1)).await;
        }
    }
}

fn may_come(error: &PortError) -> bool {
    error.is_transient() || matches!(error, PortError::NotFound(_))
}

/// Tells a client why there is nothing to attach to, and an exit status that is no success. Two records: clients look
/// for the status at the beginning of one.
async fn turn_away(client: &mut TlsStream<TcpStream>, cause: &str) -> io::Result<()> {
    let cause = cause.replace(char::is_control, " ");
    client.write_all(format!(" !    {cause}\n").as_bytes()).await?;
    client.flush().await?;
    client.write_all(&exit_marker::line(1)).await?;
    client.flush().await
}

/// Keystrokes go out at once; a peer that is gone without a word is noticed within two minutes.
fn set_up(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, Duration::from_secs(60))?;
    sockopt::set_tcp_keepintvl(stream, Duration::from_secs(15))?;
    sockopt::set_tcp_keepcnt(stream, 4)?;
    Ok(())
}

/// Says goodbye. Closing while the client still sends would take back what it has not read.
async fn close(client: &mut TlsStream<TcpStream>) {
    let goodbye = async {
        client.shutdown().await?;
        let mut rest = [0; 1_024];
        while client.read(&mut rest).await? > 0 {}
        io::Result::Ok(())
    };
    let _ = timeout(LINGER, goodbye).await;
}

#[cfg(test)]
mod tests;
