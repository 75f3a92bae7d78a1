//! `paas-server env`: the variables that point paas, git and the unmodified heroku CLI at this installation.
//!
//! The user's own git configuration stays as it is: ours comes by `GIT_CONFIG_COUNT`.

use std::io;
use std::path::{Path, PathBuf};

use crate::data_folder::{DataFolder, Ports};

/// The lines for `eval`. `programs` is the folder with `paas`, put in front of `PATH`.
///
/// # Errors
/// When the installation has not started yet.
pub fn exports(data: &DataFolder, ports: &Ports, programs: Option<&Path>) -> io::Result<String> {
    let key = std::fs::read_to_string(data.admin_key_file())?;
    let ca = data.path("ca").join("ca.pem");
    let api = format!("http://localhost:{}", ports.api);
    let https = format!("https://localhost:{}", ports.api);
    let paas = programs.map_or_else(|| PathBuf::from("paas"), |folder| folder.join("paas"));

    let mut vars: Vec<(String, String)> = Vec::new();
    let mut set = |name: &str, value: &str| vars.push((name.to_owned(), value.to_owned()));
    set("PAAS_URL", &api);
    set("PAAS_API_KEY", key.trim());
    set("PAAS_CA", &ca.to_string_lossy());
    for name in ["HEROKU_HOST", "HEROKU_PARTICLEBOARD_URL", "HEROKU_LOGIN_HOST", "HEROKU_BUILDPACK_REGISTRY_URL"] {
        set(name, &api);
    }
    set("HEROKU_STATUS_HOST", &api);
    set("HEROKU_EXEC_URL", &https);
    set("HEROKU_DATA_HOST", "localhost");
    set("HEROKU_API_KEY", key.trim());
    set("HEROKU_GIT_HOST", &format!("localhost:{}", ports.api));
    set("DISABLE_TELEMETRY", "true");
    set("HEROKU_SKIP_NEW_VERSION_CHECK", "1");
    // Node and git each take one file: ours together with what was there before.
    let node = bundle(data, "node", &ca, std::env::var_os("NODE_EXTRA_CA_CERTS"))?;
    set("NODE_EXTRA_CA_CERTS", &node.to_string_lossy());
    let remote = format!("{https}/");
    let mut git = vec![
        (format!("credential.{https}.helper"), String::new()),
        (format!("credential.{https}.helper"), format!("!{} git:credentials", quoted(&paas.to_string_lossy()))),
        (format!("http.{remote}.sslCAInfo"), ca.to_string_lossy().into_owned()),
    ];
    if let Some(before) = std::env::var_os("GIT_SSL_CAINFO") {
        // This variable beats the configuration.
        let both = bundle(data, "git", &ca, Some(before))?;
        set("GIT_SSL_CAINFO", &both.to_string_lossy());
        git.pop();
    }
    set("GIT_CONFIG_COUNT", &git.len().to_string());
    for (at, (name, value)) in git.iter().enumerate() {
        set(&format!("GIT_CONFIG_KEY_{at}"), name);
        set(&format!("GIT_CONFIG_VALUE_{at}"), value);
    }
    let mut text = String::new();
    for (name, value) in vars {
        text.push_str(&format!("export {name}={}\n", quoted(&value)));
    }
    if let Some(programs) = programs {
        text.push_str(&format!("export PATH={}:\"$PATH\"\n", quoted(&programs.to_string_lossy())));
    }
    Ok(text)
}

/// Our authority and those of another file in one.
fn bundle(data: &DataFolder, name: &str, ours: &Path, other: Option<std::ffi::OsString>) -> io::Result<PathBuf> {
    let path = data.path("ca").join(format!("with-{name}.pem"));
    let Some(other) = other.map(PathBuf::from).filter(|other| !other.as_os_str().is_empty() && *other != path) else {
        return Ok(if path.exists() { path } else { ours.to_owned() });
    };
    let mut bytes = std::fs::read(&other).unwrap_or_default();
    bytes.extend(std::fs::read(ours)?);
    crate::data_folder::write_secret(&path, &bytes)?;
    Ok(path)
}

/// A text in single quotes for a POSIX shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_hold() {
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's $HOME"), "'it'\\''s $HOME'");
    }
}
