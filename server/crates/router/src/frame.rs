//! What server and router say to each other: frames of JSON behind their length.
//!
//! The server asks, each question with a number; the router answers with that number, and says of its own accord
//! who it is, what it logged and who has drained. Fields are only ever added; one that a router has to honour raises
//! [`PROTOCOL`], so that an older one is replaced.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;

use paas_domain::{AppId, DynoId, InstallId, ProcessType};
use paas_ports::{Attachment, Member, PortError, Route};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize, Serializer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::log::{Lost, Written};

/// What both sides must agree on to understand each other.
pub(crate) const PROTOCOL: u32 = 2;
/// A table of all that we promise to hold is far smaller.
const MAX_FRAME: u32 = 64 * 1024 * 1024;

/// From the server.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    /// Chosen by the server; the answer carries it.
    pub(crate) number: u64,
    pub(crate) ask: Ask,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ask {
    Place {
        app: AppId,
        process_type: ProcessType,
    },
    Publish {
        route: Route,
    },
    Remove {
        app: AppId,
    },
    Apps,
    SetPool {
        pool: Attachment,
        wanted: u16,
        members: Vec<Member>,
    },
    InFlight {
        pool: Attachment,
        dyno: DynoId,
    },
    /// From now on this connection gets log lines and `drained`.
    Subscribe,
    /// These lines are in good hands.
    TookLines {
        batch: u64,
    },
    /// Takes nothing new, lets what runs go on for this long, ends.
    Shutdown {
        grace_ms: u64,
    },
}

/// From the router.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Say {
    Hello(Hello),
    Answer { number: u64, result: Result<Answer, Refused> },
    Lines(LineFrame),
    Drained { pool: Attachment, dyno: DynoId },
}

/// The first frame of the router on each connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) protocol: u32,
    pub(crate) version: String,
    pub(crate) install: InstallId,
    pub(crate) pid: u32,
    /// Different for each start.
    pub(crate) boot: String,
    pub(crate) listen: Vec<SocketAddr>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    Done,
    Pool(Attachment),
    Apps(Vec<AppId>),
    InFlight(u32),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Refused {
    Superseded,
    NotFound(String),
    Permanent { doing: String, cause: String },
}

/// Router log lines, in the order they were written by each worker.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LineFrame {
    pub(crate) batch: u64,
    /// App, milliseconds since 1970, text.
    pub(crate) lines: Vec<(AppId, i64, String)>,
    /// App, how many lines were lost, since when.
    pub(crate) lost: Vec<(AppId, u64, i64)>,
}

/// [`Say::Lines`] out of what the workers wrote, without a copy of each line.
#[derive(Serialize)]
#[serde(rename = "Say", rename_all = "snake_case")]
pub(crate) enum SayLines<'a> {
    Lines(WrittenFrame<'a>),
}

/// A [`LineFrame`] on its way out.
#[derive(Serialize)]
pub(crate) struct WrittenFrame<'a> {
    batch: u64,
    #[serde(serialize_with = "lines")]
    lines: &'a [Written],
    lost: Vec<(&'a AppId, u64, i64)>,
}

impl<'a> SayLines<'a> {
    pub(crate) fn new(batch: u64, written: &'a [Written]) -> Self {
        let mut lost: BTreeMap<&AppId, Lost> = BTreeMap::new();
        for (app, more) in written.iter().flat_map(|w| &w.lost) {
            let lost = lost.entry(app).or_insert(Lost { count: 0, since_ms: more.since_ms });
            lost.count += more.count;
            lost.since_ms = lost.since_ms.min(more.since_ms);
        }
        let lost = lost.into_iter().map(|(app, lost)| (app, lost.count, lost.since_ms)).collect();
        Self::Lines(WrittenFrame { batch, lines: written, lost })
    }
}

fn lines<S: Serializer>(written: &&[Written], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(written.iter().flat_map(Written::lines))
}

impl From<PortError> for Refused {
    fn from(error: PortError) -> Self {
        match error {
            PortError::Superseded => Self::Superseded,
            PortError::NotFound(what) => Self::NotFound(what),
            PortError::Transient { doing, cause } | PortError::Permanent { doing, cause } => {
                Self::Permanent { doing, cause }
            }
        }
    }
}

impl From<Refused> for PortError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Superseded => Self::Superseded,
            Refused::NotFound(what) => Self::NotFound(what),
            Refused::Permanent { doing, cause } => Self::Permanent { doing, cause },
        }
    }
}

/// The bytes of a frame.
pub(crate) fn encode<T: Serialize>(message: &T) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, message)?;
    let length = u32::try_from(frame.len() - 4).ok().filter(|n| *n <= MAX_FRAME);
    let length = length.ok_or_else(|| io::Error::other("a frame too large to send"))?;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    Ok(frame)
}

/// Reads a frame; `None` at the end of the stream.
pub(crate) async fn read<T: DeserializeOwned>(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<T>> {
    let length = match from.read_u32().await {
        Ok(length) if length <= MAX_FRAME => length,
        Ok(_) => return Err(io::Error::other("a frame too large to read")),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(e) => return Err(e),
    };
    let mut frame = Vec::new();
    from.take(u64::from(length)).read_to_end(&mut frame).await?;
    Ok(Some(serde_json::from_slice(&frame)?))
}

/// Writes a frame.
pub(crate) async fn write<T: Serialize>(to: &mut (impl AsyncWrite + Unpin), message: &T) -> io::Result<()> {
    to.write_all(&encode(message)?).await
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arc_swap::ArcSwap;

    use super::*;
    use crate::log::{Lines, LogShare};
    use crate::table::App;

    #[test]
    fn lines_read_back_as_they_were_written() {
        let (lines, share) = (Lines::default(), LogShare::new(2));
        let app = Arc::new(App { id: AppId::new(), live: ArcSwap::default() });
        for text in ["first \"line\"", "second", "lost", "lost too"] {
            lines.add(&share, &app, 7, |out| out.extend_from_slice(text.as_bytes()));
        }
        let written = [lines.take()];
        let frame = encode(&SayLines::new(3, &written)).expect("encoded");
        let Say::Lines(read) = serde_json::from_slice(&frame[4..]).expect("decoded") else { panic!("other words") };
        assert_eq!((read.batch, read.lost), (3, vec![(app.id.clone(), 2, 7)]));
        let expected = [(app.id.clone(), 7, "first \"line\"".to_owned()), (app.id.clone(), 7, "second".to_owned())];
        assert_eq!(read.lines, expected);
    }
}
