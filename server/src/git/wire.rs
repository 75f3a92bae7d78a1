//! What a hook and the server say to each other over their socket.
//!
//! A frame is a kind (one byte), a length (four bytes, big-endian) and as many bytes: a message as JSON, or
//! output as it is. No text can end a frame.

use std::io::{self, Read, Write};

use bytes::Bytes;
use paas_domain::RefName;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Names the variable of the hook's environment that holds the socket's path.
pub(super) const SOCKET_VARIABLE: &str = "PAAS_HOOK_SOCKET";
/// Names the variable that holds the push's token, good once.
pub(super) const TOKEN_VARIABLE: &str = "PAAS_HOOK_TOKEN";
/// Names the variable that holds how many bytes a file of a deployed commit may have.
pub(super) const MAX_FILE_VARIABLE: &str = "PAAS_HOOK_MAX_FILE";
/// Names the variable that holds how many files and folders a deployed commit may have.
pub(super) const MAX_ENTRIES_VARIABLE: &str = "PAAS_HOOK_MAX_ENTRIES";
/// The object id that stands for "none".
pub(super) const NO_OBJECT: &str = "0000000000000000000000000000000000000000";

const MESSAGE: u8 = 0;
const OUTPUT: u8 = 1;
const MAX_FRAME: usize = 16 * 1024 * 1024;

/// What one push wants of one ref.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RefUpdate {
    /// Where the pusher believes it is.
    pub(super) old: String,
    /// Where it should be.
    pub(super) new: String,
    /// Which ref.
    pub(super) name: RefName,
}

impl RefUpdate {
    /// Whether the ref is to go away.
    pub(super) fn deletes(&self) -> bool {
        self.new == NO_OBJECT
    }
}

/// What became of one ref.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Answer {
    /// Which ref.
    pub(super) name: RefName,
    /// Why it did not move; `None` when it is as the push wants it.
    pub(super) refused: Option<String>,
}

/// What `proc-receive` asks.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PushMessage {
    /// Which push this is.
    pub(super) token: String,
    /// Whether all refs move or none.
    pub(super) atomic: bool,
    /// What it wants.
    pub(super) updates: Vec<RefUpdate>,
}

/// What the server tells `proc-receive`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ServerMessage {
    /// A build goes on from here, whatever happens to the push.
    Accepted,
    /// The end.
    Report(Vec<Answer>),
}

/// A frame as it was read.
#[derive(Debug)]
pub(super) enum Frame {
    Message(Vec<u8>),
    Output(Vec<u8>),
}

impl Frame {
    /// Reads the message in this frame.
    pub(super) fn parse<T: DeserializeOwned>(&self) -> io::Result<T> {
        match self {
            Self::Message(json) => serde_json::from_slice(json).map_err(io::Error::from),
            Self::Output(_) => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    fn new(kind: u8, bytes: Vec<u8>) -> io::Result<Self> {
        match kind {
            MESSAGE => Ok(Self::Message(bytes)),
            OUTPUT => Ok(Self::Output(bytes)),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// A message as a frame.
pub(super) fn message(of: &impl Serialize) -> io::Result<Bytes> {
    Ok(frame(MESSAGE, &serde_json::to_vec(of)?))
}

/// Output as a frame.
pub(super) fn output(bytes: &[u8]) -> Bytes {
    frame(OUTPUT, bytes)
}

fn frame(kind: u8, bytes: &[u8]) -> Bytes {
    let mut frame = Vec::with_capacity(bytes.len() + 5);
    frame.push(kind);
    frame.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    frame.extend_from_slice(bytes);
    frame.into()
}

fn head(head: [u8; 5]) -> io::Result<(u8, usize)> {
    let [kind, length @ ..] = head;
    let length = u32::from_be_bytes(length) as usize;
    if length > MAX_FRAME { Err(io::ErrorKind::InvalidData.into()) } else { Ok((kind, length)) }
}

/// Reads one frame, in the server.
pub(super) async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Frame> {
    let mut bytes = [0; 5];
    from.read_exact(&mut bytes).await?;
    let (kind, length) = head(bytes)?;
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes).await?;
    Frame::new(kind, bytes)
}

/// Reads one frame, in the hook.
pub(super) fn read_blocking(from: &mut impl Read) -> io::Result<Frame> {
    let mut bytes = [0; 5];
    from.read_exact(&mut bytes)?;
    let (kind, length) = head(bytes)?;
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes)?;
    Frame::new(kind, bytes)
}

/// Writes a message, in the hook.
pub(super) fn write_blocking(to: &mut impl Write, of: &impl Serialize) -> io::Result<()> {
    to.write_all(&message(of)?)
}
