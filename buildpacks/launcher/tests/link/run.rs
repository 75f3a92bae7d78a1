//! A one-off dyno that somebody attaches to.

use std::time::Duration;

use paas_link::DynoLinks as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{sleep, timeout};

use crate::world::{SOON, World, ended};

async fn rest(from: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut bytes = Vec::new();
    timeout(SOON, from.read_to_end(&mut bytes)).await.expect("it ends").expect("properly");
    bytes
}

async fn expect(from: &mut (impl AsyncRead + Unpin), text: &str) {
    let mut got = vec![0; text.len()];
    timeout(SOON, from.read_exact(&mut got)).await.expect("in time").expect("reads");
    assert_eq!(String::from_utf8_lossy(&got), text);
}

/// Every byte value, and no short period.
fn bytes(count: usize) -> Vec<u8> {
    (0..count as u64).map(|n| (n.wrapping_mul(2_654_435_761) >> 11) as u8).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn five_megabytes_both_ways_and_the_exit_status() {
    let world = World::new().await;
    let (id, mut dyno) = world.run("echo ready; cat; exit 7");
    let dyno = dyno.spawn().expect("starts");
    let (mut from, mut to) = tokio::io::split(world.attach(&id).await);
    expect(&mut from, "ready\n").await;
    let sent = bytes(5_000_000);
    let writing = async {
        to.write_all(&sent).await.expect("writes");
        to.shutdown().await.expect("ends stdin");
    };
    let ((), got) = tokio::join!(writing, rest(&mut from));
    assert!(got == sent, "{} bytes came back", got.len());
    assert_eq!(ended(dyno).await, (Some(7), String::new(), String::new()), "nothing goes to the log");
    assert_eq!(world.hub.exit_code(&id).await, Some(7));
    let heard = world.server.heard.lock().expect("lock");
    assert!(heard.lines.is_empty() && heard.exited == [7] && heard.gaps.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_link_loses_no_byte_of_either_way() {
    let world = World::new().await;
    let (id, mut dyno) = world.run("cat; exit 7");
    let dyno = dyno.spawn().expect("starts");
    let (mut from, mut to) = tokio::io::split(world.attach(&id).await);
    let sent = bytes(5_000_000);
    let copy = sent.clone();
    let writing = tokio::spawn(async move {
        to.write_all(&copy).await.expect("writes");
        to.shutdown().await.expect("ends stdin");
    });
    let mut got = vec![0; 5_000_000];
    for (at, piece) in got.chunks_mut(1_000_000).enumerate() {
        timeout(SOON, from.read_exact(piece)).await.expect("in time").expect("reads");
        if at < 4 {
            world.wire.cut();
        }
    }
    assert!(got == sent);
    writing.await.expect("written");
    assert_eq!(rest(&mut from).await, b"");
    assert_eq!(ended(dyno).await.0, Some(7));
    assert!(world.server.heard.lock().expect("lock").connected >= 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_input_is_not_the_end_of_output() {
    let world = World::new().await;
    let (id, mut dyno) = world.run("wc -c; sleep 0.3; echo bye >&2; printf end");
    let dyno = dyno.spawn().expect("starts");
    let (mut from, mut to) = tokio::io::split(world.attach(&id).await);
    to.write_all(b"12345").await.expect("writes");
    sleep(Duration::from_millis(200)).await;
    to.shutdown().await.expect("ends stdin");
    assert_eq!(String::from_utf8_lossy(&rest(&mut from).await), "5\nbye\nend");
    assert_eq!(ended(dyno).await.0, Some(0));
    // What was written can be read again.
    assert_eq!(rest(&mut world.attach(&id).await).await, b"5\nbye\nend");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_starts_when_somebody_attaches_and_not_before() {
    let world = World::new().await;
    let (id, mut dyno) = world.run("echo $(($(date +%s%3N)))");
    let dyno = dyno.spawn().expect("starts");
    world.heard("the link", |heard| heard.connected == 1).await;
    sleep(Duration::from_millis(500)).await;
    assert!(world.server.heard.lock().expect("lock").started.is_empty());
    let attached = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("time").as_millis();
    let said = String::from_utf8(rest(&mut world.attach(&id).await).await).expect("text");
    assert!(said.trim().parse::<u128>().expect("a time") + 1 >= attached);
    assert_eq!(ended(dyno).await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_stopped_before_never_runs() {
    let world = World::new().await;
    let (id, mut dyno) = world.run("echo ran");
    let dyno = dyno.spawn().expect("starts");
    world.heard("the link", |heard| heard.connected == 1).await;
    assert!(world.hub.stop(&id).await);
    assert_eq!(ended(dyno).await.0, Some(143));
    world.heard("the exit", |heard| heard.exited == [143] && heard.started.is_empty()).await;
    assert_eq!(rest(&mut world.attach(&id).await).await, b"");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_hangs_up() {
    let world = World::new().await;
    let (id, mut dyno) = world.run("trap 'exit 5' HUP; echo ready; while :; do sleep 0.05; done");
    let dyno = dyno.spawn().expect("starts");
    let mut attached = world.attach(&id).await;
    expect(&mut attached, "ready\n").await;
    drop(attached);
    // Again in time: it stays.
    let mut again = world.attach(&id).await;
    expect(&mut again, "ready\n").await;
    sleep(Duration::from_millis(800)).await;
    assert!(world.hub.exit_code(&id).await.is_none());
    drop(again);
    assert_eq!(ended(dyno).await.0, Some(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_hung_up_is_read_to_its_last_word() {
    let world = World::new().await;
    let (id, mut dyno) = world.run("trap 'echo bye; exit 5' HUP; echo ready; while :; do sleep 0.05; done");
    let dyno = dyno.spawn().expect("starts");
    let mut attached = world.attach(&id).await;
    expect(&mut attached, "ready\n").await;
    world.hub.hang_up(&id).await;
    let said = rest(&mut attached).await;
    // The shell may tell of its own child that it was hung up, too.
    assert!(said.ends_with(b"bye\n"), "{}", String::from_utf8_lossy(&said));
    assert_eq!(ended(dyno).await.0, Some(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_holds_the_dyno() {
    let world = World::new().await;
    let (id, mut dyno) = world.run("head -c 3000000 /dev/zero; echo end");
    let mut dyno = dyno.spawn().expect("starts");
    let mut attached = world.attach(&id).await;
    sleep(Duration::from_secs(2)).await;
    assert!(dyno.try_wait().expect("looks").is_none(), "it waits");
    let got = rest(&mut attached).await;
    assert_eq!((got.len(), &got[3_000_000..]), (3_000_004, b"end\n".as_slice()));
    assert_eq!(ended(dyno).await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_closes_its_input_stops_the_writer() {
    let world = World::new().await;
    let (id, mut dyno) = world.run("exec 0<&-; echo closed; sleep 1; exit 2");
    let dyno = dyno.spawn().expect("starts");
    let (mut from, mut to) = tokio::io::split(world.attach(&id).await);
    expect(&mut from, "closed\n").await;
    let block = vec![7; 64 << 10];
    let writing = async { while to.write_all(&block).await.is_ok() && world.hub.exit_code(&id).await.is_none() {} };
    timeout(SOON, writing).await.expect("it is not held up");
    assert_eq!(rest(&mut from).await, b"");
    assert_eq!(ended(dyno).await.0, Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_is_one() {
    let world = World::new().await;
    let (id, mut dyno) =
        world.run("tty | cut -c1-9; stty size; ps -o tty= -p $$ | grep -c pts; read line; echo got $line");
    dyno.env("PAAS_TTY", "1");
    let size = [("COLUMNS".to_owned(), "132".to_owned()), ("LINES".to_owned(), "43".to_owned())].into();
    dyno.envs(paas_dyno_env::encode(&size));
    let dyno = dyno.spawn().expect("starts");
    let (mut from, mut to) = tokio::io::split(world.attach(&id).await);
    expect(&mut from, "/dev/pts/\r\n43 132\r\n1\r\n").await;
    to.write_all(b"hello\r").await.expect("types");
    expect(&mut from, "hello\r\ngot hello\r\n").await;
    assert_eq!(rest(&mut from).await, b"");
    assert_eq!(ended(dyno).await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn control_c_reaches_the_command_at_a_terminal() {
    let world = World::new().await;
    let (id, mut dyno) = world.run("echo ready; sleep 100");
    let dyno = dyno.env("PAAS_TTY", "1").spawn().expect("starts");
    let (mut from, mut to) = tokio::io::split(world.attach(&id).await);
    expect(&mut from, "ready\r\n").await;
    to.write_all(b"\x03").await.expect("types");
    assert_eq!(ended(dyno).await.0, Some(130));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_server_died_hangs_up_its_dyno() {
    let mut world = World::new().await;
    let (id, mut dyno) = world.run("echo ready; sleep 100");
    let dyno = dyno.spawn().expect("starts");
    expect(&mut world.attach(&id).await, "ready\n").await;
    world.kill_hub().await;
    world.revive_hub().await;
    assert_eq!(ended(dyno).await.0, Some(129));
    world.heard("the exit", |heard| heard.exited == [129]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn output_of_one_that_nobody_attaches_to_can_be_read_too() {
    let world = World::new().await;
    let (id, mut dyno) = world.run("echo migrating; sleep 0.5; echo done; exit 1");
    let dyno = dyno.env_remove("PAAS_ATTACH").spawn().expect("starts");
    assert_eq!(rest(&mut world.attach(&id).await).await, b"migrating\ndone\n");
    assert_eq!(ended(dyno).await.1, "migrating\ndone\n");
    assert_eq!(rest(&mut world.attach(&id).await).await, b"migrating\ndone\n");
    world.hub.forget(&id).await;
    assert!(world.hub.attach(&id).await.is_err());
    assert_eq!(world.server.heard.lock().expect("lock").lines.len(), 2);
}
