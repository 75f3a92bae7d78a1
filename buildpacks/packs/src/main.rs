//! Every buildpack of ours, and the static file server, in one static program.
//!
//! The lifecycle calls a buildpack as `…/bin/detect` or `…/bin/build`; both are links to this file, and the
//! `buildpack.toml` beside them says which buildpack is meant. As `static-server` it serves an app's files.
//!
//! A buildpack here reads the app's own files, installs with the language's own tools, and prints what
//! Heroku's prints. It trusts nothing to be reachable but what those tools reach as they are set up.

mod concurrency;
mod failure;
mod go;
mod layer;
mod manifest;
mod nodejs;
mod output;
mod procfile;
mod python;
mod static_site;
mod tool;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Deserialize;

/// The part of `buildpack.toml` that says which buildpack this is.
#[derive(Deserialize)]
struct Descriptor {
    buildpack: Identity,
}

#[derive(Deserialize)]
struct Identity {
    id: String,
}

fn main() -> ExitCode {
    let called = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    if called.file_name().is_some_and(|name| name == static_site::SERVER) {
        return static_site::server::main();
    }
    match buildpack_id() {
        // Each of these ends the process itself.
        Ok(id) => match id.as_str() {
            "paas/python" => libcnb::libcnb_runtime(&python::Python),
            "paas/go" => libcnb::libcnb_runtime(&go::Go),
            "paas/nodejs" => libcnb::libcnb_runtime(&nodejs::NodeJs),
            "paas/static" => libcnb::libcnb_runtime(&static_site::StaticSite),
            "paas/procfile" => libcnb::libcnb_runtime(&procfile::ProcfilePack),
            other => eprintln!("There is no buildpack {other} in this program."),
        },
        Err(why) => eprintln!("{why}"),
    }
    ExitCode::FAILURE
}

/// The id in the `buildpack.toml` of the folder that the lifecycle names.
fn buildpack_id() -> Result<String, String> {
    let folder = std::env::var_os("CNB_BUILDPACK_DIR").ok_or("CNB_BUILDPACK_DIR is not set")?;
    let file = Path::new(&folder).join("buildpack.toml");
    let text = std::fs::read_to_string(&file).map_err(|e| format!("reading {}: {e}", file.display()))?;
    let descriptor: Descriptor = toml::from_str(&text).map_err(|e| format!("reading {}: {e}", file.display()))?;
    Ok(descriptor.buildpack.id)
}
