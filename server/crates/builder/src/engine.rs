//! The engine's errors, in the words of the ports.

use bollard::errors::Error;
use paas_ports::PortError;

/// An engine's answer as a port's error: what the engine refuses stays refused; everything else may pass.
pub(crate) fn failed(doing: &str, e: Error) -> PortError {
    match e {
        Error::DockerResponseServerError { status_code: 409, .. } => PortError::transient(doing, e),
        Error::DockerResponseServerError { status_code, .. } if (400..500).contains(&status_code) => {
            PortError::permanent(doing, e)
        }
        e => PortError::transient(doing, e),
    }
}

/// Whether the engine says that the thing is not there.
pub(crate) fn is_absent(e: &Error) -> bool {
    matches!(e, Error::DockerResponseServerError { status_code: 404, .. })
}

/// Whether the engine says that the thing is in the way: it exists, or is just being removed.
pub(crate) fn is_conflict(e: &Error) -> bool {
    matches!(e, Error::DockerResponseServerError { status_code: 409, .. })
}

/// A failure of our own files.
pub(crate) fn disk(doing: &str, e: impl std::fmt::Display) -> PortError {
    PortError::transient(doing, e)
}
