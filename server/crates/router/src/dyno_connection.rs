//! Connections to dynos: opened, kept for a while, used again.
//!
//! Each worker has its own, since a socket belongs to the event loop it was opened in. The number kept is bounded
//! over all dynos and workers, oldest pool first out: with ten thousand apps, a bound for each pool is none.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::table::Dyno;

/// A connection that waits for its next request.
struct Kept {
    stream: TcpStream,
    since: Instant,
    _counted: Counted,
}

/// Stands for one in the number of kept connections, until it is dropped.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(total: &Arc<AtomicUsize>) -> Self {
        total.fetch_add(1, Ordering::Relaxed);
        Self(total.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The kept connections of one dyno.
pub(crate) struct KeptSet(Box<[KeptByWorker]>);

#[derive(Default)]
struct KeptByWorker {
    /// Oldest first.
    connections: Mutex<VecDeque<Kept>>,
    /// Whether the worker's keeper knows of this dyno.
    listed: AtomicBool,
}

impl KeptByWorker {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Kept>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeptSet {
    pub(crate) fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| KeptByWorker::default()).collect())
    }

    /// Closes all of them.
    pub(crate) fn clear(&self) {
        for kept in &self.0 {
            kept.lock().clear();
        }
    }
}

/// One worker's side of keeping connections.
pub(crate) struct Keeper {
    worker: usize,
    keep: Duration,
    max: usize,
    total: Arc<AtomicUsize>,
    /// Dynos with kept connections, the one that was listed first in front.
    dynos: Mutex<VecDeque<Weak<Dyno>>>,
}

impl Keeper {
    /// `total` counts over all workers.
    pub(crate) fn new(worker: usize, keep: Duration, max: usize, total: Arc<AtomicUsize>) -> Self {
        Self { worker, keep, max, total, dynos: Mutex::default() }
    }

    /// A connection that was idle for less than `max_idle`, and on which nothing has arrived.
    pub(crate) fn take(&self, dyno: &Dyno, max_idle: Duration) -> Option<TcpStream> {
        let mine = &dyno.kept.0[self.worker];
        loop {
            let kept = mine.lock().pop_back()?;
            if kept.since.elapsed() >= max_idle.min(self.keep) {
                // The others are older still. The sweep closes them.
                return None;
            }
            // Costs no system call unless the event loop has heard something of this socket.
            if matches!(kept.stream.try_read(&mut [0]), Err(e) if e.kind() == io::ErrorKind::WouldBlock) {
                return Some(kept.stream);
            }
        }
    }

    /// Keeps a connection whose last answer was complete.
    pub(crate) fn put(&self, dyno: &Arc<Dyno>, stream: TcpStream) {
        if self.max == 0 || dyno.is_leaving() {
            return;
        }
        if self.total.load(Ordering::Relaxed) >= self.max {
            self.evict();
        }
        let mine = &dyno.kept.0[self.worker];
        mine.lock().push_back(Kept { stream, since: Instant::now(), _counted: Counted::new(&self.total) });
        if dyno.is_leaving() {
            mine.lock().clear();
        } else if !mine.listed.swap(true, Ordering::Relaxed) {
            self.lock().push_back(Arc::downgrade(dyno));
        }
    }

    /// Closes what was idle too long. To be called about once a second.
    pub(crate) fn sweep(&self) {
        self.lock().retain(|dyno| {
            let Some(dyno) = dyno.upgrade() else { return false };
            let mine = &dyno.kept.0[self.worker];
            let mut connections = mine.lock();
            while connections.front().is_some_and(|kept| kept.since.elapsed() >= self.keep) {
                connections.pop_front();
            }
            let some = !connections.is_empty();
            mine.listed.store(some, Ordering::Relaxed);
            some
        });
    }

    /// Closes one connection of the dyno that was listed longest ago.
    fn evict(&self) {
        let mut dynos = self.lock();
        while let Some(weak) = dynos.pop_front() {
            let Some(dyno) = weak.upgrade() else { continue };
            let mine = &dyno.kept.0[self.worker];
            let mut connections = mine.lock();
            let closed = connections.pop_front().is_some();
            if connections.is_empty() {
                mine.listed.store(false, Ordering::Relaxed);
            } else {
                dynos.push_back(weak);
            }
            if closed {
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Weak<Dyno>>> {
        self.dynos.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a dyno could not be connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoConnection {
    /// H21.
    Refused,
    /// H19.
    TimedOut,
    /// Our own fault: no descriptors, no ports. H99.
    Ours,
}

/// Opens a connection to a dyno.
pub(crate) async fn open(dyno: &Dyno, within: Duration) -> Result<TcpStream, NoConnection> {
    match tokio::time::timeout(within, TcpStream::connect(dyno.address)).await {
        Err(_) => Err(NoConnection::TimedOut),
        Ok(Ok(stream)) => {
            // Fails only on a socket that is dead already; the first write will say so.
            let _ = stream.set_nodelay(true);
            Ok(stream)
        }
        Ok(Err(e)) => Err(match e.kind() {
            io::ErrorKind::TimedOut => NoConnection::TimedOut,
            io::ErrorKind::AddrNotAvailable | io::ErrorKind::OutOfMemory => NoConnection::Ours,
            _ if e.raw_os_error().is_some_and(|code| code == 23 || code == 24) => NoConnection::Ours, // ENFILE, EMFILE
            _ => NoConnection::Refused,
        }),
    }
}
