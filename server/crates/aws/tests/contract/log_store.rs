//! The promises about log lines and outputs, on CloudWatch Logs and S3, and what only they have.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use object_store::ObjectStore as _;
use paas_aws::bucket::bucket;
use paas_aws::logs::{Are, CloudWatchLogs, Following, LineExchange, Missed, ObjectOutputs};
use paas_aws::{Aws, MemoryLedger};
use paas_domain::{AppId, InstallId, OutputId, Timestamp};
use paas_ports::contract::log_store::LogBench;
use paas_ports::{LogLine, LogSource, LogStore, OutputStore, TailQuery};

use crate::support;

struct AwsBench {
    aws: Aws,
    ledger: Arc<MemoryLedger>,
    logs: CloudWatchLogs,
    outputs: ObjectOutputs,
}

fn drivers(aws: &Aws, ledger: &Arc<MemoryLedger>) -> (CloudWatchLogs, ObjectOutputs) {
    let soon = [10, 50, 200].map(Duration::from_millis);
    let logs = CloudWatchLogs::new(aws.clone(), ledger.clone()).looking_after(soon);
    (logs, ObjectOutputs::new(bucket(aws).expect("a bucket")))
}

impl LogBench for AwsBench {
    async fn new() -> Self {
        let aws = support::account(&InstallId::random()).await;
        aws.logs.create_log_group().log_group_name(&aws.foundation.log_group).send().await.expect("a log group");
        support::make_bucket(&aws).await;
        let ledger = Arc::new(MemoryLedger::default());
        let (logs, outputs) = drivers(&aws, &ledger);
        Self { aws, ledger, logs, outputs }
    }

    fn logs(&self) -> Arc<dyn LogStore> {
        Arc::new(self.logs.clone())
    }

    fn outputs(&self) -> Arc<dyn OutputStore> {
        Arc::new(self.outputs.clone())
    }

    async fn restart(&mut self) {
        (self.logs, self.outputs) = drivers(&self.aws, &self.ledger);
    }
}

mod cloudwatch {
    use super::AwsBench;

    paas_ports::log_store_contract!(AwsBench);
}

impl AwsBench {
    /// Stores lines as the container's driver does.
    async fn driver_stores(&self, app: &AppId, task: &str, lines: &[(i64, &str)]) {
        let (group, stream) = (&self.aws.foundation.log_group, format!("{app}/web/{task}"));
        // There already when it stores again.
        let _ = self.aws.logs.create_log_stream().log_group_name(group).log_stream_name(&stream).send().await;
        let event = |(at, text): &(i64, &str)| {
            let event = aws_sdk_cloudwatchlogs::types::InputLogEvent::builder().timestamp(*at).message(*text);
            event.build().expect("an event")
        };
        let events = lines.iter().map(event).collect();
        let put = self.aws.logs.put_log_events().log_group_name(group).log_stream_name(stream);
        put.set_log_events(Some(events)).send().await.expect("stored");
    }

    async fn all(&self, app: &AppId) -> Vec<String> {
        let query = TailQuery { lines: 1_500, ..TailQuery::default() };
        let tails: Vec<_> = self.logs.tail(app, query).await.expect("tail").collect().await;
        assert!(tails.windows(2).all(|pair| pair[0].id < pair[1].id), "numbers grow");
        tails.into_iter().map(|tail| format!("{}: {}", tail.line.process, tail.line.message)).collect()
    }
}

fn line(at: i64, process: &str, message: &str) -> LogLine {
    LogLine { at: Timestamp(at), source: LogSource::App, process: process.into(), message: message.into() }
}

fn now() -> i64 {
    use paas_domain::Clock as _;
    paas_domain::SystemClock.now().0
}

/// A server that starts anew shows what dynos said before, those that never became healthy included, each line once.
#[tokio::test]
async fn what_dynos_said_is_read_back() {
    let (mut bench, app, begin) = (AwsBench::new().await, AppId::new(), now() - 60_000);
    bench.logs.append(&app, vec![line(begin, "api", "Deploy")]).await.expect("append");
    let arn = format!("arn:aws:ecs:us-east-1:000000000000:task/c/{}", "a".repeat(32));
    use paas_aws::Ledger as _;
    bench.ledger.take_slot(&app, &"web".parse().expect("a type"), &arn).await.expect("a slot");
    let live: Vec<_> = (0..3).map(|n| (begin + n, format!("line {n}"))).collect();
    bench.logs.said(&app, live.iter().map(|(at, text)| line(*at, "web.1", text)).collect());
    let stored: Vec<_> = live.iter().map(|(at, text)| (at + 2, text.as_str())).collect();
    bench.driver_stores(&app, &"a".repeat(32), &stored).await;
    bench.driver_stores(&app, &"b".repeat(32), &[(begin + 10, "cannot start")]).await;
    let lost = paas_link_frames::fallback_name("web", &"b".repeat(32));
    let all = bench.all(&app).await;
    assert_eq!(all.len(), 5, "{all:?}");
    bench.restart().await;
    // Sent again by the launcher, whose link came back.
    bench.logs.said(&app, vec![line(begin + 2, "web.1", "line 2"), line(begin + 20, "web.1", "line 3")]);
    let all = bench.all(&app).await;
    let of_dyno: Vec<_> = all.iter().filter(|line| line.starts_with("web.1:")).collect();
    assert_eq!(of_dyno, ["web.1: line 0", "web.1: line 1", "web.1: line 2", "web.1: line 3"]);
    assert!(all.contains(&format!("{lost}: cannot start")) && all.contains(&"api: Deploy".to_owned()), "{all:?}");
    bench.logs.remove(&app).await.expect("removed");
    let left = bench.aws.logs.describe_log_streams().log_group_name(&bench.aws.foundation.log_group).send().await;
    assert!(left.expect("a list").log_streams().is_empty());
}

/// What one server still says of an app that another one has removed is stored nowhere.
#[tokio::test]
async fn a_removed_app_stays_removed_on_every_server() {
    let (bench, app) = (AwsBench::new().await, AppId::new());
    let (other, _) = drivers(&bench.aws, &bench.ledger);
    bench.logs.append(&app, vec![line(now(), "api", "Deploy")]).await.expect("append");
    other.append(&app, vec![line(now(), "web.1", "State changed")]).await.expect("append");
    bench.ledger.destroyed(&app);
    bench.logs.remove(&app).await.expect("removed");
    for _ in 0..2 {
        other.append(&app, vec![line(now(), "web.1", "Process exited")]).await.expect("nothing to do");
    }
    let left = bench.aws.logs.describe_log_streams().log_group_name(&bench.aws.foundation.log_group).send().await;
    assert!(left.expect("a list").log_streams().is_empty());
}

/// Lines that the link lost come out of storage, and those that are nowhere are counted and said.
#[tokio::test]
async fn a_gap_is_filled_or_told() {
    let (bench, app, begin) = (AwsBench::new().await, AppId::new(), now() - 60_000);
    bench.driver_stores(&app, "t1", &[(begin + 1, "1"), (begin + 2, "2"), (begin + 3, "3"), (begin + 40, "4")]).await;
    bench.logs.said(&app, vec![line(begin, "web.1", "1")]);
    let missed = |count, before| Missed {
        process: "web.1".into(),
        container: "web".into(),
        task: "t1".into(),
        count: Some(count),
        after: Some(Timestamp(begin)),
        before,
    };
    let query = TailQuery { follow: true, ..TailQuery::default() };
    let mut reader = bench.logs.tail(&app, query).await.expect("tail");
    bench.logs.missed(&app, missed(2, Some(Timestamp(begin + 39))));
    for expected in ["2", "3"] {
        let tail =
            tokio::time::timeout(Duration::from_secs(10), reader.next()).await.expect("in time").expect("a line");
        assert_eq!((tail.line.process.as_str(), tail.line.message.as_str()), ("web.1", expected));
    }
    bench.logs.recover(&app, &missed(7, None)).await;
    let all: Vec<_> = reader.take(4).collect().await;
    let last = &all[3].line;
    assert_eq!((last.source, last.process.as_str()), (LogSource::Heroku, "logplex"));
    assert!(last.message.starts_with("Error L10 (output buffer overflow) -> 4 messages dropped since "), "{last}");
}

/// Of a dyno whose link did not tell its end, what is stored and did not come is shown.
#[tokio::test]
async fn the_rest_of_what_a_dyno_said_is_looked_for() {
    let (bench, app, begin) = (AwsBench::new().await, AppId::new(), now() - 60_000);
    bench.logs.said(&app, vec![line(begin, "web.1", "1"), line(begin + 1, "web.1", "2")]);
    let query = TailQuery { follow: true, ..TailQuery::default() };
    let mut reader = bench.logs.tail(&app, query).await.expect("tail");
    bench.driver_stores(&app, "t1", &[(begin + 1, "1"), (begin + 2, "2"), (begin + 3, "2"), (begin + 4, "last")]).await;
    bench.logs.look_for_rest(&app, "web.1", "web", "arn:aws:ecs:us-east-1:000000000000:task/c/t1");
    for expected in ["2", "last"] {
        let tail =
            tokio::time::timeout(Duration::from_secs(10), reader.next()).await.expect("in time").expect("a line");
        assert_eq!((tail.line.process.as_str(), tail.line.message.as_str()), ("web.1", expected));
    }
    bench.driver_stores(&app, "t3", &[(begin + 6, "cannot start")]).await;
    bench.logs.look_for_rest(&app, "web.2", "web", "t3");
    let tail = tokio::time::timeout(Duration::from_secs(10), reader.next()).await.expect("in time").expect("a line");
    assert_eq!((tail.line.process.as_str(), tail.line.message.as_str()), ("web.2", "cannot start"));
}

/// A server follows what another one writes.
#[tokio::test]
async fn another_server_follows_an_output() {
    let (bench, id) = (AwsBench::new().await, OutputId::new());
    let (_, other) = drivers(&bench.aws, &bench.ledger);
    bench.outputs.begin(&id, 1).await.expect("begin");
    let mut reader = other.follow(&id).await.expect("follow");
    for text in ["one", "two"] {
        bench.outputs.write(&id, 1, Bytes::from_static(text.as_bytes())).await.expect("write");
        assert_eq!(
            tokio::time::timeout(Duration::from_secs(10), reader.next()).await.expect("in time").expect("bytes"),
            text
        );
    }
    // The first server is gone; the second one writes the step again and ends it.
    other.begin(&id, 1).await.expect("begin");
    other.write(&id, 1, Bytes::from_static(b"onetwothree")).await.expect("write");
    other.close(&id).await.expect("close");
    assert_eq!(reader.next().await.expect("bytes"), "three");
    assert_eq!(reader.next().await, None);
    bench.outputs.remove(&id).await.expect("removed");
    assert!(bucket(&bench.aws).expect("a bucket").list(None).next().await.is_none(), "nothing is left");
}

/// Two servers' drivers, of which each hands on to the other at once; periods are the test's.
#[derive(Default)]
struct Pair {
    other: std::sync::OnceLock<CloudWatchLogs>,
    period: std::sync::atomic::AtomicU64,
}

impl LineExchange for Pair {
    fn hand_on(&self, app: &AppId, lines: &[paas_ports::Tail], are: Are) {
        if let Some(other) = self.other.get() {
            other.heard(app, lines.iter().map(|tail| tail.line.clone()).collect(), are);
        }
    }

    fn follow(&self, _: &AppId) -> Following {
        Following { period: self.period.load(std::sync::atomic::Ordering::SeqCst), kept: Arc::default() }
    }

    fn moment(&self) -> Duration {
        Duration::ZERO
    }
}

/// Of two servers one has the dyno's link: at the other everything is read as well, once, also behind a while in which
/// nobody read and nothing came over.
#[tokio::test]
async fn what_one_server_has_another_one_shows() {
    let (bench, app, begin) = (AwsBench::new().await, AppId::new(), now() - 200_000);
    let task = "a".repeat(32);
    use paas_aws::Ledger as _;
    let arn = format!("arn:aws:ecs:us-east-1:000000000000:task/c/{task}");
    bench.ledger.take_slot(&app, &"web".parse().expect("a type"), &arn).await.expect("a slot");
    let to_reader = Arc::new(Pair::default());
    let linked = drivers(&bench.aws, &bench.ledger).0.exchanging(to_reader.clone());
    let from_linked = Arc::new(Pair::default());
    let mut bench = bench;
    bench.logs = drivers(&bench.aws, &bench.ledger).0.exchanging(from_linked.clone());

    // Nobody reads: what is said is stored, all but the newest.
    let tick = |n: i64| (begin + n * 1_000, "tick".to_owned());
    let said = |ticks: std::ops::Range<i64>| -> Vec<LogLine> {
        ticks.map(tick).map(|(at, text)| line(at, "web.1", &text)).collect()
    };
    let stored = |ticks: std::ops::Range<i64>| -> Vec<(i64, String)> {
        ticks.map(tick).map(|(at, text)| (at + 3, text)).collect()
    };
    async fn store(bench: &AwsBench, app: &AppId, task: &str, lines: &[(i64, String)]) {
        let lines: Vec<_> = lines.iter().map(|(at, text)| (*at, text.as_str())).collect();
        bench.driver_stores(app, task, &lines).await;
    }
    linked.said(&app, said(0..100));
    store(&bench, &app, &task, &stored(0..100)).await;
    linked.append(&app, vec![line(begin + 50_500, "api", "Deploy")]).await.expect("append");
    // Somebody comes to read: the newest are shown by the other server, and what is said from now on.
    to_reader.other.set(bench.logs.clone()).unwrap_or_else(|_| panic!("set once"));
    bench.logs.heard(&app, said(90..100), Are::Found);
    linked.said(&app, said(100..102));
    linked.append(&app, vec![line(begin + 103_000, "api", "Scaled")]).await.expect("append");
    let ticks = |all: &[String]| all.iter().filter(|text| *text == "web.1: tick").count();
    let of = |all: &[String], text: &str| all.iter().filter(|line| *line == text).count();
    let all = bench.all(&app).await;
    assert_eq!((ticks(&all), of(&all, "api: Deploy"), of(&all, "api: Scaled")), (102, 1, 1), "{all:?}");
    store(&bench, &app, &task, &stored(100..102)).await;
    // A dyno's last lines, found by the server that did not have its link.
    let missed = Missed {
        process: "web.1".to_owned(),
        container: "web".to_owned(),
        task: arn,
        count: None,
        after: None,
        before: None,
    };
    let third = drivers(&bench.aws, &bench.ledger).0.exchanging(to_reader.clone());
    third.recover(&app, &missed).await;
    assert_eq!(ticks(&bench.all(&app).await), 102, "found, and here already");
    // A line that its link lost, found by the server that has it, is new here.
    let last = stored(101..102)[0].0;
    bench.driver_stores(&app, &task, &[(last + 1, "lost")]).await;
    linked.recover(&app, &Missed { count: Some(1), after: Some(Timestamp(last)), ..missed }).await;
    let all = bench.all(&app).await;
    assert_eq!((ticks(&all), of(&all, "web.1: lost")), (102, 1), "{all:?}");
    // For a while nothing came over; then somebody reads again.
    let quiet = drivers(&bench.aws, &bench.ledger).0;
    quiet.append(&app, vec![line(begin + 104_000, "api", "Missed")]).await.expect("append");
    store(&bench, &app, &task, &stored(102..110)).await;
    from_linked.period.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    let all = bench.all(&app).await;
    let words = ["api: Deploy", "api: Scaled", "api: Missed", "web.1: lost"].map(|text| of(&all, text));
    assert_eq!((ticks(&all), words), (110, [1; 4]), "{all:?}");
    let at = |text: &str| all.iter().position(|line| line == text);
    assert!(at("api: Deploy") < at("api: Scaled"), "{all:?}");
}
