//! The user's terminal: raw mode for `run`, hidden input for passwords, its size.

use std::io::{BufRead, IsTerminal};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::error::Failure;
use crate::ui;

/// Terminal settings to put back when dropped.
pub(crate) struct Restore(Termios);

impl Drop for Restore {
    fn drop(&mut self) {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Drain, &self.0);
    }
}

fn change(how: impl FnOnce(&mut Termios)) -> Option<Restore> {
    let before = tcgetattr(std::io::stdin()).ok()?;
    let mut wanted = before.clone();
    how(&mut wanted);
    tcsetattr(std::io::stdin(), OptionalActions::Drain, &wanted).ok()?;
    Some(Restore(before))
}

/// Every key goes to the program as it is pressed, until the value is dropped. `None` when stdin is no terminal.
pub(crate) fn raw() -> Option<Restore> {
    change(Termios::make_raw)
}

/// Whether both ends of a conversation are this terminal.
pub(crate) fn interactive() -> bool {
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

/// Columns and lines of the terminal on stdout.
pub(crate) fn size() -> Option<(u16, u16)> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col, size.ws_row))
}

/// Asks for one line. Fails at the end of the input.
pub(crate) fn prompt(question: &str) -> Result<String, Failure> {
    ui::ask(question);
    let mut line = String::new();
    match std::io::stdin().lock().read_line(&mut line) {
        Ok(n) if n > 0 => Ok(line.trim_end_matches(['\n', '\r']).to_owned()),
        _ => {
            ui::progress("");
            Err(Failure::new("No answer."))
        }
    }
}

/// Asks for one line that the terminal does not show.
pub(crate) fn prompt_hidden(question: &str) -> Result<String, Failure> {
    let hidden = change(|t| t.local_modes.remove(LocalModes::ECHO));
    let answer = prompt(question);
    if hidden.is_some() {
        ui::progress(""); // the newline that was not echoed
    }
    answer
}
