//! Git's pkt-lines: four hexadecimal digits of length, then the bytes.

use std::io::{self, Read};

/// The most bytes that a line may carry (LARGE_PACKET_MAX less its length).
pub(super) const MAX_PAYLOAD: usize = 65_516;

/// One packet of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Packet<'a> {
    /// `0000`: the end of a section.
    Flush,
    /// A line.
    Line(&'a [u8]),
}

/// Bytes that are no pkt-line of protocol v0.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad pkt-line")]
pub(super) struct BadPacket;

/// The first packet of `bytes` and how long it is; `None` when it is not whole yet.
pub(super) fn first(bytes: &[u8]) -> Result<Option<(Packet<'_>, usize)>, BadPacket> {
    let Some(digits) = bytes.first_chunk::<4>() else { return Ok(None) };
    match length(*digits)? {
        0 => Ok(Some((Packet::Flush, 4))),
        length if bytes.len() < length => Ok(None),
        length => Ok(Some((Packet::Line(&bytes[4..length]), length))),
    }
}

/// Reads one packet; `None` is a flush.
pub(super) fn read(from: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut digits = [0; 4];
    from.read_exact(&mut digits)?;
    let length = length(digits).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
    if length == 0 {
        return Ok(None);
    }
    let mut line = vec![0; length - 4];
    from.read_exact(&mut line)?;
    Ok(Some(line))
}

/// Appends a line. What is longer than a line can be is cut.
pub(super) fn write(out: &mut Vec<u8>, payload: &[u8]) {
    let payload = &payload[..payload.len().min(MAX_PAYLOAD)];
    out.extend_from_slice(format!("{:04x}", payload.len() + 4).as_bytes());
    out.extend_from_slice(payload);
}

/// Appends bytes to a band of the side band, in as many lines as they need.
pub(super) fn write_band(out: &mut Vec<u8>, band: u8, bytes: &[u8]) {
    for part in bytes.chunks(MAX_PAYLOAD - 1) {
        out.extend_from_slice(format!("{:04x}", part.len() + 5).as_bytes());
        out.push(band);
        out.extend_from_slice(part);
    }
}

/// Appends a flush.
pub(super) fn flush(out: &mut Vec<u8>) {
    out.extend_from_slice(b"0000");
}

fn length(digits: [u8; 4]) -> Result<usize, BadPacket> {
    let mut length = 0;
    for digit in digits {
        length = length * 16 + char::from(digit).to_digit(16).ok_or(BadPacket)? as usize;
    }
    // 1 to 3 are the delimiters of protocol v2, which no push speaks.
    if length == 0 || (4..=MAX_PAYLOAD + 4).contains(&length) { Ok(length) } else { Err(BadPacket) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_cut_from_a_stream() {
        assert_eq!(first(b"0000rest"), Ok(Some((Packet::Flush, 4))));
        assert_eq!(first(b"0006ab0000"), Ok(Some((Packet::Line(b"ab"), 6))));
        assert_eq!(first(b"000Aabcdef"), Ok(Some((Packet::Line(b"abcdef"), 10))));
        assert_eq!(first(b"0004"), Ok(Some((Packet::Line(b""), 4))));
        assert_eq!(first(b"000"), Ok(None));
        assert_eq!(first(b"0006a"), Ok(None));
        for bad in ["0001", "0002", "0003", "fff1", "ffff", "zzzz", "-001", " 0a4", "+004"] {
            assert_eq!(first(bad.as_bytes()), Err(BadPacket), "{bad}");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let mut out = Vec::new();
        write(&mut out, b"unpack ok\n");
        flush(&mut out);
        let mut from = out.as_slice();
        assert_eq!(read(&mut from).expect("line"), Some(b"unpack ok\n".to_vec()));
        assert_eq!(read(&mut from).expect("flush"), None);
        let mut out = Vec::new();
        write_band(&mut out, 2, &[b'x'; 70_000]);
        assert!(out.starts_with(b"fff0\x02x") && out.len() == 70_000 + 10);
    }
}
