//! Heroku's H codes: their words, their status, and how they are logged.

/// Why the router answered a request itself, or cut it off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// No dyno runs, and none is starting.
    H10,
    /// Too many requests wait already.
    H11,
    /// The dyno did not begin to answer in 30 s.
    H12,
    /// The dyno closed the connection without a byte.
    H13,
    /// The app runs no web dynos.
    H14,
    /// Nothing passed for 55 s.
    H15,
    /// The dyno's answer is not HTTP.
    H17,
    /// The dyno closed the connection in the middle of its answer.
    H18,
    /// The dyno did not take a connection in 5 s.
    H19,
    /// The dyno was not up after 75 s.
    H20,
    /// The dyno refused the connection.
    H21,
    /// The answer breaks a limit.
    H25,
    /// The request's body is not framed as it says.
    H26,
    /// The client went away.
    H27,
    /// The client sent nothing for 55 s in the middle of its request, or read nothing.
    H28,
    /// The app is in maintenance.
    H80,
    /// Nothing was ever released.
    H81,
    /// The router itself could not.
    H99,
}

impl Code {
    /// `H12`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::H10 => "H10",
            Self::H11 => "H11",
            Self::H12 => "H12",
            Self::H13 => "H13",
            Self::H14 => "H14",
            Self::H15 => "H15",
            Self::H17 => "H17",
            Self::H18 => "H18",
            Self::H19 => "H19",
            Self::H20 => "H20",
            Self::H21 => "H21",
            Self::H25 => "H25",
            Self::H26 => "H26",
            Self::H27 => "H27",
            Self::H28 => "H28",
            Self::H80 => "H80",
            Self::H81 => "H81",
            Self::H99 => "H99",
        }
    }

    /// Heroku's words for it, as in `desc="Request timeout"`.
    #[must_use]
    pub fn description(self) -> &'static str {
        match self {
            Self::H10 => "App crashed",
            Self::H11 => "Backlog too deep",
            Self::H12 => "Request timeout",
            Self::H13 => "Connection closed without response",
            Self::H14 => "No web processes running",
            Self::H15 => "Idle connection",
            Self::H17 => "Poorly formatted HTTP response",
            Self::H18 => "Server Request Interrupted",
            Self::H19 => "Backend connection timeout",
            Self::H20 => "App boot timeout",
            Self::H21 => "Backend connection refused",
            Self::H25 => "HTTP Restriction",
            Self::H26 => "Request Error",
            Self::H27 => "Client Request Interrupted",
            Self::H28 => "Client Connection Idle",
            Self::H80 => "Maintenance mode",
            Self::H81 => "Blank app",
            Self::H99 => "Platform error",
        }
    }

    /// The status that the client gets (or would have got, had it stayed).
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::H25 => 502,
            Self::H26 => 400,
            Self::H27 | Self::H28 => 499,
            _ => 503,
        }
    }

    /// Whether Heroku logs it as `at=info`: nothing is broken.
    #[must_use]
    pub fn is_info(self) -> bool {
        matches!(self, Self::H80 | Self::H81)
    }

    /// Heroku's `sock=` of a cut-off connection: which end cut it.
    #[must_use]
    pub fn socket(self) -> Option<&'static str> {
        match self {
            Self::H18 => Some("backend"),
            Self::H26 | Self::H27 | Self::H28 => Some("client"),
            _ => None,
        }
    }
}
