//! The secret in an `attach_url`: who has it may speak to one dyno, once.

use std::io;
use std::time::Duration;

use aws_lc_rs::digest;
use data_encoding::BASE64URL_NOPAD;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

/// How long every token is: 32 bytes as base64url.
pub(super) const TOKEN_LEN: usize = 43;
/// How long we wait for the line end of a token that is whole: the old Python client sends none.
const LINE_END_WITHIN: Duration = Duration::from_millis(300);

/// A new token. The database keeps its [`hash`](AttachToken::hash) only.
#[derive(Clone)]
pub struct AttachToken(String);

impl AttachToken {
    /// 256 random bits.
    ///
    /// # Panics
    /// When the operating system has no randomness to give.
    #[must_use]
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        let mut bytes = [0_u8; 32];
        getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
        Self(BASE64URL_NOPAD.encode(&bytes))
    }

    /// Its SHA-256.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        hash(&self.0)
    }

    /// The `attach_url` for a client that reaches the rendezvous as `host` and `port`. An IPv6 address
    /// comes in brackets.
    #[must_use]
    pub fn url(&self, host: &str, port: u16) -> String {
        format!("rendezvous://{host}:{port}/{}", self.0)
    }

    #[cfg(test)]
    pub(super) fn text(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for AttachToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AttachToken(..)")
    }
}

pub(super) fn hash(token: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
    hash
}

/// Reads a token with or without its line end, and whatever came right behind it.
/// `None` for anything that cannot be one.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<(String, Vec<u8>)>> {
    let mut got = Vec::with_capacity(256);
    while got.len() < TOKEN_LEN {
        if got.contains(&b'\n') || stream.read_buf(&mut got).await? == 0 {
            return Ok(None);
        }
    }
    // "\r" may be the first half of the line end.
    while got.len() == TOKEN_LEN || got[TOKEN_LEN..] == *b"\r" {
        match timeout(LINE_END_WITHIN, stream.read_buf(&mut got)).await {
            Ok(Ok(1..)) => {}
            Ok(Err(error)) => return Err(error),
            Ok(Ok(0)) | Err(_) => break,
        }
    }
    let behind = &got[TOKEN_LEN..];
    let behind = behind.strip_prefix(b"\r").unwrap_or(behind);
    let rest = behind.strip_prefix(b"\n").unwrap_or(behind).to_vec();
    got.truncate(TOKEN_LEN);
    let token = String::from_utf8(got)
        .ok()
        .filter(|token| token.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
    Ok(token.map(|token| (token, rest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read_from(text: &str) -> Option<(String, String)> {
        let (mut client, mut server) = tokio::io::duplex(4_096);
        tokio::io::AsyncWriteExt::write_all(&mut client, text.as_bytes()).await.expect("write");
        // The client stays: only silence ends a token without a line end.
        let read = timeout(Duration::from_secs(2), read(&mut server)).await.ok()?.expect("read");
        drop(client);
        read.map(|(token, rest)| (token, String::from_utf8(rest).expect("text")))
    }

    #[tokio::test]
    async fn a_token_ends_with_its_line_or_by_its_length() {
        let token = "a".repeat(TOKEN_LEN);
        for (behind, rest) in
            [("\r\n", ""), ("\n", ""), ("", ""), ("\r\nls\n", "ls\n"), ("ls\n", "ls\n"), ("\r\n\n", "\n")]
        {
            let read = read_from(&format!("{token}{behind}")).await;
            assert_eq!(read, Some((token.clone(), rest.to_owned())), "{behind:?}");
        }
        for bad in [
            "GET / HTTP/1.1\r\nHost: localhost\r\nAccept: something-long/*\r\n\r\n",
            "short\r\n",
            "short",
            &" ".repeat(99),
        ] {
            assert_eq!(read_from(bad).await, None, "{bad:?}");
        }
    }

    #[test]
    fn tokens_differ_and_keep_themselves_to_themselves() {
        let (one, two) = (AttachToken::new(), AttachToken::new());
        assert_eq!(one.text().len(), TOKEN_LEN);
        assert!(one.hash() != two.hash() && one.hash() == hash(one.text()));
        assert_eq!(format!("{one:?}"), "AttachToken(..)");
        assert_eq!(one.url("localhost", 5_000), format!("rendezvous://localhost:5000/{}", one.text()));
    }
}
