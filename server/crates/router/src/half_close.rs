//! A client that closes its half of the connection: whether it still reads, or has left.
//!
//! HTTP/1.1 allows a client to close its half behind a request and to read the answer, as `printf … | nc` does. One
//! that gives up looks the same on the wire: both send a FIN. They differ in when it comes, and in what becomes of
//! the answer, which only one of the two takes.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::sleep;

/// How long the answer to our last bytes is waited for. Whoever has left says so within a round trip.
const SAYS_SO_WITHIN: Duration = Duration::from_millis(100);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Whether a client that closed its half so long behind its request is taken to read on.
pub(crate) fn reads_on(after: Duration, limit: Duration) -> bool {
    after < limit
}

/// Ends the answer to a client that had closed its half; whether nobody was there to read it.
pub(crate) async fn had_left(client: &mut TcpStream) -> bool {
    let _ = client.shutdown().await;
    let mut waited = Duration::ZERO;
    loop {
        if !matches!(client.take_error(), Ok(None)) {
            return true;
        }
        if waited >= SAYS_SO_WITHIN {
            return false;
        }
        sleep(LOOK_EVERY).await;
        waited += LOOK_EVERY;
    }
}
