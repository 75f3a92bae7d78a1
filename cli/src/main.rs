//! `paas`: Heroku's commands for one's own platform. A thin client of the Platform API.
//!
//! Nothing is read or asked before the arguments are parsed; settings, credentials, git and the network are
//! touched only by a command that needs them. Data goes to stdout, progress and errors to stderr.
//! Exit codes are Heroku's: 0 done, 1 refused here, 2 usage or an error of the API, 100 not logged in,
//! 127 no such command; `run` exits as the remote command did.

mod api;
mod app_flag;
mod commands;
mod completion;
mod cx;
mod error;
mod event_stream;
mod git;
mod netrc;
mod parse;
mod quote;
mod rendezvous;
mod settings;
mod text;
mod time;
mod tls;
mod tty;
mod ui;

fn main() {
    let code = match parse::command_line(std::env::args_os().collect()) {
        Ok(Some(command)) => match command.run(&cx::Cx::default()) {
            Ok(()) => 0,
            Err(failure) => failure.tell(),
        },
        Ok(None) => 0,
        Err(failure) => failure.tell(),
    };
    ui::flush();
    std::process::exit(code);
}
