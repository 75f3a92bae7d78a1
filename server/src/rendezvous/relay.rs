//! Bytes both ways between a client and the dyno it is attached to, until one of them ends.

use std::io;
use std::time::Duration;

use paas_ports::Duplex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{sleep, timeout};

use super::exit_marker::ExitMarker;

/// What a client sends at the end of piped input.
const END_OF_INPUT: u8 = 0x04;
/// How long it has to stay the last byte to be the end and not data.
const END_IS_SURE: Duration = Duration::from_millis(100);
/// The same when the input is no text: there the byte occurs, and a slow sender may pause behind it.
const END_IS_SURE_BINARY: Duration = Duration::from_secs(2);
/// How long the beginning of what may be the exit marker is held back.
const MARKER_WITHIN: Duration = Duration::from_secs(2);
/// How long a dyno has to end by itself after its client said goodbye or has its exit status.
const GOODBYE: Duration = Duration::from_secs(2);
/// The most bytes in one TLS record.
const CHUNK: usize = 16 << 10;

/// How an attachment ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The dyno closed its output; the client has all of it.
    Dyno,
    /// The client is gone, or said goodbye and the dyno did not end by itself.
    Client,
}

/// Joins the two. `first` is what the client had already sent; `tty` is whether the dyno has a terminal, which
/// understands [`END_OF_INPUT`] itself.
pub(super) async fn relay<C>(client: &mut C, dyno: &mut Duplex, first: Vec<u8>, tty: bool) -> Ended
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let (from_client, mut to_client) = tokio::io::split(client);
    let (mut from_dyno, to_dyno) = tokio::io::split(dyno);
    let mut marker = ExitMarker::default();
    let input = Input { first, stdin: Some(to_dyno), held: false, binary: false, tty };
    let client_left = {
        let output = output(&mut from_dyno, &mut to_client, &mut marker);
        tokio::pin!(output);
        tokio::select! {
            ended = &mut output => match ended {
                Ok(()) => return Ended::Dyno,
                Err(_) => Left::Vanished,
            },
            left = input.run(from_client) => {
                // What a client still wants that has its exit status, or that said goodbye, is in these.
                if left == Left::Goodbye && matches!(timeout(GOODBYE, &mut output).await, Ok(Ok(()))) {
                    return Ended::Dyno;
                }
                left
            }
        }
    };
    if marker.seen() && client_left == Left::Vanished {
        // It has what it came for, and the command is over: its shell needs a moment to end.
        let mut rest = Vec::new();
        if matches!(timeout(GOODBYE, from_dyno.read_to_end(&mut rest)).await, Ok(Ok(_))) {
            return Ended::Dyno;
        }
    }
    Ended::Client
}

/// How a client left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    /// It closed its half properly: `heroku run` does so when it is interrupted.
    Goodbye,
    /// Its connection is no more.
    Vanished,
}

async fn output(
    dyno: &mut (impl AsyncRead + Unpin),
    client: &mut (impl AsyncWrite + Unpin),
    marker: &mut ExitMarker,
) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = if marker.holds() {
            match timeout(MARKER_WITHIN, dyno.read(&mut buffer)).await {
                Ok(read) => read,
                Err(_) => {
                    client.write_all(&marker.release()).await?;
                    client.flush().await?;
                    continue;
                }
            }
        } else {
            dyno.read(&mut buffer).await
        };
        // A dyno whose bytes end with an error has ended.
        let Ok(read @ 1..) = read else { break };
        for chunk in marker.push(&buffer[..read]) {
            client.write_all(&chunk).await?;
            client.flush().await?;
        }
    }
    client.write_all(&marker.release()).await?;
    client.flush().await
}

struct Input<W> {
    first: Vec<u8>,
    /// `None` once it was ended.
    stdin: Option<W>,
    /// Whether an [`END_OF_INPUT`] was read that may be data.
    held: bool,
    binary: bool,
    tty: bool,
}

impl<W: AsyncWrite + Unpin> Input<W> {
    /// Reads until the client leaves.
    async fn run(mut self, mut client: impl AsyncRead + Unpin) -> Left {
        let first = std::mem::take(&mut self.first);
        self.take(&first).await;
        let mut buffer = vec![0; CHUNK];
        loop {
            let sure = if self.binary { END_IS_SURE_BINARY } else { END_IS_SURE };
            let read = tokio::select! {
                read = client.read(&mut buffer) => read,
                () = sleep(sure), if self.held => {
                    self.end().await;
                    continue;
                }
            };
            match read {
                Ok(0) => {
                    self.end().await;
                    return Left::Goodbye;
                }
                Ok(read) => self.take(&buffer[..read]).await,
                Err(_) => return Left::Vanished,
            }
        }
    }

    async fn take(&mut self, mut bytes: &[u8]) {
        if bytes.is_empty() || self.stdin.is_none() {
            return;
        }
        if !self.tty {
            if std::mem::take(&mut self.held) {
                self.write(&[END_OF_INPUT]).await;
            }
            if let Some(before) = bytes.strip_suffix(&[END_OF_INPUT]) {
                (self.held, bytes) = (true, before);
            }
            self.binary |= bytes.iter().any(|byte| matches!(byte, 0..=8 | 14..=26 | 28..=31 | 127));
        }
        self.write(bytes).await;
    }

    /// A dyno that closed its stdin takes no more; its output goes on.
    async fn write(&mut self, bytes: &[u8]) {
        let Some(stdin) = &mut self.stdin else { return };
        if stdin.write_all(bytes).await.is_err() || stdin.flush().await.is_err() {
            self.stdin = None;
        }
    }

    async fn end(&mut self) {
        self.held = false;
        if let Some(mut stdin) = self.stdin.take() {
            // Fails when the dyno is quicker.
            let _ = stdin.shutdown().await;
        }
    }
}
