//! Dyno sizes: Heroku's names and what they mean in memory and CPU.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::NameError;

/// A dyno size by Heroku's name.
///
/// Memory is what R14 and R15 are measured against (devcenter, "Dyno Types").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DynoSize {
    /// 512 MB.
    Eco,
    /// 512 MB.
    #[default]
    Basic,
    /// 512 MB.
    Standard1X,
    /// 1 GB.
    Standard2X,
    /// 2.5 GB.
    PerformanceM,
    /// 14 GB.
    PerformanceL,
}

impl DynoSize {
    /// Every size, smallest first.
    pub const ALL: [Self; 6] =
        [Self::Eco, Self::Basic, Self::Standard1X, Self::Standard2X, Self::PerformanceM, Self::PerformanceL];

    /// The name as Heroku writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Eco => "Eco",
            Self::Basic => "Basic",
            Self::Standard1X => "Standard-1X",
            Self::Standard2X => "Standard-2X",
            Self::PerformanceM => "Performance-M",
            Self::PerformanceL => "Performance-L",
        }
    }

    /// The memory quota in MiB.
    #[must_use]
    pub fn memory_mib(self) -> u32 {
        match self {
            Self::Eco | Self::Basic | Self::Standard1X => 512,
            Self::Standard2X => 1024,
            Self::PerformanceM => 2560,
            Self::PerformanceL => 14_336,
        }
    }

    /// The relative CPU weight: Heroku's "CPU share" (1x is 1).
    #[must_use]
    pub fn cpu_share(self) -> u32 {
        match self {
            Self::Eco | Self::Basic | Self::Standard1X => 1,
            Self::Standard2X => 2,
            Self::PerformanceM => 6,
            Self::PerformanceL => 25,
        }
    }
}

impl fmt::Display for DynoSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for DynoSize {
    type Err = NameError;

    /// Accepts any case and Heroku's old short forms `1X`, `2X`, `hobby` and `free`.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let lower = text.to_ascii_lowercase();
        let alias = match lower.as_str() {
            "1x" => "standard-1x",
            "2x" => "standard-2x",
            "hobby" => "basic",
            "free" => "eco",
            "pm" => "performance-m",
            "pl" => "performance-l",
            other => other,
        };
        Self::ALL.into_iter().find(|s| s.as_str().eq_ignore_ascii_case(alias)).ok_or(NameError(
            "No such size. Use one of: Eco, Basic, Standard-1X, Standard-2X, Performance-M, Performance-L.",
        ))
    }
}

impl TryFrom<String> for DynoSize {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<DynoSize> for String {
    fn from(size: DynoSize) -> Self {
        size.as_str().to_owned()
    }
}
