//! `~/.netrc`: where keys are kept between logins, as Heroku's CLI, git and curl read them.
//!
//! Only our own machines' entries are changed; every other byte of the file stays. The file is written whole beside
//! the old one with mode 0600 and renamed over it. Messages never contain what the file holds.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::error::Failure;
use crate::ui;

/// More than any netrc that people write.
const MAX_BYTES: u64 = 1024 * 1024;

/// What is kept for one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) login: String,
    pub(crate) password: String,
}

/// The file's text.
#[derive(Debug, Default)]
pub(crate) struct Netrc {
    text: String,
}

/// `$HOME/.netrc`; `None` without a home.
pub(crate) fn path() -> Option<PathBuf> {
    std::env::var_os("HOME").filter(|home| !home.is_empty()).map(|home| Path::new(&home).join(".netrc"))
}

struct Token<'a> {
    word: &'a str,
    start: usize,
    end: usize,
}

impl Netrc {
    /// Reads the file; an absent one is empty. Warns when others can read it.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let trouble = |e: &dyn std::fmt::Display| Failure::new(format!("Couldn't read {}: {e}", path.display()));
        let file = match std::fs::File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(e) => return Err(trouble(&e)),
        };
        let about = file.metadata().map_err(|e| trouble(&e))?;
        if !about.is_file() || about.len() > MAX_BYTES {
            return Err(trouble(&"it is not a file of at most 1 MiB"));
        }
        if about.permissions().mode() & 0o077 != 0 {
            ui::warn(&format!("{} can be read by others; run: chmod 600 {0}", path.display()));
        }
        let mut text = String::new();
        file.take(MAX_BYTES).read_to_string(&mut text).map_err(|_| trouble(&"it is not UTF-8 text"))?;
        Ok(Self { text })
    }

    /// Writes the file with mode 0600, whole or not at all. Follows a symbolic link to where the file really is.
    pub(crate) fn write(&self, path: &Path) -> Result<(), Failure> {
        let trouble = |e: std::io::Error| Failure::new(format!("Couldn't write {}: {e}", path.display()));
        let path = match std::fs::canonicalize(path) {
            Ok(real) => real,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => path.to_owned(),
            Err(e) => return Err(trouble(e)),
        };
        let folder = path.parent().unwrap_or(Path::new("/"));
        // tempfile makes it with mode 0600.
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(trouble)?;
        file.write_all(self.text.as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(trouble)?;
        file.persist(&path).map_err(|e| trouble(e.error))?;
        Ok(())
    }

    /// What is kept for this machine.
    pub(crate) fn find(&self, machine: &str) -> Option<Entry> {
        let tokens = self.tokens();
        let (from, to) = entries(&tokens).find(|&(from, _)| tokens[from + 1].word == machine)?;
        let value = |name: &str| {
            tokens[from + 2..to]
                .chunks(2)
                .find(|pair| pair[0].word == name)
                .and_then(|pair| pair.get(1))
                .map(|t| t.word)
        };
        Some(Entry { login: value("login").unwrap_or_default().to_owned(), password: value("password")?.to_owned() })
    }

    /// Keeps `entry` for this machine, in place of what was kept before. Fails when the rest is so damaged that no
    /// reader would find it.
    pub(crate) fn set(&mut self, machine: &str, entry: &Entry) -> Result<(), Failure> {
        let block = format!("machine {machine}\n  login {}\n  password {}\n", entry.login, entry.password);
        match self.span(machine) {
            Some((start, end)) => self.text.replace_range(start..end, &block),
            None => {
                // `default` matches every machine, so nothing behind it would be found.
                let at = self.tokens().iter().find(|t| t.word == "default").map_or(self.text.len(), |t| t.start);
                let gap = if at > 0 && !self.text[..at].ends_with('\n') { "\n" } else { "" };
                self.text.insert_str(at, &format!("{gap}{block}"));
            }
        }
        if self.find(machine).as_ref() == Some(entry) {
            Ok(())
        } else {
            Err(Failure::new("Couldn't keep the key: your netrc file ends in the middle of an entry"))
        }
    }

    /// Forgets this machine. Says whether there was anything to forget.
    pub(crate) fn remove(&mut self, machine: &str) -> bool {
        let found = self.span(machine);
        if let Some((start, end)) = found {
            self.text.replace_range(start..end, "");
        }
        found.is_some()
    }

    /// Where the machine's entry is: from its first word to the end of its last line.
    fn span(&self, machine: &str) -> Option<(usize, usize)> {
        let tokens = self.tokens();
        let (from, to) = entries(&tokens).find(|&(from, _)| tokens[from + 1].word == machine)?;
        let end = tokens[to - 1].end;
        let rest = &self.text[end..];
        let blank = rest.len() - rest.trim_start_matches([' ', '\t', '\r']).len();
        let end = if rest[blank..].starts_with('\n') { end + blank + 1 } else { end };
        Some((tokens[from].start, end))
    }

    /// The words outside comments and macros.
    fn tokens(&self) -> Vec<Token<'_>> {
        let mut tokens: Vec<Token<'_>> = Vec::new();
        let mut in_macro = false;
        let mut at = 0;
        for line in self.text.split_inclusive('\n') {
            if in_macro {
                in_macro = !line.trim().is_empty(); // a macro ends at an empty line
            } else {
                let mut offset = 0;
                for word in line.split_ascii_whitespace() {
                    let start = offset + line[offset..].find(word).unwrap_or(0);
                    offset = start + word.len();
                    // A `#` begins a comment, but not in the place of a value: passwords may begin with one.
                    let value = tokens.last().is_some_and(|t| matches!(t.word, "password" | "login" | "account"));
                    if word.starts_with('#') && !value {
                        break;
                    }
                    in_macro |= word == "macdef" && !value;
                    tokens.push(Token { word, start: at + start, end: at + offset });
                }
            }
            at += line.len();
        }
        tokens
    }
}

/// The entries as ranges of tokens: from `machine` to before what begins the next.
fn entries<'a>(tokens: &'a [Token<'_>]) -> impl Iterator<Item = (usize, usize)> + 'a {
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < tokens.len() && !(tokens[at].word == "machine" && at + 1 < tokens.len()) {
            at += 1;
        }
        if at >= tokens.len() {
            return None;
        }
        let from = at;
        at += 2;
        while at + 1 < tokens.len() && matches!(tokens[at].word, "login" | "password" | "account") {
            at += 2;
        }
        Some((from, at.min(tokens.len())))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTHERS: &str = "# mine\nmachine api.heroku.com\n  login me@x.co\n  password h#1\n\nmachine one login a password b\n\
                          macdef init\ncd /x\nmachine fake\n\nmachine last login \"l\" account z password machine\n";

    fn entry(password: &str) -> Entry {
        Entry { login: "ada@example.com".into(), password: password.into() }
    }

    #[test]
    fn finds_by_machine() {
        let netrc = Netrc { text: OTHERS.into() };
        assert_eq!(netrc.find("api.heroku.com").map(|e| e.password).as_deref(), Some("h#1"));
        assert_eq!(netrc.find("one"), Some(Entry { login: "a".into(), password: "b".into() }));
        assert_eq!(netrc.find("last").map(|e| e.password).as_deref(), Some("machine"));
        assert_eq!(netrc.find("fake"), None);
        assert_eq!(netrc.find("localhost:5000"), None);
    }

    #[test]
    fn other_entries_stay_as_they_are() {
        let mut netrc = Netrc { text: OTHERS.into() };
        netrc.set("localhost:5000", &entry("first")).expect("set");
        assert!(netrc.text.starts_with(OTHERS));
        netrc.set("localhost:5000", &entry("second")).expect("set");
        assert_eq!(netrc.find("localhost:5000"), Some(entry("second")));
        assert_eq!(netrc.text.matches("localhost:5000").count(), 1);
        assert!(netrc.remove("localhost:5000") && !netrc.remove("localhost:5000"));
        assert_eq!(netrc.text, OTHERS);

        netrc.set("one", &entry("third")).expect("set");
        assert_eq!(
            netrc.text,
            OTHERS.replace(
                "machine one login a password b\n",
                "machine one\n  login ada@example.com\n  password third\n"
            )
        );
    }

    #[test]
    fn goes_before_default_and_after_an_unfinished_line() {
        let mut netrc = Netrc { text: "machine a login b password c\ndefault login x password y\n".into() };
        netrc.set("m", &entry("k")).expect("set");
        assert!(netrc.text.ends_with("password k\ndefault login x password y\n"), "{}", netrc.text);
        let mut netrc = Netrc { text: "machine a login b password c".into() };
        netrc.set("m", &entry("k")).expect("set");
        assert_eq!(netrc.text, "machine a login b password c\nmachine m\n  login ada@example.com\n  password k\n");
    }

    #[test]
    fn garbage_is_no_entry() {
        for text in ["password x", "machine a", "#machine a password b", "\u{1F980}\0\x01", ""] {
            let mut netrc = Netrc { text: text.into() };
            assert_eq!(netrc.find("a"), None, "{text}");
            assert!(netrc.set("b", &entry("k")).is_ok(), "{text}");
        }
        for text in ["machine", "machine\n", "machine a login"] {
            assert!(Netrc { text: text.into() }.set("b", &entry("k")).is_err(), "{text}");
        }
    }

    #[test]
    fn is_written_for_the_owner_alone() {
        let home = tempfile::tempdir().expect("a folder");
        let (file, link) = (home.path().join("real"), home.path().join(".netrc"));
        std::fs::write(&file, OTHERS).expect("written");
        std::os::unix::fs::symlink(&file, &link).expect("linked");
        let mut netrc = Netrc::read(&link).expect("read");
        netrc.set("m", &entry("k")).expect("set");
        netrc.write(&link).expect("written");
        assert!(link.is_symlink());
        assert_eq!(std::fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);

        let ring = home.path().join("ring");
        std::os::unix::fs::symlink(&ring, &ring).expect("linked");
        assert!(Netrc::read(&ring).is_err() && Netrc::default().write(&ring).is_err());
        std::fs::File::create(home.path().join("big")).and_then(|f| f.set_len(MAX_BYTES + 1)).expect("made");
        assert!(Netrc::read(&home.path().join("big")).is_err());
    }
}
