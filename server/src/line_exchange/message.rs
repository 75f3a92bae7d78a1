//! What servers tell each other of log lines: JSON, with the lines packed, and cut where the database takes no more.

use std::collections::HashMap;
use std::io::Read as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use flate2::Compression;
use flate2::read::{ZlibDecoder, ZlibEncoder};
use paas_aws::logs::Are;
use paas_domain::AppId;
use paas_logs::record;
use paas_ports::{LogLine, Tail};
use paas_store::MOST_TOLD;
use serde::{Deserialize, Serialize};

/// What a message takes besides its piece: the names of its fields, two ids, a number.
const AROUND: usize = 400;
/// The most bytes that the pieces of one batch are taken to unpack to.
const MOST_UNPACKED: u64 = 64 << 20;

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Message {
    /// Somebody reads an app's lines at the server `from`, which hears all that is told of them since then.
    Want { from: String, app: AppId, since: u64 },
    /// A piece of lines that came to the server `from`.
    Lines { from: String, app: AppId, what: What, piece: String, is_first: bool, is_last: bool },
}

/// Which lines they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum What {
    /// Those that came, from the one of this number on.
    From(u64, Are),
    /// The newest ones, for the server `to`, before that of the number `next`.
    Newest { to: String, next: u64 },
}

impl Message {
    pub(super) fn to_text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    pub(super) fn from_text(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

/// Lines as messages.
pub(super) fn lines(from: &str, app: &AppId, what: &What, tails: &[Tail]) -> Vec<Message> {
    let mut plain = Vec::new();
    for tail in tails {
        // A record has no line end in it.
        if record::encode(tail, &mut plain).is_ok() {
            plain.push(b'\n');
        }
    }
    let mut packed = Vec::new();
    let packing = ZlibEncoder::new(plain.as_slice(), Compression::fast()).read_to_end(&mut packed);
    if packing.is_err() {
        return Vec::new();
    }
    let text = BASE64_STANDARD.encode(packed);
    let pieces: Vec<&[u8]> = text.as_bytes().chunks(MOST_TOLD - AROUND).collect();
    let count = pieces.len();
    let message = |(number, piece): (usize, &[u8])| Message::Lines {
        from: from.to_owned(),
        app: app.clone(),
        what: what.clone(),
        piece: String::from_utf8_lossy(piece).into_owned(),
        is_first: number == 0,
        is_last: number + 1 == count,
    };
    pieces.into_iter().enumerate().map(message).collect()
}

/// Pieces that wait for their last one, for each server that tells.
#[derive(Default)]
pub(super) struct Pieces(HashMap<String, String>);

impl Pieces {
    /// Adds a piece; the lines once they are whole. Those of which a piece was lost are none.
    pub(super) fn add(&mut self, from: &str, piece: &str, is_first: bool, is_last: bool) -> Option<Vec<LogLine>> {
        let waiting = self.0.entry(from.to_owned()).or_default();
        if is_first {
            waiting.clear();
        }
        waiting.push_str(piece);
        if !is_last {
            return None;
        }
        let text = self.0.remove(from)?;
        let packed = BASE64_STANDARD.decode(text).ok()?;
        let mut plain = Vec::new();
        ZlibDecoder::new(packed.as_slice()).take(MOST_UNPACKED).read_to_end(&mut plain).ok()?;
        let records = plain.split(|byte| *byte == b'\n');
        Some(records.filter_map(record::decode).map(|tail| tail.line).collect())
    }
}

#[cfg(test)]
mod tests {
    use paas_domain::Timestamp;
    use paas_ports::LogSource;

    use super::*;

    fn tail(message: String) -> Tail {
        let line = LogLine { at: Timestamp(1), source: LogSource::App, process: "web.1".into(), message };
        Tail { id: 7, line }
    }

    /// Bytes that do not pack well, as text.
    fn noise(seed: u64, length: usize) -> String {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            char::from(u8::try_from(33 + (state >> 33) % 90).expect("ASCII"))
        };
        (0..length).map(|_| next()).collect()
    }

    #[test]
    fn lines_come_over_whole_in_pieces_that_the_database_takes() {
        let app = AppId::new();
        let tails: Vec<Tail> = (0..9).map(|n| tail(noise(n, 10_000))).chain([tail("\"\\\u{1b}é\n".into())]).collect();
        let from = AppId::new().to_string();
        let messages = lines(&from, &app, &What::Newest { to: from.clone(), next: u64::MAX }, &tails);
        assert!(messages.len() > 5, "{} pieces", messages.len());
        let mut pieces = Pieces::default();
        let mut whole = None;
        for message in &messages {
            let text = message.to_text();
            assert!(text.len() <= MOST_TOLD, "{} bytes", text.len());
            let Some(Message::Lines { from, piece, is_first, is_last, .. }) = Message::from_text(&text) else {
                panic!("not understood: {text}")
            };
            assert!(whole.is_none(), "whole before the last piece");
            whole = pieces.add(&from, &piece, is_first, is_last);
        }
        let expected: Vec<LogLine> = tails.into_iter().map(|tail| tail.line).collect();
        assert_eq!(whole, Some(expected));
    }

    #[test]
    fn without_a_piece_there_are_no_lines_and_the_next_ones_come() {
        let tails: Vec<Tail> = (0..3).map(|n| tail(noise(n, 10_000))).collect();
        let messages = lines("a", &AppId::new(), &What::From(0, Are::New), &tails);
        let next = lines("a", &AppId::new(), &What::From(3, Are::New), &[tail("next".into())]);
        let add = |pieces: &mut Pieces, message: &Message| match message {
            Message::Lines { from, piece, is_first, is_last, .. } => pieces.add(from, piece, *is_first, *is_last),
            Message::Want { .. } => None,
        };
        for lost in 0..messages.len() {
            let mut pieces = Pieces::default();
            let came = messages.iter().enumerate().filter(|(number, _)| *number != lost);
            for (_, message) in came {
                assert_eq!(add(&mut pieces, message), None, "without piece {lost}");
            }
            assert_eq!(add(&mut pieces, &next[0]).expect("lines").len(), 1, "behind a lost piece {lost}");
        }
    }

    #[test]
    fn no_lines_are_a_message_too() {
        let none = lines("a", &AppId::new(), &What::Newest { to: "b".into(), next: 5 }, &[]);
        assert_eq!(none.len(), 1, "it says where the numbers stand");
    }
}
