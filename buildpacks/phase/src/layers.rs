//! The layers folder between two builds.
//!
//! It is a volume that stays, so a build finds what the one before left: also what a failed build left
//! half-done. What counts is the last good export: a layer whose fingerprint is not the one it had then is
//! dropped, and the TOML files are written anew from what the server kept. The result is what the upstream
//! restorer makes: cached layers with content and metadata, launch-only layers with metadata only.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::fingerprint;
use crate::wire::{BuildpackOutput, KnownLayer, LayerTypes};

/// Which of the known layers still have the content they had.
#[must_use]
pub fn unchanged(root: &Path, known: &[KnownLayer]) -> Vec<bool> {
    let same = |layer: &KnownLayer| {
        layer.types.cache
            && layer.fingerprint.is_some()
            && fingerprint::of(&root.join(&layer.folder).join(&layer.name)).ok() == layer.fingerprint
    };
    known.iter().map(same).collect()
}

/// Removes everything but the unchanged cached layers of the buildpacks in `folders`, and writes the
/// metadata of what may be reused.
///
/// # Errors
/// When the layers folder cannot be written.
pub fn restore(
    root: &Path,
    known: &[KnownLayer],
    unchanged: &[bool],
    stores: &BTreeMap<String, String>,
    folders: &[String],
) -> io::Result<()> {
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // Made by the detector a moment ago.
        if ["group.toml", "plan.toml", "analyzed.toml"].contains(&name.as_str()) {
            continue;
        }
        if !folders.contains(&name) || !entry.file_type()?.is_dir() {
            remove(&entry.path())?;
            continue;
        }
        for inner in fs::read_dir(entry.path())? {
            let inner = inner?;
            let layer = inner.file_name();
            let keep = known.iter().zip(unchanged).any(|(k, same)| {
                *same && k.folder == name && *k.name == *layer && inner.file_type().is_ok_and(|t| t.is_dir())
            });
            if !keep {
                remove(&inner.path())?;
            }
        }
    }
    for (layer, same) in known.iter().zip(unchanged) {
        let launch_only = layer.types.launch && !layer.types.build && !layer.types.cache;
        if folders.contains(&layer.folder) && (*same || launch_only) {
            let folder = root.join(&layer.folder);
            fs::create_dir_all(&folder)?;
            fs::write(folder.join(format!("{}.toml", layer.name)), &layer.metadata)?;
        }
    }
    for (folder, store) in stores.iter().filter(|(folder, _)| folders.contains(folder)) {
        fs::create_dir_all(root.join(folder))?;
        fs::write(root.join(folder).join("store.toml"), store)?;
    }
    Ok(())
}

/// What a buildpack left: its layers with their types, metadata and fingerprints.
///
/// # Errors
/// When a folder cannot be read, or a layer's TOML is none.
pub fn read(root: &Path, mut buildpack: BuildpackOutput) -> io::Result<BuildpackOutput> {
    let folder = root.join(&buildpack.folder);
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries.collect::<io::Result<Vec<_>>>()?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(buildpack),
        Err(e) => return Err(e),
    };
    for entry in entries {
        let file = entry.file_name().to_string_lossy().into_owned();
        let Some(name) = file.strip_suffix(".toml") else { continue };
        if !entry.file_type()?.is_file() || ["launch", "build"].contains(&name) {
            continue;
        }
        let text = fs::read_to_string(entry.path())?;
        if name == "store" {
            buildpack.store = Some(text);
            continue;
        }
        let (types, metadata) = split(&text).map_err(|e| io::Error::other(format!("{file}: {e}")))?;
        let content = folder.join(name);
        let contents = fs::symlink_metadata(&content).is_ok_and(|meta| meta.is_dir());
        let fingerprint = contents.then(|| fingerprint::of(&content).ok()).flatten();
        let folder = buildpack.folder.clone();
        buildpack.layers.push(KnownLayer { folder, name: name.to_owned(), types, metadata, contents, fingerprint });
    }
    buildpack.layers.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(buildpack)
}

/// A layer's TOML, taken apart: its types, and the rest.
fn split(text: &str) -> Result<(LayerTypes, String), toml::de::Error> {
    let mut table: toml::Table = text.parse()?;
    let types = match table.remove("types") {
        Some(types) => types.try_into()?,
        None => LayerTypes::default(),
    };
    Ok((types, table.to_string()))
}

/// Removes whatever is there, read-only folders too (Go's module cache is made of them).
///
/// # Errors
/// When it cannot be removed.
pub fn remove(path: &Path) -> io::Result<()> {
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    if !meta.is_dir() {
        return fs::remove_file(path);
    }
    if meta.permissions().mode() & 0o700 != 0o700 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    }
    for entry in fs::read_dir(path)? {
        remove(&entry?.path())?;
    }
    fs::remove_dir(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(name: &str, types: LayerTypes, fingerprint: Option<String>) -> KnownLayer {
        KnownLayer {
            folder: "test_bp".into(),
            name: name.into(),
            types,
            metadata: format!("[metadata]\nof = \"{name}\"\n"),
            contents: true,
            fingerprint,
        }
    }

    #[test]
    fn keeps_only_what_the_last_good_export_knew() {
        let root = std::env::temp_dir().join(format!("phase-layers-{}", std::process::id()));
        let bp = root.join("test_bp");
        for name in ["same", "touched", "unknown", "launch", "built"] {
            fs::create_dir_all(bp.join(name)).expect("a folder");
            fs::write(bp.join(name).join("f"), "1").expect("a file");
        }
        fs::create_dir_all(root.join("other_bp/x/ro")).expect("a folder");
        fs::write(root.join("other_bp/x/ro/f"), "1").expect("a file");
        fs::set_permissions(root.join("other_bp/x/ro"), fs::Permissions::from_mode(0o555)).expect("read-only");
        fs::create_dir_all(root.join("config")).expect("a folder");
        fs::write(bp.join("stray.toml"), "").expect("a file");

        let cached = LayerTypes { cache: true, launch: true, build: false };
        let launch = LayerTypes { launch: true, ..LayerTypes::default() };
        let built = LayerTypes { build: true, ..LayerTypes::default() };
        let print = |name: &str| fingerprint::of(&bp.join(name)).ok();
        let known = [
            layer("same", cached, print("same")),
            layer("touched", cached, print("touched")),
            layer("launch", launch, print("launch")),
            layer("built", built, print("built")),
        ];
        fs::write(bp.join("touched/g"), "2").expect("a file");

        let same = unchanged(&root, &known);
        assert_eq!(same, [true, false, false, false]);
        let stores = BTreeMap::from([("test_bp".to_owned(), "[metadata]\n".to_owned())]);
        restore(&root, &known, &same, &stores, &["test_bp".into(), "new_bp".into()]).expect("restored");

        let mut left: Vec<String> = fs::read_dir(&bp)
            .expect("a folder")
            .map(|e| e.expect("an entry").file_name().into_string().expect("text"))
            .collect();
        left.sort();
        assert_eq!(left, ["launch.toml", "same", "same.toml", "store.toml"]);
        assert!(!root.join("other_bp").exists());
        assert!(!root.join("config").exists());
        assert!(!fs::read_to_string(bp.join("same.toml")).expect("text").contains("types"));
        fs::remove_dir_all(&root).expect("gone");
    }

    #[test]
    fn types_are_taken_off() {
        let (types, rest) = split("[types]\nlaunch = true\n[metadata]\nv = \"1\"\n").expect("parses");
        assert!(types.launch && !types.cache);
        assert!(!rest.contains("types") && rest.contains("v = \"1\""));
        assert!(split("[types").is_err());
    }
}
