//! What git starts as a hook when the server under test runs inside a test.

use std::process::ExitCode;

fn main() -> ExitCode {
    paas_server::git::hook::main()
}
