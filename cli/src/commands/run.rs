//! `run`: a one-off dyno joined with this terminal. Exits as the command did.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use paas_proto::{CreateDyno, Dyno};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::api::Client;
use crate::app_flag::AppFlag;
use crate::cx::Cx;
use crate::error::{Done, Failure};
use crate::rendezvous::{Ended, Input, Rendezvous, with_status};
use crate::text::path_segment;
use crate::{tty, ui};

pub(crate) mod detached;

/// run a one-off process inside a dyno
///
/// Exits with the exit code of the process. Flags behind `--` belong to the command.
#[derive(clap::Args)]
pub(crate) struct Run {
    #[command(flatten)]
    what: What,
    /// say the exit code of the remote command as well as passing it through
    #[arg(short = 'x', long)]
    exit_code: bool,
    /// force the command to not run in a tty
    #[arg(long)]
    no_tty: bool,
    /// accepted for compatibility; there are no notifications
    #[arg(long, hide = true)]
    no_notify: bool,
}

/// What to run, for `run` and `run:detached`.
#[derive(clap::Args)]
struct What {
    /// the command and its arguments
    #[arg(value_name = "COMMAND", trailing_var_arg = true)]
    command: Vec<String>,
    #[command(flatten)]
    app: AppFlag,
    /// environment variables to set (use ';' to split multiple vars)
    #[arg(short, long, value_name = "KEY=VALUE")]
    env: Vec<String>,
    /// dyno size
    #[arg(short, long)]
    size: Option<String>,
    /// process type
    #[arg(long = "type", value_name = "TYPE")]
    process_type: Option<String>,
    /// accepted for compatibility; the image's own launcher always runs
    #[arg(long, hide = true)]
    no_launcher: bool,
}

impl What {
    fn command(&self) -> Result<String, Failure> {
        if self.command.iter().all(|word| word.trim().is_empty()) {
            return Err(Failure::new("Usage: paas run COMMAND\n\nExample: paas run bash"));
        }
        // One argument is a command line already, as in `paas run "rake test"`.
        if let [line] = self.command.as_slice() {
            return Ok(line.clone());
        }
        let quoted = |word: &String| {
            if word.contains([' ', '"']) { format!("\"{}\"", word.replace('"', "\\\"")) } else { word.clone() }
        };
        Ok(self.command.iter().map(quoted).collect::<Vec<_>>().join(" "))
    }

    fn env(&self) -> Result<BTreeMap<String, String>, Failure> {
        let mut vars = BTreeMap::new();
        for pair in self.env.iter().flat_map(|all| all.split(';')).filter(|pair| !pair.trim().is_empty()) {
            match pair.split_once('=') {
                Some((name, value)) if !name.trim().is_empty() => vars.insert(name.trim().to_owned(), value.to_owned()),
                _ => {
                    return Err(Failure::usage(format!("env flag {pair} appears invalid. Avoid using ';' in values.")));
                }
            };
        }
        if let Ok(term) = std::env::var("TERM") {
            vars.insert("TERM".to_owned(), term);
        }
        if let Some((columns, lines)) = tty::size() {
            vars.insert("COLUMNS".to_owned(), columns.to_string());
            vars.insert("LINES".to_owned(), lines.to_string());
        }
        Ok(vars)
    }
}

/// Starts the dyno. Right after an app's creation its release may not be there yet: two more tries.
fn start(api: &Client, app: &str, wanted: &CreateDyno) -> Result<Dyno, Failure> {
    let path = format!("/apps/{}/dynos", path_segment(app));
    let mut retries = 2;
    loop {
        match api.post(&path, wanted) {
            Err(failure) if failure.status() == Some(409) && retries > 0 => retries -= 1,
            result => return result,
        }
    }
}

impl Run {
    pub(crate) fn run(self, cx: &Cx) -> Done {
        let command = self.what.command()?;
        let api = cx.api()?;
        let app = self.what.app.name(cx)?;
        let terminal = tty::interactive() && !self.no_tty;
        let wanted = CreateDyno {
            attach: Some(true),
            command: with_status(&command),
            env: Some(self.what.env()?),
            force_no_tty: (!terminal).then_some(true),
            size: self.what.size.clone(),
            time_to_live: None,
            r#type: self.what.process_type.clone(),
        };
        let signals = signals().map_err(|e| Failure::new(format!("Couldn't watch for interrupts: {e}")))?;
        let dyno = start(api, &app, &wanted)?;

        ui::doing(&format!("Running {command} on {}", ui::app(&app)));
        let (mut raw, mut up) = (None, false);
        let url = dyno.attach_url.as_deref().ok_or_else(|| Failure::new("The server gave no way to attach."));
        let ended = url.and_then(|url| Rendezvous::dial(cx.settings()?, url)).and_then(|line| {
            let input = if terminal { Input::Terminal } else { Input::Pipe };
            line.join(input, &signals, || {
                up = true;
                ui::did(&format!("up, {}", dyno.name));
                if terminal {
                    raw = tty::raw();
                }
            })
        });
        drop(raw);
        if !up {
            ui::did("!");
        }
        match ended? {
            Ended::Exited(0) => Ok(()),
            Ended::Exited(code) if self.exit_code => {
                Err(Failure::new(format!("Process exited with code {code}")).code(code))
            }
            Ended::Exited(code) => Err(Failure::exit(code)),
            Ended::Closed => Err(Failure::new("No exit code returned")),
            Ended::Interrupted => {
                // The server stops a dyno whose other end is gone; asking makes sure.
                let stop = format!("/apps/{}/dynos/{}/actions/stop", path_segment(&app), path_segment(&dyno.name));
                let _ = api.post_empty(&stop);
                Err(Failure::exit(130))
            }
        }
    }
}

/// A socket that becomes readable when we are asked to end. Being asked a second time ends us at once.
fn signals() -> std::io::Result<UnixStream> {
    let (read, write) = UnixStream::pair()?;
    let asked = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&asked))?;
        signal_hook::flag::register(signal, Arc::clone(&asked))?;
        signal_hook::low_level::pipe::register(signal, write.try_clone()?)?;
    }
    Ok(read)
}

/// Puts the flags of `run` and `run:detached` before the command's own words, as Heroku takes them: ours are known
/// anywhere before a `--`, and everything else from the first word on is the command's.
pub(crate) fn arrange(words: Vec<OsString>) -> Vec<OsString> {
    const WITH_VALUE: [&str; 10] = ["-a", "--app", "-r", "--remote", "-e", "--env", "-s", "--size", "--type", "-t"];
    const ALONE: [&str; 8] =
        ["-x", "--exit-code", "--no-tty", "--no-notify", "--no-launcher", "-h", "--help", "--tail"];
    let detached = match words.get(1).and_then(|word| word.to_str()) {
        Some("run") => false,
        Some("run:detached") => true,
        _ => return words,
    };
    let mut words = words.into_iter();
    let mut flags: Vec<OsString> = words.by_ref().take(2).collect();
    let mut command = Vec::new();
    while let Some(word) = words.next() {
        let text = word.to_str().unwrap_or_default();
        if text == "--" {
            command.extend(words.by_ref());
        } else if text == "-t" && detached || ALONE.contains(&text) {
            flags.push(word);
        } else if WITH_VALUE.contains(&text) && text != "-t" {
            flags.push(word);
            flags.extend(words.next());
        } else if WITH_VALUE
            .iter()
            .any(|f| f.starts_with("--") && text.strip_prefix(f).is_some_and(|v| v.starts_with('=')))
        {
            flags.push(word);
        } else if command.is_empty() && text.starts_with('-') && text.len() > 1 {
            flags.push(word); // for the parser to know or to refuse
        } else {
            command.push(word);
        }
    }
    if !command.is_empty() {
        flags.push("--".into());
        flags.extend(command);
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arranged(line: &str) -> String {
        let words = arrange(std::iter::once("paas").chain(line.split(' ')).map(OsString::from).collect());
        words.iter().skip(1).map(|w| w.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn our_flags_may_stand_anywhere() {
        assert_eq!(arranged("run --no-tty python"), "run --no-tty -- python");
        assert_eq!(arranged("run rails console -a hello"), "run -a hello -- rails console");
        assert_eq!(arranged("run python -c print(1) --app=hello"), "run --app=hello -- python -c print(1)");
        assert_eq!(
            arranged("run -s standard-2x -- my.sh -a arg1 -s arg2"),
            "run -s standard-2x -- my.sh -a arg1 -s arg2"
        );
        assert_eq!(arranged("run ls -- -a -- b"), "run -- ls -a -- b");
        assert_eq!(arranged("run --bogus ls"), "run --bogus -- ls");
        assert_eq!(arranged("run:detached ls -t"), "run:detached -t -- ls");
        assert_eq!(arranged("run ls -t -"), "run -- ls -t -");
        assert_eq!(arranged("ps web -a x"), "ps web -a x");
        assert_eq!(arranged("run"), "run");
    }

    fn what(command: &[&str], env: &[&str]) -> What {
        let owned = |all: &[&str]| all.iter().map(|w| (*w).to_owned()).collect();
        What {
            command: owned(command),
            env: owned(env),
            app: AppFlag::default(),
            size: None,
            process_type: None,
            no_launcher: false,
        }
    }

    #[test]
    fn words_become_a_command_line() {
        let line = |words: &[&str]| what(words, &[]).command().ok();
        assert_eq!(line(&["rake test | wc"]).as_deref(), Some("rake test | wc"));
        assert_eq!(line(&["echo", "a b", "it\"s", "$X"]).as_deref(), Some("echo \"a b\" \"it\\\"s\" $X"));
        assert_eq!(line(&[]), None);
    }

    #[test]
    fn env_is_split_and_checked() {
        let vars = what(&["ls"], &["A=1;B=x=y", "C="]).env().expect("good");
        assert_eq!((vars["A"].as_str(), vars["B"].as_str(), vars["C"].as_str()), ("1", "x=y", ""));
        assert!(what(&["ls"], &["A"]).env().is_err() && what(&["ls"], &["=1"]).env().is_err());
    }
}
