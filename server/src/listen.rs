//! The API's port: TLS and plain HTTP/1.1 by the first byte, with limits, and a graceful end.

use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::tls_or_plain::TlsOrPlain;

/// The most bytes of one request's head. The heroku CLI sends request ids of up to 7 KB.
const MAX_HEAD: usize = 64 * 1024;
/// How long a client may take for a request's head.
const HEAD_WITHIN: Duration = Duration::from_secs(30);
/// How long requests under way may take after the server was told to stop.
const DRAIN: Duration = Duration::from_secs(10);
/// Connections at the same time; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 4096;

/// Serves `app` until `stop` says so, then finishes what is under way.
pub async fn serve(listener: TcpListener, tls: Arc<ServerConfig>, app: axum::Router, mut stop: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.changed() => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, as a rule: others end soon.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (tls, app, stop) = (Arc::clone(&tls), app.clone(), stop.clone());
        connections.spawn(async move {
            let _ = stream.set_nodelay(true);
            connection(stream, tls, app, stop).await;
            drop(slot);
        });
        while connections.try_join_next().is_some() {}
    }
    // Whoever comes now is told at once that nobody listens.
    drop(listener);
    let drained = tokio::time::timeout(DRAIN, async { while connections.join_next().await.is_some() {} });
    if drained.await.is_err() {
        connections.shutdown().await;
    }
}

async fn connection(
    stream: tokio::net::TcpStream,
    tls: Arc<ServerConfig>,
    app: axum::Router,
    mut stop: watch::Receiver<bool>,
) {
    let Ok(stream) = TlsOrPlain::accept(stream, tls).await else { return };
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN).max_buf_size(MAX_HEAD);
    let service = TowerToHyperService::new(app);
    let serving = http.serve_connection(TokioIo::new(stream), service).with_upgrades();
    tokio::pin!(serving);
    tokio::select! {
        ended = serving.as_mut() => log_end(ended),
        _ = stop.changed() => {
            serving.as_mut().graceful_shutdown();
            log_end(serving.await);
        }
    }
}

fn log_end(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use paas_domain::SystemClock;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;
    use tokio::sync::Notify;
    use tokio::task::JoinHandle;

    use super::*;
    use crate::local_ca::LocalCa;

    /// A server whose requests are answered once `answer` says so.
    struct Slow {
        address: SocketAddr,
        begun: Arc<Notify>,
        answer: Arc<Notify>,
        stop: watch::Sender<bool>,
        ends: JoinHandle<()>,
    }

    impl Slow {
        async fn start() -> Self {
            let dir = tempfile::tempdir().expect("a folder");
            let ca = LocalCa::open(dir.path(), &[], Arc::new(SystemClock)).expect("a CA");
            let tls = Arc::new(ca.https_config().expect("a config"));
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let address = listener.local_addr().expect("an address");
            let (begun, answer) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
            let (begins, answers) = (Arc::clone(&begun), Arc::clone(&answer));
            let slow = axum::routing::get(async move || {
                begins.notify_one();
                answers.notified().await;
                "at last"
            });
            let (stop, stopped) = watch::channel(false);
            let ends = tokio::spawn(serve(listener, tls, axum::Router::new().route("/", slow), stopped));
            Self { address, begun, answer, stop, ends }
        }

        /// A request that is under way.
        async fn ask(&self) -> TcpStream {
            let mut client = TcpStream::connect(self.address).await.expect("connected");
            client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("sent");
            self.begun.notified().await;
            client
        }
    }

    async fn answer(mut client: TcpStream) -> String {
        let mut answer = Vec::new();
        let _ = client.read_to_end(&mut answer).await;
        String::from_utf8(answer).expect("text")
    }

    #[tokio::test]
    async fn a_request_under_way_is_answered_after_the_stop_and_no_other_is_taken() {
        let slow = Slow::start().await;
        let client = slow.ask().await;
        slow.stop.send_replace(true);
        while TcpStream::connect(slow.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        slow.answer.notify_one();
        let answer = answer(client).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("at last"), "{answer}");
        slow.ends.await.expect("it ends");
    }

    #[tokio::test]
    async fn a_request_that_does_not_end_has_ten_seconds() {
        let slow = Slow::start().await;
        let client = slow.ask().await;
        tokio::time::pause();
        let since = tokio::time::Instant::now();
        slow.stop.send_replace(true);
        slow.ends.await.expect("it ends");
        let took = since.elapsed();
        assert!(took >= DRAIN && took < DRAIN * 2 && DRAIN == Duration::from_secs(10), "{took:?}");
        assert_eq!(answer(client).await, "");
    }
}
