//! Which Python an app asks for, and which one it gets.

use std::fs;
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::manifest;

/// The Python of an app that names none.
pub(super) const DEFAULT: &str = "3.13";

/// A Python of the build image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Runtime {
    /// As in `3.13`.
    pub(super) minor: String,
    /// As in `3.13.5`.
    pub(super) full: String,
    /// Where it is.
    pub(super) folder: PathBuf,
}

/// What an app asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// As in `3.13`.
    minor: String,
    /// The third number, when the app names it.
    patch: Option<String>,
    /// The file that says so; `None` for the default.
    file: Option<&'static str>,
}

impl Wanted {
    /// Reads the app's `.python-version`, else its `runtime.txt`.
    ///
    /// # Errors
    /// When the file is no text, or does not name one version.
    pub(super) fn read(app: &Path) -> Result<Self, Failure> {
        for file in [".python-version", "runtime.txt"] {
            if let Some(text) = manifest::read_text(app, file)? {
                return parse(&text, file);
            }
        }
        Ok(Self { minor: DEFAULT.to_owned(), patch: None, file: None })
    }

    /// The line that says what is used and why.
    pub(super) fn explain(&self) -> String {
        let version = self.version();
        match self.file {
            Some(file) => format!("Using Python {version} specified in {file}"),
            None => format!("No Python version was specified. Using the buildpack default: Python {version}"),
        }
    }

    fn version(&self) -> String {
        self.patch.as_ref().map_or_else(|| self.minor.clone(), |patch| format!("{}.{patch}", self.minor))
    }

    /// The runtime for this wish, with a remark when it is not to the letter.
    ///
    /// # Errors
    /// When there is no such Python; lists those there are.
    pub(super) fn choose(&self, available: &[Runtime]) -> Result<(Runtime, Option<String>), Failure> {
        let Some(runtime) = available.iter().find(|runtime| runtime.minor == self.minor) else {
            let list: Vec<&str> = available.iter().map(|runtime| runtime.minor.as_str()).collect();
            return Err(Failure::new(
                format!("Python {} isn't available", self.version()),
                format!(
                    "Your app's {} file asks for Python {}. These versions are available:\n\n    {}\n\n\
                     Name one of them in the file .python-version, for example:\n\n    {}",
                    self.file.unwrap_or(".python-version"),
                    self.version(),
                    list.join(", "),
                    available.first().map_or(DEFAULT, |runtime| &runtime.minor),
                ),
            ));
        };
        let wanted = self.version();
        let remark = (self.patch.is_some() && runtime.full != wanted).then(|| {
            format!(
                "Python {wanted} isn't available; using Python {} instead, which has the\n\
                 security fixes of newer releases. To hide this, ask for {} only.",
                runtime.full, self.minor
            )
        });
        Ok((runtime.clone(), remark))
    }
}

/// Reads a version file: one line, as in `3.13`, `3.13.1` or `python-3.13.1`; comments are passed over.
fn parse(text: &str, file: &'static str) -> Result<Wanted, Failure> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    let lines: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
    let wrong = |what: String| {
        Failure::new(
            format!("Invalid Python version in {file}"),
            format!("{what}\n\nThe file must contain one line with a version, for example:\n\n    {DEFAULT}"),
        )
    };
    let [line] = lines.as_slice() else {
        return Err(wrong(format!("It names {} versions.", lines.len())));
    };
    let version = line.strip_prefix("python-").unwrap_or(line);
    let numbers: Vec<&str> = version.split('.').collect();
    let is_number = |part: &&str| !part.is_empty() && part.len() <= 4 && part.bytes().all(|b| b.is_ascii_digit());
    match (numbers.as_slice(), numbers.iter().all(is_number)) {
        ([major, minor], true) => Ok(Wanted { minor: format!("{major}.{minor}"), patch: None, file: Some(file) }),
        ([major, minor, patch], true) => {
            Ok(Wanted { minor: format!("{major}.{minor}"), patch: Some((*patch).to_owned()), file: Some(file) })
        }
        _ => Err(wrong(format!("It says `{}`.", line.chars().take(60).collect::<String>()))),
    }
}

/// The Pythons below a folder, newest first.
pub(super) fn available(home: &Path) -> Vec<Runtime> {
    let entries = fs::read_dir(home).into_iter().flatten().flatten();
    let mut found: Vec<Runtime> = entries
        .filter_map(|entry| {
            let folder = entry.path();
            let full = fs::read_to_string(folder.join("VERSION")).ok()?.trim().to_owned();
            Some(Runtime { minor: entry.file_name().into_string().ok()?, full, folder })
        })
        .collect();
    let numbers =
        |runtime: &Runtime| runtime.minor.split('.').filter_map(|n| n.parse::<u32>().ok()).collect::<Vec<_>>();
    found.sort_by_key(|runtime| std::cmp::Reverse(numbers(runtime)));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtimes() -> Vec<Runtime> {
        let work = tempfile::tempdir().expect("a folder");
        for (minor, full) in [("3.9", "3.9.2"), ("3.13", "3.13.5"), ("3.11", "3.11.2")] {
            fs::create_dir(work.path().join(minor)).expect("makes");
            fs::write(work.path().join(minor).join("VERSION"), format!("{full}\n")).expect("writes");
        }
        available(work.path())
    }

    #[test]
    fn every_spelling_of_a_version_is_read() {
        for (text, minor, patch) in [
            ("3.13\n", "3.13", None),
            ("python-3.11.9", "3.11", Some("9")),
            ("# ours\n\n 3.11 # pinned\r\n", "3.11", None),
        ] {
            let seen = parse(text, "runtime.txt").expect("reads");
            assert_eq!((seen.minor.as_str(), seen.patch.as_deref()), (minor, patch), "{text:?}");
        }
        for text in ["", "3", "pypy-3.9", "3.x", "3.11\n3.12", "3.11.2.1", "../..", "3.13-dev"] {
            let seen = parse(text, ".python-version").expect_err(text);
            assert_eq!(seen.what, "Invalid Python version in .python-version");
        }
    }

    #[test]
    fn newest_comes_first_by_number() {
        let minors: Vec<String> = runtimes().into_iter().map(|r| r.minor).collect();
        assert_eq!(minors, ["3.13", "3.11", "3.9"]);
    }

    #[test]
    fn what_is_not_there_gets_the_list_of_what_is() {
        let wanted = parse("python-2.7.18", "runtime.txt").expect("reads");
        let seen = wanted.choose(&runtimes()).expect_err("is not there");
        assert_eq!(
            seen.to_string(),
            " !     Error: Python 2.7.18 isn't available.\n !\n \
             !     Your app's runtime.txt file asks for Python 2.7.18. These versions are available:\n !\n \
             !         3.13, 3.11, 3.9\n !\n \
             !     Name one of them in the file .python-version, for example:\n !\n \
             !         3.13\n"
        );
    }

    #[test]
    fn another_patch_is_used_and_said() {
        let choose = |text| parse(text, "runtime.txt").expect("reads").choose(&runtimes()).expect("is there");
        let (runtime, remark) = choose("python-3.11.9");
        assert_eq!(runtime.full, "3.11.2");
        assert!(remark.is_some_and(|r| r.starts_with("Python 3.11.9 isn't available; using Python 3.11.2")));
        assert_eq!(choose("3.11.2").1, None);
        assert_eq!(choose("3.11").1, None);
    }

    #[test]
    fn no_file_means_the_default() {
        let app = tempfile::tempdir().expect("a folder");
        let seen = Wanted::read(app.path()).expect("reads").explain();
        assert_eq!(seen, "No Python version was specified. Using the buildpack default: Python 3.13");
        fs::write(app.path().join("runtime.txt"), "python-3.11").expect("writes");
        let seen = Wanted::read(app.path()).expect("reads").explain();
        assert_eq!(seen, "Using Python 3.11 specified in runtime.txt");
    }

    #[test]
    fn a_mark_is_passed_over_and_no_text_is_said() {
        let app = tempfile::tempdir().expect("a folder");
        let file = app.path().join(".python-version");
        fs::write(&file, "\u{feff}3.12\n").expect("writes");
        let seen = Wanted::read(app.path()).expect("reads").explain();
        assert_eq!(seen, "Using Python 3.12 specified in .python-version");
        fs::write(&file, b"3.\xff").expect("writes");
        let seen = Wanted::read(app.path()).expect_err("is no text");
        assert_eq!(seen.what, ".python-version is not valid UTF-8 text");
        // A link to a config var, which a message would show.
        fs::remove_file(&file).expect("removes");
        std::os::unix::fs::symlink("/etc/hostname", &file).expect("links");
        assert_eq!(Wanted::read(app.path()).expect("reads").file, None);
    }
}
