//! How many dynos a process type runs.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The most dynos of one process type. Heroku's limit for standard dynos (devcenter, "Limits").
pub const MAX_QUANTITY: u16 = 100;

/// A number of dynos, 0 to [`MAX_QUANTITY`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Quantity(u16);

/// Why a quantity cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Below 0 or above [`MAX_QUANTITY`].
    #[error("Cannot scale to that quantity: it must be between 0 and {MAX_QUANTITY}.")]
    OutOfRange,
    /// Neither a number nor a change of one.
    #[error("`{0}` is not a quantity: use `3`, `+1` or `-1`.")]
    NotANumber(String),
}

impl Quantity {
    /// A quantity, when `n` is at most [`MAX_QUANTITY`].
    #[must_use]
    pub fn new(n: u16) -> Option<Self> {
        (n <= MAX_QUANTITY).then_some(Self(n))
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<u16> for Quantity {
    type Error = QuantityError;

    fn try_from(n: u16) -> Result<Self, QuantityError> {
        Self::new(n).ok_or(QuantityError::OutOfRange)
    }
}

impl From<Quantity> for u16 {
    fn from(q: Quantity) -> Self {
        q.0
    }
}

/// How a formation update asks for a new quantity.
///
/// The CLI sends text: `"3"` sets, `"+1"` and `"-1"` move relative to now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuantityChange {
    /// Exactly so many.
    Set(u16),
    /// So many more.
    Increase(u16),
    /// So many fewer.
    Decrease(u16),
}

impl QuantityChange {
    /// The quantity after this change.
    ///
    /// # Errors
    /// When it would leave the range of [`Quantity`].
    pub fn apply(self, now: Quantity) -> Result<Quantity, QuantityError> {
        let wanted = match self {
            Self::Set(n) => Some(n),
            Self::Increase(n) => now.get().checked_add(n),
            Self::Decrease(n) => now.get().checked_sub(n),
        };
        wanted.and_then(Quantity::new).ok_or(QuantityError::OutOfRange)
    }
}

impl FromStr for QuantityChange {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let (make, digits): (fn(u16) -> Self, &str) = match text.as_bytes().first() {
            Some(b'+') => (Self::Increase, &text[1..]),
            Some(b'-') => (Self::Decrease, &text[1..]),
            _ => (Self::Set, text),
        };
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            let shown: String = text.chars().filter(|c| !c.is_control()).take(20).collect();
            return Err(QuantityError::NotANumber(shown));
        }
        digits.parse().map(make).map_err(|_| QuantityError::OutOfRange)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_absolute_or_relative() {
        let now = Quantity::new(2).expect("small");
        let ask = |t: &str| t.parse::<QuantityChange>().and_then(|c| c.apply(now)).map(Quantity::get);
        assert_eq!(ask("3"), Ok(3));
        assert_eq!(ask("+1"), Ok(3));
        assert_eq!(ask("-2"), Ok(0));
        assert_eq!(ask("-3"), Err(QuantityError::OutOfRange));
        assert_eq!(ask("101"), Err(QuantityError::OutOfRange));
        assert_eq!(ask("99999999999"), Err(QuantityError::OutOfRange));
        for bad in ["", "+", "--1", "1.5", "1e3", "３", " 1", "1 "] {
            assert!(matches!(ask(bad), Err(QuantityError::NotANumber(_))), "{bad:?}");
        }
    }
}
