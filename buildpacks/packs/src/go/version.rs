//! Which Go an app's `go.mod` asks for, and which one it gets.
//!
//! A newer Go builds what an older one built, so `go` and `toolchain` lines are the least that is needed. Only
//! `// +heroku goVersion` asks for one release and no other.

use crate::failure::Failure;

/// Numbers of a release: major, minor, patch.
pub(super) type Number = (u32, u32, u32);

/// A Go that can be installed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Release {
    /// What it is called by `go version`.
    pub(super) number: Number,
    /// The version of the package that has it; packages may have a fourth number.
    pub(super) package: String,
}

/// What an app asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Any: the newest.
    Any,
    /// This release or a newer one, from a `go` or `toolchain` line.
    AtLeast(Number),
    /// The newest of a minor, or one release, from `// +heroku goVersion`.
    Only(u32, u32, Option<u32>),
}

/// What a build needs of `go.mod`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct GoMod {
    /// The module's path.
    pub(super) module: String,
    /// Which Go.
    pub(super) wanted: Wanted,
    /// The packages named by `// +heroku install`.
    pub(super) install: Vec<String>,
}

impl GoMod {
    /// Reads a go.mod.
    ///
    /// # Errors
    /// When a version in it is none.
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        let mut found = Self { module: String::new(), wanted: Wanted::Any, install: Vec::new() };
        for line in text.lines().map(str::trim) {
            let mut words = line.split_whitespace();
            match (words.next(), words.next(), words.next()) {
                (Some("module"), Some(path), _) => found.module = path.trim_matches('"').to_owned(),
                (Some("go"), Some(version), _) => found.at_least(version)?,
                (Some("toolchain"), Some(version), _) if version != "default" => found.at_least(version)?,
                (Some("//"), Some("+heroku"), Some("goVersion")) => {
                    let (major, minor, patch) = parse(words.next().unwrap_or_default())?;
                    found.wanted = Wanted::Only(major, minor, patch);
                }
                (Some("//"), Some("+heroku"), Some("install")) => found.install = words.map(str::to_owned).collect(),
                _ => {}
            }
        }
        Ok(found)
    }

    fn at_least(&mut self, version: &str) -> Result<(), Failure> {
        let (major, minor, patch) = parse(version)?;
        let number = (major, minor, patch.unwrap_or_default());
        match &mut self.wanted {
            Wanted::Only(..) => {}
            Wanted::AtLeast(known) => *known = number.max(*known),
            Wanted::Any => self.wanted = Wanted::AtLeast(number),
        }
        Ok(())
    }
}

impl Wanted {
    /// The release for this wish: with a floor, the newest patch of that minor, else of the next minor there is.
    ///
    /// # Errors
    /// When there is none; lists those there are.
    pub(super) fn choose(&self, releases: &[Release]) -> Result<Release, Failure> {
        let newest = |fits: &dyn Fn(&Release) -> bool| releases.iter().filter(|r| fits(r)).max().cloned();
        let found = match *self {
            Self::Any => newest(&|_| true),
            Self::Only(major, minor, patch) => {
                newest(&|r| (r.number.0, r.number.1) == (major, minor) && patch.is_none_or(|patch| patch == r.number.2))
            }
            Self::AtLeast(floor) => {
                let minor = releases.iter().filter(|r| r.number >= floor).map(|r| (r.number.0, r.number.1)).min();
                minor.and_then(|minor| newest(&|r| (r.number.0, r.number.1) == minor))
            }
        };
        found.ok_or_else(|| self.not_available(releases))
    }

    fn not_available(&self, releases: &[Release]) -> Failure {
        let asked = match *self {
            Self::Any => "Go".to_owned(),
            Self::AtLeast((major, minor, 0)) | Self::Only(major, minor, None) => format!("Go {major}.{minor}"),
            Self::AtLeast((major, minor, patch)) | Self::Only(major, minor, Some(patch)) => {
                format!("Go {major}.{minor}.{patch}")
            }
        };
        let mut numbers: Vec<Number> = releases.iter().map(|release| release.number).collect();
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        numbers.dedup_by_key(|number| (number.0, number.1));
        let list: Vec<String> = numbers.into_iter().take(8).map(name).collect();
        Failure::new(
            format!("{asked} isn't available"),
            format!(
                "Your app's go.mod asks for {asked}. The newest of each are:\n\n    {}\n\n\
                 Change the line `go` or `toolchain` in go.mod to one of them.",
                list.join(", ")
            ),
        )
    }
}

/// As in `1.26.6`.
pub(super) fn name((major, minor, patch): Number) -> String {
    format!("{major}.{minor}.{patch}")
}

/// Reads `go1.22`, `1.22.3` or `1.23rc1`; of a preview the release counts.
fn parse(text: &str) -> Result<(u32, u32, Option<u32>), Failure> {
    let shown: String = text.chars().take(40).collect();
    let wrong = || {
        Failure::new(
            format!("Invalid Go version \"{shown}\" in go.mod"),
            "Versions look like this:\n\n    go 1.26\n    toolchain go1.26.1",
        )
    };
    let version = text.strip_prefix("go").unwrap_or(text);
    let version = version.split(['r', 'b', '-']).next().unwrap_or_default();
    let numbers: Option<Vec<u32>> = version.split('.').map(|n| n.parse().ok()).collect();
    match numbers.as_deref() {
        Some([major, minor]) => Ok((*major, *minor, None)),
        Some([major, minor, patch]) => Ok((*major, *minor, Some(*patch))),
        _ => Err(wrong()),
    }
}

/// The releases in a list of package versions; what is no release is passed over.
pub(super) fn releases(packages: &[String]) -> Vec<Release> {
    let release = |package: &String| {
        let numbers: Option<Vec<u32>> = package.split('.').map(|n| n.parse().ok()).collect();
        match numbers?.as_slice() {
            [major, minor, patch, ..] => Some(Release { number: (*major, *minor, *patch), package: package.clone() }),
            _ => None,
        }
    };
    packages.iter().filter_map(release).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Vec<Release> {
        releases(
            &["1.27.3", "1.27.0", "1.26.6", "1.26.1", "1.24.11", "1.23.4.4", "1.23.9", "1.28rc1"].map(str::to_owned),
        )
    }

    fn choose(text: &str) -> String {
        let wanted = GoMod::parse(text).expect("reads").wanted;
        wanted.choose(&known()).map_or_else(|failure| failure.what, |release| release.package)
    }

    #[test]
    fn a_floor_gets_the_newest_patch_of_its_minor() {
        assert_eq!(choose("go 1.26"), "1.26.6");
        assert_eq!(choose("go 1.26.3\n"), "1.26.6");
        assert_eq!(choose("go 1.23.1"), "1.23.9");
        assert_eq!(choose("go 1.23\ntoolchain go1.26.1"), "1.26.6");
    }

    #[test]
    fn a_minor_that_is_not_there_gets_the_next_one() {
        assert_eq!(choose("go 1.13"), "1.23.9");
        assert_eq!(choose("go 1.25.1"), "1.26.6");
        assert_eq!(choose("module x"), "1.27.3");
    }

    #[test]
    fn herokus_comment_is_taken_at_its_word() {
        assert_eq!(choose("// +heroku goVersion go1.26.1\ngo 1.13"), "1.26.1");
        assert_eq!(choose("// +heroku goVersion 1.24"), "1.24.11");
        assert_eq!(choose("go 1.26\n// +heroku goVersion go1.26.5"), "Go 1.26.5 isn't available");
    }

    #[test]
    fn what_is_not_there_gets_the_list_of_what_is() {
        let seen = GoMod::parse("go 1.99").expect("reads").wanted.choose(&known()).expect_err("is not there");
        assert_eq!(
            seen.to_string(),
            " !     Error: Go 1.99 isn't available.\n !\n \
             !     Your app's go.mod asks for Go 1.99. The newest of each are:\n !\n \
             !         1.27.3, 1.26.6, 1.24.11, 1.23.9\n !\n \
             !     Change the line `go` or `toolchain` in go.mod to one of them.\n"
        );
    }

    #[test]
    fn the_rest_of_go_mod_is_read_too() {
        let seen = GoMod::parse("module \"example.com/a\" // x\n\ngo 1.26rc1\n// +heroku install ./cmd/a ./b\n")
            .expect("reads");
        assert_eq!((seen.module.as_str(), seen.wanted), ("example.com/a", Wanted::AtLeast((1, 26, 0))));
        assert_eq!(seen.install, ["./cmd/a", "./b"]);
        assert_eq!(GoMod::parse("go one").expect_err("is none").what, "Invalid Go version \"one\" in go.mod");
    }
}
