//! A developer's folder: a fixture app in a git repository, and the programs run in it.

use std::path::{Path, PathBuf};

use super::{Platform, Ran, Running};

/// A repository on a platform. Its folder lives as long as the platform.
pub struct Repository<'a> {
    platform: &'a Platform,
    folder: PathBuf,
}

impl Platform {
    /// A new repository with the files of `tests/fixtures/apps/<fixture>`, committed on `main`.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn repository(&self, fixture: &str) -> Repository<'_> {
        let repository = self.empty_repository(fixture);
        let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/apps").join(fixture);
        copy(&files, &repository.folder);
        repository.commit("First");
        repository
    }

    /// A new repository without a commit, in a folder that begins with `name`.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn empty_repository(&self, name: &str) -> Repository<'_> {
        let folder = tempfile::Builder::new().prefix(&format!("{name}-")).tempdir_in(self.folder.path());
        let folder = folder.expect("a folder").keep();
        let repository = Repository { platform: self, folder };
        repository.git("init -q -b main").done();
        repository
    }
}

impl Repository<'_> {
    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes a file, and its folders.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.folder.join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
        std::fs::write(path, text).expect("a file");
    }

    /// Replaces a text in a file.
    ///
    /// # Panics
    /// When it is not there.
    pub fn replace(&self, path: &str, from: &str, to: &str) {
        let before = std::fs::read_to_string(self.folder.join(path)).expect("a file");
        assert!(before.contains(from), "{path} says {from:?}");
        self.write(path, &before.replace(from, to));
    }

    /// Commits everything, and gives the commit's id.
    pub fn commit(&self, message: &str) -> String {
        self.git("add -A").done();
        self.run(&["git", "commit", "-q", "--allow-empty", "-m", message]).done();
        self.git("rev-parse HEAD").done().stdout.trim().to_owned()
    }

    /// `git push aws main`.
    pub fn push(&self) -> Ran {
        self.git("push aws main")
    }

    /// `git` with these words.
    pub fn git(&self, words: &str) -> Ran {
        self.run(&[&["git"], &*words.split(' ').collect::<Vec<_>>()].concat())
    }

    /// `paas` with these words.
    pub fn paas(&self, words: &str) -> Ran {
        self.run(&[&["paas"], &*words.split(' ').collect::<Vec<_>>()].concat())
    }

    /// `heroku` with these words.
    pub fn heroku(&self, words: &str) -> Ran {
        self.run(&[&["heroku"], &*words.split(' ').collect::<Vec<_>>()].concat())
    }

    /// Runs a program to its end.
    pub fn run(&self, words: &[&str]) -> Ran {
        self.run_with(words, &[], "")
    }

    /// Runs a program to its end, with more variables (an empty value removes one) and an input.
    pub fn run_with(&self, words: &[&str], vars: &[(&str, &str)], input: &str) -> Ran {
        self.platform.spawn(&self.folder, words, vars, input).wait()
    }

    /// Starts a program.
    pub fn spawn(&self, words: &str) -> Running {
        self.platform.spawn(&self.folder, &words.split(' ').collect::<Vec<_>>(), &[], "")
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).unwrap_or_else(|e| panic!("{}: {e}", from.display())) {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("a copy");
        }
    }
}
