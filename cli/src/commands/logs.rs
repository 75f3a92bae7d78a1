//! `logs`: an app's log, past and present.

use std::io::IsTerminal;
use std::time::Duration;

use paas_proto::{CreateLogSession, LogSession};

use crate::api::Client;
use crate::app_flag::AppFlag;
use crate::cx::Cx;
use crate::error::{Done, Failure};
use crate::text::path_segment;
use crate::{event_stream, ui};

/// display recent log output
#[derive(clap::Args)]
pub(crate) struct Logs {
    #[command(flatten)]
    app: AppFlag,
    /// only show output from this dyno (such as "web.1" or "worker.2")
    #[arg(short, long, visible_alias = "dyno", value_name = "DYNO")]
    dyno_name: Option<String>,
    /// number of lines to display
    #[arg(short, long, default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..))]
    num: i64,
    /// only show output from this process type (such as "web" or "worker")
    #[arg(short, long, alias = "ps", value_name = "TYPE", conflicts_with = "dyno_name")]
    process_type: Option<String>,
    /// only show output from this source (such as "app" or "heroku")
    #[arg(short, long)]
    source: Option<String>,
    /// continually stream logs
    #[arg(short, long)]
    tail: bool,
    /// do not colour the lines
    #[arg(long)]
    no_color: bool,
}

impl Logs {
    pub(crate) fn run(self, cx: &Cx) -> Done {
        let wanted = CreateLogSession {
            dyno: self.dyno_name.or(self.process_type),
            lines: Some(self.num),
            source: self.source,
            tail: Some(self.tail),
            ..CreateLogSession::default()
        };
        show(cx.api()?, &self.app.name(cx)?, &wanted, !self.no_color && colours())
    }
}

/// Whether stdout is a terminal that shows colours.
pub(crate) fn colours() -> bool {
    let off = |name: &str, word: &str| std::env::var_os(name).is_some_and(|v| word.is_empty() || v == word);
    std::io::stdout().is_terminal() && !off("NO_COLOR", "") && !off("TERM", "dumb") && !off("HEROKU_LOGS_COLOR", "0")
}

/// Longest pause between two attempts to connect again.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Shows what the session asks for. A tail goes on, over broken connections too, until the server ends it.
pub(crate) fn show(api: &Client, app: &str, wanted: &CreateLogSession, colours: bool) -> Done {
    let session: LogSession = api.post(&format!("/apps/{}/log-sessions", path_segment(app)), wanted)?;
    let tail = wanted.tail == Some(true);
    let mut last_id: Option<String> = None;
    let (mut connected, mut told) = (false, false);
    let mut pause = Duration::from_millis(500);
    loop {
        let mut headers = vec![("accept", "text/event-stream")];
        if let Some(id) = &last_id {
            headers.push(("last-event-id", id));
        }
        match api.stream(&session.logplex_url, &headers) {
            Ok(mut input) => {
                (connected, told) = (true, false);
                while let Ok(Some(event)) = event_stream::next(&mut input) {
                    pause = Duration::from_millis(500);
                    for line in event.data.lines().filter(|line| !line.is_empty()) {
                        ui::line(if colours { coloured(line) } else { line.to_owned() });
                    }
                    ui::flush();
                    last_id = event.id.or(last_id);
                }
                if !tail {
                    return Ok(());
                }
            }
            Err(failure) if tail && matches!(failure.status(), Some(403 | 404 | 410)) => {
                return Err(Failure::new("Log stream timed out. Please try again."));
            }
            Err(failure) if !tail || !connected => return Err(failure),
            Err(_) if !told => {
                told = true;
                ui::warn("The log stream broke off. Connecting again...");
            }
            Err(_) => {}
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// The line with its `time source[dyno]:` in a colour of its dyno's type.
fn coloured(line: &str) -> String {
    let Some(end) = line.find("]:").map(|at| at + 2).filter(|end| line[..*end].contains('[')) else {
        return line.to_owned();
    };
    let (prefix, rest) = line.split_at(end);
    let process = prefix.split_once('[').map_or("", |(_, p)| p);
    let process = process.split(['.', ']']).next().unwrap_or_default();
    let colour = match process {
        "run" => 33,
        "router" => 32,
        "web" => 36,
        "postgres" => 35,
        other => 31 + other.bytes().map(u32::from).sum::<u32>() % 6,
    };
    format!("\x1b[{colour}m{prefix}\x1b[0m{rest}")
}

#[cfg(test)]
mod tests {
    use super::coloured;

    #[test]
    fn colours_the_prefix_only() {
        assert_eq!(
            coloured("2026-11-23T15:04:05Z app[web.1]: a ]: b"),
            "\x1b[36m2026-11-23T15:04:05Z app[web.1]:\x1b[0m a ]: b"
        );
        assert_eq!(coloured("no prefix"), "no prefix");
    }
}
