//! What CloudWatch has of an app: read when the first reader comes, and for lines that a dyno's link lost.

use std::collections::{HashMap, HashSet};

use futures_util::{StreamExt as _, TryStreamExt as _};
use paas_domain::{AppId, Timestamp};
use paas_link_frames::{fallback_name, task_id};
use paas_logs::record;
use paas_ports::{LogLine, LogSource, PortError, Tail, TailQuery};

use super::Missed;
use super::writer::platform_stream;
use crate::ledger::Ledger;
use crate::{Aws, Call};

/// How many tasks' streams are read: the newest ones.
const MOST_STREAMS: usize = 30;
/// How many lines of a stream are read: more than can be asked for, so that who resumes misses none of those.
const MOST_LINES: usize = 2 * TailQuery::MAX_LINES;
/// How many streams are read at the same time.
const AT_ONCE: usize = 4;
/// How much later than the launcher the container's driver may have read a line, in milliseconds.
const DRIVER_LAG_MS: i64 = 2_000;
/// How far apart the two times of one line may be when it is told from others by its text.
const SAME_LINE_MS: i64 = 10_000;
const DOING: &str = "reading log lines";

/// A stream of an app.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    pub(super) name: String,
    /// When something was last stored, as far as CloudWatch knows by now.
    last: i64,
}

/// A line as it was stored.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Stored {
    /// The platform's, with its number.
    Numbered(Tail),
    /// A dyno's.
    OfDyno(LogLine),
}

impl Stored {
    /// Whether it is the platform's, or a dyno said it before then.
    pub(super) fn is_before(&self, then: Timestamp) -> bool {
        match self {
            Self::Numbered(_) => true,
            Self::OfDyno(line) => line.at < then,
        }
    }

    fn at_us(&self) -> u64 {
        match self {
            Self::Numbered(tail) => tail.id,
            Self::OfDyno(line) => u64::try_from(line.at.0).unwrap_or(0).saturating_mul(1_000),
        }
    }
}

/// Every stream of an app.
pub(super) async fn streams(aws: &Aws, app: &AppId) -> Result<Vec<Stream>, PortError> {
    let (mut streams, mut next) = (Vec::new(), None);
    loop {
        let request = aws.logs.describe_log_streams().log_group_name(&aws.foundation.log_group);
        let request = request.log_stream_name_prefix(format!("{app}/")).limit(50).set_next_token(next).send();
        let page = match aws.call(Call::DescribeLogStreams, Some(app), DOING, request).await {
            Ok(page) => page,
            // No group: nothing was ever stored.
            Err(error) if error.is(&["ResourceNotFoundException"]) => return Ok(streams),
            Err(error) => return Err(error.into()),
        };
        for stream in page.log_streams() {
            let Some(name) = stream.log_stream_name() else { continue };
            let times = [stream.last_ingestion_time(), stream.last_event_timestamp(), stream.creation_time()];
            let last = times.into_iter().flatten().max().unwrap_or(0);
            streams.push(Stream { name: name.to_owned(), last });
        }
        next = page.next_token().map(str::to_owned);
        if next.is_none() {
            return Ok(streams);
        }
    }
}

/// The newest lines of an app, as many as can be asked for of each stream, in no order.
pub(super) async fn newest(aws: &Aws, ledger: &dyn Ledger, app: &AppId) -> Result<Vec<Stored>, PortError> {
    let mut streams = streams(aws, app).await?;
    if streams.is_empty() {
        return Ok(Vec::new());
    }
    let slots = ledger.slots(app).await?;
    let names: HashMap<String, String> = slots
        .into_iter()
        .map(|slot| (task_id(&slot.task).to_owned(), format!("{}.{}", slot.process_type, slot.slot)))
        .collect();
    let platform = platform_stream(app);
    streams.sort_by_key(|stream| std::cmp::Reverse((stream.name == platform, stream.last)));
    streams.truncate(MOST_STREAMS);
    let mut reading = Vec::with_capacity(streams.len());
    for stream in &streams {
        reading.push(lines_of(aws, app, stream, (stream.name != platform).then_some(&names)));
    }
    futures_util::stream::iter(reading).buffered(AT_ONCE).try_concat().await
}

/// The last lines of a stream: a dyno's, by these names, or the platform's.
async fn lines_of(
    aws: &Aws,
    app: &AppId,
    stream: &Stream,
    names: Option<&HashMap<String, String>>,
) -> Result<Vec<Stored>, PortError> {
    let mut found = Vec::new();
    for (at, message) in last_events(aws, app, &stream.name).await? {
        match names.map(|names| process_of(&stream.name, names)) {
            None => found.extend(record::decode(message.as_bytes()).map(Stored::Numbered)),
            Some(Some(process)) => {
                let mut lines = Vec::new();
                LogLine { at, source: LogSource::App, process, message }.split_into(&mut lines);
                found.extend(lines.into_iter().map(Stored::OfDyno));
            }
            Some(None) => {}
        }
    }
    Ok(found)
}

/// The dyno of a stream `<app>/<process type>/<task>`.
fn process_of(stream: &str, names: &HashMap<String, String>) -> Option<String> {
    let mut parts = stream.splitn(3, '/').skip(1);
    let (container, task) = (parts.next()?, parts.next()?);
    Some(names.get(task).cloned().unwrap_or_else(|| fallback_name(container, task)))
}

/// What dynos said, as it is in memory: told from stored lines by text and, roughly, time.
pub(super) struct Said(HashMap<(String, String), Vec<i64>>);

impl Said {
    pub(super) fn of<'a>(lines: impl Iterator<Item = &'a Tail>) -> Self {
        let mut said: HashMap<_, Vec<i64>> = HashMap::new();
        for Tail { line, .. } in lines.filter(|tail| tail.line.source == LogSource::App) {
            said.entry((line.process.clone(), line.message.clone())).or_default().push(line.at.0);
        }
        Self(said)
    }

    /// Whether a stored line is there. Each counts once.
    pub(super) fn take(&mut self, line: &LogLine) -> bool {
        let Some(times) = self.0.get_mut(&(line.process.clone(), line.message.clone())) else { return false };
        let same = times.iter().position(|at| (at - line.at.0).abs() <= SAME_LINE_MS);
        same.map(|index| times.swap_remove(index)).is_some()
    }
}

/// Stored lines as they stand before those that are in memory: in the order of time, those left out that are there
/// already, each with a number below all that follow.
pub(super) fn before(mut stored: Vec<Stored>, here: &[Tail]) -> Vec<Tail> {
    let ids: HashSet<u64> = here.iter().map(|tail| tail.id).collect();
    let mut said = Said::of(here.iter());
    stored.sort_by_key(Stored::at_us);
    stored.retain(|line| match line {
        Stored::Numbered(tail) => !ids.contains(&tail.id),
        Stored::OfDyno(line) => !said.take(line),
    });
    stored.dedup_by(|a, b| matches!((a, b), (Stored::Numbered(a), Stored::Numbered(b)) if a.id == b.id));
    let mut next = here.first().map_or(u64::MAX, |tail| tail.id);
    let mut tails: Vec<Tail> = Vec::with_capacity(stored.len());
    for line in stored.into_iter().rev() {
        // The highest of its millisecond: who resumes may see a line again, and misses none.
        let wanted = match &line {
            Stored::Numbered(tail) => tail.id,
            Stored::OfDyno(_) => line.at_us().saturating_add(999),
        };
        next = wanted.min(next.saturating_sub(1));
        let line = match line {
            Stored::Numbered(tail) => tail.line,
            Stored::OfDyno(line) => line,
        };
        tails.push(Tail { id: next, line });
    }
    tails.reverse();
    tails
}

/// The last events of a stream, oldest first.
async fn last_events(aws: &Aws, app: &AppId, stream: &str) -> Result<Vec<(Timestamp, String)>, PortError> {
    let (mut pages, mut count, mut next) = (Vec::new(), 0, None);
    while count < MOST_LINES {
        let left = i32::try_from(MOST_LINES - count).unwrap_or(i32::MAX);
        let request = aws.logs.get_log_events().log_group_name(&aws.foundation.log_group).log_stream_name(stream);
        let request = request.start_from_head(false).limit(left).set_next_token(next.clone()).send();
        let page = match aws.call(Call::GetLogEvents, Some(app), DOING, request).await {
            Ok(page) => page,
            Err(error) if error.is(&["ResourceNotFoundException"]) => break,
            Err(error) => return Err(error.into()),
        };
        let before = page.next_backward_token().map(str::to_owned);
        count += page.events().len();
        pages.push(events(page.events()));
        // The same token again is the beginning of the stream.
        if before.is_none() || before == next {
            break;
        }
        next = before;
    }
    Ok(pages.into_iter().rev().flatten().collect())
}

fn events(page: &[aws_sdk_cloudwatchlogs::types::OutputLogEvent]) -> Vec<(Timestamp, String)> {
    let event = |event: &aws_sdk_cloudwatchlogs::types::OutputLogEvent| {
        Some((Timestamp(event.timestamp()?), event.message()?.to_owned()))
    };
    page.iter().filter_map(event).collect()
}

/// The lines of a task's stream that its link lost, as far as they are stored by now.
pub(super) async fn missed(aws: &Aws, app: &AppId, missed: &Missed) -> Result<Vec<LogLine>, PortError> {
    let stream = format!("{app}/{}/{}", missed.container, task_id(&missed.task));
    let (mut found, mut next) = (Vec::new(), None);
    loop {
        let request = aws.logs.get_log_events().log_group_name(&aws.foundation.log_group).log_stream_name(&stream);
        let request = request.start_from_head(true).set_start_time(missed.after.map(|at| at.0));
        let request = request.set_end_time(missed.before.map(|at| at.0 + DRIVER_LAG_MS));
        let page =
            match aws.call(Call::GetLogEvents, Some(app), DOING, request.set_next_token(next.clone()).send()).await {
                Ok(page) => page,
                Err(error) if error.is(&["ResourceNotFoundException"]) => break,
                Err(error) => return Err(error.into()),
            };
        found.extend(events(page.events()));
        let forward = page.next_forward_token().map(str::to_owned);
        if forward.is_none() || forward == next {
            break;
        }
        next = forward;
    }
    Ok(between(found.into_iter().map(|event| of_dyno(event, &missed.process)).collect(), missed))
}

/// The last lines of a task's stream, as far as they are stored by now.
pub(super) async fn last_of_task(aws: &Aws, app: &AppId, missed: &Missed) -> Result<Vec<LogLine>, PortError> {
    let stream = format!("{app}/{}/{}", missed.container, task_id(&missed.task));
    let found = last_events(aws, app, &stream).await?;
    Ok(found.into_iter().map(|event| of_dyno(event, &missed.process)).collect())
}

fn of_dyno((at, message): (Timestamp, String), process: &str) -> LogLine {
    LogLine { at, source: LogSource::App, process: process.to_owned(), message }
}

/// Of the lines in the window those that were lost: not the first, which is the one before them (the driver reads a
/// line a little later than the launcher), nor what came behind them.
fn between(mut lines: Vec<LogLine>, missed: &Missed) -> Vec<LogLine> {
    let Some(count) = missed.count.and_then(|count| usize::try_from(count).ok()) else { return lines };
    if missed.after.is_some() && !lines.is_empty() {
        lines.remove(0);
    }
    lines.truncate(count);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(at_ms: i64, process: &str, message: &str) -> LogLine {
        LogLine { at: Timestamp(at_ms), source: LogSource::App, process: process.into(), message: message.into() }
    }

    #[test]
    fn stored_lines_stand_before_those_in_memory() {
        let numbered = |id, message: &str| Tail { id, line: line(1, "api", message) };
        let here = [
            Tail { id: 9_000_000, line: line(8_990, "web.1", "tick") },
            Tail { id: 9_000_001, line: line(8_995, "web.1", "tick") },
        ];
        let stored = vec![
            Stored::Numbered(numbered(5_000_500, "deploy")),
            Stored::OfDyno(line(5_000, "web.1", "up")),
            Stored::OfDyno(line(5_001, "web.1", "ready")),
            Stored::OfDyno(line(8_991, "web.1", "tick")),
            Stored::OfDyno(line(8_996, "web.1", "tick")),
            Stored::OfDyno(line(8_997, "web.1", "tick")),
            Stored::Numbered(numbered(5_000_500, "deploy")),
            Stored::Numbered(numbered(9_000_001, "here")),
        ];
        let tails = before(stored, &here);
        let seen: Vec<_> = tails.iter().map(|tail| (tail.id, tail.line.message.as_str())).collect();
        assert_eq!(
            seen,
            [(5_000_499, "up"), (5_000_500, "deploy"), (5_001_999, "ready"), (8_997_999, "tick")],
            "what is in memory is not there twice, and the platform keeps its numbers"
        );
    }

    #[test]
    fn a_gap_is_filled_with_what_was_lost() {
        let missed = |count, after: Option<i64>| Missed {
            process: "web.1".into(),
            container: "web".into(),
            task: "t".into(),
            count,
            after: after.map(Timestamp),
            before: None,
        };
        let window =
            || vec![line(10, "web.1", "a"), line(11, "web.1", "b"), line(12, "web.1", "c"), line(13, "web.1", "d")];
        let texts = |lines: Vec<LogLine>| lines.into_iter().map(|line| line.message).collect::<Vec<_>>().concat();
        assert_eq!(texts(between(window(), &missed(Some(2), Some(10)))), "bc");
        assert_eq!(texts(between(window(), &missed(Some(2), None))), "ab");
        assert_eq!(texts(between(window(), &missed(Some(9), Some(10)))), "bcd");
        assert_eq!(texts(between(window(), &missed(None, None))), "abcd");
    }
}
