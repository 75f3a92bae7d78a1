//! A proxy in front of the registry that counts requests, breaks connections, loses answers and slows down.
//!
//! It knows a request by its first bytes, which a client sends in one piece and only after the last answer.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// See the module.
pub(crate) struct Proxy {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    seen: Vec<String>,
    /// By first bytes: the number of the request that goes wrong, counted from 1, and how.
    faults: HashMap<String, (usize, Fault)>,
    slow: Option<(String, Duration)>,
    now: usize,
    most: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum Fault {
    /// The connection ends after a few bytes of the body.
    Breaks,
    /// The request arrives, its answer does not.
    LosesAnswer,
}

impl Proxy {
    /// In front of this address.
    pub(crate) async fn start(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (target, state) = (target.clone(), Arc::clone(&shared));
                tokio::spawn(async move {
                    // A broken connection is what it is for.
                    let _ = carry(client, &target, &state).await;
                });
            }
        });
        Self { address, state }
    }

    /// Host and port.
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// Breaks the connection of the `nth` request that begins so.
    pub(crate) fn break_nth(&self, begins: &str, nth: usize) {
        self.state().faults.insert(begins.to_owned(), (nth, Fault::Breaks));
    }

    /// Loses the answer to the `nth` request that begins so.
    pub(crate) fn lose_answer(&self, begins: &str, nth: usize) {
        self.state().faults.insert(begins.to_owned(), (nth, Fault::LosesAnswer));
    }

    /// Holds up requests that begin so.
    pub(crate) fn slow_down(&self, begins: &str, by: Duration) {
        self.state().slow = Some((begins.to_owned(), by));
    }

    /// How many requests began so.
    pub(crate) fn count(&self, begins: &str) -> usize {
        self.state().seen.iter().filter(|line| line.starts_with(begins)).count()
    }

    /// How many requests that were held up were there at once.
    pub(crate) fn most_at_once(&self) -> usize {
        self.state().most
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("the proxy's state")
    }
}

const METHODS: [&str; 6] = ["GET /", "HEAD /", "POST /", "PUT /", "PATCH /", "DELETE /"];

async fn carry(client: TcpStream, target: &str, state: &Mutex<State>) -> std::io::Result<()> {
    let server = TcpStream::connect(target).await?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let back = async {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let count = from_server.read(&mut buffer).await?;
            if count == 0 {
                return to_client.shutdown().await;
            }
            to_client.write_all(&buffer[..count]).await?;
        }
    };
    let mut back = std::pin::pin!(back);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = tokio::select! {
            done = &mut back => return done,
            count = from_client.read(&mut buffer) => count?,
        };
        if count == 0 {
            return Ok(());
        }
        let begins = String::from_utf8_lossy(&buffer[..count.min(300)]).into_owned();
        let mut fault = None;
        let mut slow = None;
        if METHODS.iter().any(|method| begins.starts_with(method)) {
            let mut state = state.lock().expect("the proxy's state");
            state.seen.push(begins.clone());
            let State { seen, faults, .. } = &*state;
            fault = faults.iter().find_map(|(wanted, (nth, fault))| {
                let number = seen.iter().filter(|line| line.starts_with(wanted)).count();
                (begins.starts_with(wanted) && number == *nth).then_some(*fault)
            });
            if let Some((wanted, by)) = &state.slow
                && begins.starts_with(wanted)
            {
                slow = Some(*by);
                state.now += 1;
                state.most = state.most.max(state.now);
            }
        }
        if let Some(by) = slow {
            tokio::time::sleep(by).await;
            state.lock().expect("the proxy's state").now -= 1;
        }
        if fault == Some(Fault::Breaks) {
            return Ok(());
        }
        to_server.write_all(&buffer[..count]).await?;
        if fault == Some(Fault::LosesAnswer) {
            // Until the rest of the request has gone through, and a while for the server to do it.
            while let Ok(Ok(count)) =
                tokio::time::timeout(Duration::from_millis(300), from_client.read(&mut buffer)).await
            {
                if count == 0 {
                    break;
                }
                to_server.write_all(&buffer[..count]).await?;
            }
            return Ok(());
        }
    }
}
