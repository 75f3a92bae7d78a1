//! The exit status in the stream: how a command is made to print it, and how it is taken out again.

/// What stands before the status, as Heroku's CLI has it. U+FFFF never occurs in text.
const STATUS_MARK: &str = "\u{FFFF} heroku-command-exit-status: ";

/// `command`, made to print its status last.
///
/// The first word stays bare, so that the server can resolve a process type; but a command that leaves the shell by
/// itself (`exit`, `exec`) would leave without a word, and runs in a shell of its own.
pub(crate) fn with_status(command: &str) -> String {
    let leaves = |word: &str| matches!(word, "exit" | "exec");
    if command.split(|c: char| !c.is_ascii_alphanumeric() && !"_-./".contains(c)).any(leaves) {
        format!("( {command}\n) ; echo \"{STATUS_MARK}$?\"")
    } else {
        format!("{command} ; echo \"{STATUS_MARK}$?\"")
    }
}

/// Takes the status line out of what a dyno prints, however it is cut into pieces.
#[derive(Default)]
pub(crate) struct StatusScanner {
    held: Vec<u8>,
    status: Option<i32>,
}

impl StatusScanner {
    /// What of `data` (and of what was held back) can be shown.
    pub(crate) fn pass(&mut self, data: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(data);
        let mark = STATUS_MARK.as_bytes();
        let mut shown = Vec::with_capacity(self.held.len());
        let mut at = 0;
        while at < self.held.len() {
            let rest = &self.held[at..];
            let next = rest.iter().position(|b| *b == mark[0]).unwrap_or(rest.len());
            shown.extend_from_slice(&rest[..next]);
            at += next;
            let rest = &self.held[at..];
            if rest.len() < mark.len() && mark.starts_with(rest) {
                break; // perhaps the beginning of a mark
            }
            if !rest.starts_with(mark) {
                if let Some(byte) = rest.first() {
                    shown.push(*byte);
                    at += 1;
                }
                continue;
            }
            let digits = rest[mark.len()..].iter().take_while(|b| b.is_ascii_digit()).count();
            let end = mark.len() + digits;
            let Some(newline) = rest[end..].iter().position(|b| *b == b'\n') else {
                if rest.len() - end > 2 {
                    // No status line: something else follows the digits.
                    shown.extend_from_slice(&rest[..end]);
                    at += end;
                    continue;
                }
                break;
            };
            self.status = std::str::from_utf8(&rest[mark.len()..end]).ok().and_then(|d| d.parse().ok()).or(self.status);
            at += end + newline + 1;
        }
        self.held.drain(..at);
        shown
    }

    /// What was held back and turned out to be no status line. Call at the end of the stream.
    pub(crate) fn finish(&mut self) -> Vec<u8> {
        let held = std::mem::take(&mut self.held);
        match held.strip_prefix(STATUS_MARK.as_bytes()).and_then(|d| std::str::from_utf8(d).ok()?.trim().parse().ok()) {
            Some(status) => {
                self.status = Some(status);
                Vec::new()
            }
            None => held,
        }
    }

    /// The status, once seen.
    pub(crate) fn status(&self) -> Option<i32> {
        self.status
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(pieces: &[&[u8]]) -> (Vec<u8>, Option<i32>) {
        let mut scanner = StatusScanner::default();
        let mut shown: Vec<u8> = pieces.iter().flat_map(|piece| scanner.pass(piece)).collect();
        shown.extend(scanner.finish());
        (shown, scanner.status())
    }

    #[test]
    fn finds_the_status_wherever_it_is_cut() {
        let stream = format!("42\n\u{fffe}é{STATUS_MARK}7\r\n");
        for cut in 0..=stream.len() {
            let (a, b) = stream.as_bytes().split_at(cut);
            assert_eq!(scan(&[a, b]), ("42\n\u{fffe}é".as_bytes().to_vec(), Some(7)), "{cut}");
        }
        let single: Vec<&[u8]> = stream.as_bytes().chunks(1).collect();
        assert_eq!(scan(&single).1, Some(7));
        assert_eq!(scan(&[format!("x{STATUS_MARK}0").as_bytes()]), (b"x".to_vec(), Some(0)));
    }

    #[test]
    fn other_bytes_pass_as_they_are() {
        let all: Vec<u8> = (0..=255).cycle().take(2000).collect();
        assert_eq!(scan(&[&all]), (all.clone(), None));
        let half = &STATUS_MARK.as_bytes()[..10];
        assert_eq!(scan(&[half]), (half.to_vec(), None));
        let fake = format!("{STATUS_MARK}12abcdef");
        assert_eq!(scan(&[fake.as_bytes()]), (fake.clone().into_bytes(), None));
    }

    #[test]
    fn commands_print_their_status() {
        assert_eq!(
            with_status("rake db:migrate"),
            "rake db:migrate ; echo \"\u{FFFF} heroku-command-exit-status: $?\""
        );
        assert!(with_status("exit 7").starts_with("( exit 7\n) ; echo"));
        assert!(with_status("test -f x||exit 3").starts_with("( test"));
        assert!(with_status("./exit-tool --exec").starts_with("./exit-tool"));
    }
}
