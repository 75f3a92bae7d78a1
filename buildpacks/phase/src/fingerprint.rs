//! A folder's fingerprint, from what `stat` says of every entry: cheap, and different after any change.
//!
//! Path, kind and mode, size, modification and change time. The change time cannot be set by a program,
//! so even a file that was rewritten with its old size and times is seen.

use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// FNV-1a with 128 bits: enough to tell honest changes apart. Whoever forges it deceives only their own app.
struct Fnv(u128);

impl Fnv {
    fn eat(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u128::from(*byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        }
    }
}

/// The fingerprint of everything below `folder`.
///
/// # Errors
/// When an entry cannot be read.
pub fn of(folder: &Path) -> io::Result<String> {
    let mut hash = Fnv(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d);
    walk(folder, b"", &mut hash)?;
    Ok(format!("{:032x}", hash.0))
}

fn walk(folder: &Path, name: &[u8], hash: &mut Fnv) -> io::Result<()> {
    let mut entries = std::fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let meta = entry.metadata()?;
        let mut path = name.to_vec();
        path.push(b'/');
        path.extend_from_slice(entry.file_name().as_bytes());
        hash.eat(&path);
        hash.eat(&meta.mode().to_le_bytes());
        // The size and times of a folder change with what is in it, which is hashed itself.
        if meta.is_dir() {
            walk(&entry.path(), &path, hash)?;
            continue;
        }
        hash.eat(&meta.size().to_le_bytes());
        for time in [meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()] {
            hash.eat(&time.to_le_bytes());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sees_a_rewritten_file_with_its_old_size_and_time() {
        let folder = std::env::temp_dir().join(format!("phase-fingerprint-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("a")).expect("a folder");
        std::fs::write(folder.join("a/f"), "one").expect("a file");
        let first = of(&folder).expect("a fingerprint");
        assert_eq!(of(&folder).expect("a fingerprint"), first);
        let times = std::fs::metadata(folder.join("a/f")).expect("times");
        std::thread::sleep(std::time::Duration::from_millis(20));
        std::fs::write(folder.join("a/f"), "two").expect("a file");
        let file = std::fs::File::options().write(true).open(folder.join("a/f")).expect("the file");
        file.set_modified(times.modified().expect("a time")).expect("set");
        assert_ne!(of(&folder).expect("a fingerprint"), first);
        std::fs::remove_dir_all(&folder).expect("gone");
    }
}
