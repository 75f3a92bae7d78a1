//! Who is let in, and who is linked.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use paas_domain::{AppId, DynoId};
use paas_link_frames::{FromDyno, FromHub, Hello, MAX_HELLO, VERSION, Welcome};
use paas_ports::{Duplex, PortError};
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::connection::{Cut, Room, read, serve};
use crate::duplex::Attached;
use crate::output::Kept;
use crate::session::{Said, Session};
use crate::{Admitted, Claim, DynoLinks, HubOptions, LinkAdmission, LinkEvents, LinkedDyno, Refusal};

/// How long a stranger may take for the handshake, and then to say who it is.
const STRANGER_WITHIN: Duration = Duration::from_secs(10);
/// How many strangers are listened to at a time.
const STRANGERS: usize = 256;
/// How long admission may take.
const ADMIT_WITHIN: Duration = Duration::from_secs(10);
/// How long whoever speaks for a dyno may take to make way for its new connection.
const TURN_WITHIN: Duration = Duration::from_secs(30);
/// How often what is kept of dynos without a link is looked through.
const SWEEP_EVERY: Duration = Duration::from_secs(15);

/// Where dynos link to.
pub struct Hub {
    inner: Arc<Inner>,
}

struct Inner {
    options: HubOptions,
    admission: Arc<dyn LinkAdmission>,
    events: Arc<dyn LinkEvents>,
    room: Room,
    kept: Arc<Kept>,
    strangers: Arc<Semaphore>,
    book: Mutex<Book>,
}

/// Who is known, by task.
#[derive(Default)]
struct Book {
    sessions: HashMap<String, Arc<Session>>,
    /// The tasks of one-off dynos, by the dyno.
    tasks: HashMap<DynoId, String>,
    links: HashMap<AppId, usize>,
    all_links: usize,
}

/// A place among the links of an app and of all; given back when it is dropped.
struct Place {
    inner: Arc<Inner>,
    app: AppId,
}

impl Hub {
    /// A hub that lets in whom `admission` knows and tells `events` what they say.
    #[must_use]
    pub fn new(options: HubOptions, admission: Arc<dyn LinkAdmission>, events: Arc<dyn LinkEvents>) -> Self {
        let kept = Arc::new(Kept::new(options.max_replay_bytes));
        let strangers = Arc::new(Semaphore::new(STRANGERS));
        let (room, book) = (Room::default(), Mutex::default());
        Self { inner: Arc::new(Inner { options, admission, events, room, kept, strangers, book }) }
    }

    /// Takes dynos until it is dropped, which cuts their links; they come back to the next one.
    pub async fn serve(&self, listener: TcpListener, tls: Arc<ServerConfig>) {
        let acceptor = TlsAcceptor::from(tls);
        let end = CancellationToken::new();
        let _end = end.clone().drop_guard();
        let mut connections = JoinSet::new();
        let mut sweep = tokio::time::interval(SWEEP_EVERY);
        loop {
            while connections.try_join_next().is_some() {}
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = sweep.tick() => {
                    self.inner.sweep(self.inner.options.keep);
                    continue;
                }
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of file descriptors, most likely: accepting again at once would only burn the processor.
                    tracing::warn!(%error, "a dyno's link could not be accepted");
                    sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            // More strangers than we listen to are turned away, so that they cannot pile up either.
            let Ok(permit) = self.inner.strangers.clone().try_acquire_owned() else { continue };
            let (inner, acceptor, end) = (self.inner.clone(), acceptor.clone(), end.child_token());
            connections.spawn(paas_ports::outside::task(async move {
                let met = timeout(STRANGER_WITHIN + ADMIT_WITHIN + TURN_WITHIN, inner.meet(stream, &acceptor)).await;
                drop(permit);
                if let Ok(Some((stream, hello, place, admitted))) = met {
                    inner.link(stream, &hello, place, admitted, &end).await;
                }
            }));
        }
    }
}

impl Inner {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Listens to a stranger until it is a dyno that may link.
    async fn meet(
        self: &Arc<Self>,
        stream: TcpStream,
        acceptor: &TlsAcceptor,
    ) -> Option<(TlsStream<TcpStream>, Hello, Place, Admitted)> {
        let peer = stream.peer_addr().ok()?.ip().to_canonical();
        let _ = stream.set_nodelay(true);
        let mut stream = timeout(STRANGER_WITHIN, acceptor.accept(stream)).await.ok()?.ok()?;
        let first = timeout(STRANGER_WITHIN, read(&mut stream, MAX_HELLO, STRANGER_WITHIN, &self.room)).await;
        let Ok(Ok(FromDyno::Hello(hello))) = first else {
            tracing::debug!(%peer, "a stranger at the dyno link said nothing that we know");
            return None;
        };
        match self.admit(&hello, peer).await {
            Ok((place, admitted)) => Some((stream, hello, place, admitted)),
            Err((refusal, why)) => {
                tracing::info!(%peer, app = %hello.app.escape_debug(), why, "a link was refused");
                let mut out = Vec::new();
                FromHub::Refused { soon: refusal == Refusal::NotNow, why: why.to_owned() }.put(&mut out);
                let goodbye = async {
                    stream.write_all(&out).await?;
                    stream.shutdown().await?;
                    // Closing while it still sends would take back what it has not read.
                    let mut rest = [0; 256];
                    while stream.read(&mut rest).await? > 0 {}
                    std::io::Result::Ok(())
                };
                let _ = timeout(Duration::from_secs(2), goodbye).await;
                None
            }
        }
    }

    async fn admit(
        self: &Arc<Self>,
        hello: &Hello,
        peer: IpAddr,
    ) -> Result<(Place, Admitted), (Refusal, &'static str)> {
        let unknown = |why| (Refusal::Unknown, why);
        if hello.version == 0 || hello.version > VERSION {
            return Err(unknown("this server does not speak the launcher's version"));
        }
        let app: AppId = hello.app.parse().map_err(|_| unknown("the app is not known"))?;
        if !self.options.key.is_right(&app, &hello.token) {
            return Err(unknown("the token is not the app's"));
        }
        let process_type = hello.process_type.parse().map_err(|_| unknown("the process type is none"))?;
        let dyno = match hello.dyno.as_str() {
            "" => None,
            dyno => Some(dyno.parse().map_err(|_| unknown("the dyno is none"))?),
        };
        let started_as = match hello.started_as.as_str() {
            "" => None,
            name => Some(name.parse().map_err(|_| unknown("the name is none"))?),
        };
        let task = hello.task.clone();
        if task.is_empty() {
            // The platform has not told it yet (a busy host's metadata is late): it asks again.
            return Err((Refusal::NotNow, "the dyno does not know its task yet"));
        }
        if task.len() > 2_048 || task.chars().any(char::is_control) {
            return Err(unknown("the task is none"));
        }
        let place = self.place(&app).ok_or((Refusal::NotNow, "too many dynos are linked"))?;
        let claim = Claim { app, task, process_type, dyno, started_as, peer };
        match timeout(ADMIT_WITHIN, self.admission.admit(&claim)).await {
            Ok(Ok(admitted)) => Ok((place, admitted)),
            Ok(Err(Refusal::Unknown)) => Err(unknown("the task is not one of this app's")),
            Ok(Err(Refusal::NotNow)) | Err(_) => Err((Refusal::NotNow, "the task is not known yet")),
        }
    }

    fn place(self: &Arc<Self>, app: &AppId) -> Option<Place> {
        let mut book = self.book();
        let of_app = book.links.get(app).copied().unwrap_or(0);
        if of_app >= self.options.max_links_per_app || book.all_links >= self.options.max_links {
            return None;
        }
        book.links.insert(app.clone(), of_app + 1);
        book.all_links += 1;
        Some(Place { inner: self.clone(), app: app.clone() })
    }

    /// Speaks with a dyno until its connection ends.
    async fn link(
        self: &Arc<Self>,
        mut stream: TlsStream<TcpStream>,
        hello: &Hello,
        _place: Place,
        admitted: Admitted,
        end: &CancellationToken,
    ) {
        let Some(session) = self.session(hello, &admitted) else { return };
        session.take_over(end);
        // The connection before this one finishes what it is at, so that the numbers below are right.
        let Ok(_turn) = timeout(TURN_WITHIN, session.turn.lock()).await else {
            session.leave(end);
            return;
        };
        if session.resume(hello).is_err() {
            // It speaks of bytes that this hub does not have: it starts anew, as with a server that restarted.
            tracing::warn!(dyno = %admitted.name, "a link could not be resumed");
            session.leave(end);
            self.strike(&session);
            session.lose();
            return;
        }
        session.call(Some(&admitted.name), hello.started_as.parse().ok().as_ref());
        let who = session.who();
        let (lines, output, attachments) = {
            let state = session.state();
            (state.lines, state.output.received(), state.attachments)
        };
        if session.attached && attachments == 0 && !hello.started_as.is_empty() {
            // Whoever was attached went with another hub: unless they come again, nobody does.
            session.hang_up_after(self.options.hang_up_after);
        }
        let welcome = Welcome { version: VERSION, name: who.name.to_string(), lines_taken: lines, output_next: output };
        let mut out = Vec::new();
        FromHub::Welcome(welcome).put(&mut out);
        let sent = async {
            stream.write_all(&out).await?;
            stream.flush().await
        };
        if matches!(timeout(STRANGER_WITHIN, sent).await, Ok(Ok(()))) {
            self.events.connected(&who).await;
            let halves = tokio::io::split(stream);
            let said = (Said::welcome(lines, 0), &self.room);
            let cut = serve(&session, halves, said, &*self.events, end).await;
            self.events.disconnected(&session.who()).await;
            match cut {
                Cut::Io(_) | Cut::Silent | Cut::Replaced => {
                    tracing::debug!(app = %who.app, dyno = %who.name, %cut, "a link ended");
                }
                cut => tracing::warn!(app = %who.app, dyno = %who.name, %cut, "a link was cut"),
            }
        }
        if session.leave(end) {
            let (session, within) = (session.clone(), self.options.resume_within);
            tokio::spawn(async move {
                sleep(within).await;
                let still = session.state().without_link.is_some_and(|since| since.elapsed() >= within);
                if still {
                    session.lose();
                }
            });
        }
    }

    /// What is known of this dyno, or a new page for it.
    fn session(self: &Arc<Self>, hello: &Hello, admitted: &Admitted) -> Option<Arc<Session>> {
        let mut book = self.book();
        if let Some(session) = book.sessions.get(&hello.task) {
            return Some(session.clone());
        }
        if book.sessions.len() >= self.options.max_links * 2 {
            drop(book);
            self.sweep(Duration::ZERO);
            book = self.book();
            if book.sessions.len() >= self.options.max_links * 2 {
                return None;
            }
        }
        let one_off = (!hello.dyno.is_empty()).then(|| admitted.dyno.clone());
        let app = hello.app.parse().ok()?;
        let (dyno, name) = (admitted.dyno.clone(), admitted.name.clone());
        let linked = LinkedDyno { app, dyno, task: hello.task.clone(), name };
        let session = Arc::new(Session::new(linked, one_off.clone(), hello, &self.options, self.kept.clone()));
        if let Some(dyno) = one_off {
            book.tasks.insert(dyno, hello.task.clone());
        }
        book.sessions.insert(hello.task.clone(), session.clone());
        Some(session)
    }

    fn find(&self, dyno: &DynoId) -> Option<Arc<Session>> {
        let book = self.book();
        book.sessions.get(book.tasks.get(dyno)?).cloned()
    }

    /// Forgets a dyno.
    fn strike(&self, session: &Arc<Session>) {
        let mut book = self.book();
        let task = session.task();
        if book.sessions.get(task).is_some_and(|known| Arc::ptr_eq(known, session)) {
            book.sessions.remove(task);
            if let Some(dyno) = &session.one_off {
                book.tasks.remove(dyno);
            }
        }
    }

    /// Forgets dynos that have had no link for this long.
    fn sweep(&self, keep: Duration) {
        let now = Instant::now();
        let old = |session: &Arc<Session>| {
            let state = session.state();
            state.is_idle() && state.without_link.is_some_and(|since| now.duration_since(since) >= keep)
        };
        let gone: Vec<_> = self.book().sessions.values().filter(|session| old(session)).cloned().collect();
        gone.iter().for_each(|session| self.strike(session));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut book = self.inner.book();
        book.all_links -= 1;
        if let Some(count) = book.links.get_mut(&self.app) {
            *count -= 1;
            if *count == 0 {
                book.links.remove(&self.app);
            }
        }
    }
}

#[async_trait]
impl DynoLinks for Hub {
    async fn attach(&self, dyno: &DynoId) -> Result<Duplex, PortError> {
        paas_ports::outside::check("DynoLinks::attach");
        let not_linked = || PortError::transient("attaching to a dyno", "its task has not linked yet");
        let session = self.inner.find(dyno).ok_or_else(not_linked)?;
        Ok(Box::new(Attached::new(session, self.inner.options.hang_up_after)))
    }

    async fn exit_code(&self, dyno: &DynoId) -> Option<u8> {
        self.inner.find(dyno)?.state().exit
    }

    async fn hang_up(&self, dyno: &DynoId) {
        paas_ports::outside::check("DynoLinks::hang_up");
        if let Some(session) = self.inner.find(dyno) {
            session.state().hang_up = true;
            session.say.notify_one();
        }
    }

    async fn stop(&self, dyno: &DynoId) -> bool {
        let Some(session) = self.inner.find(dyno) else { return false };
        session.state().stop = true;
        session.say.notify_one();
        session.is_linked()
    }

    async fn over(&self, dyno: &DynoId) {
        if let Some(session) = self.inner.find(dyno) {
            session.end(None);
        }
    }

    async fn forget(&self, dyno: &DynoId) {
        if let Some(session) = self.inner.find(dyno) {
            self.inner.strike(&session);
            session.end(None);
        }
    }
}

#[cfg(test)]
mod tests;
