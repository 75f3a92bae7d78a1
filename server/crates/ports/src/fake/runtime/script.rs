//! What a scripted dyno does: a few words, the same for the fake and for the test image of real drivers.
//!
//! ```text
//! serve            binds $PORT and serves until SIGTERM (143)
//! worker           runs until SIGTERM; never binds
//! never-bind       the same, for a web dyno that should have
//! exit N           ends with status N
//! say TEXT         writes a line
//! print NAME       writes a variable's value, byte for byte, without a line end
//! cat              copies stdin to stdout until stdin ends
//! sleep MS         does nothing for so long
//! ignore-term      ignores SIGTERM from here on
//! ```
//! Words are joined by `;`. A script that runs out ends with status 0.

/// One word of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// Binds `$PORT` and serves.
    Serve,
    /// Runs and never binds.
    Worker,
    /// Ends.
    Exit(i32),
    /// Writes a line.
    Say(String),
    /// Writes a variable's value.
    Print(String),
    /// Copies stdin to stdout.
    Cat,
    /// Waits some milliseconds.
    Sleep(u64),
    /// Ignores SIGTERM from here on.
    IgnoreTerm,
}

/// Reads a command line; `None` when a part of it is none of the words.
#[must_use]
pub fn parse(command: &str) -> Option<Vec<Word>> {
    command.split(';').map(|part| word(part.trim())).collect()
}

fn word(part: &str) -> Option<Word> {
    let (first, rest) = part.split_once(' ').unwrap_or((part, ""));
    match (first, rest) {
        ("serve", "") => Some(Word::Serve),
        ("worker" | "never-bind", "") => Some(Word::Worker),
        ("exit", n) => n.parse().ok().map(Word::Exit),
        ("say", text) => Some(Word::Say(text.to_owned())),
        ("print", name) if !name.is_empty() => Some(Word::Print(name.to_owned())),
        ("cat", "") => Some(Word::Cat),
        ("sleep", ms) => ms.parse().ok().map(Word::Sleep),
        ("ignore-term", "") => Some(Word::IgnoreTerm),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read() {
        let script = parse("say hello there; sleep 5;cat; exit 7").expect("known words");
        assert_eq!(script, [Word::Say("hello there".to_owned()), Word::Sleep(5), Word::Cat, Word::Exit(7)]);
        assert_eq!(parse("gunicorn app:app"), None);
    }
}
