//! The bytes of a one-off dyno.
//!
//! Spoken to the engine directly and not through bollard, whose decoder takes a terminal's bytes 0 to 2 for
//! a frame's header.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::query_parameters::LogsOptionsBuilder;
use bytes::Bytes;
use futures_util::StreamExt as _;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use paas_ports::{Duplex, PortError};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::io::StreamReader;

use super::Inner;
use super::book::Dyno;

/// The engine takes these keys for "detach": nobody types them. (Its default is Ctrl-P Ctrl-Q, which people do.)
const DETACH_KEYS: &str = "ctrl-%5E,ctrl-_,ctrl-%5E,ctrl-_,ctrl-%5E,ctrl-_";
/// Bytes on their way from the engine to the reader.
const BUFFER: usize = 64 * 1024;
/// Pieces of a log on their way from the engine to the reader.
const PIECES: usize = 64;
/// How long to wait before a log is read again that could not be followed to its end.
const READ_AGAIN: Duration = Duration::from_millis(300);

/// Joins a dyno's stdin and output. `replay` sends first what it wrote so far.
pub(crate) async fn hijack(socket: &Path, dyno: &Dyno, replay: bool) -> Result<Duplex, PortError> {
    let doing = "attaching to a dyno";
    let failed = |e: &dyn std::fmt::Display| PortError::transient(doing, e);
    let stream = UnixStream::connect(socket).await.map_err(|e| failed(&e))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| failed(&e))?;
    tokio::spawn(connection.with_upgrades());
    let replay = u8::from(replay);
    let request = Request::post(format!(
        "/containers/{}/attach?stream=1&stdin=1&stdout=1&stderr=1&logs={replay}&detachKeys={DETACH_KEYS}",
        dyno.container
    ))
    .header("host", "docker")
    .header("connection", "Upgrade")
    .header("upgrade", "tcp")
    .body(Empty::<Bytes>::new())
    .map_err(|e| failed(&e))?;
    let response = sender.send_request(request).await.map_err(|e| failed(&e))?;
    match response.status() {
        StatusCode::SWITCHING_PROTOCOLS => {}
        StatusCode::NOT_FOUND => return Err(PortError::NotFound("the dyno".to_owned())),
        status => {
            let body =
                response.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
            return Err(PortError::transient(doing, format!("{status}: {}", String::from_utf8_lossy(&body))));
        }
    }
    let upgraded = hyper::upgrade::on(response).await.map_err(|e| failed(&e))?;
    let (reader, writer) = tokio::io::split(TokioIo::new(upgraded));
    if dyno.tag.tty {
        return Ok(Box::new(tokio::io::join(reader, writer)));
    }
    let (to_reader, output) = tokio::io::simplex(BUFFER);
    tokio::spawn(async move {
        // The reader going away, or the engine, is the end of it.
        let _ = unframe(reader, output).await;
    });
    Ok(Box::new(tokio::io::join(to_reader, writer)))
}

/// Without a terminal the engine frames what it sends: stream, three zeros, length, bytes.
async fn unframe(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    let mut header = [0_u8; 8];
    loop {
        if from.read_exact(&mut header).await.is_err() {
            return to.shutdown().await;
        }
        let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        let copied = tokio::io::copy(&mut (&mut from).take(u64::from(length)), &mut to).await?;
        if copied < u64::from(length) {
            return to.shutdown().await;
        }
        to.flush().await?;
    }
}

impl Inner {
    /// What a dyno wrote from its first byte on, until it ends; what is written to it goes nowhere.
    ///
    /// It comes from the engine's log, which has all of it (its last 30 MB), however late somebody comes to read: what is
    /// attached to begins at some byte or other. It comes by lines: what has no end yet is not in the log.
    pub(crate) fn output_only(self: &Arc<Self>, dyno: &Arc<Dyno>) -> Duplex {
        let (to, pieces) = mpsc::channel(PIECES);
        let (inner, dyno) = (Arc::clone(self), Arc::clone(dyno));
        tokio::spawn(async move {
            tokio::select! {
                () = to.closed() => {}
                // That is no end of what it wrote.
                () = inner.closing.cancelled() => { let _ = to.send(Err(io::Error::other("the server stops"))).await; }
                () = inner.send_output(&dyno, &to) => {}
            }
        });
        Box::new(tokio::io::join(StreamReader::new(ReceiverStream::new(pieces)), tokio::io::sink()))
    }

    /// Sends what the engine's log has of a dyno, until it has ended and all of it is sent. An engine that can follow no
    /// more logs ends the stream at once; then it is read again.
    async fn send_output(&self, dyno: &Dyno, to: &mpsc::Sender<io::Result<Bytes>>) {
        let mut facts = dyno.watch();
        let mut sent = 0_usize;
        loop {
            let ended = facts.borrow().exit.is_some();
            let options = LogsOptionsBuilder::new().follow(!ended).stdout(true).stderr(true).build();
            let mut pieces = std::pin::pin!(self.docker.logs(&dyno.container, Some(options)).enumerate());
            while let Some((at, piece)) = pieces.next().await {
                let piece = piece.map(LogOutput::into_bytes).map_err(io::Error::other);
                let broken = piece.is_err();
                if at < sent && !broken {
                    continue;
                }
                sent += 1;
                if to.send(piece).await.is_err() || broken {
                    return;
                }
            }
            if ended {
                return;
            }
            let exit = facts.wait_for(|f| f.exit.is_some());
            let _ = tokio::time::timeout(READ_AGAIN, exit).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_are_taken_off() {
        let mut framed = Vec::new();
        for (stream, text) in [(1_u8, "out\n"), (2, "err\n"), (1, ""), (1, "\u{1}\u{0}end")] {
            framed.extend_from_slice(&[stream, 0, 0, 0]);
            framed.extend_from_slice(&u32::try_from(text.len()).expect("short").to_be_bytes());
            framed.extend_from_slice(text.as_bytes());
        }
        let mut plain = Vec::new();
        unframe(framed.as_slice(), &mut plain).await.expect("copies");
        assert_eq!(plain, b"out\nerr\n\x01\x00end");
    }
}
