//! `account`: who the caller is.

use serde::{Deserialize, Serialize};

use crate::{Id, NameOnly, Named, Time};

/// `GET /account`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Whether third-party analytics may be used.
    pub allow_tracking: bool,
    /// Whether beta features are offered.
    pub beta: bool,
    /// Country of residence.
    pub country_of_residence: Option<String>,
    /// When the account was made.
    pub created_at: Time,
    /// Heroku's old word for `default_team`.
    pub default_organization: Option<Named>,
    /// The team that new apps belong to.
    pub default_team: Option<Named>,
    /// Since when payments are missing.
    pub delinquent_at: Option<Time>,
    /// The unique e-mail address.
    pub email: String,
    /// Whether an identity provider owns this account.
    pub federated: bool,
    /// The account's id.
    pub id: Id,
    /// The identity provider of a federated account.
    pub identity_provider: Option<IdentityProvider>,
    /// When the account last logged in.
    pub last_login: Option<Time>,
    /// Full name.
    pub name: Option<String>,
    /// Number for text messages.
    pub sms_number: Option<String>,
    /// Since when the account is suspended.
    pub suspended_at: Option<Time>,
    /// Whether a second factor is asked for.
    pub two_factor_authentication: bool,
    /// When the account last changed.
    pub updated_at: Time,
    /// Whether the account has been verified with billing information.
    pub verified: bool,
}

/// Where a federated account comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityProvider {
    /// Its id.
    pub id: Id,
    /// Its name.
    pub name: String,
    /// Heroku's old word for `team`.
    pub organization: NameOnly,
    /// Who runs it.
    pub owner: IdentityProviderOwner,
    /// The team it serves.
    pub team: NameOnly,
}

/// Who runs an identity provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityProviderOwner {
    /// Its id.
    pub id: Id,
    /// Its name.
    pub name: String,
    /// `team` or `enterprise-account`.
    pub r#type: String,
}
