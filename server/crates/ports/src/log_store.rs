//! Where log lines and build output are kept. Their bytes never enter the database.

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use paas_domain::{AppId, OutputId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::PortError;

/// One line of an app's log, in Logplex's terms.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
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

impl LogLine {
    /// The most bytes that one line's text has in Logplex.
    pub const MAX_BYTES: usize = 10_000;

    /// This line as the lines that are stored: cut at line ends inside the text, so that no text can pose as
    /// a line of another source, and after [`Self::MAX_BYTES`], never inside a character.
    pub fn split_into(mut self, out: &mut Vec<LogLine>) {
        if !self.message.contains('\n') {
            while self.message.ends_with('\r') {
                self.message.pop();
            }
            if self.message.len() <= Self::MAX_BYTES {
                out.push(self);
                return;
            }
        }
        for mut text in self.message.trim_end_matches(['\r', '\n']).split('\n') {
            text = text.trim_end_matches('\r');
            while text.len() > Self::MAX_BYTES {
                let (head, rest) = text.split_at(text.floor_char_boundary(Self::MAX_BYTES));
                out.push(LogLine { message: head.to_owned(), process: self.process.clone(), ..self });
                text = rest;
            }
            out.push(LogLine { message: text.to_owned(), process: self.process.clone(), ..self });
        }
    }

    /// What an app's readers are told of lines that were lost on their way (Logplex's L10).
    #[must_use]
    pub fn drain_overflow(dropped: u64, since: Timestamp, now: Timestamp) -> Self {
        Self {
            at: now,
            source: LogSource::Heroku,
            process: "logplex".to_owned(),
            message: format!(
                "Error L10 (output buffer overflow) -> {dropped} messages dropped since {}.",
                since.to_logplex()
            ),
        }
    }

    /// What a reader is told who was too slow: since `since` it has lost `dropped` lines.
    #[must_use]
    pub fn tail_overflow(dropped: u64, since: Timestamp, now: Timestamp) -> Self {
        Self {
            at: now,
            source: LogSource::Heroku,
            process: "logplex".to_owned(),
            message: format!(
                "Error L11 (Tail buffer overflow) -> This tail session dropped {dropped} messages since {}.",
                since.to_logplex()
            ),
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
    /// How many of the newest lines that the filters let through come first, at most [`Self::MAX_LINES`].
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

impl TailQuery {
    /// How many of an app's newest lines can be asked for.
    pub const MAX_LINES: usize = 1_500;

    /// Whether a line is one of those asked for, going by its source and process.
    #[must_use]
    pub fn wants(&self, line: &LogLine) -> bool {
        self.source.is_none_or(|source| source == line.source)
            && self.process.as_deref().is_none_or(|wanted| match line.process.strip_prefix(wanted) {
                Some("") => true,
                // "web" is every web.N, but "web.1" is not web.10, and "web" is not "webhook.1".
                Some(rest) => rest.starts_with('.') && !wanted.contains('.'),
                None => false,
            })
    }
}

/// A numbered line on its way to a reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail {
    /// Higher than that of every line before it, and never used twice for an app, also after a restart.
    pub id: u64,
    /// The line.
    pub line: LogLine,
}

/// Keeps each app's newest lines and feeds its readers.
#[async_trait]
pub trait LogStore: Send + Sync {
    /// Adds lines in their order, split as [`LogLine::split_into`] says. Each is visible to readers within
    /// 100 ms. After `Ok` they outlive the server, also one that is killed; after an error the first of them may be there.
    async fn append(&self, app: &AppId, lines: Vec<LogLine>) -> Result<(), PortError>;

    /// The lines that `query` asks for. Ends after the stored ones unless it follows.
    /// A reader that is too slow loses the oldest of what it has not yet taken, and is told how many lines
    /// of the app that was by a line with code L11. No reader holds up `append`.
    async fn tail(&self, app: &AppId, query: TailQuery) -> Result<BoxStream<'static, Tail>, PortError>;

    /// A dyno has ended, and perhaps not all that it said came here: looks for the rest where its container stores
    /// lines by itself. Returns at once. `process` is the dyno's name, `container` and `task` are what the runtime
    /// calls it. Nothing to do where all lines come here.
    fn look_for_rest(&self, _app: &AppId, _process: &str, _container: &str, _task: &str) {}

    /// Removes the app's lines and ends its readers. Succeeds when there is none. An app does not come back:
    /// what is appended afterwards is dropped, so that a dyno's last words leave nothing behind.
    async fn remove(&self, app: &AppId) -> Result<(), PortError>;

    /// Every app that has lines, for the collection of what no row names any more.
    async fn apps(&self) -> Result<Vec<AppId>, PortError>;
}

/// Keeps the output of builds and release phases.
///
/// An output is a row of sections, one for each step of the job that writes it. A step that runs again
/// writes its section again from the start; readers keep their place in it.
#[async_trait]
pub trait OutputStore: Send + Sync {
    /// Starts a section anew, at this place in the order, dropping what it held. A closed output opens again.
    async fn begin(&self, output: &OutputId, section: u8) -> Result<(), PortError>;

    /// Adds bytes to a section. What goes beyond the driver's limit for one output is dropped, and the output says so.
    async fn write(&self, output: &OutputId, section: u8, bytes: Bytes) -> Result<(), PortError>;

    /// Marks the output as whole, be it empty: readers end. Repeating it is harmless.
    async fn close(&self, output: &OutputId) -> Result<(), PortError>;

    /// All bytes so far and, until it is closed, those still to come. A reader goes on to the next section as
    /// soon as that one was begun. When its section is begun anew, it goes on where that grows past its place.
    ///
    /// # Errors
    /// [`PortError::NotFound`] when nothing was ever written.
    async fn follow(&self, output: &OutputId) -> Result<BoxStream<'static, Bytes>, PortError>;

    /// Removes an output and ends its readers. Succeeds when there is none. What is written afterwards is dropped.
    async fn remove(&self, output: &OutputId) -> Result<(), PortError>;

    /// Every output that there is, for the collection of what no row names any more.
    async fn all(&self) -> Result<Vec<OutputId>, PortError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(process: &str, message: &str) -> LogLine {
        LogLine { at: Timestamp(0), source: LogSource::App, process: process.into(), message: message.into() }
    }

    fn split(message: &str) -> Vec<String> {
        let mut out = Vec::new();
        line("web.1", message).split_into(&mut out);
        out.into_iter().map(|l| l.message).collect()
    }

    #[test]
    fn a_line_is_cut_at_line_ends_and_after_its_limit() {
        assert_eq!(split("hello"), ["hello"]);
        assert_eq!(split(""), [""]);
        assert_eq!(split("dos\r\n"), ["dos"]);
        assert_eq!(split("one\n\nthree"), ["one", "", "three"]);
        let long = format!("{}é{}", "a".repeat(9_999), "b".repeat(10_001));
        let parts = split(&long);
        assert_eq!(parts.iter().map(String::len).collect::<Vec<_>>(), [9_999, 10_000, 3]);
        assert_eq!(parts.concat(), long);
    }

    #[test]
    fn a_process_is_a_dyno_or_all_of_its_type() {
        let wants = |wanted: &str, process: &str| {
            TailQuery { process: Some(wanted.into()), ..TailQuery::default() }.wants(&line(process, ""))
        };
        assert!(wants("web", "web.1") && wants("web.1", "web.1") && wants("router", "router"));
        assert!(
            !wants("web", "webhook.1") && !wants("web.1", "web.10") && !wants("web.1", "web") && !wants("web", "api")
        );
    }
}
