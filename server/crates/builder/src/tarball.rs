//! Layers as tar files whose bytes depend on their content only, and their digests.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};

use aws_lc_rs::digest;
use paas_domain::Digest;
use tar::{Archive, Builder, EntryType, Header};

/// The time of everything in an image: 1980-01-01T00:00:01Z, as every exporter of buildpacks has it.
pub(crate) const MTIME: u64 = 315_532_801;

/// A writer that counts and hashes what goes through.
pub(crate) struct Hashing<W> {
    to: W,
    sum: digest::Context,
    size: u64,
    most: u64,
}

impl<W: Write> Hashing<W> {
    /// Fails once more than `most` bytes were written.
    pub(crate) fn new(to: W, most: u64) -> Self {
        Self { to, sum: digest::Context::new(&digest::SHA256), size: 0, most }
    }

    pub(crate) fn finish(mut self) -> io::Result<(Digest, u64, W)> {
        self.to.flush()?;
        Ok((to_digest(self.sum.finish().as_ref()), self.size, self.to))
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.to.write(bytes)?;
        self.sum.update(&bytes[..n]);
        self.size += n as u64;
        if self.size > self.most {
            return Err(io::Error::other(format!("a layer is larger than {} MiB", self.most / (1024 * 1024))));
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// The digest of some bytes.
pub(crate) fn digest_of(bytes: &[u8]) -> Digest {
    to_digest(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn to_digest(sum: &[u8]) -> Digest {
    let hex: String = sum.iter().map(|b| format!("{b:02x}")).collect();
    // Sixty-four lower-case hexadecimal digits are a digest.
    format!("sha256:{hex}").parse().unwrap_or_else(|_| unreachable!("a sha256 sum is a digest"))
}

/// A header with the fixed time and owner.
pub(crate) fn header(kind: EntryType, mode: u32, size: u64, owner: (u64, u64)) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(owner.0);
    header.set_gid(owner.1);
    header.set_mtime(MTIME);
    header
}

/// Adds a folder and each of its parents.
pub(crate) fn add_folders<W: Write>(to: &mut Builder<W>, path: &Path, owner: (u64, u64)) -> io::Result<()> {
    let mut parents: Vec<&Path> = path.ancestors().filter(|p| !p.as_os_str().is_empty()).collect();
    parents.reverse();
    for parent in parents {
        let mut name = parent.as_os_str().to_owned();
        name.push("/");
        to.append_data(&mut header(EntryType::Directory, 0o755, 0, owner), PathBuf::from(name), io::empty())?;
    }
    Ok(())
}

/// Adds a file.
pub(crate) fn add_file<W: Write>(
    to: &mut Builder<W>,
    path: &str,
    mode: u32,
    bytes: &[u8],
    owner: (u64, u64),
) -> io::Result<()> {
    to.append_data(&mut header(EntryType::Regular, mode, bytes.len() as u64, owner), path, bytes)
}

/// Adds a symbolic link.
pub(crate) fn add_link<W: Write>(to: &mut Builder<W>, path: &str, target: &str, owner: (u64, u64)) -> io::Result<()> {
    to.append_link(&mut header(EntryType::Symlink, 0o777, 0, owner), path, target)
}

/// Rewrites the engine's tar of one folder as a layer that holds this folder at `place`.
///
/// The engine's entries start with the folder's own name. Times, owners and extended attributes are dropped,
/// set-id bits too. What is neither file, folder nor link is left out.
///
/// # Errors
/// When the tar is not of a folder, or an entry leads out of it.
pub(crate) fn layer_of<R: Read>(
    engine: R,
    place: &Path,
    owner: (u64, u64),
    to: File,
    most: u64,
) -> io::Result<(Digest, u64)> {
    let bad = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
    let buffered = io::BufWriter::with_capacity(256 * 1024, to);
    let mut layer = Builder::new(Hashing::new(buffered, most));
    if let Some(parent) = place.parent() {
        add_folders(&mut layer, parent, owner)?;
    }
    let mut root: Option<OsString> = None;
    let mut archive = Archive::new(engine);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let mut components = path.components();
        let Some(Component::Normal(first)) = components.next() else { return Err(bad("an entry without a folder")) };
        let rest = components.as_path().to_owned();
        if rest.components().any(|c| !matches!(c, Component::Normal(_))) {
            return Err(bad("an entry leads out of its folder"));
        }
        let kind = entry.header().entry_type();
        match &root {
            None if kind == EntryType::Directory && rest.as_os_str().is_empty() => root = Some(first.to_owned()),
            None => return Err(bad("a layer is no folder")),
            Some(root) if root == first => {}
            Some(_) => return Err(bad("an entry outside of the folder")),
        }
        let mode = entry.header().mode()? & 0o1777;
        let target = place.join(rest);
        match kind {
            EntryType::Directory => {
                let mut name = target.into_os_string();
                name.push("/");
                layer.append_data(&mut header(kind, mode, 0, owner), PathBuf::from(name), io::empty())?;
            }
            EntryType::Regular => {
                layer.append_data(&mut header(kind, mode, entry.size(), owner), target, &mut entry)?;
            }
            EntryType::Symlink => {
                let link = entry.link_name()?.ok_or_else(|| bad("a link without a target"))?;
                layer.append_link(&mut header(kind, 0o777, 0, owner), target, link)?;
            }
            EntryType::Link => {
                let link = entry.link_name()?.ok_or_else(|| bad("a link without a target"))?;
                let inner = link.strip_prefix(Path::new(first)).map_err(|_| bad("a hard link leads out"))?;
                if inner.components().any(|c| !matches!(c, Component::Normal(_))) {
                    return Err(bad("a hard link leads out"));
                }
                layer.append_link(&mut header(kind, mode, 0, owner), target, place.join(inner))?;
            }
            _ => {}
        }
    }
    if root.is_none() {
        return Err(bad("a layer is empty"));
    }
    let (digest, size, _) = layer.into_inner()?.finish()?;
    Ok((digest, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine_tar(entries: &[(EntryType, &str, &str)], mtime: u64) -> Vec<u8> {
        let mut builder = Builder::new(Vec::new());
        for (kind, path, content) in entries {
            let mut header = header(*kind, 0o4755, 0, (0, 0));
            header.set_mtime(mtime);
            header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            if matches!(kind, EntryType::Link | EntryType::Symlink) {
                header.as_old_mut().linkname[..content.len()].copy_from_slice(content.as_bytes());
                header.set_cksum();
                builder.append(&header, io::empty()).expect("appended");
            } else {
                header.set_size(content.len() as u64);
                header.set_cksum();
                builder.append(&header, content.as_bytes()).expect("appended");
            }
        }
        builder.into_inner().expect("bytes")
    }

    fn layer(entries: &[(EntryType, &str, &str)], mtime: u64) -> io::Result<(Digest, Vec<u8>)> {
        let file = tempfile::NamedTempFile::new()?;
        let tar = engine_tar(entries, mtime);
        let (digest, size) =
            layer_of(tar.as_slice(), Path::new("layers/a_b/dist"), (1000, 1000), file.reopen()?, 1_000_000)?;
        let bytes = std::fs::read(file.path())?;
        assert_eq!((digest_of(&bytes), bytes.len() as u64), (digest.clone(), size));
        Ok((digest, bytes))
    }

    #[test]
    fn the_same_content_makes_the_same_bytes() {
        use EntryType as T;
        let entries = [(T::Directory, "dist/", ""), (T::Regular, "dist/f", "x"), (T::Link, "dist/g", "dist/f")];
        let (one, bytes) = layer(&entries, 1).expect("a layer");
        assert_eq!(layer(&entries, 999).expect("a layer").0, one);
        let mut archive = Archive::new(bytes.as_slice());
        let names: Vec<String> = archive
            .entries()
            .expect("entries")
            .map(|e| e.expect("an entry").path().expect("a path").display().to_string())
            .collect();
        assert_eq!(names, ["layers/", "layers/a_b/", "layers/a_b/dist/", "layers/a_b/dist/f", "layers/a_b/dist/g"]);
    }

    #[test]
    fn a_layer_has_a_limit() {
        let tar =
            engine_tar(&[(EntryType::Directory, "dist/", ""), (EntryType::Regular, "dist/f", &"x".repeat(9000))], 1);
        let file = tempfile::NamedTempFile::new().expect("a file");
        let layer =
            |most| layer_of(tar.as_slice(), Path::new("layers/x"), (0, 0), file.reopen().expect("the file"), most);
        assert!(layer(8000).is_err());
        assert!(layer(80_000).is_ok());
    }

    #[test]
    fn nothing_leads_out() {
        use EntryType as T;
        for bad in [
            &[(T::Directory, "dist/", ""), (T::Regular, "dist/../x", "")][..],
            &[(T::Directory, "dist/", ""), (T::Regular, "other/x", "")],
            &[(T::Directory, "dist/", ""), (T::Link, "dist/x", "../etc/passwd")],
            &[(T::Directory, "dist/", ""), (T::Link, "dist/x", "dist/../../etc/passwd")],
            &[(T::Symlink, "dist", "/etc")],
            &[(T::Regular, "dist", "file")],
            &[],
        ] {
            assert!(layer(bad, 1).is_err(), "{bad:?}");
        }
    }
}
