//! The helper's report: checked before anything is done with it, and what is read out of it for people.

use paas_phase::wire::{BuildpackOutput, Manifest};
use paas_ports::PortError;

/// More buildpacks or layers than any build has.
const MOST_BUILDPACKS: usize = 200;
const MOST_LAYERS: usize = 100;
/// Names of layers that hold a language's runtime.
const RUNTIMES: [&str; 12] =
    ["runtime", "python", "node", "nodejs", "dist", "go", "ruby", "php", "jdk", "jre", "jvm", "debs"];

/// Refuses names that could lead anywhere but into `/layers`.
pub(crate) fn check(manifest: &Manifest) -> Result<(), PortError> {
    let bad = |why: &str| PortError::permanent("reading what the build left", why);
    let name = |text: &str| {
        let plain = !text.is_empty() && text.len() <= 255 && !text.contains(['/', '\0', '\n']);
        plain && text != "." && text != ".."
    };
    if manifest.buildpacks.len() > MOST_BUILDPACKS {
        return Err(bad("too many buildpacks"));
    }
    for buildpack in &manifest.buildpacks {
        if !name(&buildpack.folder) || buildpack.folder != buildpack.id.replace('/', "_") {
            return Err(bad("a buildpack's folder is not its id"));
        }
        if buildpack.layers.len() > MOST_LAYERS {
            return Err(bad("too many layers"));
        }
        if buildpack.layers.iter().any(|layer| !name(&layer.name) || layer.folder != buildpack.folder) {
            return Err(bad("a layer's name is none"));
        }
    }
    Ok(())
}

/// Where a launch layer goes: runtimes first, then everything else.
pub(crate) fn rank(layer: &str) -> u8 {
    let name = layer.to_ascii_lowercase();
    if RUNTIMES.contains(&name.as_str()) || name.ends_with("-runtime") { 1 } else { 2 }
}

/// What Heroku shows as an app's language: the name of the first buildpack that is one.
pub(crate) fn language(buildpacks: &[BuildpackOutput]) -> Option<String> {
    let helper = |b: &&BuildpackOutput| ["procfile", "deb-packages"].iter().any(|h| b.id.ends_with(h));
    let main = buildpacks.iter().find(|b| !helper(b)).or(buildpacks.first())?;
    let name = main.name.clone().unwrap_or_else(|| main.id.clone());
    let name: String = name.chars().filter(|c| !c.is_control()).take(60).collect();
    let name = name.strip_prefix("Heroku ").unwrap_or(&name);
    Some(name.strip_suffix(" Buildpack").unwrap_or(name).trim().to_owned())
}

/// Heroku's way to write a slug's size.
pub(crate) fn megabytes(bytes: u64) -> String {
    #[allow(clippy::cast_precision_loss)] // One decimal is shown.
    let of = |unit: u64| bytes as f64 / unit as f64;
    match bytes {
        0..0x10_0000 => format!("{:.1}K", of(1024)),
        0x10_0000..0x4000_0000 => format!("{:.1}M", of(1024 * 1024)),
        _ => format!("{:.1}G", of(1024 * 1024 * 1024)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use paas_phase::wire::KnownLayer;

    fn manifest(id: &str, folder: &str, layer: &str) -> Manifest {
        let layer = KnownLayer {
            folder: folder.to_owned(),
            name: layer.to_owned(),
            types: Default::default(),
            metadata: String::new(),
            contents: true,
            fingerprint: None,
        };
        let buildpack =
            BuildpackOutput { id: id.into(), folder: folder.into(), layers: vec![layer], ..Default::default() };
        Manifest { buildpacks: vec![buildpack], ..Default::default() }
    }

    #[test]
    fn names_stay_in_their_folder() {
        assert!(check(&manifest("a/b", "a_b", "dist")).is_ok());
        for (id, folder, layer) in [
            ("a/b", "a/b", "x"),
            ("..", "..", "x"),
            ("a", "a", "../x"),
            ("a", "b", "x"),
            ("a", "a", ".."),
            ("", "", "x"),
        ] {
            assert!(check(&manifest(id, folder, layer)).is_err(), "{id} {folder} {layer}");
        }
    }

    #[test]
    fn sizes_are_herokus() {
        assert_eq!(megabytes(54_630_000), "52.1M");
        assert_eq!(megabytes(1536), "1.5K");
        assert_eq!(megabytes(3 << 30), "3.0G");
    }

    #[test]
    fn the_language_is_the_first_that_is_one() {
        let named = |id: &str, name: &str| BuildpackOutput {
            id: id.into(),
            name: Some(name.into()),
            ..BuildpackOutput::default()
        };
        let found = language(&[
            named("heroku/deb-packages", "Debs"),
            named("heroku/python", "Heroku Python Buildpack"),
            named("heroku/procfile", "Procfile"),
        ]);
        assert_eq!(found.as_deref(), Some("Python"));
        assert_eq!(language(&[named("paas/procfile", "Procfile")]).as_deref(), Some("Procfile"));
    }
}
