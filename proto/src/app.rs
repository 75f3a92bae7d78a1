//! `app`: what a developer deploys.

use serde::{Deserialize, Serialize};

use crate::{Id, Named, Time, User};

/// `GET /apps/{app}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct App {
    /// Whether certificates are managed automatically.
    pub acm: bool,
    /// When the app was archived.
    pub archived_at: Option<Time>,
    /// The stack of the next build.
    pub build_stack: Named,
    /// What the buildpack calls itself.
    pub buildpack_provided_description: Option<String>,
    /// `complete`. Not in the schema; `apps:info -s` prints it.
    #[serde(default = "complete")]
    pub create_status: String,
    /// When the app was made.
    pub created_at: Time,
    /// The platform generation: always `cedar` here.
    pub generation: Named,
    /// Where to push: `https://<git host>/<app>.git`.
    pub git_url: String,
    /// The app's id; stays when the app is renamed.
    pub id: Id,
    /// Whether only the private network reaches the app; `null` outside private spaces.
    pub internal_routing: Option<bool>,
    /// Whether the maintenance page is shown.
    pub maintenance: bool,
    /// The unique name.
    pub name: String,
    /// Heroku's old word for `team`.
    pub organization: Option<Named>,
    /// Who owns the app.
    pub owner: User,
    /// Where it runs.
    pub region: Named,
    /// When the newest release was made.
    pub released_at: Option<Time>,
    /// Bytes of the git repository.
    pub repo_size: Option<u64>,
    /// Bytes of the built app.
    pub slug_size: Option<u64>,
    /// The private space it is in.
    pub space: Option<Space>,
    /// The stack of the current release.
    pub stack: Named,
    /// The team it belongs to; `null` for a personal app.
    pub team: Option<Named>,
    /// When the app last changed.
    pub updated_at: Time,
    /// Where it is served.
    pub web_url: Option<String>,
}

fn complete() -> String {
    "complete".to_owned()
}

/// A private space.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Space {
    /// Its id.
    pub id: Id,
    /// Its name.
    pub name: String,
    /// Whether it is a shield space.
    pub shield: bool,
}

/// A thing of which only the name is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameOnly {
    /// Its name.
    pub name: String,
}

/// Body of `POST /apps`. Everything may be absent; an absent name is made up by the server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateApp {
    /// The name to have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Region by id or name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Stack by id or name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stack: Option<String>,
}

/// Body of `PATCH /apps/{app}`. An absent field leaves the app's as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateApp {
    /// The stack of the next build, by id or name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build_stack: Option<String>,
    /// Whether to show the maintenance page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maintenance: Option<bool>,
    /// The new name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}
