//! This program as git starts it inside a push: `pre-receive` and `proc-receive`.
//!
//! `pre-receive` looks at the new objects while they are still in quarantine, so that what it refuses leaves
//! nothing behind. `proc-receive` hands the push to the server, writes what the server says to the side band, and
//! gives git the outcome. Both are plain programs: no runtime, no threads, gone when their push is gone.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{self, BufRead as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;

use git2::{ObjectType, Odb, Oid, Repository};
use paas_domain::RefName;

use super::pkt_line;
use super::request::{DECLINED, parse_ref, shown};
use super::wire::{self, Answer, Frame, NO_OBJECT, PushMessage, RefUpdate, ServerMessage};

/// The names under which git starts us.
pub(super) const NAMES: [&str; 2] = ["pre-receive", "proc-receive"];
const MAX_DEPTH: usize = 200;

/// Whether this process was started by git as one of our hooks. To be asked before anything else.
#[must_use]
pub fn is_hook(argv0: &OsStr) -> bool {
    name(argv0).is_some()
}

fn name(argv0: &OsStr) -> Option<&'static str> {
    let file = Path::new(argv0).file_name()?;
    NAMES.into_iter().find(|name| file == *name)
}

/// Is the hook that this process was started as.
#[must_use]
pub fn main() -> ExitCode {
    let done = match std::env::args_os().next().as_deref().and_then(name) {
        Some("pre-receive") => pre_receive(),
        Some(_) => proc_receive().map(|()| true),
        None => Ok(false),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&[&format!("The push could not be handled: {error}.")]);
            ExitCode::FAILURE
        }
    }
}

/// Heroku's form of bad news.
fn say(lines: &[&str]) {
    let text: String = lines.iter().map(|line| format!(" !     {line}\n")).collect();
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Whether the push may go on.
fn pre_receive() -> io::Result<bool> {
    let repository = open()?;
    for line in io::stdin().lock().split(b'\n') {
        let line = line?;
        let mut parts = line.splitn(3, |b| *b == b' ');
        let (Some(old), Some(new), Some(name)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let Some(name) = parse_ref(name) else {
            say(&[&format!("Push rejected: {} is not a branch or tag that can be kept here.", shown(name))]);
            return Ok(false);
        };
        let (old, new) = (String::from_utf8_lossy(old), String::from_utf8_lossy(new));
        if new == NO_OBJECT {
            continue;
        }
        if let Err(refusal) = check(&repository, &old, &new, &name) {
            say(&refusal.iter().map(String::as_str).collect::<Vec<_>>());
            return Ok(false);
        }
    }
    Ok(true)
}

/// The objects that were just received and those that were there. No configuration is read for this.
fn open() -> io::Result<Repository> {
    let quarantine = std::env::var("GIT_QUARANTINE_PATH").ok();
    let opened = Odb::new().and_then(|odb| {
        // git starts hooks inside the repository.
        for objects in quarantine.as_deref().into_iter().chain(["objects"]) {
            odb.add_disk_alternate(objects)?;
        }
        Repository::from_odb(odb)
    });
    opened.map_err(|e| io::Error::other(e.message().to_owned()))
}

fn check(repository: &Repository, old: &str, new: &str, name: &RefName) -> Result<(), Vec<String>> {
    let not_a_commit = || vec![format!("Push rejected: {} does not name a commit.", shown(name.as_str().as_bytes()))];
    let object = Oid::from_str(new).and_then(|id| repository.find_object(id, None)).map_err(|_| not_a_commit())?;
    if name.branch().is_some() && object.kind() != Some(ObjectType::Commit) {
        return Err(not_a_commit());
    }
    let commit = object.peel_to_commit().map_err(|_| not_a_commit())?;
    if !name.deploys() {
        return Ok(());
    }
    let unreadable = |_| vec!["Push rejected: the commit's files cannot be read.".to_owned()];
    let tree = commit.tree().map_err(unreadable)?;
    if tree.is_empty() {
        return Err(vec!["Push rejected: the commit has no files.".to_owned()]);
    }
    let before = Oid::from_str(old).and_then(|id| repository.find_commit(id)).and_then(|commit| commit.tree()).ok();
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let mut walk = Walk {
        repository,
        odb: repository.odb().map_err(unreadable)?,
        max_file: number(wire::MAX_FILE_VARIABLE),
        max_entries: number(wire::MAX_ENTRIES_VARIABLE),
        walked: HashMap::new(),
        at: Vec::new(),
    };
    match walk.tree(&tree, before.as_ref()).map_err(unreadable)? {
        Walked::Entries(_) => Ok(()),
        Walked::Blocked(Obstacle::TooMany(most)) => {
            Err(vec![format!("Push rejected: the commit has more than {most} files and folders.")])
        }
        Walked::Blocked(Obstacle::Submodule) => Err(vec![
            "Push rejected: the commit has a git submodule, and submodules are not supported here.".to_owned(),
            format!("Put the files of {} into the repository itself, or install them", shown(&walk.at)),
            "as a dependency with your language's package manager.".to_owned(),
        ]),
        Walked::Blocked(Obstacle::LargeFile(most)) => {
            Err(vec![format!("Push rejected: {} is larger than {} MB.", shown(&walk.at), most >> 20)])
        }
    }
}

/// What cannot be built.
enum Obstacle {
    Submodule,
    LargeFile(u64),
    TooMany(u64),
}

/// What a tree came to.
enum Walked {
    /// Nothing is in the way, and so many files and folders would be written for it.
    Entries(u64),
    Blocked(Obstacle),
}

/// A walk through a tree, into those folders only that are not as they were, and into each of them once: ten folders
/// that each name the next one ten times stand for 10^10 files.
struct Walk<'a> {
    repository: &'a Repository,
    odb: Odb<'a>,
    max_file: Option<u64>,
    max_entries: Option<u64>,
    /// The folders that nothing is in the way of, with how much was new in them.
    walked: HashMap<Oid, u64>,
    /// Where the walk is, or stopped.
    at: Vec<u8>,
}

impl Walk<'_> {
    fn tree(&mut self, tree: &git2::Tree<'_>, before: Option<&git2::Tree<'_>>) -> Result<Walked, git2::Error> {
        if self.at.iter().filter(|b| **b == b'/').count() > MAX_DEPTH {
            return Err(git2::Error::from_str("folders are nested too deep"));
        }
        let mut entries = 0_u64;
        for entry in tree {
            let was = before.and_then(|before| before.get_name_bytes(entry.name_bytes()));
            if was.as_ref().is_some_and(|was| was.id() == entry.id() && was.filemode() == entry.filemode()) {
                continue;
            }
            let length = self.at.len();
            self.at.extend_from_slice(entry.name_bytes());
            entries = entries.saturating_add(1);
            match (entry.filemode(), self.max_file) {
                (0o160_000, _) => return Ok(Walked::Blocked(Obstacle::Submodule)),
                (0o040_000, _) => match self.folder(entry.id(), was.map(|was| was.id()))? {
                    Walked::Entries(below) => entries = entries.saturating_add(below),
                    blocked @ Walked::Blocked(_) => return Ok(blocked),
                },
                (_, Some(most)) if self.odb.read_header(entry.id())?.0 as u64 > most => {
                    return Ok(Walked::Blocked(Obstacle::LargeFile(most)));
                }
                _ => {}
            }
            if let Some(most) = self.max_entries.filter(|most| entries > *most) {
                return Ok(Walked::Blocked(Obstacle::TooMany(most)));
            }
            self.at.truncate(length);
        }
        Ok(Walked::Entries(entries))
    }

    fn folder(&mut self, id: Oid, before: Option<Oid>) -> Result<Walked, git2::Error> {
        if let Some(entries) = self.walked.get(&id) {
            return Ok(Walked::Entries(*entries));
        }
        let inner = self.repository.find_tree(id)?;
        let was = before.and_then(|was| self.repository.find_tree(was).ok());
        self.at.push(b'/');
        let walked = self.tree(&inner, was.as_ref())?;
        if let Walked::Entries(entries) = walked {
            self.walked.insert(id, entries);
        }
        Ok(walked)
    }
}

fn proc_receive() -> io::Result<()> {
    let mut input = io::stdin().lock();
    let mut atomic = false;
    while let Some(line) = pkt_line::read(&mut input)? {
        let line = line.strip_suffix(b"\n").unwrap_or(&line);
        let mut parts = line.splitn(2, |b| *b == 0);
        if parts.next() != Some(b"version=1") {
            return Err(io::Error::other("git speaks another version of the protocol of hooks"));
        }
        atomic = parts.next().is_some_and(|c| c.split(|b| *b == b' ').any(|c| c == b"atomic"));
    }
    let mut greeting = Vec::new();
    pkt_line::write(&mut greeting, b"version=1\n");
    pkt_line::flush(&mut greeting);
    let mut output = io::stdout().lock();
    output.write_all(&greeting)?;
    output.flush()?;

    let mut updates = Vec::new();
    while let Some(line) = pkt_line::read(&mut input)? {
        updates.push(update(&line)?);
    }
    let answers = ask(atomic, &updates)?;
    let mut report = Vec::new();
    for update in &updates {
        let answer = answers.iter().find(|answer| answer.name == update.name);
        let line = match answer.map(|answer| answer.refused.as_deref()) {
            Some(None) => format!("ok {}", update.name),
            Some(Some(reason)) => format!("ng {} {reason}", update.name),
            None => format!("ng {} {DECLINED}", update.name),
        };
        pkt_line::write(&mut report, line.as_bytes());
    }
    pkt_line::flush(&mut report);
    output.write_all(&report)?;
    output.flush()
}

fn update(line: &[u8]) -> io::Result<RefUpdate> {
    let bad = || io::Error::other("git sent a command that makes no sense");
    let line = std::str::from_utf8(line.strip_suffix(b"\n").unwrap_or(line)).map_err(|_| bad())?;
    let mut parts = line.splitn(3, ' ');
    let (Some(old), Some(new), Some(name)) = (parts.next(), parts.next(), parts.next()) else { return Err(bad()) };
    Ok(RefUpdate { old: old.to_owned(), new: new.to_owned(), name: parse_ref(name.as_bytes()).ok_or_else(bad)? })
}

/// Has the server handle the push, and shows what it says meanwhile. A server that goes away is an answer too.
fn ask(atomic: bool, updates: &[RefUpdate]) -> io::Result<Vec<Answer>> {
    let variable = |name| std::env::var(name).map_err(|_| io::Error::other("it did not come through the server"));
    let token = variable(wire::TOKEN_VARIABLE)?;
    let mut accepted = false;
    let mut talk = || -> io::Result<Vec<Answer>> {
        let mut server = UnixStream::connect(variable(wire::SOCKET_VARIABLE)?)?;
        let message = PushMessage { token: token.clone(), atomic, updates: updates.to_vec() };
        wire::write_blocking(&mut server, &message)?;
        let mut server = io::BufReader::new(server);
        loop {
            match wire::read_blocking(&mut server)? {
                // As it comes: the side band carries what is written at once.
                Frame::Output(bytes) => io::stderr().write_all(&bytes)?,
                frame @ Frame::Message(_) => match frame.parse()? {
                    ServerMessage::Accepted => accepted = true,
                    ServerMessage::Report(answers) => return Ok(answers),
                },
            }
        }
    };
    talk().or_else(|_| {
        if accepted {
            say(&["", "The server stopped. The build continues: push again to see it.", ""]);
        } else {
            say(&["The server stopped before it took the push: push again."]);
        }
        let refused = |update: &RefUpdate| Answer { name: update.name.clone(), refused: Some(DECLINED.into()) };
        Ok(updates.iter().map(refused).collect())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hooks_are_known_by_their_name() {
        assert!(is_hook(OsStr::new("/x/hooks/pre-receive")) && is_hook(OsStr::new("proc-receive")));
        assert!(!is_hook(OsStr::new("/usr/bin/paas-server")) && !is_hook(OsStr::new("")));
    }
}
