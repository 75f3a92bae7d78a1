//! The binary `phase`; see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    paas_phase::run::main()
}
