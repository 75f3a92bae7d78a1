//! What proves to the hub that a dyno is one of this app's.

use aws_lc_rs::hmac;
use data_encoding::BASE64URL_NOPAD;
use paas_domain::{AppId, InstallId};
use secrecy::SecretString;

/// The key that tokens are made with: the server's own, the same for as long as dynos live.
///
/// A token is HMAC-SHA256 over the installation's and the app's id, as base64url. It is no secret between the
/// dynos of one app (each runs the same code), so whoever shows it also has to call from its task's address.
#[derive(Clone)]
pub struct LinkKey {
    key: hmac::Key,
    install: InstallId,
}

impl LinkKey {
    /// The key of this installation.
    #[must_use]
    pub fn new(secret: &[u8; 32], install: InstallId) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, secret), install }
    }

    /// The value of `PAAS_LINK_TOKEN` for this app's dynos.
    #[must_use]
    pub fn token(&self, app: &AppId) -> SecretString {
        BASE64URL_NOPAD.encode(hmac::sign(&self.key, self.message(app).as_bytes()).as_ref()).into()
    }

    /// Whether this is the app's token, in a time that tells nothing about how much of it is right.
    pub(crate) fn is_right(&self, app: &AppId, token: &str) -> bool {
        let Ok(tag) = BASE64URL_NOPAD.decode(token.as_bytes()) else { return false };
        hmac::verify(&self.key, self.message(app).as_bytes(), &tag).is_ok()
    }

    fn message(&self, app: &AppId) -> String {
        format!("paas dyno link\0{}\0{app}", self.install)
    }
}

impl std::fmt::Debug for LinkKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LinkKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn a_token_is_good_for_one_app_of_one_installation() {
        let (here, there) = (InstallId::random(), InstallId::random());
        let (one, two) = (AppId::new(), AppId::new());
        let key = LinkKey::new(&[7; 32], here.clone());
        let token = key.token(&one);
        let token = token.expose_secret();
        assert!(key.is_right(&one, token));
        assert!(!key.is_right(&two, token));
        assert!(!LinkKey::new(&[7; 32], there).is_right(&one, token));
        assert!(!LinkKey::new(&[8; 32], here).is_right(&one, token));
        for bad in ["", "x", &token[..token.len() - 1], &format!("{token}A")] {
            assert!(!key.is_right(&one, bad), "{bad}");
        }
        assert_eq!(format!("{key:?}"), "LinkKey(..)");
    }
}
