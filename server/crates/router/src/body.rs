//! Bodies: where they end, read strictly, written anew.
//!
//! Nothing of the sender's framing is passed on: chunk sizes, extensions and trailers are read and dropped, and
//! what goes out is framed by us. So two readers behind each other can never disagree.

use crate::buf::Buf;

/// The longest chunk extension that is tolerated, as in Go; some attacks live in long ones.
const MAX_EXTENSION: u32 = 256;
/// Trailers are dropped, so there is no point in many.
const MAX_TRAILERS: u32 = 8 * 1024;

/// A body that is not framed as its head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadFraming;

/// How an incoming body is delimited, and how far it has been read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// This many bytes are still to come; 0 is the end.
    Length(u64),
    /// Chunks.
    Chunked(Chunks),
    /// Everything until the connection ends (answers only).
    UntilClose,
}

/// How a body goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sink {
    /// As it is: a length was announced, or the connection's end ends it.
    Raw,
    /// As chunks of ours.
    Chunked,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Chunks {
    Size { size: u64, digits: u8 },
    Extension { size: u64, seen: u32 },
    SizeLf { size: u64 },
    Data { left: u64 },
    DataCr,
    DataLf,
    Trailer { line: u32, seen: u32 },
    TrailerLf { line: u32, seen: u32 },
    Done,
}

impl Source {
    pub(crate) const EMPTY: Self = Self::Length(0);

    pub(crate) fn chunked() -> Self {
        Self::Chunked(Chunks::Size { size: 0, digits: 0 })
    }

    pub(crate) fn is_done(&self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunked(Chunks::Done))
    }

    /// Moves what `from` holds of this body into `to`, framed for `sink`; returns the body's bytes moved.
    /// Takes no byte behind the body's end.
    pub(crate) fn pump(&mut self, from: &mut Buf, to: &mut Vec<u8>, sink: Sink) -> Result<u64, BadFraming> {
        match self {
            Self::Length(left) => {
                let n = from.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                emit(to, &from.filled()[..n], sink);
                from.consume(n);
                *left -= n as u64;
                if *left == 0 {
                    finish(to, sink);
                }
                Ok(n as u64)
            }
            Self::UntilClose => {
                let n = from.len();
                emit(to, from.filled(), sink);
                from.consume(n);
                Ok(n as u64)
            }
            Self::Chunked(chunks) => chunks.pump(from, to, sink),
        }
    }

    /// The sender closed its side. `Ok` when that is how this body ends.
    pub(crate) fn end_of_stream(&mut self, to: &mut Vec<u8>, sink: Sink) -> Result<(), BadFraming> {
        if *self != Self::UntilClose {
            return Err(BadFraming);
        }
        *self = Self::EMPTY;
        finish(to, sink);
        Ok(())
    }
}

impl Chunks {
    fn pump(&mut self, from: &mut Buf, to: &mut Vec<u8>, sink: Sink) -> Result<u64, BadFraming> {
        let (mut used, mut moved) = (0, 0);
        let bytes = from.filled();
        while used < bytes.len() && *self != Self::Done {
            if let Self::Data { left } = self {
                let n = (bytes.len() - used).min(usize::try_from(*left).unwrap_or(usize::MAX));
                emit(to, &bytes[used..used + n], sink);
                used += n;
                moved += n as u64;
                *left -= n as u64;
                if *left == 0 {
                    *self = Self::DataCr;
                }
            } else {
                *self = self.step(bytes[used])?;
                used += 1;
            }
        }
        from.consume(used);
        if *self == Self::Done {
            finish(to, sink);
        }
        Ok(moved)
    }

    /// Takes one byte that is not data.
    fn step(&self, byte: u8) -> Result<Self, BadFraming> {
        match (self.clone(), byte) {
            (Self::Size { size, digits }, b) if b.is_ascii_hexdigit() && digits < 15 => {
                let digit = (b as char).to_digit(16).unwrap_or(0);
                Ok(Self::Size { size: size * 16 + u64::from(digit), digits: digits + 1 })
            }
            (Self::Size { size, digits: 1.. }, b'\r') => Ok(Self::SizeLf { size }),
            (Self::Size { size, digits: 1.. }, b';') => Ok(Self::Extension { size, seen: 0 }),
            (Self::Extension { size, .. }, b'\r') => Ok(Self::SizeLf { size }),
            (Self::Extension { size, seen }, b) if is_text(b) && seen < MAX_EXTENSION => {
                Ok(Self::Extension { size, seen: seen + 1 })
            }
            (Self::SizeLf { size: 0 }, b'\n') => Ok(Self::Trailer { line: 0, seen: 0 }),
            (Self::SizeLf { size }, b'\n') => Ok(Self::Data { left: size }),
            (Self::DataCr, b'\r') => Ok(Self::DataLf),
            (Self::DataLf, b'\n') => Ok(Self::Size { size: 0, digits: 0 }),
            (Self::Trailer { line, seen }, b'\r') => Ok(Self::TrailerLf { line, seen }),
            (Self::Trailer { line, seen }, b) if is_text(b) && seen < MAX_TRAILERS => {
                Ok(Self::Trailer { line: line + 1, seen: seen + 1 })
            }
            (Self::TrailerLf { line: 0, .. }, b'\n') => Ok(Self::Done),
            (Self::TrailerLf { seen, .. }, b'\n') => Ok(Self::Trailer { line: 0, seen: seen + 1 }),
            _ => Err(BadFraming),
        }
    }
}

fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

fn emit(to: &mut Vec<u8>, data: &[u8], sink: Sink) {
    if data.is_empty() {
        return;
    }
    match sink {
        Sink::Raw => to.extend_from_slice(data),
        Sink::Chunked => {
            push_hex(to, data.len());
            to.extend_from_slice(b"\r\n");
            to.extend_from_slice(data);
            to.extend_from_slice(b"\r\n");
        }
    }
}

fn finish(to: &mut Vec<u8>, sink: Sink) {
    if sink == Sink::Chunked {
        to.extend_from_slice(b"0\r\n\r\n");
    }
}

fn push_hex(to: &mut Vec<u8>, n: usize) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut started = false;
    for shift in (0..usize::BITS / 4).rev() {
        let digit = (n >> (shift * 4)) & 15;
        started |= digit != 0;
        if started {
            to.push(DIGITS[digit]);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8], step: usize) -> Result<(Vec<u8>, usize, bool), BadFraming> {
        let (mut source, mut out, mut used) = (Source::chunked(), Vec::new(), 0);
        for part in bytes.chunks(step) {
            let mut buf = Buf::holding(part);
            source.pump(&mut buf, &mut out, Sink::Raw)?;
            used += part.len() - buf.len();
            if source.is_done() {
                break;
            }
        }
        Ok((out, used, source.is_done()))
    }

    #[test]
    fn chunks_are_read_strictly() {
        let good = b"5\r\nhello\r\nA;x=1\r\n0123456789\r\n0\r\nContent-Length: 9\r\n\r\nGET";
        assert_eq!(read(good, 1000), Ok((b"hello0123456789".to_vec(), good.len() - 3, true)));
        for bad in [
            "-1\r\n",
            "0x5\r\n",
            "5 ;\r\n",
            "5 \r\n",
            " 5\r\n",
            "FFFFFFFFFFFFFFFFF\r\n",
            "\r\n",
            ";\r\n",
            "5\nhello\r\n",
            "5\r\nhello\n",
            "5\r\nhelloX\r\n",
            "5\r\nhell\r\n0\r\n",
            "0\r\n\n",
            "0\r\nx: y\n\r\n",
            "5;a\nb\r\nhello",
            "5;\0\r\n",
            "5\r\rhello",
        ] {
            assert_eq!(read(bad.as_bytes(), 1000).map(|_| ()), Err(BadFraming), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn what_goes_out_chunked_reads_back(parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..8), step in 1_usize..64) {
            let mut wire = Vec::new();
            for part in &parts {
                emit(&mut wire, part, Sink::Chunked);
            }
            finish(&mut wire, Sink::Chunked);
            let all = parts.concat();
            let end = wire.len();
            wire.extend_from_slice(b"0\r\n\r\nnext");
            prop_assert_eq!(read(&wire, step), Ok((all, end, true)));
        }

        #[test]
        fn any_bytes_are_judged_the_same_however_they_arrive(bytes in "[0-9a-f;\r\nx:]{0,80}", step in 1_usize..20) {
            prop_assert_eq!(read(bytes.as_bytes(), 1000), read(bytes.as_bytes(), step));
        }
    }
}
