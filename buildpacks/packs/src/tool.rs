//! Runs a language's own tools: where they find certificates, and how their output is shown.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::failure::Failure;
use crate::output;

/// Where the build image keeps what it hands to apps.
pub(crate) const HOME: &str = "/opt/paas";
/// Where the platform mounts a CA bundle of the installation's own.
const MOUNTED_BUNDLE: &str = "/paas/ca-bundle.pem";
/// How many of a failed command's last lines its failure may be told from; npm's help alone has a hundred.
const KEPT_LINES: usize = 300;
/// Every name under which the tools look for a CA bundle.
const BUNDLE_NAMES: [&str; 7] = [
    "SSL_CERT_FILE",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "NODE_EXTRA_CA_CERTS",
    "NPM_CONFIG_CAFILE",
];

/// A command with the build's environment and, if there is one, the installation's CA bundle under every name.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    for (name, value) in bundle_variables(named, Path::new(MOUNTED_BUNDLE).is_file()) {
        // A name the app's author has set is theirs.
        if std::env::var_os(name).is_none() {
            command.env(name, value);
        }
    }
    command
}

/// The variables that make every tool use the bundle: the named one, else the mounted one.
fn bundle_variables(named: Option<PathBuf>, mounted: bool) -> Vec<(&'static str, PathBuf)> {
    let bundle = named.or_else(|| mounted.then(|| PathBuf::from(MOUNTED_BUNDLE)));
    bundle.map(|bundle| BUNDLE_NAMES.map(|name| (name, bundle.clone())).to_vec()).unwrap_or_default()
}

/// Puts a folder first in the command's search path.
pub(crate) fn prepend_path(command: &mut Command, folders: &[&Path]) {
    let rest = std::env::var_os("PATH").unwrap_or_default();
    let folders = folders.iter().map(|folder| folder.to_path_buf()).chain(std::env::split_paths(&rest));
    if let Ok(path) = std::env::join_paths(folders) {
        command.env("PATH", path);
    }
}

/// Runs a command and shows its output below the current step, as it comes.
///
/// # Errors
/// `failed` when it ends with another status than 0.
pub(crate) fn run(command: &mut Command, failed: impl FnOnce(&[String]) -> Failure) -> Result<(), Failure> {
    let program = command.get_program().to_string_lossy().into_owned();
    let cannot = |e: std::io::Error| Failure::new(format!("starting {program}: {e}"), "Push again.");
    let (reader, writer) = std::io::pipe().map_err(cannot)?;
    let errors = writer.try_clone().map_err(cannot)?;
    let mut child = command.stdin(Stdio::null()).stdout(writer).stderr(errors).spawn().map_err(cannot)?;
    // Ours holds the other end open as long as it exists.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut last = Vec::new();
    for line in BufReader::new(reader).split(b'\n') {
        let line = line.map_err(cannot)?;
        let line = String::from_utf8_lossy(&line);
        output::detail(line.trim_end_matches('\r'));
        if last.len() == KEPT_LINES {
            last.remove(0);
        }
        last.push(line.into_owned());
    }
    if child.wait().map_err(cannot)?.success() { Ok(()) } else { Err(failed(&last)) }
}

/// What a command prints to its standard output.
///
/// # Errors
/// When it cannot start or ends with another status than 0: its error output.
pub(crate) fn answer(command: &mut Command) -> Result<String, String> {
    let seen = command.stdin(Stdio::null()).output().map_err(|e| e.to_string())?;
    if seen.status.success() {
        return Ok(String::from_utf8_lossy(&seen.stdout).trim().to_owned());
    }
    let errors = String::from_utf8_lossy(&seen.stderr);
    Err(if errors.trim().is_empty() { "it gave no reason".to_owned() } else { errors.trim().to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bundle_goes_to_every_tool() {
        let seen = bundle_variables(Some("/x.pem".into()), true);
        assert_eq!(seen.len(), BUNDLE_NAMES.len());
        assert!(seen.iter().all(|(_, path)| path == Path::new("/x.pem")));
        assert_eq!(bundle_variables(None, true)[0].1, Path::new(MOUNTED_BUNDLE));
        assert!(bundle_variables(None, false).is_empty());
    }

    #[test]
    fn a_failed_command_hands_its_last_lines_on() {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo one; echo two >&2; exit 3"]);
        let seen = run(&mut command, |last| Failure::new(last.join("+"), "x"));
        assert_eq!(seen, Err(Failure::new("one+two", "x")));
    }
}
