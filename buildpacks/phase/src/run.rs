//! The order of a build: detect, restore, build, report.

use std::fs;
use std::io::{self, Read as _};
use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde::Deserialize;

use crate::output::{self, Lines};
use crate::wire::{
    BuildpackOutput, EXIT_BROKEN, EXIT_BUILDPACK_FAILED, EXIT_BUILT, EXIT_NOT_DETECTED, MANIFEST, Manifest, REQUEST,
    Request,
};
use crate::{layers, wire};

const APP: &str = "/workspace";
const LAYERS: &str = "/layers";
const PLATFORM: &str = "/platform";
/// How long a process that a buildpack left behind may still write after the lifecycle has ended.
const AFTERGLOW: Duration = Duration::from_millis(500);
/// More than any detector says.
const MOST_DETECT_BYTES: u64 = 1024 * 1024;

/// Runs the build that `/paas/request.json` describes and says how it ended by the exit status.
#[must_use]
pub fn main() -> ExitCode {
    match run() {
        Ok(status) => ExitCode::from(status),
        Err(e) => {
            println!(" !     The build could not be run: {e}");
            ExitCode::from(EXIT_BROKEN)
        }
    }
}

fn run() -> io::Result<u8> {
    let request: Request = serde_json::from_slice(&fs::read(REQUEST)?)?;
    let root = Path::new(LAYERS);
    fs::write(root.join("analyzed.toml"), &request.analyzed)?;

    let detector = lifecycle("detector").spawn_piped()?;
    // The detector reads nothing of the layers, so they are looked at meanwhile.
    let unchanged = layers::unchanged(root, &request.layers);
    let (status, report) = detector.finish_into_text()?;
    match status.code() {
        Some(0) => {}
        Some(20) => return Ok(EXIT_NOT_DETECTED),
        Some(21) => {
            for line in output::detect_errors(&report) {
                println!("{line}");
            }
            return failed(Some(1));
        }
        _ => {
            print!("{report}");
            return Ok(EXIT_BROKEN);
        }
    }

    let group: Group = toml::from_str(&fs::read_to_string(root.join("group.toml"))?).map_err(io::Error::other)?;
    let folders: Vec<String> = group.group.iter().map(|b| b.id.replace('/', "_")).collect();
    layers::restore(root, &request.layers, &unchanged, &request.stores, &folders)?;

    let builder = lifecycle("builder").spawn_piped()?;
    let (status, failure) = builder.finish_into_stdout(request.output_limit)?;
    if !status.success() {
        let failure = failure.unwrap_or_default();
        let buildpack_status = output::exit_status(&failure);
        if buildpack_status.is_none() && !failure.is_empty() {
            println!(" !     {failure}");
        }
        return failed(buildpack_status);
    }

    let read = |(bp, folder): (&GroupEntry, String)| layers::read(root, bp.output(folder));
    let buildpacks = group.group.iter().zip(folders).map(read).collect::<io::Result<_>>()?;
    let metadata = fs::read_to_string(root.join("config/metadata.toml"))?;
    report_back(&Manifest { buildpacks, metadata, failed_status: None })?;
    Ok(EXIT_BUILT)
}

fn failed(status: Option<i32>) -> io::Result<u8> {
    report_back(&Manifest { failed_status: status, ..Manifest::default() })?;
    Ok(EXIT_BUILDPACK_FAILED)
}

fn report_back(manifest: &Manifest) -> io::Result<()> {
    fs::create_dir_all(wire::OUT)?;
    fs::write(MANIFEST, serde_json::to_vec(manifest)?)
}

#[derive(Deserialize)]
struct Group {
    group: Vec<GroupEntry>,
}

#[derive(Deserialize)]
struct GroupEntry {
    id: String,
    version: String,
}

impl GroupEntry {
    fn output(&self, folder: String) -> BuildpackOutput {
        let file = format!("/cnb/buildpacks/{folder}/{}/buildpack.toml", self.version);
        let about: Option<toml::Table> = fs::read_to_string(file).ok().and_then(|text| text.parse().ok());
        let name = about.and_then(|about| Some(about.get("buildpack")?.get("name")?.as_str()?.to_owned()));
        BuildpackOutput { id: self.id.clone(), version: self.version.clone(), name, folder, ..Default::default() }
    }
}

fn lifecycle(phase: &str) -> Command {
    let mut command = Command::new(format!("/cnb/lifecycle/{phase}"));
    command.args(["-app", APP, "-layers", LAYERS, "-platform", PLATFORM, "-log-level", "error", "-no-color"]);
    command.current_dir(APP);
    command
}

/// A child whose output and errors arrive in one pipe, in the order they were written.
struct Piped {
    child: std::process::Child,
    pipe: io::PipeReader,
}

trait SpawnPiped {
    fn spawn_piped(self) -> io::Result<Piped>;
}

impl SpawnPiped for Command {
    fn spawn_piped(mut self) -> io::Result<Piped> {
        let (pipe, writer) = io::pipe()?;
        let child = self.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer).spawn()?;
        // Our own copies of the writing end go with the command: otherwise the pipe would never end.
        drop(self);
        Ok(Piped { child, pipe })
    }
}

impl Piped {
    fn finish_into_text(mut self) -> io::Result<(ExitStatus, String)> {
        let mut pipe = self.pipe;
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = pipe.by_ref().take(MOST_DETECT_BYTES).read_to_end(&mut text);
            let _ = sender.send(text);
            // A detector that says more is not to be stopped by a full pipe.
            let _ = io::copy(&mut pipe, &mut io::sink());
        });
        let status = self.child.wait()?;
        let text = receiver.recv_timeout(AFTERGLOW).unwrap_or_default();
        Ok((status, String::from_utf8_lossy(&text).into_owned()))
    }

    fn finish_into_stdout(mut self, limit: u64) -> io::Result<(ExitStatus, Option<String>)> {
        let pipe = self.pipe;
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let mut lines = Lines::new(io::stdout(), limit);
            let result = lines.pump(pipe);
            let _ = sender.send(result.map(|()| lines.take_failure()));
        });
        let status = self.child.wait()?;
        match receiver.recv_timeout(AFTERGLOW) {
            Ok(failure) => Ok((status, failure?)),
            // Something still holds the pipe: it ends with this process, which is the container's first.
            Err(_) => Ok((status, None)),
        }
    }
}
