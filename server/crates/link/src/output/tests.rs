use super::*;

fn output(waits: bool, most: usize) -> Output {
    Output::new(0, waits, most, Arc::new(Kept::new(1 << 20)))
}

fn read(output: &mut Output, reader: u64, room: usize) -> Option<Vec<u8>> {
    let mut got = Vec::new();
    match output.read(reader, room, Waker::noop(), |bytes| got.extend_from_slice(bytes)) {
        Read::Bytes(count) => {
            assert_eq!(count, got.len());
            Some(got)
        }
        Read::End => Some(vec![]),
        Read::Wait => None,
    }
}

#[test]
fn each_reader_begins_at_the_first_byte_and_ends_with_the_last() {
    let mut output = output(true, 1_000);
    let one = output.open();
    assert_eq!(read(&mut output, one, 9), None);
    output.put(0, b"hello").expect("in order");
    assert_eq!(read(&mut output, one, 3), Some(b"hel".to_vec()));
    let two = output.open();
    assert_eq!(read(&mut output, two, 9), Some(b"hello".to_vec()));
    // What comes again after a cut is skipped, also in part.
    output.put(3, b"lo you").expect("in order");
    assert_eq!(output.put(10, b"x"), Err(NotThere));
    output.end();
    assert_eq!(read(&mut output, one, 9), Some(b"lo you".to_vec()));
    assert_eq!(read(&mut output, one, 9), Some(vec![]));
    let three = output.open();
    assert_eq!(read(&mut output, three, 99), Some(b"hello you".to_vec()));
}

#[test]
fn a_dyno_waits_for_its_slowest_reader() {
    let mut output = output(true, 0);
    let reader = output.open();
    output.put(0, &vec![7; WINDOW]).expect("a window");
    assert_eq!(output.put(WINDOW as u64, b"more"), Err(NotThere));
    assert_eq!(output.taken(), 0);
    assert_eq!(read(&mut output, reader, 100).map(|b| b.len()), Some(100));
    assert_eq!(output.taken(), 100);
    output.close(reader);
    assert_eq!(output.taken(), WINDOW as u64, "nobody reads: the dyno goes on");
    assert_eq!(output.kept.bytes(), 0);
}

#[test]
fn who_is_slow_misses_what_nobody_waits_for() {
    let mut output = output(false, 10);
    let reader = output.open();
    output.append(b"0123456789abcdef");
    assert_eq!(read(&mut output, reader, 99), Some(b"6789abcdef".to_vec()));
    assert_eq!(output.kept.bytes(), 10);
    let kept = output.kept.clone();
    drop(output);
    assert_eq!(kept.bytes(), 0);
}

#[test]
fn all_together_are_bounded() {
    let kept = Arc::new(Kept::new(100_000));
    let mut outputs: Vec<_> = (0..50).map(|_| Output::new(0, false, 50_000, kept.clone())).collect();
    for _ in 0..100 {
        outputs.iter_mut().for_each(|output| output.append(&[7; 1_000]));
    }
    // One may be over when the bound is met, the rest keep their small share.
    assert!(kept.bytes() <= 100_000 + 50 * (WINDOW / 16 + 1_000), "{}", kept.bytes());
}
