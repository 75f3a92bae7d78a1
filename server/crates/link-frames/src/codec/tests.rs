use proptest::prelude::*;

use super::*;
use crate::frame::{MAX_FRAME, MAX_HELLO};

fn hello() -> Hello {
    Hello {
        version: 1,
        token: "token".into(),
        app: "app".into(),
        task: "arn:…/task".into(),
        process_type: "web".into(),
        dyno: String::new(),
        started_as: "web.1".into(),
        attach: true,
        lines_taken: 1,
        output_from: 2,
        input_next: MAX_COUNT,
    }
}

#[test]
fn what_is_put_is_what_is_read() {
    let lines = vec![
        Line { at_ms: 1, stream: Stream::Out, bytes: b"a\xff\0".to_vec() },
        Line { at_ms: 2, stream: Stream::Err, bytes: vec![] },
        Line { at_ms: 3, stream: Stream::Err, bytes: vec![b'x'; MAX_LINE - 64] },
    ];
    let said = [
        FromDyno::Hello(hello()),
        FromDyno::Started { name: "web.1".into() },
        FromDyno::Lines(Lines { first: 7, lines }),
        FromDyno::Output { offset: 9, bytes: vec![7; MAX_BYTES] },
        FromDyno::InputTaken { offset: 9 },
        FromDyno::InputClosed,
        FromDyno::Exit(Exit { code: 7, lines: 8, output: 9 }),
        FromDyno::Ping,
    ];
    let mut wire = Vec::new();
    said.iter().for_each(|frame| frame.put(&mut wire));
    for frame in &said {
        let (kind, fields) = take(&mut wire, MAX_FRAME).expect("fits").expect("whole");
        assert_eq!(FromDyno::read(kind, &fields).as_ref(), Ok(frame));
    }
    assert!(wire.is_empty());
    let said = [
        FromHub::Welcome(Welcome { version: 1, name: "web.1".into(), lines_taken: 3, output_next: 4 }),
        FromHub::Refused { soon: true, why: "unknown".into() },
        FromHub::LinesTaken { number: 1 },
        FromHub::OutputTaken { offset: 2 },
        FromHub::Input { offset: 3, bytes: vec![1, 2] },
        FromHub::InputEnd { offset: 5 },
        FromHub::Start,
        FromHub::HangUp,
        FromHub::Stop,
        FromHub::Bye,
        FromHub::Ping,
    ];
    said.iter().for_each(|frame| frame.put(&mut wire));
    for frame in &said {
        let (kind, fields) = take(&mut wire, MAX_FRAME).expect("fits").expect("whole");
        assert_eq!(FromHub::read(kind, &fields).as_ref(), Ok(frame));
    }
}

#[test]
fn half_a_frame_is_waited_for_and_a_long_one_is_not() {
    let mut whole = Vec::new();
    FromDyno::Hello(hello()).put(&mut whole);
    for upto in 0..whole.len() {
        assert_eq!(take(&mut whole[..upto].to_vec(), MAX_HELLO), Ok(None));
    }
    assert_eq!(take(&mut vec![0xff, 0xff, 0xff, 0xff, 1], MAX_FRAME), Err(FrameError::TooLong));
    assert_eq!(FromDyno::read(99, &[]), Err(FrameError::Kind));
    assert_eq!(FromDyno::read(8, &[0]), Err(FrameError::Damaged));
}

#[test]
fn a_secret_is_not_shown() {
    assert!(!format!("{:?}", FromDyno::Hello(hello())).contains("token"));
}

proptest! {
    #[test]
    fn hostile_frames_are_errors_and_small(kind: u8, fields in prop::collection::vec(any::<u8>(), 0..4_096)) {
        if let Ok(FromDyno::Lines(lines)) = FromDyno::read(kind, &fields) {
            prop_assert!(lines.lines.len() <= MAX_LINES);
            prop_assert!(lines.lines.iter().map(|l| l.bytes.len()).sum::<usize>() <= fields.len());
        }
        let _ = FromHub::read(kind, &fields);
    }

    #[test]
    fn bits_that_flip_never_panic(at in 0_usize..200, bit in 0_u32..8) {
        let mut wire = Vec::new();
        FromDyno::Hello(hello()).put(&mut wire);
        let line = Line { at_ms: 1, stream: Stream::Out, bytes: b"text".to_vec() };
        FromDyno::Lines(Lines { first: 1, lines: vec![line; 3] }).put(&mut wire);
        let at = at % wire.len();
        wire[at] ^= 1 << bit;
        while let Ok(Some((kind, fields))) = take(&mut wire, MAX_HELLO) {
            let _ = FromDyno::read(kind, &fields);
        }
    }
}
