//! The output of builds and release phases.

use std::time::Instant;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use paas_domain::OutputId;
use tokio::time::timeout;

use super::{LATE, LogBench, SOON, TOLD};
use crate::{OutputStore, PortError};

async fn whole(outputs: &dyn OutputStore, output: &OutputId) -> String {
    let all = outputs.follow(output).await.expect("follow").collect::<Vec<_>>();
    let all = timeout(LATE, all).await.expect("a closed output ends").concat();
    String::from_utf8(all).expect("text")
}

async fn write(outputs: &dyn OutputStore, output: &OutputId, section: u8, text: &'static str) {
    outputs.write(output, section, Bytes::from_static(text.as_bytes())).await.expect("write");
}

/// Reads exactly as much as `expected` has, and compares.
async fn reads(reader: &mut BoxStream<'static, Bytes>, expected: &str) {
    let mut seen = Vec::new();
    while seen.len() < expected.len() {
        seen.extend_from_slice(&timeout(LATE, reader.next()).await.expect("in time").expect("goes on"));
    }
    assert_eq!(String::from_utf8_lossy(&seen), expected);
}

/// By number, whatever the numbers are.
pub async fn output_comes_in_the_order_of_sections(bench: impl LogBench) {
    let (outputs, id) = (bench.outputs(), OutputId::new());
    for (section, text) in [(0, "zero "), (2, "two "), (200, "two hundred")] {
        outputs.begin(&id, section).await.expect("begin");
        write(&*outputs, &id, section, text).await;
    }
    outputs.close(&id).await.expect("close");
    outputs.close(&id).await.expect("close again");
    assert_eq!(whole(&*outputs, &id).await, "zero two two hundred");
}

/// Bytes come as they are written, the end with `close`.
pub async fn output_is_followed_until_closed(bench: impl LogBench) {
    let (outputs, id) = (bench.outputs(), OutputId::new());
    outputs.begin(&id, 1).await.expect("begin");
    let mut reader = outputs.follow(&id).await.expect("follow");
    let mut best = LATE;
    for text in ["one", "two", "three", "once more", "and again"] {
        let begun = Instant::now();
        write(&*outputs, &id, 1, text).await;
        assert_eq!(timeout(LATE, reader.next()).await.expect("in time").expect("goes on"), text);
        best = best.min(begun.elapsed());
    }
    assert!(best < TOLD, "read after {best:?}");
    outputs.begin(&id, 2).await.expect("begin");
    write(&*outputs, &id, 2, "four").await;
    reads(&mut reader, "four").await;
    assert!(timeout(SOON, reader.next()).await.is_err(), "open: more may come");
    outputs.close(&id).await.expect("close");
    assert_eq!(timeout(LATE, reader.next()).await.expect("ends"), None);
    assert_eq!(whole(&*outputs, &id).await, "onetwothreeonce moreand againfour");
}

/// What was never begun is not there.
pub async fn unknown_output_is_not_found(bench: impl LogBench) {
    assert!(matches!(bench.outputs().follow(&OutputId::new()).await, Err(PortError::NotFound(_))));
}

/// A step may end before it said anything.
pub async fn empty_output_can_be_closed(bench: impl LogBench) {
    let (outputs, id) = (bench.outputs(), OutputId::new());
    outputs.close(&id).await.expect("close");
    assert_eq!(whole(&*outputs, &id).await, "");
}

/// A step that runs again does not repeat itself to those who read it the first time.
pub async fn readers_keep_their_place_in_a_rewritten_section(bench: impl LogBench) {
    let (outputs, id) = (bench.outputs(), OutputId::new());
    outputs.begin(&id, 1).await.expect("begin");
    write(&*outputs, &id, 1, "fetching\nbuilding\n").await;
    let mut reader = outputs.follow(&id).await.expect("follow");
    reads(&mut reader, "fetching\nbuilding\n").await;
    outputs.begin(&id, 1).await.expect("begin again");
    write(&*outputs, &id, 1, "fetching\n").await;
    assert!(timeout(SOON, reader.next()).await.is_err(), "nothing that was seen");
    write(&*outputs, &id, 1, "building\ndone\n").await;
    reads(&mut reader, "done\n").await;
    outputs.begin(&id, 2).await.expect("begin");
    write(&*outputs, &id, 2, "released\n").await;
    outputs.close(&id).await.expect("close");
    reads(&mut reader, "released\n").await;
    assert_eq!(timeout(LATE, reader.next()).await.expect("ends"), None);
}

/// Who comes later reads each section once.
pub async fn rewritten_sections_hold_only_the_new(bench: impl LogBench) {
    let (outputs, id) = (bench.outputs(), OutputId::new());
    outputs.begin(&id, 1).await.expect("begin");
    write(&*outputs, &id, 1, "a long first try ").await;
    outputs.begin(&id, 1).await.expect("begin again");
    write(&*outputs, &id, 1, "short ").await;
    outputs.begin(&id, 2).await.expect("begin");
    write(&*outputs, &id, 2, "end").await;
    outputs.close(&id).await.expect("close");
    assert_eq!(whole(&*outputs, &id).await, "short end");
}

/// Bytes, order and the end are there after a kill; an open output goes on.
pub async fn output_survives_a_restart(mut bench: impl LogBench) {
    let (closed, open) = (OutputId::new(), OutputId::new());
    for id in [&closed, &open] {
        bench.outputs().begin(id, 1).await.expect("begin");
        write(&*bench.outputs(), id, 1, "before ").await;
    }
    bench.outputs().close(&closed).await.expect("close");
    bench.restart().await;
    let outputs = bench.outputs();
    assert_eq!(whole(&*outputs, &closed).await, "before ");
    let mut reader = outputs.follow(&open).await.expect("follow");
    reads(&mut reader, "before ").await;
    write(&*outputs, &open, 1, "after").await;
    reads(&mut reader, "after").await;
    outputs.close(&open).await.expect("close");
    assert_eq!(whole(&*outputs, &open).await, "before after");
}

/// A step that closed an output and runs again may write it again.
pub async fn closed_output_opens_again(bench: impl LogBench) {
    let (outputs, id) = (bench.outputs(), OutputId::new());
    outputs.begin(&id, 3).await.expect("begin");
    outputs.close(&id).await.expect("close");
    outputs.begin(&id, 3).await.expect("begin again");
    let mut reader = outputs.follow(&id).await.expect("follow");
    write(&*outputs, &id, 3, "again").await;
    reads(&mut reader, "again").await;
    outputs.close(&id).await.expect("close");
    assert_eq!(timeout(LATE, reader.next()).await.expect("ends"), None);
}

/// Removing ends readers, can be repeated, and nothing comes back.
pub async fn removed_output_is_gone_for_good(mut bench: impl LogBench) {
    let (outputs, id) = (bench.outputs(), OutputId::new());
    outputs.begin(&id, 1).await.expect("begin");
    write(&*outputs, &id, 1, "x").await;
    let reader = outputs.follow(&id).await.expect("follow");
    outputs.remove(&id).await.expect("remove");
    outputs.remove(&id).await.expect("remove again");
    timeout(LATE, reader.collect::<Vec<_>>()).await.expect("readers end");
    write(&*outputs, &id, 1, "late").await;
    outputs.close(&id).await.expect("close what is gone");
    assert!(matches!(outputs.follow(&id).await, Err(PortError::NotFound(_))));
    drop(outputs);
    bench.restart().await;
    assert!(matches!(bench.outputs().follow(&id).await, Err(PortError::NotFound(_))));
    bench.outputs().remove(&id).await.expect("remove after a restart");
}

/// No byte of one output is read in another.
pub async fn outputs_never_meet(bench: impl LogBench) {
    let (outputs, one, two) = (bench.outputs(), OutputId::new(), OutputId::new());
    for (id, text) in [(&one, "one"), (&two, "two")] {
        outputs.begin(id, 1).await.expect("begin");
        write(&*outputs, id, 1, text).await;
        outputs.close(id).await.expect("close");
    }
    outputs.remove(&one).await.expect("remove");
    assert_eq!(whole(&*outputs, &two).await, "two");
}

/// Outputs are found without knowing them, open ones and closed ones; not once they are removed.
pub async fn outputs_are_listed(mut bench: impl LogBench) {
    let (open, closed) = (OutputId::new(), OutputId::new());
    bench.outputs().begin(&open, 1).await.expect("begin");
    bench.outputs().write(&open, 1, Bytes::from_static(b"x")).await.expect("write");
    bench.outputs().close(&closed).await.expect("closed");
    bench.restart().await;
    let mut both = vec![open.clone(), closed.clone()];
    both.sort();
    let mut all = bench.outputs().all().await.expect("a list");
    all.sort();
    assert_eq!(all, both);
    bench.outputs().remove(&open).await.expect("removed");
    assert_eq!(bench.outputs().all().await.expect("a list"), [closed]);
}
