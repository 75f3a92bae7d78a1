//! Layers that are kept from build to build for as long as what they were made from stays the same.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use libcnb::Buildpack;
use libcnb::build::BuildContext;
use libcnb::data::layer::LayerName;
use libcnb::layer::{CachedLayerDefinition, InvalidMetadataAction, LayerRef, LayerState, RestoredLayerAction};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::failure::Failure;

/// What a layer's contents were made from; another key means other contents.
#[derive(Debug, Serialize, Deserialize)]
struct Made {
    from: String,
}

/// Who may see a layer.
#[derive(Clone, Copy)]
pub(crate) enum Use {
    /// Later buildpacks and the app.
    BuildAndLaunch,
    /// The app.
    Launch,
    /// Only this buildpack, in the next build.
    Cache,
}

/// A layer with its folder, and whether its contents are there already.
pub(crate) struct Kept<B: Buildpack> {
    layer: LayerRef<B, (), ()>,
    key: String,
    /// Whether the contents of an earlier build are in it.
    pub(crate) is_filled: bool,
}

impl<B: Buildpack<Error = Failure>> Kept<B> {
    /// Opens a layer: filled when an earlier build made it from the same key, else empty.
    pub(crate) fn open(
        context: &BuildContext<B>,
        name: LayerName,
        used: Use,
        key: &str,
    ) -> libcnb::Result<Self, Failure> {
        let (build, launch) = match used {
            Use::BuildAndLaunch => (true, true),
            Use::Launch => (false, true),
            Use::Cache => (false, false),
        };
        let layer = context.cached_layer(
            name,
            CachedLayerDefinition {
                build,
                launch,
                invalid_metadata_action: &|_| InvalidMetadataAction::<Made>::DeleteLayer,
                restored_layer_action: &|made: &Made, _: &Path| {
                    if made.from == key { RestoredLayerAction::KeepLayer } else { RestoredLayerAction::DeleteLayer }
                },
            },
        )?;
        let is_filled = matches!(layer.state, LayerState::Restored { .. });
        Ok(Self { layer, key: key.to_owned(), is_filled })
    }

    /// The layer's folder.
    pub(crate) fn path(&self) -> PathBuf {
        self.layer.path()
    }

    /// Says that the contents are complete; without this the next build starts with an empty layer.
    pub(crate) fn complete(&self) -> libcnb::Result<(), Failure> {
        self.layer.write_metadata(Made { from: self.key.clone() })
    }

    /// Sets the environment that the layer brings.
    pub(crate) fn write_env(&self, env: &libcnb::layer_env::LayerEnv) -> libcnb::Result<(), Failure> {
        self.layer.write_env(env)
    }
}

/// A key made of parts; every part counts, and so does where one ends, and which version of us makes the layer.
pub(crate) fn key(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in [env!("CARGO_PKG_VERSION").as_bytes()].iter().chain(parts) {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    hex(&hash.finalize())
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Copies a folder with everything in it: files with their modes, links as links.
///
/// # Errors
/// With the path that could not be copied.
pub(crate) fn copy_tree(from: &Path, to: &Path) -> Result<(), Failure> {
    fn failed(path: &Path) -> impl FnOnce(io::Error) -> Failure + '_ {
        move |e| Failure::io("copying", path, &e)
    }
    fs::create_dir_all(to).map_err(failed(to))?;
    for entry in fs::read_dir(from).map_err(failed(from))? {
        let entry = entry.map_err(failed(from))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().map_err(failed(&source))?;
        if kind.is_dir() {
            copy_tree(&source, &target)?;
        } else if kind.is_symlink() {
            let link = fs::read_link(&source).map_err(failed(&source))?;
            std::os::unix::fs::symlink(link, &target).map_err(failed(&target))?;
        } else {
            fs::copy(&source, &target).map_err(failed(&source))?;
        }
    }
    Ok(())
}

/// Removes a file, a link or a folder; nothing there is fine.
///
/// # Errors
/// With the path that could not be removed.
pub(crate) fn remove(path: &Path) -> Result<(), Failure> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    };
    removed.map_err(|e| Failure::io("removing", path, &e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_tells_where_parts_end() {
        assert_ne!(key(&[b"ab", b"c"]), key(&[b"a", b"bc"]));
        assert_eq!(key(&[b"a"]), key(&[b"a"]));
        assert_eq!(hex(&[0, 255]), "00ff");
    }

    #[test]
    fn a_copy_keeps_links_and_modes() {
        use std::os::unix::fs::PermissionsExt as _;
        let work = tempfile::tempdir().expect("a folder");
        let from = work.path().join("from");
        fs::create_dir_all(from.join("bin")).expect("makes");
        fs::write(from.join("bin/tool"), "x").expect("writes");
        fs::set_permissions(from.join("bin/tool"), fs::Permissions::from_mode(0o755)).expect("sets");
        std::os::unix::fs::symlink("bin/tool", from.join("tool")).expect("links");
        let to = work.path().join("to");
        copy_tree(&from, &to).expect("copies");
        assert_eq!(fs::read_link(to.join("tool")).expect("a link"), Path::new("bin/tool"));
        assert_eq!(fs::metadata(to.join("bin/tool")).expect("is there").permissions().mode() & 0o777, 0o755);
        remove(&to).expect("removes");
        remove(&to).expect("is gone already");
    }
}
