//! A commit's tree as a tar: the source of a build.
//!
//! The same tree gives the same bytes: entries in git's order, one time stamp, one owner. Nothing in the tree has
//! an effect here: no attribute, no filter, no symlink is followed.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use git2::{Commit, Odb, Oid, Repository, Tree};
use paas_domain::AppId;
use paas_ports::PortError;
use tar::{Builder, EntryType, Header};

use super::request::shown;
use super::{Repositories, process};

/// 1980-01-01T00:00:01Z, as buildpacks have it: a time that every format can express.
const MODIFIED_AT_S: u64 = 315_532_801;
/// Who owns the files: the user of every build and dyno.
const OWNER: u64 = 1000;
/// Larger files are streamed by the git program; smaller ones are read whole.
const STREAMED: u64 = 4 * 1024 * 1024;
const MAX_DEPTH: usize = 200;
const MAX_LINK: u64 = 4096;
const DOING: &str = "reading the commit";

/// Writes the tar of a commit to `into`, and syncs it.
pub(super) fn write(repositories: &Repositories, app: &AppId, commit: &str, into: &Path) -> Result<(), PortError> {
    let repository = Repository::open_bare(repositories.path(app)).map_err(|_| missing(commit))?;
    let found = Oid::from_str(commit).and_then(|id| repository.find_commit(id)).map_err(|_| missing(commit))?;
    let odb = repository.odb().map_err(git)?;
    let output = File::create(into).map_err(io)?;
    let tar = Builder::new(BufWriter::with_capacity(256 * 1024, output));
    let mut archive = Archive { repositories, app, repository: &repository, odb, tar, entries: 0, bytes: 0 };
    archive.commit(&found)?;
    let mut output = archive.tar.into_inner().map_err(io)?;
    output.flush().map_err(io)?;
    output.get_ref().sync_all().map_err(io)
}

struct Archive<'a> {
    repositories: &'a Repositories,
    app: &'a AppId,
    repository: &'a Repository,
    odb: Odb<'a>,
    tar: Builder<BufWriter<File>>,
    entries: usize,
    bytes: u64,
}

impl Archive<'_> {
    fn commit(&mut self, commit: &Commit<'_>) -> Result<(), PortError> {
        let tree = commit.tree().map_err(git)?;
        self.tree(&tree, &PathBuf::new(), 0)
    }

    fn tree(&mut self, tree: &Tree<'_>, at: &Path, depth: usize) -> Result<(), PortError> {
        if depth > MAX_DEPTH {
            return Err(refuse(format!("its folders are nested more than {MAX_DEPTH} deep")));
        }
        for entry in tree {
            self.entries += 1;
            if self.entries > self.repositories.limits().max_entries {
                let most = self.repositories.limits().max_entries;
                return Err(refuse(format!("it has more than {most} files")));
            }
            let path = at.join(std::ffi::OsStr::from_bytes(entry.name_bytes()));
            match entry.filemode() {
                0o040_000 => {
                    append(&mut self.tar, header(EntryType::Directory, 0o755, 0), &path, io::empty())?;
                    let inner = self.repository.find_tree(entry.id()).map_err(git)?;
                    self.tree(&inner, &path, depth + 1)?;
                }
                0o160_000 => {
                    let path = shown(path.as_os_str().as_bytes());
                    return Err(refuse(format!("{path} is a git submodule; submodules are not supported")));
                }
                0o120_000 => self.link(entry.id(), &path)?,
                mode => self.file(entry.id(), if mode & 0o100 == 0 { 0o644 } else { 0o755 }, &path)?,
            }
        }
        Ok(())
    }

    fn file(&mut self, id: Oid, mode: u32, path: &Path) -> Result<(), PortError> {
        let (size, _) = self.odb.read_header(id).map_err(git)?;
        let size = size as u64;
        self.bytes = self.bytes.saturating_add(size);
        let limits = self.repositories.limits();
        if size > limits.max_file {
            let (path, most) = (shown(path.as_os_str().as_bytes()), limits.max_file >> 20);
            return Err(refuse(format!("{path} is larger than {most} MB")));
        }
        if self.bytes > limits.max_tree {
            return Err(refuse(format!("its files are larger than {} MB together", limits.max_tree >> 20)));
        }
        let header = header(EntryType::Regular, mode, size);
        if size <= STREAMED {
            let blob = self.odb.read(id).map_err(git)?;
            return append(&mut self.tar, header, path, blob.data());
        }
        let mut command = process::git(&self.repositories.path(self.app), &self.repositories.hooks(), limits);
        command.args(["cat-file", "blob"]).arg(id.to_string()).stderr(std::process::Stdio::null());
        let mut child = command.spawn().map_err(io)?;
        let appended = match child.stdout.take() {
            Some(stdout) => append(&mut self.tar, header, path, io::Read::take(stdout, size)),
            None => Ok(()),
        };
        let status = child.wait().map_err(io)?;
        appended?;
        if status.success() { Ok(()) } else { Err(PortError::transient(DOING, "git cat-file failed")) }
    }

    fn link(&mut self, id: Oid, path: &Path) -> Result<(), PortError> {
        let (size, _) = self.odb.read_header(id).map_err(git)?;
        let bad = || refuse(format!("{} is a symlink to nothing sensible", shown(path.as_os_str().as_bytes())));
        if size as u64 > MAX_LINK {
            return Err(bad());
        }
        let blob = self.odb.read(id).map_err(git)?;
        if blob.data().is_empty() || blob.data().contains(&0) {
            return Err(bad());
        }
        let target = Path::new(std::ffi::OsStr::from_bytes(blob.data()));
        self.tar.append_link(&mut header(EntryType::Symlink, 0o777, 0), path, target).map_err(|_| bad())
    }
}

fn append(
    tar: &mut Builder<BufWriter<File>>,
    mut header: Header,
    path: &Path,
    data: impl io::Read,
) -> Result<(), PortError> {
    tar.append_data(&mut header, path, data).map_err(io)
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(MODIFIED_AT_S);
    header.set_uid(OWNER);
    header.set_gid(OWNER);
    header
}

fn missing(commit: &str) -> PortError {
    PortError::NotFound(format!("commit {}", shown(commit.as_bytes())))
}

fn refuse(cause: String) -> PortError {
    PortError::permanent(DOING, cause)
}

fn io(error: io::Error) -> PortError {
    PortError::transient(DOING, error)
}

fn git(error: git2::Error) -> PortError {
    PortError::permanent(DOING, error.message())
}
