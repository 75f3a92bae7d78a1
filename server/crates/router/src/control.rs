//! The router's side of the control socket, its log outbox, and the writing of its table to disk.
//!
//! Runs on a thread of its own: whatever happens here, requests are served.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::{Notify, watch};

use crate::frame::{self, Answer, Ask, Hello, Request, Say, SayLines};
use crate::log::Written;
use crate::registry::Registry;
use crate::table::Drained;
use crate::worker::Worker;

/// How long lines are collected before they are sent.
const COLLECT: Duration = Duration::from_millis(20);

/// What the control thread works with.
pub(crate) struct Control {
    pub(crate) registry: Arc<Registry>,
    pub(crate) workers: Vec<Arc<Worker>>,
    pub(crate) hello: Hello,
    pub(crate) state_dir: PathBuf,
    /// Becomes the grace period when someone wants the router to end.
    pub(crate) stop: watch::Sender<Option<Duration>>,
    pub(crate) outbox: Outbox,
}

/// Lines on their way to the server.
#[derive(Default)]
pub(crate) struct Outbox {
    state: Mutex<OutboxState>,
    changed: Notify,
}

#[derive(Default)]
struct OutboxState {
    subscriber: Option<(u64, Sender)>,
    connections: u64,
    batches: u64,
    pending: Option<Batch>,
}

/// Lines that were sent and are not known to have arrived: sent again to the next subscriber. Until they have,
/// the lines behind them stay with the workers, where they are counted and bounded.
struct Batch {
    number: u64,
    lines: usize,
    frame: Arc<[u8]>,
    /// The connection that got it last.
    sent_to: u64,
}

/// To the task that writes a connection: whole frames.
type Sender = UnboundedSender<Arc<[u8]>>;

fn send(to: &Sender, say: &Say) {
    match frame::encode(say) {
        // Fails only when the connection is being closed.
        Ok(frame) => drop(to.send(frame.into())),
        Err(error) => tracing::error!(%error, "writing a frame"),
    }
}

impl Outbox {
    fn lock(&self) -> MutexGuard<'_, OutboxState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn subscribe(&self, connection: u64, to: Sender) {
        self.lock().subscriber = Some((connection, to));
        self.changed.notify_one();
    }

    fn unsubscribe(&self, connection: u64) {
        let mut state = self.lock();
        if state.subscriber.as_ref().is_some_and(|(id, _)| *id == connection) {
            state.subscriber = None;
        }
    }

    /// The subscriber has this batch; returns how many lines it was.
    fn took(&self, number: u64) -> usize {
        let mut state = self.lock();
        if state.pending.as_ref().is_none_or(|pending| pending.number != number) {
            return 0;
        }
        self.changed.notify_one();
        state.pending.take().map_or(0, |pending| pending.lines)
    }

    fn say(&self, say: &Say) {
        if let Some((_, to)) = &self.lock().subscriber {
            send(to, say);
        }
    }
}

impl OutboxState {
    /// Sends the next batch when the last one has arrived, or the last one again to a new subscriber.
    fn send(&mut self, workers: &[Arc<Worker>]) -> io::Result<()> {
        let Some((id, to)) = &self.subscriber else { return Ok(()) };
        if self.pending.is_none() {
            let taken: Vec<Written> = workers.iter().map(|w| w.lines.take()).filter(|w| !w.is_empty()).collect();
            if taken.is_empty() {
                return Ok(());
            }
            self.batches += 1;
            let lines = taken.iter().map(Written::count).sum();
            let frame = frame::encode(&SayLines::new(self.batches, &taken))?.into();
            self.pending = Some(Batch { number: self.batches, lines, frame, sent_to: 0 });
        }
        if let Some(pending) = &mut self.pending
            && pending.sent_to != *id
            && to.send(pending.frame.clone()).is_ok()
        {
            pending.sent_to = *id;
        }
        Ok(())
    }
}

impl Control {
    /// Serves the socket until the process ends.
    pub(crate) async fn run(self: Arc<Self>, listener: UnixListener, drained: UnboundedReceiver<Drained>) {
        tokio::spawn(self.clone().persist());
        tokio::spawn(self.clone().collect());
        tokio::spawn(self.clone().tell_drained(drained));
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let control = self.clone();
                    tokio::spawn(async move {
                        if let Err(error) = control.connection(stream).await {
                            tracing::warn!(%error, "a control connection broke");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "accepting a control connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    async fn connection(&self, stream: UnixStream) -> io::Result<()> {
        let (read, mut write) = stream.into_split();
        let (says, mut outgoing) = mpsc::unbounded_channel::<Arc<[u8]>>();
        send(&says, &Say::Hello(self.hello.clone()));
        let writer = tokio::spawn(async move {
            while let Some(frame) = outgoing.recv().await {
                if write.write_all(&frame).await.is_err() {
                    break;
                }
            }
            let _ = write.shutdown().await;
        });
        let id = {
            let mut state = self.outbox.lock();
            state.connections += 1;
            state.connections
        };
        let mut read = BufReader::new(read);
        let result = loop {
            match frame::read::<Request>(&mut read).await {
                Ok(Some(Request { number, ask })) => {
                    let result = self.answer(id, &says, ask).map_err(Into::into);
                    send(&says, &Say::Answer { number, result });
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        self.outbox.unsubscribe(id);
        drop(says);
        let _ = writer.await;
        result
    }

    fn answer(&self, id: u64, says: &Sender, ask: Ask) -> Result<Answer, paas_ports::PortError> {
        Ok(match ask {
            Ask::Place { app, process_type } => Answer::Pool(self.registry.place(&app, &process_type)),
            Ask::Publish { route } => {
                self.registry.publish(route)?;
                Answer::Done
            }
            Ask::Remove { app } => {
                self.registry.remove(&app);
                Answer::Done
            }
            Ask::Apps => Answer::Apps(self.registry.apps()),
            Ask::SetPool { pool, wanted, members } => {
                self.registry.set_pool(&pool, wanted, members)?;
                Answer::Done
            }
            Ask::InFlight { pool, dyno } => Answer::InFlight(self.registry.in_flight(&pool, &dyno)),
            Ask::Subscribe => {
                self.outbox.subscribe(id, says.clone());
                Answer::Done
            }
            Ask::TookLines { batch } => {
                let count = self.outbox.took(batch);
                if let Some(worker) = self.workers.first() {
                    worker.shared.log.waiting.fetch_sub(count, Ordering::Relaxed);
                }
                Answer::Done
            }
            Ask::Shutdown { grace_ms } => {
                self.stop.send_replace(Some(Duration::from_millis(grace_ms)));
                Answer::Done
            }
        })
    }

    /// Brings lines from the workers to the subscriber.
    async fn collect(self: Arc<Self>) {
        let Some(share) = self.workers.first().map(|worker| worker.shared.clone()) else { return };
        loop {
            tokio::select! {
                () = share.log.some.notified() => tokio::time::sleep(COLLECT).await,
                () = self.outbox.changed.notified() => {}
            }
            self.collect_once();
        }
    }

    /// Takes what the workers wrote and sends what can be sent.
    pub(crate) fn collect_once(&self) {
        if let Err(error) = self.outbox.lock().send(&self.workers) {
            tracing::error!(%error, "sending log lines");
        }
    }

    async fn tell_drained(self: Arc<Self>, mut drained: UnboundedReceiver<Drained>) {
        while let Some(Drained { pool, dyno }) = drained.recv().await {
            self.outbox.say(&Say::Drained { pool, dyno });
        }
    }

    /// Writes the table after changes, at most once in a while.
    async fn persist(self: Arc<Self>) {
        let pause = self.workers.first().map_or(Duration::from_secs(1), |worker| worker.limits().persist());
        loop {
            self.registry.dirty.notified().await;
            let control = self.clone();
            // The disk may take its time; answers on the socket may not.
            let _ = tokio::task::spawn_blocking(move || control.persist_now()).await;
            tokio::time::sleep(pause).await;
        }
    }

    /// Writes the table.
    pub(crate) fn persist_now(&self) {
        if let Err(error) = self.registry.snapshot().store(&self.state_dir) {
            tracing::error!(%error, "writing the table to disk");
            self.registry.dirty.notify_one();
        }
    }
}
