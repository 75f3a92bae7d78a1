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
