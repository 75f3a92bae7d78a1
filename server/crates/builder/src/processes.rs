//! What buildpacks announce in `config/metadata.toml`: processes and labels.

use std::collections::BTreeMap;

use paas_domain::ProcessType;
use serde::{Deserialize, Serialize};

const APP: &str = "/workspace";

/// The lifecycle's `config/metadata.toml`, as far as an image needs it. Written in the container: not believed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct BuildMetadata {
    pub(crate) buildpacks: Vec<Buildpack>,
    pub(crate) processes: Vec<Process>,
    pub(crate) labels: Vec<Label>,
    #[serde(rename = "buildpack-default-process-type")]
    pub(crate) default_process_type: Option<String>,
}

/// A buildpack that took part, in the words of the label.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Buildpack {
    pub(crate) id: String,
    pub(crate) version: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) api: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) homepage: Option<String>,
}

/// A label that a buildpack wants on the image.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Label {
    pub(crate) key: String,
    pub(crate) value: String,
}

/// A process that a buildpack announces.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Process {
    #[serde(rename = "type")]
    pub(crate) process_type: String,
    pub(crate) command: Command,
    #[serde(default)]
    pub(crate) args: Vec<String>,
    #[serde(default)]
    pub(crate) direct: bool,
    #[serde(default, rename = "buildpack-id")]
    pub(crate) buildpack: String,
    #[serde(default, rename = "working-dir")]
    pub(crate) working_dir: Option<String>,
}

/// One text before platform API 0.10, a list since.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(untagged)]
pub(crate) enum Command {
    Text(String),
    List(Vec<String>),
}

impl BuildMetadata {
    /// The processes as command lines for a shell. What is no process type is left out.
    pub(crate) fn default_processes(&self) -> BTreeMap<ProcessType, String> {
        let line = |process: &Process| Some((process.process_type.parse().ok()?, process.command_line()));
        self.processes.iter().filter_map(line).filter(|(_, line)| !line.trim().is_empty()).collect()
    }

    /// The processes in the words of `io.buildpacks.build.metadata`.
    pub(crate) fn processes_json(&self) -> Vec<serde_json::Value> {
        let json = |process: &Process| {
            let mut json = serde_json::json!({
                "type": process.process_type, "command": process.command, "args": process.args,
                "direct": process.direct, "buildpackID": process.buildpack,
            });
            if let Some(folder) = &process.working_dir {
                json["working-dir"] = folder.clone().into();
            }
            json
        };
        self.processes.iter().map(json).collect()
    }
}

impl Process {
    fn command_line(&self) -> String {
        let words: Vec<&str> = match &self.command {
            Command::Text(text) => std::iter::once(text.as_str()).collect(),
            Command::List(list) => list.iter().map(String::as_str).collect(),
        };
        let words: Vec<&str> = words.into_iter().chain(self.args.iter().map(String::as_str)).collect();
        let line = match words.as_slice() {
            // Already for a shell.
            [only] if !self.direct => (*only).to_owned(),
            ["bash" | "sh" | "/bin/bash" | "/bin/sh", "-c", script] => (*script).to_owned(),
            words => words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "),
        };
        match self.working_dir.as_deref() {
            Some(folder) if folder != APP && !folder.is_empty() => format!("cd {} && {line}", quoted(folder)),
            _ => line,
        }
    }
}

/// A word as a shell reads it back.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(toml: &str) -> String {
        let metadata: BuildMetadata =
            toml::from_str(&format!("[[processes]]\ntype = \"web\"\n{toml}")).expect("parses");
        metadata.default_processes().remove(&ProcessType::web()).expect("a command")
    }

    #[test]
    fn processes_become_command_lines() {
        assert_eq!(line("command = [\"serve\", \"--now\"]"), "serve --now");
        assert_eq!(line("command = [\"bash\", \"-c\", \"serve --port $PORT\"]"), "serve --port $PORT");
        assert_eq!(line("command = [\"serve\"]\nargs = [\"it's\", \"\"]\ndirect = true"), "serve 'it'\\''s' ''");
        assert_eq!(line("command = \"serve --port $PORT\"\ndirect = false"), "serve --port $PORT");
        assert_eq!(line("command = [\"go\"]\nworking-dir = \"/workspace/my app\""), "cd '/workspace/my app' && go");
        assert_eq!(line("command = [\"go\"]\nworking-dir = \"/workspace\""), "go");
    }

    #[test]
    fn nonsense_is_left_out() {
        let metadata: BuildMetadata = toml::from_str(
            "[[processes]]\ntype = \"a b\"\ncommand = [\"x\"]\n[[processes]]\ntype = \"web\"\ncommand = []\n",
        )
        .expect("parses");
        assert!(metadata.default_processes().is_empty());
    }
}
