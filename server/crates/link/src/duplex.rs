//! The bytes of a one-off dyno, for whoever attached.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::output::Read;
use crate::session::Session;

/// One who attached.
pub(crate) struct Attached {
    session: Arc<Session>,
    reader: u64,
    hang_up_after: Duration,
}

impl Attached {
    pub(crate) fn new(session: Arc<Session>, hang_up_after: Duration) -> Self {
        let reader = {
            let mut state = session.state();
            state.attachments += 1;
            state.output.open()
        };
        session.say.notify_one();
        Self { session, reader, hang_up_after }
    }
}

fn lost() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "the link to the dyno is lost")
}

impl AsyncRead for Attached {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut state = self.session.state();
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        match state.output.read(self.reader, buf.remaining(), cx.waker(), |bytes| buf.put_slice(bytes)) {
            Read::Bytes(_) => {
                drop(state);
                // The dyno may go on.
                self.session.say.notify_one();
                Poll::Ready(Ok(()))
            }
            Read::End => Poll::Ready(Ok(())),
            Read::Wait if state.lost => Poll::Ready(Err(lost())),
            Read::Wait => Poll::Pending,
        }
    }
}

impl AsyncWrite for Attached {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if !self.session.attached {
            return Poll::Ready(Ok(bytes.len()));
        }
        let mut state = self.session.state();
        if state.exit.is_some() || state.output.is_ended() {
            return Poll::Ready(Ok(bytes.len()));
        }
        if state.input_ended || state.input_closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if state.lost {
            return Poll::Ready(Err(lost()));
        }
        let taken = state.input.push(bytes);
        if taken == 0 && !bytes.is_empty() {
            if !state.writers.iter().any(|waker| waker.will_wake(cx.waker())) {
                state.writers.push(cx.waker().clone());
            }
            return Poll::Pending;
        }
        drop(state);
        self.session.say.notify_one();
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.session.attached {
            self.session.state().input_ended = true;
            self.session.say.notify_one();
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        let alone = {
            let mut state = self.session.state();
            state.output.close(self.reader);
            !state.output.has_readers() && state.exit.is_none()
        };
        // What nobody reads may go on.
        self.session.say.notify_one();
        if alone && self.session.attached {
            self.session.hang_up_after(self.hang_up_after);
        }
    }
}
