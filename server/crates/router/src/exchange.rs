//! One request and its answer, between a client and a dyno, both directions at once.
//!
//! Bytes are read only when the other side has taken those before them: that is all the back-pressure there is.
//! The exchange ends in one of the ways of [`End`]; what to tell the client and the log is decided by the caller.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::body::{Sink, Source};
use crate::buf::{Buf, FIRST_SIZE};
use crate::half_close;
use crate::head::answer::{self, Answer, Asked, BadAnswer};
use crate::head::{Head, Scan, SizeLimits, TooLong};
use crate::options::Limits;
use crate::timer::Timer;

/// More interim answers (1xx) than this are no answer.
const MAX_INTERIM: u8 = 16;

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The client has the whole answer.
    Complete,
    /// The client has the 101; from here the bytes are the app's own.
    Upgraded,
    Fault(Fault),
}

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The dyno closed without a byte.
    NoAnswer,
    /// The dyno closed in the middle.
    Interrupted,
    /// The answer is not HTTP.
    BadAnswer,
    /// The answer breaks a limit.
    Restricted,
    /// No answer began in time.
    FirstByte,
    /// The dyno fell silent.
    DynoIdle,
    /// The client closed, and not only its half right behind its request.
    ClientGone,
    /// The client fell silent, or stopped reading.
    ClientIdle,
    /// The request's body is not framed as it says.
    BadRequestBody,
    /// The client sent bytes behind an upgrade request before it was accepted.
    EarlyBytes,
}

/// Bytes on their way out.
pub(crate) struct Outgoing<'a> {
    bytes: &'a mut Vec<u8>,
    sent: usize,
}

impl<'a> Outgoing<'a> {
    pub(crate) fn new(bytes: &'a mut Vec<u8>) -> Self {
        Self { bytes, sent: 0 }
    }

    /// Writes until all is sent; `Ready(Ok(true))` when anything was.
    pub(crate) fn poll_send(&mut self, cx: &mut Context<'_>, to: &mut TcpStream) -> Poll<io::Result<bool>> {
        let before = self.sent;
        while self.sent < self.bytes.len() {
            match Pin::new(&mut *to).poll_write(cx, &self.bytes[self.sent..]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(n)) => self.sent += n,
                Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
                Poll::Pending => {
                    // What was sent in part counts as movement, so the caller hears of it as an empty step.
                    return Poll::Pending;
                }
            }
        }
        let moved = self.sent > before;
        self.bytes.clear();
        self.sent = 0;
        Poll::Ready(Ok(moved))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn bytes(&mut self) -> &mut Vec<u8> {
        self.bytes
    }

    pub(crate) fn sent(&self) -> usize {
        self.sent
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Upload {
    Running,
    Done,
    /// The dyno takes no more; it may still answer.
    Dead,
}

#[derive(Debug, PartialEq, Eq)]
enum Download {
    Head,
    Body { source: Source, sink: Sink },
    Upgraded,
}

pub(crate) struct Exchange<'a> {
    client: &'a mut TcpStream,
    from_client: &'a mut Buf,
    dyno: &'a mut TcpStream,
    from_dyno: &'a mut Buf,
    to_dyno: Outgoing<'a>,
    to_client: Outgoing<'a>,
    timer: &'a mut Timer,
    limits: &'a Limits,
    asked: Asked,
    body: Source,
    body_seen: bool,
    upload: Upload,
    uploaded_at: Instant,
    /// The client closed its half behind its request: no more comes from it.
    half_closed: bool,
    download: Download,
    scan: Scan,
    interim: u8,
    /// Grows with every byte in any direction.
    moved: u64,
    last_move: Instant,
    pub(crate) outcome: Outcome,
}

/// What is known of the answer so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outcome {
    /// The answer's head was accepted and is on its way: no page of ours can follow.
    pub(crate) committed: bool,
    /// The dyno sent something.
    pub(crate) heard: bool,
    pub(crate) status: u16,
    pub(crate) bytes: u64,
    /// The request was sent whole.
    pub(crate) uploaded: bool,
    pub(crate) dyno_keeps: bool,
    pub(crate) client_keeps: bool,
    /// The client tells the end of the body by the end of the connection.
    pub(crate) ends_with_close: bool,
}

/// The two ends and the memory of an exchange.
pub(crate) struct Ends<'a> {
    pub(crate) client: &'a mut TcpStream,
    pub(crate) from_client: &'a mut Buf,
    pub(crate) dyno: &'a mut TcpStream,
    pub(crate) from_dyno: &'a mut Buf,
    /// Holds the request's head.
    pub(crate) to_dyno: &'a mut Vec<u8>,
    pub(crate) to_client: &'a mut Vec<u8>,
    pub(crate) timer: &'a mut Timer,
}

impl<'a> Exchange<'a> {
    pub(crate) fn new(ends: Ends<'a>, body: Source, asked: Asked, limits: &'a Limits) -> Self {
        let now = Instant::now();
        Self {
            client: ends.client,
            from_client: ends.from_client,
            dyno: ends.dyno,
            from_dyno: ends.from_dyno,
            to_dyno: Outgoing::new(ends.to_dyno),
            to_client: Outgoing::new(ends.to_client),
            timer: ends.timer,
            limits,
            asked,
            body,
            body_seen: false,
            upload: Upload::Running,
            uploaded_at: now,
            half_closed: false,
            download: Download::Head,
            scan: Scan::default(),
            interim: 0,
            moved: 0,
            last_move: now,
            outcome: Outcome::default(),
        }
    }

    /// To be polled until it is ready, and not again.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let before = (self.moved, self.to_dyno.sent(), self.to_client.sent());
        if let Some(fault) = self.upload(cx) {
            return Poll::Ready(End::Fault(fault));
        }
        if let Some(end) = self.download(cx) {
            return Poll::Ready(end);
        }
        if (self.moved, self.to_dyno.sent(), self.to_client.sent()) != before {
            self.last_move = Instant::now();
        }
        let (deadline, fault) = self.deadline();
        if self.timer.poll_passed(cx, deadline) {
            return Poll::Ready(End::Fault(fault));
        }
        Poll::Pending
    }

    /// Moves the request; then watches the client.
    fn upload(&mut self, cx: &mut Context<'_>) -> Option<Fault> {
        while self.upload == Upload::Running {
            // What has arrived already goes out with the head in one piece.
            if !self.body.is_done() && !self.from_client.is_empty() && self.to_dyno.sent() == 0 {
                let sink = if matches!(self.body, Source::Chunked(_)) { Sink::Chunked } else { Sink::Raw };
                if self.body.pump(self.from_client, self.to_dyno.bytes(), sink).is_err() {
                    return Some(Fault::BadRequestBody);
                }
                self.body_seen = true;
            }
            if !self.to_dyno.is_empty() {
                match self.to_dyno.poll_send(cx, self.dyno) {
                    Poll::Ready(Ok(_)) => self.moved += 1,
                    Poll::Ready(Err(_)) => self.upload = Upload::Dead,
                    Poll::Pending => return None,
                }
            } else if self.body.is_done() {
                self.upload = Upload::Done;
                self.outcome.uploaded = true;
                self.uploaded_at = Instant::now();
            } else {
                match self.from_client.poll_fill(cx, self.client) {
                    Poll::Ready(Ok(1..)) => self.moved += 1,
                    Poll::Ready(_) => return Some(Fault::ClientGone),
                    Poll::Pending => return None,
                }
            }
        }
        // Nothing is expected of the client now but its end, or its next request.
        while !self.half_closed && self.from_client.len() < FIRST_SIZE {
            match self.from_client.poll_fill(cx, self.client) {
                Poll::Ready(Ok(1..)) if self.asked.upgrade => return Some(Fault::EarlyBytes),
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0)) if !self.asked.upgrade && self.client_reads_on() => self.half_closed = true,
                Poll::Ready(_) => return Some(Fault::ClientGone),
                Poll::Pending => break,
            }
        }
        None
    }

    /// Moves the answer.
    fn download(&mut self, cx: &mut Context<'_>) -> Option<End> {
        loop {
            if !self.to_client.is_empty() {
                match self.to_client.poll_send(cx, self.client) {
                    Poll::Ready(Ok(_)) => self.moved += 1,
                    Poll::Ready(Err(_)) => return Some(End::Fault(Fault::ClientGone)),
                    Poll::Pending => return None,
                }
            }
            match &mut self.download {
                Download::Upgraded => return Some(End::Upgraded),
                Download::Body { source, .. } if source.is_done() => return Some(End::Complete),
                Download::Body { .. } | Download::Head => {}
            }
            match self.advance() {
                Ok(true) => continue,
                Ok(false) => {}
                Err(fault) => return Some(End::Fault(fault)),
            }
            match self.from_dyno.poll_fill(cx, self.dyno) {
                Poll::Ready(Ok(1..)) => {
                    self.moved += 1;
                    self.outcome.heard = true;
                }
                Poll::Ready(end) => {
                    if let Err(fault) = self.dyno_closed(end.is_ok()) {
                        return Some(End::Fault(fault));
                    }
                }
                Poll::Pending => return None,
            }
        }
    }

    /// Turns what the dyno sent into what the client gets; whether there is something to send, or an end.
    fn advance(&mut self) -> Result<bool, Fault> {
        if self.download == Download::Head && !self.from_dyno.is_empty() {
            self.read_head()?;
        }
        if let Download::Body { source, sink } = &mut self.download {
            if !source.is_done() && !self.from_dyno.is_empty() {
                let n = source.pump(self.from_dyno, self.to_client.bytes(), *sink).map_err(|_| Fault::BadAnswer)?;
                self.outcome.bytes += n;
            }
            return Ok(source.is_done() || !self.to_client.is_empty());
        }
        Ok(self.download == Download::Upgraded || !self.to_client.is_empty())
    }

    /// Reads heads until the final one, or until more bytes are needed.
    fn read_head(&mut self) -> Result<(), Fault> {
        let limits = SizeLimits {
            first_line: self.limits.line_bytes,
            line: self.limits.answer_head_bytes,
            lines: self.limits.header_count,
            total: self.limits.answer_head_bytes,
        };
        while self.download == Download::Head {
            let end = match self.scan.look(self.from_dyno.filled(), &limits) {
                Head::Partial => return Ok(()),
                Head::Whole(end) => end,
                Head::BareLf => return Err(Fault::BadAnswer),
                // A first line without an end is more likely not HTTP at all.
                Head::TooLong(TooLong::FirstLine) if !self.from_dyno.filled().starts_with(b"HTTP/1.") => {
                    return Err(Fault::BadAnswer);
                }
                Head::TooLong(_) => return Err(Fault::Restricted),
            };
            self.scan = Scan::default();
            let answer = answer::read(&self.from_dyno.filled()[..end], &self.asked, self.to_client.bytes());
            self.from_dyno.consume(end);
            match answer {
                Ok(Answer::Interim) => {
                    self.interim += 1;
                    if self.interim > MAX_INTERIM {
                        return Err(Fault::BadAnswer);
                    }
                }
                Ok(Answer::Upgraded) => {
                    self.outcome.committed = true;
                    self.outcome.status = 101;
                    self.download = Download::Upgraded;
                }
                Ok(Answer::Final { status, source, sink, dyno_keeps, client_keeps }) => {
                    self.outcome.committed = true;
                    self.outcome.status = status;
                    self.outcome.dyno_keeps = dyno_keeps;
                    self.outcome.client_keeps = client_keeps;
                    self.outcome.ends_with_close = !client_keeps && !matches!(source, Source::Length(_));
                    self.download = Download::Body { source, sink };
                }
                Err(BadAnswer::Malformed) => return Err(Fault::BadAnswer),
                Err(BadAnswer::Restricted) => return Err(Fault::Restricted),
            }
        }
        Ok(())
    }

    /// The dyno sends no more: `Ok` when that is how its answer ends.
    fn dyno_closed(&mut self, orderly: bool) -> Result<(), Fault> {
        match &mut self.download {
            Download::Body { source, sink } if orderly => {
                source.end_of_stream(self.to_client.bytes(), *sink).map_err(|_| Fault::Interrupted)
            }
            Download::Head if !self.outcome.heard => {
                // Cut off while it was still being sent to, it did not so much as read the request.
                Err(if self.outcome.uploaded || orderly { Fault::NoAnswer } else { Fault::Interrupted })
            }
            _ => Err(Fault::Interrupted),
        }
    }

    /// Until when something must move, and what it means when nothing does.
    fn deadline(&self) -> (Instant, Fault) {
        let idle = self.last_move + self.limits.idle();
        let unanswered = self.download == Download::Head;
        match self.upload {
            Upload::Running if !self.to_dyno.is_empty() => {
                (idle, if unanswered { Fault::FirstByte } else { Fault::DynoIdle })
            }
            // The client waits for the 100 that the dyno owes it.
            Upload::Running if self.asked.expects_continue && unanswered && !self.body_seen && self.interim == 0 => {
                (self.uploaded_at + self.limits.first_byte(), Fault::FirstByte)
            }
            Upload::Running => (idle, Fault::ClientIdle),
            _ if unanswered => (self.uploaded_at + self.limits.first_byte(), Fault::FirstByte),
            _ if !self.to_client.is_empty() => (idle, Fault::ClientIdle),
            _ => (idle, Fault::DynoIdle),
        }
    }

    fn client_reads_on(&self) -> bool {
        half_close::reads_on(self.uploaded_at.elapsed(), self.limits.half_close())
    }

    /// Whether the client closed its half, and may have left.
    pub(crate) fn is_half_closed(&self) -> bool {
        self.half_closed
    }

    /// Whether the connection to the dyno is as good as new.
    pub(crate) fn dyno_is_reusable(&self) -> bool {
        self.outcome.dyno_keeps && self.outcome.uploaded && self.from_dyno.is_empty()
    }
}
