//! What an app's dynos run on, where there is a choice.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::NameError;

/// A processor that dynos run on, and that images are built for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Architecture {
    /// Intel's and AMD's.
    #[default]
    X86,
    /// Graviton and its like.
    Arm,
}

impl Architecture {
    /// Both.
    pub const ALL: [Self; 2] = [Self::X86, Self::Arm];

    /// Its word: `x86_64` or `arm64`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::X86 => "x86_64",
            Self::Arm => "arm64",
        }
    }

    /// What an image's config says that it is for: `amd64`, `arm64`.
    #[must_use]
    pub fn of_image(text: &str) -> Option<Self> {
        match text {
            "amd64" => Some(Self::X86),
            "arm64" => Some(Self::Arm),
            _ => None,
        }
    }

    /// This machine's.
    #[must_use]
    pub fn of_this_machine() -> Self {
        if std::env::consts::ARCH == "aarch64" { Self::Arm } else { Self::X86 }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Architecture {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let found = Self::ALL.into_iter().find(|one| one.as_str() == text);
        found.ok_or(NameError("No such architecture. Use one of: x86_64, arm64."))
    }
}

impl TryFrom<String> for Architecture {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<Architecture> for String {
    fn from(architecture: Architecture) -> Self {
        architecture.as_str().to_owned()
    }
}

/// What services take their dynos from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Capacity {
    /// At its full price.
    #[default]
    OnDemand,
    /// What is left over, far cheaper, and taken away at two minutes' notice when somebody pays the full price. Most of
    /// a service's dynos, never all of them.
    Spot,
}

impl Capacity {
    /// Both.
    pub const ALL: [Self; 2] = [Self::OnDemand, Self::Spot];

    /// Its word: `on_demand` or `spot`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OnDemand => "on_demand",
            Self::Spot => "spot",
        }
    }
}

impl fmt::Display for Capacity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Capacity {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let found = Self::ALL.into_iter().find(|one| one.as_str() == text);
        found.ok_or(NameError("No such capacity. Use one of: on_demand, spot."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_back() {
        for one in Architecture::ALL {
            assert_eq!(one.as_str().parse(), Ok(one));
        }
        for one in Capacity::ALL {
            assert_eq!(one.as_str().parse(), Ok(one));
        }
        for bad in ["", "ARM64", "amd64", "x86", "Spot", "on-demand"] {
            assert!(bad.parse::<Architecture>().is_err() && bad.parse::<Capacity>().is_err(), "{bad}");
        }
        assert_eq!(Architecture::of_image("arm64"), Some(Architecture::Arm));
        assert_eq!(Architecture::of_image("riscv64"), None);
    }
}
