//! Where hooks find the server: a socket that only our own user can open, and a token for each push.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use paas_ports::outside;
use paas_store::{Account, AppScope};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use super::{push, wire};
use crate::cx::Cx;
use crate::token::new_token;

/// How long a hook may take to say what it wants.
const GREETING: Duration = Duration::from_secs(10);

/// On whose behalf a push runs.
#[derive(Clone, Debug)]
pub(super) struct Pusher {
    pub(super) app: AppScope,
    pub(super) account: Account,
}

type Pushers = Arc<Mutex<HashMap<String, Pusher>>>;

/// Answers hooks until it is dropped.
pub(super) struct HookServer {
    pushers: Pushers,
    _task: AbortOnDropHandle<()>,
}

/// The right of one push to speak through its hook; ends when dropped.
pub(super) struct Ticket {
    pub(super) token: String,
    pushers: Pushers,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.pushers.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.token);
    }
}

impl HookServer {
    /// Starts to answer. Belongs into a runtime.
    pub(super) fn start(cx: &Cx) -> io::Result<Self> {
        let listener = UnixListener::from_std(cx.repositories.listener()?)?;
        let pushers = Pushers::default();
        let task = tokio::spawn(serve(cx.clone(), listener, Arc::clone(&pushers)));
        Ok(Self { pushers, _task: AbortOnDropHandle::new(task) })
    }

    /// Lets one push speak.
    pub(super) fn admit(&self, pusher: Pusher) -> Ticket {
        let token = new_token("push");
        self.pushers.lock().unwrap_or_else(PoisonError::into_inner).insert(token.clone(), pusher);
        Ticket { token, pushers: Arc::clone(&self.pushers) }
    }
}

async fn serve(cx: Cx, listener: UnixListener, pushers: Pushers) {
    let mut sessions = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let (cx, pushers) = (cx.clone(), Arc::clone(&pushers));
                    sessions.spawn(outside::task(async move {
                        if let Err(error) = session(&cx, stream, &pushers).await {
                            tracing::debug!(%error, "a push went away");
                        }
                    }));
                }
                Err(error) => {
                    tracing::error!(%error, "hooks cannot be answered");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            },
            Some(_) = sessions.join_next() => {}
        }
    }
}

async fn session(cx: &Cx, mut stream: UnixStream, pushers: &Pushers) -> io::Result<()> {
    let frame =
        tokio::time::timeout(GREETING, wire::read(&mut stream)).await.map_err(|_| io::ErrorKind::TimedOut)??;
    let message: wire::PushMessage = frame.parse()?;
    // Good once: a hook that comes again is not of this push.
    let pusher = pushers.lock().unwrap_or_else(PoisonError::into_inner).remove(&message.token);
    let pusher = pusher.ok_or(io::ErrorKind::PermissionDenied)?;
    let (mut from_hook, to_hook) = stream.split();
    let mut hook = push::HookOutput::new(to_hook);
    let gone = async {
        // It says nothing more: whatever comes is its end.
        let _ = wire::read(&mut from_hook).await;
    };
    tokio::select! {
        answers = push::answer(cx, &pusher, &message, &mut hook) => {
            let answers = answers?;
            hook.report(answers).await
        }
        () = gone => Err(io::ErrorKind::BrokenPipe.into()),
        () = cx.repositories.stopping().cancelled() => Ok(()),
    }
}
