//! `paas/python`: a Python from the build image, dependencies by uv, Django's static files.
//!
//! Three layers: the runtime, the app's virtual environment, and uv's downloads for the next build.

mod packages;
mod version;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use libcnb::build::{BuildContext, BuildResult, BuildResultBuilder};
use libcnb::data::layer_name;
use libcnb::detect::{DetectContext, DetectResult, DetectResultBuilder};
use libcnb::generic::{GenericMetadata, GenericPlatform};
use libcnb::layer_env::{LayerEnv, ModificationBehavior, Scope};
use libcnb::{Buildpack, Error};

use crate::failure::{self, Failure};
use crate::layer::{self, Kept, Use};
use crate::{concurrency, manifest, output, tool};
use packages::{Manager, Requirements};
use version::{Runtime, Wanted};

/// The buildpack.
pub(crate) struct Python;

impl Buildpack for Python {
    type Platform = GenericPlatform;
    type Metadata = GenericMetadata;
    type Error = Failure;

    fn detect(&self, context: DetectContext<Self>) -> libcnb::Result<DetectResult, Failure> {
        if packages::DETECTED.iter().any(|file| manifest::has(&context.app_dir, file)) {
            DetectResultBuilder::pass().build()
        } else {
            DetectResultBuilder::fail().build()
        }
    }

    fn build(&self, context: BuildContext<Self>) -> libcnb::Result<BuildResult, Failure> {
        output::step("Python app detected");
        let manager = Manager::find(&context.app_dir)?;
        let wanted = Wanted::read(&context.app_dir)?;
        output::step(wanted.explain());
        let (runtime, remark) = wanted.choose(&version::available(&Path::new(tool::HOME).join("python")))?;
        if let Some(remark) = remark {
            output::warning(remark);
        }
        let python = install_python(&context, &runtime)?;
        let venv = install_packages(&context, manager, &runtime, &python)?;
        collect_static(&context.app_dir, &python, &venv)?;
        BuildResultBuilder::new().build()
    }

    fn on_error(&self, error: Error<Failure>) {
        failure::print(error);
    }
}

/// Puts the runtime into a layer of its own; answers the layer's folder.
fn install_python(context: &BuildContext<Python>, runtime: &Runtime) -> libcnb::Result<PathBuf, Failure> {
    let packages = fs::read(runtime.folder.join("PACKAGES")).unwrap_or_default();
    let key = layer::key(&[runtime.full.as_bytes(), &packages]);
    let kept = Kept::open(context, layer_name!("python"), Use::BuildAndLaunch, &key)?;
    if kept.is_filled {
        output::step(format!("Using cached install of Python {}", runtime.full));
    } else {
        output::step(format!("Installing Python {}", runtime.full));
        for part in ["bin", "lib"] {
            layer::copy_tree(&runtime.folder.join(part), &kept.path().join(part))?;
        }
        kept.complete()?;
    }
    Ok(kept.path())
}

/// Fills the virtual environment; answers its folder.
fn install_packages(
    context: &BuildContext<Python>,
    manager: Manager,
    runtime: &Runtime,
    python: &Path,
) -> libcnb::Result<PathBuf, Failure> {
    let app = &context.app_dir;
    let uv_version = tool::answer(tool::command(uv()).arg("--version")).unwrap_or_default();
    let read = |file: &str| manifest::read(app, file).ok().flatten().unwrap_or_default();
    let (contents, is_known) = match manager {
        Manager::Requirements => {
            let requirements = Requirements::read(app);
            (requirements.contents, !requirements.has_local)
        }
        Manager::Uv => ([read("uv.lock"), read("pyproject.toml")].join(&b'\n'), true),
    };
    // Folders of the app may have changed without any of these files showing it.
    let build = if is_known { String::new() } else { std::env::var("SOURCE_VERSION").unwrap_or_default() };
    let packages = fs::read(runtime.folder.join("PACKAGES")).unwrap_or_default();
    let key = layer::key(&[&contents, runtime.full.as_bytes(), &packages, uv_version.as_bytes(), build.as_bytes()]);

    let cache = Kept::open(context, layer_name!("cache"), Use::Cache, "uv")?;
    let venv = Kept::open(context, layer_name!("venv"), Use::BuildAndLaunch, &key)?;
    if venv.is_filled && is_known {
        output::step("Using cached dependencies: they have not changed");
        return Ok(venv.path());
    }
    let mut make = uv_command(runtime, python, &venv.path(), &cache.path());
    make.args(["venv", "--quiet", "--no-project", "--allow-existing", "--python"]).arg(python.join("bin/python3"));
    make.arg(venv.path());
    tool::run(&mut make, |_| Failure::new("Unable to create a virtual environment", "Push again."))?;

    let mut install = uv_command(runtime, python, &venv.path(), &cache.path());
    let shown = match manager {
        Manager::Requirements => "uv pip install -r requirements.txt",
        Manager::Uv => "uv sync --locked --no-default-groups",
    };
    install.args(shown.split(' ').skip(1)).arg("--compile-bytecode").current_dir(app);
    output::step(format!("Installing dependencies using '{shown}'"));
    tool::run(&mut install, |_| install_failed(manager))?;

    concurrency::write_profile(&venv.path())?;
    venv.write_env(&environment(&venv.path(), app))?;
    venv.complete()?;
    cache.complete()?;
    Ok(venv.path())
}

/// What an app of Python finds in its environment.
fn environment(venv: &Path, app: &Path) -> LayerEnv {
    LayerEnv::new()
        .chainable_insert(Scope::All, ModificationBehavior::Override, "VIRTUAL_ENV", venv)
        .chainable_insert(Scope::All, ModificationBehavior::Default, "PYTHONUNBUFFERED", "1")
        .chainable_insert(Scope::All, ModificationBehavior::Default, "PYTHONPATH", app)
        .chainable_insert(Scope::Launch, ModificationBehavior::Default, "GUNICORN_CMD_ARGS", "--access-logfile -")
}

fn uv() -> PathBuf {
    Path::new(tool::HOME).join("bin/uv")
}

/// uv, set to use this Python, this environment, and nothing it would have to guess.
fn uv_command(runtime: &Runtime, python: &Path, venv: &Path, cache: &Path) -> Command {
    let mut uv = tool::command(uv());
    let include = runtime.folder.join("include");
    let headers = [include.join(format!("python{}", runtime.minor)), include];
    uv.env("VIRTUAL_ENV", venv)
        .env("UV_PROJECT_ENVIRONMENT", venv)
        .env("UV_CACHE_DIR", cache)
        .env("UV_PYTHON_DOWNLOADS", "never")
        .env("UV_NO_PROGRESS", "1")
        .env("NO_COLOR", "1")
        // A layer must not share files with the cache: what an app changes would be changed in both.
        .env("UV_LINK_MODE", "copy")
        // Byte code that does not depend on file times, which an image does not keep.
        .env("PYC_INVALIDATION_MODE", "UNCHECKED_HASH")
        .env("CPATH", std::env::join_paths(headers).unwrap_or_default())
        .env_remove("PYTHONHOME")
        .env_remove("PYTHONPATH");
    for (theirs, ours) in [("PIP_INDEX_URL", "UV_DEFAULT_INDEX"), ("PIP_EXTRA_INDEX_URL", "UV_INDEX")] {
        if let (Some(value), None) = (std::env::var_os(theirs), std::env::var_os(ours)) {
            uv.env(ours, value);
        }
    }
    tool::prepend_path(&mut uv, &[&venv.join("bin"), &python.join("bin")]);
    uv
}

fn install_failed(manager: Manager) -> Failure {
    match manager {
        Manager::Requirements => Failure::new(
            "Unable to install dependencies using requirements.txt",
            "See the log output above for more information.\n\n\
             Check that each package and version in requirements.txt exists and supports the\n\
             Python version above.",
        ),
        Manager::Uv => Failure::new(
            "Unable to install dependencies using uv",
            "See the log output above for more information.\n\n\
             If uv.lock is out of date, run `uv lock` and commit the result.",
        ),
    }
}

/// Runs Django's `collectstatic` as Heroku does.
fn collect_static(app: &Path, python: &Path, venv: &Path) -> Result<(), Failure> {
    let site = fs::read_dir(venv.join("lib")).into_iter().flatten().flatten();
    let has_django = site.into_iter().any(|entry| entry.path().join("site-packages/django").is_dir());
    if !has_django || !app.join("manage.py").is_file() {
        return Ok(());
    }
    if std::env::var_os("DISABLE_COLLECTSTATIC").is_some_and(|value| !value.is_empty() && value != "0") {
        output::step("Skipping Django collectstatic since the env var DISABLE_COLLECTSTATIC is set.");
        return Ok(());
    }
    let manage = |args: &[&str]| {
        let mut command = tool::command(venv.join("bin/python"));
        command.arg("manage.py").args(args).current_dir(app).env("VIRTUAL_ENV", venv).env("PYTHONUNBUFFERED", "1");
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        tool::prepend_path(&mut command, &[&venv.join("bin"), &python.join("bin")]);
        command
    };
    if tool::answer(&mut manage(&["help", "collectstatic"])).is_err_and(|e| e.contains("Unknown command")) {
        return Ok(());
    }
    output::step("$ python manage.py collectstatic --noinput");
    tool::run(&mut manage(&["collectstatic", "--noinput"]), |_| {
        Failure::new(
            "Unable to generate Django static files",
            "The 'python manage.py collectstatic --noinput' Django management command to generate\n\
             static files failed. See the traceback above for details.\n\n\
             You may need to update application code to resolve this error.\n\
             Or, you can disable collectstatic for this application:\n\n    $ paas config:set DISABLE_COLLECTSTATIC=1",
        )
    })
}
