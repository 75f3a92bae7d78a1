//! The user's git repository, through the git program.

use std::process::{Command, Stdio};

use crate::error::Failure;

/// A remote that leads to an app of this platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AppRemote {
    pub(crate) name: String,
    pub(crate) app: String,
}

/// Runs git and gives its output without the last newline. Fails with what git said.
pub(crate) fn git(args: &[&str]) -> Result<String, Failure> {
    let output = Command::new("git").args(args).stdin(Stdio::null()).output().map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => {
            Failure::usage("Git must be installed to use the paas CLI. See https://git-scm.com")
        }
        _ => Failure::new(format!("Couldn't run git: {e}")),
    })?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned())
    } else {
        Err(Failure::new(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
    }
}

/// Whether the working directory is in a repository.
pub(crate) fn in_repository() -> bool {
    git(&["rev-parse", "--git-dir"]).is_ok()
}

/// The URL of a remote, when there is one of this name.
pub(crate) fn remote_url(name: &str) -> Option<String> {
    git(&["remote", "get-url", "--", name]).ok()
}

/// All remotes as names and fetch URLs; none outside a repository.
pub(crate) fn remotes() -> Vec<(String, String)> {
    parse_remotes(&git(&["remote", "-v"]).unwrap_or_default())
}

fn parse_remotes(listing: &str) -> Vec<(String, String)> {
    let fetch = |line: &str| {
        let (name, rest) = line.split_once('\t')?;
        let url = rest.strip_suffix(" (fetch)")?;
        Some((name.to_owned(), url.to_owned()))
    };
    listing.lines().filter_map(fetch).collect()
}

/// The remotes that lead to apps on `git_host`.
pub(crate) fn app_remotes(git_host: &str) -> Vec<AppRemote> {
    let of_us = |(name, url): (String, String)| app_of(&url, git_host).map(|app| AppRemote { name, app });
    remotes().into_iter().filter_map(of_us).collect()
}

/// The app that a remote's URL leads to, when it is on `git_host`.
pub(crate) fn app_of(url: &str, git_host: &str) -> Option<String> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"))?;
    let (authority, path) = rest.split_once('/')?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let app = path.strip_suffix(".git")?;
    (host.eq_ignore_ascii_case(git_host) && !app.is_empty() && !app.contains('/')).then(|| app.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_our_remotes() {
        let listing = "aws\thttps://localhost:5000/hello.git (fetch)\naws\thttps://localhost:5000/hello.git (push)\n\
                       origin\tgit@github.com:me/hello.git (fetch)\n";
        let remotes = parse_remotes(listing);
        assert_eq!(remotes.len(), 2);
        assert_eq!(app_of(&remotes[0].1, "localhost:5000").as_deref(), Some("hello"));
        assert_eq!(app_of(&remotes[1].1, "localhost:5000"), None);
        assert_eq!(app_of("https://x:y@localhost:5000/hello.git", "localhost:5000").as_deref(), Some("hello"));
        for other in [
            "https://localhost:50000/hello.git",
            "https://localhost:5000/a/b.git",
            "https://localhost:5000/.git",
            "https://localhost:5000@evil/hello.git",
        ] {
            assert_eq!(app_of(other, "localhost:5000"), None, "{other}");
        }
    }
}
