//! A dyno of the formation: its slot, its lines, its exit.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::world::{Heard, World, ended};

/// The lines by number. A line that came twice came the same.
fn lines(heard: &Heard) -> BTreeMap<u64, String> {
    let mut lines = BTreeMap::new();
    for (number, text) in &heard.lines {
        let before = lines.insert(*number, text.clone());
        assert!(before.is_none_or(|before| before == *text), "{number}");
    }
    lines
}

fn lost(heard: &Heard) -> u64 {
    heard.gaps.iter().map(|gap| gap.lines.end() - gap.lines.start() + 1).sum()
}

/// On a machine with much else to do, half a second may be over before anyone had a turn.
const TRIES: usize = 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_dyno_is_told_its_slot_and_heard() {
    let command = "echo \"I am $DYNO\"; echo oops >&2; env | grep -c ^PAAS_; printf 'no end'; exit 3";
    for _ in 0..TRIES {
        let world = World::new().await;
        let since = Instant::now();
        let dyno = world.launcher("web.3", command).spawn().expect("starts");
        let (status, out, err) = ended(dyno).await;
        println!("a linked dyno from start to end: {} ms", since.elapsed().as_millis());
        let told = out == "I am web.3\n0\nno end";
        assert_eq!((status, err.as_str()), (Some(3), "oops\n"));
        world.heard("the exit", |heard| heard.exited == [3]).await;
        let heard = world.server.heard.lock().expect("lock");
        let mut texts: Vec<String> = lines(&heard).into_values().collect();
        // The two outputs are two pipes: only the order within each is the command's.
        texts.sort();
        let name = heard.started.first().cloned().unwrap_or_default();
        assert_eq!(texts, ["0".to_owned(), format!("I am {name}"), "no end".to_owned(), "oops".to_owned()]);
        assert!(heard.gaps.is_empty() && told == (name == "web.3"), "{name}: {out}");
        let claims = world.server.claims.lock().expect("lock");
        assert!(claims[0].dyno.is_none() && claims[0].app == world.app && claims[0].process_type.to_string() == "web");
        if told {
            return;
        }
    }
    panic!("no dyno was told its slot in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_has_to_ask_is_waited_for() {
    for _ in 0..TRIES {
        let world = World::new().await;
        *world.server.thinks.lock().expect("lock") = Duration::from_millis(1_500);
        let (status, out, _) = ended(world.launcher("web.3", "echo $DYNO").spawn().expect("starts")).await;
        assert_eq!(status, Some(0));
        if out == "web.3\n" {
            return;
        }
    }
    panic!("no dyno waited for its slot");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ended_before_the_hub_let_it_in_is_heard() {
    let world = World::new().await;
    *world.server.too_early_until.lock().expect("lock") = Some(Instant::now() + Duration::from_secs(5));
    let mut dyno = world.launcher("web.3", "echo ran; exit 7");
    let (status, out, _) = ended(dyno.env("DYNO", "web.3").spawn().expect("starts")).await;
    assert_eq!((status, out.as_str()), (Some(7), "ran\n"));
    world.heard("its end", |heard| heard.exited == [7]).await;
    let heard = world.server.heard.lock().expect("lock");
    assert_eq!(lines(&heard).into_values().collect::<Vec<_>>(), ["ran"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dyno_starts_without_a_hub() {
    let mut world = World::new().await;
    world.kill_hub().await;
    let since = Instant::now();
    let mut dyno = world.launcher("web.1", "date +%s%3N; echo $DYNO");
    let began = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("time").as_millis();
    let (status, out, err) = ended(dyno.spawn().expect("starts")).await;
    assert_eq!((status, err.as_str()), (Some(0), ""));
    let (at, name) = out.trim().split_once('\n').expect("two lines");
    println!("without a hub the app starts after {} ms", at.parse::<u128>().expect("a time") - began);
    let slot: u32 = name.strip_prefix("web.").expect("the type").parse().expect("a number");
    assert!((10_000..100_000).contains(&slot), "{name}");
    assert!(since.elapsed() < Duration::from_secs(60));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_comes_too_late_is_not_taken_and_the_server_hears_of_it() {
    let world = World::new().await;
    world.wire.cut();
    let mut dyno = world.launcher("worker.2", "echo $DYNO; sleep 3");
    // Somebody is there, and then nobody for longer than a dyno waits.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let at = listener.local_addr().expect("bound");
    dyno.env("PAAS_LINK", format!("localhost:{}", at.port()));
    let dyno = dyno.spawn().expect("starts");
    // Then the hub takes its place; the first connection only hears the end.
    tokio::task::spawn_blocking(move || {
        drop(listener.accept());
        std::thread::sleep(Duration::from_millis(5_500));
        drop(listener);
    })
    .await
    .expect("accepts");
    let (mut world, first) = (world, at);
    world.kill_hub().await;
    world.at = first;
    world.revive_hub().await;
    let (_, out, _) = ended(dyno).await;
    let name = out.trim().to_owned();
    assert!(name.starts_with("worker.") && name != "worker.2", "{name}");
    world.heard("its own name", |heard| heard.started.contains(&name) && heard.exited == [0]).await;
    let claims = world.server.claims.lock().expect("lock");
    assert_eq!(claims[0].started_as.as_ref().map(ToString::to_string), Some(name));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_dies_and_comes_back_misses_nothing() {
    let mut world = World::new().await;
    let command = "for i in $(seq 1 300); do echo line $i; sleep 0.01; done";
    let dyno = world.launcher("web.1", command).spawn().expect("starts");
    world.heard("some lines", |heard| heard.lines.len() > 50).await;
    world.kill_hub().await;
    sleep(Duration::from_millis(700)).await;
    world.revive_hub().await;
    assert_eq!(ended(dyno).await.0, Some(0));
    world.heard("the exit", |heard| heard.exited == [0]).await;
    let heard = world.server.heard.lock().expect("lock");
    let seen = lines(&heard);
    assert_eq!((seen.len() as u64 + lost(&heard), lost(&heard)), (300, 0));
    assert!(seen.iter().all(|(number, text)| *text == format!("line {number}")));
    assert_eq!(heard.connected, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_wire_costs_no_line_and_brings_none_twice() {
    let world = World::new().await;
    let dyno = world.launcher("web.1", "for i in $(seq 1 200); do echo line $i; sleep 0.01; done");
    let dyno = { dyno }.spawn().expect("starts");
    for (cuts, count) in [20, 60, 100].into_iter().enumerate() {
        // Each cut is one of a link.
        world.heard("more lines", |heard| heard.lines.len() > count && heard.connected > cuts).await;
        world.wire.cut();
    }
    assert_eq!(ended(dyno).await.0, Some(0));
    world.heard("the exit", |heard| heard.exited == [0]).await;
    let heard = world.server.heard.lock().expect("lock");
    let numbers: Vec<u64> = heard.lines.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, (1..=200).collect::<Vec<u64>>());
    assert!(heard.connected >= 4 && heard.gaps.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_blocks_nobody_and_every_lost_line_is_counted() {
    let world = World::new().await;
    *world.server.slow.lock().expect("lock") = Duration::from_millis(20);
    let since = Instant::now();
    let dyno = world.launcher("web.1", "seq 1 200000; echo done >&2").spawn().expect("starts");
    let (status, out, err) = ended(dyno).await;
    println!("200,000 lines and the end: {} ms", since.elapsed().as_millis());
    assert_eq!((status, err.as_str()), (Some(0), "done\n"));
    assert_eq!(out.lines().count(), 200_000, "all of them are written through");
    world.heard("the exit", |heard| heard.exited == [0]).await;
    let heard = world.server.heard.lock().expect("lock");
    let seen = lines(&heard);
    println!("{} came, {} in {} gaps", seen.len(), lost(&heard), heard.gaps.len());
    assert_eq!(seen.len() as u64 + lost(&heard), 200_001);
    assert!(heard.lines.is_sorted_by_key(|(number, _)| *number));
    assert!(seen.keys().all(|number| !heard.gaps.iter().any(|gap| gap.lines.contains(number))));
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_that_could_not_be_stored_come_again() {
    let world = World::new().await;
    *world.server.failures.lock().expect("lock") = 2;
    let dyno = world.launcher("web.1", "seq 1 100; sleep 6").spawn().expect("starts");
    assert_eq!(ended(dyno).await.0, Some(0));
    world.heard("the exit", |heard| heard.exited == [0]).await;
    let heard = world.server.heard.lock().expect("lock");
    assert_eq!(lines(&heard).len(), 100);
    assert!(heard.gaps.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_command_leaves_behind_does_not_hold_the_dyno() {
    let world = World::new().await;
    let since = Instant::now();
    let dyno = world.launcher("web.1", "(while :; do echo still here; done) & sleep 0.2; exit 4").spawn();
    let (status, _, _) = {
        let mut dyno = dyno.expect("starts");
        // It writes for as long as someone reads.
        let mut out = dyno.stdout.take().expect("piped");
        tokio::spawn(async move { tokio::io::copy(&mut out, &mut tokio::io::sink()).await });
        ended(dyno).await
    };
    assert_eq!(status, Some(4));
    assert!(since.elapsed() < Duration::from_secs(20));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_cannot_start_says_so_in_the_log() {
    let world = World::new().await;
    let mut dyno = world.launcher("web.1", "");
    dyno.arg("/no/such/program").env_remove("PAAS_COMMAND");
    let (status, _, err) = ended(dyno.spawn().expect("starts")).await;
    assert_eq!(status, Some(126));
    assert!(err.starts_with("launcher: starting /no/such/program: "), "{err}");
    world.heard("the exit", |heard| heard.exited == [126] && heard.lines.len() == 1).await;
}
