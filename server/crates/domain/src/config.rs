//! Config vars: the only place besides the source where an app's secrets are.

use std::collections::BTreeMap;

use secrecy::{ExposeSecret, SecretString};

use crate::EnvKey;

/// The most that keys and values of one app may have together, in bytes.
///
/// Heroku documents 32 KB or 64 KB depending on the page; ours is the larger.
pub const MAX_CONFIG_BYTES: usize = 64 * 1024;

/// The config vars of an app at one moment. Has no `Display`; `Debug` shows names only.
#[derive(Clone, Default)]
pub struct ConfigVars(BTreeMap<EnvKey, SecretString>);

impl ConfigVars {
    /// No config vars.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets one.
    pub fn set(&mut self, key: EnvKey, value: SecretString) {
        self.0.insert(key, value);
    }

    /// Removes one; whether it was there.
    pub fn unset(&mut self, key: &EnvKey) -> bool {
        self.0.remove(key).is_some()
    }

    /// The value of one.
    #[must_use]
    pub fn get(&self, key: &EnvKey) -> Option<&SecretString> {
        self.0.get(key)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&EnvKey, &SecretString)> {
        self.0.iter()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes of all names and values, which [`MAX_CONFIG_BYTES`] limits.
    #[must_use]
    pub fn total_bytes(&self) -> usize {
        self.0.iter().map(|(k, v)| k.as_str().len() + v.expose_secret().len()).sum()
    }

    /// The plain map, for the few places that may see it (sealing, the dyno's environment, the API's answer).
    #[must_use]
    pub fn expose(&self) -> BTreeMap<String, String> {
        self.0.iter().map(|(k, v)| (k.as_str().to_owned(), v.expose_secret().to_owned())).collect()
    }
}

impl FromIterator<(EnvKey, SecretString)> for ConfigVars {
    fn from_iter<T: IntoIterator<Item = (EnvKey, SecretString)>>(iter: T) -> Self {
        Self(iter.into_iter().collect())
    }
}

impl std::fmt::Debug for ConfigVars {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl PartialEq for ConfigVars {
    fn eq(&self, other: &Self) -> bool {
        self.0.len() == other.0.len()
            && self.iter().zip(other.iter()).all(|((a, x), (b, y))| a == b && x.expose_secret() == y.expose_secret())
    }
}
