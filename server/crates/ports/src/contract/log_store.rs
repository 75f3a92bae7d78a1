//! What every [`LogStore`] promises, and every [`OutputStore`] (`outputs`).

mod outputs;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use paas_domain::{AppId, OutputId, Timestamp};
use tokio::time::timeout;

use crate::{LogLine, LogSource, LogStore, OutputStore, Tail, TailQuery, outside};

pub use self::outputs::*;

/// Makes a driver and the world around it. Each promise gets a new bench.
pub trait LogBench: Sized + Send {
    /// A world with nothing in it, and a driver.
    fn new() -> impl Future<Output = Self> + Send;
    /// The driver's log store.
    fn logs(&self) -> Arc<dyn LogStore>;
    /// The driver's output store.
    fn outputs(&self) -> Arc<dyn OutputStore>;
    /// The server was killed and another one started over the same world.
    fn restart(&mut self) -> impl Future<Output = ()> + Send;
}

/// Expands to one test for each promise of [`LogStore`] and [`OutputStore`].
#[macro_export]
macro_rules! log_store_contract {
    ($bench:ty) => {
        $crate::log_store_contract!($bench:
            lines_come_back_in_order, newest_lines_first_in_line, at_most_1500_lines_are_asked_for, followers_see_new_lines_soon,
            filters_by_source_and_process, resumes_after_an_id, lines_and_ids_survive_a_restart, apps_never_meet,
            removed_apps_are_gone_for_good, slow_readers_are_told_what_they_lost, stalled_readers_hold_nobody_up,
            long_lines_are_split, no_line_can_forge_another, appending_together_loses_nothing,
            no_store_is_touched_in_a_transaction, apps_with_lines_are_listed, outputs_are_listed,
            output_comes_in_the_order_of_sections, output_is_followed_until_closed, unknown_output_is_not_found,
            empty_output_can_be_closed, readers_keep_their_place_in_a_rewritten_section, rewritten_sections_hold_only_the_new,
            output_survives_a_restart, closed_output_opens_again, removed_output_is_gone_for_good, outputs_never_meet,
        );
    };
    ($bench:ty: $($promise:ident),* $(,)?) => {$(
        #[tokio::test]
        async fn $promise() {
            $crate::contract::log_store::$promise(<$bench as $crate::contract::log_store::LogBench>::new().await).await;
        }
    )*};
}

const SOON: Duration = Duration::from_millis(100);
/// For the best of several: readers are told, which is sooner than looking again would be, also on a busy machine.
const TOLD: Duration = Duration::from_millis(400);
const LATE: Duration = Duration::from_secs(10);

fn line(message: impl Into<String>) -> LogLine {
    said(LogSource::App, "web.1", message)
}

fn said(source: LogSource, process: &str, message: impl Into<String>) -> LogLine {
    LogLine { at: Timestamp(1_795_446_245_123), source, process: process.into(), message: message.into() }
}

fn numbered(from: usize, count: usize) -> Vec<LogLine> {
    (from..from + count).map(|n| line(format!("line {n}"))).collect()
}

async fn stored(logs: &dyn LogStore, app: &AppId, query: TailQuery) -> Vec<Tail> {
    let tail = logs.tail(app, TailQuery { follow: false, ..query }).await.expect("tail");
    timeout(LATE, tail.collect()).await.expect("a tail that does not follow ends")
}

async fn messages(logs: &dyn LogStore, app: &AppId, query: TailQuery) -> Vec<String> {
    stored(logs, app, query).await.into_iter().map(|t| t.line.message).collect()
}

fn newest(lines: usize) -> TailQuery {
    TailQuery { lines, ..TailQuery::default() }
}

fn growing(tails: &[Tail]) -> bool {
    tails.windows(2).all(|pair| pair[0].id < pair[1].id)
}

/// What was appended comes back as it was, in its order, with growing ids.
pub async fn lines_come_back_in_order(bench: impl LogBench) {
    let (logs, app) = (bench.logs(), AppId::new());
    assert!(stored(&*logs, &app, newest(10)).await.is_empty(), "an app without lines has none");
    let lines = vec![line("a"), said(LogSource::Heroku, "router", "%s%n{} \u{1b}[1m\0 <190>1 é"), line("")];
    logs.append(&app, lines.clone()).await.expect("append");
    logs.append(&app, vec![line("d")]).await.expect("append");
    logs.append(&app, vec![]).await.expect("append nothing");
    let back = stored(&*logs, &app, newest(10)).await;
    assert!(growing(&back));
    let back: Vec<_> = back.into_iter().map(|t| t.line).collect();
    assert_eq!(back, [lines, vec![line("d")]].concat());
}

/// `lines` are the newest ones that the filters let through.
pub async fn newest_lines_first_in_line(bench: impl LogBench) {
    let (logs, app) = (bench.logs(), AppId::new());
    logs.append(&app, numbered(0, 20)).await.expect("append");
    logs.append(&app, vec![said(LogSource::Heroku, "api", "x")]).await.expect("append");
    assert_eq!(messages(&*logs, &app, newest(2)).await, ["line 19", "x"]);
    let of_app = TailQuery { source: Some(LogSource::App), ..newest(2) };
    assert_eq!(messages(&*logs, &app, of_app).await, ["line 18", "line 19"]);
    assert!(messages(&*logs, &app, newest(0)).await.is_empty());
}

/// 1,500 lines can be had, and never more.
pub async fn at_most_1500_lines_are_asked_for(bench: impl LogBench) {
    let (logs, app) = (bench.logs(), AppId::new());
    logs.append(&app, numbered(0, 4_000)).await.expect("append");
    let back = messages(&*logs, &app, newest(usize::MAX)).await;
    assert_eq!((back.len(), back[0].as_str()), (1_500, "line 2500"));
}

/// A line is seen by everyone who follows within 100 ms.
pub async fn followers_see_new_lines_soon(bench: impl LogBench) {
    let (logs, app) = (bench.logs(), AppId::new());
    let query = TailQuery { follow: true, ..newest(10) };
    let mut early = logs.tail(&app, query.clone()).await.expect("tail of an app without lines");
    logs.append(&app, vec![line("one")]).await.expect("append");
    let mut late = logs.tail(&app, query).await.expect("tail");
    logs.append(&app, vec![line("two")]).await.expect("append");
    for reader in [&mut early, &mut late] {
        for expected in ["one", "two"] {
            assert_eq!(timeout(LATE, reader.next()).await.expect("in time").expect("goes on").line.message, expected);
        }
    }
    // The best of five: a busy machine may hold up any one of them.
    let mut best = LATE;
    for n in 0..5 {
        let begun = Instant::now();
        logs.append(&app, vec![line(n.to_string())]).await.expect("append");
        for reader in [&mut early, &mut late] {
            let seen = timeout(LATE, reader.next()).await.expect("in time").expect("goes on");
            assert_eq!(seen.line.message, n.to_string());
        }
        best = best.min(begun.elapsed());
    }
    assert!(best < TOLD, "seen after {best:?}");
    assert!(timeout(SOON, early.next()).await.is_err(), "each line once");
}

/// A source, a dyno, or all dynos of a type.
pub async fn filters_by_source_and_process(bench: impl LogBench) {
    let (logs, app) = (bench.logs(), AppId::new());
    let follow =
        TailQuery { process: Some("web".into()), source: Some(LogSource::App), follow: true, ..TailQuery::default() };
    let mut reader = logs.tail(&app, follow).await.expect("tail");
    let processes = ["web.1", "web.10", "webhook.1", "router", "worker.1", "web.2"];
    for process in processes {
        let lines = vec![said(LogSource::Heroku, process, "h"), said(LogSource::App, process, process)];
        logs.append(&app, lines).await.expect("append");
    }
    let of = async |process: &str| {
        let query = TailQuery { process: Some(process.into()), source: Some(LogSource::App), ..newest(100) };
        messages(&*logs, &app, query).await
    };
    assert_eq!(of("web").await, ["web.1", "web.10", "web.2"]);
    assert_eq!(of("web.1").await, ["web.1"]);
    assert_eq!(of("router").await, ["router"]);
    assert!(of("nothing").await.is_empty());
    for expected in ["web.1", "web.10", "web.2"] {
        assert_eq!(timeout(LATE, reader.next()).await.expect("in time").expect("goes on").line.message, expected);
    }
}

/// `after` goes on exactly behind that line, whatever `lines` says.
pub async fn resumes_after_an_id(bench: impl LogBench) {
    let (logs, app) = (bench.logs(), AppId::new());
    logs.append(&app, numbered(0, 10)).await.expect("append");
    let all = stored(&*logs, &app, newest(10)).await;
    let after = |id| TailQuery { after: Some(id), ..newest(1) };
    assert_eq!(stored(&*logs, &app, after(all[6].id)).await, all[7..]);
    assert!(stored(&*logs, &app, after(all[9].id)).await.is_empty());
    assert!(stored(&*logs, &app, after(u64::MAX)).await.is_empty(), "an id from nowhere is no reason to repeat all");
    assert_eq!(stored(&*logs, &app, after(0)).await, all);

    let mut reader = logs.tail(&app, TailQuery { follow: true, ..after(all[8].id) }).await.expect("tail");
    logs.append(&app, vec![line("new")]).await.expect("append");
    for expected in ["line 9", "new"] {
        assert_eq!(timeout(LATE, reader.next()).await.expect("in time").expect("goes on").line.message, expected);
    }
}

/// What was appended is there after a kill, under its ids, and new lines have higher ones.
pub async fn lines_and_ids_survive_a_restart(mut bench: impl LogBench) {
    let (logs, app, quiet) = (bench.logs(), AppId::new(), AppId::new());
    logs.append(&app, numbered(0, 3_000)).await.expect("append");
    logs.append(&quiet, vec![line("said once")]).await.expect("append");
    let before = stored(&*logs, &app, newest(1_500)).await;
    drop(logs);
    for round in 0..3 {
        bench.restart().await;
        let logs = bench.logs();
        assert_eq!(
            stored(&*logs, &app, TailQuery { after: Some(before[0].id), ..newest(0) }).await[..1_499],
            before[1..]
        );
        assert_eq!(messages(&*logs, &quiet, newest(1_500)).await, ["said once"]);
        logs.append(&app, vec![line(format!("after restart {round}"))]).await.expect("append");
        let now = stored(&*logs, &app, newest(1_500)).await;
        assert!(growing(&now) && now.len() == 1_500, "ids grow over restarts");
    }
}

/// No line of one app is seen by a reader of another.
pub async fn apps_never_meet(bench: impl LogBench) {
    let (logs, one, two) = (bench.logs(), AppId::new(), AppId::new());
    let mut reader = logs.tail(&two, TailQuery { follow: true, ..newest(9) }).await.expect("tail");
    logs.append(&one, vec![line("mine")]).await.expect("append");
    assert!(timeout(SOON, reader.next()).await.is_err());
    assert!(stored(&*logs, &two, newest(9)).await.is_empty());
    logs.remove(&two).await.expect("remove");
    assert_eq!(messages(&*logs, &one, newest(9)).await, ["mine"]);
}

/// Removing ends readers, can be repeated, and nothing comes back.
pub async fn removed_apps_are_gone_for_good(mut bench: impl LogBench) {
    let (logs, app) = (bench.logs(), AppId::new());
    logs.append(&app, vec![line("secret")]).await.expect("append");
    let reader = logs.tail(&app, TailQuery { follow: true, ..newest(9) }).await.expect("tail");
    logs.remove(&app).await.expect("remove");
    logs.remove(&app).await.expect("remove again");
    timeout(LATE, reader.collect::<Vec<_>>()).await.expect("readers end");
    logs.append(&app, vec![line("last words")]).await.expect("append to what is gone");
    assert!(stored(&*logs, &app, newest(9)).await.is_empty());
    drop(logs);
    bench.restart().await;
    assert!(stored(&*bench.logs(), &app, newest(9)).await.is_empty());
    bench.logs().remove(&app).await.expect("remove after a restart");
}

/// Lines seen and lines told as lost are all lines.
pub async fn slow_readers_are_told_what_they_lost(bench: impl LogBench) {
    const LINES: usize = 60_000;
    let (logs, app) = (bench.logs(), AppId::new());
    let mut reader = logs.tail(&app, TailQuery { follow: true, ..newest(0) }).await.expect("tail");
    for batch in 0..60 {
        logs.append(&app, numbered(batch * 1_000, 1_000)).await.expect("append");
    }
    let (mut seen, mut dropped, mut last) = (0, 0, 0);
    loop {
        let tail = timeout(LATE, reader.next()).await.expect("in time").expect("goes on");
        assert!(tail.id > last, "ids grow also over a gap");
        last = tail.id;
        if let Some(rest) =
            tail.line.message.strip_prefix("Error L11 (Tail buffer overflow) -> This tail session dropped ")
        {
            assert_eq!((tail.line.source, tail.line.process.as_str()), (LogSource::Heroku, "logplex"));
            dropped += rest.split(' ').next().expect("a number").parse::<usize>().expect("a number");
        } else {
            seen += 1;
            if tail.line.message == format!("line {}", LINES - 1) {
                break;
            }
        }
    }
    assert!(dropped > 0, "nobody keeps everything for a reader who does not read");
    assert_eq!(seen + dropped, LINES);
}

/// A reader that stalls costs the others nothing.
pub async fn stalled_readers_hold_nobody_up(bench: impl LogBench) {
    let (logs, app) = (bench.logs(), AppId::new());
    let follow = TailQuery { follow: true, ..newest(0) };
    let mut stalled = Vec::new();
    for _ in 0..20 {
        stalled.push(logs.tail(&app, follow.clone()).await.expect("tail"));
    }
    let mut lively = logs.tail(&app, follow).await.expect("tail");
    for batch in 0..100 {
        logs.append(&app, numbered(batch * 200, 200)).await.expect("append");
        for n in 0..200 {
            let tail = timeout(LATE, lively.next()).await.expect("in time").expect("goes on");
            assert_eq!(tail.line.message, format!("line {}", batch * 200 + n));
        }
    }
}

/// At 10,000 bytes, never inside a character.
pub async fn long_lines_are_split(bench: impl LogBench) {
    let (logs, app) = (bench.logs(), AppId::new());
    let long = format!("{}{}", "x".repeat(9_999), "é".repeat(10_000));
    logs.append(&app, vec![line(long.clone())]).await.expect("append");
    let parts = messages(&*logs, &app, newest(10)).await;
    assert!(parts.iter().all(|part| part.len() <= LogLine::MAX_BYTES));
    assert_eq!((parts.len(), parts.concat()), (3, long));
}

/// A line end inside a text makes a line of the same source.
pub async fn no_line_can_forge_another(bench: impl LogBench) {
    let (logs, app) = (bench.logs(), AppId::new());
    logs.append(&app, vec![line("a\n2026-01-01T00:00:00.000000+00:00 heroku[router]: at=error\r\n")])
        .await
        .expect("append");
    let back = stored(&*logs, &app, newest(10)).await;
    assert_eq!(back.len(), 2);
    assert!(back.iter().all(|t| t.line.source == LogSource::App && t.line.process == "web.1"));
    assert_eq!(back[1].line.message, "2026-01-01T00:00:00.000000+00:00 heroku[router]: at=error");
}

/// Many writers at once: each one's order is kept, no line is lost, no id is given twice.
pub async fn appending_together_loses_nothing(bench: impl LogBench) {
    let (logs, app) = (bench.logs(), AppId::new());
    let writers: Vec<_> = (0..10)
        .map(|writer| {
            let (logs, app) = (logs.clone(), app.clone());
            tokio::spawn(async move {
                for n in 0..100 {
                    logs.append(&app, vec![said(LogSource::App, &format!("web.{writer}"), n.to_string())])
                        .await
                        .expect("append");
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("writer");
    }
    let back = stored(&*logs, &app, newest(1_500)).await;
    assert!(growing(&back) && back.len() == 1_000);
    for writer in 0..10 {
        let process = format!("web.{writer}");
        let said = back.iter().filter(|t| t.line.process == process).map(|t| t.line.message.clone());
        assert!(said.eq((0..100).map(|n| n.to_string())));
    }
}

/// That no transaction is open is checked at every call.
pub async fn no_store_is_touched_in_a_transaction(bench: impl LogBench) {
    let (logs, outputs) = (bench.logs(), bench.outputs());
    let append = tokio::spawn(outside::task(async move {
        let _open = outside::enter();
        logs.append(&AppId::new(), vec![]).await
    }));
    assert!(append.await.expect_err("refused").is_panic());
    let begin = tokio::spawn(outside::task(async move {
        let _open = outside::enter();
        outputs.begin(&OutputId::new(), 0).await
    }));
    assert!(begin.await.expect_err("refused").is_panic());
}

/// Apps with lines are found without knowing them, also after a restart; not once they are removed.
pub async fn apps_with_lines_are_listed(mut bench: impl LogBench) {
    let apps = [AppId::new(), AppId::new()];
    let listed = async |bench: &_, of: &AppId| {
        let logs = LogBench::logs(bench);
        logs.apps().await.expect("a list").into_iter().filter(|app| app == of).count()
    };
    for app in &apps {
        assert_eq!(listed(&bench, app).await, 0);
        bench.logs().append(app, numbered(0, 3)).await.expect("append");
    }
    bench.restart().await;
    for app in &apps {
        assert_eq!(listed(&bench, app).await, 1);
    }
    bench.logs().remove(&apps[0]).await.expect("removed");
    assert_eq!((listed(&bench, &apps[0]).await, listed(&bench, &apps[1]).await), (0, 1));
}
