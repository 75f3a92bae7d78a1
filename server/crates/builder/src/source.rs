//! The source tar: checked entry by entry, then written anew for the build container.
//!
//! It comes from outside: it may be a hand-made archive. Nothing of it is unpacked on the host; what is
//! refused here is what the engine's unpacking inside the container should not have to deal with.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Component, Path, PathBuf};

use tar::{Archive, Builder, Entry, EntryType, Header};

/// The most entries of a source.
const MOST_ENTRIES: usize = 200_000;
/// The longest path of an entry: Linux's own limit for one call.
const LONGEST_PATH: usize = 4000;
/// Where the source is put.
const APP: &str = "workspace";

/// Why a source is refused, in words for the person who sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused(pub(crate) String);

/// What went wrong with a source.
#[derive(Debug)]
pub(crate) enum SourceError {
    /// The source itself.
    Refused(Refused),
    /// Reading it.
    Io(io::Error),
}

impl From<io::Error> for SourceError {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

fn refused<T>(why: impl Into<String>) -> Result<T, SourceError> {
    Err(SourceError::Refused(Refused(why.into())))
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    File,
    Folder,
    Link,
}

/// Looks at every entry's header; reads no content.
pub(crate) fn check(source: &Path, most_bytes: u64) -> Result<(), SourceError> {
    let mut archive = Archive::new(BufReader::new(File::open(source)?));
    let mut seen: HashMap<PathBuf, Kind> = HashMap::new();
    let mut bytes = 0_u64;
    let broken = |e: io::Error| SourceError::Refused(Refused(format!("The source archive cannot be read: {e}")));
    for entry in archive.entries_with_seek().map_err(broken)? {
        let entry = entry.map_err(broken)?;
        let Some((path, kind)) = classify(&entry)? else { continue };
        let shown = path.display().to_string();
        if path.as_os_str().len() > LONGEST_PATH {
            return refused("The source has a path that is too long.");
        }
        for parent in path.ancestors().skip(1) {
            if seen.get(parent).is_some_and(|kind| *kind != Kind::Folder) {
                return refused(format!("The source has a path below something that is no folder: {shown}"));
            }
        }
        if kind == Kind::File && entry.header().entry_type() == EntryType::Link {
            let target = entry.link_name().map_err(broken)?.map(|target| clean(&target)).transpose()?.flatten();
            if target.and_then(|target| seen.get(&target).copied()) != Some(Kind::File) {
                return refused(format!("The source has a hard link to something that is not in it: {shown}"));
            }
        }
        bytes = bytes.saturating_add(entry.size());
        if bytes > most_bytes {
            return refused(format!("The source is larger than {} MiB.", most_bytes / (1024 * 1024)));
        }
        if let Some(before) = seen.insert(path, kind)
            && before != kind
        {
            return refused(format!("The source has the same path twice: {shown}"));
        }
        if seen.len() > MOST_ENTRIES {
            return refused(format!("The source has more than {MOST_ENTRIES} files and folders."));
        }
    }
    Ok(())
}

/// Writes the source below the app's folder, owned by the build's user, with the one time that everything in
/// an image has.
pub(crate) fn write<W: Write>(source: &Path, to: &mut Builder<W>, owner: (u64, u64)) -> Result<(), SourceError> {
    let mut archive = Archive::new(BufReader::with_capacity(256 * 1024, File::open(source)?));
    for entry in archive.entries()? {
        let mut entry = entry?;
        let Some((path, kind)) = classify(&entry)? else { continue };
        if path.as_os_str().is_empty() {
            continue;
        }
        let executable = entry.header().mode().unwrap_or(0) & 0o100 != 0;
        let path = Path::new(APP).join(path);
        let mut header = Header::new_gnu();
        header.set_uid(owner.0);
        header.set_gid(owner.1);
        header.set_mtime(crate::tarball::MTIME);
        match kind {
            Kind::Folder => {
                header.set_entry_type(EntryType::Directory);
                header.set_mode(0o755);
                header.set_size(0);
                to.append_data(&mut header, path, io::empty())?;
            }
            Kind::Link => {
                header.set_entry_type(EntryType::Symlink);
                header.set_mode(0o777);
                header.set_size(0);
                let target = entry.link_name()?.unwrap_or_default().into_owned();
                to.append_link(&mut header, path, target)?;
            }
            Kind::File if entry.header().entry_type() == EntryType::Link => {
                header.set_entry_type(EntryType::Link);
                header.set_mode(if executable { 0o755 } else { 0o644 });
                header.set_size(0);
                let Some(target) = clean(&entry.link_name()?.unwrap_or_default())? else { continue };
                to.append_link(&mut header, path, Path::new(APP).join(target))?;
            }
            Kind::File => {
                header.set_entry_type(EntryType::Regular);
                header.set_mode(if executable { 0o755 } else { 0o644 });
                header.set_size(entry.size());
                to.append_data(&mut header, path, &mut entry)?;
            }
        }
    }
    Ok(())
}

/// An entry's path and kind; `None` for entries that are no files, as git's own header.
fn classify<R: Read>(entry: &Entry<'_, R>) -> Result<Option<(PathBuf, Kind)>, SourceError> {
    let kind = match entry.header().entry_type() {
        EntryType::Regular | EntryType::Continuous | EntryType::Link => Kind::File,
        EntryType::Directory => Kind::Folder,
        EntryType::Symlink => Kind::Link,
        EntryType::XGlobalHeader | EntryType::XHeader | EntryType::GNULongName | EntryType::GNULongLink => {
            return Ok(None);
        }
        EntryType::Block | EntryType::Char | EntryType::Fifo => {
            return refused("The source has a device or a pipe in it.");
        }
        _ => return refused("The source has an entry of an unknown kind."),
    };
    let path = entry.path().or_else(|_| refused("The source has a path that is none."))?;
    match clean(&path)? {
        Some(path) => Ok(Some((path, kind))),
        // The folder itself, as `./`.
        None if kind == Kind::Folder => Ok(None),
        None => refused("The source has a file without a name."),
    }
}

/// The path without `.`; `None` when nothing is left.
fn clean(path: &Path) -> Result<Option<PathBuf>, SourceError> {
    let mut cleaned = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) if name.len() > 255 => return refused("The source has a name that is too long."),
            Component::Normal(name) => cleaned.push(name),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return refused(format!("The source has a path that leaves its folder: {}", path.display()));
            }
        }
    }
    Ok(Some(cleaned).filter(|path| !path.as_os_str().is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tar(entries: &[(EntryType, &str, &str)]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let mut builder = Builder::new(file.reopen().expect("the file"));
        for (kind, path, content) in entries {
            let mut header = Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o4755);
            let is_link = matches!(kind, EntryType::Symlink | EntryType::Link);
            header.set_size(if is_link { 0 } else { content.len() as u64 });
            // Not through `set_path`, which refuses what is to be tried here.
            header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            if is_link {
                header.as_old_mut().linkname[..content.len()].copy_from_slice(content.as_bytes());
            }
            header.set_cksum();
            builder.append(&header, if is_link { &[][..] } else { content.as_bytes() }).expect("appended");
        }
        builder.finish().expect("finished");
        file
    }

    #[test]
    fn refuses_what_reaches_out() {
        use EntryType as T;
        let bad: &[&[(T, &str, &str)]] = &[
            &[(T::Regular, "../x", "")],
            &[(T::Regular, "a/../../x", "")],
            &[(T::Regular, "/etc/passwd", "")],
            &[(T::Symlink, "a", "/etc"), (T::Regular, "a/passwd", "")],
            &[(T::Regular, "a", ""), (T::Regular, "a/b", "")],
            &[(T::Link, "a", "/etc/passwd")],
            &[(T::Link, "a", "../x")],
            &[(T::Char, "a", "")],
            &[(T::Fifo, "a", "")],
            &[(T::Symlink, "a", "x"), (T::Regular, "a", "")],
        ];
        for entries in bad {
            let result = check(tar(entries).path(), 1000);
            assert!(matches!(result, Err(SourceError::Refused(_))), "{entries:?} {result:?}");
        }
        assert!(matches!(
            check(tar(&[(T::Regular, "a", "12345"), (T::Regular, "b", "12345")]).path(), 9),
            Err(SourceError::Refused(_))
        ));
    }

    #[test]
    fn writes_what_is_good_with_its_own_owner_and_no_set_id() {
        use EntryType as T;
        let good = tar(&[
            (T::XGlobalHeader, "pax_global_header", ""),
            (T::Directory, "./", ""),
            (T::Directory, "./bin/", ""),
            (T::Regular, "./bin/run", "#!/bin/sh"),
            (T::Symlink, "out", "../../somewhere"),
            (T::Link, "same", "bin/run"),
        ]);
        check(good.path(), 1000).map_err(|e| format!("{e:?}")).expect("good");
        let mut written = Builder::new(Vec::new());
        write(good.path(), &mut written, (7, 8)).map_err(|e| format!("{e:?}")).expect("written");
        let bytes = written.into_inner().expect("bytes");
        let mut archive = Archive::new(bytes.as_slice());
        let mut names = Vec::new();
        for entry in archive.entries().expect("entries") {
            let entry = entry.expect("an entry");
            assert_eq!((entry.header().uid().expect("uid"), entry.header().gid().expect("gid")), (7, 8));
            assert_eq!(entry.header().mode().expect("mode") & 0o7000, 0);
            names.push(entry.path().expect("a path").display().to_string());
        }
        assert_eq!(names, ["workspace/bin", "workspace/bin/run", "workspace/out", "workspace/same"]);
    }
}
