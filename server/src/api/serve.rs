//! The listener: connections, limits on heads and silence, and the end.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use crate::tls_or_plain::TlsOrPlain;

/// The largest head of a request. The CLI's own come to about 8 KB.
const MAX_HEAD: usize = 64 * 1024;
const MAX_HEADERS: usize = 200;
/// How long a client may take for a head.
const HEAD_WITHIN: Duration = Duration::from_secs(30);
/// How long requests under way may take once the server stops.
const DRAIN: Duration = Duration::from_secs(10);
/// Connections at the same time; more wait to be taken.
const MAX_CONNECTIONS: usize = 4_000;

/// Serves HTTP/1.1 until `stop` says so; then takes no more connections and gives those that work ten seconds.
/// With `tls`, each connection is told apart by its first byte.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    tls: Option<Arc<ServerConfig>>,
    mut stop: watch::Receiver<bool>,
) {
    let graceful = GracefulShutdown::new();
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { break };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, most likely; asking again at once would only burn.
                tracing::warn!(%error, "a connection was not taken");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let (router, tls, watcher) = (router.clone(), tls.clone(), graceful.watcher());
        tokio::spawn(async move {
            let _slot = slot;
            let stream = match tls {
                Some(tls) => TlsOrPlain::accept(stream, tls).await,
                None => Ok(TlsOrPlain::Plain(stream)),
            };
            // What is no handshake and no request is nobody's to answer.
            let Ok(stream) = stream else { return };
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN);
            http.max_buf_size(MAX_HEAD).max_headers(MAX_HEADERS);
            // Clients that are told a request's fate early go on sending for a moment.
            http.half_close(false);
            let served = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
            if let Err(error) = watcher.watch(served).await {
                tracing::debug!(%error, "a connection ended");
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
        tracing::info!("requests that were still under way are dropped");
    }
}
