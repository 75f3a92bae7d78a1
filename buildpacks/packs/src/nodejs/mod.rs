//! `paas/nodejs`: Node and npm by `engines`, packages by npm, the app's own build script.
//!
//! An app that only needs its packages gets them in a layer that is kept for as long as its lock file stays the
//! same. One with a build script is installed in its own folder with everything, built, pruned, and what is left
//! of its packages moved to that layer. In both, `node_modules` is then a link into the layer.

mod engine;
mod package;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use libcnb::build::{BuildContext, BuildResult, BuildResultBuilder};
use libcnb::data::launch::LaunchBuilder;
use libcnb::data::layer_name;
use libcnb::detect::{DetectContext, DetectResult, DetectResultBuilder};
use libcnb::generic::{GenericMetadata, GenericPlatform};
use libcnb::layer_env::{LayerEnv, ModificationBehavior, Scope};
use libcnb::{Buildpack, Error};

use crate::failure::{self, Failure};
use crate::layer::{self, Kept, Use};
use crate::{concurrency, manifest, output, procfile, tool};
use engine::{BuildImage, Chosen};
use package::Package;

/// The buildpack.
pub(crate) struct NodeJs;

/// What the steps of one build share.
struct Build<'a> {
    context: &'a BuildContext<NodeJs>,
    package: Package,
    lock: Option<&'static str>,
    engine: PathBuf,
    node: Chosen,
    npm: Chosen,
    cache: PathBuf,
    image: BuildImage,
}

impl Buildpack for NodeJs {
    type Platform = GenericPlatform;
    type Metadata = GenericMetadata;
    type Error = Failure;

    fn detect(&self, context: DetectContext<Self>) -> libcnb::Result<DetectResult, Failure> {
        if manifest::has(&context.app_dir, "package.json") {
            DetectResultBuilder::pass().build()
        } else {
            DetectResultBuilder::fail().build()
        }
    }

    fn build(&self, context: BuildContext<Self>) -> libcnb::Result<BuildResult, Failure> {
        output::step("Node.js app detected");
        let app = &context.app_dir;
        let package = Package::read(app)?;
        let lock = package::lock_file(app)?;
        let cache = Kept::open(&context, layer_name!("cache"), Use::Cache, "npm")?;
        let (image, engine, node, npm) = install_engine(&context, &package)?;
        let build = Build { context: &context, package, lock, engine, node, npm, cache: cache.path(), image };

        let modules = app.join("node_modules");
        if modules.symlink_metadata().is_ok() {
            output::warning("node_modules is checked into source control; it is installed anew.");
            layer::remove(&modules)?;
        }
        if build.package.build_script().is_some() || build.package.installs_from_the_app(app) {
            build.install_and_build()?;
        } else {
            build.install_packages()?;
        }
        cache.complete()?;
        output::step("Build succeeded!");

        let has_start = build.package.has_script("start") || app.join("server.js").is_file();
        let launch =
            LaunchBuilder::new().processes(has_start.then(|| procfile::process("web", "npm start")).flatten()).build();
        if !has_start && !manifest::has(app, procfile::FILE) {
            output::warning(
                "This app may not specify any way to start a node process.\nAdd a `start` script or a Procfile.",
            );
        }
        BuildResultBuilder::new().launch(launch).build()
    }

    fn on_error(&self, error: Error<Failure>) {
        failure::print(error);
    }
}

/// Chooses Node and npm and puts them into a layer of their own; answers its folder and what is in it.
fn install_engine(
    context: &BuildContext<NodeJs>,
    package: &Package,
) -> libcnb::Result<(BuildImage, PathBuf, Chosen, Chosen), Failure> {
    let image = BuildImage::new();
    let (node_range, npm_range) = (package.engine("node"), package.engine("npm"));
    output::step("Installing binaries");
    output::detail(format!("engines.node (package.json):   {}", node_range.unwrap_or("unspecified")));
    output::detail(format!("engines.npm (package.json):    {}", npm_range.unwrap_or("unspecified (use default)")));
    output::detail("");
    output::detail(format!("Resolving node version {}...", node_range.unwrap_or("(latest LTS)")));
    let (node_image, npm_image) = (image.node_version(), image.npm_version());
    let asked = [node_range.unwrap_or_default(), npm_range.unwrap_or_default(), &node_image, &npm_image];
    // By what is asked for, so that an unchanged app needs no look at the registry. The layer's name sorts before
    // the packages': what changes least comes first in an image.
    let kept = Kept::open(context, layer_name!("engine"), Use::BuildAndLaunch, &layer::key(&asked.map(str::as_bytes)))?;
    let known = if kept.is_filled { engine::in_layer(&kept.path(), &image) } else { None };
    let (node, npm) = match known {
        Some(known) => known,
        None => {
            let node = engine::choose_node(&image, node_range, &node_image)?;
            let npm = engine::choose_npm(&image, npm_range, &npm_image, &node.version)?;
            (node, npm)
        }
    };
    if kept.is_filled {
        output::detail(format!("Using cached node {} and npm {}", node.version, npm.version));
    } else {
        output::detail(format!("Downloading and installing node {}...", node.version));
        output::detail(format!("Using npm version: {}", npm.version));
        image.fill(&kept.path(), &node, &npm)?;
        concurrency::write_profile(&kept.path())?;
        kept.write_env(
            &LayerEnv::new()
                .chainable_insert(Scope::All, ModificationBehavior::Default, "NODE_ENV", "production")
                .chainable_insert(Scope::Launch, ModificationBehavior::Default, "NPM_CONFIG_UPDATE_NOTIFIER", "false")
                // For packages that would look for the app above their own, real folder.
                .chainable_insert(Scope::Launch, ModificationBehavior::Default, "APP_ROOT_PATH", &context.app_dir),
        )?;
        kept.complete()?;
    }
    Ok((image, kept.path(), node, npm))
}

impl Build<'_> {
    fn app(&self) -> &Path {
        &self.context.app_dir
    }

    /// The app's npm, on the app's Node.
    fn npm(&self, args: &[&str], folder: &Path) -> Command {
        let mut npm = tool::command(self.engine.join("bin/npm"));
        engine::quiet(&mut npm);
        npm.args(args).current_dir(folder).env("NPM_CONFIG_CACHE", &self.cache);
        if std::env::var_os("NODE_ENV").is_none() {
            npm.env("NODE_ENV", "production");
        }
        if self.node.is_bundled {
            npm.env("NPM_CONFIG_NODEDIR", self.image.headers());
        }
        tool::prepend_path(&mut npm, &[&self.app().join("node_modules/.bin"), &self.engine.join("bin")]);
        npm
    }

    /// What decides which packages are installed.
    fn key(&self) -> String {
        let read = |file: &str| manifest::read(self.app(), file).ok().flatten().unwrap_or_default();
        layer::key(&[
            &self.package.dependency_facts(),
            &self.lock.map(read).unwrap_or_default(),
            &read(".npmrc"),
            self.node.version.as_bytes(),
            self.npm.version.as_bytes(),
            &[u8::from(keeps_dev_dependencies())],
        ])
    }

    /// npm's words for an installation, and how they are shown.
    fn installation(&self, with_dev: bool) -> [&'static str; 2] {
        [if self.lock.is_some() { "ci" } else { "install" }, if with_dev { "--include=dev" } else { "--omit=dev" }]
    }

    fn announce_installation(&self) {
        output::step("Installing dependencies");
        match self.lock {
            Some(lock) => output::detail(format!("Installing node modules (package.json + {lock})")),
            None => {
                output::detail("Installing node modules (package.json)");
                output::warning("There is no package-lock.json: each build may get other versions.");
            }
        }
    }

    /// Installs what runs in production into a layer, from package.json and the lock file alone.
    fn install_packages(&self) -> libcnb::Result<(), Failure> {
        let kept = Kept::open(self.context, layer_name!("modules"), Use::Launch, &self.key())?;
        if kept.is_filled {
            output::step("Restoring cache");
            output::detail("- node_modules: dependencies have not changed");
        } else {
            self.announce_installation();
            let folder = kept.path();
            let files = ["package.json", ".npmrc"].into_iter().chain(self.lock);
            let copies: Vec<PathBuf> =
                files.filter(|file| self.app().join(file).is_file()).map(PathBuf::from).collect();
            for file in &copies {
                let from = self.app().join(file);
                fs::copy(&from, folder.join(file)).map_err(|e| Failure::io("copying", &from, &e))?;
            }
            tool::run(&mut self.npm(&self.installation(keeps_dev_dependencies()), &folder), install_failed)?;
            for file in copies.iter().map(PathBuf::as_path).chain([Path::new("package-lock.json")]) {
                layer::remove(&folder.join(file))?;
            }
            self.finish_modules(&folder)?;
            kept.write_env(&modules_environment(&folder))?;
            kept.complete()?;
        }
        Ok(link(&kept.path().join("node_modules"), &self.app().join("node_modules"))?)
    }

    /// Installs everything in the app's folder, runs its build, and moves what production needs to a layer.
    fn install_and_build(&self) -> libcnb::Result<(), Failure> {
        let app = self.app();
        let modules = app.join("node_modules");
        let is_known = !self.package.installs_from_the_app(app);
        let kept = Kept::open(self.context, layer_name!("build-modules"), Use::Cache, &self.key())?;
        let stored = kept.path().join("node_modules");
        self.run_script("heroku-prebuild", "Prebuild")?;
        if is_known && kept.is_filled {
            output::step("Restoring cache");
            output::detail("- node_modules: dependencies have not changed");
            if stored.is_dir() {
                layer::copy_tree(&stored, &modules)?;
            }
        } else {
            self.announce_installation();
            tool::run(&mut self.npm(&self.installation(true), app), install_failed)?;
            if is_known && modules.is_dir() {
                layer::remove(&stored)?;
                layer::copy_tree(&modules, &stored)?;
            }
        }
        kept.complete()?;

        if let Some(script) = self.package.build_script() {
            self.run_script(script, "Build")?;
        }
        if self.package.has_dev_dependencies() && !keeps_dev_dependencies() {
            output::step("Pruning devDependencies");
            let failed = |_: &[String]| Failure::new("Unable to prune devDependencies", "See the log output above.");
            tool::run(&mut self.npm(&["prune", "--omit=dev", "--ignore-scripts"], app), failed)?;
        }
        self.run_script("heroku-cleanup", "Cleanup")?;

        // Packages of a workspace are links into the app's folder, and stay there.
        if self.package.has_workspaces() || !modules.is_dir() {
            return Ok(());
        }
        let build = std::env::var("SOURCE_VERSION").unwrap_or_default();
        let production = Kept::open(self.context, layer_name!("modules"), Use::Launch, &format!("built {build}"))?;
        let target = production.path().join("node_modules");
        layer::remove(&target)?;
        layer::copy_tree(&modules, &target)?;
        layer::remove(&modules)?;
        self.finish_modules(&production.path())?;
        production.write_env(&modules_environment(&production.path()))?;
        production.complete()?;
        Ok(link(&target, &modules)?)
    }

    /// Leaves nothing in installed packages that another installation of the same would not have.
    fn finish_modules(&self, folder: &Path) -> Result<(), Failure> {
        let modules = folder.join("node_modules");
        fs::create_dir_all(&modules).map_err(|e| Failure::io("making", &modules, &e))?;
        layer::remove(&modules.join(".cache"))
    }

    /// Runs one of the app's scripts, if it is there.
    fn run_script(&self, script: &str, step: &str) -> Result<(), Failure> {
        if !self.package.has_script(script) {
            return Ok(());
        }
        output::step(step);
        output::detail(format!("Running {script}"));
        tool::run(&mut self.npm(&["run", script], self.app()), |_| {
            Failure::new(
                format!("Unable to run the script {script}"),
                format!(
                    "See the log output above for more information. The same on your computer:\n\n    npm run {script}"
                ),
            )
        })
    }
}

/// Whether the app's author wants packages for development in production too.
fn keeps_dev_dependencies() -> bool {
    std::env::var_os("NPM_CONFIG_PRODUCTION").is_some_and(|value| value == "false")
}

fn modules_environment(folder: &Path) -> LayerEnv {
    LayerEnv::new().chainable_insert(Scope::Launch, ModificationBehavior::Delimiter, "PATH", ":").chainable_insert(
        Scope::Launch,
        ModificationBehavior::Prepend,
        "PATH",
        folder.join("node_modules/.bin"),
    )
}

fn link(target: &Path, link: &Path) -> Result<(), Failure> {
    std::os::unix::fs::symlink(target, link).map_err(|e| Failure::io("linking", link, &e))
}

fn install_failed(last: &[String]) -> Failure {
    let said = |text: &str| last.iter().any(|line| line.contains(text));
    let advice = if said("can only install packages when your package.json and") || said("npm ci") && said("in sync") {
        "package.json and the lockfile don't fit together. Bring the lockfile up to date, and commit it:\n\n\
         \u{20}   $ npm install\n    $ git add package-lock.json\n    $ git commit -m \"Update package-lock.json\""
    } else {
        "See the log output above for more information.\n\n\
         Check that each package and version in package.json exists, and that `npm ci` works\n\
         on your computer in a fresh clone."
    };
    Failure::new("Unable to install dependencies using npm", advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_file_out_of_date_is_named() {
        let line =
            "npm error `npm ci` can only install packages when your package.json and package-lock.json are in sync.";
        assert!(install_failed(&[line.to_owned()]).advice.starts_with("package.json and the lockfile don't fit"));
        assert!(install_failed(&[]).advice.starts_with("See the log output above"));
    }
}
