//! `install` is `paas-server install`, with the same words.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

fn install(folder: &Path, flags: &[&str]) -> Output {
    let program = folder.join("paas");
    std::fs::copy(env!("CARGO_BIN_EXE_paas"), &program).expect("copied");
    loop {
        match Command::new(&program).arg("install").args(flags).output() {
            // A process that another test started just then still holds what was written here.
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {}
            Ok(answer) if String::from_utf8_lossy(&answer.stderr).contains("Text file busy") => {}
            answer => return answer.expect("it ran"),
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn says_what_is_missing() {
    let folder = tempfile::tempdir().expect("a folder");
    let answer = install(folder.path(), &["--yes"]);
    assert_eq!(answer.status.code(), Some(1));
    let said = String::from_utf8_lossy(&answer.stderr).into_owned();
    assert!(said.contains("needs the program paas-server beside this one"), "{said}");
}

#[test]
fn hands_everything_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = folder.path().join("paas-server");
    std::fs::write(&server, "#!/bin/sh\nprintf '[%s]' \"$@\"\nexit 7\n").expect("written");
    std::fs::set_permissions(&server, std::fs::Permissions::from_mode(0o755)).expect("made to run");
    let answer = install(folder.path(), &["--domain", "apps.example.com", "--yes", "$(x) y", "--help"]);
    assert_eq!(String::from_utf8_lossy(&answer.stdout), "[install][--domain][apps.example.com][--yes][$(x) y][--help]");
    assert_eq!(answer.status.code(), Some(7));
}
