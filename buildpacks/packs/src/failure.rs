//! Why a build cannot go on: what happened, and what the app's author can try.

use std::fmt;
use std::io;
use std::path::Path;

/// A build's end, in words for the person who pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// One line without a full stop: what could not be done.
    pub(crate) what: String,
    /// Why, and what to try; lines as they are printed.
    pub(crate) advice: String,
}

impl Failure {
    /// A failure with advice.
    pub(crate) fn new(what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { what: what.into(), advice: advice.into() }
    }

    /// A file or folder that could not be handled; `doing` as in "writing".
    pub(crate) fn io(doing: &str, path: &Path, error: &io::Error) -> Self {
        Self::new(format!("{doing} {}: {error}", path.display()), "This is not the app's fault: push again.")
    }
}

impl fmt::Display for Failure {
    /// Heroku's form: every line after ` !     `.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, " !     Error: {}.", self.what)?;
        writeln!(f, " !")?;
        for line in self.advice.trim().lines() {
            writeln!(f, "{}", format!(" !     {line}").trim_end())?;
        }
        Ok(())
    }
}

impl From<Failure> for libcnb::Error<Failure> {
    fn from(failure: Failure) -> Self {
        Self::BuildpackError(failure)
    }
}

/// Prints why a build ended; what every buildpack does on an error.
pub(crate) fn print(error: libcnb::Error<Failure>) {
    match error {
        libcnb::Error::BuildpackError(failure) => print!("\n{failure}\n"),
        other => print!("\n{}\n", Failure::new(other.to_string(), "This is not the app's fault: push again.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_as_herokus_errors_do() {
        let failure = Failure::new("Unable to do it", "It was too much.\n\nTry less.\n");
        assert_eq!(
            failure.to_string(),
            " !     Error: Unable to do it.\n !\n !     It was too much.\n !\n !     Try less.\n"
        );
    }
}
