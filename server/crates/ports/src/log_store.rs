//! Where log lines and build output are kept. Their bytes never enter the database.

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use paas_domain::{AppId, OutputId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::PortError;

/// One line of an app's log, in Logplex's terms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// When it was written.
    pub at: Timestamp,
    /// Who speaks: the app, or the platform.
    pub source: LogSource,
    /// What speaks: `web.1`, `router`, `api`.
    pub process: String,
    /// The text without its line end; at most 10,000 bytes (Logplex's limit; longer lines are split).
    pub message: String,
}

/// Who wrote a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogSource {
    /// `app[web.1]`, `app[api]`.
    App,
    /// `heroku[web.1]`, `heroku[router]`.
    Heroku,
}

impl LogSource {
    /// The word in front of the brackets.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Heroku => "heroku",
        }
    }
}

impl std::fmt::Display for LogLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}[{}]: {}", self.at.to_logplex(), self.source.as_str(), self.process, self.message)
    }
}

/// Which lines are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TailQuery {
    /// How many of the newest stored lines come first (1,500 at most are kept).
    pub lines: usize,
    /// Only lines after this one (`Last-Event-ID`); beats `lines`.
    pub after: Option<u64>,
    /// Only this source.
    pub source: Option<LogSource>,
    /// Only this process: `web.1`, or `web` for all of a type.
    pub process: Option<String>,
    /// Whether the stream goes on with new lines.
    pub follow: bool,
}

/// A numbered line on its way to a reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail {
    /// Grows by one with each line of the app; never used twice.
    pub id: u64,
    /// The line.
    pub line: LogLine,
}

/// Keeps each app's newest lines and feeds its readers.
#[async_trait]
pub trait LogStore: Send + Sync {
    /// Adds lines in their order. Each is visible to readers within 100 ms.
    async fn append(&self, app: &AppId, lines: Vec<LogLine>) -> Result<(), PortError>;

    /// The lines that `query` asks for. Ends after the stored ones unless it follows.
    /// A reader that is too slow is told how many lines it lost by a line with code L11.
    async fn tail(&self, app: &AppId, query: TailQuery) -> Result<BoxStream<'static, Tail>, PortError>;

    /// Removes the app's lines. Succeeds when there is none.
    async fn remove(&self, app: &AppId) -> Result<(), PortError>;
}

/// Keeps the output of builds and release phases.
///
/// An output is a row of sections, one for each step of the job that writes it. A step that runs again
/// writes its section again from the start; readers keep their place in it.
#[async_trait]
pub trait OutputStore: Send + Sync {
    /// Starts a section anew, at this place in the order, dropping what it held.
    async fn begin(&self, output: &OutputId, section: u8) -> Result<(), PortError>;

    /// Adds bytes to a section.
    async fn write(&self, output: &OutputId, section: u8, bytes: Bytes) -> Result<(), PortError>;

    /// Marks the output as whole: readers end. Repeating it is harmless.
    async fn close(&self, output: &OutputId) -> Result<(), PortError>;

    /// All bytes so far and, until it is closed, those still to come.
    ///
    /// # Errors
    /// [`PortError::NotFound`] when nothing was ever written.
    async fn follow(&self, output: &OutputId) -> Result<BoxStream<'static, Bytes>, PortError>;

    /// Removes an output. Succeeds when there is none.
    async fn remove(&self, output: &OutputId) -> Result<(), PortError>;
}
