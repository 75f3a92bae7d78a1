//! An uploaded `tar.gz`, from anybody, as one plain tar that builders can unpack without a care.
//!
//! What comes out holds regular files, directories and symbolic links only, with relative paths that stay inside,
//! none of them below a symbolic link; hard links have become files, owners, times and special bits are gone, `.git`
//! is left out. Everything else is a bad archive, and so is one that is larger, deeper or fuller than a source is.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use aws_lc_rs::digest::{Context, SHA256};
use data_encoding::HEXLOWER;
use flate2::read::MultiGzDecoder;
use tar::{Archive, Builder, Entry, EntryType, Header};

/// The most bytes that an archive may have unpacked, names and padding included.
const MAX_UNPACKED: u64 = 1024 * 1024 * 1024;
/// The most entries.
const MAX_ENTRIES: usize = 200_000;
/// The longest path, as Linux has it, and the most folders in it.
const MAX_PATH: usize = 4096;
const MAX_DEPTH: usize = 255;
/// 1980-01-01: every file has the same time, and one that zip files can hold.
const MTIME: u64 = 315_532_801;

/// Why there is no plain tar.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArchiveError {
    /// The archive is not one, or not one that we unpack. Says why.
    #[error("{0}")]
    Bad(String),
    /// Our own disk.
    #[error(transparent)]
    Disk(io::Error),
}

fn bad(why: impl Into<String>) -> ArchiveError {
    ArchiveError::Bad(why.into())
}

/// Reads the archive `from` and writes the plain tar `into`. `checksum` is the SHA-256 that the archive should have.
///
/// Blocks; call it where that is allowed.
pub(crate) fn to_plain_tar(from: &Path, into: &Path, checksum: Option<&str>) -> Result<(), ArchiveError> {
    convert(from, into, checksum, MAX_UNPACKED, MAX_ENTRIES)
}

fn convert(
    from: &Path,
    into: &Path,
    checksum: Option<&str>,
    max_unpacked: u64,
    max_entries: usize,
) -> Result<(), ArchiveError> {
    let file = File::open(from).map_err(ArchiveError::Disk)?;
    if let Some(wanted) = checksum {
        check_sum(&file, wanted)?;
    }
    let limited = Capped { inner: MultiGzDecoder::new(BufReader::new(file)), left: max_unpacked };
    let mut archive = Archive::new(limited);
    let mut plain = Plain::new(into, max_unpacked)?;
    {
        let entries = archive.entries().map_err(|e| unreadable(&e))?;
        for (count, entry) in entries.enumerate() {
            if count >= max_entries {
                return Err(bad(format!("it has more than {max_entries} entries")));
            }
            plain.add(&mut entry.map_err(|e| unreadable(&e))?)?;
        }
    }
    // The checksum of the gzip stream stands at its end.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(|e| unreadable(&e))?;
    plain.finish()
}

fn check_sum(mut file: &File, wanted: &str) -> Result<(), ArchiveError> {
    let mut sum = Context::new(&SHA256);
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match file.read(&mut buffer).map_err(ArchiveError::Disk)? {
            0 => break,
            n => sum.update(&buffer[..n]),
        }
    }
    file.seek(SeekFrom::Start(0)).map_err(ArchiveError::Disk)?;
    if HEXLOWER.encode(sum.finish().as_ref()) == wanted { Ok(()) } else { Err(bad("its checksum is another one")) }
}

/// A reading error, in words: what the tar and gzip readers say names our own types.
fn unreadable(error: &io::Error) -> ArchiveError {
    match error.kind() {
        io::ErrorKind::FileTooLarge => bad("it is too large when unpacked"),
        io::ErrorKind::UnexpectedEof => bad("it ends before its end"),
        _ => bad("it is not a gzip-compressed tar archive, or it is damaged"),
    }
}

/// Fails instead of reading beyond a number of bytes.
struct Capped<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Capped<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(read as u64).ok_or(io::ErrorKind::FileTooLarge)?;
        Ok(read)
    }
}

/// What a path holds so far.
enum Held {
    /// A regular file: where its bytes are in the plain tar, how many, and its mode.
    File {
        at: u64,
        size: u64,
        mode: u32,
    },
    Other,
}

/// The plain tar while it is written.
struct Plain {
    tar: Builder<File>,
    /// For reading again what was written, for hard links.
    again: File,
    held: HashMap<Vec<u8>, Held>,
    links: HashSet<Vec<u8>>,
    /// Bytes that may still be written: hard links could multiply what was read.
    left: u64,
    files: usize,
}

impl Plain {
    fn new(into: &Path, max: u64) -> Result<Self, ArchiveError> {
        let tar = Builder::new(File::create_new(into).map_err(ArchiveError::Disk)?);
        let again = File::open(into).map_err(ArchiveError::Disk)?;
        Ok(Self { tar, again, held: HashMap::new(), links: HashSet::new(), left: max, files: 0 })
    }

    fn add<R: Read>(&mut self, entry: &mut Entry<'_, R>) -> Result<(), ArchiveError> {
        check_extensions(entry)?;
        let kind = entry.header().entry_type();
        if kind == EntryType::XGlobalHeader {
            return Ok(());
        }
        let Some(path) = inside(&entry.path_bytes())? else { return Ok(()) };
        if path.split(|b| *b == b'/').any(|part| part == b".git") {
            return Ok(());
        }
        self.check_parents(&path)?;
        let mode = entry.header().mode().map_err(|_| bad("a header is damaged"))?;
        match kind {
            EntryType::Directory => self.directory(path),
            EntryType::Regular | EntryType::Continuous => {
                let mode = if mode & 0o111 == 0 { 0o644 } else { 0o755 };
                let size = entry.size();
                self.file(path, mode, size, entry)
            }
            EntryType::Symlink => {
                let target = link_target(entry)?;
                self.symlink(path, &target)
            }
            EntryType::Link => {
                let target = inside(&link_target(entry)?)?.ok_or_else(|| bad("a hard link names nothing"))?;
                let Some(Held::File { at, size, mode }) = self.held.get(&target) else {
                    return Err(bad("a hard link names no file before it"));
                };
                let (at, size, mode) = (*at, *size, *mode);
                self.again.seek(SeekFrom::Start(at)).map_err(ArchiveError::Disk)?;
                let bytes = self.again.try_clone().map_err(ArchiveError::Disk)?.take(size);
                self.file(path, mode, size, bytes)
            }
            _ => Err(bad("it holds something else than files, folders and links")),
        }
    }

    /// Nothing may be put below a link (it would land elsewhere) or below a file.
    fn check_parents(&self, path: &[u8]) -> Result<(), ArchiveError> {
        let slashes = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(i, _)| i);
        for parent in slashes.map(|i| &path[..i]) {
            if self.links.contains(parent) || matches!(self.held.get(parent), Some(Held::File { .. })) {
                return Err(bad("it puts something below a link or a file"));
            }
        }
        Ok(())
    }

    fn take(&mut self, bytes: u64) -> Result<(), ArchiveError> {
        let left = self.left.checked_sub(bytes.saturating_add(1024));
        self.left = left.ok_or_else(|| bad("it is too large when unpacked"))?;
        Ok(())
    }

    fn directory(&mut self, path: Vec<u8>) -> Result<(), ArchiveError> {
        self.take(0)?;
        if self.links.contains(&path) || matches!(self.held.get(&path), Some(Held::File { .. })) {
            return Err(bad("it has a folder where a link or a file is"));
        }
        let mut header = header(EntryType::Directory, 0o755, 0);
        self.tar.append_data(&mut header, as_path(&path), io::empty()).map_err(ArchiveError::Disk)?;
        self.held.insert(path, Held::Other);
        Ok(())
    }

    fn file(&mut self, path: Vec<u8>, mode: u32, size: u64, bytes: impl Read) -> Result<(), ArchiveError> {
        self.take(size)?;
        if self.links.contains(&path) {
            return Err(bad("it has a file where a link is"));
        }
        let mut counted = Counted { inner: bytes, read: 0 };
        let mut header = header(EntryType::Regular, mode, size);
        let written = self.tar.append_data(&mut header, as_path(&path), &mut counted);
        written.map_err(|error| {
            if error.kind() == io::ErrorKind::StorageFull { ArchiveError::Disk(error) } else { unreadable(&error) }
        })?;
        if counted.read != size {
            return Err(bad("it ends before its end"));
        }
        let end = self.tar.get_mut().stream_position().map_err(ArchiveError::Disk)?;
        self.held.insert(path, Held::File { at: end - size.next_multiple_of(512), size, mode });
        self.files += 1;
        Ok(())
    }

    fn symlink(&mut self, path: Vec<u8>, target: &[u8]) -> Result<(), ArchiveError> {
        self.take(0)?;
        if self.held.contains_key(&path) {
            return Err(bad("it has a link where something else is"));
        }
        let below = [path.as_slice(), b"/"].concat();
        if self.held.keys().any(|held| held.starts_with(&below)) {
            return Err(bad("it has a link where a folder is"));
        }
        let mut header = header(EntryType::Symlink, 0o777, 0);
        self.tar.append_link(&mut header, as_path(&path), as_path(target)).map_err(ArchiveError::Disk)?;
        self.links.insert(path);
        self.files += 1;
        Ok(())
    }

    fn finish(mut self) -> Result<(), ArchiveError> {
        if self.files == 0 {
            return Err(bad("it holds no file"));
        }
        self.tar.finish().map_err(ArchiveError::Disk)
    }
}

struct Counted<R> {
    inner: R,
    read: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.read += read as u64;
        Ok(read)
    }
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(MTIME);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn as_path(bytes: &[u8]) -> &Path {
    Path::new(std::ffi::OsStr::from_bytes(bytes))
}

/// Extensions that say something else than the header are how one archive is two: refused, and so are sparse files.
fn check_extensions<R: Read>(entry: &mut Entry<'_, R>) -> Result<(), ArchiveError> {
    let in_header = entry.header().entry_size().map_err(|_| bad("a header is damaged"))?;
    let Some(extensions) = entry.pax_extensions().map_err(|e| unreadable(&e))? else { return Ok(()) };
    for extension in extensions {
        let extension = extension.map_err(|e| unreadable(&e))?;
        let key = extension.key_bytes();
        if key.starts_with(b"GNU.sparse") {
            return Err(bad("it holds a sparse file"));
        }
        let size = || extension.value().ok().and_then(|value| value.parse::<u64>().ok());
        if key == b"size" && size() != Some(in_header) {
            return Err(bad("an entry has two sizes"));
        }
    }
    Ok(())
}

fn link_target<R: Read>(entry: &Entry<'_, R>) -> Result<Vec<u8>, ArchiveError> {
    let target = entry.link_name_bytes().map(std::borrow::Cow::into_owned).unwrap_or_default();
    if target.is_empty() || target.len() > MAX_PATH || target.iter().any(|b| b.is_ascii_control()) {
        return Err(bad("a link has no good target"));
    }
    Ok(target)
}

/// A path without `.` and doubled slashes; `None` for the archive's own root. Bytes that are no UTF-8 are kept.
fn inside(path: &[u8]) -> Result<Option<Vec<u8>>, ArchiveError> {
    if path.len() > MAX_PATH || path.iter().any(|b| b.is_ascii_control()) || path.starts_with(b"/") {
        return Err(bad("it has a path that is absolute, too long or has control characters"));
    }
    let parts: Vec<&[u8]> = path.split(|b| *b == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    if parts.contains(&b"..".as_slice()) || parts.len() > MAX_DEPTH || parts.iter().any(|part| part.len() > 255) {
        return Err(bad("it has a path that leads outside, or is too deep"));
    }
    Ok(if parts.is_empty() { None } else { Some(parts.join(&b'/')) })
}

#[cfg(test)]
mod tests;
