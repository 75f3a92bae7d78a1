//! The canary, and looking for it in whatever a program writes.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::process::{Command, Stdio};
use std::sync::Mutex;

/// The values, and in what form else they may not appear.
pub(crate) struct Canary {
    pub(crate) value: String,
    pub(crate) unset: String,
    /// `PAAS_CONFIG_n` of every dyno: config vars in the form in which they come to it. Only the engine has them, on
    /// AWS only Secrets Manager.
    encoded: Mutex<BTreeSet<String>>,
}

impl Canary {
    pub(crate) fn new() -> Self {
        let value = "c4n4ry-3f9d1b7a5e-do-not-tell".to_owned();
        Self { unset: value.replace("c4n4ry", "unset"), value, encoded: Mutex::default() }
    }

    /// Whether a text has it as it is.
    pub(crate) fn is_plain_in(&self, text: &str) -> bool {
        text.contains(&self.value) || text.contains(&self.unset)
    }

    /// Whether a text has it in any form.
    pub(crate) fn is_in(&self, text: &str) -> bool {
        self.forms().iter().any(|form| text.contains(form))
    }

    /// Remembers the form in which a dyno got its config vars.
    pub(crate) fn came_as(&self, encoded: impl IntoIterator<Item = String>) {
        self.encoded.lock().expect("nobody panicked").extend(encoded);
    }

    /// Whether any dyno was seen to get config vars.
    pub(crate) fn came_to_dynos(&self) -> bool {
        self.forms().len() > 2
    }

    /// Everything that is looked for; the beginning of what is long.
    pub(crate) fn forms(&self) -> Vec<String> {
        let encoded = self.encoded.lock().expect("nobody panicked");
        let long = encoded.iter().filter(|text| text.len() > 40);
        let beginnings = long.map(|text| text.chars().take(120).collect());
        [self.value.clone(), self.unset.clone()].into_iter().chain(beginnings).collect()
    }

    /// Reads all that a program writes, and says what of the canary and of `marks` is in it. grep is what reads so
    /// much in no time.
    pub(crate) fn found(&self, mut program: Command, marks: &[&str]) -> BTreeSet<String> {
        let line = format!("{program:?}");
        let (from, to) = std::io::pipe().expect("a pipe");
        program.stdin(Stdio::null()).stdout(to.try_clone().expect("a second handle")).stderr(to);
        let mut source = program.spawn().unwrap_or_else(|e| panic!("not run: {line}: {e}"));
        // It holds the pipe's other end, too.
        drop(program);
        let mut grep = Command::new("grep");
        grep.env("LC_ALL", "C").args(["--text", "--only-matching", "--fixed-strings"]);
        for form in self.forms().iter().map(String::as_str).chain(marks.iter().copied()) {
            grep.arg("-e").arg(form);
        }
        grep.stdin(from).stdout(Stdio::piped());
        let mut running = grep.spawn().unwrap_or_else(|e| panic!("not run: grep: {e}"));
        drop(grep);
        let mut text = String::new();
        running.stdout.take().expect("piped").read_to_string(&mut text).expect("text");
        assert!(running.wait().expect("grep ends").code().is_some_and(|code| code < 2), "grep fails");
        assert!(source.wait().expect("it ends").success(), "{line} fails");
        text.lines().map(str::to_owned).collect()
    }

    /// The canary is not in what a program writes, and every mark is.
    pub(crate) fn is_not_in(&self, what: &str, program: Command, marks: &[&str]) {
        let found = self.found(program, marks);
        let marks: BTreeSet<String> = marks.iter().map(|mark| (*mark).to_owned()).collect();
        assert_eq!(found, marks, "{what}: the canary, or nothing of what should be there");
    }
}
