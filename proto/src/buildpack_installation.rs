//! `buildpack-installation`: which buildpacks an app's builds use.

use serde::{Deserialize, Serialize};

use crate::BuildpackRef;

/// One entry of `GET /apps/{app}/buildpack-installations`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildpackInstallation {
    /// The buildpack.
    pub buildpack: BuildpackRef,
    /// Its place, from 0.
    pub ordinal: u32,
}

/// Body of `PUT /apps/{app}/buildpack-installations`: the whole new list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateBuildpacks {
    /// In order.
    pub updates: Vec<BuildpackUpdate>,
}

/// One wanted buildpack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildpackUpdate {
    /// Its name (`heroku/python`) or URL.
    pub buildpack: String,
}
