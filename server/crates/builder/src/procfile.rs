//! The Procfile in a tar of an app's files, where it may be a link to another file of the app.

use std::fs::File;
use std::io::{self, BufReader, Read as _};
use std::path::{Component, Path, PathBuf};

use tar::{Archive, EntryType};

/// The file's name.
const FILE: &str = "Procfile";
/// The most bytes that are read: more than any Procfile may have.
const MOST_BYTES: u64 = 1024 * 1024;
/// The most links that are followed, as Linux does.
const MOST_LINKS: usize = 40;

/// What a tar has under the name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FoundProcfile {
    /// Nothing, or a link to nothing.
    Nothing,
    /// A link that leads out of the app, to what is no affair of its Procfile: a build has config vars as files.
    LeadsOut,
    /// A file's content, as far as a Procfile can be long.
    Content(Vec<u8>),
}

/// Finds the Procfile in a tar that has the app's files below `folder`. Nothing outside of the tar is looked at.
///
/// # Errors
/// When the tar cannot be read.
pub fn find_procfile(tar: &Path, folder: &Path) -> io::Result<FoundProcfile> {
    let mut wanted = PathBuf::from(FILE);
    for _ in 0..MOST_LINKS {
        match look(tar, folder, &wanted)? {
            Seen::Nothing => return Ok(FoundProcfile::Nothing),
            Seen::Content(bytes) => return Ok(FoundProcfile::Content(bytes)),
            Seen::SameAs(path) => wanted = path,
            Seen::Link { at, target } => match leads_to(&wanted, &at, &target) {
                Some(next) => wanted = next,
                None => return Ok(FoundProcfile::LeadsOut),
            },
        }
    }
    Ok(FoundProcfile::Nothing)
}

enum Seen {
    Nothing,
    Content(Vec<u8>),
    /// It is a second name of this file.
    SameAs(PathBuf),
    /// The path, or a folder on the way to it, is a link.
    Link {
        at: PathBuf,
        target: PathBuf,
    },
}

/// What the tar has at a path.
fn look(tar: &Path, folder: &Path, wanted: &Path) -> io::Result<Seen> {
    let mut archive = Archive::new(BufReader::new(File::open(tar)?));
    for entry in archive.entries_with_seek()? {
        let mut entry = entry?;
        let path = entry.path()?.components().filter(|c| *c != Component::CurDir).collect::<PathBuf>();
        let Ok(path) = path.strip_prefix(folder) else { continue };
        let path = path.to_owned();
        match entry.header().entry_type() {
            EntryType::Symlink if !path.as_os_str().is_empty() && wanted.starts_with(&path) => {
                let target = entry.link_name()?.unwrap_or_default().into_owned();
                return Ok(Seen::Link { at: path, target });
            }
            EntryType::Regular | EntryType::Continuous if path == wanted => {
                let mut bytes = Vec::new();
                entry.by_ref().take(MOST_BYTES).read_to_end(&mut bytes)?;
                return Ok(Seen::Content(bytes));
            }
            EntryType::Link if path == wanted => {
                let target = entry.link_name()?.unwrap_or_default().into_owned();
                let target = target.components().filter(|c| *c != Component::CurDir).collect::<PathBuf>();
                let Ok(target) = target.strip_prefix(folder) else { return Ok(Seen::Nothing) };
                return Ok(Seen::SameAs(target.to_owned()));
            }
            _ => {}
        }
    }
    Ok(Seen::Nothing)
}

/// Where `wanted` is when its part `at` is a link to `target`; `None` outside of the app.
fn leads_to(wanted: &Path, at: &Path, target: &Path) -> Option<PathBuf> {
    let rest = wanted.strip_prefix(at).unwrap_or(Path::new(""));
    let mut path = at.parent().unwrap_or(Path::new("")).to_owned();
    for component in target.components().chain(rest.components()) {
        match component {
            Component::CurDir => {}
            Component::Normal(name) => path.push(name),
            Component::ParentDir => {
                if !path.pop() {
                    return None;
                }
            }
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tarball::{add_file, add_link};

    fn found(folder: &str, links: &[(&str, &str)]) -> FoundProcfile {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let mut tar = tar::Builder::new(file.reopen().expect("the file"));
        let inside = |name: &str| Path::new(folder).join(name).display().to_string();
        for (name, target) in links {
            add_link(&mut tar, &inside(name), target, (0, 0)).expect("added");
        }
        add_file(&mut tar, &inside("deploy/Procfile"), 0o644, b"web: serve\n", (0, 0)).expect("added");
        tar.finish().expect("finished");
        find_procfile(file.path(), Path::new(folder)).expect("read")
    }

    #[test]
    fn links_are_followed_in_the_app_only() {
        let content = FoundProcfile::Content(b"web: serve\n".to_vec());
        for folder in ["", "workspace"] {
            assert_eq!(found(folder, &[]), FoundProcfile::Nothing);
            assert_eq!(found(folder, &[("Procfile", "deploy/Procfile")]), content);
            assert_eq!(found(folder, &[("Procfile", "./deploy/../deploy/Procfile")]), content);
            assert_eq!(found(folder, &[("Procfile", "other"), ("other", "deploy/Procfile")]), content);
            assert_eq!(found(folder, &[("Procfile", "now/Procfile"), ("now", "deploy")]), content);
            for nowhere in [&[("Procfile", "gone")][..], &[("Procfile", "deploy")], &[("Procfile", "Procfile")]] {
                assert_eq!(found(folder, nowhere), FoundProcfile::Nothing, "{nowhere:?}");
            }
            for out in [
                &[("Procfile", "/platform/env/TOKEN")][..],
                &[("Procfile", "../platform/env/TOKEN")],
                &[("Procfile", "deploy/../../platform/env/TOKEN")],
                &[("Procfile", "up/platform/env/TOKEN"), ("up", "..")],
                &[("Procfile", "other"), ("other", "/etc/passwd")],
            ] {
                assert_eq!(found(folder, out), FoundProcfile::LeadsOut, "{out:?}");
            }
        }
    }
}
