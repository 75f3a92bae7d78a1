//! The Procfile: which process types an app has and how each starts.

use crate::ProcessType;

/// A parsed Procfile: process types with their commands, in the file's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Procfile(Vec<(ProcessType, String)>);

/// Why a Procfile cannot be used. Names the line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProcfileError {
    /// The file is larger than 64 KiB.
    #[error("Procfile is too large: at most 64 KiB are read")]
    TooLarge,
    /// The file has bytes that are no text.
    #[error("Procfile is not valid UTF-8 text")]
    NotText,
    /// A process type without a command.
    #[error("Procfile line {line}: no command for process type {process_type}")]
    NoCommand {
        /// Counted from 1.
        line: usize,
        /// Whose command is missing.
        process_type: ProcessType,
    },
    /// A process type with a name that is a name, but too long.
    #[error("Procfile line {line}: the process type {start}… is longer than {} characters", ProcessType::MAX_LENGTH)]
    TypeTooLong {
        /// Counted from 1.
        line: usize,
        /// How its name begins.
        start: String,
    },
    /// More process types than one app may have.
    #[error("Procfile has more than {0} process types")]
    TooManyTypes(usize),
}

impl Procfile {
    /// The most process types of one app. Our own choice: a formation has to stay readable.
    pub const MAX_TYPES: usize = 100;
    const MAX_BYTES: usize = 64 * 1024;

    /// Reads a Procfile as Heroku does: lines of `type: command`; other lines are passed over.
    ///
    /// A byte-order mark and `\r\n` line ends are accepted; of a type named twice the last line counts.
    ///
    /// # Errors
    /// When the file is too large or no text, or a type has no command.
    pub fn parse(bytes: &[u8]) -> Result<Self, ProcfileError> {
        if bytes.len() > Self::MAX_BYTES {
            return Err(ProcfileError::TooLarge);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| ProcfileError::NotText)?;
        if text.contains('\0') {
            return Err(ProcfileError::NotText);
        }
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut types: Vec<(ProcessType, String)> = Vec::new();
        for (index, line) in text.split(['\n', '\r']).enumerate() {
            let line = line.trim_end();
            if line.starts_with('#') {
                continue;
            }
            let Some((name, command)) = line.split_once(':') else { continue };
            let name = name.trim_end();
            let Ok(process_type) = name.parse::<ProcessType>() else {
                // Heroku takes it: passed over, a process would be missing without a word.
                if ProcessType::is_only_too_long(name) {
                    return Err(ProcfileError::TypeTooLong { line: index + 1, start: name[..20].to_owned() });
                }
                continue;
            };
            let command = command.trim();
            if command.is_empty() {
                return Err(ProcfileError::NoCommand { line: index + 1, process_type });
            }
            match types.iter_mut().find(|(known, _)| *known == process_type) {
                Some(line) => command.clone_into(&mut line.1),
                None => types.push((process_type, command.to_owned())),
            }
            if types.len() > Self::MAX_TYPES {
                return Err(ProcfileError::TooManyTypes(Self::MAX_TYPES));
            }
        }
        Ok(Self(types))
    }

    /// The process types with their commands, in the file's order.
    pub fn iter(&self) -> impl Iterator<Item = (&ProcessType, &str)> {
        self.0.iter().map(|(process_type, command)| (process_type, command.as_str()))
    }

    /// Whether no line named a process type.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(String, String)> {
        let file = Procfile::parse(text.as_bytes()).expect("parses");
        file.iter().map(|(t, c)| (t.to_string(), c.to_owned())).collect()
    }

    #[test]
    fn reads_types_and_commands() {
        let got = read(
            "\u{feff}web: gunicorn app:app --bind 0.0.0.0:$PORT\r\n# web: no\nworker:   python w.py  \nnonsense\n",
        );
        assert_eq!(got.len(), 2);
        assert_eq!(got[0], ("web".into(), "gunicorn app:app --bind 0.0.0.0:$PORT".into()));
        assert_eq!(got[1], ("worker".into(), "python w.py".into()));
    }

    #[test]
    fn last_line_of_a_type_counts() {
        assert_eq!(read("web: a\nweb: b\n"), [("web".to_owned(), "b".to_owned())]);
    }

    #[test]
    fn refuses_what_cannot_run() {
        assert!(matches!(Procfile::parse(b"web:\n"), Err(ProcfileError::NoCommand { line: 1, .. })));
        assert_eq!(Procfile::parse(b"web: a\0b"), Err(ProcfileError::NotText));
        let long = format!("web: a\n{}: b\n", "w".repeat(64));
        let seen = Procfile::parse(long.as_bytes()).expect_err("is too long").to_string();
        assert_eq!(seen, "Procfile line 2: the process type wwwwwwwwwwwwwwwwwwww… is longer than 63 characters");
        assert!(Procfile::parse(format!("{}: b\n", "w".repeat(63)).as_bytes()).is_ok());
        assert_eq!(Procfile::parse(&[0xff, 0xfe]), Err(ProcfileError::NotText));
        assert_eq!(Procfile::parse(&vec![b'a'; 70_000]), Err(ProcfileError::TooLarge));
    }
}
