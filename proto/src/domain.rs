//! `domain`: a host name that leads to an app.

use serde::{Deserialize, Serialize};

use crate::{Id, Named, Time};

/// `GET /apps/{app}/domains/{domain}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Domain {
    /// How far the managed certificate is.
    pub acm_status: Option<String>,
    /// Why it is not further.
    pub acm_status_reason: Option<String>,
    /// The app it leads to.
    pub app: Named,
    /// The DNS target to point the name at; `null` for the app's own domain.
    pub cname: Option<String>,
    /// When it was added.
    pub created_at: Time,
    /// The full host name.
    pub hostname: String,
    /// The domain's id.
    pub id: Id,
    /// Whose name it is.
    pub kind: DomainKind,
    /// The certificate it uses.
    pub sni_endpoint: Option<Named>,
    /// `none`, `pending`, `succeeded` or `failed`.
    pub status: String,
    /// When it last changed.
    pub updated_at: Time,
}

/// Whose name a domain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DomainKind {
    /// The platform's: `<app>.<our domain>`.
    Heroku,
    /// The user's own.
    Custom,
}

/// Body of `POST /apps/{app}/domains`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateDomain {
    /// The full host name.
    pub hostname: String,
    /// The certificate to use, by id or name. Heroku's CLI sends `null`.
    #[serde(default)]
    pub sni_endpoint: Option<String>,
}

/// Body of `PATCH /apps/{app}/domains/{domain}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateDomain {
    /// The certificate to use, by id or name; `null` for none.
    pub sni_endpoint: Option<String>,
}
