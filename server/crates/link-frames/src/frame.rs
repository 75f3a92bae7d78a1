//! The frames, and their bounds.

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
