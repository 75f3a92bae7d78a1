//! Which platform to talk to, and with which key.
//!
//! `PAAS_URL` says which server; the key is `PAAS_API_KEY`, else what netrc holds for exactly that server, so that a
//! key never goes to another one. Heroku's own variables (`HEROKU_HOST`, `HEROKU_API_KEY`) are not read: a key for
//! Heroku is none of ours.

use std::path::PathBuf;

use ureq::http::Uri;

use crate::error::Failure;
use crate::{netrc, ui};

/// The settings.
#[derive(Debug)]
pub(crate) struct Settings {
    /// `http://localhost:5000`, without a slash at the end.
    pub(crate) url: String,
    /// `localhost:5000`: the API's machine in netrc.
    pub(crate) api_host: String,
    /// `localhost:5000`: the host of git remotes.
    pub(crate) git_host: String,
    /// Whether the API is on this machine.
    pub(crate) loopback: bool,
    /// More certificate authorities to trust.
    pub(crate) ca: Option<PathBuf>,
    env_key: Option<String>,
}

fn env(name: &str) -> Result<Option<String>, Failure> {
    match std::env::var(name) {
        Ok(value) if value.is_empty() => Ok(None),
        Ok(value) => Ok(Some(value)),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => Err(Failure::usage(format!("{name} is not UTF-8"))),
    }
}

impl Settings {
    /// Reads the environment.
    pub(crate) fn from_env() -> Result<Self, Failure> {
        let Some(url) = env("PAAS_URL")? else {
            return Err(Failure::usage(
                "PAAS_URL is not set. It says which platform to talk to, as http://localhost:5000.\n\
                 For the one on this machine: eval \"$(make -s env)\"",
            ));
        };
        let mut settings = Self::for_url(&url)?;
        settings.env_key = env("PAAS_API_KEY")?;
        if let Some(host) = env("PAAS_GIT_HOST")? {
            settings.git_host = host;
        }
        settings.ca = env("PAAS_CA")?.map(PathBuf::from);
        if !settings.loopback && url.starts_with("http://") {
            ui::warn("PAAS_URL is not https: your key and config vars travel in the clear.");
        }
        Ok(settings)
    }

    fn for_url(url: &str) -> Result<Self, Failure> {
        let bad = |why: &str| Failure::usage(format!("PAAS_URL {why}; it should be as http://localhost:5000"));
        let uri: Uri = url.parse().map_err(|_| bad("is not a URL"))?;
        let scheme = uri.scheme_str().filter(|s| matches!(*s, "http" | "https")).ok_or_else(|| bad("has no scheme"))?;
        let authority = uri.authority().ok_or_else(|| bad("has no host"))?;
        if authority.as_str().contains('@') {
            return Err(bad("must not carry a user or password"));
        }
        let host = authority.host();
        let api_host = authority.as_str().to_owned();
        let git_host = match api_host.strip_prefix("api.") {
            Some(domain) => format!("git.{domain}"),
            None => api_host.clone(),
        };
        let loopback =
            host == "localhost" || host.ends_with(".localhost") || host == "[::1]" || host.starts_with("127.");
        let url = format!("{scheme}://{authority}{}", uri.path().trim_end_matches('/'));
        Ok(Self { url, api_host, git_host, loopback, ca: None, env_key: None })
    }

    /// The user's key: `PAAS_API_KEY`, else netrc's; `None` when logged out.
    pub(crate) fn key(&self) -> Result<Option<String>, Failure> {
        if let Some(key) = &self.env_key {
            return Ok(Some(key.clone()));
        }
        let Some(path) = netrc::path() else { return Ok(None) };
        let netrc = netrc::Netrc::read(&path)?;
        Ok(netrc.find(&self.api_host).map(|entry| entry.password))
    }

    /// Whether the key comes from `PAAS_API_KEY`.
    pub(crate) fn key_is_from_env(&self) -> bool {
        self.env_key.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derives_hosts() {
        let s = Settings::for_url("http://localhost:5000/").expect("good");
        assert_eq!(
            (s.url.as_str(), s.api_host.as_str(), s.git_host.as_str()),
            ("http://localhost:5000", "localhost:5000", "localhost:5000")
        );
        assert!(s.loopback);
        let s = Settings::for_url("https://api.paas.example.com").expect("good");
        assert_eq!(s.git_host, "git.paas.example.com");
        assert!(!s.loopback);
        for bad in ["localhost:5000", "ftp://x", "http://", "http://u:p@x", "", "http://127.0.0.1.evil.example@x/"] {
            assert!(Settings::for_url(bad).is_err(), "{bad}");
        }
    }
}
