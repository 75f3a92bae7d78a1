//! Heads: where they end, what they say, and how they are written anew for the other side.

mod affinity;
pub(crate) mod answer;
pub(crate) mod host;
mod name;
pub(crate) mod request;
mod scan;

pub(crate) use scan::{Head, Scan, SizeLimits, TooLong};

/// Writes `n` in decimal. The formatting machinery would cost more than the rest of a log line.
pub(crate) fn push_number(out: &mut Vec<u8>, mut n: u64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Reads a `Content-Length`: digits only, at most 2^63 - 1.
fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 18 {
        return None;
    }
    value.iter().try_fold(0_u64, |n, b| b.is_ascii_digit().then(|| n * 10 + u64::from(b - b'0')))
}

/// The comma-separated tokens of a `Connection` header.
fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|b| *b == b',').map(<[u8]>::trim_ascii).filter(|t| !t.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_digits() {
        assert_eq!(parse_length(b"05"), Some(5));
        for bad in ["", "+5", "-5", "0x5", "5 ", "5,5", "9999999999999999999"] {
            assert_eq!(parse_length(bad.as_bytes()), None, "{bad}");
        }
        let mut out = Vec::new();
        push_number(&mut out, 0);
        push_number(&mut out, u64::MAX);
        assert_eq!(out, b"018446744073709551615");
    }
}
