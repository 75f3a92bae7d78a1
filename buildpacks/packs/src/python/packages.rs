//! Which package manager an app uses, and what its dependencies are made from.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::manifest;

/// How an app names its dependencies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manager {
    /// `requirements.txt`.
    Requirements,
    /// `uv.lock` beside `pyproject.toml`.
    Uv,
}

/// Every file that makes an app a Python app.
pub(super) const DETECTED: [&str; 13] = [
    ".python-version",
    "Pipfile",
    "Pipfile.lock",
    "__init__.py",
    "app.py",
    "main.py",
    "manage.py",
    "poetry.lock",
    "pyproject.toml",
    "requirements.txt",
    "runtime.txt",
    "setup.py",
    "uv.lock",
];

impl Manager {
    /// Finds the app's package manager.
    ///
    /// # Errors
    /// When there is none, more than one, or one that is not supported.
    pub(super) fn find(app: &Path) -> Result<Self, Failure> {
        let has = |file: &str| manifest::has(app, file);
        match (has("requirements.txt"), has("uv.lock")) {
            (true, true) => Err(Failure::new(
                "Multiple Python package manager files were found",
                "Exactly one package manager file should be present in your app's source code,\n\
                 however, several were found:\n\n    requirements.txt (pip)\n    uv.lock (uv)\n\n\
                 Decide which one you want to use and delete the other.",
            )),
            (true, false) => Ok(Self::Requirements),
            (false, true) => Ok(Self::Uv),
            (false, false) => Err(unsupported(has)),
        }
    }
}

fn unsupported(has: impl Fn(&str) -> bool) -> Failure {
    let (name, command) = if has("poetry.lock") {
        ("Poetry", "poetry export --output requirements.txt")
    } else if has("Pipfile") || has("Pipfile.lock") {
        ("Pipenv", "pipenv requirements > requirements.txt")
    } else {
        return Failure::new(
            "Couldn't find any supported Python package manager files",
            "A Python app must have a requirements.txt or a uv.lock in the root directory of its\n\
             source code. If it needs no packages, add an empty requirements.txt.\n\n\
             Make sure the file is in the correct capitalisation, is not ignored by .gitignore,\n\
             and has been committed.",
        );
    };
    Failure::new(
        format!("{name} isn't supported by this buildpack"),
        format!("Add a requirements.txt made from your lock file, and commit it:\n\n    {command}\n\nOr move to uv."),
    )
}

/// Everything a `requirements.txt` is made of, to tell whether anything changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Requirements {
    /// The file and those it includes, by path and content.
    pub(super) contents: Vec<u8>,
    /// Whether it installs from folders of the app, whose changes no file here shows.
    pub(super) has_local: bool,
}

impl Requirements {
    /// Reads the file and all it includes by `-r` and `-c`.
    pub(super) fn read(app: &Path) -> Self {
        let mut found = Self::default();
        found.add(&app.join("requirements.txt"), &mut BTreeSet::new());
        found
    }

    fn add(&mut self, file: &Path, seen: &mut BTreeSet<PathBuf>) {
        if !seen.insert(file.to_owned()) {
            return;
        }
        // A file that is not there is the installer's to complain about.
        let bytes = fs::read(file).unwrap_or_default();
        self.contents.extend_from_slice(file.as_os_str().as_encoded_bytes());
        self.contents.push(b'\n');
        self.contents.extend_from_slice(&bytes);
        for line in String::from_utf8_lossy(&bytes).lines().map(str::trim) {
            if let Some(other) = included(line) {
                self.add(&file.parent().unwrap_or(Path::new("/")).join(other), seen);
            } else if is_local(line) {
                self.has_local = true;
            }
        }
    }
}

/// The file that a line includes.
fn included(line: &str) -> Option<&str> {
    let options = ["--requirement", "--constraint", "-r", "-c"];
    let rest = options.iter().find_map(|option| line.strip_prefix(option))?;
    Some(rest.trim_start_matches(['=', ' ', '\t'])).filter(|file| !file.is_empty())
}

/// Whether a line installs something that is not from an index.
fn is_local(line: &str) -> bool {
    let starts = ["-e", "--editable", ".", "/", "file:"];
    starts.iter().any(|start| line.starts_with(start)) || line.contains("@ file:") || line.contains("@ .")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(files: &[(&str, &str)]) -> tempfile::TempDir {
        let app = tempfile::tempdir().expect("a folder");
        for (file, text) in files {
            let path = app.path().join(file);
            fs::create_dir_all(path.parent().expect("a parent")).expect("makes");
            fs::write(path, text).expect("writes");
        }
        app
    }

    #[test]
    fn one_manager_is_found() {
        assert_eq!(Manager::find(app(&[("requirements.txt", "")]).path()), Ok(Manager::Requirements));
        assert_eq!(Manager::find(app(&[("uv.lock", ""), ("pyproject.toml", "")]).path()), Ok(Manager::Uv));
        let both = Manager::find(app(&[("requirements.txt", ""), ("uv.lock", "")]).path()).expect_err("two");
        assert_eq!(both.what, "Multiple Python package manager files were found");
    }

    #[test]
    fn what_is_not_supported_gets_a_way_on() {
        let poetry = Manager::find(app(&[("poetry.lock", "")]).path()).expect_err("poetry");
        assert_eq!(poetry.what, "Poetry isn't supported by this buildpack");
        assert!(poetry.advice.contains("poetry export --output requirements.txt"));
        let pipenv = Manager::find(app(&[("Pipfile", "")]).path()).expect_err("pipenv");
        assert!(pipenv.advice.contains("pipenv requirements > requirements.txt"));
        let none = Manager::find(app(&[("app.py", "")]).path()).expect_err("none");
        assert_eq!(none.what, "Couldn't find any supported Python package manager files");
    }

    #[test]
    fn included_files_count() {
        let files = [
            ("requirements.txt", "-r deps/base.txt\nflask\n"),
            ("deps/base.txt", "-c pins.txt\n"),
            ("deps/pins.txt", "a==1"),
        ];
        let work = app(&files);
        let before = Requirements::read(work.path());
        assert!(!before.has_local);
        fs::write(work.path().join("deps/pins.txt"), "a==2").expect("writes");
        assert_ne!(Requirements::read(work.path()), before);
    }

    #[test]
    fn a_circle_of_includes_ends() {
        Requirements::read(app(&[("requirements.txt", "-r requirements.txt\n")]).path());
    }

    #[test]
    fn folders_of_the_app_are_noticed() {
        for line in ["-e .", "./vendor/x", "--editable=./x", "x @ file:///workspace/x"] {
            assert!(Requirements::read(app(&[("requirements.txt", line)]).path()).has_local, "{line}");
        }
        assert!(
            !Requirements::read(app(&[("requirements.txt", "x @ https://x/y.whl\n--hash=sha256:1")]).path()).has_local
        );
    }
}
