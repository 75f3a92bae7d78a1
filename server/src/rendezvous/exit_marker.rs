//! The line that tells `heroku run --exit-code` how a command ended, kept in one piece. Pure.
//!
//! The client looks for the line in each chunk it receives and never across two of them, so the line goes
//! out as a chunk of its own, however the dyno's bytes came in.

/// U+FFFF and the words behind it; then comes a number, with a colon before it in newer clients.
const MARKER: &[u8] = b"\xef\xbf\xbf heroku-command-exit-status";
/// How long the line can be.
const MAX_LINE: usize = MARKER.len() + 24;

/// The line for a dyno that could not say it itself.
pub(super) fn line(status: u8) -> Vec<u8> {
    [MARKER, format!(": {status}\n").as_bytes()].concat()
}

/// Takes a dyno's output apart into chunks.
#[derive(Debug, Default)]
pub(super) struct ExitMarker {
    /// The beginning of what may become the line.
    held: Vec<u8>,
    seen: bool,
}

impl ExitMarker {
    /// The chunks that these bytes complete. All bytes come out again, in order, once.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut all = std::mem::take(&mut self.held);
        all.extend_from_slice(bytes);
        let mut chunks = Vec::new();
        let (mut out, mut from) = (0, 0);
        while let Some(at) = all[from..].iter().position(|byte| *byte == MARKER[0]).map(|at| from + at) {
            let here = &all[at..];
            let same = here.len().min(MARKER.len());
            if here[..same] != MARKER[..same] {
                from = at + 1;
                continue;
            }
            let line = here.iter().take(MAX_LINE).position(|byte| *byte == b'\n').map(|end| at + end + 1);
            match line {
                Some(end) => {
                    chunks.push(all[out..at].to_vec());
                    chunks.push(all[at..end].to_vec());
                    (out, from, self.seen) = (end, end, true);
                }
                None if here.len() >= MAX_LINE => from = at + 1,
                None => {
                    self.held = here.to_vec();
                    all.truncate(at);
                    break;
                }
            }
        }
        chunks.push(all[out..].to_vec());
        chunks.retain(|chunk| !chunk.is_empty());
        chunks
    }

    /// Whether something is held back.
    pub(super) fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// What is held back, because nothing more comes.
    pub(super) fn release(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }

    /// Whether the line went by: the client needs nothing more.
    pub(super) fn seen(&self) -> bool {
        self.seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "\u{FFFF} heroku-command-exit-status: 7\n";

    /// All chunks that come out when `text` comes in `size` bytes at a time.
    fn chunks(text: &str, size: usize) -> Vec<String> {
        let mut marker = ExitMarker::default();
        let mut out: Vec<_> = text.as_bytes().chunks(size).flat_map(|bytes| marker.push(bytes)).collect();
        out.push(marker.release());
        assert_eq!(out.concat(), text.as_bytes(), "no byte is lost or moved");
        out.into_iter().map(|chunk| String::from_utf8_lossy(&chunk).into_owned()).collect()
    }

    #[test]
    fn the_line_is_one_chunk_however_it_comes() {
        let crlf = LINE.replace('\n', "\r\n");
        for text in [format!("a\nb{LINE}"), format!("é\u{FF01}\u{FFFE}{LINE}tail"), format!("x{crlf}")] {
            let line = if text.contains('\r') { &crlf } else { LINE };
            for size in 1..=text.len() {
                assert!(chunks(&text, size).iter().any(|chunk| chunk == line), "{text:?} by {size}");
            }
        }
        assert!(
            chunks("\u{FFFF} heroku-command-exit-status 0\n", 3)
                .contains(&"\u{FFFF} heroku-command-exit-status 0\n".into())
        );
    }

    #[test]
    fn other_output_is_not_held_back() {
        let mut marker = ExitMarker::default();
        for text in ["hello", "$ ", "ｆｕｌｌｗｉｄｔｈ", "\u{FFFF} heroku-what"] {
            assert_eq!(marker.push(text.as_bytes()).concat(), text.as_bytes());
            assert!(!marker.holds() && !marker.seen());
        }
        let endless = format!("\u{FFFF} heroku-command-exit-status{}", " ".repeat(99));
        assert_eq!(marker.push(endless.as_bytes()).concat(), endless.as_bytes());
        assert_eq!(marker.push(b"\xef"), Vec::<Vec<u8>>::new());
        assert!(marker.holds());
        assert_eq!(marker.release(), b"\xef");
    }
}
