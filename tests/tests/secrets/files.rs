//! Files and repositories of the data folder.

use std::path::Path;
use std::process::Command;

use paas_tests::platform::{Kind, Platform};

use crate::MARK;
use crate::canary::Canary;

/// The data folder (the database, the logs, the outputs, the objects, the layers), the server's own log, and home.
pub(crate) fn in_data(platform: &Platform, canary: &Canary) {
    let (size, names) = in_files(platform.data().parent().expect("a folder"), canary);
    assert!(size > 1_000_000, "{size} bytes were looked at");
    if platform.kind() == Kind::Local {
        let database = names.iter().filter(|name| *name == "paas.db" || *name == "paas.db-wal").count();
        assert_eq!(database, 2, "files of the database");
    }
}

/// Every file of a folder; what is compressed there is unpacked. Answers how many bytes there were, and the names.
pub(crate) fn in_files(folder: &Path, canary: &Canary) -> (usize, Vec<String>) {
    let mut files = Vec::new();
    every_file(folder, &mut files);
    let (mut size, mut names) = (0, Vec::new());
    for file in &files {
        let bytes = std::fs::read(file).unwrap_or_default();
        size += bytes.len();
        names.push(file.file_name().unwrap_or_default().to_string_lossy().into_owned());
        let mut read = Command::new(if bytes.starts_with(&[0x1f, 0x8b]) { "zcat" } else { "cat" });
        read.arg(file);
        let found = canary.found(read, &[]);
        assert!(found.is_empty(), "it is in {}", file.display());
    }
    (size, names)
}

fn every_file(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let kind = entry.file_type().expect("a type");
        if kind.is_dir() {
            every_file(&entry.path(), found);
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
}

/// Every object of every repository: packs are compressed.
pub(crate) fn in_repositories(folder: &Path, canary: &Canary) {
    let mut looked = 0;
    for repository in std::fs::read_dir(folder).expect("the repositories").flatten() {
        if !repository.path().join("objects").is_dir() {
            continue;
        }
        let mut git = Command::new("git");
        git.arg("--git-dir").arg(repository.path());
        git.args(["cat-file", "--batch", "--batch-all-objects", "--unordered"]);
        canary.is_not_in("the repository", git, &[MARK]);
        looked += 1;
    }
    assert_eq!(looked, 1, "repositories in {}", folder.display());
}
