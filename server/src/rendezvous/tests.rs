//! Real TLS clients against dynos that are one end of a pipe.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::sync::Mutex;

use futures_util::future::BoxFuture;
use paas_domain::{AppId, Generation, ProcessType, SystemClock};
use paas_ports::{Observed, OneOffSpec, Progress, ServiceSpec};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use tokio::io::DuplexStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client;

use super::*;
use crate::local_ca::{LocalCa, tests::client_config};

const SOON: Duration = Duration::from_secs(10);

/// A rendezvous with its dynos, and what happened to them.
struct World {
    _dir: tempfile::TempDir,
    client: Arc<ClientConfig>,
    address: std::net::SocketAddr,
    state: Arc<State>,
    server: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct State {
    waiting: Mutex<HashMap<[u8; 32], AttachTarget>>,
    dynos: Mutex<HashMap<DynoId, DuplexStream>>,
    said: Mutex<Vec<String>>,
    /// What attaching to a dyno that is not there says.
    refusal: Mutex<Option<PortError>>,
    ended: std::sync::atomic::AtomicBool,
}

impl State {
    fn say(&self, what: &str) {
        self.said.lock().expect("lock").push(what.to_owned());
    }
}

#[async_trait]
impl AttachLookup for State {
    async fn claim(&self, token_hash: [u8; 32]) -> Option<AttachTarget> {
        self.waiting.lock().expect("lock").remove(&token_hash)
    }

    async fn has_ended(&self, _: &DynoId) -> bool {
        self.ended.load(std::sync::atomic::Ordering::Relaxed)
    }

    async fn failed(&self, _: &DynoId) {
        self.say("R13");
    }

    async fn detached(&self, _: &DynoId) {
        self.say("R16");
    }
}

#[async_trait]
impl Runtime for State {
    async fn attach(&self, dyno: &DynoId) -> Result<Duplex, PortError> {
        match self.dynos.lock().expect("lock").remove(dyno) {
            Some(stream) => Ok(Box::new(stream)),
            None => Err(self.refusal.lock().expect("lock").take().expect("a reason")),
        }
    }

    async fn hang_up(&self, _: &DynoId) -> Result<(), PortError> {
        self.say("hang up");
        Ok(())
    }

    async fn stop(&self, _: &DynoId) -> Result<(), PortError> {
        self.say("stop");
        Ok(())
    }

    async fn ensure(&self, _: &ServiceSpec) -> Result<Progress, PortError> {
        unreachable!("not asked for")
    }

    async fn remove(&self, _: &AppId, _: &ProcessType, _: Generation) -> Result<(), PortError> {
        unreachable!("not asked for")
    }

    async fn observe(&self, _: &AppId) -> Result<Observed, PortError> {
        unreachable!("not asked for")
    }

    async fn start_once(&self, _: &DynoId, _: &OneOffSpec) -> Result<(), PortError> {
        unreachable!("not asked for")
    }

    async fn forget(&self, _: &DynoId) -> Result<(), PortError> {
        unreachable!("not asked for")
    }

    async fn remove_app(&self, _: &AppId) -> Result<bool, PortError> {
        unreachable!("not asked for")
    }

    async fn apps(&self) -> Result<Vec<AppId>, PortError> {
        unreachable!("not asked for")
    }
}

type Client = client::TlsStream<TcpStream>;

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let ca = LocalCa::open(dir.path(), &[], Arc::new(SystemClock)).expect("open");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        let state = Arc::new(State::default());
        let place = Rendezvous::new(state.clone(), state.clone());
        let tls = Arc::new(ca.server_config().expect("config"));
        let server = tokio::spawn(place.serve(listener, tls));
        Self { _dir: dir, client: client_config(&ca), address, state, server }
    }

    /// A dyno that waits for its client: its token and its side of the pipe.
    fn dyno(&self, tty: bool) -> (AttachToken, DuplexStream) {
        let (token, id) = (AttachToken::new(), DynoId::new());
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        self.state.dynos.lock().expect("lock").insert(id.clone(), theirs);
        self.state.waiting.lock().expect("lock").insert(token.hash(), AttachTarget { dyno: id, tty });
        (token, ours)
    }

    async fn connect(&self, say: &str) -> Client {
        let tcp = TcpStream::connect(self.address).await.expect("connect");
        let name = ServerName::try_from("localhost").expect("a name");
        let mut client = TlsConnector::from(self.client.clone()).connect(name, tcp).await.expect("handshake");
        client.write_all(say.as_bytes()).await.expect("write");
        client
    }

    /// A client that has been greeted.
    async fn attached(&self, token: &AttachToken) -> Client {
        let mut client = self.connect(&format!("{}\r\n", token.text())).await;
        expect(&mut client, "rendezvous\r\n").await;
        client
    }

    fn said(&self) -> Vec<String> {
        self.state.said.lock().expect("lock").clone()
    }

    async fn comes_to_say(&self, what: &[&str]) {
        let said = async {
            while self.said() != what {
                sleep(Duration::from_millis(10)).await;
            }
        };
        assert!(timeout(SOON, said).await.is_ok(), "expected {what:?}, got {:?}", self.said());
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn expect(stream: &mut (impl tokio::io::AsyncRead + Unpin), text: &str) {
    let mut got = vec![0; text.len()];
    timeout(SOON, stream.read_exact(&mut got)).await.expect("in time").expect("read");
    assert_eq!(String::from_utf8_lossy(&got), text);
}

async fn rest(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> Vec<u8> {
    let mut rest = Vec::new();
    timeout(SOON, stream.read_to_end(&mut rest)).await.expect("it ends").expect("properly");
    rest
}

#[tokio::test]
async fn bytes_go_both_ways_and_end_with_the_dyno() {
    let world = World::new().await;
    let (token, mut dyno) = world.dyno(true);
    let mut client = world.attached(&token).await;
    client.write_all(b"ls\n\x03\x04").await.expect("write");
    expect(&mut dyno, "ls\n\x03\x04").await;
    dyno.write_all(b"file\r\n\xff\x00$ ").await.expect("write");
    drop(dyno);
    assert_eq!(rest(&mut client).await, b"file\r\n\xff\x00$ ");
    assert!(world.said().is_empty(), "a dyno that ended by itself is not stopped");
}

#[tokio::test]
async fn a_token_needs_no_line_end() {
    let world = World::new().await;
    let (token, mut dyno) = world.dyno(false);
    let mut client = world.connect(token.text()).await;
    expect(&mut client, "rendezvous\r\n").await;
    dyno.write_all(b"hello").await.expect("write");
    expect(&mut client, "hello").await;
}

#[tokio::test]
async fn input_that_comes_with_the_token_is_kept() {
    let world = World::new().await;
    let (token, mut dyno) = world.dyno(false);
    let _client = world.connect(&format!("{}\r\nfirst line\n", token.text())).await;
    expect(&mut dyno, "first line\n").await;
}

#[tokio::test]
async fn a_token_is_good_once() {
    let world = World::new().await;
    let (token, mut dyno) = world.dyno(false);
    let mut first = world.attached(&token).await;
    for thief in
        [format!("{}\r\n", token.text()), format!("{}\r\n", AttachToken::new().text()), "GET / HTTP/1.1\r\n\r\n".into()]
    {
        assert_eq!(rest(&mut world.connect(&thief).await).await, b"", "strangers learn nothing");
    }
    dyno.write_all(b"still here").await.expect("write");
    expect(&mut first, "still here").await;
    assert!(world.said().is_empty());
}

#[tokio::test]
async fn who_speaks_no_tls_is_refused() {
    let world = World::new().await;
    let (token, _dyno) = world.dyno(false);
    let mut plain = TcpStream::connect(world.address).await.expect("connect");
    plain.write_all(format!("{}\r\n", token.text()).as_bytes()).await.expect("write");
    let mut got = Vec::new();
    let _ = timeout(SOON, plain.read_to_end(&mut got)).await.expect("it ends");
    assert!(!String::from_utf8_lossy(&got).contains("rendezvous"));

    // A ClientHello of TLS 1.0: its version, 32 random bytes, no session, AES128-SHA, no compression.
    let hello = [&[0x03, 0x01][..], &[7; 32], &[0, 0, 2, 0x00, 0x2f, 1, 0]].concat();
    let length = |n: usize| u16::try_from(n).expect("is short").to_be_bytes();
    let record = [&[0x16, 0x03, 0x01][..], &length(hello.len() + 4), &[1, 0], &length(hello.len()), &hello].concat();
    let mut old = TcpStream::connect(world.address).await.expect("connect");
    old.write_all(&record).await.expect("write");
    let mut got = Vec::new();
    let _ = timeout(SOON, old.read_to_end(&mut got)).await.expect("it ends");
    assert_eq!(got.first(), Some(&0x15), "an alert: {got:?}");
    assert_eq!(got.get(5), Some(&2), "and a fatal one: {got:?}");
    world.attached(&token).await;
}

#[tokio::test]
async fn silent_strangers_hold_nobody_up() {
    let world = World::new().await;
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(TcpStream::connect(world.address).await.expect("connect"));
        silent.push(TcpStream::connect(world.address).await.expect("connect"));
    }
    let (token, _dyno) = world.dyno(false);
    timeout(Duration::from_secs(5), world.attached(&token)).await.expect("greeted at once");
}

#[tokio::test]
async fn end_of_input_ends_stdin_and_not_the_output() {
    let world = World::new().await;
    let (token, dyno) = world.dyno(false);
    let mut client = world.attached(&token).await;
    client.write_all(b"print(6*7)\n").await.expect("write");
    client.write_all(b"\x04").await.expect("write");
    let (mut stdin, mut stdout) = tokio::io::split(dyno);
    assert_eq!(rest(&mut stdin).await, b"print(6*7)\n", "without the 0x04");
    stdout.write_all(b"42\n").await.expect("write");
    expect(&mut client, "42\n").await;
    drop((stdin, stdout));
    assert_eq!(rest(&mut client).await, b"");
    assert!(world.said().is_empty());
}

#[tokio::test]
async fn the_same_byte_in_the_midst_is_data() {
    let world = World::new().await;
    let (token, dyno) = world.dyno(false);
    let mut client = world.attached(&token).await;
    let sent = b"\x00\x01\x04";
    client.write_all(sent).await.expect("write");
    // Longer than it would take to be sure in a text.
    sleep(Duration::from_millis(500)).await;
    client.write_all(b"\x04more\x04").await.expect("write");
    let (mut stdin, _stdout) = tokio::io::split(dyno);
    assert_eq!(rest(&mut stdin).await, b"\x00\x01\x04\x04more");
}

#[tokio::test]
async fn a_vanished_client_takes_its_dyno_along() {
    let world = World::new().await;
    let (token, dyno) = world.dyno(false);
    drop(world.attached(&token).await);
    world.comes_to_say(&["hang up"]).await;
    drop(dyno);
    world.comes_to_say(&["hang up", "stop"]).await;
    sleep(Duration::from_millis(100)).await;
    assert_eq!(world.said(), ["hang up", "stop"], "it ended: nothing to complain about");
}

#[tokio::test]
async fn a_dyno_that_does_not_mind_is_detached() {
    let world = World::new().await;
    let (token, _dyno) = world.dyno(true);
    drop(world.attached(&token).await);
    world.comes_to_say(&["hang up"]).await;
    sleep(DETACHED_AFTER).await;
    world.comes_to_say(&["hang up", "R16", "stop"]).await;
}

#[tokio::test]
async fn an_interrupted_client_still_reads_the_last_words() {
    let world = World::new().await;
    let (token, mut dyno) = world.dyno(false);
    let mut client = world.attached(&token).await;
    client.shutdown().await.expect("half-close");
    let mut nothing = [0];
    assert_eq!(timeout(SOON, dyno.read(&mut nothing)).await.expect("in time").expect("read"), 0, "stdin ends");
    world.comes_to_say(&["hang up"]).await;
    dyno.write_all(b"bye\n").await.expect("write");
    drop(dyno);
    assert_eq!(rest(&mut client).await, b"bye\n");
    world.comes_to_say(&["hang up", "stop"]).await;
}

#[tokio::test]
async fn a_dyno_that_never_comes_is_an_attach_error() {
    let world = World::new().await;
    let (token, _) = world.dyno(false);
    world.state.dynos.lock().expect("lock").clear();
    // What may come is waited for; out of date is not.
    *world.state.refusal.lock().expect("lock") = Some(PortError::Superseded);
    let mut client = world.attached(&token).await;
    let told = format!(" !    {ATTACH_ERROR}\n\u{FFFF} heroku-command-exit-status: 1\n");
    assert_eq!(String::from_utf8_lossy(&rest(&mut client).await), told);
    assert_eq!(world.said(), ["stop", "R13"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dyno_that_cannot_start_says_why_and_ends_like_a_command_that_failed() {
    let world = World::new().await;
    let (token, _) = world.dyno(false);
    world.state.dynos.lock().expect("lock").clear();
    *world.state.refusal.lock().expect("lock") = Some(PortError::permanent("starting run.1234", "no room\r\nat all"));
    let tcp = std::net::TcpStream::connect(world.address).expect("connect");
    let (config, say) = (world.client.clone(), format!("{}\r\n", token.text()));
    let reader = tokio::task::spawn_blocking(move || records(tcp, config, say));
    let records = timeout(SOON, reader).await.expect("in time").expect("reader");
    let records: Vec<_> = records.iter().map(|record| String::from_utf8_lossy(record)).collect();
    let marker = "\u{FFFF} heroku-command-exit-status: 1\n";
    assert_eq!(records, ["rendezvous\r\n", " !    starting run.1234: no room  at all\n", marker]);
    // To attach was not what went wrong.
    assert_eq!(world.said(), ["stop"]);
}

#[tokio::test]
async fn a_dyno_that_is_over_is_not_waited_for() {
    let world = World::new().await;
    let (token, _) = world.dyno(false);
    world.state.dynos.lock().expect("lock").clear();
    world.state.ended.store(true, std::sync::atomic::Ordering::Relaxed);
    *world.state.refusal.lock().expect("lock") = Some(PortError::NotFound("dyno run.1234".into()));
    let mut client = world.attached(&token).await;
    let told =
        " !    attaching to the dyno: it has ended already; its log says why\n\u{FFFF} heroku-command-exit-status: 1\n";
    assert_eq!(String::from_utf8_lossy(&rest(&mut client).await), told);
    assert_eq!(world.said(), ["stop"]);
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_the_dyno_and_not_the_server() {
    let world = World::new().await;
    let (token, mut dyno) = world.dyno(false);
    let _client = world.attached(&token).await;
    let mut taken = 0_usize;
    let block = vec![b'x'; 64 << 10];
    while timeout(Duration::from_secs(1), dyno.write_all(&block)).await.is_ok() {
        taken += block.len();
        assert!(taken < 64 << 20, "back-pressure reaches the dyno");
    }
}

/// What each TLS record held that the server sent: the chunks as Node hands them to `heroku run`.
fn records(mut tcp: std::net::TcpStream, config: Arc<ClientConfig>, say: String) -> Vec<Vec<u8>> {
    let mut tls = ClientConnection::new(config, ServerName::try_from("localhost").expect("a name")).expect("client");
    let mut records = Vec::new();
    let mut greeted = false;
    loop {
        while tls.wants_write() {
            tls.write_tls(&mut tcp).expect("write");
        }
        if !tls.is_handshaking() && !greeted {
            greeted = true;
            tls.writer().write_all(say.as_bytes()).expect("buffer");
            continue;
        }
        let mut record = vec![0; 5];
        if tcp.read_exact(&mut record).is_err() {
            return records;
        }
        record.resize(5 + usize::from(u16::from_be_bytes([record[3], record[4]])), 0);
        tcp.read_exact(&mut record[5..]).expect("a whole record");
        tls.read_tls(&mut record.as_slice()).expect("record");
        let state = tls.process_new_packets().expect("a good record");
        if state.plaintext_bytes_to_read() > 0 {
            let mut bytes = vec![0; state.plaintext_bytes_to_read()];
            tls.reader().read_exact(&mut bytes).expect("plain");
            records.push(bytes);
        }
        if state.peer_has_closed() {
            return records;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn greeting_and_exit_marker_are_records_of_their_own() {
    let marker = "\u{FFFF} heroku-command-exit-status: 7\n";
    let output = format!("building \u{FF01}\n{marker}");
    // However the dyno's bytes come in.
    for size in [1, 2, 3, 7, 20, 1_000] {
        let world = World::new().await;
        let (token, mut dyno) = world.dyno(false);
        let tcp = std::net::TcpStream::connect(world.address).expect("connect");
        let (config, say) = (world.client.clone(), format!("{}\r\n", token.text()));
        let reader = tokio::task::spawn_blocking(move || records(tcp, config, say));
        let chunks: Vec<Vec<u8>> = output.as_bytes().chunks(size).map(<[u8]>::to_vec).collect();
        let writing: BoxFuture<'_, ()> = Box::pin(async {
            for chunk in chunks {
                dyno.write_all(&chunk).await.expect("write");
                sleep(Duration::from_millis(2)).await;
            }
        });
        writing.await;
        drop(dyno);
        let records = timeout(SOON, reader).await.expect("in time").expect("reader");
        assert_eq!(records[0], b"rendezvous\r\n", "{size}");
        assert_eq!(records[1..].concat(), output.as_bytes(), "{size}");
        assert_eq!(*records.last().expect("records"), marker.as_bytes(), "{size}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_with_its_exit_status_is_no_accident() {
    let world = World::new().await;
    let (token, mut dyno) = world.dyno(false);
    let mut client = world.attached(&token).await;
    let marker = "\u{FFFF} heroku-command-exit-status: 0\n";
    dyno.write_all(marker.as_bytes()).await.expect("write");
    expect(&mut client, marker).await;
    drop(client);
    sleep(Duration::from_millis(200)).await;
    drop(dyno);
    sleep(Duration::from_millis(200)).await;
    assert!(world.said().is_empty());
}
