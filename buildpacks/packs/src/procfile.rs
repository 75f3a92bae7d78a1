//! `paas/procfile`: the process types that an app's Procfile declares.

use libcnb::build::{BuildContext, BuildResult, BuildResultBuilder};
use libcnb::data::launch::{LaunchBuilder, Process, ProcessBuilder, ProcessType};
use libcnb::detect::{DetectContext, DetectResult, DetectResultBuilder};
use libcnb::generic::{GenericMetadata, GenericPlatform};
use libcnb::{Buildpack, Error};
use paas_domain::Procfile;

use crate::failure::{self, Failure};
use crate::manifest;

/// The file's name.
pub(crate) const FILE: &str = "Procfile";

/// The buildpack.
pub(crate) struct ProcfilePack;

impl Buildpack for ProcfilePack {
    type Platform = GenericPlatform;
    type Metadata = GenericMetadata;
    type Error = Failure;

    fn detect(&self, context: DetectContext<Self>) -> libcnb::Result<DetectResult, Failure> {
        if manifest::has(&context.app_dir, FILE) {
            DetectResultBuilder::pass().build()
        } else {
            DetectResultBuilder::fail().build()
        }
    }

    fn build(&self, context: BuildContext<Self>) -> libcnb::Result<BuildResult, Failure> {
        let bytes = manifest::read(&context.app_dir, FILE)?.unwrap_or_default();
        let launch = LaunchBuilder::new().processes(processes(&bytes)?).build();
        BuildResultBuilder::new().launch(launch).build()
    }

    fn on_error(&self, error: Error<Failure>) {
        failure::print(error);
    }
}

/// The file's process types. Names the standard cannot carry are left to the platform, which reads the file too.
fn processes(bytes: &[u8]) -> Result<Vec<Process>, Failure> {
    let advice = "Each line of a Procfile is a process type, a colon and a command:\n\n    web: command";
    let procfile = Procfile::parse(bytes).map_err(|e| Failure::new(e.to_string(), advice))?;
    let types = procfile.iter().filter_map(|(name, command)| process(&name.to_string(), command));
    Ok(types.collect())
}

/// A process type that starts by a command line; `None` when the standard allows no such name.
pub(crate) fn process(name: &str, command_line: &str) -> Option<Process> {
    let name: ProcessType = name.parse().ok()?;
    let is_web = name.as_str() == "web";
    Some(ProcessBuilder::new(name, ["bash", "-c", command_line]).default(is_web).build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_becomes_a_shell_command() {
        let seen = processes(b"web: serve --port $PORT\nworker: work | tee log\n").expect("parses");
        let seen: Vec<(&str, &[String], bool)> =
            seen.iter().map(|p| (p.r#type.as_str(), p.command.as_slice(), p.default)).collect();
        let words = |line: &str| vec!["bash".to_owned(), "-c".to_owned(), line.to_owned()];
        assert_eq!(
            seen,
            [
                ("web", words("serve --port $PORT").as_slice(), true),
                ("worker", words("work | tee log").as_slice(), false)
            ]
        );
    }

    #[test]
    fn a_line_without_a_command_is_named() {
        let seen = processes(b"web:\n").expect_err("has no command");
        assert_eq!(seen.what, "Procfile line 1: no command for process type web");
    }
}
