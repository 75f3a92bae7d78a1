//! The promises about log lines and outputs, on CloudWatch Logs and S3, and what only they have.

mod support;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use object_store::ObjectStore as _;
use paas_aws::bucket::bucket;
use paas_aws::logs::{CloudWatchLogs, Missed, ObjectOutputs};
use paas_aws::{Aws, MemoryLedger};
use paas_domain::{AppId, InstallId, OutputId, Timestamp};
use paas_ports::contract::log_store::LogBench;
use paas_ports::{LogLine, LogSource, LogStore, OutputStore, TailQuery, log_store_contract};

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

log_store_contract!(AwsBench);

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
