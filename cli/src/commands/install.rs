//! `install`: the foundation on AWS. The work is `paas-server install`'s; this program knows nothing of AWS.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use crate::cx::Cx;
use crate::error::{Done, Failure};

/// build what the platform stands on in your AWS account
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Install {
    /// as `paas install --help` lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "FLAGS")]
    flags: Vec<OsString>,
}

impl Install {
    pub(crate) fn run(self, _: &Cx) -> Done {
        let program = server_program()?;
        // In its place, so that the terminal's signals and the exit status are its own.
        let error = Command::new(&program).arg("install").args(self.flags).exec();
        Err(Failure::new(format!("{} cannot be started: {error}", program.display())))
    }
}

/// The server's program: they are installed together.
fn server_program() -> Result<PathBuf, Failure> {
    let own = std::env::current_exe().and_then(|path| path.canonicalize());
    let own = own.map_err(|error| Failure::new(format!("this program's own path is not known: {error}")))?;
    let program = own.with_file_name("paas-server");
    if program.is_file() {
        return Ok(program);
    }
    Err(Failure::new(format!("paas install needs the program paas-server beside this one, at {}", program.display())))
}
