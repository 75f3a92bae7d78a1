//! Heroku's cookie of session affinity: which dyno answered this client first.

use crate::table::DynoMark;

/// As Heroku calls it: apps and their tests know it by this name.
const COOKIE: &[u8] = b"heroku-session-affinity=";
/// A day, as Heroku has it. The dyno rarely lives longer.
const FOR: &[u8] = b"; Max-Age=86400; Path=/; HttpOnly\r\n";

/// The dyno that a `Cookie` header names, when it can be one of ours.
pub(super) fn of_cookies(value: &[u8]) -> Option<DynoMark> {
    let mut pairs = value.split(|b| *b == b';').map(<[u8]>::trim_ascii);
    pairs.find_map(|pair| pair.strip_prefix(COOKIE)).and_then(|mark| mark.try_into().ok()).map(DynoMark)
}

/// Writes the header that makes a client come back to this dyno.
pub(super) fn set_cookie(out: &mut Vec<u8>, dyno: DynoMark) {
    out.extend_from_slice(b"Set-Cookie: ");
    out.extend_from_slice(COOKIE);
    out.extend_from_slice(&dyno.0);
    out.extend_from_slice(FOR);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cookie_is_found_among_others() {
        let mark = DynoMark(*b"0123456789abcdef");
        let mut out = Vec::new();
        set_cookie(&mut out, mark);
        let out = String::from_utf8(out).expect("text");
        let cookie = out.strip_prefix("Set-Cookie: ").and_then(|rest| rest.split(';').next()).expect("a cookie");
        for header in [cookie.to_owned(), format!("a=b; {cookie}"), format!("a=b;{cookie};c=d")] {
            assert_eq!(of_cookies(header.as_bytes()), Some(mark), "{header}");
        }
        for other in ["", "a=b", "heroku-session-affinity=", "heroku-session-affinity=short", &format!("x{cookie}")] {
            assert_eq!(of_cookies(other.as_bytes()), None, "{other}");
        }
    }
}
