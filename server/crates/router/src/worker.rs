//! One thread of the data plane: an event loop of its own, its connections, its memory.
//!
//! Workers share the table, the counts and nothing else. A connection stays with the worker that got it, and so do
//! the connections to dynos that it opens: no request wakes a second thread.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::buf::Buf;
use crate::connection;
use crate::dyno_connection::Keeper;
use crate::head::request::Request;
use crate::log::{Lines, LogShare};
use crate::options::Limits;
use crate::table::Table;

/// What all workers and the control side share.
pub(crate) struct Shared {
    pub(crate) table: Arc<Table>,
    pub(crate) limits: Limits,
    pub(crate) log: LogShare,
    stopping: AtomicBool,
    /// Becomes false when the router stops; then its listeners are closed.
    accepting: watch::Sender<bool>,
    started: Instant,
    /// Clients connected to each worker.
    connections: Box<[AtomicUsize]>,
    max_connections: usize,
}

impl Shared {
    pub(crate) fn new(table: Arc<Table>, limits: Limits, workers: usize, max_connections: usize) -> Self {
        Self {
            table,
            log: LogShare::new(limits.log_lines),
            limits,
            stopping: AtomicBool::new(false),
            accepting: watch::Sender::new(true),
            started: Instant::now(),
            connections: (0..workers).map(|_| AtomicUsize::new(0)).collect(),
            max_connections,
        }
    }

    /// Closes the listeners; connections that are there end with their next answer.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.accepting.send_replace(false);
    }

    /// The worker with the fewest clients.
    fn idlest(&self) -> (usize, usize) {
        let counts = self.connections.iter().map(|n| n.load(Ordering::Relaxed)).enumerate();
        counts.min_by_key(|(_, n)| *n).unwrap_or((0, 0))
    }
}

/// A client that was accepted by another worker.
pub(crate) struct HandedOver {
    stream: std::net::TcpStream,
    peer: SocketAddr,
    port: u16,
}

pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) keeper: Keeper,
    pub(crate) lines: Lines,
    index: usize,
    /// Requests that are being served.
    pub(crate) in_flight: AtomicUsize,
    #[allow(clippy::vec_box)] // taken and given back for each request: a pointer moves, not half a kilobyte
    scratch: Mutex<Vec<Box<Scratch>>>,
    ids: Mutex<Ids>,
    dice: AtomicU64,
}

/// The memory that serves one request at a time; connections without a request have none.
pub(crate) struct Scratch {
    pub(crate) from_client: Buf,
    pub(crate) from_dyno: Buf,
    pub(crate) to_client: Vec<u8>,
    pub(crate) to_dyno: Vec<u8>,
    pub(crate) request: Request,
}

/// Scratches kept by a worker; more go back to the allocator.
const KEPT_SCRATCHES: usize = 64;
/// Scratches that grew beyond this are not kept.
const MAX_KEPT_BYTES: usize = 256 * 1024;

/// Random bytes, fetched a page at a time.
struct Ids {
    bytes: Box<[u8; 4096]>,
    used: usize,
}

impl Worker {
    pub(crate) fn new(index: usize, shared: Arc<Shared>, kept_total: Arc<AtomicUsize>) -> Self {
        let keeper = Keeper::new(index, shared.limits.dyno_keep(), shared.limits.dyno_keep_max, kept_total);
        let mut seed = [0; 8];
        // Only spreads requests over dynos; all zeros would do.
        let _ = getrandom::fill(&mut seed);
        Self {
            shared,
            keeper,
            lines: Lines::default(),
            index,
            in_flight: AtomicUsize::new(0),
            scratch: Mutex::default(),
            ids: Mutex::new(Ids { bytes: Box::new([0; 4096]), used: 4096 }),
            dice: AtomicU64::new(u64::from_le_bytes(seed)),
        }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.shared.limits
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.shared.stopping.load(Ordering::Relaxed)
    }

    /// Milliseconds since the router's start.
    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.shared.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A number for choosing between dynos (wyrand); not for secrets.
    pub(crate) fn random(&self) -> u64 {
        let state = self.dice.fetch_add(0xa076_1d64_78bd_642f, Ordering::Relaxed);
        let product = u128::from(state) * u128::from(state ^ 0xe703_7ed1_a0b4_28db);
        (product >> 64) as u64 ^ product as u64
    }

    /// A request id: a random UUID as text.
    pub(crate) fn request_id(&self) -> [u8; 36] {
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        if ids.used + 16 > ids.bytes.len() {
            if getrandom::fill(&mut ids.bytes[..]).is_err() {
                // An id need not be secret, only different.
                for chunk in ids.bytes.chunks_mut(8) {
                    chunk.copy_from_slice(&self.random().to_le_bytes());
                }
            }
            ids.used = 0;
        }
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&ids.bytes[ids.used..ids.used + 16]);
        ids.used += 16;
        drop(ids);
        let mut text = [0; 36];
        uuid::Builder::from_random_bytes(bytes).into_uuid().hyphenated().encode_lower(&mut text);
        text
    }

    pub(crate) fn take_scratch(&self) -> Box<Scratch> {
        let kept = self.scratch.lock().unwrap_or_else(PoisonError::into_inner).pop();
        kept.unwrap_or_else(|| {
            Box::new(Scratch {
                from_client: Buf::empty(),
                from_dyno: Buf::empty(),
                to_client: Vec::new(),
                to_dyno: Vec::new(),
                request: Request::default(),
            })
        })
    }

    pub(crate) fn give_scratch(&self, mut scratch: Box<Scratch>) {
        scratch.from_client.clear();
        scratch.from_dyno.clear();
        scratch.to_client.clear();
        scratch.to_dyno.clear();
        let size = scratch.from_client.capacity()
            + scratch.from_dyno.capacity()
            + scratch.to_client.capacity()
            + scratch.to_dyno.capacity();
        let mut kept = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT_SCRATCHES && size <= MAX_KEPT_BYTES {
            kept.push(scratch);
        }
    }

    /// Serves clients of `listeners`, and those that other workers hand over, for ever.
    pub(crate) async fn run(
        self: Arc<Self>,
        listeners: Vec<std::net::TcpListener>,
        mut handed: UnboundedReceiver<HandedOver>,
        peers: Vec<UnboundedSender<HandedOver>>,
    ) -> io::Result<()> {
        for listener in listeners {
            let listener = TcpListener::from_std(listener)?;
            tokio::spawn(accept(self.clone(), listener, peers.clone()));
        }
        let sweeper = self.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                sweeper.keeper.sweep();
            }
        });
        while let Some(client) = handed.recv().await {
            if let Ok(stream) = TcpStream::from_std(client.stream) {
                self.spawn(stream, client.peer, client.port);
            }
        }
        Ok(())
    }

    fn spawn(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr, port: u16) {
        let counted = Connected::new(self.clone());
        tokio::spawn(async move {
            connection::serve(&counted.0, stream, peer, port).await;
        });
    }
}

/// A client, counted for as long as this lives.
struct Connected(Arc<Worker>);

impl Connected {
    fn new(worker: Arc<Worker>) -> Self {
        worker.shared.connections[worker.index].fetch_add(1, Ordering::Relaxed);
        Self(worker)
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.shared.connections[self.0.index].fetch_sub(1, Ordering::Relaxed);
    }
}

async fn accept(worker: Arc<Worker>, listener: TcpListener, peers: Vec<UnboundedSender<HandedOver>>) {
    let port = listener.local_addr().map_or(0, |address| address.port());
    let mut accepting = worker.shared.accepting.subscribe();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = accepting.wait_for(|accepting| !accepting) => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let _ = stream.set_nodelay(true);
                let (idlest, fewest) = worker.shared.idlest();
                let mine = worker.shared.connections[worker.index].load(Ordering::Relaxed);
                if fewest * worker.shared.connections.len() >= worker.shared.max_connections {
                    // Closed at once: better than no descriptor left for those that are being served.
                    tokio::time::sleep(Duration::from_millis(5)).await;
                } else if mine > fewest + 1 {
                    if let Ok(stream) = stream.into_std() {
                        let _ = peers[idlest].send(HandedOver { stream, peer, port });
                    }
                } else {
                    worker.spawn(stream, peer, port);
                }
            }
            Err(error) => {
                tracing::warn!(%error, "accepting a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Milliseconds since 1970.
pub(crate) fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
