//! What the environment says about the link.

use paas_link_frames::env;

/// How this dyno links.
#[derive(Clone)]
pub(crate) struct Settings {
    /// `host:port`.
    pub(crate) address: String,
    /// PEM.
    pub(crate) ca: String,
    pub(crate) token: String,
    pub(crate) app: String,
    pub(crate) process_type: String,
    /// The one-off dyno's id; empty for a dyno of the formation.
    pub(crate) dyno: String,
    pub(crate) attach: bool,
    pub(crate) tty: bool,
    /// Where the platform tells what task this is.
    pub(crate) metadata: Option<String>,
}

impl Settings {
    /// Reads them; `None` when this platform has no link.
    pub(crate) fn read(get: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let text = |name| get(name).unwrap_or_default();
        let on = |name| get(name).is_some_and(|value| value == "1");
        let address = get(env::LINK).filter(|address| !address.is_empty())?;
        Some(Self {
            address,
            ca: pem(text(env::CA)),
            token: text(env::TOKEN),
            app: text(env::APP),
            process_type: get(env::PROCESS_TYPE).unwrap_or_else(|| "run".to_owned()),
            dyno: text(env::DYNO_ID),
            attach: on(env::ATTACH),
            tty: on(env::TTY),
            metadata: get(env::METADATA),
        })
    }

    /// The host without its port, and without the brackets of an IPv6 address.
    pub(crate) fn host(&self) -> &str {
        let host = self.address.rsplit_once(':').map_or(self.address.as_str(), |(host, _)| host);
        host.trim_start_matches('[').trim_end_matches(']')
    }
}

/// PEM as it is, or from base64.
fn pem(text: String) -> String {
    use base64::Engine as _;
    if text.contains("-----BEGIN") {
        return text;
    }
    let bytes = base64::engine::general_purpose::STANDARD.decode(text.trim()).unwrap_or_default();
    String::from_utf8(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_an_address_there_is_no_link() {
        assert!(Settings::read(|_| None).is_none());
        assert!(Settings::read(|name| (name == env::LINK).then(String::new)).is_none());
        let settings = Settings::read(|name| match name {
            env::LINK => Some("[::1]:7000".to_owned()),
            env::CA => Some("LS0tLS1CRUdJTg==".to_owned()),
            env::ATTACH => Some("1".to_owned()),
            _ => None,
        });
        let settings = settings.expect("an address");
        assert_eq!((settings.host(), settings.ca.as_str()), ("::1", "-----BEGIN"));
        assert!(settings.attach && !settings.tty);
    }
}
