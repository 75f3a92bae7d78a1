//! The order of a build: detect, restore, build, report.

use std::fs;
use std::io::{self, Read as _};
use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use serde::Deserialize;

use crate::layers;
use crate::output::{self, Lines};
use crate::wire::{
    BuildpackOutput, EXIT_BROKEN, EXIT_BUILDPACK_FAILED, EXIT_BUILT, EXIT_NOT_DETECTED, Manifest, REQUEST, Request,
};

const APP: &str = "/workspace";
const LAYERS: &str = "/layers";
const PLATFORM: &str = "/platform";
/// How long a process that a buildpack left behind may still write after the lifecycle has ended.
const AFTERGLOW: Duration = Duration::from_millis(500);
/// More than any detector says.
const MOST_DETECT_BYTES: u64 = 1024 * 1024;

type Output = Arc<Lines<io::Stdout>>;

/// Runs the build that `/paas/request.json` describes; says how it ended by the last line and the exit status.
#[must_use]
pub fn main() -> ExitCode {
    let request = fs::read(REQUEST).and_then(|bytes| Ok(serde_json::from_slice::<Request>(&bytes)?));
    let limit = request.as_ref().map_or(1024 * 1024, |request| request.output_limit);
    let out: Output = Arc::new(Lines::new(io::stdout(), limit));
    let manifest = request.and_then(|request| run(&request, &out)).unwrap_or_else(|e| {
        let _ = out.say(&format!(" !     The build could not be run: {e}"));
        ended(EXIT_BROKEN)
    });
    let status = manifest.status;
    match serde_json::to_vec(&manifest).map(|line| out.close(&line)) {
        Ok(Ok(())) => ExitCode::from(status),
        _ => ExitCode::from(EXIT_BROKEN),
    }
}

fn ended(status: u8) -> Manifest {
    Manifest { status, ..Manifest::default() }
}

fn failed(failed_status: Option<i32>) -> Manifest {
    Manifest { failed_status, ..ended(EXIT_BUILDPACK_FAILED) }
}

fn run(request: &Request, out: &Output) -> io::Result<Manifest> {
    let root = Path::new(LAYERS);
    fs::write(root.join("analyzed.toml"), &request.analyzed)?;

    let detector = lifecycle("detector").spawn_piped()?;
    // The detector reads nothing of the layers, so they are looked at meanwhile.
    let unchanged = layers::unchanged(root, &request.layers);
    let (status, report) = detector.finish_into_text()?;
    match status.code() {
        Some(0) => {}
        Some(20) => return Ok(ended(EXIT_NOT_DETECTED)),
        Some(21) => {
            for line in output::detect_errors(&report) {
                out.say(&line)?;
            }
            return Ok(failed(Some(1)));
        }
        _ => {
            for line in report.lines() {
                out.say(line)?;
            }
            return Ok(ended(EXIT_BROKEN));
        }
    }

    let group: Group = toml::from_str(&fs::read_to_string(root.join("group.toml"))?).map_err(io::Error::other)?;
    let folders: Vec<String> = group.group.iter().map(|b| b.id.replace('/', "_")).collect();
    layers::restore(root, &request.layers, &unchanged, &request.stores, &folders)?;

    let status = lifecycle("builder").spawn_piped()?.finish_into(out)?;
    if !status.success() {
        let failure = out.failure().unwrap_or_default();
        let buildpack_status = output::exit_status(&failure);
        if buildpack_status.is_none() && !failure.is_empty() {
            out.say(&format!(" !     {failure}"))?;
        }
        return Ok(failed(buildpack_status));
    }

    let read = |(bp, folder): (&GroupEntry, String)| layers::read(root, bp.output(folder));
    let buildpacks = group.group.iter().zip(folders).map(read).collect::<io::Result<_>>()?;
    let metadata = fs::read_to_string(root.join("config/metadata.toml"))?;
    Ok(Manifest { buildpacks, metadata, ..ended(EXIT_BUILT) })
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

    fn finish_into(mut self, out: &Output) -> io::Result<ExitStatus> {
        let (pipe, lines) = (self.pipe, Arc::clone(out));
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let _ = sender.send(lines.pump(pipe));
        });
        let status = self.child.wait()?;
        // Something a buildpack left behind may still hold the pipe: it ends with this process, which is the
        // container's first.
        receiver.recv_timeout(AFTERGLOW).unwrap_or(Ok(()))?;
        Ok(status)
    }
}
