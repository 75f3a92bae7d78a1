//! `git:credentials`: git's credential helper. Answers for our git host and for no other.

use std::io::{BufRead, Read};

use crate::cx::Cx;
use crate::error::{Done, Failure};
use crate::settings::Settings;
use crate::ui;

/// internal command for git-credentials
#[derive(clap::Args)]
pub(crate) struct Credentials {
    /// command name of the git credentials
    command: String,
}

impl Credentials {
    pub(crate) fn run(self, cx: &Cx) -> Done {
        match self.command.as_str() {
            "store" | "erase" => return Ok(()), // the key is login's and logout's to keep
            "get" => {}
            other => return Err(Failure::usage(format!("unknown command: {other}"))),
        }
        let settings = cx.settings()?;
        let (mut protocol, mut host) = (String::new(), String::new());
        for line in std::io::stdin().lock().take(64 * 1024).lines() {
            let line = line.map_err(|e| Failure::new(format!("Reading git's question: {e}")))?;
            match line.split_once('=') {
                Some(("protocol", value)) => value.clone_into(&mut protocol),
                Some(("host", value)) => value.clone_into(&mut host),
                _ if line.is_empty() => break,
                _ => {}
            }
        }
        if !ours(settings, &protocol, &host) {
            return Ok(());
        }
        let key =
            settings.key()?.ok_or_else(|| Failure::usage("not logged in: run `paas login`, or set PAAS_API_KEY"))?;
        ui::line(format!("protocol={protocol}\nhost={host}\nusername=heroku\npassword={key}"));
        Ok(())
    }
}

/// A key never goes out in the clear, except to this machine itself.
fn ours(settings: &Settings, protocol: &str, host: &str) -> bool {
    host == settings.git_host && (protocol == "https" || (protocol == "http" && settings.loopback))
}
