//! `completions`, and the hidden `__complete` that its scripts call.

use crate::completion::{self, Shell};
use crate::cx::Cx;
use crate::error::Done;
use crate::ui;

/// print a script that completes commands in your shell
#[derive(clap::Args)]
pub(crate) struct Completions {
    /// the shell, as in: source <(paas completions bash)
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self, _: &Cx) -> Done {
        ui::bytes(completion::script(self.shell).as_bytes());
        Ok(())
    }
}

/// print what may stand in the place of the last word
#[derive(clap::Args)]
pub(crate) struct Complete {
    #[arg(allow_hyphen_values = true)]
    words: Vec<String>,
}

impl Complete {
    pub(crate) fn run(self, _: &Cx) -> Done {
        for word in completion::candidates(&self.words) {
            ui::line(word);
        }
        Ok(())
    }
}
