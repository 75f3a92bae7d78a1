//! The words that server and CLI share: Heroku's Platform API v3 resources and request bodies as serde types.
//!
//! One file per resource. A resource has exactly the fields of the official schema, every one always present
//! (`null` where the schema allows it), and the few more that Heroku's own CLI reads unguarded
//! ([`facts::ALSO_SENT`]). Request bodies accept what clients really send: unknown fields are ignored, quantities
//! and versions may be numbers or text. Ids are UUIDs as text; times are RFC 3339 in UTC with a precision of a second
//! (`2026-11-23T15:04:05Z`). No I/O here, and no rules: whether a name is allowed is the domain's to say.

mod account;
mod app;
mod app_feature;
mod build;
mod buildpack_installation;
mod config_vars;
mod domain;
mod dyno;
mod error;
pub mod facts;
mod formation;
mod log_session;
mod oauth_authorization;
mod placement;
mod refs;
mod region;
mod release;
mod slug;
mod source;
mod stack;

pub use account::{Account, IdentityProvider, IdentityProviderOwner};
pub use app::{App, CreateApp, NameOnly, Space, UpdateApp};
pub use app_feature::{AppFeature, UpdateAppFeature};
pub use build::{Build, BuildStatus, BuildpackRef, CreateBuild, SourceBlob};
pub use buildpack_installation::{BuildpackInstallation, BuildpackUpdate, UpdateBuildpacks};
pub use config_vars::{ConfigVars, ConfigVarsChange};
pub use domain::{CreateDomain, Domain, DomainKind, UpdateDomain};
pub use dyno::{CreateDyno, Dyno, ReleaseOfDyno};
pub use error::ErrorBody;
pub use formation::{Formation, FormationChange, FormationUpdate, NumberOrText, UpdateFormation};
pub use log_session::{CreateLogSession, LogSession};
pub use oauth_authorization::{
    AccessToken, AuthorizedUser, CreateOauthAuthorization, Grant, OauthAuthorization, OauthClient,
    UpdateOauthAuthorization,
};
pub use placement::{Placement, UpdatePlacement};
pub use refs::{Id, Named, Only, Time, User};
pub use region::{Provider, Region};
pub use release::{Artifact, CreateRelease, Release, ReleaseStatus};
pub use slug::{CreateSlug, Slug, SlugBlob};
pub use source::{Source, SourceUrls};
pub use stack::Stack;
