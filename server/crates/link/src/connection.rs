//! One connection of one dyno: frames in, frames out, until either end leaves.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use paas_domain::{Clock as _, DynoName, SystemClock, Timestamp};
use paas_link_frames::{Exit, FrameError, FromDyno, FromHub, HEADER, Lines, MAX_FRAME, NotThere, header};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::session::{Said, Session};
use crate::{Gap, LinkEvents, NumberedLine};

/// When a side says that it is there.
const PING_EVERY: Duration = Duration::from_secs(paas_link_frames::PING_EVERY_S);
/// When a side takes the link for cut.
const SILENT_FOR: Duration = Duration::from_secs(paas_link_frames::SILENT_FOR_S);
/// How long the rest of a frame may take: one longest line at 32 KB a second.
const FRAME_WITHIN: Duration = Duration::from_secs(10);
/// Frames up to this size are read without asking for room.
const SMALL: usize = 64 << 10;
/// What large frames of all connections may take together, in KiB.
const ROOM_KIB: usize = 32 << 10;
/// How many frames are worked on at a time.
const AT_WORK: usize = 32;

/// What all connections share. Both are first come, first served, so a dyno that says much has each of its frames
/// wait behind one of every other.
pub(crate) struct Room {
    large: Semaphore,
    work: Semaphore,
}

impl Default for Room {
    fn default() -> Self {
        Self { large: Semaphore::new(ROOM_KIB), work: Semaphore::new(AT_WORK) }
    }
}

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Cut {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("{0}")]
    NotThere(#[from] NotThere),
    #[error("nothing was heard for a minute")]
    Silent,
    #[error("a frame does not belong here")]
    Order,
    #[error("lines could not be stored: {0}")]
    Store(paas_ports::PortError),
    #[error("a newer connection, or the end of the server")]
    Replaced,
}

/// Reads one frame of at most `limit` bytes. The first byte may take as long as `patience`.
pub(crate) async fn read(
    from: &mut (impl AsyncRead + Unpin),
    limit: usize,
    patience: Duration,
    room: &Room,
) -> Result<FromDyno, Cut> {
    let mut head = [0; HEADER];
    timeout(patience, from.read_exact(&mut head[..1])).await.map_err(|_| Cut::Silent)??;
    let rest = async {
        from.read_exact(&mut head[1..]).await?;
        let (kind, length) = header(head, limit)?;
        let _room = if length > SMALL {
            let kib = u32::try_from(length >> 10).unwrap_or(u32::MAX);
            Some(room.large.acquire_many(kib).await.map_err(|_| Cut::Replaced)?)
        } else {
            None
        };
        let mut fields = vec![0; length];
        from.read_exact(&mut fields).await?;
        Ok(FromDyno::read(kind, &fields)?)
    };
    timeout(FRAME_WITHIN, rest).await.map_err(|_| Cut::Silent)?
}

/// Speaks with a dyno that was let in, until the connection ends.
pub(crate) async fn serve<R, W>(
    session: &Arc<Session>,
    (mut from, to): (R, W),
    (said, room): (Said, &Room),
    events: &dyn LinkEvents,
    end: &CancellationToken,
) -> Cut
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin + Send + 'static,
{
    let writer = tokio::spawn(write(session.clone(), to, said, end.clone()));
    let cut = loop {
        let frame = tokio::select! {
            frame = read(&mut from, MAX_FRAME, SILENT_FOR, room) => frame,
            () = end.cancelled() => Err(Cut::Replaced),
        };
        let taken = match frame {
            Ok(frame) => {
                let _work = room.work.acquire().await;
                take(session, frame, events).await
            }
            Err(cut) => Err(cut),
        };
        if let Err(cut) = taken {
            break cut;
        }
    };
    end.cancel();
    // It says goodbye to the other end and is gone within seconds.
    let _ = writer.await;
    cut
}

async fn write(session: Arc<Session>, mut to: impl AsyncWrite + Unpin, mut said: Said, end: CancellationToken) {
    let mut out = Vec::new();
    loop {
        session.tell(&mut said, &mut out);
        if out.is_empty() {
            tokio::select! {
                () = session.say.notified() => continue,
                () = sleep(PING_EVERY) => FromHub::Ping.put(&mut out),
                () = end.cancelled() => break,
            }
        }
        let sent = async {
            to.write_all(&out).await?;
            to.flush().await
        };
        let sent = tokio::select! {
            sent = timeout(SILENT_FOR, sent) => matches!(sent, Ok(Ok(()))),
            () = end.cancelled() => false,
        };
        if !sent {
            break;
        }
        out.clear();
    }
    end.cancel();
    let _ = timeout(Duration::from_secs(2), to.shutdown()).await;
    // Whoever comes next has to look again at all there is to say.
    session.say.notify_one();
}

async fn take(session: &Session, frame: FromDyno, events: &dyn LinkEvents) -> Result<(), Cut> {
    match frame {
        FromDyno::Hello(_) => return Err(Cut::Order),
        FromDyno::Started { name } => {
            let name: DynoName = name.parse().map_err(|_| Cut::Order)?;
            events.started(&session.who(), &name).await;
            session.call(None, Some(&name));
        }
        FromDyno::Lines(lines) => take_lines(session, lines, events).await?,
        FromDyno::Output { offset, bytes } => {
            if !session.attached {
                return Err(Cut::Order);
            }
            session.state().output.put(offset, &bytes)?;
            session.say.notify_one();
        }
        FromDyno::InputTaken { offset } => {
            let mut state = session.state();
            state.input.taken(offset)?;
            state.wake_writers();
            drop(state);
            session.say.notify_one();
        }
        FromDyno::InputClosed => {
            let mut state = session.state();
            state.input_closed = true;
            state.wake_writers();
        }
        FromDyno::Exit(exit) => take_exit(session, exit, events).await?,
        FromDyno::Ping => {}
    }
    Ok(())
}

async fn take_lines(session: &Session, frame: Lines, events: &dyn LinkEvents) -> Result<(), Cut> {
    let (known, last_line) = {
        let state = session.state();
        (state.lines, state.last_line)
    };
    let (now, numbers) = (SystemClock.now(), frame.first..);
    let lines: Vec<NumberedLine> = numbers
        .zip(frame.lines)
        .filter(|(number, _)| *number > known)
        .map(|(number, line)| NumberedLine {
            number,
            // A dyno's clock may be wrong, but no line is from the future.
            at: i64::try_from(line.at_ms).map_or(now, Timestamp).min(now),
            stream: line.stream,
            bytes: Bytes::from(line.bytes),
        })
        .collect();
    let Some((first, last)) = lines.first().zip(lines.last()) else { return Ok(()) };
    let (before, at, number) = (first.at, last.at, last.number);
    if first.number > known + 1 {
        let gap = Gap { lines: known + 1..=first.number - 1, after: last_line, before: Some(before) };
        events.gap(&session.who(), gap).await;
        // Said once, also when the lines have to come again.
        session.state().lines = first.number - 1;
    }
    let kept = (session.one_off.is_some() && !session.attached).then(|| lines.clone());
    events.lines(&session.who(), lines).await.map_err(Cut::Store)?;
    let mut state = session.state();
    (state.lines, state.last_line) = (number, Some(at));
    for line in kept.iter().flatten() {
        state.output.append(&line.bytes);
        state.output.append(b"\n");
    }
    drop(state);
    session.say.notify_one();
    Ok(())
}

async fn take_exit(session: &Session, exit: Exit, events: &dyn LinkEvents) -> Result<(), Cut> {
    let (known, after, received, known_exit) = {
        let state = session.state();
        (state.lines, state.last_line, state.output.received(), state.exit)
    };
    if session.attached && exit.output > received {
        return Err(Cut::Order);
    }
    if exit.lines > known {
        session.state().lines = exit.lines;
        events.gap(&session.who(), Gap { lines: known + 1..=exit.lines, after, before: None }).await;
    }
    if known_exit.is_none() {
        events.exited(&session.who(), exit.code).await;
    }
    session.end(Some(exit.code));
    Ok(())
}

#[cfg(test)]
mod tests;
