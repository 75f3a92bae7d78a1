//! A log session: an app's lines as the body of an HTTP answer.
//!
//! `heroku logs` asks for `text/event-stream` and comes back with `Last-Event-ID` when it was cut off; older
//! clients and curl get plain text. Who may read is decided before: this module sees no token.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use paas_domain::AppId;
use paas_ports::{LogLine, LogStore, PortError, Tail, TailQuery};
use tokio::time::{Instant, sleep_until};

/// How often a quiet event stream says that it is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How many lines that are ready go out together.
const TOGETHER: usize = 256;

/// What a client gets.
pub struct SessionBody {
    /// The answer's `Content-Type`.
    pub content_type: &'static str,
    /// The answer's body. Ends after the stored lines unless the query follows.
    pub bytes: BoxStream<'static, Bytes>,
}

/// Opens a session. `accept` and `last_event_id` are the request's headers.
///
/// # Errors
/// Those of [`LogStore::tail`].
pub async fn open(
    store: &dyn LogStore,
    app: &AppId,
    query: TailQuery,
    accept: Option<&str>,
    last_event_id: Option<&str>,
) -> Result<SessionBody, PortError> {
    let events = accept.is_some_and(|accept| accept.to_ascii_lowercase().contains("text/event-stream"));
    let after = last_event_id.and_then(|id| id.trim().parse().ok()).or(query.after);
    let lines = store.tail(app, TailQuery { after, ..query }).await?;
    let render = if events { event } else { plain };
    let together = lines.ready_chunks(TOGETHER).map(move |tails| {
        let mut out = String::new();
        tails.iter().for_each(|tail| render(tail, &mut out));
        Bytes::from(out)
    });
    if events {
        // A first comment makes proxies and clients see the answer's head at once.
        let hello = stream::once(async { Bytes::from_static(b":\n\n") });
        Ok(SessionBody {
            content_type: "text/event-stream",
            bytes: hello.chain(kept_alive(together.boxed(), KEEP_ALIVE)).boxed(),
        })
    } else {
        Ok(SessionBody { content_type: "text/plain; charset=utf-8", bytes: together.boxed() })
    }
}

/// Puts a comment into each gap.
fn kept_alive(bytes: BoxStream<'static, Bytes>, gap: Duration) -> BoxStream<'static, Bytes> {
    let quiet_until = Instant::now() + gap;
    stream::unfold((bytes, quiet_until), move |(mut bytes, quiet_until)| async move {
        let next = tokio::select! {
            next = bytes.next() => next?,
            () = sleep_until(quiet_until) => Bytes::from_static(b":\n\n"),
        };
        Some((next, (bytes, Instant::now() + gap)))
    })
    .boxed()
}

/// A line as it is printed. A carriage return within would end a line for an event stream and hide its beginning
/// in a terminal, so what follows one is printed as a line of its own.
fn printed(line: &LogLine) -> VecDeque<String> {
    let part =
        |message: &str| LogLine { message: message.to_owned(), process: line.process.clone(), ..*line }.to_string();
    let parts: VecDeque<_> = line.message.split(['\r', '\n']).filter(|part| !part.is_empty()).map(part).collect();
    if parts.is_empty() { VecDeque::from([part("")]) } else { parts }
}

fn event(tail: &Tail, out: &mut String) {
    out.push_str("id: ");
    out.push_str(&tail.id.to_string());
    for line in printed(&tail.line) {
        out.push_str("\ndata: ");
        out.push_str(&line);
    }
    out.push_str("\n\n");
}

fn plain(tail: &Tail, out: &mut String) {
    for line in printed(&tail.line) {
        out.push_str(&line);
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use paas_domain::Timestamp;
    use paas_ports::LogSource;
    use paas_ports::fake::log_store::FakeLogStore;

    const AT: &str = "2026-11-23T15:04:05.123000+00:00";

    async fn two_lines() -> (FakeLogStore, AppId) {
        let (store, app) = (FakeLogStore(Arc::default()), AppId::new());
        for (source, process, message) in
            [(LogSource::App, "web.1", "10%\r20%\rid: 7"), (LogSource::Heroku, "router", "")]
        {
            let line =
                LogLine { at: Timestamp(1_795_446_245_123), source, process: process.into(), message: message.into() };
            store.append(&app, vec![line]).await.expect("append");
        }
        (store, app)
    }

    async fn body(query: TailQuery, accept: Option<&str>, last: Option<&str>) -> (&'static str, String) {
        let (store, app) = two_lines().await;
        let body = open(&store, &app, query, accept, last).await.expect("open");
        (body.content_type, String::from_utf8(body.bytes.collect::<Vec<_>>().await.concat()).expect("text"))
    }

    fn newest(lines: usize) -> TailQuery {
        TailQuery { lines, ..TailQuery::default() }
    }

    #[tokio::test]
    async fn events_for_who_asks_for_them() {
        let (content_type, text) = body(newest(9), Some("Text/Event-Stream"), None).await;
        assert_eq!(content_type, "text/event-stream");
        let events = format!(
            ":\n\nid: 1\ndata: {AT} app[web.1]: 10%\ndata: {AT} app[web.1]: 20%\ndata: {AT} app[web.1]: id: 7\n\n\
             id: 2\ndata: {AT} heroku[router]: \n\n"
        );
        assert_eq!(text, events);
    }

    #[tokio::test]
    async fn plain_text_for_all_others() {
        let (content_type, text) = body(newest(1), Some("*/*"), None).await;
        assert_eq!(content_type, "text/plain; charset=utf-8");
        assert_eq!(text, format!("{AT} heroku[router]: \n"));
    }

    #[tokio::test]
    async fn resumes_after_the_last_event_seen() {
        let resumed = body(newest(9), Some("text/event-stream"), Some(" 1 ")).await.1;
        assert_eq!(resumed, format!(":\n\nid: 2\ndata: {AT} heroku[router]: \n\n"));
        let nonsense = body(newest(1), Some("text/event-stream"), Some("x")).await.1;
        assert_eq!(nonsense, resumed, "an id that is none is as if it were not there");
    }

    #[tokio::test]
    async fn a_quiet_stream_says_that_it_is_alive() {
        let bytes = stream::once(async { Bytes::from_static(b"x") }).chain(stream::pending());
        let begun = Instant::now();
        let seen = kept_alive(bytes.boxed(), Duration::from_millis(40)).take(3).collect::<Vec<_>>().await;
        assert_eq!(seen, ["x", ":\n\n", ":\n\n"]);
        assert!(begun.elapsed() >= Duration::from_millis(80));
    }
}
