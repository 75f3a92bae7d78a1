//! `launcher`: the entrypoint of every image the platform makes; process 1 of a dyno.
//!
//! It turns `PAAS_CONFIG_*` back into config vars, hands the dyno's command line to the builder's own
//! launcher (or to a shell in images that have none), passes signals on, reaps orphans and exits as the
//! command did. `launcher health` is the container's health check.
//!
//! It needs nothing but the kernel: no network, no writable disk, no user database. Where the platform has a dyno
//! link, it also speaks with the server ([`linked`]); the app does not wait for that. What the platform says
//! on a dyno's behalf starts with `launcher:`, and never holds a config var's value.

mod command;
mod environment;
mod health;
mod link;
mod linked;
mod pump;
mod supervise;
mod terminal;

use std::env;
use std::ffi::OsString;
use std::process::ExitCode;

/// The exit status for "this dyno could not be started", as a shell has it for a file that cannot be run.
const CANNOT_START: u8 = 126;

fn main() -> ExitCode {
    let mut args = env::args_os();
    let name = args.next();
    let args: Vec<OsString> = args.collect();
    if name.is_some_and(|name| name == terminal::NAME) {
        eprintln!("launcher: {}", terminal::become_command(&args));
        return ExitCode::from(CANNOT_START);
    }
    if args.len() == 1 && args[0] == "health" {
        return match health::check() {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => {
                println!("{why}");
                ExitCode::FAILURE
            }
        };
    }
    match run(args) {
        Ok(status) => ExitCode::from(status),
        Err(why) => {
            eprintln!("launcher: {why}");
            ExitCode::from(CANNOT_START)
        }
    }
}

/// Runs the dyno's command, or `args` when an image is run by hand, and answers its exit status.
fn run(args: Vec<OsString>) -> Result<u8, String> {
    let vars = environment::of_the_app(env::vars_os())?;
    let argv = command::argv(args, env::var_os("PAAS_COMMAND"), |path| path.exists())?;
    match link::Settings::read(|name| env::var(name).ok()) {
        Some(settings) => linked::run(settings, &argv, vars),
        None => supervise::run(&argv, &vars),
    }
}
