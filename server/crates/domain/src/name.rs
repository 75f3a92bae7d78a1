//! Names that come from people and end in paths, labels, arguments and tags.
//!
//! Each is parsed once; a value of one of these types is safe in every place we put it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is not a name of its kind. Shown to the user as it stands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NameError(pub &'static str);

macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                $check(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }
    };
}

text_type!(
    /// An app's name: `^[a-z][a-z0-9-]{1,28}[a-z0-9]$` (the official schema's pattern).
    AppName,
    check_app_name
);
text_type!(
    /// A process type of a Procfile: `^[A-Za-z0-9_-]{1,63}$`, not starting with `-`.
    ///
    /// Heroku's schema allows 128 characters; ours end in container names and host labels.
    ProcessType,
    check_process_type
);
text_type!(
    /// A host name in lower case: labels of `a-z0-9-` (and `_` nowhere), 253 characters at most.
    HostName,
    check_host_name
);
text_type!(
    /// The name of a config var: letters, digits and `_`, not starting with a digit.
    EnvKey,
    check_env_key
);
text_type!(
    /// A full git ref name that git itself would accept, starting with `refs/`.
    RefName,
    check_ref_name
);
text_type!(
    /// A content digest: `sha256:` and 64 lower-case hexadecimal digits.
    Digest,
    check_digest
);

fn check_app_name(text: &str) -> Result<String, NameError> {
    let bytes = text.as_bytes();
    let good = (3..=30).contains(&bytes.len())
        && bytes[0].is_ascii_lowercase()
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
        && bytes[bytes.len() - 1] != b'-';
    if good {
        Ok(text.to_owned())
    } else if !(3..=30).contains(&text.chars().count()) {
        Err(NameError("Name is invalid: it must have 3 to 30 characters"))
    } else {
        Err(NameError(
            "Name must start with a letter, end with a letter or digit and can only contain lowercase letters, digits, and dashes",
        ))
    }
}

impl ProcessType {
    /// The most characters of one.
    pub const MAX_LENGTH: usize = 63;

    /// Whether a text would be a process type if it were shorter.
    #[must_use]
    pub fn is_only_too_long(text: &str) -> bool {
        text.len() > Self::MAX_LENGTH && has_process_type_characters(text)
    }
}

fn has_process_type_characters(text: &str) -> bool {
    !text.starts_with('-') && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

fn check_process_type(text: &str) -> Result<String, NameError> {
    let good = (1..=ProcessType::MAX_LENGTH).contains(&text.len()) && has_process_type_characters(text);
    if good {
        Ok(text.to_owned())
    } else {
        Err(NameError("Process types can only contain letters, digits, dashes and underscores"))
    }
}

fn check_host_name(text: &str) -> Result<String, NameError> {
    let bad = NameError("Hostname is not a valid domain name");
    let text = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    let rest = text.strip_prefix("*.").unwrap_or(&text);
    let labels: Vec<&str> = rest.split('.').collect();
    let all_digits = labels.last().is_some_and(|l| l.bytes().all(|b| b.is_ascii_digit()));
    if text.len() <= 253 && labels.len() >= 2 && labels.iter().all(|l| label(l)) && !all_digits {
        Ok(text)
    } else {
        Err(bad)
    }
}

fn check_env_key(text: &str) -> Result<String, NameError> {
    let bytes = text.as_bytes();
    let good = (1..=256).contains(&bytes.len())
        && !bytes[0].is_ascii_digit()
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_');
    if good {
        Ok(text.to_owned())
    } else {
        Err(NameError(
            "Config var names can only contain letters, digits and underscores, and cannot start with a digit",
        ))
    }
}

// The rules of git-check-ref-format(1).
fn check_ref_name(text: &str) -> Result<String, NameError> {
    let component = |c: &str| !c.is_empty() && !c.starts_with('.') && !c.ends_with(".lock");
    let good = text.len() <= 1024
        && text.starts_with("refs/")
        && !text.ends_with('.')
        && !text.contains("..")
        && !text.contains("@{")
        && text.chars().all(|c| !c.is_control() && !" ~^:?*[\\".contains(c))
        && text.split('/').all(component)
        && text.split('/').count() >= 3;
    if good { Ok(text.to_owned()) } else { Err(NameError("not a valid ref name")) }
}

fn check_digest(text: &str) -> Result<String, NameError> {
    let hex = text.strip_prefix("sha256:").unwrap_or("");
    if hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
        Ok(text.to_owned())
    } else {
        Err(NameError("not a sha256 digest"))
    }
}

impl ProcessType {
    /// The one process type that gets `$PORT` and traffic.
    ///
    /// # Panics
    /// Never: the text is a valid process type.
    #[must_use]
    pub fn web() -> Self {
        Self("web".to_owned())
    }

    /// Whether this is [`ProcessType::web`].
    #[must_use]
    pub fn is_web(&self) -> bool {
        self.0 == "web"
    }

    /// Whether this is the release phase's command, which is never scaled.
    #[must_use]
    pub fn is_release(&self) -> bool {
        self.0 == "release"
    }
}

impl RefName {
    /// The branch's short name when this is a branch.
    #[must_use]
    pub fn branch(&self) -> Option<&str> {
        self.0.strip_prefix("refs/heads/")
    }

    /// Whether a push to this ref deploys: only `main` and `master` do, as on Heroku.
    #[must_use]
    pub fn deploys(&self) -> bool {
        matches!(self.branch(), Some("main" | "master"))
    }
}

impl Digest {
    /// The digest without `sha256:`.
    #[must_use]
    pub fn hex(&self) -> &str {
        &self.0[7..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn app_names_are_herokus() {
        for good in ["abc", "a-1", "example-app", &"a".repeat(30)] {
            assert!(good.parse::<AppName>().is_ok(), "{good}");
        }
        for bad in ["", "ab", "1ab", "-ab", "ab-", "Abc", "a_b", "a.b", "a b", "../x", &"a".repeat(31), "abc\n", "äbc"]
        {
            assert!(bad.parse::<AppName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn host_names_are_dns_names() {
        assert_eq!("WWW.Example.COM.".parse::<HostName>().expect("good").as_str(), "www.example.com");
        assert!("*.example.com".parse::<HostName>().is_ok());
        for bad in [
            "",
            "localhost",
            "a..b",
            "-a.b",
            "a.b-",
            "1.2.3.4",
            "a b.c",
            "ex*mple.com",
            "*.*.com",
            "a_b.c",
            "exämple.com",
            "a.b:80",
            "http://a.b",
        ] {
            assert!(bad.parse::<HostName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn ref_names_are_gits() {
        assert!("refs/heads/main".parse::<RefName>().is_ok());
        assert!("refs/heads/feature/x".parse::<RefName>().is_ok());
        for bad in [
            "main",
            "refs/heads/",
            "refs/main",
            "refs/heads/a..b",
            "refs/heads/.a",
            "refs/heads/a.lock",
            "refs/heads/a b",
            "refs/heads/a\u{7f}",
            "refs/heads/a@{b",
            "refs/heads/a.",
        ] {
            assert!(bad.parse::<RefName>().is_err(), "{bad:?}");
        }
    }
}
