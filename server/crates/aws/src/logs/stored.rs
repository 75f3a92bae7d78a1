//! What CloudWatch has of an app: read when the first reader comes, and for lines that a dyno's link lost.

use std::collections::{BTreeSet, HashMap};

use futures_util::{StreamExt as _, TryStreamExt as _};
use paas_domain::{AppId, Timestamp};
use paas_link_frames::{fallback_name, is_fallback, task_id};
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
            Self::OfDyno(line) => micros(line.at),
        }
    }
}

/// Every stream of an app.
pub(super) async fn streams(aws: &Aws, app: &AppId) -> Result<Vec<Stream>, PortError> {
    list(aws, Some(app)).await
}

/// Every app that has a stream in the installation's group, which is its own.
pub(super) async fn apps(aws: &Aws) -> Result<Vec<AppId>, PortError> {
    let streams = list(aws, None).await?;
    let apps: BTreeSet<AppId> =
        streams.iter().filter_map(|stream| stream.name.split('/').next()?.parse().ok()).collect();
    Ok(apps.into_iter().collect())
}

async fn list(aws: &Aws, app: Option<&AppId>) -> Result<Vec<Stream>, PortError> {
    let (mut streams, mut next) = (Vec::new(), None);
    loop {
        let request = aws.logs.describe_log_streams().log_group_name(&aws.foundation.log_group);
        let request = request.set_log_stream_name_prefix(app.map(|app| format!("{app}/")));
        let request = request.limit(50).set_next_token(next).send();
        let page = match aws.call(Call::DescribeLogStreams, app, DOING, request).await {
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

/// `web` of `web.1`.
fn type_of(process: &str) -> &str {
    process.split('.').next().unwrap_or(process)
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
        let key = (line.process.clone(), line.message.clone());
        self.0.get_mut(&key).is_some_and(|times| Self::take_time(times, line))
    }

    /// The same for a line of a task whose dyno's name nobody knows here, as that of a one-off dyno: under any name of
    /// its type.
    fn take_unnamed(&mut self, line: &LogLine) -> bool {
        let process_type = type_of(&line.process);
        let is_unnamed = line.process[process_type.len()..].trim_start_matches('.').parse().is_ok_and(is_fallback);
        let mut alike = self.0.iter_mut().filter(|((process, message), _)| {
            is_unnamed && *message == line.message && type_of(process) == process_type
        });
        alike.any(|(_, times)| Self::take_time(times, line))
    }

    fn take_time(times: &mut Vec<i64>, line: &LogLine) -> bool {
        // The nearest: its like may be here as well.
        let (index, away) = times
            .iter()
            .map(|at| (at - line.at.0).abs())
            .enumerate()
            .min_by_key(|(_, away)| *away)
            .unwrap_or((0, i64::MAX));
        let same = away <= SAME_LINE_MS;
        if same {
            times.swap_remove(index);
        }
        same
    }
}

/// Lines that are the same to the letter and the millisecond, as servers hand them on.
struct Exactly(HashMap<LogLine, usize>);

impl Exactly {
    fn of<'a>(lines: impl Iterator<Item = &'a LogLine>) -> Self {
        let mut exactly: HashMap<_, usize> = HashMap::new();
        lines.for_each(|line| *exactly.entry(line.clone()).or_default() += 1);
        Self(exactly)
    }

    /// Whether a line is there. Each counts once.
    fn take(&mut self, line: &LogLine) -> bool {
        let left = self.0.get_mut(line).filter(|left| **left > 0);
        left.map(|left| *left -= 1).is_some()
    }
}

/// Those of the lines that are not here to the letter and the millisecond.
pub(super) fn unlike<'a>(mut lines: Vec<LogLine>, here: impl Iterator<Item = &'a Tail>) -> Vec<LogLine> {
    let mut exactly = Exactly::of(here.map(|tail| &tail.line));
    lines.retain(|line| !exactly.take(line));
    lines
}

/// Those of another server's lines that are not here: neither as they are, nor as the container's driver stored them.
pub(super) fn unknown(mut lines: Vec<LogLine>, here: &[Tail]) -> Vec<LogLine> {
    let mut exactly = Exactly::of(here.iter().map(|tail| &tail.line));
    let mut both = Exactly(HashMap::new());
    lines.retain(|line| {
        let is_here = exactly.take(line);
        if is_here {
            *both.0.entry(line.clone()).or_default() += 1;
        }
        !is_here
    });
    // A line that repeats is told from its like by what is left of either side.
    let mut said = Said::of(here.iter().filter(|tail| !both.take(&tail.line)));
    lines.retain(|line| !said.take(line));
    lines
}

/// Those of the lines that came since then, in the order in which they were said; the numbers are the same ones.
pub(super) fn newer(here: Vec<Tail>, since: Timestamp) -> Vec<Tail> {
    let since = micros(since);
    let mut newer: Vec<Tail> = here.into_iter().filter(|tail| tail.id >= since).collect();
    let ids: Vec<u64> = newer.iter().map(|tail| tail.id).collect();
    newer.sort_by_key(|tail| tail.line.at);
    newer.iter_mut().zip(ids).for_each(|(tail, id)| tail.id = id);
    newer
}

fn micros(at: Timestamp) -> u64 {
    u64::try_from(at.0).unwrap_or(0).saturating_mul(1_000)
}

/// Stored lines with those that are in memory behind them: in the order of time, those left out that are in memory
/// already, each with a number below all that follow.
pub(super) fn behind(mut stored: Vec<Stored>, here: Vec<Tail>) -> Vec<Tail> {
    let (mut said, mut exactly) = (Said::of(here.iter()), Exactly::of(here.iter().map(|tail| &tail.line)));
    // The driver reads a line later than the launcher: what it read before all that is here of a type is none of that.
    let mut oldest: HashMap<String, Timestamp> = HashMap::new();
    for Tail { line, .. } in &here {
        let of_type = oldest.entry(type_of(&line.process).to_owned());
        of_type.and_modify(|at| *at = line.at.min(*at)).or_insert(line.at);
    }
    let is_older = |line: &LogLine| oldest.get(type_of(&line.process)).is_none_or(|oldest| line.at < *oldest);
    stored.sort_by_key(Stored::at_us);
    stored.dedup_by(|a, b| matches!((a, b), (Stored::Numbered(a), Stored::Numbered(b)) if a == b));
    stored.retain(|line| match line {
        Stored::Numbered(tail) => !exactly.take(&tail.line),
        Stored::OfDyno(line) => is_older(line) || !(said.take(line) || said.take_unnamed(line)),
    });
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
    tails.extend(here);
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

    fn tail(id: u64, at_ms: i64, process: &str, message: &str) -> Tail {
        Tail { id, line: line(at_ms, process, message) }
    }

    fn texts(tails: &[Tail]) -> Vec<(u64, &str)> {
        tails.iter().map(|tail| (tail.id, tail.line.message.as_str())).collect()
    }

    #[test]
    fn stored_lines_stand_before_those_in_memory() {
        let numbered = |id, message: &str| Stored::Numbered(tail(id, 1, "api", message));
        let here = vec![
            tail(9_000_000, 8_990, "web.1", "tick"),
            tail(9_000_001, 8_995, "web.1", "tick"),
            tail(9_000_002, 1, "api", "here"),
        ];
        let stored = vec![
            numbered(5_000_500, "deploy"),
            Stored::OfDyno(line(5_000, "web.1", "up")),
            Stored::OfDyno(line(5_001, "web.1", "ready")),
            Stored::OfDyno(line(8_980, "web.1", "tick")),
            Stored::OfDyno(line(8_991, "web.1", "tick")),
            Stored::OfDyno(line(8_996, "web.1", "tick")),
            Stored::OfDyno(line(8_997, "web.1", "tick")),
            numbered(5_000_500, "deploy"),
            numbered(5_000_500, "of another server in the same millisecond"),
            numbered(9_000_002, "here"),
        ];
        assert_eq!(
            texts(&behind(stored, here)),
            [
                (5_000_498, "up"),
                (5_000_499, "deploy"),
                (5_000_500, "of another server in the same millisecond"),
                (5_001_999, "ready"),
                (8_980_999, "tick"),
                (8_997_999, "tick"),
                (9_000_000, "tick"),
                (9_000_001, "tick"),
                (9_000_002, "here")
            ],
            "what is in memory is not there twice, and the platform keeps its numbers"
        );
    }

    #[test]
    fn a_line_of_a_one_off_dyno_is_known_under_its_name() {
        let unnamed = fallback_name("run", "a task");
        let here = vec![tail(9_000_000, 8_990, "run.1234", "said"), tail(9_000_001, 8_990, "web.1", "said")];
        let stored = vec![
            Stored::OfDyno(line(8_993, &unnamed, "said")),
            Stored::OfDyno(line(8_994, &unnamed, "and more")),
            Stored::OfDyno(line(8_995, "web.2", "said")),
        ];
        let told = behind(stored, here);
        let texts: Vec<_> = told.iter().map(|tail| (tail.line.process.as_str(), tail.line.message.as_str())).collect();
        assert_eq!(texts, [(unnamed.as_str(), "and more"), ("web.2", "said"), ("run.1234", "said"), ("web.1", "said")]);
    }

    #[test]
    fn what_came_lately_is_put_in_the_order_of_time() {
        let here = vec![
            tail(1_000_000, 1_000, "web.1", "long ago"),
            tail(9_000_000, 8_995, "web.1", "second"),
            tail(9_000_007, 8_990, "web.2", "first"),
            tail(9_000_009, 2_000, "api", "came late"),
        ];
        let newer = newer(here, Timestamp(9_000));
        assert_eq!(texts(&newer), [(9_000_000, "came late"), (9_000_007, "first"), (9_000_009, "second")]);
    }

    #[test]
    fn lines_of_another_server_are_known_as_they_are_or_as_they_were_stored() {
        let here = [
            tail(1, 1_000, "web.1", "tick"),
            tail(2, 2_003, "web.1", "tick"),
            tail(3, 2_500, "api", "Deploy"),
            tail(4, 2_600, "web.2", "tick"),
        ];
        let shown = vec![
            line(1_000, "web.1", "tick"),
            line(2_000, "web.1", "tick"),
            line(2_500, "api", "Deploy"),
            line(3_000, "web.1", "tick"),
            line(3_000, "web.1", "new"),
        ];
        assert_eq!(unknown(shown, &here), [line(3_000, "web.1", "tick"), line(3_000, "web.1", "new")]);
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
