//! `static.json`, as heroku-buildpack-static reads it; every key may be missing.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use crate::failure::Failure;
use crate::manifest;

/// The file's name.
pub(crate) const FILE: &str = "static.json";
/// Where pages are looked for when nothing says so, best first.
const ROOTS: [&str; 6] = ["public", "public_html", "dist", "build", "_site", "."];

/// How a site is served.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Config {
    root: Option<PathBuf>,
    /// Whether `/about` may answer with `about.html`.
    #[serde(default)]
    pub(crate) clean_urls: bool,
    /// Whether plain HTTP is sent to HTTPS.
    #[serde(default)]
    pub(crate) https_only: bool,
    /// The page for what is not there, relative to the root.
    pub(crate) error_page: Option<String>,
    /// Patterns, with the file that answers where no file of its own does: `"/**": "index.html"`.
    #[serde(default)]
    routes: BTreeMap<String, String>,
    /// Patterns that answer with another place.
    #[serde(default)]
    redirects: BTreeMap<String, Redirect>,
    /// Patterns with response headers.
    #[serde(default)]
    headers: BTreeMap<String, BTreeMap<String, String>>,
}

/// Another place to look.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Redirect {
    /// The address.
    pub(crate) url: String,
    /// 301 when nothing else is said.
    pub(crate) status: Option<u16>,
}

impl Config {
    /// Reads the app's static.json; none is an empty one.
    ///
    /// # Errors
    /// When it is no text, no JSON of this shape, or `root` leaves the app.
    pub(crate) fn read(app: &Path) -> Result<Self, Failure> {
        let Some(text) = manifest::read_text(app, FILE)? else { return Ok(Self::default()) };
        let advice = "See heroku-buildpack-static for the keys that it may have; `{}` is a good start.";
        let config: Self = serde_json::from_str(&text)
            .map_err(|e| Failure::new(format!("static.json cannot be read: {e}"), advice))?;
        let leaves = |root: &PathBuf| root.components().any(|c| !matches!(c, Component::Normal(_) | Component::CurDir));
        if config.root.as_ref().is_some_and(leaves) {
            return Err(Failure::new("`root` in static.json leaves the app", "Name a folder inside the app."));
        }
        Ok(config)
    }

    /// The folder to serve, as the app's author would name it.
    pub(crate) fn root(&self, app: &Path) -> PathBuf {
        let guess = || PathBuf::from(guess_root(app).unwrap_or("public_html"));
        self.root.clone().unwrap_or_else(guess)
    }

    /// The folder to serve.
    pub(crate) fn root_in(&self, app: &Path) -> PathBuf {
        app.join(self.root(app))
    }

    /// The file that answers for a path which has none of its own.
    pub(crate) fn route(&self, path: &str) -> Option<&str> {
        self.routes.iter().find(|(pattern, _)| matches(pattern, path)).map(|(_, file)| file.as_str())
    }

    /// Where a path has gone.
    pub(crate) fn redirect(&self, path: &str) -> Option<&Redirect> {
        self.redirects.iter().find(|(pattern, _)| matches(pattern, path)).map(|(_, to)| to)
    }

    /// The headers set for a path; of a header set twice the longer pattern counts.
    pub(crate) fn headers(&self, path: &str) -> BTreeMap<&str, &str> {
        let mut found: Vec<_> = self.headers.iter().filter(|(pattern, _)| matches(pattern, path)).collect();
        found.sort_by_key(|(pattern, _)| pattern.len());
        found.into_iter().flat_map(|(_, headers)| headers).map(|(k, v)| (k.as_str(), v.as_str())).collect()
    }
}

/// The folder that holds an index page.
pub(crate) fn guess_root(app: &Path) -> Option<&'static str> {
    ROOTS.into_iter().find(|root| app.join(root).join("index.html").is_file())
}

/// `*` stands for anything within a folder, `**` for anything.
fn matches(pattern: &str, path: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == path,
        Some((start, rest)) => {
            let Some(tail) = path.strip_prefix(start) else { return false };
            let (deep, rest) = rest.strip_prefix('*').map_or((false, rest), |rest| (true, rest));
            let ends = tail.char_indices().map(|(at, _)| at).chain([tail.len()]);
            ends.take_while(|at| deep || !tail[..*at].contains('/')).any(|at| matches(rest, &tail[at..]))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn stars_match_as_they_do_in_static_json() {
        assert!(matches("/**", "/a/b"));
        assert!(matches("/assets/*", "/assets/app.js"));
        assert!(!matches("/assets/*", "/assets/js/app.js"));
        assert!(matches("/assets/**.js", "/assets/js/app.js"));
        assert!(!matches("/old", "/older"));
    }

    #[test]
    fn the_longer_pattern_sets_the_header() {
        let config: Config = serde_json::from_str(
            r#"{"headers": {"/**": {"Cache-Control": "no-store"}, "/assets/**": {"Cache-Control": "max-age=9"}}}"#,
        )
        .expect("reads");
        assert_eq!(config.headers("/assets/a")["Cache-Control"], "max-age=9");
        assert_eq!(config.headers("/")["Cache-Control"], "no-store");
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        let app = tempfile::tempdir().expect("a folder");
        fs::write(app.path().join(FILE), b"{\"root\": \"\xff\"}").expect("writes");
        let seen = Config::read(app.path()).expect_err("is no text");
        assert_eq!(seen.what, "static.json is not valid UTF-8 text");
        fs::write(app.path().join(FILE), "\u{feff}{\"clean_urls\": true}").expect("writes");
        assert!(Config::read(app.path()).expect("reads").clean_urls);
    }

    #[test]
    fn a_root_outside_is_refused() {
        let app = tempfile::tempdir().expect("a folder");
        for root in ["..", "/etc", "a/../../b"] {
            fs::write(app.path().join(FILE), format!(r#"{{"root": "{root}"}}"#)).expect("writes");
            assert!(Config::read(app.path()).is_err(), "{root}");
        }
    }
}
