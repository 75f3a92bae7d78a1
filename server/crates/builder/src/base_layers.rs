//! The layers of run images as files, for registries that do not share the engine's store.
//!
//! An engine gives an image's layers only all together, so they are saved once and kept for every app, in
//! `<blobs>/base/<diff id>.tar`. How the archive names them differs from engine to engine; their digests do not, and
//! nothing but what has one of the wanted digests is kept.

use std::collections::BTreeSet;
use std::io::{self, BufReader, BufWriter};
use std::path::{Path, PathBuf};

use futures_util::TryStreamExt as _;
use paas_domain::Digest;
use paas_ports::PortError;
use tokio_util::io::{StreamReader, SyncIoBridge};

use crate::DockerBuilder;
use crate::builder_image::BaseImage;
use crate::engine::disk;
use crate::tarball::Hashing;

const DOING: &str = "taking the run image's layers out of the engine";
const BUFFER: usize = 256 * 1024;

impl DockerBuilder {
    /// One layer of a base image, taken out of the engine with all the others when it is not here yet.
    ///
    /// # Errors
    /// [`PortError::NotFound`] when the image has no such layer.
    pub(crate) async fn base_layer(&self, base: &BaseImage, diff_id: &Digest) -> Result<tokio::fs::File, PortError> {
        if !base.diff_ids.contains(diff_id) {
            return Err(PortError::NotFound(format!("layer {diff_id}")));
        }
        let folder = self.settings.blobs.join("base");
        let path = place(&folder, diff_id);
        let _alone = self.bases.lock().await;
        if let Ok(file) = tokio::fs::File::open(&path).await {
            return Ok(file);
        }
        let archive = self.docker.export_image(base.id.as_str()).map_err(io::Error::other);
        let archive = SyncIoBridge::new(StreamReader::new(Box::pin(archive)));
        let wanted: BTreeSet<Digest> = base.diff_ids.iter().cloned().collect();
        let unpack = move || unpack(archive, &folder, &wanted);
        tokio::task::spawn_blocking(unpack).await.map_err(|e| disk(DOING, e))?.map_err(|e| disk(DOING, e))?;
        tokio::fs::File::open(&path).await.map_err(|e| disk(DOING, e))
    }
}

fn place(folder: &Path, diff_id: &Digest) -> PathBuf {
    folder.join(format!("{}.tar", diff_id.hex()))
}

/// Keeps every file of the archive that is a wanted layer.
fn unpack(archive: impl io::Read, folder: &Path, wanted: &BTreeSet<Digest>) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let mut archive = tar::Archive::new(BufReader::with_capacity(BUFFER, archive));
    for entry in archive.entries()? {
        let mut entry = entry?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let part = tempfile::NamedTempFile::new_in(folder)?;
        let mut file = Hashing::new(BufWriter::with_capacity(BUFFER, part.as_file()), u64::MAX);
        io::copy(&mut entry, &mut file)?;
        let (digest, _, _) = file.finish()?;
        if wanted.contains(&digest) {
            // What has its name is whole, also after a power cut: the registry would refuse it for ever.
            part.as_file().sync_data()?;
            part.persist(place(folder, &digest))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tarball::digest_of;

    #[test]
    fn keeps_the_layers_and_nothing_else() {
        let mut archive = tar::Builder::new(Vec::new());
        for (name, bytes) in [("a/layer.tar", &b"one"[..]), ("manifest.json", b"[]"), ("blobs/sha256/x", b"two")] {
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, name, bytes).expect("an entry");
        }
        let archive = archive.into_inner().expect("an archive");
        let folder = tempfile::tempdir().expect("a folder");
        let wanted: BTreeSet<Digest> = [digest_of(b"one"), digest_of(b"two")].into();
        unpack(archive.as_slice(), folder.path(), &wanted).expect("unpacked");
        assert_eq!(std::fs::read(place(folder.path(), &digest_of(b"one"))).expect("one"), b"one");
        assert_eq!(std::fs::read(place(folder.path(), &digest_of(b"two"))).expect("two"), b"two");
        assert_eq!(std::fs::read_dir(folder.path()).expect("the folder").count(), 2);
    }
}
