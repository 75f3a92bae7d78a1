//! HTTP by hand.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Sends bytes as one request and reads until the server closes; `None` when it closes without an answer.
pub async fn send(port: u16, head: &str, body: &[u8]) -> Option<Answer> {
    let exchange = async {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("connected");
        let (mut from, mut to) = stream.into_split();
        let request = [head.as_bytes(), body].concat();
        // The server may answer and close before it has read everything.
        let writing = tokio::spawn(async move {
            let _ = to.write_all(&request).await;
            to
        });
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes).await;
        writing.abort();
        bytes
    };
    let bytes = tokio::time::timeout(Duration::from_secs(20), exchange).await.expect("the server hangs");
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let body = &bytes[end + 4..];
    let body = if head.contains("transfer-encoding: chunked") { dechunk(body) } else { body.to_vec() };
    Some(Answer { status, head, body })
}

fn dechunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(end) = bytes.windows(2).position(|w| w == b"\r\n") {
        let size = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let Ok(size) = usize::from_str_radix(&size, 16) else { break };
        bytes = &bytes[end + 2..];
        if size == 0 || bytes.len() < size + 2 {
            break;
        }
        out.extend_from_slice(&bytes[..size]);
        bytes = &bytes[size + 2..];
    }
    out
}
