//! Identifiers. UUIDv7 as text, one type per noun, so that no call takes the wrong one.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A text that should have been an id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an id: expected a UUID")]
pub struct IdError;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// A new id; later ones sort behind earlier ones.
            #[must_use]
            #[allow(clippy::new_without_default)]
            pub fn new() -> Self {
                Self(uuid::Uuid::now_v7().to_string())
            }

            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                // Only the hyphenated form, so that one id has one spelling.
                if text.len() != 36 {
                    return Err(IdError);
                }
                uuid::Uuid::try_parse(text).map(|u| Self(u.hyphenated().to_string())).map_err(|_| IdError)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }
    )*};
}

ids! {
    /// An account that can log in.
    AccountId,
    /// An app; stays when the app is renamed.
    AppId,
    /// An API key.
    AuthorizationId,
    /// One run of the buildpacks over one source.
    BuildId,
    /// One immutable set of config vars of an app.
    ConfigId,
    /// A host name of an app.
    DomainId,
    /// One dyno, from its start to its end.
    DynoId,
    /// One unit of background work.
    JobId,
    /// One stream of output (of a build or a release phase).
    OutputId,
    /// One release of an app.
    ReleaseId,
}

/// The six characters that every outside object of one installation carries.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InstallId(String);

impl InstallId {
    /// Six random characters of `a-z2-7`.
    ///
    /// # Panics
    /// When the operating system has no randomness to give.
    #[must_use]
    pub fn random() -> Self {
        let mut bytes = [0_u8; 5];
        getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
        let text = data_encoding::BASE32_NOPAD.encode(&bytes).to_lowercase();
        Self(text[..6].to_owned())
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InstallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for InstallId {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        let good = text.len() == 6 && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if good { Ok(Self(text)) } else { Err(IdError) }
    }
}

impl From<InstallId> for String {
    fn from(id: InstallId) -> Self {
        id.0
    }
}
