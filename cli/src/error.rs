//! How a command ends when it does not end well.

use paas_proto::ErrorBody;

use crate::ui;

/// What a command returns.
pub(crate) type Done = Result<(), Failure>;

/// Why a command stops: the text for the user and the exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    code: i32,
    status: Option<u16>,
    id: String,
}

impl Failure {
    /// Something that this program refuses: exit code 1.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 1, status: None, id: String::new() }
    }

    /// A wrong command line: exit code 2.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { code: 2, ..Self::new(message) }
    }

    /// Ends with this exit code and says nothing.
    pub(crate) fn exit(code: i32) -> Self {
        Self { code, ..Self::new("") }
    }

    /// An error that the API answered: its message as it stands, exit code 2.
    pub(crate) fn api(status: u16, body: ErrorBody) -> Self {
        let mut lines = vec![body.message.clone()];
        let mut more = Vec::new();
        if !body.id.is_empty() {
            more.push(format!("Error ID: {}", body.id));
        }
        if let Some(app) = &body.app {
            more.push(format!("App: {}", app.name));
        }
        if let Some(url) = &body.url {
            more.push(format!("See {url} for more information."));
        }
        if !more.is_empty() {
            lines.push(String::new());
            lines.append(&mut more);
        }
        Self { message: lines.join("\n"), code: 2, status: Some(status), id: body.id }
    }

    /// The same with another exit code.
    pub(crate) fn code(self, code: i32) -> Self {
        Self { code, ..self }
    }

    /// The HTTP status, when the server answered one.
    pub(crate) fn status(&self) -> Option<u16> {
        self.status
    }

    /// The same, remembering the HTTP status of an answer that was not the API's.
    pub(crate) fn with_status(self, status: u16) -> Self {
        Self { status: Some(status), ..self }
    }

    /// The API's error id (`not_found`), or nothing.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// The text for the user.
    #[cfg(test)]
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// Tells the user, and gives the exit code.
    pub(crate) fn tell(&self) -> i32 {
        if !self.message.is_empty() {
            ui::error(&self.message);
        }
        self.code
    }
}
