//! `oauth-authorization`: an API key and what is known of it.

use serde::{Deserialize, Serialize};

use crate::{Id, Only, Time};

/// `GET /oauth/authorizations/{id}`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OauthAuthorization {
    /// The token; whole only in the answer that made it.
    pub access_token: Option<AccessToken>,
    /// The client it was given to; `null` for one made by the user.
    pub client: Option<OauthClient>,
    /// When it was made.
    pub created_at: Time,
    /// What the user calls it.
    pub description: String,
    /// The grant on the way to a token.
    pub grant: Option<Grant>,
    /// The authorization's id.
    pub id: Id,
    /// The token that renews it.
    pub refresh_token: Option<AccessToken>,
    /// What it allows: `global`, `identity`, `read`, `write`, `read-protected`, `write-protected`.
    pub scope: Vec<String>,
    /// The browser session it belongs to.
    pub session: Option<Only>,
    /// When it last changed.
    pub updated_at: Time,
    /// Whose it is.
    pub user: AuthorizedUser,
}

/// A token. Its text is left out of debug output.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessToken {
    /// Seconds until it ends; `null` for never.
    pub expires_in: Option<u64>,
    /// Its id.
    pub id: Id,
    /// The secret itself, or its redacted form.
    pub token: String,
}

impl std::fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessToken")
            .field("expires_in", &self.expires_in)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// A registered OAuth client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OauthClient {
    /// Its id.
    pub id: Id,
    /// Its name.
    pub name: String,
    /// Where it sends its users back to.
    pub redirect_uri: String,
}

/// A grant on the way to a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The code to exchange.
    pub code: String,
    /// Seconds until it ends.
    pub expires_in: u64,
    /// Its id.
    pub id: Id,
}

/// Whose an authorization is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorizedUser {
    /// The e-mail address.
    pub email: String,
    /// The full name.
    pub full_name: Option<String>,
    /// The account's id.
    pub id: Id,
}

/// Body of `POST /oauth/authorizations`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateOauthAuthorization {
    /// What to call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Seconds until it ends; `null` for never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<u64>,
    /// What it allows; `global` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Vec<String>>,
}

/// Body of `PATCH /oauth/authorizations/{id}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateOauthAuthorization {
    /// What to call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}
