//! `auth:logout`: forgets the key of this machine and makes it worthless.

use paas_proto::OauthAuthorization;

use crate::api::Client;
use crate::cx::Cx;
use crate::error::{Done, Failure};
use crate::text::path_segment;
use crate::{netrc, ui};

/// clears local login credentials and invalidates API session
#[derive(clap::Args)]
pub(crate) struct Logout {}

/// What the API shows in the place of a token's middle.
const REDACTED: &str = "**********";

impl Logout {
    pub(crate) fn run(self, cx: &Cx) -> Done {
        let settings = cx.settings()?;
        let path = netrc::path();
        let mut kept = path.as_deref().map(netrc::Netrc::read).transpose()?.unwrap_or_default();
        ui::action("Logging out", || {
            if let Some(entry) = kept.find(&settings.api_host) {
                revoke(&Client::new(settings, entry.password)?)?;
            }
            let found = [kept.remove(&settings.api_host), kept.remove(&settings.git_host)];
            if let Some(path) = path.filter(|_| found.contains(&true)) {
                kept.write(&path)?;
            }
            Ok(((), String::new()))
        })?;
        if settings.key_is_from_env() {
            ui::warn("PAAS_API_KEY is set, and still in use.");
        }
        Ok(())
    }
}

/// Deletes the authorization of the client's key, unless it is the account's own API key, which others may use.
fn revoke(client: &Client) -> Done {
    let authorizations: Vec<OauthAuthorization> = match client.list("/oauth/authorizations") {
        Ok(all) => all,
        Err(failure) if failure.status() == Some(401) => return Ok(()), // worthless already
        Err(failure) => return Err(failure),
    };
    let default: Result<OauthAuthorization, Failure> = client.get("/oauth/authorizations/~");
    let default = match default {
        Ok(authorization) => Some(authorization.id),
        Err(failure) if failure.status() == Some(404) => None,
        Err(failure) => return Err(failure),
    };
    let ours = |a: &&OauthAuthorization| a.access_token.as_ref().is_some_and(|t| same(client.key(), &t.token));
    for authorization in authorizations.iter().filter(ours).filter(|a| Some(&a.id) != default.as_ref()) {
        client.delete(&format!("/oauth/authorizations/{}", path_segment(&authorization.id)))?;
    }
    Ok(())
}

fn same(key: &str, shown: &str) -> bool {
    match shown.split_once(REDACTED) {
        None => key == shown,
        Some((start, end)) => !(start.is_empty() && end.is_empty()) && key.starts_with(start) && key.ends_with(end),
    }
}

#[cfg(test)]
mod tests {
    use super::same;

    #[test]
    fn knows_a_redacted_key() {
        assert!(same("HRKU-abc-xyz", "HRKU-abc-xyz") && same("HRKU-abc-xyz", "HRKU-a**********xyz"));
        assert!(!same("HRKU-abc-xyz", "HRKU-b**********xyz") && !same("HRKU-abc-xyz", "**********"));
    }
}
