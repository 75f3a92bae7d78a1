//! Frames as bytes.

/// The bytes of a frame's header.
pub const HEADER: usize = 5;
/// The most bytes of one line: the largest event of CloudWatch Logs (262,144 with 26 of its own), which is where
/// the `awslogs` driver cuts, too.
pub const MAX_LINE: usize = 262_118;
/// The most lines in one frame.
pub const MAX_LINES: usize = 1_024;
/// The most bytes of `run` in one frame.
pub const MAX_BYTES: usize = 16 << 10;
/// The most bytes behind a header: one longest line.
pub const MAX_FRAME: usize = MAX_LINE + 64;
/// The most bytes behind the header of a first frame: nobody is known before it was read.
pub const MAX_HELLO: usize = 4 << 10;

/// The largest offset or number there is (an exabyte), so that sums of them never run over.
const MAX_COUNT: u64 = 1 << 60;

/// Bytes that are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Longer than such a frame may be.
    #[error("a frame is too long")]
    TooLong,
    /// A kind that there is not.
    #[error("a frame has no known kind")]
    Kind,
    /// Its fields are not what its kind has.
    #[error("a frame is damaged")]
    Damaged,
}

/// Which of its two outputs a dyno wrote to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// When it was read, in milliseconds since 1970.
    pub at_ms: u64,
    /// Where it was written to.
    pub stream: Stream,
    /// Its bytes without the line end.
    pub bytes: Vec<u8>,
}

/// Lines with consecutive numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lines {
    /// The number of the first one. When it is not the next one, those between are lost.
    pub first: u64,
    /// The lines, at most [`MAX_LINES`].
    pub lines: Vec<Line>,
}

/// The first frame of a connection.
#[derive(Clone, PartialEq, Eq)]
pub struct Hello {
    /// The [`crate::VERSION`] that the launcher speaks.
    pub version: u8,
    /// Proves the app.
    pub token: String,
    /// The app's id.
    pub app: String,
    /// The task's ARN.
    pub task: String,
    /// What it runs.
    pub process_type: String,
    /// The id of a one-off dyno; else empty.
    pub dyno: String,
    /// The name that the command was started with; empty before.
    pub started_as: String,
    /// Whether it waits for somebody to attach, or did.
    pub attach: bool,
    /// The number of the last line that a hub took over.
    pub lines_taken: u64,
    /// The offset of the first output byte that can still be sent.
    pub output_from: u64,
    /// The offset of the next input byte that is wanted.
    pub input_next: u64,
}

impl std::fmt::Debug for Hello {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hello").field("app", &self.app).field("task", &self.task).finish_non_exhaustive()
    }
}

/// The answer to a [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The version that is spoken from here on.
    pub version: u8,
    /// The dyno's name.
    pub name: String,
    /// The number of the last line that the hub has.
    pub lines_taken: u64,
    /// The offset of the next output byte that is wanted.
    pub output_next: u64,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Its status.
    pub code: u8,
    /// How many lines it wrote.
    pub lines: u64,
    /// How many bytes it wrote to whoever attached.
    pub output: u64,
}

/// What a launcher says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromDyno {
    /// Who it is.
    Hello(Hello),
    /// The command starts, and knows itself by this name.
    Started {
        /// The name.
        name: String,
    },
    /// What was written to the log.
    Lines(Lines),
    /// What was written to whoever attached.
    Output {
        /// Where in the stream.
        offset: u64,
        /// At most [`MAX_BYTES`].
        bytes: Vec<u8>,
    },
    /// The command's input took everything before this offset.
    InputTaken {
        /// The offset.
        offset: u64,
    },
    /// The command has closed its input.
    InputClosed,
    /// The command ended; all that it wrote was said before.
    Exit(Exit),
    /// Nothing to say.
    Ping,
}

/// What the hub says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromHub {
    /// Let in.
    Welcome(Welcome),
    /// Not let in.
    Refused {
        /// Whether coming back soon may help; else it takes a minute at least.
        soon: bool,
        /// Why, for the launcher's own log.
        why: String,
    },
    /// Every line up to this number has been taken over.
    LinesTaken {
        /// The number.
        number: u64,
    },
    /// Everything before this offset has been read.
    OutputTaken {
        /// The offset.
        offset: u64,
    },
    /// What whoever attached wrote.
    Input {
        /// Where in the stream.
        offset: u64,
        /// At most [`MAX_BYTES`].
        bytes: Vec<u8>,
    },
    /// The input ends here.
    InputEnd {
        /// Behind its last byte.
        offset: u64,
    },
    /// Somebody attached: the command may start.
    Start,
    /// Nobody is attached any more: SIGHUP.
    HangUp,
    /// SIGTERM.
    Stop,
    /// The exit status has arrived.
    Bye,
    /// Nothing to say.
    Ping,
}

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
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hello() -> Hello {
        Hello {
            version: 1,
            token: "token".into(),
            app: "app".into(),
            task: "arn:…/task".into(),
            process_type: "web".into(),
            dyno: String::new(),
            started_as: "web.1".into(),
            attach: true,
            lines_taken: 1,
            output_from: 2,
            input_next: MAX_COUNT,
        }
    }

    #[test]
    fn what_is_put_is_what_is_read() {
        let lines = vec![
            Line { at_ms: 1, stream: Stream::Out, bytes: b"a\xff\0".to_vec() },
            Line { at_ms: 2, stream: Stream::Err, bytes: vec![] },
            Line { at_ms: 3, stream: Stream::Err, bytes: vec![b'x'; MAX_LINE - 64] },
        ];
        let said = [
            FromDyno::Hello(hello()),
            FromDyno::Started { name: "web.1".into() },
            FromDyno::Lines(Lines { first: 7, lines }),
            FromDyno::Output { offset: 9, bytes: vec![7; MAX_BYTES] },
            FromDyno::InputTaken { offset: 9 },
            FromDyno::InputClosed,
            FromDyno::Exit(Exit { code: 7, lines: 8, output: 9 }),
            FromDyno::Ping,
        ];
        let mut wire = Vec::new();
        said.iter().for_each(|frame| frame.put(&mut wire));
        for frame in &said {
            let (kind, fields) = take(&mut wire, MAX_FRAME).expect("fits").expect("whole");
            assert_eq!(FromDyno::read(kind, &fields).as_ref(), Ok(frame));
        }
        assert!(wire.is_empty());
        let said = [
            FromHub::Welcome(Welcome { version: 1, name: "web.1".into(), lines_taken: 3, output_next: 4 }),
            FromHub::Refused { soon: true, why: "unknown".into() },
            FromHub::LinesTaken { number: 1 },
            FromHub::OutputTaken { offset: 2 },
            FromHub::Input { offset: 3, bytes: vec![1, 2] },
            FromHub::InputEnd { offset: 5 },
            FromHub::Start,
            FromHub::HangUp,
            FromHub::Stop,
            FromHub::Bye,
            FromHub::Ping,
        ];
        said.iter().for_each(|frame| frame.put(&mut wire));
        for frame in &said {
            let (kind, fields) = take(&mut wire, MAX_FRAME).expect("fits").expect("whole");
            assert_eq!(FromHub::read(kind, &fields).as_ref(), Ok(frame));
        }
    }

    #[test]
    fn half_a_frame_is_waited_for_and_a_long_one_is_not() {
        let mut whole = Vec::new();
        FromDyno::Hello(hello()).put(&mut whole);
        for upto in 0..whole.len() {
            assert_eq!(take(&mut whole[..upto].to_vec(), MAX_HELLO), Ok(None));
        }
        assert_eq!(take(&mut vec![0xff, 0xff, 0xff, 0xff, 1], MAX_FRAME), Err(FrameError::TooLong));
        assert_eq!(FromDyno::read(99, &[]), Err(FrameError::Kind));
        assert_eq!(FromDyno::read(8, &[0]), Err(FrameError::Damaged));
    }

    #[test]
    fn a_secret_is_not_shown() {
        assert!(!format!("{:?}", FromDyno::Hello(hello())).contains("token"));
    }

    proptest! {
        #[test]
        fn hostile_frames_are_errors_and_small(kind: u8, fields in prop::collection::vec(any::<u8>(), 0..4_096)) {
            if let Ok(FromDyno::Lines(lines)) = FromDyno::read(kind, &fields) {
                prop_assert!(lines.lines.len() <= MAX_LINES);
                prop_assert!(lines.lines.iter().map(|l| l.bytes.len()).sum::<usize>() <= fields.len());
            }
            let _ = FromHub::read(kind, &fields);
        }

        #[test]
        fn bits_that_flip_never_panic(at in 0_usize..200, bit in 0_u32..8) {
            let mut wire = Vec::new();
            FromDyno::Hello(hello()).put(&mut wire);
            let line = Line { at_ms: 1, stream: Stream::Out, bytes: b"text".to_vec() };
            FromDyno::Lines(Lines { first: 1, lines: vec![line; 3] }).put(&mut wire);
            let at = at % wire.len();
            wire[at] ^= 1 << bit;
            while let Ok(Some((kind, fields))) = take(&mut wire, MAX_HELLO) {
                let _ = FromDyno::read(kind, &fields);
            }
        }
    }
}
