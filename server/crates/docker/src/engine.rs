//! The engine itself: how to reach it, and what its errors mean to us.

use std::path::Path;
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use paas_ports::PortError;

/// The engine's usual socket.
pub const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

/// The label that everything of one installation carries.
pub const INSTALL_LABEL: &str = "paas.install";
/// The label with the app's id.
pub const APP_LABEL: &str = "paas.app";

/// How long the engine may take to begin its answer, in seconds.
const ANSWER_S: u64 = 120;

/// Connects to the engine at `socket` and agrees on a version of its API.
///
/// # Errors
/// [`PortError::Transient`] when no engine answers there.
pub async fn connect(socket: &Path) -> Result<Docker, PortError> {
    let doing = "connecting to the Docker engine";
    let path = socket.to_string_lossy();
    let docker = Docker::connect_with_unix(&path, ANSWER_S, bollard::API_DEFAULT_VERSION)
        .map_err(|e| PortError::transient(doing, e))?;
    docker.negotiate_version().await.map_err(|e| PortError::transient(doing, e))
}

/// The HTTP status of the engine's answer, when it answered.
#[must_use]
pub fn status(e: &Error) -> Option<u16> {
    match e {
        Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// What an engine's error means to whoever asked: refused requests stay refused, everything else may pass.
#[must_use]
pub fn port_error(doing: impl Into<String>, e: &Error) -> PortError {
    match status(e) {
        Some(404) => PortError::NotFound(doing.into()),
        Some(400 | 403) => PortError::permanent(doing, e),
        _ => PortError::transient(doing, e),
    }
}

/// Runs an engine call that should answer soon, with a limit.
///
/// # Errors
/// [`PortError::Transient`] at the limit, else what [`port_error`] makes of the engine's answer.
pub async fn bounded<T>(
    doing: &str,
    limit: Duration,
    call: impl Future<Output = Result<T, Error>>,
) -> Result<T, PortError> {
    match tokio::time::timeout(limit, call).await {
        Ok(answer) => answer.map_err(|e| port_error(doing, &e)),
        Err(_) => Err(PortError::transient(doing, "the Docker engine does not answer")),
    }
}
