//! From words to a command, with Heroku's answers to wrong ones.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, FromArgMatches, Parser};

use crate::commands::{Command, run};
use crate::error::Failure;
use crate::text::printable;
use crate::ui;

/// Heroku's commands for your own platform
#[derive(Parser)]
#[command(name = "paas", disable_version_flag = true, max_term_width = 100)]
pub(crate) struct Paas {
    #[command(subcommand)]
    command: Option<Command>,
    /// show the version
    #[arg(short, long)]
    version: bool,
}

/// `paas/0.1.0 linux-x64`.
pub(crate) fn version() -> String {
    let machine = match std::env::consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("paas/{} {}-{machine}", env!("CARGO_PKG_VERSION"), std::env::consts::OS)
}

/// The command that these words (the program's name first) ask for; `None` when help or the version was all.
pub(crate) fn command_line(words: Vec<OsString>) -> Result<Option<Command>, Failure> {
    let parsed = Paas::command().try_get_matches_from(run::arrange(words)).and_then(|m| Paas::from_arg_matches(&m));
    match parsed {
        Ok(Paas { command: Some(command), .. }) => Ok(Some(command)),
        Ok(Paas { version: true, .. }) => {
            ui::line(version());
            Ok(None)
        }
        Ok(_) => {
            ui::line(Paas::command().render_help().to_string());
            Ok(None)
        }
        Err(error) => refused(&error).map(|()| None),
    }
}

fn refused(error: &clap::Error) -> Result<(), Failure> {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(all)) => all.last().cloned(), // the nearest comes last
        _ => None,
    };
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            ui::line(error.render().to_string().trim_end());
            Ok(())
        }
        ErrorKind::InvalidSubcommand => {
            let word = context(ContextKind::InvalidSubcommand).unwrap_or_default();
            let mut said = format!("{} is not a paas command.", printable(&word));
            if let Some(near) = context(ContextKind::SuggestedSubcommand) {
                said.push_str(&format!("\nPerhaps you meant {near}."));
            }
            let topic = word.split_once(':').map_or(String::new(), |(topic, _)| format!(" {}", printable(topic)));
            let topic = if Paas::command().find_subcommand(topic.trim()).is_some() { topic } else { String::new() };
            Err(Failure::new(format!("{said}\nRun paas help{topic} for a list of available commands.")).code(127))
        }
        ErrorKind::ValueValidation if std::error::Error::source(error).is_some() => {
            let why = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
            let flag = context(ContextKind::InvalidArg).filter(|arg| arg.starts_with('-'));
            // The parsers of arguments without a flag are our own, and their words say all that there is to say.
            Err(Failure::usage(flag.map_or(why.clone(), |flag| format!("{flag}: {why}"))))
        }
        ErrorKind::UnknownArgument => {
            let word = context(ContextKind::InvalidArg).unwrap_or_default();
            let what = if word.starts_with('-') { "Nonexistent flag" } else { "Unexpected argument" };
            let near = context(ContextKind::SuggestedArg).map(|near| format!("\nPerhaps you meant {near}."));
            Err(Failure::usage(format!("{what}: {word}{}\nSee more help with --help", near.unwrap_or_default())))
        }
        _ => {
            let said = error.render().to_string();
            let said = said.strip_prefix("error: ").unwrap_or(&said);
            let said: Vec<_> =
                said.lines().filter(|l| !l.trim().is_empty() && !l.starts_with("For more information")).collect();
            Err(Failure::usage(format!("{}\nSee more help with --help", said.join("\n"))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<Command>, Failure> {
        command_line(std::iter::once("paas").chain(line.split_whitespace()).map(OsString::from).collect())
    }

    #[test]
    fn the_command_table_is_sound() {
        Paas::command().debug_assert();
    }

    #[test]
    fn herokus_short_forms_work() {
        for line in [
            "create hello",
            "info -s",
            "destroy -c x",
            "rename y",
            "open",
            "list",
            "login -i",
            "logout",
            "whoami",
            "config:add A=1",
            "config:remove A",
            "scale web=1",
            "restart web.1",
            "stop web.1",
            "kill web.1",
            "resize basic",
            "rollback v3",
            "dyno:scale web=2",
            "maintenance:on -a x",
            "logs -t -n 5 -d web.1",
            "logs --ps web --source app",
            "run bash",
            "run:detached ls",
            "releases -n 3",
            "ps web worker",
            "git:remote -a x -r y",
        ] {
            assert!(matches!(parse(line), Ok(Some(_))), "{line}");
        }
    }

    #[test]
    fn wrong_words_get_herokus_codes() {
        let refused = |line: &str| parse(line).err().map(|f| f.message().to_owned()).unwrap_or_default();
        assert_eq!(
            refused("ps:scal web=1"),
            "ps:scal is not a paas command.\nPerhaps you meant ps:scale.\nRun paas help ps for a list of available commands."
        );
        assert_eq!(refused("ps --bogus"), "Nonexistent flag: --bogus\nSee more help with --help");
        assert_eq!(refused("ps:scale web=-1"), "`=-1` is not a quantity: use `=3`, `+1` or `-1`");
        assert_eq!(refused("logs -n x"), "--num <NUM>: invalid digit found in string");
        assert_eq!(refused("releases -n 5000"), "--num <NUM>: 5000 is not in 1..=1000");
    }
}
