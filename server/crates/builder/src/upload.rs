//! What is put into a build container before it starts: one tar, made while it is sent.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use paas_phase::wire::Request;
use tar::Builder;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;

use crate::source::{self, SourceError};
use crate::tarball::{add_file, add_folders};

/// Where the CA bundle is inside the build container.
pub(crate) const CA_BUNDLE: &str = "/paas/ca-bundle.pem";
const CHUNK: usize = 256 * 1024;
const ROOT: (u64, u64) = (0, 0);

/// The parts of the tar.
pub(crate) struct Upload {
    /// The source tar.
    pub(crate) source: PathBuf,
    /// Our helper.
    pub(crate) phase: PathBuf,
    /// Certificate authorities.
    pub(crate) ca_bundle: Option<PathBuf>,
    /// What the helper is told.
    pub(crate) request: Request,
    /// `/platform/env`: secrets among them.
    pub(crate) env: BTreeMap<String, String>,
    /// The build's user.
    pub(crate) owner: (u64, u64),
}

impl Upload {
    /// The tar as a stream of chunks, and what could not be read when it breaks off: a client of HTTP says of a
    /// body only that it did.
    pub(crate) fn stream(self) -> (ReceiverStream<io::Result<Bytes>>, oneshot::Receiver<io::Error>) {
        let (sender, receiver) = mpsc::channel(8);
        let (fault, broke_off) = oneshot::channel();
        tokio::task::spawn_blocking(move || {
            let writer = Chunks { sender: sender.clone(), buffer: BytesMut::with_capacity(CHUNK) };
            if let Err(e) = self.write(writer) {
                let again = io::Error::from(e.kind());
                // Nobody reads it when the engine ended the upload.
                let _ = fault.send(e);
                let _ = sender.blocking_send(Err(again));
            }
        });
        (ReceiverStream::new(receiver), broke_off)
    }

    fn write<W: Write>(&self, to: W) -> io::Result<()> {
        let mut tar = Builder::new(to);
        add_folders(&mut tar, Path::new("paas"), ROOT)?;
        let named = |path: &Path| {
            let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
            std::fs::read(path).map_err(named)
        };
        add_file(&mut tar, "paas/phase", 0o755, &named(&self.phase)?, ROOT)?;
        add_file(&mut tar, "paas/request.json", 0o644, &serde_json::to_vec(&self.request)?, ROOT)?;
        if let Some(bundle) = &self.ca_bundle {
            add_file(&mut tar, &CA_BUNDLE[1..], 0o644, &named(bundle)?, ROOT)?;
        }
        let own = |tar: &mut Builder<W>, path: &str| {
            let mut header = crate::tarball::header(tar::EntryType::Directory, 0o755, 0, self.owner);
            tar.append_data(&mut header, path, io::empty())
        };
        add_folders(&mut tar, Path::new("platform/env"), ROOT)?;
        for (name, value) in &self.env {
            add_file(&mut tar, &format!("platform/env/{name}"), 0o400, value.as_bytes(), self.owner)?;
        }
        own(&mut tar, "layers/")?;
        own(&mut tar, "workspace/")?;
        source::write(&self.source, &mut tar, self.owner).map_err(|e| match e {
            SourceError::Io(e) => e,
            SourceError::Refused(why) => io::Error::other(why.0),
        })?;
        tar.into_inner()?.flush()
    }
}

/// Gathers what is written into chunks for the stream.
struct Chunks {
    sender: mpsc::Sender<io::Result<Bytes>>,
    buffer: BytesMut,
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = self.buffer.split().freeze();
        self.sender.blocking_send(Ok(chunk)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
