//! Promises about one-off dynos.

use std::time::Duration;

use paas_domain::DynoState;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::bench::{RuntimeBench, dynos, exit_of, logged, one_off, until};
use crate::{LogSource, PortError};

/// Asked twice, also by a new server and after it ended, it ran once.
pub async fn a_one_off_dyno_starts_once(bench: &impl RuntimeBench) {
    let (id, spec) = one_off(bench, "say ran; exit 7", false);
    bench.runtime().start_once(&id, &spec).await.expect("start_once");
    bench.runtime().start_once(&id, &spec).await.expect("start_once again");
    assert_eq!(exit_of(bench, &spec.app, &id).await, 7);
    bench.runtime().start_once(&id, &spec).await.expect("start_once after the end");
    bench.restart().await;
    bench.runtime().start_once(&id, &spec).await.expect("start_once by a new server");
    let lines = logged(bench, &spec.app, "State changed from up to complete").await;
    assert_eq!(lines.iter().filter(|line| *line == "app[run.4821]: ran").count(), 1, "{lines:#?}");
    assert_eq!(lines.iter().filter(|line| line.contains("Process exited with status 7")).count(), 1, "{lines:#?}");
    assert_eq!(lines.iter().filter(|line| line.contains("Starting process")).count(), 1, "{lines:#?}");
    let seen = dynos(bench, &spec.app).await;
    assert_eq!((seen.len(), seen[0].state, seen[0].exit_code), (1, DynoState::Ended, Some(7)));
    assert_eq!((&seen[0].id, &seen[0].name, &seen[0].command), (&id, &spec.name, &spec.command));
    bench.runtime().forget(&id).await.expect("forget");
    bench.runtime().forget(&id).await.expect("forget again");
    assert!(dynos(bench, &spec.app).await.is_empty());
}

/// Bytes both ways, the end of stdin, the exit code; and nothing of it in the app's log.
pub async fn a_piped_dyno_reads_stdin_and_its_exit_code_comes_back(bench: &impl RuntimeBench) {
    let (id, spec) = one_off(bench, "say ready; cat; exit 7", true);
    bench.runtime().start_once(&id, &spec).await.expect("start_once");
    let stream = bench.runtime().attach(&id).await.expect("attach");
    let (mut from, mut to) = tokio::io::split(stream);
    // More than any buffer on the way, with every byte value in it.
    let sent: Vec<u8> = (0..400_000_u32).map(|n| u8::try_from(n % 251).unwrap_or(0)).collect();
    let writing = async {
        to.write_all(&sent).await.expect("writes");
        to.shutdown().await.expect("ends stdin");
    };
    let mut read = Vec::new();
    let ((), got) = tokio::join!(writing, from.read_to_end(&mut read));
    got.expect("reads");
    assert!(read.starts_with(b"ready\n"), "the first byte is there");
    assert!(read[6..] == sent, "{} bytes came back as {}", sent.len(), read.len() - 6);
    assert_eq!(exit_of(bench, &spec.app, &id).await, 7);
    let lines = bench.lines(&spec.app).await;
    assert!(lines.iter().all(|line| line.source == LogSource::Heroku), "{lines:#?}");
}

/// `start_once` makes it, `attach` starts it: nothing it writes can be missed.
pub async fn an_attached_dyno_starts_when_attached(bench: &impl RuntimeBench) {
    let (id, spec) = one_off(bench, "say hello; exit 0", true);
    bench.runtime().start_once(&id, &spec).await.expect("start_once");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(dynos(bench, &spec.app).await[0].state, DynoState::Starting);
    bench.restart().await;
    bench.runtime().start_once(&id, &spec).await.expect("start_once again");
    let mut read = String::new();
    bench.runtime().attach(&id).await.expect("attach").read_to_string(&mut read).await.expect("reads");
    assert_eq!(read, "hello\n");
    assert_eq!(exit_of(bench, &spec.app, &id).await, 0);
}

/// What was stopped before anyone attached has ended, and attaching does not bring it to life.
pub async fn a_dyno_stopped_before_it_was_attached_never_runs(bench: &impl RuntimeBench) {
    let (id, spec) = one_off(bench, "say ran; exit 0", true);
    bench.runtime().start_once(&id, &spec).await.expect("start_once");
    bench.runtime().stop(&id).await.expect("stop");
    assert_eq!(exit_of(bench, &spec.app, &id).await, 143);
    assert!(bench.runtime().attach(&id).await.is_err());
    assert_eq!(dynos(bench, &spec.app).await[0].state, DynoState::Ended);
    bench.runtime().forget(&id).await.expect("forget");
    assert!(!bench.lines(&spec.app).await.iter().any(|line| line.message.contains("Starting process")));
}

/// An id that was used up stays used up.
pub async fn a_forgotten_dyno_never_starts_again(bench: &impl RuntimeBench) {
    let (id, spec) = one_off(bench, "exit 0", false);
    bench.runtime().start_once(&id, &spec).await.expect("start_once");
    let running = bench.runtime().forget(&id).await;
    assert!(running.is_ok() || running.is_err_and(|e| e.is_transient()));
    until("it is forgotten", || async { bench.runtime().forget(&id).await.is_ok() }).await;
    bench.restart().await;
    let again = bench.runtime().start_once(&id, &spec).await;
    assert!(matches!(again, Err(PortError::NotFound(_))), "{again:?}");
    assert!(dynos(bench, &spec.app).await.is_empty());
}

/// A dyno that nobody was to attach to can be watched all the same, while it runs and after.
pub async fn output_without_stdin_can_be_read_from_its_first_byte(bench: &impl RuntimeBench) {
    let (id, spec) = one_off(bench, "say migrating; sleep 400; say done; exit 0", false);
    bench.runtime().start_once(&id, &spec).await.expect("start_once");
    for _ in 0..2 {
        let mut read = String::new();
        bench.runtime().attach(&id).await.expect("attach").read_to_string(&mut read).await.expect("reads");
        assert_eq!(read, "migrating\ndone\n");
        assert_eq!(exit_of(bench, &spec.app, &id).await, 0);
    }
    logged(bench, &spec.app, "app[run.4821]: done").await;
}
