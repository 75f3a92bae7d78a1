//! Frames as bytes.

use crate::frame::{
    Exit, FrameError, FromDyno, FromHub, HEADER, Hello, Line, Lines, MAX_BYTES, MAX_LINE, MAX_LINES, Stream, Welcome,
};

/// The largest offset or number there is (an exabyte), so that sums of them never run over.
const MAX_COUNT: u64 = 1 << 60;

/// Reads a header: the frame's kind and the length of what follows.
///
/// # Errors
/// [`FrameError::TooLong`] above `limit`.
pub fn header(bytes: [u8; HEADER], limit: usize) -> Result<(u8, usize), FrameError> {
    let length = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    let length = usize::try_from(length).map_err(|_| FrameError::TooLong)?;
    if length > limit { Err(FrameError::TooLong) } else { Ok((bytes[4], length)) }
}

/// Takes one frame's kind and fields off the front of `bytes`; `None` until it is whole.
///
/// # Errors
/// [`FrameError::TooLong`] above `limit`.
pub fn take(bytes: &mut Vec<u8>, limit: usize) -> Result<Option<(u8, Vec<u8>)>, FrameError> {
    let Some(head) = bytes.first_chunk::<HEADER>() else { return Ok(None) };
    let (kind, length) = header(*head, limit)?;
    if bytes.len() < HEADER + length {
        return Ok(None);
    }
    let fields = bytes[HEADER..HEADER + length].to_vec();
    bytes.drain(..HEADER + length);
    Ok(Some((kind, fields)))
}

impl FromDyno {
    /// Puts this frame behind what is in `out`.
    pub fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Hello(hello) => frame(out, 1, |out| hello.put(out)),
            Self::Started { name } => frame(out, 2, |out| text(out, name)),
            Self::Lines(lines) => frame(out, 3, |out| lines.put(out)),
            Self::Output { offset, bytes } => frame(out, 4, |out| {
                out.extend(offset.to_be_bytes());
                out.extend_from_slice(bytes);
            }),
            Self::InputTaken { offset } => frame(out, 5, |out| out.extend(offset.to_be_bytes())),
            Self::InputClosed => frame(out, 6, |_| {}),
            Self::Exit(exit) => frame(out, 7, |out| {
                out.push(exit.code);
                out.extend(exit.lines.to_be_bytes());
                out.extend(exit.output.to_be_bytes());
            }),
            Self::Ping => frame(out, 8, |_| {}),
        }
    }

    /// Reads a frame's fields.
    ///
    /// # Errors
    /// When they are none of this kind's.
    pub fn read(kind: u8, fields: &[u8]) -> Result<Self, FrameError> {
        let mut fields = Fields(fields);
        let frame = match kind {
            1 => Self::Hello(Hello::read(&mut fields)?),
            2 => Self::Started { name: fields.text()? },
            3 => Self::Lines(Lines::read(&mut fields)?),
            4 => Self::Output { offset: fields.count()?, bytes: fields.rest()? },
            5 => Self::InputTaken { offset: fields.count()? },
            6 => Self::InputClosed,
            7 => Self::Exit(Exit { code: fields.u8()?, lines: fields.count()?, output: fields.count()? }),
            8 => Self::Ping,
            _ => return Err(FrameError::Kind),
        };
        fields.end(frame)
    }
}

impl FromHub {
    /// Puts this frame behind what is in `out`.
    pub fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Welcome(welcome) => frame(out, 65, |out| {
                out.push(welcome.version);
                text(out, &welcome.name);
                out.extend(welcome.lines_taken.to_be_bytes());
                out.extend(welcome.output_next.to_be_bytes());
            }),
            Self::Refused { soon, why } => frame(out, 66, |out| {
                out.push(u8::from(*soon));
                text(out, why);
            }),
            Self::LinesTaken { number } => frame(out, 67, |out| out.extend(number.to_be_bytes())),
            Self::OutputTaken { offset } => frame(out, 68, |out| out.extend(offset.to_be_bytes())),
            Self::Input { offset, bytes } => frame(out, 69, |out| {
                out.extend(offset.to_be_bytes());
                out.extend_from_slice(bytes);
            }),
            Self::InputEnd { offset } => frame(out, 70, |out| out.extend(offset.to_be_bytes())),
            Self::Start => frame(out, 71, |_| {}),
            Self::HangUp => frame(out, 72, |_| {}),
            Self::Stop => frame(out, 73, |_| {}),
            Self::Bye => frame(out, 74, |_| {}),
            Self::Ping => frame(out, 75, |_| {}),
        }
    }

    /// Reads a frame's fields.
    ///
    /// # Errors
    /// When they are none of this kind's.
    pub fn read(kind: u8, fields: &[u8]) -> Result<Self, FrameError> {
        let mut fields = Fields(fields);
        let frame = match kind {
            65 => Self::Welcome(Welcome {
                version: fields.u8()?,
                name: fields.text()?,
                lines_taken: fields.count()?,
                output_next: fields.count()?,
            }),
            66 => Self::Refused { soon: fields.u8()? != 0, why: fields.text()? },
            67 => Self::LinesTaken { number: fields.count()? },
            68 => Self::OutputTaken { offset: fields.count()? },
            69 => Self::Input { offset: fields.count()?, bytes: fields.rest()? },
            70 => Self::InputEnd { offset: fields.count()? },
            71 => Self::Start,
            72 => Self::HangUp,
            73 => Self::Stop,
            74 => Self::Bye,
            75 => Self::Ping,
            _ => return Err(FrameError::Kind),
        };
        fields.end(frame)
    }
}

impl Hello {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(self.version);
        for field in [&self.token, &self.app, &self.task, &self.process_type, &self.dyno, &self.started_as] {
            text(out, field);
        }
        out.push(u8::from(self.attach));
        for number in [self.lines_taken, self.output_from, self.input_next] {
            out.extend(number.to_be_bytes());
        }
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, FrameError> {
        Ok(Self {
            version: fields.u8()?,
            token: fields.text()?,
            app: fields.text()?,
            task: fields.text()?,
            process_type: fields.text()?,
            dyno: fields.text()?,
            started_as: fields.text()?,
            attach: fields.u8()? != 0,
            lines_taken: fields.count()?,
            output_from: fields.count()?,
            input_next: fields.count()?,
        })
    }
}

impl Lines {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend(self.first.to_be_bytes());
        for line in &self.lines {
            out.extend(line.at_ms.to_be_bytes());
            out.push(match line.stream {
                Stream::Out => 1,
                Stream::Err => 2,
            });
            let bytes = &line.bytes[..line.bytes.len().min(MAX_LINE)];
            out.extend(u32::try_from(bytes.len()).unwrap_or(0).to_be_bytes());
            out.extend_from_slice(bytes);
        }
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, FrameError> {
        let first = fields.count()?;
        let mut lines = Vec::new();
        while !fields.0.is_empty() {
            if lines.len() == MAX_LINES {
                return Err(FrameError::TooLong);
            }
            let at_ms = fields.u64()?;
            let stream = match fields.u8()? {
                1 => Stream::Out,
                2 => Stream::Err,
                _ => return Err(FrameError::Damaged),
            };
            let length = u32::from_be_bytes(fields.array()?);
            let length = usize::try_from(length).map_err(|_| FrameError::TooLong)?;
            if length > MAX_LINE {
                return Err(FrameError::TooLong);
            }
            lines.push(Line { at_ms, stream, bytes: fields.bytes(length)?.to_vec() });
        }
        // Numbers start at 1.
        if first == 0 {
            return Err(FrameError::Damaged);
        }
        Ok(Self { first, lines })
    }
}

fn frame(out: &mut Vec<u8>, kind: u8, fields: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend([0, 0, 0, 0, kind]);
    fields(out);
    let length = u32::try_from(out.len() - at - HEADER).unwrap_or(u32::MAX);
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
}

/// Texts are ids and names: what is longer than a length can say is none.
fn text(out: &mut Vec<u8>, text: &str) {
    let text = if text.len() > 2_048 { "" } else { text };
    out.extend(u16::try_from(text.len()).unwrap_or(0).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes(&mut self, count: usize) -> Result<&'a [u8], FrameError> {
        let (head, rest) = self.0.split_at_checked(count).ok_or(FrameError::Damaged)?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], FrameError> {
        let (head, rest) = self.0.split_first_chunk().ok_or(FrameError::Damaged)?;
        self.0 = rest;
        Ok(*head)
    }

    fn u8(&mut self) -> Result<u8, FrameError> {
        Ok(self.array::<1>()?[0])
    }

    fn u64(&mut self) -> Result<u64, FrameError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    fn count(&mut self) -> Result<u64, FrameError> {
        self.u64().and_then(|count| if count <= MAX_COUNT { Ok(count) } else { Err(FrameError::Damaged) })
    }

    fn text(&mut self) -> Result<String, FrameError> {
        let length = usize::from(u16::from_be_bytes(self.array()?));
        let text = std::str::from_utf8(self.bytes(length)?).map_err(|_| FrameError::Damaged)?;
        Ok(text.to_owned())
    }

    /// Bytes of `run`, up to the end.
    fn rest(&mut self) -> Result<Vec<u8>, FrameError> {
        if self.0.len() > MAX_BYTES {
            return Err(FrameError::TooLong);
        }
        Ok(std::mem::take(&mut self.0).to_vec())
    }

    fn end<T>(self, frame: T) -> Result<T, FrameError> {
        if self.0.is_empty() { Ok(frame) } else { Err(FrameError::Damaged) }
    }
}

#[cfg(test)]
mod tests;
