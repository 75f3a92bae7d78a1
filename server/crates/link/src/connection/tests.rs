use std::sync::Mutex;

use async_trait::async_trait;
use paas_domain::{AppId, DynoId, InstallId};
use paas_link_frames::{Hello, Line, MAX_BYTES, Stream, WINDOW};
use proptest::prelude::*;

use super::*;
use crate::output::Kept;
use crate::{HubOptions, LinkKey, LinkedDyno};

#[derive(Default)]
struct Heard {
    lines: Mutex<u64>,
    lost: Mutex<u64>,
}

#[async_trait]
impl LinkEvents for Heard {
    async fn connected(&self, _: &LinkedDyno) {}
    async fn started(&self, _: &LinkedDyno, _: &DynoName) {}
    async fn lines(&self, _: &LinkedDyno, lines: Vec<NumberedLine>) -> Result<(), paas_ports::PortError> {
        *self.lines.lock().expect("lock") += lines.len() as u64;
        Ok(())
    }
    async fn gap(&self, _: &LinkedDyno, gap: Gap) {
        *self.lost.lock().expect("lock") += gap.lines.end() - gap.lines.start() + 1;
    }
    async fn exited(&self, _: &LinkedDyno, _: u8) {}
    async fn disconnected(&self, _: &LinkedDyno) {}
}

/// A session that was let in, and what is kept of its output.
fn session(attach: bool) -> (Arc<Session>, Arc<Kept>) {
    let hello = Hello {
        version: 1,
        token: String::new(),
        app: String::new(),
        task: String::new(),
        process_type: String::new(),
        dyno: String::new(),
        started_as: String::new(),
        attach,
        lines_taken: 0,
        output_from: 0,
        input_next: 0,
    };
    let (app, dyno) = (AppId::new(), DynoId::new());
    let linked = LinkedDyno { app, dyno: dyno.clone(), task: "task".into(), name: "run.1".parse().expect("a name") };
    let kept = Arc::new(Kept::new(1 << 20));
    let options = HubOptions::new(LinkKey::new(&[0; 32], InstallId::random()));
    (Arc::new(Session::new(linked, Some(dyno), &hello, &options, kept.clone())), kept)
}

/// Says these bytes and hangs up.
fn say(attach: bool, wire: &[u8]) -> (Cut, Heard, usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (session, kept) = session(attach);
        let (mut near, far) = tokio::io::duplex(wire.len().max(1));
        near.write_all(wire).await.expect("fits");
        drop(near);
        let (heard, end, room) = (Heard::default(), CancellationToken::new(), Room::default());
        let halves = tokio::io::split(far);
        let cut = serve(&session, halves, (Said::default(), &room), &heard, &end).await;
        (cut, heard, kept.bytes())
    })
}

fn frames() -> impl Strategy<Value = FromDyno> {
    let number = prop_oneof![0_u64..50, any::<u64>(), Just(1 << 60)];
    let bytes = prop_oneof![prop::collection::vec(any::<u8>(), 0..64), Just(vec![7; MAX_BYTES])];
    prop_oneof![
        (number.clone(), 0_usize..9, any::<u64>()).prop_map(|(first, count, at_ms)| {
            let line = Line { at_ms, stream: Stream::Err, bytes: b"text".to_vec() };
            FromDyno::Lines(Lines { first, lines: vec![line; count] })
        }),
        (number.clone(), bytes).prop_map(|(offset, bytes)| FromDyno::Output { offset, bytes }),
        number.clone().prop_map(|offset| FromDyno::InputTaken { offset }),
        (any::<u8>(), number.clone(), number).prop_map(|(code, lines, output)| FromDyno::Exit(Exit {
            code,
            lines,
            output
        })),
        ".{0,9}".prop_map(|name| FromDyno::Started { name }),
        Just(FromDyno::InputClosed),
        Just(FromDyno::Ping),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn hostile_frames_end_the_connection_and_cost_no_memory(
        attach: bool,
        frames in prop::collection::vec(frames(), 0..20),
        garbage in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let mut wire = Vec::new();
        frames.iter().for_each(|frame| frame.put(&mut wire));
        wire.extend(garbage);
        let (_, _, kept) = say(attach, &wire);
        prop_assert!(kept <= if attach { WINDOW } else { 1 << 20 }, "{}", kept);
    }
}

fn lines(first: u64, count: usize) -> FromDyno {
    let line = Line { at_ms: 1, stream: Stream::Out, bytes: b"text".to_vec() };
    FromDyno::Lines(Lines { first, lines: vec![line; count] })
}

#[test]
fn every_line_is_heard_once_or_counted() {
    let mut wire = Vec::new();
    let exit = Exit { code: 0, lines: 30, output: 0 };
    for frame in [lines(1, 5), lines(3, 5), lines(11, 10), lines(1, 3), FromDyno::Exit(exit)] {
        frame.put(&mut wire);
    }
    let (cut, heard, _) = say(false, &wire);
    assert!(matches!(cut, Cut::Io(_)), "{cut}");
    assert_eq!((*heard.lines.lock().expect("lock"), *heard.lost.lock().expect("lock")), (17, 13));
}

#[tokio::test]
async fn a_dyno_is_called_what_its_command_was_told_but_never_what_another_is() {
    let (session, _) = session(false);
    let named = |text: &str| text.parse::<DynoName>().expect("a name");
    for (started, called) in
        [("run.1", "run.1"), ("run.2", "run.1"), ("web.54321", "run.1"), ("run.54321", "run.54321")]
    {
        session.call(None, Some(&named(started)));
        assert_eq!(session.who().name, named(called), "{started}");
    }
    session.call(Some(&named("run.3")), None);
    assert_eq!(session.who().name, named("run.3"));
    session.call(Some(&named("run.3")), Some(&named("run.12345")));
    assert_eq!(session.who().name, named("run.12345"));
}

#[test]
fn who_does_not_wait_is_cut() {
    let mut wire = Vec::new();
    for at in 0..=WINDOW / MAX_BYTES {
        FromDyno::Output { offset: (at * MAX_BYTES) as u64, bytes: vec![7; MAX_BYTES] }.put(&mut wire);
    }
    assert!(matches!(say(true, &wire).0, Cut::NotThere(_)));
    let mut wire = vec![0xff; HEADER];
    assert!(matches!(say(true, &wire).0, Cut::Frame(FrameError::TooLong)));
    wire.clear();
    FromDyno::Exit(Exit { code: 0, lines: 0, output: 9 }).put(&mut wire);
    assert!(matches!(say(true, &wire).0, Cut::Order), "bytes were said that never came");
}
