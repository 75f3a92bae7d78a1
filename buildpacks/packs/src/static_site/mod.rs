//! `paas/static`: a folder of files, served by our own small server.
//!
//! The build only finds the folder and hands the server to the app; nothing is compiled.

pub(crate) mod config;
pub(crate) mod files;
pub(crate) mod server;

use std::fs;
use std::path::Path;

use libcnb::build::{BuildContext, BuildResult, BuildResultBuilder};
use libcnb::data::launch::LaunchBuilder;
use libcnb::data::layer_name;
use libcnb::detect::{DetectContext, DetectResult, DetectResultBuilder};
use libcnb::generic::{GenericMetadata, GenericPlatform};
use libcnb::{Buildpack, Error};

use crate::failure::{self, Failure};
use crate::layer::{Kept, Use};
use crate::{layer, manifest, output, procfile};
use config::Config;

/// The name under which this program is the server.
pub(crate) const SERVER: &str = "static-server";

/// The buildpack.
pub(crate) struct StaticSite;

impl Buildpack for StaticSite {
    type Platform = GenericPlatform;
    type Metadata = GenericMetadata;
    type Error = Failure;

    fn detect(&self, context: DetectContext<Self>) -> libcnb::Result<DetectResult, Failure> {
        if is_static_site(&context.app_dir) {
            DetectResultBuilder::pass().build()
        } else {
            DetectResultBuilder::fail().build()
        }
    }

    fn build(&self, context: BuildContext<Self>) -> libcnb::Result<BuildResult, Failure> {
        output::step("Static HTML app detected");
        let config = Config::read(&context.app_dir)?;
        let root = config.root_in(&context.app_dir);
        if !root.is_dir() {
            return Err(Failure::new(
                format!("There is no folder {} to serve", config.root(&context.app_dir).display()),
                "`root` in static.json names the folder that holds your pages. If a build step makes it,\n\
                 name that step `build` in package.json.",
            )
            .into());
        }
        output::detail(format!("Serving {}", config.root(&context.app_dir).display()));

        let program = std::env::current_exe().map_err(|e| Failure::io("finding", Path::new(SERVER), &e))?;
        let bytes = fs::read(&program).map_err(|e| Failure::io("reading", &program, &e))?;
        let kept = Kept::open(&context, layer_name!("server"), Use::Launch, &layer::key(&[&bytes]))?;
        if !kept.is_filled {
            let folder = kept.path().join("bin");
            fs::create_dir_all(&folder).map_err(|e| Failure::io("making", &folder, &e))?;
            fs::copy(&program, folder.join(SERVER)).map_err(|e| Failure::io("writing", &folder, &e))?;
            kept.complete()?;
        }
        let launch = LaunchBuilder::new().processes(procfile::process("web", SERVER)).build();
        BuildResultBuilder::new().launch(launch).build()
    }

    fn on_error(&self, error: Error<Failure>) {
        failure::print(error);
    }
}

/// Whether the app is a static site. One that also has a package.json must say so with a static.json.
fn is_static_site(app: &Path) -> bool {
    if manifest::has(app, config::FILE) {
        return true;
    }
    !manifest::has(app, "package.json") && config::guess_root(app).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_a_site_but_a_package_only_with_static_json() {
        let app = tempfile::tempdir().expect("a folder");
        assert!(!is_static_site(app.path()));
        fs::create_dir(app.path().join("public")).expect("makes");
        fs::write(app.path().join("public/index.html"), "hi").expect("writes");
        assert!(is_static_site(app.path()));
        fs::write(app.path().join("package.json"), "{}").expect("writes");
        assert!(!is_static_site(app.path()));
        fs::write(app.path().join("static.json"), "{}").expect("writes");
        assert!(is_static_site(app.path()));
    }
}
