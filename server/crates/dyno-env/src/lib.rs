//! A dyno's config vars on their way from the server to the launcher: `PAAS_CONFIG_0..n`.
//!
//! The JSON object of all vars, deflated, base64, cut into parts. One environment string may have
//! 131,071 bytes on Linux (`MAX_ARG_STRLEN`), and one value of a secret on AWS 65,536: parts of
//! 60 KB fit both. The launcher decodes, removes these variables, and starts the app.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;

/// What every part's name starts with; the part's number from 0 follows.
pub const PREFIX: &str = "PAAS_CONFIG_";
/// The most bytes of one part's value.
pub const PART_BYTES: usize = 60 * 1024;
/// The most bytes the decoded JSON may have, so that a broken value cannot fill the memory.
const MAX_DECODED: u64 = 16 * 1024 * 1024;

/// Why parts do not decode. Never holds a value.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not the encoding of this crate.
    #[error("the config of this dyno is damaged ({0})")]
    Damaged(&'static str),
}

/// Encodes config vars into environment variables. No vars make no variables.
#[must_use]
pub fn encode(vars: &BTreeMap<String, String>) -> Vec<(String, String)> {
    if vars.is_empty() {
        return Vec::new();
    }
    let json = serde_json::to_vec(vars).unwrap_or_default();
    let mut deflate = DeflateEncoder::new(Vec::new(), Compression::default());
    // Writing to a Vec cannot fail.
    let _ = deflate.write_all(&json);
    let text = STANDARD.encode(deflate.finish().unwrap_or_default());
    let parts = text.as_bytes().chunks(PART_BYTES).enumerate();
    parts.map(|(n, part)| (format!("{PREFIX}{n}"), String::from_utf8_lossy(part).into_owned())).collect()
}

/// Decodes what [`encode`] made; `get` looks a variable up. No `PAAS_CONFIG_0` means no vars.
///
/// # Errors
/// When a part is missing in the middle or the text is not the encoding.
pub fn decode(get: impl Fn(&str) -> Option<String>) -> Result<BTreeMap<String, String>, DecodeError> {
    let text: String = (0..).map_while(|n| get(&format!("{PREFIX}{n}"))).collect();
    if text.is_empty() {
        return Ok(BTreeMap::new());
    }
    let deflated = STANDARD.decode(text).map_err(|_| DecodeError::Damaged("base64"))?;
    let mut json = Vec::new();
    DeflateDecoder::new(deflated.as_slice())
        .take(MAX_DECODED)
        .read_to_end(&mut json)
        .map_err(|_| DecodeError::Damaged("deflate"))?;
    serde_json::from_slice(&json).map_err(|_| DecodeError::Damaged("json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixty_kilobytes_and_a_pem_arrive_byte_for_byte() {
        let mut vars = BTreeMap::new();
        // Not compressible, so that more than one part is needed.
        let noise: String = (0_u64..70_000)
            .map(|n| char::from(b'!' + u8::try_from(((n * n * 2_654_435_761) >> 7) % 90).unwrap_or(0)))
            .collect();
        vars.insert("NOISE".to_owned(), noise);
        vars.insert("PEM".to_owned(), "-----BEGIN KEY-----\nab+/=\n-----END KEY-----\n".to_owned());
        vars.insert("EMPTY".to_owned(), String::new());
        vars.insert("UNICODE".to_owned(), "héllo 🦀 $HOME `x` \"q\" '".to_owned());
        let parts: BTreeMap<String, String> = encode(&vars).into_iter().collect();
        assert!(parts.values().all(|p| p.len() <= PART_BYTES));
        assert_eq!(decode(|k| parts.get(k).cloned()).expect("decodes"), vars);
    }

    #[test]
    fn damage_is_said_and_nothing_is_nothing() {
        assert!(decode(|_| None).expect("empty").is_empty());
        assert!(decode(|k| (k == "PAAS_CONFIG_0").then(|| "@@@".to_owned())).is_err());
    }
}
