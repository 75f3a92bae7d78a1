//! `config-var`: the environment an app is given.

use std::collections::BTreeMap;

/// `GET /apps/{app}/config-vars`: names to values.
pub type ConfigVars = BTreeMap<String, String>;

/// Body of `PATCH /apps/{app}/config-vars`: a value sets, `null` unsets.
pub type ConfigVarsChange = BTreeMap<String, Option<String>>;
