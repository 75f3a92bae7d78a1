//! Random tokens, and the hashes that are all we keep of them.

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};

/// A new token: a prefix that says what it opens and 256 random bits.
///
/// # Panics
/// When the operating system has no randomness to give.
#[must_use]
pub fn new_token(prefix: &str) -> String {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    format!("{prefix}-{}", BASE64URL_NOPAD.encode(&bytes))
}

/// What the database keeps of a token: its SHA-256 in hexadecimal. Tokens are random, so no salt is needed, and
/// a look-up by the hash leaks nothing by its timing.
#[must_use]
pub fn token_hash(token: &str) -> String {
    HEXLOWER.encode(digest(&SHA256, token.as_bytes()).as_ref())
}

/// The token with its middle hidden, for lists: `HRKU-AB**********yz`.
#[must_use]
pub fn token_hint(token: &str) -> String {
    let (start, end) = (token.get(..7).unwrap_or(""), token.get(token.len().saturating_sub(2)..).unwrap_or(""));
    format!("{start}**********{end}")
}
