//! The environment variables that tell a launcher about its link. None of them reaches the app.
//!
//! `ECS_*` variables are AWS's own and stay: libraries read task metadata through them, and the task's role is empty.

/// `host:port` of the hub, as its certificate has the host. Without it there is no link.
pub const LINK: &str = "PAAS_LINK";
/// The authority that signed the hub's certificate: PEM, or base64 of it. No secret.
pub const CA: &str = "PAAS_LINK_CA";
/// What proves the dyno's app to the hub. Secret.
pub const TOKEN: &str = "PAAS_LINK_TOKEN";
/// The app's id.
pub const APP: &str = "PAAS_APP_ID";
/// What the dyno runs: `web`, `worker`, `run`, `release`.
pub const PROCESS_TYPE: &str = "PAAS_PROCESS_TYPE";
/// The id of a one-off dyno. It also stands for the task where there is no task metadata.
pub const DYNO_ID: &str = "PAAS_DYNO_ID";
/// `1` for a one-off dyno that somebody attaches to: its command starts when the hub says so, and its bytes go over
/// the link only.
pub const ATTACH: &str = "PAAS_ATTACH";
/// `1` for an attached dyno that gets a terminal. `COLUMNS` and `LINES` of its config are its first size.
pub const TTY: &str = "PAAS_TTY";
/// Where AWS answers what task this is: `<this>/task`.
pub const METADATA: &str = "ECS_CONTAINER_METADATA_URI_V4";

/// All that is taken away from the app's environment.
pub const OURS: [&str; 8] = [LINK, CA, TOKEN, APP, PROCESS_TYPE, DYNO_ID, ATTACH, TTY];
