//! A terminal for an attached dyno.
//!
//! A command that has a terminal of its own leads a session of its own. Only a process itself can make that so, so
//! the launcher starts once more in between, under another [`NAME`], and becomes the command.

use std::collections::BTreeMap;
use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use rustix::process;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// What the launcher is called in between.
pub(crate) const NAME: &str = "launcher-terminal";

/// A new terminal: the end that we speak through, and the end for the command. As large as `COLUMNS` and `LINES`
/// say, which clients send.
///
/// # Errors
/// When there is none to be had.
pub(crate) fn open(vars: &BTreeMap<OsString, OsString>) -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let ours = openpt(flags)?;
    grantpt(&ours)?;
    unlockpt(&ours)?;
    let number = |name: &str| vars.get(OsStr::new(name)).and_then(|text| text.to_str()?.trim().parse::<u16>().ok());
    if let (Some(columns @ 1..), Some(rows @ 1..)) = (number("COLUMNS"), number("LINES")) {
        tcsetwinsize(&ours, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 })?;
    }
    let theirs = ioctl_tiocgptpeer(&ours, flags)?;
    Ok((ours, theirs))
}

/// What starts `argv` with this terminal.
///
/// # Errors
/// When the launcher does not find itself, or descriptors run out.
pub(crate) fn command(argv: &[OsString], terminal: OwnedFd) -> io::Result<Command> {
    let mut command = Command::new(env::current_exe()?);
    command.arg0(NAME).args(argv);
    command.stdin(Stdio::from(terminal.try_clone()?)).stdout(Stdio::from(terminal.try_clone()?));
    command.stderr(Stdio::from(terminal));
    Ok(command)
}

/// Leads a session whose terminal is standard input, and becomes the command. Answers why it could not.
pub(crate) fn become_command(argv: &[OsString]) -> String {
    let Some((program, args)) = argv.split_first() else { return "nothing to run".to_owned() };
    let session = process::setsid().and_then(|_| process::ioctl_tiocsctty(io::stdin()));
    if let Err(error) = session {
        return format!("giving the command its terminal: {error}");
    }
    let error = Command::new(program).args(args).exec();
    format!("starting {}: {error}", program.display())
}
