//! What follows a 101: bytes in both directions, until the dyno is done or nothing moves for too long.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio::time::{Duration, Instant};

use crate::buf::Buf;
use crate::timer::Timer;

/// How a tunnel ended, and how many bytes the dyno sent through it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TunnelEnd {
    pub(crate) bytes: u64,
    pub(crate) idle: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Pipe {
    Open,
    /// The source ended; what it sent is still to be delivered.
    Ending,
    Closed,
}

/// Carries bytes both ways. What the buffers hold already goes first.
pub(crate) async fn tunnel(
    client: &mut TcpStream,
    from_client: &mut Buf,
    dyno: &mut TcpStream,
    from_dyno: &mut Buf,
    timer: &mut Timer,
    idle: Duration,
) -> TunnelEnd {
    let (mut up, mut down) = (Pipe::Open, Pipe::Open);
    let (mut bytes, mut up_bytes, mut last_move) = (0, 0, Instant::now());
    std::future::poll_fn(|cx| {
        let before = (bytes, up_bytes);
        let broken = relay(cx, client, from_client, dyno, &mut up, &mut up_bytes).is_err()
            || relay(cx, dyno, from_dyno, client, &mut down, &mut bytes).is_err();
        // A client may end its direction and still listen. A dyno that ends its own is done.
        if broken || down == Pipe::Closed {
            return Poll::Ready(TunnelEnd { bytes, idle: false });
        }
        if (bytes, up_bytes) != before {
            last_move = Instant::now();
        }
        if timer.poll_passed(cx, last_move + idle) {
            return Poll::Ready(TunnelEnd { bytes, idle: true });
        }
        Poll::Pending
    })
    .await
}

fn relay(
    cx: &mut Context<'_>,
    from: &mut TcpStream,
    buf: &mut Buf,
    to: &mut TcpStream,
    pipe: &mut Pipe,
    bytes: &mut u64,
) -> std::io::Result<()> {
    while *pipe != Pipe::Closed {
        while !buf.is_empty() {
            match Pin::new(&mut *to).poll_write(cx, buf.filled()) {
                Poll::Ready(Ok(n)) => {
                    buf.consume(n);
                    *bytes += n as u64;
                }
                Poll::Ready(Err(e)) => return Err(e),
                Poll::Pending => return Ok(()),
            }
        }
        if *pipe == Pipe::Ending {
            if Pin::new(&mut *to).poll_shutdown(cx)?.is_pending() {
                return Ok(());
            }
            *pipe = Pipe::Closed;
            return Ok(());
        }
        match buf.poll_fill(cx, from) {
            Poll::Ready(Ok(0)) => *pipe = Pipe::Ending,
            Poll::Ready(Ok(_)) => {}
            Poll::Ready(Err(e)) => return Err(e),
            Poll::Pending => return Ok(()),
        }
    }
    Ok(())
}
