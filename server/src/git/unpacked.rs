//! What a pack unpacks to, read as it comes in: a pack of one megabyte may stand for a gigabyte.
//!
//! Git bounds the bytes of a pack only, and hashes whatever they inflate to before a hook sees it (a gigabyte takes it
//! five seconds). So a pack is inflated here as well, ahead of git, and none of it is kept. What makes no sense is git's
//! to refuse: from there on nothing is looked at.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use flate2::{Decompress, FlushDecompress, Status};

/// How much of what is no delta may come out of a byte of a pack, on average: ten times what source text comes to.
pub(super) const WHOLE_FOR_A_BYTE: u64 = 64;
/// How much of all objects may: those that are kept as deltas count in full, and a large file that changes a little
/// each time comes to thousands.
const ALL_FOR_A_BYTE: u64 = 4096;
/// How much larger than what is no delta all objects of a small pack may be.
const ALL_FOR_WHOLE: u64 = 32;
const SCRATCH: usize = 64 * 1024;
/// The most bytes of the two sizes that a delta begins with.
const MAX_DELTA_HEAD: usize = 20;

const COMMIT: u8 = 1;
const TAG: u8 = 4;
const OFS_DELTA: u8 = 6;
const REF_DELTA: u8 = 7;

/// A pack that unpacks to more than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLarge;

/// Reads a pack as its bytes come in.
pub(super) struct Unpacked {
    place: Place,
    /// How many objects are still to come, with the one that is being read.
    left: u32,
    inflate: Decompress,
    scratch: Vec<u8>,
    /// What may come out of any pack, however small.
    always: u64,
    /// Bytes of the pack, and what came out of them: of what is no delta, and of all.
    packed: u64,
    whole: u64,
    all: u64,
    /// What the client said of the pack's size.
    in_all: Option<u64>,
}

/// Where in a pack the next byte is.
enum Place {
    /// In its head.
    Head(Vec<u8>),
    /// In the type and the size of an object.
    Entry { size: u64, shift: u32, kind: Option<u8> },
    /// In the distance of a delta's base.
    Distance { size: u64 },
    /// In the name of a delta's base, with so many bytes to come.
    Base { size: u64, left: usize },
    /// In an object that inflates to `size` bytes; of a delta, with its first ones.
    Data { size: u64, delta: Option<Vec<u8>> },
    /// Behind the last object, or where nothing makes sense.
    Done,
}

const ENTRY: Place = Place::Entry { size: 0, shift: 0, kind: None };

impl Unpacked {
    /// At most `always` bytes may come out of a small pack, and more of a larger one. `in_all` is the pack's size, where
    /// the client has said it: then an object that is too large for it is refused before it comes.
    pub(super) fn new(always: u64, in_all: Option<u64>) -> Self {
        Self {
            place: Place::Head(Vec::new()),
            left: 0,
            inflate: Decompress::new(true),
            scratch: vec![0; SCRATCH],
            always,
            packed: 0,
            whole: 0,
            all: 0,
            in_all,
        }
    }

    /// Goes on with the next bytes.
    pub(super) fn go_on(&mut self, mut bytes: &[u8]) -> Result<(), TooLarge> {
        while !bytes.is_empty() && !matches!(self.place, Place::Done) {
            let used = match self.place {
                Place::Data { .. } => self.data(bytes),
                _ => {
                    self.byte(bytes[0])?;
                    1
                }
            };
            self.packed = self.packed.saturating_add(used as u64);
            bytes = &bytes[used..];
            self.hold_against(self.whole, self.packed)?;
        }
        Ok(())
    }

    /// Whether so much that is no delta, and all that came so far, may come out of so large a pack.
    fn hold_against(&self, whole: u64, packed: u64) -> Result<(), TooLarge> {
        let may = |always: u64, for_a_byte: u64| always.saturating_add(packed.saturating_mul(for_a_byte));
        let fits = whole <= may(self.always, WHOLE_FOR_A_BYTE)
            && self.all <= may(self.always.saturating_mul(ALL_FOR_WHOLE), ALL_FOR_A_BYTE);
        if fits { Ok(()) } else { Err(TooLarge) }
    }

    /// The next byte of anything but an object's data.
    fn byte(&mut self, byte: u8) -> Result<(), TooLarge> {
        let (low, more) = (u64::from(byte & 0x7f), byte & 0x80 != 0);
        self.place = match std::mem::replace(&mut self.place, Place::Done) {
            Place::Head(mut head) => {
                head.push(byte);
                match head.as_slice() {
                    [b'P', b'A', b'C', b'K', 0, 0, 0, 2 | 3, a, b, c, d] => {
                        self.left = u32::from_be_bytes([*a, *b, *c, *d]);
                        if self.left > 0 { ENTRY } else { Place::Done }
                    }
                    [_, _, _, _, _, _, _, _, _, _, _, _, ..] => Place::Done,
                    _ => Place::Head(head),
                }
            }
            Place::Entry { size, shift, kind } => {
                let (part, shift, kind) = match kind {
                    None => (u64::from(byte & 15), 4, (byte >> 4) & 7),
                    Some(kind) if shift < 64 => (low << shift, shift + 7, kind),
                    // Git knows no such size either.
                    Some(_) => return Ok(()),
                };
                let size = size | part;
                match kind {
                    _ if more => Place::Entry { size, shift, kind: Some(kind) },
                    COMMIT..=TAG => self.begin(size, false)?,
                    OFS_DELTA => Place::Distance { size },
                    REF_DELTA => Place::Base { size, left: 20 },
                    _ => Place::Done,
                }
            }
            Place::Distance { size } if more => Place::Distance { size },
            Place::Distance { size } | Place::Base { size, left: 1 } => self.begin(size, true)?,
            Place::Base { size, left } => Place::Base { size, left: left - 1 },
            other => other,
        };
        Ok(())
    }

    /// An object of this size begins.
    fn begin(&mut self, size: u64, delta: bool) -> Result<Place, TooLarge> {
        self.inflate.reset(true);
        if let Some(in_all) = self.in_all.filter(|_| !delta) {
            self.hold_against(self.whole.saturating_add(size), in_all)?;
        }
        Ok(Place::Data { size, delta: delta.then(Vec::new) })
    }

    /// Inflates what there is of an object, as much as there is room for. How many bytes that took.
    fn data(&mut self, bytes: &[u8]) -> usize {
        let before = (self.inflate.total_in(), self.inflate.total_out());
        let done = self.inflate.decompress(bytes, &mut self.scratch, FlushDecompress::None);
        let used = usize::try_from(self.inflate.total_in() - before.0).unwrap_or(0);
        let came = usize::try_from(self.inflate.total_out() - before.1).unwrap_or(0);
        let Place::Data { size, delta } = &mut self.place else { return used };
        let counts = match delta {
            None => {
                self.whole = self.whole.saturating_add(came as u64);
                came as u64
            }
            Some(head) if head.len() < MAX_DELTA_HEAD => {
                let before = result_of(head);
                head.extend_from_slice(&self.scratch[..came.min(MAX_DELTA_HEAD - head.len())]);
                result_of(head).filter(|_| before.is_none()).unwrap_or(0)
            }
            Some(_) => 0,
        };
        self.all = self.all.saturating_add(counts);
        let as_said = self.inflate.total_out() <= *size;
        match done {
            Ok(Status::StreamEnd) if as_said => {
                self.left -= 1;
                self.place = if self.left > 0 { ENTRY } else { Place::Done };
            }
            Ok(_) if as_said && used + came > 0 => {}
            // No zlib stream, or a longer one than was said.
            _ => self.place = Place::Done,
        }
        used
    }
}

/// The size of a delta's result: the second of the two that it begins with.
fn result_of(delta: &[u8]) -> Option<u64> {
    let mut rest = delta.iter();
    let mut size = || {
        let (mut size, mut shift) = (0_u64, 0_u32);
        loop {
            let byte = rest.next()?;
            size |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(u64::MAX);
            shift += 7;
            if byte & 0x80 == 0 {
                return Some(size);
            }
        }
    };
    size()?;
    size()
}

/// Stands before git while a push comes in, and lets nothing through behind what is too large.
pub(super) struct Gate {
    /// Away while it is at work on another thread; gone for good once the gate has closed.
    unpacked: Option<Unpacked>,
    /// Bytes to come before the pack.
    before: usize,
    closed: Arc<AtomicBool>,
}

impl Gate {
    /// `before` bytes come before the pack. What the second part says, once it does, is that the gate has closed.
    pub(super) fn new(unpacked: Unpacked, before: usize) -> (Self, Arc<AtomicBool>) {
        let closed = Arc::new(AtomicBool::new(false));
        (Self { unpacked: Some(unpacked), before, closed: Arc::clone(&closed) }, closed)
    }

    /// Whether these bytes, the next ones, go through.
    pub(super) async fn lets_through(&mut self, bytes: &Bytes) -> bool {
        let pack = bytes.slice(self.before.min(bytes.len())..);
        self.before -= bytes.len() - pack.len();
        let Some(mut unpacked) = self.unpacked.take() else { return false };
        // A few bytes may inflate to many: not here, where others wait for their turn.
        let looked = tokio::task::spawn_blocking(move || {
            let fits = unpacked.go_on(&pack);
            (unpacked, fits)
        });
        match looked.await {
            Ok((unpacked, Ok(()))) => self.unpacked = Some(unpacked),
            _ => self.closed.store(true, Ordering::SeqCst),
        }
        self.unpacked.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const BLOB: u8 = 3;
    const MB: usize = 1 << 20;

    fn deflate(bytes: &[u8]) -> Vec<u8> {
        let mut out = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(bytes).expect("deflated");
        out.finish().expect("deflated")
    }

    fn head(kind: u8, mut size: u64) -> Vec<u8> {
        let mut out = vec![(kind << 4) | (size & 15) as u8];
        size >>= 4;
        while size > 0 {
            *out.last_mut().expect("a byte") |= 0x80;
            out.push((size & 0x7f) as u8);
            size >>= 7;
        }
        out
    }

    fn pack(entries: &[Vec<u8>]) -> Vec<u8> {
        let count = u32::try_from(entries.len()).expect("few");
        [b"PACK\0\0\0\x02".to_vec(), count.to_be_bytes().to_vec(), entries.concat(), vec![7; 20]].concat()
    }

    fn blob(data: &[u8]) -> Vec<u8> {
        [head(BLOB, data.len() as u64), deflate(data)].concat()
    }

    /// How much of a pack, in steps, comes before it is refused, and where reading it has ended.
    fn read(pack: &[u8], step: usize, always: usize, in_all: Option<usize>) -> (Option<usize>, Unpacked) {
        let mut unpacked = Unpacked::new(always as u64, in_all.map(|size| size as u64));
        let steps = pack.chunks(step).position(|part| unpacked.go_on(part).is_err());
        (steps.map(|steps| steps * step), unpacked)
    }

    #[test]
    fn a_pack_is_read_to_its_end_however_it_comes() {
        let delta = [vec![17, 17], b"rest of a delta that is longer than its head".to_vec()].concat();
        let far = [head(OFS_DELTA, delta.len() as u64), vec![0x81, 0x02], deflate(&delta)].concat();
        let named = [head(REF_DELTA, delta.len() as u64), vec![0xab; 20], deflate(&delta)].concat();
        let pack = pack(&[blob(b""), blob(b"hello"), far, named, blob(&vec![b'x'; 100_000])]);
        for step in [1, 2, 7, 4096, pack.len()] {
            let (refused, unpacked) = read(&pack, step, MB, None);
            assert_eq!(refused, None);
            assert_eq!((unpacked.left, unpacked.whole, unpacked.all), (0, 100_005, 100_005 + 34), "steps of {step}");
        }
    }

    #[test]
    fn a_bomb_is_refused_before_it_is_inflated() {
        let bomb = pack(&[blob(b"x"), [head(BLOB, 1 << 30), deflate(&vec![0; 4 * MB])].concat()]);
        let (refused, unpacked) = read(&bomb, 16, 4 * MB, Some(bomb.len()));
        assert!(refused.is_some_and(|at| at < 64) && unpacked.whole < 2, "{refused:?}");
        // Where nobody has said how large the pack is, once too much has come out of it.
        let bombs = pack(&vec![blob(&vec![0; MB]); 20]);
        let (refused, unpacked) = read(&bombs, 64, 4 * MB, None);
        assert!(refused.is_some() && unpacked.whole < 10 * MB as u64, "{refused:?} {}", unpacked.whole);
        // A size that nobody can have.
        assert!(read(&pack(&[head(BLOB, u64::MAX), vec![0; 9]]), 4, MB, Some(50)).0.is_some());
    }

    #[test]
    fn deltas_count_with_what_they_make() {
        // 255 MB each, of a few bytes.
        let delta = [0x80, 0x80, 0x80, 0x08, 0xff, 0xff, 0xff, 0x7f, 0x90, 1];
        let entry = [head(OFS_DELTA, delta.len() as u64), vec![0x10], deflate(&delta)].concat();
        assert!(read(&pack(std::slice::from_ref(&entry)), 8, 64 * MB, None).0.is_none());
        assert!(read(&pack(&vec![entry; 20]), 8, 64 * MB, None).0.is_some());
    }

    #[test]
    fn what_a_pack_may_be_it_may_be() {
        // Ten times what source text comes to, and a file that is what it is.
        let mut noise = vec![0_u8; 8 * MB];
        let mut state = 1_u64;
        for byte in &mut noise {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = (state >> 33) as u8;
        }
        assert_eq!(read(&pack(&[blob(&noise)]), 4096, MB, None).0, None);
        // What makes no sense is looked at no further.
        for bad in
            [b"no pack at all, is it".to_vec(), pack(&[blob(b"x"), vec![0x00, 0x01]]), pack(&[vec![0x35, 1, 2, 3]])]
        {
            assert_eq!(read(&bad, 1, MB, None).0, None);
        }
    }
}
