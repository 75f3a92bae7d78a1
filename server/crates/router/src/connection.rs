//! A client's connection: request after request, each in its turn.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::{Duration, Instant};

use crate::buf::Buf;
use crate::head::request::{Origin, Refusal};
use crate::head::{Head, Scan, SizeLimits, TooLong};
use crate::page::{Closing, Page};
use crate::serve::{self, Next};
use crate::timer::Timer;
use crate::worker::{Scratch, Worker, unix_ms};

/// Empty lines in front of a request that are forgiven; some old clients end a body with one.
const MAX_EMPTY_LINES: usize = 4;
/// How long and how much a connection is drained before it is closed, so that the client gets to read the answer
/// before it hears that the rest of its request was not wanted.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 512 * 1024;

/// A client as `serve` needs it.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    pub(crate) timer: Timer,
}

/// Serves a client until it or we close.
pub(crate) async fn serve(worker: &Arc<Worker>, stream: TcpStream, peer: SocketAddr, port: u16) {
    let peer = peer.ip().to_canonical().to_string();
    let idle = worker.limits().keep_alive();
    let mut client = Client { stream, timer: Timer::new(Instant::now() + idle) };
    loop {
        if !readable(&mut client, idle).await {
            return;
        }
        let mut scratch = worker.take_scratch();
        let next = requests(worker, &mut client, &mut scratch, &peer, port).await;
        if next == Next::Linger {
            linger(&mut client, &mut scratch.from_client).await;
        }
        worker.give_scratch(scratch);
        if next != Next::Keep {
            return;
        }
    }
}

/// Waits for the first byte of a request, holding no memory for it. False when there is none.
async fn readable(client: &mut Client, idle: Duration) -> bool {
    let deadline = Instant::now() + idle;
    std::future::poll_fn(|cx| match client.stream.poll_read_ready(cx) {
        Poll::Ready(ready) => Poll::Ready(ready.is_ok()),
        Poll::Pending if client.timer.poll_passed(cx, deadline) => Poll::Ready(false),
        Poll::Pending => Poll::Pending,
    })
    .await
}

/// Serves requests until the buffer is empty and the client may idle.
async fn requests(worker: &Arc<Worker>, client: &mut Client, scratch: &mut Scratch, peer: &str, port: u16) -> Next {
    loop {
        let end = match read_head(worker, client, &mut scratch.from_client).await {
            Ok(Some(end)) => end,
            Ok(None) => return Next::Close,
            Err(refusal) => return refuse(client, scratch, refusal).await,
        };
        let began = Instant::now();
        let at_ms = unix_ms();
        if let Err(refusal) = read_request(worker, scratch, end, peer, port, at_ms) {
            return refuse(client, scratch, refusal).await;
        }
        let next = serve::serve(worker, client, scratch, began, at_ms).await;
        if next != Next::Keep || scratch.from_client.is_empty() {
            return next;
        }
    }
}

/// Reads the head in the first `end` bytes, and takes it out of the buffer.
fn read_request(
    worker: &Worker,
    scratch: &mut Scratch,
    end: usize,
    peer: &str,
    port: u16,
    at_ms: u64,
) -> Result<(), Refusal> {
    let origin = Origin { peer, port, at_ms, fresh_id: &|| worker.request_id() };
    let read = scratch.request.read(&scratch.from_client.filled()[..end], &origin);
    scratch.from_client.consume(end);
    read
}

/// The length of the next request's head; `None` when the client left without one.
async fn read_head(worker: &Worker, client: &mut Client, buf: &mut Buf) -> Result<Option<usize>, Refusal> {
    let limits = worker.limits();
    let sizes = SizeLimits {
        first_line: limits.line_bytes,
        line: limits.line_bytes,
        lines: limits.header_count,
        total: limits.head_bytes,
    };
    let deadline = Instant::now() + limits.header_read();
    let (mut scan, mut empty_lines) = (Scan::default(), 0);
    loop {
        while buf.filled().starts_with(b"\r\n") && empty_lines < MAX_EMPTY_LINES {
            buf.consume(2);
            empty_lines += 1;
        }
        match scan.look(buf.filled(), &sizes) {
            Head::Whole(end) => return Ok(Some(end)),
            Head::Partial => {}
            Head::BareLf => return Err(Refusal { status: 400, reason: "a line feed without its carriage return" }),
            Head::TooLong(TooLong::FirstLine) => {
                return Err(Refusal { status: 414, reason: "the request line is too long" });
            }
            Head::TooLong(_) => {
                return Err(Refusal { status: 431, reason: "the header lines are too long or too many" });
            }
        }
        let filled = std::future::poll_fn(|cx| match buf.poll_fill(cx, &mut client.stream) {
            Poll::Ready(filled) => Poll::Ready(Some(filled)),
            Poll::Pending if client.timer.poll_passed(cx, deadline) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        });
        match filled.await {
            Some(Ok(1..)) => {}
            // A head that is cut off was no request: nothing to answer, nobody to log it for.
            Some(_) => return Ok(None),
            None if buf.is_empty() => return Ok(None),
            None => return Err(Refusal { status: 408, reason: "the request did not arrive in time" }),
        }
    }
}

async fn refuse(client: &mut Client, scratch: &mut Scratch, refusal: Refusal) -> Next {
    scratch.to_client.clear();
    let page = Page::Refused { status: refusal.status, reason: refusal.reason };
    page.write(&mut scratch.to_client, false, Closing::Close);
    send(client, &mut scratch.to_client, LINGER).await;
    Next::Linger
}

/// Writes `bytes`; whether the client took them all in time.
pub(crate) async fn send(client: &mut Client, bytes: &mut Vec<u8>, within: Duration) -> bool {
    let sent = tokio::time::timeout(within, client.stream.write_all(bytes)).await;
    bytes.clear();
    matches!(sent, Ok(Ok(())))
}

/// Says that nothing more comes, and reads for a while what the client still sends.
async fn linger(client: &mut Client, buf: &mut Buf) {
    if client.stream.shutdown().await.is_err() {
        return;
    }
    let deadline = Instant::now() + LINGER;
    let mut read = 0;
    while read < LINGER_BYTES {
        buf.clear();
        let filled = std::future::poll_fn(|cx| match buf.poll_fill(cx, &mut client.stream) {
            Poll::Ready(filled) => Poll::Ready(filled.unwrap_or(0)),
            Poll::Pending if client.timer.poll_passed(cx, deadline) => Poll::Ready(0),
            Poll::Pending => Poll::Pending,
        });
        match filled.await {
            0 => return,
            n => read += n,
        }
    }
}
