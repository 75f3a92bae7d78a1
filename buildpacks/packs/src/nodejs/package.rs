//! What an app's `package.json` and lock file say about how it is installed, built and started.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::failure::Failure;
use crate::manifest;

/// The parts of `package.json` that a build looks at.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Package {
    engines: BTreeMap<String, Value>,
    scripts: BTreeMap<String, Value>,
    dependencies: BTreeMap<String, Value>,
    #[serde(rename = "devDependencies")]
    dev_dependencies: BTreeMap<String, Value>,
    #[serde(rename = "optionalDependencies")]
    optional_dependencies: BTreeMap<String, Value>,
    #[serde(rename = "peerDependencies")]
    peer_dependencies: BTreeMap<String, Value>,
    overrides: Value,
    workspaces: Value,
}

/// Scripts of the app itself that npm runs while it installs.
const INSTALL_SCRIPTS: [&str; 7] =
    ["heroku-prebuild", "preinstall", "install", "postinstall", "prepublish", "preprepare", "prepare"];

impl Package {
    /// Reads the app's package.json.
    ///
    /// # Errors
    /// When it is no text, no JSON, or a part of it has another shape than npm's.
    pub(super) fn read(app: &Path) -> Result<Self, Failure> {
        let text = manifest::read_text(app, "package.json")?.unwrap_or_default();
        serde_json::from_str(&text).map_err(|e| {
            Failure::new(
                "Unable to parse package.json",
                format!("{e}\n\nRun `npm pkg fix` or correct the file by hand, and commit it."),
            )
        })
    }

    /// The version range that `engines` asks for.
    pub(super) fn engine(&self, name: &str) -> Option<&str> {
        self.engines.get(name).and_then(Value::as_str).map(str::trim).filter(|range| !range.is_empty())
    }

    /// Whether a script is there.
    pub(super) fn has_script(&self, name: &str) -> bool {
        self.scripts.get(name).and_then(Value::as_str).is_some_and(|script| !script.trim().is_empty())
    }

    /// The script that builds the app, by Heroku's preference.
    pub(super) fn build_script(&self) -> Option<&'static str> {
        ["heroku-postbuild", "build"].into_iter().find(|name| self.has_script(name))
    }

    /// Whether there is anything that is only for development.
    pub(super) fn has_dev_dependencies(&self) -> bool {
        !self.dev_dependencies.is_empty()
    }

    /// Whether the app is several packages.
    pub(super) fn has_workspaces(&self) -> bool {
        !self.workspaces.is_null()
    }

    /// Whether what npm installs depends on more of the app than its package.json and lock file.
    pub(super) fn installs_from_the_app(&self, app: &Path) -> bool {
        let all = [&self.dependencies, &self.dev_dependencies, &self.optional_dependencies];
        let is_local = |spec: &Value| {
            let spec = spec.as_str().unwrap_or_default();
            ["file:", "link:", "workspace:", "./", "../", "/", "~/"].iter().any(|start| spec.starts_with(start))
        };
        self.has_workspaces()
            || INSTALL_SCRIPTS.iter().any(|name| self.has_script(name))
            || app.join("binding.gyp").exists()
            || all.into_iter().flat_map(BTreeMap::values).any(is_local)
    }

    /// What decides which packages are installed; a change of anything else needs no installation.
    pub(super) fn dependency_facts(&self) -> Vec<u8> {
        let facts = serde_json::json!([
            self.dependencies,
            self.dev_dependencies,
            self.optional_dependencies,
            self.peer_dependencies,
            self.overrides,
            self.engines,
        ]);
        facts.to_string().into_bytes()
    }
}

/// The lock file that npm goes by.
///
/// # Errors
/// When the app is locked by another package manager, or by two.
pub(super) fn lock_file(app: &Path) -> Result<Option<&'static str>, Failure> {
    let has = |file: &&str| manifest::has(app, file);
    let npm = ["npm-shrinkwrap.json", "package-lock.json"].into_iter().find(has);
    let other = ["yarn.lock", "pnpm-lock.yaml", "bun.lock", "bun.lockb"].into_iter().find(has);
    match (npm, other) {
        (lock, None) => Ok(lock),
        (Some(npm), Some(other)) => Err(Failure::new(
            format!("Two different lockfiles found: {npm} and {other}"),
            format!(
                "Both npm and {} have created lockfiles for this application. Unfortunately, we can't\n\
                 determine which one to use when installing dependencies.\n\n\
                 To use npm, delete the other one and commit:\n\n    $ git rm {other}\n    $ git commit -m \"Remove {other}\"",
                manager(other)
            ),
        )),
        (None, Some(other)) => Err(Failure::new(
            format!("{} isn't supported by this buildpack", manager(other)),
            format!(
                "This app is locked by {other}. Make a lockfile of npm from it, and commit that instead:\n\n\
                 \u{20}   $ npm install --package-lock-only\n    $ git rm {other}\n    $ git add package-lock.json\n\
                 \u{20}   $ git commit -m \"Use npm\""
            ),
        )),
    }
}

/// Whose lock file this is.
fn manager(lock: &str) -> &'static str {
    match lock {
        "yarn.lock" => "Yarn",
        "pnpm-lock.yaml" => "pnpm",
        _ => "Bun",
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn app(files: &[(&str, &str)]) -> tempfile::TempDir {
        let app = tempfile::tempdir().expect("a folder");
        for (file, text) in files {
            fs::write(app.path().join(file), text).expect("writes");
        }
        app
    }

    fn package(text: &str) -> Package {
        Package::read(app(&[("package.json", text)]).path()).expect("reads")
    }

    #[test]
    fn engines_and_scripts_are_found() {
        let seen = package(r#"{"engines": {"node": " 24.x "}, "scripts": {"build": "x", "heroku-postbuild": "y"}}"#);
        assert_eq!((seen.engine("node"), seen.engine("npm")), (Some("24.x"), None));
        assert_eq!(seen.build_script(), Some("heroku-postbuild"));
        assert!(!seen.has_script("start"));
    }

    #[test]
    fn a_broken_package_json_is_said() {
        let seen = Package::read(app(&[("package.json", "{\"name\": \"x\",}")]).path()).expect_err("is broken");
        assert_eq!(seen.what, "Unable to parse package.json");
        assert!(seen.advice.starts_with("trailing comma at line 1"));
    }

    #[test]
    fn scripts_that_run_at_installation_need_the_app() {
        let work = app(&[]);
        for text in [
            r#"{"scripts": {"postinstall": "x"}}"#,
            r#"{"workspaces": ["packages/*"]}"#,
            r#"{"dependencies": {"x": "file:../x"}}"#,
        ] {
            assert!(package(text).installs_from_the_app(work.path()), "{text}");
        }
        assert!(
            !package(r#"{"scripts": {"start": "x"}, "dependencies": {"x": "^1"}}"#).installs_from_the_app(work.path())
        );
    }

    #[test]
    fn only_dependencies_count_for_the_installation() {
        let with = |rest: &str| package(&format!(r#"{{"dependencies": {{"x": "1"}}{rest}}}"#)).dependency_facts();
        assert_eq!(with(""), with(r#", "version": "2", "scripts": {"start": "y"}"#));
        assert_ne!(with(""), with(r#", "overrides": {"z": "1"}"#));
    }

    #[test]
    fn lock_files_of_others_get_a_way_on() {
        assert_eq!(lock_file(app(&[]).path()), Ok(None));
        assert_eq!(lock_file(app(&[("package-lock.json", "")]).path()), Ok(Some("package-lock.json")));
        let yarn = lock_file(app(&[("yarn.lock", "")]).path()).expect_err("yarn");
        assert_eq!(
            yarn.to_string(),
            " !     Error: Yarn isn't supported by this buildpack.\n !\n \
             !     This app is locked by yarn.lock. Make a lockfile of npm from it, and commit that instead:\n !\n \
             !         $ npm install --package-lock-only\n \
             !         $ git rm yarn.lock\n \
             !         $ git add package-lock.json\n \
             !         $ git commit -m \"Use npm\"\n"
        );
        let both = lock_file(app(&[("yarn.lock", ""), ("package-lock.json", "")]).path()).expect_err("both");
        assert_eq!(both.what, "Two different lockfiles found: package-lock.json and yarn.lock");
    }
}
