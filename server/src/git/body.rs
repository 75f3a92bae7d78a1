//! A request's body as it comes in: chunked or not, compressed or not, within limits.

use std::io::{self, Read as _};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _};
use http::{HeaderMap, header};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::io::{StreamReader, SyncIoBridge};

const CHUNK: usize = 32 * 1024;

/// The bytes of a request, inflated.
pub(super) struct Incoming {
    parts: BoxStream<'static, io::Result<Bytes>>,
    left: u64,
    idle: Duration,
}

/// A compression that we do not read.
#[derive(Debug)]
pub(super) struct UnknownEncoding;

impl Incoming {
    /// At most `limit` bytes when inflated, none of them later than `idle` after the one before.
    pub(super) fn new(headers: &HeaderMap, body: Body, limit: u64, idle: Duration) -> Result<Self, UnknownEncoding> {
        let parts = body.into_data_stream().map_err(io::Error::other).boxed();
        let encoding = headers.get(header::CONTENT_ENCODING).map(http::HeaderValue::as_bytes);
        let parts = match encoding {
            None | Some(b"identity") => parts,
            Some(b"gzip" | b"x-gzip") => inflate(parts),
            Some(_) => return Err(UnknownEncoding),
        };
        Ok(Self { parts, left: limit, idle })
    }

    /// The next bytes; `None` at the end.
    pub(super) async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let part = tokio::time::timeout(self.idle, self.parts.next()).await.map_err(|_| io::ErrorKind::TimedOut)?;
        let Some(part) = part.transpose()? else { return Ok(None) };
        self.left = self.left.checked_sub(part.len() as u64).ok_or(io::ErrorKind::FileTooLarge)?;
        Ok(Some(part))
    }

    /// Reads what is left and forgets it.
    pub(super) async fn drain(mut self) {
        while let Ok(Some(_)) = self.next().await {}
    }
}

/// Inflates on a thread of its own: bounded chunks come out, whatever a compressed byte stands for.
fn inflate(parts: BoxStream<'static, io::Result<Bytes>>) -> BoxStream<'static, io::Result<Bytes>> {
    let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(2);
    let reader = SyncIoBridge::new(StreamReader::new(parts));
    tokio::task::spawn_blocking(move || {
        let mut reader = flate2::read::GzDecoder::new(io::BufReader::with_capacity(CHUNK, reader));
        loop {
            let mut chunk = vec![0; CHUNK];
            let part = match reader.read(&mut chunk) {
                Ok(0) => return,
                Ok(read) => {
                    chunk.truncate(read);
                    Ok(Bytes::from(chunk))
                }
                Err(error) => Err(error),
            };
            let failed = part.is_err();
            if sender.blocking_send(part).is_err() || failed {
                return;
            }
        }
    });
    ReceiverStream::new(receiver).boxed()
}
