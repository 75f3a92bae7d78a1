//! Layers as blobs: compressed once, and remembered.
//!
//! `index/<diff id>.json` says which blob a layer became and which repository was seen with it last; so an unchanged
//! layer is neither read nor compressed again, and another app's push can mount it. Entries that nobody used for
//! three months go. `base/<diff id>.gz` are the run image's layers: few, large, and needed by every new app. `part`
//! holds what is just being sent.

use std::io::{self, BufReader, BufWriter, Read as _, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use flate2::{Compression, GzBuilder};
use paas_domain::Digest;
use paas_ports::{PlannedLayer, PortError};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;
use tokio::io::AsyncRead;
use tokio_util::io::SyncIoBridge;

use super::manifest::digest;

/// Fast, and within a few percent of the default's size. Another level, or another compressor, only makes new blobs.
const LEVEL: u32 = 4;
/// How long a layer that nobody pushes is remembered.
const REMEMBERED: Duration = Duration::from_secs(90 * 24 * 3600);
const BUFFER: usize = 256 * 1024;

/// A blob in a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Blob {
    pub(super) digest: Digest,
    pub(super) size: u64,
}

/// What is remembered of a layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Known {
    #[serde(flatten)]
    pub(super) blob: Blob,
    /// A repository that had it.
    pub(super) repository: String,
}

/// A compressed layer in a file, which goes with this value unless it is a base layer's.
pub(super) struct Packed {
    pub(super) blob: Blob,
    file: PackedFile,
}

enum PackedFile {
    Base(PathBuf),
    Part(NamedTempFile),
}

impl Packed {
    pub(super) fn path(&self) -> &Path {
        match &self.file {
            PackedFile::Base(path) => path,
            PackedFile::Part(file) => file.path(),
        }
    }
}

/// The folder of all that. See the module.
pub(super) struct Blobs(PathBuf);

impl Blobs {
    pub(super) fn open(folder: PathBuf) -> Result<Self, PortError> {
        let make = || {
            // What a killed process was just sending.
            match std::fs::remove_dir_all(folder.join("part")) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
            for part in ["index", "base", "part"] {
                std::fs::create_dir_all(folder.join(part))?;
            }
            let forgotten = SystemTime::now() - REMEMBERED;
            for entry in std::fs::read_dir(folder.join("index"))? {
                let entry = entry?;
                if entry.metadata()?.modified()? < forgotten {
                    std::fs::remove_file(entry.path())?;
                }
            }
            Ok(())
        };
        make().map_err(|e| PortError::permanent("opening the folder of layers", e))?;
        Ok(Self(folder))
    }

    fn index(&self, diff_id: &Digest) -> PathBuf {
        self.0.join("index").join(format!("{}.json", diff_id.hex()))
    }

    fn base(&self, diff_id: &Digest) -> PathBuf {
        self.0.join("base").join(format!("{}.gz", diff_id.hex()))
    }

    /// What a layer became; nothing when it was never sent.
    pub(super) async fn known(&self, diff_id: &Digest) -> Option<Known> {
        let bytes = tokio::fs::read(self.index(diff_id)).await.ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Remembers that a repository has a layer as this blob.
    pub(super) async fn keep(&self, diff_id: &Digest, blob: &Blob, repository: &str) -> Result<(), PortError> {
        let known = Known { blob: blob.clone(), repository: repository.to_owned() };
        let (path, folder) = (self.index(diff_id), self.0.join("part"));
        let write = move || {
            let mut file = NamedTempFile::new_in(folder)?;
            serde_json::to_writer(&mut file, &known)?;
            file.persist(path)?;
            io::Result::Ok(())
        };
        run(write).await.map_err(|e| PortError::transient("remembering a layer", e))
    }

    /// A base layer that was compressed before.
    pub(super) async fn packed_base(&self, layer: &PlannedLayer, known: Option<&Known>) -> Option<Packed> {
        let (path, known) = (self.base(&layer.diff_id), known?);
        let size = tokio::fs::metadata(&path).await.ok()?.len();
        (size == known.blob.size).then(|| Packed { blob: known.blob.clone(), file: PackedFile::Base(path) })
    }

    /// Reads a layer to its end and compresses it. A base layer, which is planned without a size, is kept.
    ///
    /// # Errors
    /// A permanent one when its bytes are not those of its digest.
    pub(super) async fn pack(
        &self,
        layer: &PlannedLayer,
        source: Box<dyn AsyncRead + Send + Unpin>,
    ) -> Result<Packed, PortError> {
        let doing = "compressing a layer";
        let base = (layer.size == 0).then(|| self.base(&layer.diff_id));
        let (folder, planned) = (self.0.join("part"), layer.clone());
        let reader = SyncIoBridge::new(source);
        let work = move || {
            let (blob, file) = compress(reader, &planned, &folder)?;
            let file = match base {
                Some(path) => {
                    file.persist(&path)?;
                    PackedFile::Base(path)
                }
                None => PackedFile::Part(file),
            };
            io::Result::Ok(Packed { blob, file })
        };
        run(work).await.map_err(|e| match e.kind() {
            io::ErrorKind::InvalidData => PortError::permanent(doing, e),
            _ => PortError::transient(doing, e),
        })
    }
}

async fn run<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

fn compress(reader: impl io::Read, planned: &PlannedLayer, folder: &Path) -> io::Result<(Blob, NamedTempFile)> {
    let file = NamedTempFile::new_in(folder)?;
    let counted =
        Counted { to: BufWriter::with_capacity(BUFFER, file.as_file().try_clone()?), sum: Sha256::new(), size: 0 };
    // No name, no time, no system in the head: the same bytes for the same layer, wherever it is made.
    let mut gzip = GzBuilder::new().operating_system(255).write(counted, Compression::new(LEVEL));
    let (mut reader, mut sum, mut size) = (BufReader::with_capacity(BUFFER, reader), Sha256::new(), 0_u64);
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = reader.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        sum.update(&buffer[..count]);
        size += count as u64;
        gzip.write_all(&buffer[..count])?;
    }
    if digest(&sum.finalize()) != planned.diff_id || (planned.size != 0 && planned.size != size) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a layer's bytes are not those that were planned"));
    }
    let mut counted = gzip.finish()?;
    counted.to.flush()?;
    let blob = Blob { digest: digest(&counted.sum.finalize()), size: counted.size };
    Ok((blob, file))
}

/// Hashes and counts what goes through it.
struct Counted<W> {
    to: W,
    sum: Sha256,
    size: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.to.write(bytes)?;
        self.sum.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ecr::manifest::digest_of;

    fn layer(bytes: &[u8]) -> PlannedLayer {
        PlannedLayer { diff_id: digest_of(bytes), size: bytes.len() as u64 }
    }

    #[tokio::test]
    async fn the_same_layer_is_the_same_blob() {
        let folder = tempfile::tempdir().expect("a folder");
        let blobs = Blobs::open(folder.path().to_owned()).expect("open");
        let bytes: Vec<u8> = (0..900_000_u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        let mut seen = Vec::new();
        for _ in 0..2 {
            let packed = blobs.pack(&layer(&bytes), Box::new(io::Cursor::new(bytes.clone()))).await.expect("packed");
            let file = std::fs::read(packed.path()).expect("the file");
            assert_eq!((digest_of(&file), file.len() as u64), (packed.blob.digest.clone(), packed.blob.size));
            let mut back = Vec::new();
            flate2::read::GzDecoder::new(file.as_slice()).read_to_end(&mut back).expect("gzip");
            assert_eq!(back, bytes);
            seen.push(packed.blob.clone());
        }
        assert_eq!(seen[0], seen[1]);
        assert_eq!(std::fs::read_dir(folder.path().join("part")).expect("part").count(), 0, "nothing is left");
    }

    #[tokio::test]
    async fn base_layers_stay_compressed() {
        let folder = tempfile::tempdir().expect("a folder");
        let blobs = Blobs::open(folder.path().to_owned()).expect("open");
        let base = PlannedLayer { size: 0, ..layer(b"base") };
        let packed = blobs.pack(&base, Box::new(io::Cursor::new(b"base"))).await.expect("packed");
        let known = Known { blob: packed.blob.clone(), repository: "r".to_owned() };
        assert_eq!(blobs.known(&base.diff_id).await, None);
        blobs.keep(&base.diff_id, &packed.blob, "r").await.expect("kept");
        assert_eq!(blobs.known(&base.diff_id).await, Some(known.clone()));
        let again = Blobs::open(folder.path().to_owned()).expect("open again");
        assert_eq!(again.packed_base(&base, Some(&known)).await.expect("there").blob, packed.blob);
    }

    #[tokio::test]
    async fn other_bytes_than_planned_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let blobs = Blobs::open(folder.path().to_owned()).expect("open");
        for wrong in [&b"worm"[..], b"wor", b"words"] {
            let error = blobs.pack(&layer(b"word"), Box::new(io::Cursor::new(wrong))).await.err().expect("refused");
            assert!(!error.is_transient(), "{error}");
        }
    }
}
